// SPDX-License-Identifier: BSD-2-Clause
/*
 * The walk that counts frames in the kernel, as user space compiles it: over streams of frames in
 * segments of any size it finds each frame, and a stream that takes over from it at any point goes on
 * as if it had read all of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct segment {
	const unsigned char *data;
	size_t len;
};

static inline int count_load(void *bytes, unsigned int off, unsigned char *to, unsigned int n,
			     unsigned int most)
{
	const struct segment *s = bytes;

	assert_true(n >= 1 && n <= most && most <= 133 && off + n <= s->len);
	memcpy(to, s->data + off, n);
	return 0;
}

#include "base/packet.h"
#include "count.h"
#include "stream/frames.h"

#define FRAMES	400
#define STREAM	(FRAMES * 3000)

static uint64_t state;

static uint32_t random_below(uint32_t n)
{
	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(state >> 33) % n;
}

struct stream {
	unsigned char bytes[STREAM];
	size_t len, count;
	size_t starts[FRAMES + 1];
};

/* Packets and forwards of all sizes, and now and then another frame; @small: packets of a few bytes only. */
static void make(struct stream *s, bool small)
{
	size_t n, i;

	s->len = 0;
	for (s->count = 0; s->count < FRAMES; s->count++) {
		bool other = !random_below(10), forward = !random_below(2);
		uint32_t len = other ? random_below(200) :
				       (forward ? 64 : 32) + random_below(small ? 12 : 1400);
		unsigned char *p = s->bytes + s->len;

		s->starts[s->count] = s->len;
		p[0] = other ? DERP_PING : forward ? DERP_FORWARD_PACKET : DERP_SEND_PACKET;
		p[1] = p[2] = 0;
		p[3] = (unsigned char)(len >> 8);
		p[4] = (unsigned char)len;
		for (i = 0, n = DERP_HEADER_LEN; i < len; i++)
			p[n + i] = (unsigned char)random_below(256);
		s->len += DERP_HEADER_LEN + len;
	}
	s->starts[s->count] = s->len;
}

static uint32_t segment_size(void)
{
	switch (random_below(4)) {
	case 0:
		return 1 + random_below(8);
	case 1:
		return 1 + random_below(150);
	default:
		return 1 + random_below(9000);
	}
}

/* Of a forward all is there that names its packet, however it was cut. */
static void check_forward(const struct count_walk *w, const unsigned char *frame)
{
	const unsigned char *packet = frame + DERP_HEADER_LEN + 2 * DERP_KEY_LEN;
	uint32_t len = walk_derp_len(frame) - 2 * DERP_KEY_LEN;
	uint32_t have = len < DERP_DIGEST_LEN ? len : DERP_DIGEST_LEN;

	assert_memory_equal(w->head, frame, DERP_HEADER_LEN + 2 * DERP_KEY_LEN + have);
	assert_true(count_digest(w->head + DERP_HEADER_LEN + 2 * DERP_KEY_LEN, len) ==
		    packet_digest(packet, have, len));
}

/* Walks s->bytes up to @end in segments, and checks each frame; *frame is the one under way. */
static void walk(const struct stream *s, struct count_walk *w, size_t *at, size_t end, size_t *frame)
{
	while (*at < end) {
		uint32_t n = segment_size();
		struct segment seg = { s->bytes + *at, n < end - *at ? n : end - *at };
		const struct count_from from = { .bytes = &seg };

		w->off = 0;
		w->end = (unsigned int)seg.len;
		while (w->off < w->end) {
			count_next(w, &from);
			if (w->step == COUNT_PART) {
				assert_int_equal(w->off, w->end);
				break;
			}
			assert_int_equal(w->step, COUNT_FRAME);
			assert_int_equal(*at + w->off, s->starts[*frame + 1]);
			assert_memory_equal(w->head, s->bytes + s->starts[*frame], 5);
			if (count_counts(w->head, DERP_SEND_PACKET))
				assert_memory_equal(w->head, s->bytes + s->starts[*frame], 37);
			if (count_counts(w->head, DERP_FORWARD_PACKET))
				check_forward(w, s->bytes + s->starts[*frame]);
			++*frame;
		}
		*at += seg.len;
	}
}

static void finds_every_frame(void **unused)
{
	struct stream *s = malloc(sizeof(*s));
	int round;

	(void)unused;
	assert_non_null(s);
	for (round = 0; round < 60; round++) {
		struct count_walk w = { 0 };
		size_t at = 0, frame = 0;

		make(s, round & 1);
		walk(s, &w, &at, s->len, &frame);
		assert_int_equal(frame, FRAMES);
		assert_int_equal(w.have, 0);
	}
	free(s);
}

