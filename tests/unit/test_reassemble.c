// SPDX-License-Identifier: BSD-2-Clause
/* Segments of one direction, in and out of order, doubled, forged, lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "stream/reassemble.h"

struct got {
	char text[256];
	size_t len;
	uint64_t bytes, gap_bytes, gaps, end;
	bool keep;
};

static void on_bytes(void *ctx, enum capture_dir dir, uint64_t pos, uint64_t time_ns,
		     const uint8_t *data, size_t len)
{
	struct got *g = ctx;

	(void)dir;
	(void)time_ns;
	assert_int_equal(pos, g->end);
	g->end += len;
	g->bytes += len;
	if (!g->keep)
		return;
	assert_true(g->len + len < sizeof(g->text));
	memcpy(g->text + g->len, data, len);
	g->len += len;
}

static void on_gap(void *ctx, enum capture_dir dir, uint64_t pos, uint64_t time_ns, uint64_t bytes)
{
	struct got *g = ctx;

	(void)dir;
	(void)time_ns;
	assert_int_equal(pos, g->end);
	assert_true(bytes > 0);
	g->end += bytes;
	g->gap_bytes += bytes;
	g->gaps++;
	if (g->keep)
		g->text[g->len++] = '_';
}

static void on_forward(void *ctx, enum capture_dir dir, uint64_t pos, uint64_t time_ns,
		       uint64_t bytes, const struct capture_forward *f)
{
	struct got *g = ctx;

	(void)dir;
	(void)time_ns;
	g->end += bytes;
	assert_int_equal(pos, g->end);
	assert_int_equal(f->head_len, 2);
	g->text[g->len++] = (char)f->head[0];
	g->text[g->len++] = (char)f->head[1];
}

static void on_counted(void *ctx, enum capture_dir dir, uint64_t pos, uint64_t time_ns,
		       uint64_t bytes, const struct capture_counting *at)
{
	struct got *g = ctx;

	(void)dir;
	(void)time_ns;
	g->end += bytes;
	assert_int_equal(pos, g->end);
	if (at)
		g->text[g->len++] = '|';
}

static const struct reassemble_sink sink = { .bytes = on_bytes, .gap = on_gap,
					     .counted = on_counted, .forward = on_forward };

struct lab {
	struct reassemble r;
	struct budget total, budget;
	struct got got;
	uint64_t time_ns;
};

static void setup(struct lab *l, enum capture_dir dir, uint32_t isn)
{
	memset(l, 0, sizeof(*l));
	l->total.limit = 1 << 20;
	l->budget = (struct budget){ .limit = 1 << 16, .parent = &l->total };
	l->got.keep = true;
	reassemble_init(&l->r, dir, &l->budget, &sink, &l->got);
	reassemble_start(&l->r, isn);
}

static void teardown(struct lab *l)
{
	reassemble_clear(&l->r);
	assert_int_equal(l->budget.used, 0);
	assert_int_equal(l->total.used, 0);
}

static void segment(struct lab *l, uint32_t seq, const char *text, const struct capture_facts *f)
{
	struct capture_segment seg = { .dir = l->r.dir, .seq = seq, .len = (uint32_t)strlen(text),
				       .captured = (uint32_t)strlen(text),
				       .data = (const uint8_t *)text };

	reassemble_segment(&l->r, &seg, ++l->time_ns, f);
}

static void summed(struct lab *l, uint32_t seq, const char *text, enum capture_sum sum,
		   const struct capture_facts *f)
{
	struct capture_segment seg = { .dir = l->r.dir, .seq = seq, .len = (uint32_t)strlen(text),
				       .captured = (uint32_t)strlen(text), .sum = sum,
				       .data = (const uint8_t *)text };

	reassemble_segment(&l->r, &seg, ++l->time_ns, f);
}

static void expect(const struct lab *l, const char *text)
{
	assert_int_equal(l->got.len, strlen(text));
	assert_memory_equal(l->got.text, text, l->got.len);
}

static struct capture_facts at(uint32_t rcv_nxt)
{
	return (struct capture_facts){ .has_seq = true, .has_read = true, .rcv_nxt = rcv_nxt,
				       .rcv_wnd = 1000 };
}

static void test_in_waits_for_tcp(void **state)
{
	struct lab l;

	(void)state;
	setup(&l, CAPTURE_IN, 100);
	segment(&l, 100, "abc", NULL);
	expect(&l, "");
	reassemble_settle(&l.r, 102, false, 1);
	expect(&l, "ab");
	segment(&l, 106, "ghi", NULL);
	segment(&l, 103, "def", NULL);
	reassemble_settle(&l.r, 109, false, 1);
	expect(&l, "abcdefghi");
	segment(&l, 100, "abc", NULL);
	segment(&l, 105, "fghijk", NULL);
	reassemble_settle(&l.r, 111, false, 1);
	expect(&l, "abcdefghijk");
	/* What TCP never took is not handed on. */
	segment(&l, 111, "lost", NULL);
	reassemble_end(&l.r, 1);
	expect(&l, "abcdefghijk");
	assert_int_equal(l.got.gaps, 0);
	teardown(&l);
}

