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

static void expect_all(const struct dialog *dialog, const struct seen *got)
{
	enum capture_dir dir;
	size_t i;

	for (dir = CAPTURE_IN; dir <= CAPTURE_OUT; dir++) {
		uint64_t off = 0, end = 0;

		assert_int_equal(seen_match(&dialog->want, got, dir),
				 (int)seen_count(&dialog->want, dir));
		for (i = 0; i < got->count; i++) {
			const struct seen_frame *f = &got->frames[i];

			if (f->dir != dir)
				continue;
			assert_true(f->from_start);
			assert_int_equal(f->derp_off, off);
			off += WALK_HEADER_LEN + f->len;
			assert_true(f->tcp_end >= end && f->tcp_end <= dialog->wire[dir].len);
			end = f->tcp_end;
		}
	}
	assert_int_equal(got->count, dialog->want.count);
	assert_int_equal(got->gap_count, 0);
	assert_int_equal(got->in_arrived, dialog->wire[CAPTURE_IN].len);
	assert_int_equal(got->in_read, dialog->wire[CAPTURE_IN].len);
	assert_int_equal(got->out_sent, dialog->wire[CAPTURE_OUT].len);
	assert_int_equal(got->out_acked, dialog->wire[CAPTURE_OUT].len);
	assert_int_equal(got->info.stage, STREAM_DERP);
	assert_string_equal(got->names.host, "derp.example.com");
}

/* A dial that is told before its answer: where it starts is told with that. */
static void open_unanswered(struct streams *s, const struct dialog *dialog)
{
	const struct replay_options early = { .midstream = true };
	const struct capture_facts facts = { .tcp_state = 2 };
	const struct capture_event e = { .type = CAPTURE_FACTS, .time_ns = 1, .node = HELP_NODE,
					 .conn = HELP_CONN, .facts = &facts };

	replay_open(s, &early, dialog);
	streams_event(s, &e);
}

static void run_all(const struct dialog *dialog, const struct replay_options *o)
{
	struct streams *s;
	struct seen got;

	s = seen_streams(&got, NULL);
	if (dialog->dialled)
		open_unanswered(s, dialog);
	replay_open(s, o, dialog);
	replay(s, dialog, o, true);
	expect_all(dialog, &got);
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
	{ .max_segment = 1448, .seed = 7, .early = true },
	{ .max_segment = 700, .reorder = 20, .repeat = 20, .seed = 8, .early = true },
};

static void in_all_ways(const struct dialog_options *so)
{
	struct dialog dialog;
	size_t i, secrets;

	dialog_begin(&dialog, so);
	dialog_talk(&dialog, 40, 2000);
	dialog_frames(&dialog, 0, 1, DERP_MAX_PACKET);
	dialog_frames(&dialog, 1, 2, DERP_MAX_PACKET);
	dialog_talk(&dialog, 10, 1300);
	for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		for (secrets = SECRETS_FIRST; secrets <= SECRETS_LAST; secrets++) {
			struct replay_options o = ways[i];

			o.secrets = secrets;
			run_all(&dialog, &o);
			if (!so->tls)
				break;
		}
	}
	dialog_free(&dialog);
}

static void test_plain(void **state)
{
	(void)state;
	in_all_ways(&(struct dialog_options){ .seed = 11 });
	in_all_ways(&(struct dialog_options){ .seed = 12, .dialled = true });
	in_all_ways(&(struct dialog_options){ .seed = 13, .websocket = true });
	in_all_ways(&(struct dialog_options){ .seed = 14, .fast_start = true });
}

static void test_tls_13(void **state)
{
	static const char *const suites[] = { "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
					      "TLS_CHACHA20_POLY1305_SHA256" };
	uint64_t i;

	(void)state;
	for (i = 0; i < 3; i++)
		in_all_ways(&(struct dialog_options){ .tls = true, .version = V13,
						      .suite = suites[i], .seed = 20 + i });
	in_all_ways(&(struct dialog_options){ .tls = true, .version = V13, .seed = 24,
					      .dialled = true });
	in_all_ways(&(struct dialog_options){ .tls = true, .version = V13, .seed = 25,
					      .fast_start = true });
	in_all_ways(&(struct dialog_options){ .tls = true, .version = V13, .seed = 26,
					      .websocket = true });
}

