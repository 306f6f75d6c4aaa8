// SPDX-License-Identifier: BSD-2-Clause
/* Segments of which only the start comes, among others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "stream/reassemble.h"

struct got {
	char text[256];
	size_t len;
	uint64_t end;
};

static void on_bytes(void *ctx, enum capture_dir dir, uint64_t pos, uint64_t time_ns,
		     const uint8_t *data, size_t len)
{
	struct got *g = ctx;

	(void)dir;
	(void)time_ns;
	assert_int_equal(pos, g->end);
	g->end += len;
	memcpy(g->text + g->len, data, len);
	g->len += len;
}

/* A record of which only the start is there: its first byte, and '-' for each that is not. */
static void on_head(void *ctx, enum capture_dir dir, uint64_t pos, uint64_t time_ns,
		    const struct reassemble_record *record)
{
	struct got *g = ctx;
	size_t i;

	(void)dir;
	(void)time_ns;
	assert_int_equal(pos, g->end);
	assert_int_equal(record->have, 2);
	assert_int_equal(record->mark, 7);
	g->end += record->len;
	g->text[g->len++] = (char)record->start[0];
	for (i = 1; i < record->len; i++)
		g->text[g->len++] = '-';
}

static void on_gap(void *ctx, enum capture_dir dir, uint64_t pos, uint64_t time_ns, uint64_t bytes)
{
	struct got *g = ctx;

	(void)dir;
	(void)time_ns;
	assert_int_equal(pos, g->end);
	g->end += bytes;
	g->text[g->len++] = '_';
}

static const struct reassemble_sink sink = { .bytes = on_bytes, .head = on_head, .gap = on_gap };

struct lab {
	struct reassemble r;
	struct budget budget;
	struct got got;
	uint64_t time_ns;
};

static void setup(struct lab *l, enum capture_dir dir, uint32_t isn)
{
	memset(l, 0, sizeof(*l));
	l->budget.limit = 1 << 16;
	reassemble_init(&l->r, dir, &l->budget, &sink, &l->got);
	reassemble_start(&l->r, isn);
}

static void teardown(struct lab *l)
{
	reassemble_clear(&l->r);
	assert_int_equal(l->budget.used, 0);
}

static void expect(const struct lab *l, const char *text)
{
	assert_int_equal(l->got.len, strlen(text));
	assert_memory_equal(l->got.text, text, l->got.len);
}

static void segment(struct lab *l, uint32_t seq, const char *text, const struct capture_facts *f)
{
	struct capture_segment seg = { .dir = l->r.dir, .seq = seq, .len = (uint32_t)strlen(text),
				       .captured = (uint32_t)strlen(text),
				       .data = (const uint8_t *)text };

	reassemble_segment(&l->r, &seg, ++l->time_ns, f);
}

static void head(struct lab *l, uint32_t seq, const char *text, uint32_t len,
		 const struct capture_facts *f)
{
	struct capture_segment seg = { .dir = l->r.dir, .seq = seq, .len = len, .head = true,
				       .captured = (uint32_t)strlen(text), .mark = 7,
				       .data = (const uint8_t *)text };

	reassemble_segment(&l->r, &seg, ++l->time_ns, f);
}

/* Records of which only the start comes are handed on whole, or not at all. */
static void test_heads(void **state)
{
	struct capture_facts f = { .has_seq = true, .has_read = true, .rcv_nxt = 100,
				   .rcv_wnd = 1000 };
	struct lab l;

	(void)state;
	setup(&l, CAPTURE_IN, 100);
	head(&l, 104, "ex", 4, &f);
	segment(&l, 100, "abcd", &f);
	/* Sent again, one as it was, and another one with it: the same. */
	segment(&l, 102, "cdefghij", &f);
	reassemble_settle(&l.r, 106, false, 1);
	expect(&l, "abcd");
	reassemble_settle(&l.r, 110, false, 1);
	expect(&l, "abcde---ij");
	/* What is held of it is the same. */
	segment(&l, 111, "l", &f);
	head(&l, 110, "kx", 4, &f);
	reassemble_settle(&l.r, 114, false, 1);
	expect(&l, "abcde---ijk---");
	/* Its start is old: what is new of it is missing. */
	head(&l, 112, "mx", 4, &f);
	reassemble_settle(&l.r, 116, false, 1);
	expect(&l, "abcde---ijk---_");
	/* Nothing of it is there. */
	head(&l, 116, "", 4, &f);
	reassemble_settle(&l.r, 120, false, 1);
	expect(&l, "abcde---ijk---__");
	teardown(&l);
	setup(&l, CAPTURE_OUT, 100);
	head(&l, 104, "ex", 4, NULL);
	segment(&l, 100, "abcd", NULL);
	head(&l, 106, "ex", 4, NULL);
	head(&l, 110, "kx", 2, NULL);
	expect(&l, "abcde---_k-");
	teardown(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_heads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
