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
	assert_string_equal(got->info.host, "derp.example.com");
}

static void run_all(const struct dialog *dialog, const struct replay_options *o)
{
	struct streams *s;
	struct seen got;

	s = seen_streams(&got, NULL);
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
	assert_true(got.info.tls && got.info.decrypted && got.info.has_client_random);
	assert_int_equal(got.info.tls_version, 0x0304);
	assert_int_equal(got.info.tls_cipher, 0x1302);
	assert_int_equal(got.info.http_status, 101);
	assert_string_equal(got.info.sni, "derp.example.com");
	assert_string_equal(got.info.cert_name, "derp.example.com");
	assert_string_equal(got.info.path, "/derp");
	assert_string_equal(got.info.ideal_node, "n1");
	assert_int_equal(got.info.http_key.b[1], 0x11);
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

/* --- attached mid-stream ------------------------------------------------------------------ */

/* Are the last frames of each direction there? */
static void expect_tail(const struct dialog *dialog, const struct seen *got, size_t count)
{
	enum capture_dir dir;
	size_t w, g, n;

	for (dir = CAPTURE_IN; dir <= CAPTURE_OUT; dir++) {
		w = dialog->want.count;
		g = got->count;
		for (n = 0; n < count; n++) {
			while (w && dialog->want.frames[w - 1].dir != dir)
				w--;
			while (g && got->frames[g - 1].dir != dir)
				g--;
			if (!w)
				break;
			assert_true(g > 0);
			w--;
			g--;
			assert_int_equal(dialog->want.frames[w].digest, got->frames[g].digest);
		}
	}
}

static void attach_at(const struct dialog *dialog, struct replay_options *o, size_t tail)
{
	enum capture_dir dir;
	struct streams *s;
	struct seen got;
	struct stream_stats stats;

	s = seen_streams(&got, NULL);
	o->midstream = true;
	replay_open(s, o, dialog);
	replay(s, dialog, o, true);
	for (dir = CAPTURE_IN; dir <= CAPTURE_OUT; dir++) {
		assert_int_equal(seen_match(&dialog->want, &got, dir),
				 (int)seen_count(&got, dir));
		assert_false(got.gap_open[dir]);
	}
	expect_tail(dialog, &got, tail);
	streams_stats(s, &stats);
	assert_int_equal(stats.without_secret, 0);
	streams_free(s);
	seen_free(&got);
}

static void test_attach_tls(void **state)
{
	static const char *const suites[] = { "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
					      "TLS_CHACHA20_POLY1305_SHA256" };
	struct chance chance = { 70 };
	struct dialog dialog;
	int i, n;

	(void)state;
	for (i = 0; i < 3; i++) {
		dialog_begin(&dialog, &(struct dialog_options){
			.tls = true, .version = V13, .suite = suites[i], .seed = 70 + (uint64_t)i,
			.dialled = i == 1 });
		dialog_talk(&dialog, 200, 1300);
		for (n = 0; n < 60; n++) {
			const struct flight *f = &dialog.flights[chance_between(&chance, 20, 140)];
			struct replay_options o = {
				.max_segment = 1448, .fixed = true, .seed = (uint64_t)n,
				.secrets = SECRETS_NEVER,
				.candidates_after = chance_between(&chance, 1, 12),
				.hint_error = (int)chance_between(&chance, 0, 60) - 40,
			};
			const struct flight *g;

			/* Between two flights, or in the middle of one. */
			o.skip[f->dir] = f->at + (n & 1 ? chance_between(&chance, 0,
							(uint32_t)f->len) : 0);
			for (g = dialog.flights; g < f; g++)
				if (g->dir != f->dir)
					o.skip[g->dir] = g->at + g->len;
			attach_at(&dialog, &o, 20);
		}
		dialog_free(&dialog);
	}
}

static void test_attach_plain_at_every_byte(void **state)
{
	struct dialog dialog;
	size_t from, at;

	(void)state;
	dialog_begin(&dialog, &(struct dialog_options){ .seed = 80 });
	dialog_talk(&dialog, 20, 200);
	from = dialog.wire[0].len / 4;
	dialog_talk(&dialog, 60, 400);
	for (at = from; at < from + 2500; at++) {
		struct replay_options o = { .max_segment = 500, .seed = at,
					    .skip = { at, at } };

		attach_at(&dialog, &o, 5);
	}
	dialog_free(&dialog);
}

static void test_attach_websocket(void **state)
{
	struct dialog dialog;
	size_t i;
	int tls;

	(void)state;
	for (tls = 0; tls < 2; tls++) {
		dialog_begin(&dialog, &(struct dialog_options){ .seed = 81, .websocket = true,
								.tls = tls, .version = V13 });
		dialog_talk(&dialog, 100, 400);
		for (i = 20; i < 60; i++) {
			const struct flight *f = &dialog.flights[i], *g;
			struct replay_options o = { .secrets = SECRETS_NEVER,
						    .candidates_after = tls, .seed = i };

			o.skip[f->dir] = f->at;
			for (g = dialog.flights; g < f; g++)
				if (g->dir != f->dir)
					o.skip[g->dir] = g->at + g->len;
			attach_at(&dialog, &o, 5);
		}
		dialog_free(&dialog);
	}
}

/* An idle connection goes on with a whole frame: not one is missed. */
static void test_attach_idle(void **state)
{
	struct dialog dialog;
	struct replay_options o = { .midstream = true, .secrets = SECRETS_NEVER,
				    .candidates_after = 1 };
	size_t before;
	struct streams *s;
	struct seen got;

	(void)state;
	dialog_begin(&dialog, &(struct dialog_options){ .seed = 82, .tls = true, .version = V13 });
	dialog_talk(&dialog, 10, 1300);
	o.skip[0] = dialog.wire[0].len;
	o.skip[1] = dialog.wire[1].len;
	before = dialog.want.count;
	dialog_talk(&dialog, 30, 1300);
	dialog_frames(&dialog, 0, 1, DERP_MAX_PACKET);
	s = seen_streams(&got, NULL);
	replay_open(s, &o, &dialog);
	replay(s, &dialog, &o, true);
	assert_int_equal(got.count, dialog.want.count - before);
	assert_int_equal(got.gap_count, 0);
	assert_false(got.frames[0].from_start);
	streams_free(s);
	seen_free(&got);
	dialog_free(&dialog);
}

/* --- secrets that do not come ------------------------------------------------------------- */

static void test_no_secret(void **state)
{
	struct replay_options o = { .max_segment = 1448, .secrets = SECRETS_NEVER };
	const uint64_t late = 10000000000ULL;
	struct stream_stats stats;
	struct dialog dialog;
	struct streams *s;
	struct seen got;

	(void)state;
	dialog_begin(&dialog, &(struct dialog_options){ .seed = 90, .tls = true, .version = V13 });
	dialog_talk(&dialog, 30, 1300);
	s = seen_streams(&got, NULL);
	replay_open(s, &o, &dialog);
	replay(s, &dialog, &o, false);
	assert_true(got.info.secret_missing);
	assert_int_equal(got.gap_count, 0);
	streams_stats(s, &stats);
	assert_int_equal(stats.without_secret, 0);
	assert_false(streams_want_search(s, HELP_NODE, 1000000000));
	assert_true(streams_want_search(s, HELP_NODE, late));
	assert_false(streams_want_search(s, HELP_NODE, late + 1));
	assert_false(streams_want_search(s, HELP_NODE + 1, late));
	assert_true(streams_want_search(s, HELP_NODE, late + 1000000000));
	replay_tick(s, late);
	assert_true(got.gap_open[0] && got.gap_open[1]);
	streams_stats(s, &stats);
	assert_int_equal(stats.without_secret, 1);
	/* Late, but not too late. */
	replay_secrets(s, &dialog, 0, dialog.secret_count);
	assert_int_equal(got.count, dialog.want.count);
	assert_false(got.gap_open[0] || got.gap_open[1]);
	assert_false(got.info.secret_missing);
	assert_false(streams_want_search(s, HELP_NODE, 2 * late));
	streams_free(s);
	seen_free(&got);
	dialog_free(&dialog);
}

static void test_hello_not_seen(void **state)
{
	struct replay_options o = { .max_segment = 1448, .secrets = SECRETS_FIRST };
	struct dialog dialog;
	struct streams *s;
	struct seen got;
	uint64_t t;

	(void)state;
	dialog_begin(&dialog, &(struct dialog_options){ .seed = 91, .tls = true, .version = V13 });
	dialog_talk(&dialog, 30, 1300);
	o.skip[CAPTURE_IN] = dialog.flights[0].len;
	s = seen_streams(&got, NULL);
	replay_open(s, &o, &dialog);
	replay(s, &dialog, &o, false);
	assert_int_equal(got.count, 0);
	for (t = 3; t < 8; t++)
		replay_tick(s, t * 1000000000);
	assert_int_equal(got.count, dialog.want.count);
	assert_true(got.info.decrypted);
	streams_free(s);
	seen_free(&got);
	dialog_free(&dialog);
}

/* A scan, a health check, a handshake that failed: nothing to be decrypted. */
static void test_closed_in_handshake(void **state)
{
	struct replay_options o = { .secrets = SECRETS_NEVER };
	struct dialog dialog;
	size_t flights;

	(void)state;
	dialog_begin(&dialog, &(struct dialog_options){ .seed = 92, .tls = true, .version = V13 });
	for (flights = 0; flights < 3; flights++) {
		struct dialog part = dialog;
		struct stream_stats stats;
		struct streams *s;
		struct seen got;

		part.count = flights;
		s = seen_streams(&got, NULL);
		replay_open(s, &o, &part);
		replay(s, &part, &o, true);
		streams_stats(s, &stats);
		assert_int_equal(stats.without_secret, 0);
		assert_int_equal(stats.connections, flights > 0);
		assert_int_equal(got.gap_count, 0);
		streams_free(s);
		seen_free(&got);
	}
	dialog_free(&dialog);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_tls_13),
		cmocka_unit_test(test_tls_12),
		cmocka_unit_test(test_key_update),
		cmocka_unit_test(test_facts_of_a_connection),
		cmocka_unit_test(test_lost_records_of_the_ring),
		cmocka_unit_test(test_lost_key_update),
		cmocka_unit_test(test_little_memory),
		cmocka_unit_test(test_attach_tls),
		cmocka_unit_test(test_attach_plain_at_every_byte),
		cmocka_unit_test(test_attach_websocket),
		cmocka_unit_test(test_attach_idle),
		cmocka_unit_test(test_no_secret),
		cmocka_unit_test(test_hello_not_seen),
		cmocka_unit_test(test_closed_in_handshake),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