static void test_tls_12(void **state)
{
	static const char *const suites[] = { "ECDHE-ECDSA-AES128-GCM-SHA256",
					      "ECDHE-ECDSA-AES256-GCM-SHA384",
					      "ECDHE-ECDSA-CHACHA20-POLY1305" };
	uint64_t i;

	(void)state;
	for (i = 0; i < 3; i++)
		in_all_ways(&(struct dialog_options){ .tls = true, .version = V12,
						      .suite = suites[i], .seed = 30 + i });
}

static void test_key_update(void **state)
{
	struct dialog dialog;
	size_t i;

	(void)state;
	dialog_begin(&dialog, &(struct dialog_options){ .tls = true, .version = V13, .seed = 40 });
	for (i = 0; i < 6; i++) {
		dialog_talk(&dialog, 6, 1300);
		dialog_key_update(&dialog, (int)(i & 1), i & 2);
		dialog_talk(&dialog, 6, 1300);
	}
	for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		struct replay_options o = ways[i];

		o.secrets = SECRETS_IN_TIME;
		run_all(&dialog, &o);
		o.secrets = SECRETS_LAST;
		run_all(&dialog, &o);
	}
	dialog_free(&dialog);
}

/* Silent again and again, and laid down each time: nothing of it is lost by that. */
static void test_rests(void **state)
{
	static const struct dialog_options kinds[] = {
		{ .tls = true, .version = V13, .seed = 60 },
		{ .tls = true, .version = V13, .seed = 61, .suite = "TLS_AES_256_GCM_SHA384" },
		{ .tls = true, .version = V12, .seed = 62 },
		{ .tls = true, .version = V13, .seed = 63, .websocket = true },
		{ .seed = 64 }, { .seed = 65, .websocket = true }, { .seed = 66, .dialled = true },
	};
	struct replay_options o = { .max_segment = 900, .silence = 60, .secrets = SECRETS_IN_TIME };
	struct dialog dialog;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		dialog_begin(&dialog, &kinds[i]);
		dialog_talk(&dialog, 60, 400);
		o.seed = i;
		run_all(&dialog, &o);
		dialog_free(&dialog);
	}
}

static void test_facts_of_a_connection(void **state)
{
	struct dialog dialog;
	struct replay_options o = { .max_segment = 1000, .secrets = SECRETS_IN_TIME };
	struct streams *s;
	struct seen got;

	(void)state;
	dialog_begin(&dialog, &(struct dialog_options){ .tls = true, .version = V13, .seed = 41,
							.suite = "TLS_AES_256_GCM_SHA384" });
	s = seen_streams(&got, NULL);
	replay_open(s, &o, &dialog);
	replay(s, &dialog, &o, false);
	assert_true(got.info.tls && got.info.decrypted && got.info.tag);
	assert_int_equal(got.info.tls_version, 0x0304);
	assert_int_equal(got.info.tls_cipher, 0x1302);
	assert_int_equal(got.info.http_status, 101);
	assert_string_equal(got.names.sni, "derp.example.com");
	assert_string_equal(got.names.cert_name, "derp.example.com");
	assert_string_equal(got.names.path, "/derp");
	assert_string_equal(got.names.ideal_node, "n1");
	assert_int_equal(got.names.http_key.b[1], 0x11);
	assert_false(got.info.secret_missing || got.info.unsynchronised);
	assert_ptr_equal(streams_info(s, HELP_CONN + 1), NULL);
	assert_int_equal(streams_info(s, HELP_CONN)->bytes[0], dialog.wire[0].len);
	streams_free(s);
	seen_free(&got);
	dialog_free(&dialog);
}

/* --- not all of it ------------------------------------------------------------------------ */

