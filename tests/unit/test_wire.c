// SPDX-License-Identifier: BSD-2-Clause
/* Frames as a network card hands them over: what wire.h reads of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/types.h>
#include <string.h>

#include "abi.h"
#include "wire.h"

struct frame {
	uint8_t data[512];
	size_t len;
};

static void put(struct frame *f, const void *bytes, size_t n)
{
	memcpy(f->data + f->len, bytes, n);
	f->len += n;
}

static void put16(struct frame *f, unsigned int v)
{
	put(f, (uint8_t[]){ v >> 8, v }, 2);
}

static void put32(struct frame *f, uint32_t v)
{
	put16(f, v >> 16);
	put16(f, v & 0xffff);
}

static void ethernet(struct frame *f, unsigned int type)
{
	f->len = 0;
	put(f, "\2\0\0\0\0\1\2\0\0\0\0\2", 12);
	put16(f, type);
}

static void ip4(struct frame *f, unsigned int proto, size_t carries, unsigned int fragment,
		unsigned int words)
{
	put(f, (uint8_t[]){ 0x40 | words, 0 }, 2);
	put16(f, words * 4 + carries);
	put16(f, 7);
	put16(f, fragment);
	put(f, (uint8_t[]){ 64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2 }, 12);
	put(f, (uint8_t[40]){ 1 }, (words - 5) * 4);
}

static void ip6(struct frame *f, unsigned int next, size_t carries)
{
	static const uint8_t addrs[32] = { [0] = 0xfd, [15] = 1, [16] = 0xfd, [31] = 2 };

	put32(f, 0x60000000);
	put16(f, carries);
	put(f, (uint8_t[]){ next, 64 }, 2);
	put(f, addrs, 32);
}

static void tcp(struct frame *f, unsigned int flags, uint32_t seq, size_t payload)
{
	static const uint8_t bytes[256];

	put16(f, 40000);
	put16(f, 443);
	put32(f, seq);
	put32(f, 1);
	put(f, (uint8_t[]){ 0x80, flags, 1, 0, 0, 0, 0, 0 }, 8);
	put(f, bytes, 12 + payload);	/* options, payload */
}

static int parse(const struct frame *f, struct wire_packet *p)
{
	return wire_parse(f->data, f->data + f->len, f->len, 1, p);
}

static void is_tcp(const struct frame *f, unsigned int ip, uint32_t payload)
{
	struct wire_packet p;

	assert_true(parse(f, &p));
	assert_int_equal(p.ip, ip);
	assert_int_equal(p.proto, WIRE_TCP);
	assert_int_equal(p.sport, 40000);
	assert_int_equal(p.dport, 443);
	assert_int_equal(p.seq, 1000);
	assert_int_equal(p.payload_len, payload);
	assert_int_equal(p.saddr[ip == 4 ? 3 : 15], 1);
	assert_int_equal(p.daddr[ip == 4 ? 3 : 15], 2);
}

static void test_ip4(void **state)
{
	struct wire_packet p;
	struct frame f;

	(void)state;
	ethernet(&f, WIRE_TYPE_IP4);
	ip4(&f, 6, 32 + 100, 0, 5);
	tcp(&f, ABI_TCP_SYN, 1000, 100);
	is_tcp(&f, 4, 100);
	put(&f, "padding", 7);
	is_tcp(&f, 4, 100);
	/* Options of IP. */
	ethernet(&f, WIRE_TYPE_IP4);
	ip4(&f, 6, 32 + 9, 0, 15);
	tcp(&f, 0, 1000, 9);
	is_tcp(&f, 4, 9);
	/* More than 64 KiB: the header cannot say so. */
	f.data[16] = f.data[17] = 0;
	is_tcp(&f, 4, 9);
	/* It says more than there is. */
	f.data[16] = 1;
	assert_true(parse(&f, &p));
	assert_true(p.partial);
	assert_int_equal(p.payload_len, 0);
	/* The first fragment has ports, those behind it have none. */
	ethernet(&f, WIRE_TYPE_IP4);
	ip4(&f, 6, 32 + 9, 0x2000, 5);
	tcp(&f, 0, 1000, 9);
	assert_true(parse(&f, &p));
	assert_true(p.partial);
	f.data[21] = 1;
	assert_false(parse(&f, &p));
}