static void test_in_holes(void **state)
{
	struct lab l;

	(void)state;
	setup(&l, CAPTURE_IN, 0xfffffffe);
	segment(&l, 0xfffffffe, "abc", NULL);
	segment(&l, 4, "ghi", NULL);
	reassemble_settle(&l.r, 7, false, 1);
	expect(&l, "abc_ghi");
	assert_int_equal(l.got.gap_bytes, 3);
	/* Too late. */
	segment(&l, 1, "def", NULL);
	reassemble_settle(&l.r, 20, false, 1);
	expect(&l, "abc_ghi_");
	assert_int_equal(l.got.gap_bytes, 16);
	teardown(&l);
}

static void test_in_forged(void **state)
{
	struct capture_facts f = at(100);
	struct lab l;

	(void)state;
	setup(&l, CAPTURE_IN, 100);
	/* Thrown away by TCP for its checksum: the true one comes after it. */
	segment(&l, 100, "XXXXXXXX", &f);
	segment(&l, 100, "abc", &f);
	segment(&l, 103, "def", &f);
	f = at(106);
	segment(&l, 99, "Z", &f);	/* a keep-alive probe */
	segment(&l, 103, "YYY", &f);	/* accepted already: old */
	segment(&l, 2000, "QQQ", &f);	/* out of the window */
	segment(&l, 106, "gh", &f);
	reassemble_settle(&l.r, 108, false, 1);
	expect(&l, "abcdefgh");
	assert_int_equal(l.got.gaps, 0);
	teardown(&l);
}

/* Two claim the same bytes before TCP took either: the checksum decides, in whatever order. */
static void test_in_contest(void **state)
{
	static const struct {
		enum capture_sum forged, genuine;
	} rows[] = {
		{ CAPTURE_SUM_WRONG, CAPTURE_SUM_RIGHT },
		{ CAPTURE_SUM_WRONG, CAPTURE_SUM_UNKNOWN },
		{ CAPTURE_SUM_UNKNOWN, CAPTURE_SUM_RIGHT },
	};
	struct capture_facts f = at(100);
	struct lab l;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		/* Before it, longer: of its tail nothing stays. */
		setup(&l, CAPTURE_IN, 100);
		summed(&l, 100, "XXXXXXXX", rows[i].forged, &f);
		summed(&l, 100, "abc", rows[i].genuine, &f);
		reassemble_settle(&l.r, 105, false, 1);
		expect(&l, "abc_");
		teardown(&l);
		/* Behind it, and over two of which one is not contradicted. */
		setup(&l, CAPTURE_IN, 100);
		summed(&l, 100, "abc", rows[i].genuine, &f);
		summed(&l, 103, "def", rows[i].genuine, &f);
		summed(&l, 99, "ZZZZdefYYY", rows[i].forged, &f);
		summed(&l, 106, "gh", rows[i].genuine, &f);
		reassemble_settle(&l.r, 108, false, 1);
		expect(&l, "abcdefgh");
		teardown(&l);
		/* In two parts of one that was thrown away. */
		setup(&l, CAPTURE_IN, 100);
		summed(&l, 101, "XXXXXXXX", rows[i].forged, &f);
		summed(&l, 104, "efg", rows[i].genuine, &f);
		summed(&l, 100, "abcd", rows[i].genuine, &f);
		reassemble_settle(&l.r, 107, false, 1);
		expect(&l, "abcdefg");
		teardown(&l);
	}
	/* Nothing tells them apart: TCP would have taken the first by the time the second came. */
	setup(&l, CAPTURE_IN, 100);
	summed(&l, 100, "QQQ", CAPTURE_SUM_RIGHT, &f);
	summed(&l, 100, "abc", CAPTURE_SUM_RIGHT, &f);
	reassemble_settle(&l.r, 103, false, 1);
	expect(&l, "abc");
	teardown(&l);
}