static void knows_what_is_no_header(void **unused)
{
	static const unsigned char bad[][5] = {
		{ 0, 0, 0, 0, 0 }, { 0x0b, 0, 0, 0, 1 }, { 0x16, 3, 1, 2, 0 }, { 'G', 'E', 'T', ' ', '/' },
		{ 0x17, 3, 3, 0, 80 }, { DERP_SEND_PACKET, 0, 1, 0, 33 }, { DERP_PING, 0, 0x10, 0, 1 },
		{ 0x82, 0x7e, 4, 0, 0 },
	};
	size_t i, n;

	(void)unused;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		unsigned char bytes[64] = { 0 };
		struct segment seg = { bytes, sizeof(bytes) };
		const struct count_from from = { .bytes = &seg };

		memcpy(bytes, bad[i], 5);
		for (n = 5; n <= sizeof(bytes); n += sizeof(bytes) - 5) {
			struct count_walk w = { .end = (unsigned int)n };

			count_next(&w, &from);
			assert_int_equal(w.step, COUNT_BROKEN);
		}
	}
}

static void tells_classes(void **unused)
{
	unsigned char p[8] = { 'T', 'S', 0xf0, 0x9f, 0x92, 0xac };

	(void)unused;
	assert_int_equal(count_class(p, 62), COUNT_DISCO);
	assert_int_equal(count_class(p, 61), COUNT_OTHER);
	memset(p, 0, sizeof(p));
	p[0] = 1;
	assert_int_equal(count_class(p, 148), COUNT_WIREGUARD_1);
	assert_int_equal(count_class(p, 147), COUNT_OTHER);
	p[0] = 2;
	assert_int_equal(count_class(p, 92), COUNT_WIREGUARD_2);
	p[0] = 4;
	assert_int_equal(count_class(p, 32), COUNT_WIREGUARD_4);
	assert_int_equal(count_class(p, 3), COUNT_OTHER);
	p[3] = 1;
	assert_int_equal(count_class(p, 32), COUNT_OTHER);
}

struct reader {
	const struct stream *s;
	size_t frame;		/* the next one */
};

static void on_frame(void *ctx, enum capture_dir dir, struct stream_frame *f, const uint8_t *whole,
		     size_t whole_len)
{
	struct reader *r = ctx;
	size_t start = r->s->starts[r->frame];

	(void)dir;
	(void)whole;
	(void)whole_len;
	assert_int_equal(f->derp_off, start);
	assert_int_equal(f->tcp_end, 1000 + r->s->starts[r->frame + 1]);
	assert_int_equal(f->type, r->s->bytes[start]);
	assert_memory_equal(f->head, r->s->bytes + start + DERP_HEADER_LEN, f->head_len);
	assert_true(f->head_len >= (f->len < 128 ? f->len : 128));
	r->frame++;
}

static void on_skipped(void *ctx, enum capture_dir dir, uint64_t time_ns, uint64_t bytes)
{
	(void)ctx;
	(void)dir;
	(void)time_ns;
	(void)bytes;
	fail();
}

static void on_resumed(void *ctx, enum capture_dir dir, uint64_t time_ns)
{
	(void)ctx;
	(void)dir;
	(void)time_ns;
}

/* Read, then counted, then read again: nothing is told twice, nothing is missing. */
static void is_taken_over_anywhere(void **unused)
{
	static const struct derp_sink sink = { on_frame, on_skipped, on_resumed };
	struct stream *s = malloc(sizeof(*s));
	int round;

	(void)unused;
	assert_non_null(s);
	for (round = 0; round < 300; round++) {
		struct budget budget = { .limit = 1 << 20 };
		struct reader r = { .s = s };
		const struct derp_host host = { .dir = CAPTURE_IN, .talker = DERP_CLIENT,
						.budget = &budget, .sink = &sink, .ctx = &r };
		struct count_walk w = { 0 };
		size_t at = 0, frame = 0, first, second;
		struct derp_chunk c = { 0 };
		struct capture_counting here;
		struct derp d;

		make(s, round & 1);
		first = random_below((uint32_t)s->len);
		second = first + random_below((uint32_t)(s->len - first));
		derp_init(&d, true);
		c.tcp_pos = 1000;
		c.data = s->bytes;
		c.len = first;
		if (first)
			derp_feed(&d, &host, &c);
		walk(s, &w, &at, second, &frame);
		r.frame = frame;
		/* Counting never ends inside a frame that it does not count. */
		if (w.have >= DERP_HEADER_LEN && !count_counts(w.head, DERP_SEND_PACKET) &&
		    !count_counts(w.head, DERP_FORWARD_PACKET)) {
			derp_clear(&d, &budget);
			continue;
		}
		here = (struct capture_counting){ .have = w.have, .left = w.left, .head = w.head };
		if (!first)
			d.base_pos = 1000;
		derp_resume(&d, &host, 0, 1000 + second, &here);
		c.tcp_pos = 1000 + second;
		c.data = s->bytes + second;
		c.len = s->len - second;
		if (c.len)
			derp_feed(&d, &host, &c);
		assert_int_equal(r.frame, FRAMES);
		derp_clear(&d, &budget);
		assert_int_equal(budget.used, 0);
	}
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_every_frame),
		cmocka_unit_test(knows_what_is_no_header),
		cmocka_unit_test(tells_classes),
		cmocka_unit_test(is_taken_over_anywhere),
	};

	state = 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
