// SPDX-License-Identifier: BSD-2-Clause
/* Segments in, frames out: whole conversations, plain and under real TLS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "stream_help.h"
#include "walk.h"

#define V13	TLS1_3_VERSION
#define V12	TLS1_2_VERSION

/* --- all of it is seen -------------------------------------------------------------------- */

static void expect_all(const struct script *script, const struct seen *got)
{
	enum capture_dir dir;
	size_t i;

	for (dir = CAPTURE_IN; dir <= CAPTURE_OUT; dir++) {
		uint64_t off = 0, end = 0;

		assert_int_equal(seen_match(&script->want, got, dir),
				 (int)seen_count(&script->want, dir));
		for (i = 0; i < got->count; i++) {
			const struct seen_frame *f = &got->frames[i];

			if (f->dir != dir)
				continue;
			assert_true(f->from_start);
			assert_int_equal(f->derp_off, off);
			off += WALK_HEADER_LEN + f->len;
			assert_true(f->tcp_end >= end && f->tcp_end <= script->wire[dir].len);
			end = f->tcp_end;
		}
	}
	assert_int_equal(got->count, script->want.count);
	assert_int_equal(got->gap_count, 0);
	assert_int_equal(got->in_arrived, script->wire[CAPTURE_IN].len);
	assert_int_equal(got->in_read, script->wire[CAPTURE_IN].len);
	assert_int_equal(got->out_sent, script->wire[CAPTURE_OUT].len);
	assert_int_equal(got->out_acked, script->wire[CAPTURE_OUT].len);
	assert_int_equal(got->info.stage, STREAM_DERP);
	assert_string_equal(got->info.host, "derp.example.com");
}

static void run_all(const struct script *script, const struct replay_options *o)
{
	struct streams *s;
	struct seen got;

	s = seen_streams(&got, NULL);
	replay_open(s, o, script);
	replay(s, script, o, true);
	expect_all(script, &got);
	streams_free(s);
	seen_free(&got);
}

static const struct replay_options ways[] = {
	{ .max_segment = 0 },
	{ .max_segment = 1, .fixed = true },
	{ .max_segment = 1448, .fixed = true, .isn = { 0xfffff000, 0xffffff00 } },
	{ .max_segment = 60, .seed = 1 },
	{ .max_segment = 700, .reorder = 30, .seed = 2 },
	{ .max_segment = 700, .repeat = 30, .seed = 3 },
	{ .max_segment = 500, .reorder = 20, .repeat = 20, .seed = 4, .isn = { 0xfffffff0, 0 } },
	{ .max_segment = 900, .forge = 20, .seed = 5 },
	{ .max_segment = 65000, .repeat = 5, .seed = 6 },
};

static void in_all_ways(const struct script_options *so)
{
	struct script script;
	size_t i, secrets;

	script_begin(&script, so);
	script_talk(&script, 40, 2000);
	script_frames(&script, 0, 1, DERP_MAX_PACKET);
	script_frames(&script, 1, 2, DERP_MAX_PACKET);
	script_talk(&script, 10, 1300);
	for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		for (secrets = SECRETS_FIRST; secrets <= SECRETS_LAST; secrets++) {
			struct replay_options o = ways[i];

			o.secrets = secrets;
			run_all(&script, &o);
			if (!so->tls)
				break;
		}
	}
	script_free(&script);
}

static void test_plain(void **state)
{
	(void)state;
	in_all_ways(&(struct script_options){ .seed = 11 });
	in_all_ways(&(struct script_options){ .seed = 12, .dialled = true });
	in_all_ways(&(struct script_options){ .seed = 13, .websocket = true });
	in_all_ways(&(struct script_options){ .seed = 14, .fast_start = true });
}

static void test_tls_13(void **state)
{
	static const char *const suites[] = { "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
					      "TLS_CHACHA20_POLY1305_SHA256" };
	uint64_t i;

	(void)state;
	for (i = 0; i < 3; i++)
		in_all_ways(&(struct script_options){ .tls = true, .version = V13,
						      .suite = suites[i], .seed = 20 + i });
	in_all_ways(&(struct script_options){ .tls = true, .version = V13, .seed = 24,
					      .dialled = true });
	in_all_ways(&(struct script_options){ .tls = true, .version = V13, .seed = 25,
					      .fast_start = true });
	in_all_ways(&(struct script_options){ .tls = true, .version = V13, .seed = 26,
					      .websocket = true });
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_tls_13),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