static void test_in_facts_count_the_segment(void **state)
{
	struct capture_facts f = at(106);
	struct lab l;

	(void)state;
	setup(&l, CAPTURE_IN, 100);
	segment(&l, 103, "def", NULL);
	assert_true(reassemble_covered(&l.r, &(struct capture_segment){ .seq = 100 }, &f));
	assert_false(reassemble_covered(&l.r, &(struct capture_segment){ .seq = 106 }, &f));
	segment(&l, 100, "abc", &f);
	reassemble_settle(&l.r, f.rcv_nxt, false, 1);
	expect(&l, "abcdef");
	/* A probe's byte does not fill a hole. */
	f = at(110);
	segment(&l, 109, "Z", &f);
	reassemble_settle(&l.r, 110, false, 1);
	expect(&l, "abcdef_");
	teardown(&l);
}

/* What TCP has taken already, and is the next, is handed on at once and costs no memory. */
static void test_in_taken_is_not_held(void **state)
{
	struct capture_facts f = at(103);
	struct lab l;

	(void)state;
	setup(&l, CAPTURE_IN, 100);
	l.budget.limit = 0;
	segment(&l, 100, "abc", &f);
	expect(&l, "abc");
	f = at(105);
	segment(&l, 103, "def", &f);
	l.budget.limit = 1 << 16;
	segment(&l, 103, "def", &f);
	reassemble_settle(&l.r, 106, false, 1);
	expect(&l, "abcdef");
	teardown(&l);
}

static void test_fin_has_no_place(void **state)
{
	struct capture_segment fin = { .flags = CAPTURE_FIN, .seq = 103,
				       .data = (const uint8_t *)"" };
	struct lab l;

	(void)state;
	setup(&l, CAPTURE_IN, 100);
	segment(&l, 100, "abc", NULL);
	reassemble_segment(&l.r, &fin, 1, NULL);
	reassemble_settle(&l.r, 104, false, 1);
	assert_int_equal(reassemble_position(&l.r, 104), 3);
	expect(&l, "abc");
	teardown(&l);
	/* Its segment was lost, but the socket's state tells. */
	setup(&l, CAPTURE_IN, 100);
	segment(&l, 100, "abc", NULL);
	reassemble_settle(&l.r, 104, true, 1);
	expect(&l, "abc");
	teardown(&l);
	/* The reset behind it, of a process that was killed: nothing was missed in between. */
	setup(&l, CAPTURE_OUT, 100);
	segment(&l, 100, "abc", NULL);
	fin.dir = CAPTURE_OUT;
	reassemble_segment(&l.r, &fin, 1, NULL);
	segment(&l, 104, "", NULL);
	reassemble_settle(&l.r, 104, false, 1);
	reassemble_end(&l.r, 1);
	expect(&l, "abc");
	assert_int_equal(l.got.gap_bytes, 0);
	teardown(&l);
}

static void test_out_once(void **state)
{
	struct lab l;

	(void)state;
	setup(&l, CAPTURE_OUT, 7);
	segment(&l, 7, "abc", NULL);
	segment(&l, 7, "abc", NULL);
	segment(&l, 8, "bcde", NULL);
	expect(&l, "abcde");
	/* Lost on its way to us: held back till it is sent again, or acknowledged. */
	segment(&l, 15, "ijk", NULL);
	expect(&l, "abcde");
	segment(&l, 12, "fgh", NULL);
	expect(&l, "abcdefghijk");
	segment(&l, 20, "nop", NULL);
	reassemble_settle(&l.r, 19, false, 1);
	expect(&l, "abcdefghijk_");
	reassemble_settle(&l.r, 20, false, 1);
	expect(&l, "abcdefghijk__nop");
	assert_int_equal(l.got.gap_bytes, 2);
	segment(&l, 30, "xyz", NULL);
	reassemble_end(&l.r, 1);
	expect(&l, "abcdefghijk__nop_xyz");
	teardown(&l);
}