static void test_tags(void **state)
{
	struct wire_packet p;
	struct frame f;

	(void)state;
	ethernet(&f, WIRE_TYPE_VLAN);
	put16(&f, 100);
	put16(&f, WIRE_TYPE_IP4);
	ip4(&f, 6, 32, 0, 5);
	tcp(&f, 0, 1000, 0);
	is_tcp(&f, 4, 0);
	ethernet(&f, WIRE_TYPE_QINQ);
	put16(&f, 200);
	put16(&f, WIRE_TYPE_VLAN);
	put16(&f, 100);
	put16(&f, WIRE_TYPE_IP6);
	ip6(&f, 6, 32 + 5);
	tcp(&f, 0, 1000, 5);
	is_tcp(&f, 6, 5);
	/* A third one is not looked behind. */
	ethernet(&f, WIRE_TYPE_VLAN);
	put16(&f, 1);
	put16(&f, WIRE_TYPE_VLAN);
	put16(&f, 2);
	put16(&f, WIRE_TYPE_VLAN);
	put16(&f, 3);
	put16(&f, WIRE_TYPE_IP4);
	ip4(&f, 6, 32, 0, 5);
	tcp(&f, 0, 1000, 0);
	assert_false(parse(&f, &p));
}

static void test_ip6_extensions(void **state)
{
	static const uint8_t hop[16] = { 43, 1 }, routing[8] = { 51, 0 },
			     auth[24] = { 60, 4 }, destination[8] = { 44, 0 },
			     fragment[8] = { 6, 0, 0, 1 };
	struct wire_packet p;
	struct frame f;
	int i;

	(void)state;
	ethernet(&f, WIRE_TYPE_IP6);
	ip6(&f, 0, 16 + 8 + 24 + 8 + 32 + 50);
	put(&f, hop, sizeof(hop));
	put(&f, routing, sizeof(routing));
	put(&f, auth, sizeof(auth));
	put(&f, (uint8_t[8]){ 6, 0 }, 8);
	tcp(&f, 0, 1000, 50);
	is_tcp(&f, 6, 50);
	ethernet(&f, WIRE_TYPE_IP6);
	ip6(&f, 60, 8 + 8 + 32 + 5);
	put(&f, destination, 8);
	put(&f, fragment, 8);
	tcp(&f, 0, 1000, 5);
	assert_true(parse(&f, &p));
	assert_true(p.partial);
	f.data[14 + 40 + 8 + 2] = 1;
	assert_false(parse(&f, &p));
	/* A chain of them without an end. */
	ethernet(&f, WIRE_TYPE_IP6);
	ip6(&f, 60, 8 * 8 + 32);
	for (i = 0; i < 8; i++)
		put(&f, (uint8_t[8]){ 60, 0 }, 8);
	tcp(&f, 0, 1000, 0);
	assert_false(parse(&f, &p));
}

static void test_bare(void **state)
{
	struct wire_packet p;
	struct frame f = { .len = 0 };

	(void)state;
	ip4(&f, 6, 32 + 3, 0, 5);
	tcp(&f, ABI_TCP_RST, 1000, 3);
	assert_true(wire_parse(f.data, f.data + f.len, f.len, 0, &p));
	assert_int_equal(p.payload_len, 3);
	assert_int_equal(p.flags, ABI_TCP_RST);
	assert_false(parse(&f, &p));
}

/* However a frame is cut, nothing beyond its end is read (the sanitisers look) or believed. */
static void test_cut(void **state)
{
	struct wire_packet p;
	struct frame f;
	size_t n;

	(void)state;
	ethernet(&f, WIRE_TYPE_IP4);
	ip4(&f, 6, 32 + 100, 0, 5);
	tcp(&f, 0, 1000, 100);
	for (n = 0; n < f.len; n++) {
		if (wire_parse(f.data, f.data + n, n, 1, &p))
			assert_true(p.partial && !p.payload_len);
	}
	/* Its rest lies elsewhere, and is not needed. */
	assert_true(wire_parse(f.data, f.data + 54, f.len, 1, &p));
	assert_int_equal(p.payload_len, 100);
}

