// SPDX-License-Identifier: BSD-2-Clause
/* Attached mid-stream, or with secrets that come late, from elsewhere, or never. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "stream/handshake.h"
#include "stream_help.h"

#define V13	TLS1_3_VERSION

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
	assert_false(streams_want_search(s, HELP_NODE, 250000000));
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

/* Memory is searched soon, and ever less often where that is in vain. */
static void test_search_in_vain(void **state)
{
	struct replay_options o = { .max_segment = 1448, .secrets = SECRETS_NEVER };
	struct dialog dialog;
	struct streams *s;
	struct seen got;
	unsigned int wanted = 0;
	uint64_t ms;

	(void)state;
	dialog_begin(&dialog, &(struct dialog_options){ .seed = 90, .tls = true, .version = V13 });
	dialog_talk(&dialog, 3, 1300);
	s = seen_streams(&got, NULL);
	replay_open(s, &o, &dialog);
	replay(s, &dialog, &o, false);
	for (ms = 0; ms < 1000; ms += 100)
		wanted += streams_want_search(s, HELP_NODE, ms * 1000000);
	assert_int_equal(wanted, 1);
	for (; ms < 600000; ms += 100)
		wanted += streams_want_search(s, HELP_NODE, ms * 1000000);
	assert_in_range(wanted, 10, 20);
	streams_free(s);
	seen_free(&got);
	dialog_free(&dialog);
}

/* --- secrets of nobody that is known ------------------------------------------------------ */

/* Of connections that were never seen. */
static void tell_strangers(struct streams *s, struct chance *chance, uint8_t len, size_t count)
{
	static const char *const labels[] = {
		"CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET",
		"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0",
	};
	struct capture_event e = { .type = CAPTURE_SECRET, .time_ns = 2, .node = HELP_NODE };
	size_t i, l, n;

	for (i = 0; i < count; i++) {
		for (n = 0; n < 32; n++)
			e.secret.random[n] = (uint8_t)chance_next(chance);
		for (l = 0; l < 4; l++) {
			e.secret.label = labels[l];
			e.secret.len = len;
			for (n = 0; n < len; n++)
				e.secret.secret[n] = (uint8_t)chance_next(chance);
			streams_event(s, &e);
		}
	}
}

static void skip_flights(const struct dialog *dialog, struct replay_options *o, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		o->skip[dialog->flights[i].dir] = dialog->flights[i].at + dialog->flights[i].len;
}

/* Replays, among secrets of others, what comes behind o->skip. */
static struct streams *among_strangers(const struct dialog *dialog, struct replay_options *o,
				       struct seen *got)
{
	struct chance chance = { o->seed };
	struct streams *s = seen_streams(got, NULL);

	tell_strangers(s, &chance, dialog->secrets[0].len, 40);
	replay_secrets(s, dialog, 0, dialog->secret_count);
	tell_strangers(s, &chance, dialog->secrets[0].len, 40);
	replay_open(s, o, dialog);
	replay(s, dialog, o, false);
	return s;
}

/* A connection in the backlog: all but the ClientHello passes. One record tells whose it is. */
static void test_hello_not_seen(void **state)
{
	static const struct {
		const char *suite;
		int version;
	} all[] = {
		{ "TLS_AES_128_GCM_SHA256", V13 }, { "TLS_AES_256_GCM_SHA384", V13 },
		{ "TLS_CHACHA20_POLY1305_SHA256", V13 },
		{ NULL, TLS1_2_VERSION },
	};
	struct dialog dialog;
	struct streams *s;
	struct seen got;
	int i;

	(void)state;
	for (i = 0; i < 16; i++) {
		struct replay_options o = { .max_segment = 1448, .secrets = SECRETS_NEVER,
					    .seed = 91 + (uint64_t)i, .midstream = i & 4 };

		dialog_begin(&dialog, &(struct dialog_options){
			.seed = 91 + (uint64_t)i, .tls = true, .version = all[i % 4].version,
			.suite = all[i % 4].suite, .dialled = i & 8 });
		dialog_talk(&dialog, 30, 1300);
		skip_flights(&dialog, &o, 1);
		s = among_strangers(&dialog, &o, &got);
		assert_int_equal(got.count, dialog.want.count);
		assert_true(got.frames[0].from_start);
		/* Bytes that the ring lost are told; and of TLS 1.2 the client's key exchange. */
		if (o.midstream && all[i % 4].version == V13)
			assert_int_equal(got.gap_count, 0);
		assert_false(got.gap_open[0] || got.gap_open[1]);
		assert_int_equal(got.info.tag, handshake_tag(dialog.secrets[0].random));
		streams_free(s);
		seen_free(&got);
		dialog_free(&dialog);
	}
}