static void test_out_unacknowledged_hole_is_given_up(void **state)
{
	struct lab l;

	(void)state;
	setup(&l, CAPTURE_OUT, 0);
	segment(&l, 3, "def", NULL);
	l.time_ns += 10000000000ULL;
	segment(&l, 6, "ghi", NULL);
	expect(&l, "_defghi");
	teardown(&l);
}

static void test_captured_in_part(void **state)
{
	struct capture_segment seg = { .dir = CAPTURE_OUT, .seq = 0, .len = 10, .captured = 3,
				       .data = (const uint8_t *)"abc" };
	struct lab l;

	(void)state;
	setup(&l, CAPTURE_OUT, 0);
	reassemble_segment(&l.r, &seg, 1, NULL);
	expect(&l, "abc_");
	assert_int_equal(l.got.gap_bytes, 7);
	segment(&l, 10, "xyz", NULL);
	expect(&l, "abc_xyz");
	teardown(&l);
	setup(&l, CAPTURE_IN, 0);
	seg.dir = CAPTURE_IN;
	reassemble_segment(&l.r, &seg, 1, NULL);
	segment(&l, 5, "f", NULL);
	reassemble_settle(&l.r, 10, false, 1);
	expect(&l, "abc_f_");
	teardown(&l);
}

static void test_mid_stream(void **state)
{
	struct capture_facts f = at(500);
	struct lab l;

	(void)state;
	/* Not what is sent again, but what comes next, is the beginning. */
	setup(&l, CAPTURE_IN, 0);
	l.r.started = false;
	segment(&l, 300, "old", &f);
	assert_true(l.r.started);
	segment(&l, 500, "new", &f);
	reassemble_settle(&l.r, 503, false, 1);
	expect(&l, "new");
	teardown(&l);
	setup(&l, CAPTURE_OUT, 0);
	l.r.started = false;
	f.snd_nxt = 900;
	segment(&l, 890, "0123456789abc", &f);
	expect(&l, "abc");
	teardown(&l);
	/* Without facts it is the first byte that is seen. */
	setup(&l, CAPTURE_OUT, 0);
	l.r.started = false;
	segment(&l, 890, "abc", NULL);
	expect(&l, "abc");
	assert_int_equal(reassemble_position(&l.r, 880), 0);
	assert_int_equal(reassemble_position(&l.r, 893), 3);
	teardown(&l);
}

static void test_beyond_4_gib(void **state)
{
	static uint8_t data[1 << 16];
	const uint64_t total = 9ULL << 30;
	uint64_t pos;
	struct lab l;
	int dir;

	(void)state;
	for (dir = 0; dir < 2; dir++) {
		setup(&l, (enum capture_dir)dir, 12345);
		l.got.keep = false;
		l.budget.limit = 1 << 20;
		for (pos = 0; pos < total; pos += 1 << 26) {
			struct capture_segment seg = {
				.dir = (enum capture_dir)dir, .seq = 12345 + (uint32_t)pos,
				.len = 1 << 26, .captured = sizeof(data), .data = data };

			reassemble_segment(&l.r, &seg, pos, NULL);
			reassemble_settle(&l.r, 12345 + (uint32_t)(pos + (1 << 26)), false, pos);
		}
		assert_int_equal(l.got.end, total);
		assert_int_equal(l.got.bytes, total / (1 << 26) * sizeof(data));
		assert_int_equal(reassemble_position(&l.r, 12345 + (uint32_t)total), total);
		teardown(&l);
	}
}

static void test_memory_is_bounded(void **state)
{
	struct lab l;
	uint32_t i;

	(void)state;
	setup(&l, CAPTURE_IN, 0);
	l.got.keep = false;
	l.budget.limit = 4096;
	for (i = 1; i < 5000; i += 2)
		segment(&l, i, "x", NULL);
	assert_true(l.budget.used <= 4096);
	reassemble_settle(&l.r, 5000, false, 1);
	assert_int_equal(l.got.end, 5000);
	assert_true(l.got.gap_bytes > 4900);
	teardown(&l);
}

