// SPDX-License-Identifier: BSD-2-Clause
/* Frames out of a DERP stream, and the way back into it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "stream/frames.h"

struct got {
	struct {
		uint8_t type;
		uint32_t len, head_len;
		uint64_t tcp_end, off;
		bool from_start;
		uint8_t first;
	} frames[256];
	size_t count;
	size_t whole;
	uint64_t skipped;
	unsigned int resumed;
};

static void on_frame(void *ctx, enum capture_dir dir, struct stream_frame *f, const uint8_t *whole,
		     size_t whole_len)
{
	struct got *g = ctx;

	(void)dir;
	assert_true(g->count < 256);
	assert_ptr_equal(whole + WALK_HEADER_LEN, f->head);
	g->whole += whole_len;
	g->frames[g->count].type = f->type;
	g->frames[g->count].len = f->len;
	g->frames[g->count].head_len = f->head_len;
	g->frames[g->count].tcp_end = f->tcp_end;
	g->frames[g->count].off = f->derp_off;
	g->frames[g->count].from_start = f->derp_from_start;
	g->frames[g->count].first = f->len ? f->head[0] : 0;
	g->count++;
}

static void on_skipped(void *ctx, enum capture_dir dir, uint64_t time_ns, uint64_t bytes)
{
	(void)dir;
	(void)time_ns;
	((struct got *)ctx)->skipped += bytes;
}

static void on_resumed(void *ctx, enum capture_dir dir, uint64_t time_ns)
{
	(void)dir;
	(void)time_ns;
	((struct got *)ctx)->resumed++;
}

static const struct derp_sink sink = { on_frame, on_skipped, on_resumed };

struct lab {
	struct derp d;
	struct derp_host host;
	struct budget budget;
	struct got got;
	uint8_t wire[1 << 18];
	size_t len;
};

static struct lab *setup(uint8_t talker, bool synced, bool whole)
{
	struct lab *l = calloc(1, sizeof(*l));

	assert_non_null(l);
	l->budget.limit = 1 << 20;
	l->host = (struct derp_host){ .dir = CAPTURE_IN, .talker = talker, .want_whole = whole,
				      .budget = &l->budget, .sink = &sink, .ctx = &l->got };
	derp_init(&l->d, synced);
	return l;
}

static void teardown(struct lab *l)
{
	derp_clear(&l->d, &l->budget);
	assert_int_equal(l->budget.used, 0);
	free(l);
}

/* @fill: what the payload is made of. */
static void add(struct lab *l, uint8_t type, uint32_t len, uint8_t fill)
{
	const uint8_t head[] = { type, (uint8_t)(len >> 24), (uint8_t)(len >> 16),
				 (uint8_t)(len >> 8), (uint8_t)len };

	assert_true(l->len + 5 + len <= sizeof(l->wire));
	memcpy(l->wire + l->len, head, 5);
	memset(l->wire + l->len + 5, fill, len);
	l->len += 5 + len;
}

static void feed(struct lab *l, size_t from, size_t to, bool record)
{
	struct derp_chunk c = { .time_ns = 1, .tcp_pos = from, .tcp_end = to + 100,
				.record = record, .data = l->wire + from, .len = to - from };

	derp_feed(&l->d, &l->host, &c);
}