/* The client's Finished is the first that is seen; or not even that. */
static void test_handshake_not_seen(void **state)
{
	struct replay_options o = { .max_segment = 1448, .secrets = SECRETS_NEVER,
				    .midstream = true };
	struct dialog dialog;
	struct streams *s;
	struct seen got;
	size_t n;

	(void)state;
	dialog_begin(&dialog, &(struct dialog_options){ .seed = 93, .tls = true, .version = V13 });
	dialog_talk(&dialog, 30, 1300);
	for (n = 2; n < 5; n++) {
		skip_flights(&dialog, &o, n);
		s = among_strangers(&dialog, &o, &got);
		assert_true(got.info.decrypted);
		expect_tail(&dialog, &got, 25);
		streams_free(s);
		seen_free(&got);
	}
	dialog_free(&dialog);
}

/* ECH: the ClientHello that is seen has another random than the one inside. */
static void test_hello_hides_another(void **state)
{
	struct replay_options o = { .max_segment = 1448, .secrets = SECRETS_NEVER };
	struct dialog dialog;
	struct streams *s;
	struct seen got;
	size_t i;

	(void)state;
	dialog_begin(&dialog, &(struct dialog_options){ .seed = 94, .tls = true, .version = V13 });
	dialog_talk(&dialog, 30, 1300);
	for (i = 0; i < dialog.secret_count; i++)
		dialog.secrets[i].random[0] ^= 1;
	s = among_strangers(&dialog, &o, &got);
	/* The secrets by its own name may yet come. */
	assert_int_equal(got.count, 0);
	replay_tick(s, 1500000000);
	assert_int_equal(got.count, dialog.want.count);
	assert_int_equal(got.gap_count, 0);
	streams_free(s);
	seen_free(&got);
	dialog_free(&dialog);
}

/* So much was missed that the record numbers are far from 0: all are tried, one after the other. */
static void test_much_not_seen(void **state)
{
	struct replay_options o = { .max_segment = 1448, .secrets = SECRETS_NEVER,
				    .midstream = true };
	struct dialog dialog;
	struct streams *s;
	struct seen got;
	uint64_t t;

	(void)state;
	dialog_begin(&dialog, &(struct dialog_options){ .seed = 95, .tls = true, .version = V13 });
	dialog_talk(&dialog, 200, 300);
	skip_flights(&dialog, &o, 100);
	s = seen_streams(&got, NULL);
	replay_secrets(s, &dialog, 0, dialog.secret_count);
	replay_open(s, &o, &dialog);
	replay(s, &dialog, &o, false);
	assert_int_equal(got.count, 0);
	for (t = 3; t < 8; t++)
		replay_tick(s, t * 1000000000);
	expect_tail(&dialog, &got, 20);
	assert_true(got.info.tag != 0);
	streams_free(s);
	seen_free(&got);
	dialog_free(&dialog);
}

/* --- connections that say little ---------------------------------------------------------- */

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

/* Attached to TLS that speaks one way only, and nobody knows its secret. */
static void test_one_way_without_secret(void **state)
{
	struct replay_options o = { .midstream = true, .secrets = SECRETS_NEVER };
	struct stream_stats stats;
	struct dialog dialog;
	struct streams *s;
	struct seen got;

	(void)state;
	dialog_begin(&dialog, &(struct dialog_options){ .tls = true, .version = V13, .seed = 97 });
	o.skip[0] = dialog.wire[0].len;
	o.skip[1] = dialog.wire[1].len;
	dialog_frames(&dialog, 1, 5, 500);
	s = seen_streams(&got, NULL);
	replay_open(s, &o, &dialog);
	replay(s, &dialog, &o, false);
	assert_true(got.info.secret_missing);
	replay_tick(s, 5000000000ULL);
	assert_true(got.gap_open[CAPTURE_OUT]);
	assert_false(got.gap_open[CAPTURE_IN]);
	streams_stats(s, &stats);
	assert_int_equal(stats.without_secret, 1);
	streams_free(s);
	seen_free(&got);
	dialog_free(&dialog);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attach_tls),
		cmocka_unit_test(test_attach_plain_at_every_byte),
		cmocka_unit_test(test_attach_websocket),
		cmocka_unit_test(test_attach_idle),
		cmocka_unit_test(test_no_secret),
		cmocka_unit_test(test_search_in_vain),
		cmocka_unit_test(test_hello_not_seen),
		cmocka_unit_test(test_handshake_not_seen),
		cmocka_unit_test(test_hello_hides_another),
		cmocka_unit_test(test_much_not_seen),
		cmocka_unit_test(test_closed_in_handshake),
		cmocka_unit_test(test_one_way_without_secret),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
