// SPDX-License-Identifier: BSD-2-Clause
/* Frames of every link type, and IP as it comes: options, extensions, fragments, no lengths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "capture/pcap.h"
#include "pcap_help.h"

static uint8_t frame[400];

static enum pcap_parse parse(int linktype, size_t captured, size_t len, struct pcap_segment *s)
{
	/* Exactly so long, for the sanitizer to see what lies beyond. */
	uint8_t *copy = malloc(captured ? captured : 1);
	struct pcap_packet p = { .data = copy, .captured = (uint32_t)captured, .len = (uint32_t)len };
	enum pcap_parse result;

	assert_non_null(copy);
	memcpy(copy, frame, captured);
	result = pcap_packet_parse(&p, linktype, s);
	if (result == PCAP_IS_TCP && s->captured)
		s->seq = s->data[0];	/* the copy is gone afterwards */
	free(copy);
	return result;
}

/* A segment of @payload bytes 'x' behind @at bytes of whatever is there. */
static size_t make_ip(size_t at, int family, size_t payload)
{
	struct addr a = pcap_script_addr(family == 4 ? "10.0.0.1" : "fd00::1", 1111);
	struct addr b = pcap_script_addr(family == 4 ? "10.0.0.2" : "fd00::2", 443);
	uint8_t data[100];
	const struct script_tcp tcp = { &a, &b, 5, 6, 16, data, payload };

	memset(data, 'x', sizeof(data));
	return at + pcap_script_ip(frame + at, &tcp);
}

static void assert_read(int linktype, size_t len)
{
	struct pcap_segment s;

	assert_int_equal(parse(linktype, len, len, &s), PCAP_IS_TCP);
	assert_int_equal(s.src.port, 1111);
	assert_int_equal(s.dst.port, 443);
	assert_int_equal(s.len, 7);
	assert_int_equal(s.captured, 7);
	assert_int_equal(s.seq, 'x');
}

static void test_links(void **state)
{
	static const struct {
		int linktype;
		size_t header, type_at;
	} links[] = {
		{ 0, 4, 0 }, { 108, 4, 0 }, { 1, 14, 12 }, { 12, 0, 0 }, { 14, 0, 0 }, { 101, 0, 0 },
		{ 113, 16, 14 }, { 276, 20, 0 }, { 228, 0, 0 }, { 229, 0, 0 },
	};
	struct pcap_segment s;
	size_t i, n, cut;
	int family;

	(void)state;
	for (i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
		for (family = 4; family <= 6; family += 2) {
			memset(frame, 0, sizeof(frame));
			n = make_ip(links[i].header, family, 7);
			if (links[i].header > 4)
				memcpy(frame + links[i].type_at, family == 4 ? "\x08\0" : "\x86\xdd", 2);
			assert_read(links[i].linktype, n);
			/* Cut anywhere, it is never read beyond its end. */
			for (cut = 0; cut < n; cut++)
				parse(links[i].linktype, cut, n, &s);
		}
	}
	assert_int_equal(parse(105, 100, 100, &s), PCAP_IS_UNREADABLE);
}

static void test_tags(void **state)
{
	size_t n;

	(void)state;
	memset(frame, 0, sizeof(frame));
	memcpy(frame + 12, "\x88\xa8\0\1\x81\0\0\2\x08\0", 10);
	n = make_ip(22, 4, 7);
	assert_read(1, n);
	/* Behind a Linux cooked header, too. */
	memset(frame, 0, sizeof(frame));
	memcpy(frame + 14, "\x81\0\0\2\x86\xdd", 6);
	assert_read(113, make_ip(20, 6, 7));
}

static void test_direction(void **state)
{
	struct pcap_segment s;
	size_t n;

	(void)state;
	memset(frame, 0, sizeof(frame));
	memcpy(frame + 14, "\x08", 1);
	n = make_ip(16, 4, 7);
	parse(113, n, n, &s);
	assert_int_equal(s.direction, PCAP_INBOUND);
	frame[1] = 4;
	parse(113, n, n, &s);
	assert_int_equal(s.direction, PCAP_OUTBOUND);
}

static void test_lengths(void **state)
{
	struct pcap_segment s;
	size_t n;

	(void)state;
	memset(frame, 0, sizeof(frame));
	memcpy(frame + 12, "\x08", 1);
	/* Padding to Ethernet's shortest frame is no payload. */
	n = make_ip(14, 4, 2);
	assert_int_equal(parse(1, 60, 60, &s), PCAP_IS_TCP);
	assert_int_equal(s.len, 2);
	/* Cut: what was sent is known, what is there too. */
	n = make_ip(14, 4, 50);
	assert_int_equal(parse(1, n - 20, n, &s), PCAP_IS_TCP);
	assert_int_equal(s.len, 50);
	assert_int_equal(s.captured, 30);
	/* Too long for a length: offloaded, or a jumbogram. */
	frame[16] = frame[17] = 0;
	assert_int_equal(parse(1, n, n, &s), PCAP_IS_TCP);
	assert_int_equal(s.len, 50);
	n = make_ip(0, 6, 50);
	frame[4] = frame[5] = 0;
	assert_int_equal(parse(101, n, n, &s), PCAP_IS_TCP);
	assert_int_equal(s.len, 50);
	/* Headers that are longer than the packet. */
	n = make_ip(0, 4, 0);
	frame[32] = 0xf0;
	assert_int_equal(parse(101, n, n, &s), PCAP_IS_OTHER);
	n = make_ip(0, 4, 0);
	frame[0] = 0x4f;
	assert_int_equal(parse(101, n, n, &s), PCAP_IS_OTHER);
}

static void test_fragments(void **state)
{
	struct pcap_segment s;
	size_t n = make_ip(0, 4, 7);

	(void)state;
	frame[6] = 0x20;
	assert_int_equal(parse(101, n, n, &s), PCAP_IS_FRAGMENT);
	frame[6] = 0x40;
	assert_int_equal(parse(101, n, n, &s), PCAP_IS_TCP);
	/* A fragment header of a packet that is whole is passed over. */
	n = make_ip(8, 6, 7);
	memmove(frame, frame + 8, 40);
	frame[6] = 44;
	frame[5] = (uint8_t)(frame[5] + 8);
	memcpy(frame + 40, "\6\0\0\0\0\0\0\1", 8);
	assert_int_equal(parse(101, n, n, &s), PCAP_IS_TCP);
	assert_int_equal(s.len, 7);
	frame[43] = 1;
	assert_int_equal(parse(101, n, n, &s), PCAP_IS_FRAGMENT);
}

static void test_extensions(void **state)
{
	struct pcap_segment s;
	size_t n = make_ip(24, 6, 7);

	(void)state;
	memmove(frame, frame + 24, 40);
	frame[6] = 0;
	frame[5] = (uint8_t)(frame[5] + 24);
	memset(frame + 40, 0, 24);
	memcpy(frame + 40, "\x3c\1", 2);	/* hop by hop, 16 bytes, then destination options */
	frame[56] = 6;
	assert_int_equal(parse(101, n, n, &s), PCAP_IS_TCP);
	assert_int_equal(s.len, 7);
	frame[56] = 17;
	assert_int_equal(parse(101, n, n, &s), PCAP_IS_OTHER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_links),
		cmocka_unit_test(test_tags),
		cmocka_unit_test(test_direction),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_fragments),
		cmocka_unit_test(test_extensions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