/* In order, none invented, and every gap that began has ended. Share of frames seen, percent. */
static unsigned int run_some(const struct dialog *dialog, const struct replay_options *o,
			     const struct stream_limits *limits, struct stream_stats *stats)
{
	struct streams *s;
	struct seen got;
	enum capture_dir dir;
	unsigned int share;

	s = seen_streams(&got, limits);
	replay_open(s, o, dialog);
	replay(s, dialog, o, true);
	for (dir = CAPTURE_IN; dir <= CAPTURE_OUT; dir++) {
		int n = seen_match(&dialog->want, &got, dir);

		assert_int_equal(n, (int)seen_count(&got, dir));
		if (n < (int)seen_count(&dialog->want, dir) && !o->skip[dir])
			assert_true(got.gap_count > 0);
		assert_false(got.gap_open[dir]);
	}
	if (stats)
		streams_stats(s, stats);
	share = (unsigned int)(got.count * 100 / dialog->want.count);
	streams_free(s);
	seen_free(&got);
	return share;
}

static void lose_some(const struct dialog_options *so, unsigned int least)
{
	struct dialog dialog;
	uint64_t seed;
	unsigned int sum = 0;

	dialog_begin(&dialog, so);
	dialog_talk(&dialog, 150, 1300);
	for (seed = 1; seed <= 30; seed++) {
		struct replay_options o = { .max_segment = 1448, .fixed = seed & 1, .seed = seed,
					    .lose = seed % 4, .cut = seed % 3,
					    .reorder = seed & 2 ? 10 : 0, .repeat = seed % 5,
					    .isn = { (uint32_t)(0 - seed * 3000), 5 },
					    .early = seed & 4 };

		sum += run_some(&dialog, &o, NULL, NULL);
	}
	/* Not a hard bound, but a search that never finds anything would pass otherwise. */
	assert_true(sum / 30 >= least);
	dialog_free(&dialog);
}

static void test_lost_records_of_the_ring(void **state)
{
	(void)state;
	lose_some(&(struct dialog_options){ .seed = 50 }, 70);
	lose_some(&(struct dialog_options){ .seed = 51, .dialled = true }, 70);
	lose_some(&(struct dialog_options){ .seed = 52, .tls = true, .version = V13 }, 50);
	lose_some(&(struct dialog_options){ .seed = 53, .tls = true, .version = V13,
					    .suite = "TLS_CHACHA20_POLY1305_SHA256" }, 50);
	lose_some(&(struct dialog_options){ .seed = 54, .tls = true, .version = V12 }, 50);
	lose_some(&(struct dialog_options){ .seed = 55, .websocket = true }, 30);
	lose_some(&(struct dialog_options){ .seed = 56, .tls = true, .version = V13,
					    .websocket = true }, 30);
}

static void test_lost_key_update(void **state)
{
	struct dialog dialog;
	struct stream_stats stats;
	uint64_t seed, opened = 0;
	int i;

	(void)state;
	dialog_begin(&dialog, &(struct dialog_options){ .tls = true, .version = V13, .seed = 57 });
	for (i = 0; i < 40; i++) {
		dialog_talk(&dialog, 4, 600);
		dialog_key_update(&dialog, i & 1, false);
	}
	dialog_talk(&dialog, 20, 600);
	for (seed = 1; seed < 20; seed++) {
		struct replay_options o = { .max_segment = 1448, .seed = seed, .lose = 3 };

		assert_true(run_some(&dialog, &o, NULL, &stats) > 40);
		opened += stats.records;
		assert_true(stats.gaps > 0);
	}
	assert_true(opened > 0);
	dialog_free(&dialog);
}