static void test_all_types_and_versions(void **state)
{
	/* type, length: of every release, and of none yet */
	static const uint32_t frames[][2] = {
		{ 0x01, 40 }, { 0x01, 80 }, { 0x02, 105 }, { 0x03, 53 }, { 0x04, 32 + 1200 },
		{ 0x05, 32 + 65536 }, { 0x05, 12 }, { 0x06, 0 }, { 0x07, 1 }, { 0x08, 32 },
		{ 0x08, 33 }, { 0x09, 32 }, { 0x09, 50 }, { 0x09, 51 }, { 0x0a, 64 + 65536 },
		{ 0x10, 0 }, { 0x11, 32 }, { 0x12, 8 }, { 0x13, 8 }, { 0x14, 200 }, { 0x15, 8 },
		{ 0x77, 5000 }, { 0xff, 0 },
	};
	const size_t n = sizeof(frames) / sizeof(frames[0]);
	size_t piece, i;

	(void)state;
	for (piece = 1; piece < 300000; piece = piece * 3 + 1) {
		struct lab *l = setup(DERP_EITHER, true, false);
		uint64_t off = 0;

		for (i = 0; i < n; i++)
			add(l, (uint8_t)frames[i][0], frames[i][1], (uint8_t)(i + 1));
		for (i = 0; i < l->len; i += piece)
			feed(l, i, i + piece < l->len ? i + piece : l->len, false);
		assert_int_equal(l->got.count, n);
		for (i = 0; i < n; i++) {
			bool packet = frames[i][0] == 4 || frames[i][0] == 5 || frames[i][0] == 10;
			uint32_t least = packet ? 128 : 4096;

			assert_int_equal(l->got.frames[i].type, frames[i][0]);
			assert_int_equal(l->got.frames[i].len, frames[i][1]);
			assert_int_equal(l->got.frames[i].off, off);
			assert_true(l->got.frames[i].head_len >=
				    (frames[i][1] < least ? frames[i][1] : least));
			assert_int_equal(l->got.frames[i].first, frames[i][1] ? i + 1 : 0);
			assert_true(l->got.frames[i].from_start);
			off += 5 + frames[i][1];
			assert_int_equal(l->got.frames[i].tcp_end, off);
		}
		assert_int_equal(l->got.skipped, 0);
		teardown(l);
	}
}

static void test_whole(void **state)
{
	struct lab *l = setup(DERP_CLIENT, true, true);
	size_t i;

	(void)state;
	add(l, DERP_SEND_PACKET, 5000, 1);
	add(l, DERP_SEND_PACKET, 65000, 2);
	for (i = 0; i < l->len; i += 1448)
		feed(l, i, i + 1448 < l->len ? i + 1448 : l->len, false);
	assert_int_equal(l->got.whole, 5005 + 65005);
	/* Where memory is short the head will do. */
	l->budget.limit = 1000;
	for (i = 0; i < l->len; i += 1448)
		feed(l, i, i + 1448 < l->len ? i + 1448 : l->len, false);
	assert_int_equal(l->got.count, 4);
	assert_int_equal(l->got.whole, 5005 + 65005 + 2 * (5 + 128));
	assert_int_equal(l->got.skipped, 0);
	teardown(l);
}

static void test_too_long(void **state)
{
	struct lab *l = setup(DERP_CLIENT, true, false);
	size_t good;

	(void)state;
	add(l, DERP_SEND_PACKET, 100, 1);
	good = l->len;
	memcpy(l->wire + l->len, "\x04\x00\x10\x00\x00", 5);
	memset(l->wire + l->len + 5, 0xee, 995);
	l->len += 1000;
	feed(l, 0, l->len, false);
	assert_int_equal(l->got.count, 1);
	assert_false(l->d.synced);
	/* A whole segment of frames brings it back, at its true offset. */
	add(l, DERP_SEND_PACKET, 200, 2);
	feed(l, good + 1000, l->len, false);
	assert_true(l->d.synced);
	assert_int_equal(l->got.count, 2);
	assert_int_equal(l->got.frames[1].off, good + 1000);
	assert_true(l->got.frames[1].from_start);
	assert_int_equal(l->got.skipped, 1000);
	teardown(l);
}

