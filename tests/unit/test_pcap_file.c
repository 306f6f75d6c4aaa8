// SPDX-License-Identifier: BSD-2-Clause
/* Capture files of both formats: blocks, byte orders, times, secrets, and what is said of bad ones. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pcap_help.h"

#define SYN 2
#define ACK 16

#define RANDOM_HEX "0707070707070707070707070707070707070707070707070707070707070707"

static struct pcap_script script;
static struct pcap_seen seen;

static struct script_end end_of(const char *ip, uint16_t port, uint32_t seq)
{
	return (struct script_end){ .addr = pcap_script_addr(ip, port), .seq = seq };
}

/* A client of a relay: handshake, ClientHello, an answer. */
static void talk(struct script_end *client, struct script_end *server, uint8_t random)
{
	uint8_t hello[300];

	pcap_script_handshake(&script, client, server);
	pcap_script_say(&script, client, server, hello, pcap_script_hello(hello, random, NULL));
	pcap_script_say(&script, server, client, "\x16\x03\x03\x00\x01\x02", 6);
}

static const struct pcap_seen_event *opened(size_t n)
{
	return pcap_seen_find(&seen, CAPTURE_CONN_OPEN, n);
}

/* --- pcapng, secrets ---------------------------------------------------------------------- */

static void test_pcapng(void **state)
{
	struct script_end c = end_of("10.0.0.9", 40000, 1), s = end_of("10.0.0.1", 443, 5);
	struct script_end d = end_of("10.0.0.8", 40000, 1);
	bool swapped = *state;

	pcap_script_begin_ng(&script, swapped, "dumpcap");
	pcap_script_interface(&script, 1, "eth0", 9, 0);
	pcap_script_interface(&script, 101, "tun0", 9, 0);
	pcap_script_block(&script, 0x0bad, "skipped", 7);
	pcap_script_secrets(&script, "CLIENT_TRAFFIC_SECRET_0 " RANDOM_HEX " " RANDOM_HEX "\nrubbish\n");
	script.linktype = 1;
	talk(&c, &s, 7);
	script.interface = 1;
	script.linktype = 101;
	talk(&d, &s, 8);
	pcap_script_run(&script, "# mine\nSERVER_TRAFFIC_SECRET_0 " RANDOM_HEX " " RANDOM_HEX "\r\n"
			    "CLIENT_RANDOM 12 34\nQUIC_LABEL a b\n", &seen);
	assert_string_equal(seen.error, "");
	assert_int_equal(pcap_seen_count(&seen, CAPTURE_CONN_OPEN), 2);
	assert_int_equal(pcap_seen_count(&seen, CAPTURE_SECRET), 2);
	assert_string_equal(pcap_seen_find(&seen, CAPTURE_SECRET, 0)->text, "CLIENT_TRAFFIC_SECRET_0");
	assert_string_equal(pcap_seen_find(&seen, CAPTURE_SECRET, 1)->text, "SERVER_TRAFFIC_SECRET_0");
	assert_true(pcap_seen_find(&seen, CAPTURE_SECRET, 1) < opened(0));
	/* What is no secret is named with its line; the rest is used. */
	assert_int_equal(seen.result, -EBADMSG);
	assert_non_null(strstr(seen.complaints, "line 2: not LABEL"));
	assert_non_null(strstr(seen.complaints, "line 3: the client random"));
	assert_null(strstr(seen.complaints, "line 4"));
}

static void test_resolution(void **state)
{
	struct script_end c = end_of("10.0.0.9", 40000, 1), s = end_of("10.0.0.1", 443, 5);

	(void)state;
	pcap_script_begin_ng(&script, false, NULL);
	pcap_script_interface(&script, 1, "eth0", 0x80 | 10, 1000);
	script.now_ns = 5 * 1024 + 512;
	talk(&c, &s, 7);
	pcap_script_run(&script, NULL, &seen);
	assert_int_equal(pcap_seen_find(&seen, CAPTURE_READY, 0)->event.time_ns, 1005500000000ULL);
}

/* Two interfaces of a file that derptrace wrote: a node each, by the direction of its packets. */
static void test_own_file(void **state)
{
	struct script_end c = end_of("10.0.0.1", 40000, 1), s = end_of("10.0.0.2", 443, 5);
	uint8_t frame[200];
	const struct script_tcp syn = { &c.addr, &s.addr, 1, 0, SYN, NULL, 0 };
	const struct script_tcp answer = { &s.addr, &c.addr, 5, 2, SYN | ACK, NULL, 0 };
	const struct script_tcp get = { &c.addr, &s.addr, 2, 6, ACK, "GET / HTTP/1.1\r\n\r\n", 18 };
	const struct script_tcp done = { &s.addr, &c.addr, 6, 20, ACK, NULL, 0 };
	const struct script_tcp *all[] = { &syn, &answer, &get, &done };
	size_t i, n;

	(void)state;
	pcap_script_begin_ng(&script, false, "derptrace 0.1.0");
	pcap_script_interface(&script, 101, "derper:11", 9, 0);
	pcap_script_interface(&script, 101, "derper:12", 9, 0);
	for (i = 0; i < 8; i++) {
		n = pcap_script_ip(frame, all[i / 2]);
		script.interface = i % 2;
		script.flags = (all[i / 2]->src == &c.addr) == (i % 2 == 0) ? 2 : 1;
		pcap_script_packet(&script, frame, n, n);
	}
	pcap_script_run(&script, NULL, &seen);
	assert_string_equal(seen.complaints, "");
	assert_int_equal(pcap_seen_count(&seen, CAPTURE_NODE_UP), 2);
	assert_string_equal(pcap_seen_find(&seen, CAPTURE_NODE_UP, 0)->text, "derper:11");
	assert_string_equal(pcap_seen_find(&seen, CAPTURE_NODE_UP, 1)->text, "derper:12");
	assert_int_equal(pcap_seen_count(&seen, CAPTURE_CONN_OPEN), 2);
	assert_int_equal(opened(0)->event.open.role, CAPTURE_DIALLED);
	assert_int_equal(opened(0)->event.node, 1);
	assert_int_equal(opened(1)->event.open.role, CAPTURE_ACCEPTED);
	assert_int_equal(opened(1)->event.node, 2);
}