static void test_little_memory(void **state)
{
	static const struct stream_limits limits[] = {
		{ .connection_bytes = 1 }, { .connection_bytes = 3000 }, { .total_bytes = 8000 },
		{ .connection_bytes = 20000 }, { .total_bytes = 1 },
	};
	struct dialog plain, tls;
	size_t i;

	(void)state;
	dialog_begin(&plain, &(struct dialog_options){ .seed = 60 });
	dialog_talk(&plain, 60, 3000);
	dialog_begin(&tls, &(struct dialog_options){ .tls = true, .version = V13, .seed = 61 });
	dialog_talk(&tls, 60, 3000);
	for (i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct replay_options o = { .max_segment = 1000, .reorder = 10, .seed = i,
					    .secrets = SECRETS_IN_TIME };

		run_some(&plain, &o, &limits[i], NULL);
		run_some(&tls, &o, &limits[i], NULL);
		o.secrets = SECRETS_LAST;
		run_some(&tls, &o, &limits[i], NULL);
	}
	dialog_free(&plain);
	dialog_free(&tls);
}

/* --- something else ------------------------------------------------------------------------- */

static void say(struct dialog *d, int side, const char *text)
{
	dialog_write(d, side, text, strlen(text));
}

static void test_probe_then_upgrade(void **state)
{
	static const char ask[] = "GET /derp/probe HTTP/1.1\r\nHost: derp.example.com\r\n\r\n";
	static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
	struct replay_options o = { .max_segment = 100, .secrets = SECRETS_IN_TIME };
	struct dialog dialog;
	struct streams *s;
	struct seen got;
	int tls, i;

	(void)state;
	for (tls = 0; tls < 2; tls++) {
		dialog_begin(&dialog, &(struct dialog_options){ .tls = tls, .version = V13,
								.seed = 95, .bare = true });
		for (i = 0; i < 3; i++) {
			say(&dialog, 0, ask);
			say(&dialog, 1, ok);
		}
		s = seen_streams(&got, NULL);
		replay_open(s, &o, &dialog);
		replay(s, &dialog, &o, false);
		assert_int_equal(got.info.stage, STREAM_OTHER);
		streams_free(s);
		say(&dialog, 0, "GET /derp HTTP/1.1\r\nHost: derp.example.com\r\n"
				"Upgrade: DERP\r\n\r\n");
		say(&dialog, 1, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\n\r\n");
		dialog_talk(&dialog, 20, 500);
		run_all(&dialog, &o);
		dialog_free(&dialog);
	}
}

static void test_something_else(void **state)
{
	static const char *const first[] = { "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "SSH-2.0-x\r\n",
					     "\x05\x01", "GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n" };
	static uint8_t noise[30000];
	struct replay_options o = { .max_segment = 1000, .secrets = SECRETS_IN_TIME };
	struct stream_stats stats;
	struct dialog dialog;
	struct streams *s;
	struct seen got;
	size_t i;

	(void)state;
	for (i = 0; i < 2 * sizeof(first) / sizeof(first[0]); i++) {
		dialog_begin(&dialog, &(struct dialog_options){ .tls = i & 1, .version = V13,
								.seed = 96, .bare = true });
		memset(noise, (int)i + 200, sizeof(noise));
		say(&dialog, 0, first[i / 2]);
		say(&dialog, 1, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n");
		dialog_write(&dialog, 0, noise, sizeof(noise));
		dialog_write(&dialog, 1, noise, sizeof(noise));
		s = seen_streams(&got, NULL);
		replay_open(s, &o, &dialog);
		replay(s, &dialog, &o, false);
		assert_int_equal(got.info.stage, STREAM_OTHER);
		assert_int_equal(got.count, 0);
		assert_false(got.gap_open[0] || got.gap_open[1] || got.info.unsynchronised);
		streams_stats(s, &stats);
		assert_int_equal(stats.without_secret + stats.unsynchronised + stats.waiting, 0);
		assert_int_equal(got.in_arrived, dialog.wire[0].len);
		streams_free(s);
		dialog_free(&dialog);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_tls_13),
		cmocka_unit_test(test_tls_12),
		cmocka_unit_test(test_key_update),
		cmocka_unit_test(test_rests), cmocka_unit_test(test_facts_of_a_connection),
		cmocka_unit_test(test_lost_records_of_the_ring),
		cmocka_unit_test(test_lost_key_update),
		cmocka_unit_test(test_little_memory),
		cmocka_unit_test(test_probe_then_upgrade),
		cmocka_unit_test(test_something_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