static void test_gap_in_a_payload(void **state)
{
	struct lab *l = setup(DERP_CLIENT, true, false);

	(void)state;
	add(l, DERP_SEND_PACKET, 1000, 1);
	add(l, DERP_SEND_PACKET, 1000, 2);
	/* Behind the head nothing is missed. */
	feed(l, 0, 300, false);
	derp_gap(&l->d, &l->host, 1, 300, 705, true);
	assert_int_equal(l->got.count, 1);
	assert_int_equal(l->got.frames[0].tcp_end, 1005);
	assert_int_equal(l->got.skipped, 0);
	/* Within the head one frame is, and no more. */
	feed(l, 1005, 1050, false);
	derp_gap(&l->d, &l->host, 1, 1050, 100, true);
	assert_int_equal(l->got.skipped, 100);
	feed(l, 1150, 2010, false);
	assert_int_equal(l->got.count, 1);
	assert_int_equal(l->got.resumed, 1);
	feed(l, 0, 1005, false);
	assert_int_equal(l->got.count, 2);
	assert_int_equal(l->got.frames[1].off, 2010);
	teardown(l);
}

/* A payload full of frames is one frame all the same. */
static void test_imitation(void **state)
{
	struct lab *l = setup(DERP_CLIENT, false, false);
	size_t inner, i;

	(void)state;
	add(l, DERP_SEND_PACKET, 6000, 9);
	inner = l->len;
	l->len = 5 + 40;
	for (i = 0; i < 20; i++)
		add(l, DERP_SEND_PACKET, 100, 8);
	l->len = inner;
	for (i = 0; i < inner; i += 1500)
		feed(l, i, i + 1500 < inner ? i + 1500 : inner, true);
	assert_int_equal(l->got.count, 1);
	assert_int_equal(l->got.frames[0].len, 6000);
	assert_false(l->got.frames[0].from_start);
	teardown(l);
}

static void test_sync_within(void **state)
{
	size_t cut, i;

	(void)state;
	/* From the middle of a frame, in pieces that fit no frame. */
	for (cut = 1; cut < 700; cut += 13) {
		struct lab *l = setup(DERP_SERVER, false, false);

		srand((unsigned int)cut);
		for (i = 0; i < 40; i++)
			add(l, DERP_RECV_PACKET, 600, (uint8_t)(rand() | 0x80));
		for (i = cut; i < l->len; i += 1186)
			feed(l, i, i + 1186 < l->len ? i + 1186 : l->len, true);
		assert_true(l->got.count >= 38);
		for (i = 0; i < l->got.count; i++)
			assert_int_equal(l->got.frames[i].len, 600);
		teardown(l);
	}
}

/* What is kept while searching is bounded, and time is, too. */
static void test_noise(void **state)
{
	struct lab *l = setup(DERP_CLIENT, false, false);
	size_t i, n;

	(void)state;
	srand(4);
	for (n = 0; n < 40; n++) {
		for (i = 0; i < 65536; i++)
			l->wire[i] = (uint8_t)rand();
		for (i = 0; i < 65536; i += 4096)
			feed(l, i, i + 4096, true);
		assert_true(l->budget.used < 256 << 10);
	}
	assert_int_equal(l->got.count, 0);
	assert_true(l->got.skipped > 2 << 20);
	l->budget.limit = 100;
	feed(l, 0, 65536, true);
	assert_int_equal(l->got.count, 0);
	teardown(l);
}

static void test_walk(void **state)
{
	static const uint8_t records[] = { 23, 3, 3, 0, 2, 'a', 'b', 21, 3, 1, 0, 0, 99, 3, 3, 0, 0 };
	struct walk w;
	unsigned int at = 0, items = 0;

	(void)state;
	walk_init(&w, WALK_TLS);
	while (at < sizeof(records)) {
		at += walk_body(&w, 1);
		at += walk_head(&w, records + at, at < sizeof(records) && !w.left);
		if (w.have == WALK_HEADER_LEN) {
			if (!walk_read(&w))
				break;
			items++;
		}
	}
	assert_int_equal(items, 2);
	assert_int_equal(at, sizeof(records));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_types_and_versions),
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_gap_in_a_payload),
		cmocka_unit_test(test_imitation),
		cmocka_unit_test(test_sync_within),
		cmocka_unit_test(test_noise),
		cmocka_unit_test(test_walk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