/* --- bad files ---------------------------------------------------------------------------- */

static void test_cut(void **state)
{
	struct script_end c = end_of("10.0.0.9", 40000, 1), s = end_of("10.0.0.1", 443, 5);
	bool ng = *state;
	size_t whole;
	char byte[32];

	if (ng) {
		pcap_script_begin_ng(&script, false, NULL);
		pcap_script_interface(&script, 1, "eth0", 9, 0);
	} else {
		pcap_script_begin(&script, 1, false);
	}
	talk(&c, &s, 7);
	whole = script.len;
	pcap_script_say(&script, &c, &s, "cut", 3);
	script.len = whole + 20;
	pcap_script_run(&script, NULL, &seen);
	assert_int_equal(seen.result, -EBADMSG);
	snprintf(byte, sizeof(byte), "damaged at byte %zu: ", whole);
	assert_non_null(strstr(seen.complaints, byte));
	assert_non_null(strstr(seen.complaints, "/proc/self/fd/"));
	assert_int_equal(pcap_seen_count(&seen, CAPTURE_CONN_OPEN), 1);
	assert_int_equal(pcap_seen_count(&seen, CAPTURE_SEGMENT), 3);
}

static void test_hostile_blocks(void **state)
{
	static const struct {
		uint32_t type;
		const char *body;
		size_t len;
		const char *what;
	} bad[] = {
		{ 6, "\x09\0\0\0" "1234567890123456", 20, "interface that is not described" },
		{ 6, "\0\0\0\0" "12345678" "\xff\xff\xff\x7f" "1234", 20, "longer than its block" },
		{ 6, "1234", 4, "too short" },
		{ 3, "", 0, "too short" },
		{ 1, "1234", 4, "too short" },
		{ 10, "KSLT" "\xff\xff\0\0", 8, "longer than their block" },
		{ 0x0a0d0d0a, "\x4d\x3c\x2b\x1a" "\x09\0\0\0" "12345678", 16, "version" },
	};
	struct script_end c = end_of("10.0.0.9", 40000, 1), s = end_of("10.0.0.1", 443, 5);
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		pcap_script_begin_ng(&script, false, NULL);
		pcap_script_interface(&script, 1, "eth0", 9, 0);
		talk(&c, &s, 7);
		pcap_script_block(&script, bad[i].type, bad[i].body, bad[i].len);
		pcap_script_run(&script, NULL, &seen);
		assert_non_null(strstr(seen.complaints, bad[i].what));
		assert_int_equal(pcap_seen_count(&seen, CAPTURE_CONN_OPEN), 1);
	}
	/* Lengths that differ, that are odd, that claim gigabytes which are not there. */
	pcap_script_begin_ng(&script, false, NULL);
	script.bytes[script.len - 4] ^= 4;
	pcap_script_run(&script, NULL, &seen);
	assert_non_null(strstr(seen.complaints, "two lengths differ"));
	pcap_script_begin_ng(&script, false, NULL);
	pcap_script_block(&script, 6, "", 0);
	memcpy(script.bytes + script.len - 8, "\xf0\xff\xff\xff", 4);
	pcap_script_run(&script, NULL, &seen);
	assert_non_null(strstr(seen.complaints, "longer than any"));
	pcap_script_begin_ng(&script, false, NULL);
	pcap_script_block(&script, 77, "", 0);
	memcpy(script.bytes + script.len - 8, "\xf0\xff\xff\xff", 4);
	pcap_script_run(&script, NULL, &seen);
	assert_non_null(strstr(seen.complaints, "ends inside a block"));
}

static void test_no_capture(void **state)
{
	struct capture_error err;

	(void)state;
	memset(&script, 0, sizeof(script));
	memcpy(script.bytes, "hello, world, this is no capture", 32);
	script.len = 32;
	pcap_script_run(&script, NULL, &seen);
	assert_non_null(strstr(seen.error, "not a .pcap or .pcapng file"));
	assert_null(capture_file_open("/nonexistent/a.pcap", NULL, &err));
	assert_non_null(strstr(err.text, "/nonexistent/a.pcap: cannot read: No such file"));
	assert_null(capture_file_open("/dev/null", NULL, &err));
	assert_non_null(strstr(err.text, "not a file"));
	pcap_script_begin(&script, 1, false);
	pcap_script_run(&script, NULL, &seen);
	assert_non_null(strstr(seen.complaints, "no relay was captured"));
	pcap_script_begin(&script, 105, false);
	pcap_script_packet(&script, "802.11", 6, 6);
	pcap_script_run(&script, NULL, &seen);
	assert_non_null(strstr(seen.complaints, "link type 105"));
}

int main(void)
{
	static bool yes = true;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pcapng),
		cmocka_unit_test_prestate(test_pcapng, &yes),
		cmocka_unit_test(test_resolution),
		cmocka_unit_test(test_own_file),
		cmocka_unit_test(test_cut),
		cmocka_unit_test_prestate(test_cut, &yes),
		cmocka_unit_test(test_hostile_blocks),
		cmocka_unit_test(test_no_capture),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