/* Any cutting, order and repetition gives the same bytes. */
static void test_random(void **state)
{
	static uint8_t text[4000];
	unsigned int seed, i;

	(void)state;
	for (seed = 0; seed < 300; seed++) {
		bool have[sizeof(text)] = { false };
		uint32_t nxt = 0, isn = seed * 0x1234567;
		struct lab l;

		srand(seed);
		for (i = 0; i < sizeof(text); i++)
			text[i] = (uint8_t)rand();
		setup(&l, CAPTURE_IN, isn);
		l.got.keep = false;
		while (nxt < sizeof(text)) {
			struct capture_facts f = at(isn + nxt);
			uint32_t from = nxt + (uint32_t)rand() % 900, len = 1 + (uint32_t)rand() % 300;
			struct capture_segment seg = { .seq = isn + from };

			if (from >= sizeof(text))
				continue;
			if (len > sizeof(text) - from)
				len = (uint32_t)sizeof(text) - from;
			seg.len = seg.captured = len;
			seg.data = text + from;
			reassemble_settle(&l.r, f.rcv_nxt, false, 1);
			reassemble_segment(&l.r, &seg, 1, &f);
			memset(have + from, true, len);
			while (nxt < sizeof(text) && have[nxt])
				nxt++;
		}
		reassemble_settle(&l.r, isn + nxt, false, 1);
		assert_int_equal(l.got.bytes, sizeof(text));
		assert_int_equal(l.got.gaps, 0);
		teardown(&l);
	}
}

static void counting(struct lab *l, uint32_t seq, bool begins)
{
	const struct capture_counting c = { .dir = l->r.dir, .seq = seq, .begins = begins,
					    .head = (const uint8_t *)"" };

	reassemble_counting(&l->r, &c, ++l->time_ns);
}

static void forward(struct lab *l, uint32_t seq, const char *head)
{
	const struct capture_forward f = { .dir = l->r.dir, .seq = seq, .len = 72, .head_len = 2,
					   .head = (const uint8_t *)head };

	reassemble_forward(&l->r, &f, ++l->time_ns);
}

/* What was named is told in its place: behind what was there before it and is not confirmed yet. */
static void test_forwards_in_order(void **state)
{
	struct lab l;

	(void)state;
	setup(&l, CAPTURE_IN, 100);
	segment(&l, 100, "abc", NULL);
	counting(&l, 103, true);
	forward(&l, 110, "A1");
	forward(&l, 120, "B2");
	expect(&l, "");
	reassemble_settle(&l.r, 103, false, ++l.time_ns);
	expect(&l, "abc");
	reassemble_settle(&l.r, 120, false, ++l.time_ns);
	expect(&l, "abcA1B2");
	forward(&l, 130, "C3");
	expect(&l, "abcA1B2C3");
	/* Told once, whatever comes again. */
	forward(&l, 130, "C3");
	forward(&l, 120, "B2");
	counting(&l, 130, false);
	segment(&l, 125, "-----xyz", NULL);
	reassemble_settle(&l.r, 133, false, ++l.time_ns);
	expect(&l, "abcA1B2C3|xyz");
	assert_int_equal(l.got.gaps, 0);
	teardown(&l);
}

/* A hole before the counting began: what was named stands behind it, and is lost with nothing. */
static void test_forwards_behind_a_hole(void **state)
{
	struct lab l;

	(void)state;
	setup(&l, CAPTURE_OUT, 100);
	segment(&l, 100, "abc", NULL);
	segment(&l, 104, "e", NULL);
	counting(&l, 105, true);
	forward(&l, 115, "A1");
	expect(&l, "abc");
	counting(&l, 115, false);
	segment(&l, 115, "xyz", NULL);
	reassemble_settle(&l.r, 118, false, ++l.time_ns);
	expect(&l, "abc_eA1|xyz");
	assert_int_equal(l.got.gap_bytes, 1);
	teardown(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_waits_for_tcp),
		cmocka_unit_test(test_in_holes),
		cmocka_unit_test(test_in_forged),
		cmocka_unit_test(test_in_contest),
		cmocka_unit_test(test_in_facts_count_the_segment),
		cmocka_unit_test(test_in_taken_is_not_held),
		cmocka_unit_test(test_fin_has_no_place),
		cmocka_unit_test(test_out_once),
		cmocka_unit_test(test_out_unacknowledged_hole_is_given_up),
		cmocka_unit_test(test_captured_in_part),
		cmocka_unit_test(test_mid_stream),
		cmocka_unit_test(test_beyond_4_gib),
		cmocka_unit_test(test_memory_is_bounded),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_forwards_in_order),
		cmocka_unit_test(test_forwards_behind_a_hole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