static void stun(struct frame *f, unsigned int type, const char *software)
{
	ethernet(f, WIRE_TYPE_IP4);
	ip4(f, 17, 8 + 40, 0, 5);
	put16(f, 40000);
	put16(f, 3478);
	put16(f, 48);
	put16(f, 0);
	put16(f, type);
	put16(f, 20);
	put32(f, WIRE_STUN_COOKIE);
	put(f, "transactions", 12);
	put16(f, 0x8022);
	put16(f, 8);
	put(f, software, 8);
	put16(f, 0x8028);
	put16(f, 4);
	put32(f, 0x12345678);
}

static void test_stun(void **state)
{
	struct wire_packet p;
	struct frame f;

	(void)state;
	stun(&f, WIRE_STUN_REQUEST, "tailnode");
	assert_true(parse(&f, &p));
	assert_int_equal(p.proto, WIRE_UDP);
	assert_int_equal(p.dport, 3478);
	assert_true(p.stun);
	f.len--;
	assert_true(parse(&f, &p));
	assert_false(p.stun);
	/* Relays leave those of scanners without an answer: they prove nothing. */
	stun(&f, WIRE_STUN_REQUEST, "libjingl");
	assert_true(parse(&f, &p));
	assert_false(p.stun);
	stun(&f, WIRE_STUN_SUCCESS, "tailnode");
	assert_true(parse(&f, &p));
	assert_false(p.stun);
}

/* --- how far the bytes have come ------------------------------------------------------------- */

static void follow(uint32_t start)
{
	struct abi_wire_flow f = { 0 };

	assert_false(wire_follow(&f, start, start + 100));
	assert_false(wire_follow(&f, start + 100, start + 200));
	assert_int_equal(f.base, start);
	assert_int_equal(f.next, start + 200);
	/* Again, and an older part of it. */
	assert_true(wire_follow(&f, start + 100, start + 200));
	assert_true(wire_follow(&f, start + 50, start + 60));
	assert_int_equal(f.next, start + 200);
	/* A hole: what lies beyond it is not what has come. */
	assert_false(wire_follow(&f, start + 300, start + 400));
	assert_false(wire_follow(&f, start + 400, start + 500));
	assert_true(wire_follow(&f, start + 280, start + 300));
	assert_int_equal(f.next, start + 200);
	assert_int_equal(f.highest, start + 500);
	/* A second hole is not remembered, and so stays one. */
	assert_false(wire_follow(&f, start + 600, start + 700));
	assert_true(wire_follow(&f, start + 200, start + 280));
	assert_int_equal(f.next, start + 500);
	assert_true(wire_follow(&f, start + 500, start + 600));
	assert_int_equal(f.next, start + 600);
	/* Partly old. */
	assert_false(wire_follow(&f, start + 550, start + 800));
	assert_int_equal(f.next, start + 800);
	assert_int_equal(f.base, start);
}

static void test_follow(void **state)
{
	(void)state;
	follow(1000);
	follow(0xffffff80);
	follow(0x7fffff80);
}

static void test_follow_for_long(void **state)
{
	struct abi_wire_flow f = { 0 };
	uint32_t at = 5, i;

	(void)state;
	for (i = 0; i < 1000; i++, at += 1u << 24) {
		assert_false(wire_follow(&f, at, at + (1u << 24)));
		assert_int_equal(f.next, at + (1u << 24));
		assert_true(wire_after(f.next, f.base));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ip4),
		cmocka_unit_test(test_tags),
		cmocka_unit_test(test_ip6_extensions),
		cmocka_unit_test(test_bare),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_stun),
		cmocka_unit_test(test_follow),
		cmocka_unit_test(test_follow_for_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
