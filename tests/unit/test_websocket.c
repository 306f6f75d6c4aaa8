// SPDX-License-Identifier: BSD-2-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "stream/websocket.h"

/* Feeds @in in pieces; what comes out, or -1. */
static int unwrap(const uint8_t *in, size_t len, size_t piece, uint8_t *out)
{
	struct websocket w = { 0 };
	size_t at = 0, n, used, from, more, total = 0;
	uint8_t copy[70000];

	while (at < len) {
		n = len - at < piece ? len - at : piece;
		memcpy(copy, in + at, n);
		if (!websocket_next(&w, copy, n, &used, &from, &more))
			return -1;
		assert_true(used > 0 && used <= n && from + more <= n);
		memcpy(out + total, copy + from, more);
		total += more;
		at += used;
	}
	return (int)total;
}

static void test_frames(void **state)
{
	static const uint8_t in[] = {
		0x02, 0x03, 'a', 'b', 'c',			/* begins a message */
		0x89, 0x02, 'h', 'i',				/* ping within it */
		0x00, 0x83, 1, 2, 3, 4, 'd' ^ 1, 'e' ^ 2, 'f' ^ 3,
		0x80, 0x00,					/* ends it, empty */
		0x82, 0x7e, 0x00, 0x02, 'g', 'h',		/* longer length than needed */
		0x82, 0x7f, 0, 0, 0, 0, 0, 0, 0, 1, 'i',
		0x8a, 0x80, 9, 9, 9, 9,				/* pong, masked, empty */
		0x81, 0x01, 'j',				/* text will do */
		0x88, 0x02, 0x03, 0xe8,				/* close */
	};
	uint8_t out[64];
	size_t piece;

	(void)state;
	for (piece = 1; piece <= sizeof(in); piece++) {
		assert_int_equal(unwrap(in, sizeof(in), piece, out), 10);
		assert_memory_equal(out, "abcdefghij", 10);
	}
}

static void test_no_frames(void **state)
{
	static const uint8_t compressed[] = { 0xc2, 0x01, 'a' }, reserved[] = { 0x83, 0x01, 'a' };
	static const uint8_t control[] = { 0x89, 0x7e, 0x01, 0x00, 'a' }, cut[] = { 0x09, 0x01, 'a' };
	static const uint8_t huge[] = { 0x82, 0x7f, 0xff, 0, 0, 0, 0, 0, 0, 1, 'i' };
	static const uint8_t unknown[] = { 0x8b, 0x00 };
	uint8_t out[64];

	(void)state;
	assert_int_equal(unwrap(compressed, sizeof(compressed), 1, out), -1);
	assert_int_equal(unwrap(reserved, sizeof(reserved), 1, out), -1);
	assert_int_equal(unwrap(control, sizeof(control), 1, out), -1);
	assert_int_equal(unwrap(cut, sizeof(cut), 1, out), -1);
	assert_int_equal(unwrap(huge, sizeof(huge), 1, out), -1);
	assert_int_equal(unwrap(unknown, sizeof(unknown), 1, out), -1);
}

static void test_skip(void **state)
{
	uint8_t head[] = { 0x82, 0x88, 1, 2, 3, 4, 'a' ^ 1 }, rest[] = { 'h' ^ 4 };
	struct websocket w = { 0 };
	size_t used, from, out;

	(void)state;
	assert_true(websocket_next(&w, head, sizeof(head), &used, &from, &out));
	assert_int_equal(out, 1);
	assert_int_equal(head[from], 'a');
	assert_false(websocket_skip(&w, 8));
	assert_true(websocket_skip(&w, 6));
	assert_true(websocket_next(&w, rest, 1, &used, &from, &out));
	assert_int_equal(rest[from], 'h');
	assert_int_equal(w.left, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frames),
		cmocka_unit_test(test_no_frames),
		cmocka_unit_test(test_skip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
