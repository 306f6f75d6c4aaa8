// SPDX-License-Identifier: BSD-2-Clause
/* Capture files as a source: who is a node, and what it sees when. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pcap_help.h"

#define FIN 1
#define SYN 2
#define RST 4
#define ACK 16

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

static void raw(struct script_end *from, struct script_end *to, uint8_t flags, uint32_t seq,
		uint32_t ack, const char *data)
{
	const struct script_tcp tcp = { &from->addr, &to->addr, seq, ack, flags, data, strlen(data) };

	pcap_script_tcp(&script, &tcp);
}

static const struct pcap_seen_event *opened(size_t n)
{
	return pcap_seen_find(&seen, CAPTURE_CONN_OPEN, n);
}

static const struct pcap_seen_event *closed(size_t n)
{
	return pcap_seen_find(&seen, CAPTURE_CONN_CLOSE, n);
}

/* --- one connection ----------------------------------------------------------------------- */

static void test_from_start(void **state)
{
	struct script_end c = end_of("10.0.0.9", 40000, 100), s = end_of("10.0.0.1", 443, 0xfffffff0);
	const struct pcap_seen_event *e;
	bool swapped = *state;

	pcap_script_begin(&script, 1, swapped);
	talk(&c, &s, 7);
	pcap_script_run(&script, NULL, &seen);
	assert_int_equal(seen.result, -ENODATA);
	assert_int_equal(pcap_seen_count(&seen, CAPTURE_NODE_UP), 1);
	e = pcap_seen_find(&seen, CAPTURE_NODE_UP, 0);
	assert_int_equal(e->event.node_up.listener_count, 1);
	assert_int_equal(e->event.time_ns, T0);
	e = opened(0);
	assert_int_equal(e->event.open.role, CAPTURE_ACCEPTED);
	assert_true(e->event.open.from_start);
	assert_int_equal(e->event.open.in_isn, 101);
	assert_int_equal(e->event.open.out_isn, 0xfffffff1);
	assert_true(addr_equal(&e->event.open.local, &s.addr));
	assert_true(addr_equal(&e->event.open.remote, &c.addr));
	assert_null(opened(1));
	assert_null(closed(0));
	/* It opens when the handshake is answered; the SYN itself stays before it. */
	e = pcap_seen_find(&seen, CAPTURE_SEGMENT, 0);
	assert_int_equal(e->event.segment.dir, CAPTURE_OUT);
	assert_int_equal(e->event.segment.flags, CAPTURE_SYN);
	e = pcap_seen_find(&seen, CAPTURE_SEGMENT, 1);
	assert_int_equal(e->event.segment.dir, CAPTURE_IN);
	assert_int_equal(e->event.segment.seq, 101);
	assert_int_equal(e->data[0], 22);
}

/* What TCP took is told with its arrival: the acknowledgement comes after the relay has sent it on. */
static void test_arrival(void **state)
{
	struct script_end c = end_of("10.0.0.9", 40000, 100), s = end_of("10.0.0.1", 443, 500);
	const struct pcap_seen_event *segment, *facts;
	size_t i, facts_at = 0;

	(void)state;
	pcap_script_begin(&script, 1, false);
	talk(&c, &s, 7);
	raw(&c, &s, ACK, c.seq, c.ack, "hello");
	raw(&s, &c, ACK, s.seq, c.seq, "on its way");
	script.now_ns += 40 * MS;
	raw(&s, &c, ACK, s.seq + 10, c.seq + 5, "");
	/* Never acknowledged: it has not arrived. */
	raw(&c, &s, ACK, c.seq + 5, c.ack, "lost");
	pcap_script_run(&script, NULL, &seen);
	segment = pcap_seen_find(&seen, CAPTURE_SEGMENT, 3);
	assert_memory_equal(segment->data, "hello", 5);
	assert_int_equal(segment->facts.rcv_nxt, c.seq);
	for (i = 0; i < seen.count && !facts_at; i++) {
		if (&seen.all[i] == segment)
			facts_at = i + 1;
	}
	facts = &seen.all[facts_at];
	assert_int_equal(facts->event.type, CAPTURE_FACTS);
	assert_int_equal(facts->facts.rcv_nxt, c.seq + 5);
	assert_int_equal(facts->event.time_ns, segment->event.time_ns);
	for (i = 0; i < seen.count; i++) {
		if (seen.all[i].has_facts)
			assert_true((int32_t)(c.seq + 5 - seen.all[i].facts.rcv_nxt) >= 0);
	}
}

/* A hole is filled by a retransmission, and what lay behind it arrives with it. */
static void test_hole(void **state)
{
	struct script_end c = end_of("10.0.0.9", 40000, 100), s = end_of("10.0.0.1", 443, 500);
	const struct pcap_seen_event *e;

	(void)state;
	pcap_script_begin(&script, 1, false);
	talk(&c, &s, 7);
	raw(&c, &s, ACK, c.seq + 8, c.ack, "cccc");
	raw(&c, &s, ACK, c.seq + 4, c.ack, "bbbb");
	raw(&c, &s, ACK, c.seq, c.ack, "aaaa");
	raw(&s, &c, ACK, s.seq, c.seq + 12, "");
	pcap_script_run(&script, NULL, &seen);
	e = pcap_seen_find(&seen, CAPTURE_SEGMENT, 5);
	assert_memory_equal(e->data, "aaaa", 4);
	assert_int_equal(e->facts.rcv_nxt, c.seq);
	assert_int_equal(e[1].event.type, CAPTURE_FACTS);
	assert_int_equal(e[1].facts.rcv_nxt, c.seq + 12);
}

static void test_midstream(void **state)
{
	struct script_end c = end_of("10.0.0.9", 40000, 100), s = end_of("10.0.0.1", 443, 500);
	const struct pcap_seen_event *e;

	(void)state;
	c.ack = 500;
	s.ack = 100;
	pcap_script_begin(&script, 1, false);
	pcap_script_say(&script, &s, &c, "\x17\x03\x03\x00\x03xyz", 8);
	pcap_script_run(&script, NULL, &seen);
	e = opened(0);
	assert_false(e->event.open.from_start);
	assert_int_equal(e->event.open.role, CAPTURE_ACCEPTED);
	assert_true(addr_equal(&e->event.open.local, &s.addr));
}

/* --- ends --------------------------------------------------------------------------------- */

static void test_fin(void **state)
{
	struct script_end c = end_of("10.0.0.9", 40000, 100), s = end_of("10.0.0.1", 443, 500);

	(void)state;
	pcap_script_begin(&script, 1, false);
	talk(&c, &s, 7);
	raw(&c, &s, FIN | ACK, c.seq, c.ack, "");
	raw(&s, &c, FIN | ACK, s.seq, c.seq + 1, "");
	raw(&c, &s, ACK, c.seq + 1, s.seq + 1, "");
	script.now_ns += 1000 * MS;
	c = end_of("10.0.0.9", 40001, 100);
	s.seq = 9000;
	talk(&c, &s, 8);
	pcap_script_run(&script, NULL, &seen);
	assert_int_equal(closed(0)->event.close.how, CAPTURE_CLOSED_FIN);
	assert_true(closed(0)->event.close.fin_in && closed(0)->event.close.fin_out);
	assert_int_equal(closed(0)->event.conn, opened(0)->event.conn);
	assert_null(closed(1));
}

static void test_reset(void **state)
{
	struct script_end c = end_of("10.0.0.9", 40000, 100), s = end_of("10.0.0.1", 443, 500);

	(void)state;
	pcap_script_begin(&script, 1, false);
	talk(&c, &s, 7);
	/* Forged: outside of what the node would accept. */
	raw(&c, &s, RST, c.seq + 77777, 0, "");
	pcap_script_say(&script, &c, &s, "more", 4);
	raw(&c, &s, RST | ACK, c.seq, c.ack, "");
	pcap_script_run(&script, NULL, &seen);
	assert_int_equal(pcap_seen_count(&seen, CAPTURE_CONN_CLOSE), 1);
	assert_int_equal(closed(0)->event.close.how, CAPTURE_CLOSED_RST_IN);
	assert_int_equal(closed(0)->event.time_ns, script.now_ns - MS);
}

/* The same addresses again: another connection, with numbers of its own. */
static void test_reused_port(void **state)
{
	struct script_end c = end_of("10.0.0.9", 40000, 100), s = end_of("10.0.0.1", 443, 500);

	(void)state;
	pcap_script_begin(&script, 1, false);
	talk(&c, &s, 7);
	c = end_of("10.0.0.9", 40000, 70000);
	s.seq = 80000;
	talk(&c, &s, 8);
	pcap_script_run(&script, NULL, &seen);
	assert_int_equal(pcap_seen_count(&seen, CAPTURE_CONN_OPEN), 2);
	assert_int_equal(closed(0)->event.close.how, CAPTURE_CLOSED_UNKNOWN);
	assert_int_not_equal(opened(0)->event.conn, opened(1)->event.conn);
	assert_int_equal(opened(1)->event.open.in_isn, 70001);
}

/* A node's dials: one is refused, one never answered. */
static void test_dials(void **state)
{
	struct script_end c = end_of("10.0.0.9", 40000, 100), s = end_of("10.0.0.1", 443, 500);
	struct script_end a = end_of("10.0.0.1", 50000, 10), b = end_of("10.0.0.2", 443, 20);
	struct script_end d = end_of("10.0.0.1", 50001, 10), gone = end_of("10.0.0.3", 443, 20);

	(void)state;
	pcap_script_begin(&script, 1, false);
	talk(&c, &s, 7);
	raw(&a, &b, SYN, 10, 0, "");
	raw(&b, &a, RST | ACK, 0, 11, "");
	raw(&d, &gone, SYN, 10, 0, "");
	script.now_ns += 1000 * MS;
	raw(&d, &gone, SYN, 10, 0, "");
	script.now_ns += 5000 * MS;
	pcap_script_say(&script, &c, &s, "x", 1);
	pcap_script_run(&script, NULL, &seen);
	assert_int_equal(pcap_seen_count(&seen, CAPTURE_NODE_UP), 1);
	assert_int_equal(opened(1)->event.open.role, CAPTURE_DIALLED);
	assert_int_equal(opened(1)->event.node, opened(0)->event.node);
	assert_int_equal(closed(0)->event.close.how, CAPTURE_CLOSED_REFUSED);
	assert_int_equal(closed(0)->event.conn, opened(1)->event.conn);
	assert_int_equal(closed(1)->event.close.how, CAPTURE_CLOSED_NO_ANSWER);
	assert_int_equal(closed(1)->event.conn, opened(2)->event.conn);
}

/* --- nodes -------------------------------------------------------------------------------- */

/* On the way between two nodes: what the one dials, the other accepts, and both say so. */
static void test_two_nodes(void **state)
{
	struct script_end c = end_of("10.0.0.9", 40000, 1), d = end_of("10.0.0.9", 40001, 1);
	struct script_end s = end_of("10.0.0.1", 443, 5), t = end_of("10.0.0.2", 443, 5);
	struct script_end mesh = end_of("10.0.0.1", 50000, 3), accept = end_of("10.0.0.2", 443, 9);
	const struct pcap_seen_event *e;
	size_t i, out_at = 0;

	(void)state;
	pcap_script_begin(&script, 1, false);
	talk(&c, &s, 7);
	talk(&d, &t, 8);
	talk(&mesh, &accept, 9);
	pcap_script_say(&script, &mesh, &accept, "forward", 7);
	pcap_script_run(&script, NULL, &seen);
	assert_int_equal(pcap_seen_count(&seen, CAPTURE_NODE_UP), 2);
	assert_int_equal(pcap_seen_count(&seen, CAPTURE_CONN_OPEN), 4);
	assert_int_equal(opened(2)->event.open.role, CAPTURE_DIALLED);
	assert_int_equal(opened(3)->event.open.role, CAPTURE_ACCEPTED);
	assert_int_equal(opened(2)->event.node, opened(0)->event.node);
	assert_int_equal(opened(3)->event.node, opened(1)->event.node);
	for (i = 0; i < seen.count; i++) {
		e = &seen.all[i];
		if (e->event.type != CAPTURE_SEGMENT || memcmp(e->data, "forward", 7))
			continue;
		assert_int_equal(e->event.segment.dir, out_at ? CAPTURE_IN : CAPTURE_OUT);
		out_at = i + 1;
	}
	assert_true(out_at);
}

/* Made on one host: the far mesh peer serves nobody here but this node. */
static void test_far_peer(void **state)
{
	struct script_end c = end_of("10.0.0.9", 40000, 1), s = end_of("10.0.0.1", 443, 5);
	struct script_end out = end_of("10.0.0.1", 50000, 3), far = end_of("10.0.0.2", 443, 9);
	struct script_end in = end_of("10.0.0.2", 50000, 3), near = end_of("10.0.0.1", 443, 9);

	(void)state;
	pcap_script_begin(&script, 1, false);
	talk(&c, &s, 7);
	talk(&out, &far, 8);
	talk(&in, &near, 9);
	pcap_script_run(&script, NULL, &seen);
	assert_int_equal(pcap_seen_count(&seen, CAPTURE_NODE_UP), 1);
	assert_int_equal(opened(1)->event.open.role, CAPTURE_DIALLED);
	assert_int_equal(opened(2)->event.open.role, CAPTURE_ACCEPTED);
	assert_null(opened(3));
}

/* Other servers are no nodes, and a client that has one is still a client. */
static void test_other_servers(void **state)
{
	struct script_end c = end_of("10.0.0.9", 40000, 1), s = end_of("10.0.0.1", 443, 5);
	struct script_end d = end_of("10.0.0.8", 40000, 1), ssh = end_of("10.0.0.9", 22, 5);

	(void)state;
	pcap_script_begin(&script, 1, false);
	pcap_script_handshake(&script, &d, &ssh);
	pcap_script_say(&script, &ssh, &d, "SSH-2.0-OpenSSH_9.2\r\n", 21);
	talk(&c, &s, 7);
	pcap_script_run(&script, NULL, &seen);
	assert_int_equal(pcap_seen_count(&seen, CAPTURE_NODE_UP), 1);
	assert_int_equal(pcap_seen_count(&seen, CAPTURE_CONN_OPEN), 1);
	assert_true(addr_equal(&opened(0)->event.open.local, &s.addr));
}

/* Clients call one name and reach two addresses of different families: one node. */
static void test_dual_stack(void **state)
{
	struct script_end c = end_of("10.0.0.9", 40000, 1), s = end_of("10.0.0.1", 443, 5);
	struct script_end d = end_of("fd00::9", 40000, 1), t = end_of("fd00::1", 443, 5);
	uint8_t hello[300];

	(void)state;
	pcap_script_begin(&script, 1, false);
	pcap_script_handshake(&script, &c, &s);
	pcap_script_say(&script, &c, &s, hello, pcap_script_hello(hello, 1, "derp1.example.com"));
	pcap_script_handshake(&script, &d, &t);
	pcap_script_say(&script, &d, &t, hello, pcap_script_hello(hello, 2, "DERP1.example.com"));
	pcap_script_run(&script, NULL, &seen);
	assert_int_equal(pcap_seen_count(&seen, CAPTURE_NODE_UP), 1);
	assert_int_equal(pcap_seen_find(&seen, CAPTURE_NODE_UP, 0)->event.node_up.listener_count, 2);
	assert_int_equal(pcap_seen_count(&seen, CAPTURE_CONN_OPEN), 2);
}

/* What nobody calls by name: two addresses behind one link address are one node that dials from both. */
static void test_link_address(void **state)
{
	struct script_end c = end_of("fd00::9", 40000, 1), s = end_of("fd00::1", 443, 5);
	struct script_end dial = end_of("10.0.0.1", 50000, 3), far = end_of("10.0.0.2", 443, 9);
	struct script_end via[] = { end_of("10.0.0.7", 1, 1), end_of("10.0.0.8", 1, 1) };

	(void)state;
	pcap_script_begin(&script, 1, false);
	talk(&c, &s, 7);
	talk(&dial, &far, 8);
	/* The far end, and others, behind a router. */
	raw(&via[0], &far, SYN, 1, 0, "");
	raw(&via[1], &far, SYN, 1, 0, "");
	pcap_script_run(&script, NULL, &seen);
	assert_int_equal(pcap_seen_count(&seen, CAPTURE_NODE_UP), 1);
	assert_int_equal(pcap_seen_count(&seen, CAPTURE_CONN_OPEN), 2);
	assert_int_equal(opened(1)->event.open.role, CAPTURE_DIALLED);
	assert_int_equal(opened(1)->event.node, opened(0)->event.node);
}

/* On loopback an address tells nothing: each port is a node. */
static void test_loopback(void **state)
{
	struct script_end c = end_of("127.0.0.1", 40000, 1), s = end_of("127.0.0.1", 3340, 5);
	struct script_end d = end_of("127.0.0.1", 40001, 1), t = end_of("127.0.0.1", 3341, 5);

	(void)state;
	pcap_script_begin(&script, 1, false);
	talk(&c, &s, 7);
	talk(&d, &t, 8);
	pcap_script_run(&script, NULL, &seen);
	assert_int_equal(pcap_seen_count(&seen, CAPTURE_NODE_UP), 2);
	assert_int_equal(pcap_seen_count(&seen, CAPTURE_CONN_OPEN), 2);
}

/* A scrape over loopback is the node's whose port it is; what else listens there is nobody. */
static void test_loopback_beside(void **state)
{
	struct script_end c = end_of("10.0.0.9", 40000, 1), s = end_of("10.0.0.1", 443, 5);
	struct script_end d = end_of("127.0.0.1", 40001, 1), t = end_of("127.0.0.1", 443, 5);
	struct script_end e = end_of("127.0.0.1", 40002, 1), u = end_of("127.0.0.1", 8080, 5);

	(void)state;
	pcap_script_begin(&script, 1, false);
	talk(&e, &u, 6);
	talk(&c, &s, 7);
	talk(&d, &t, 8);
	pcap_script_run(&script, NULL, &seen);
	assert_int_equal(pcap_seen_count(&seen, CAPTURE_NODE_UP), 1);
	assert_int_equal(pcap_seen_count(&seen, CAPTURE_CONN_OPEN), 2);
	assert_int_equal(opened(1)->event.node, opened(0)->event.node);
}

/* --- time --------------------------------------------------------------------------------- */

static void test_time(void **state)
{
	struct script_end c = end_of("10.0.0.9", 40000, 1), s = end_of("10.0.0.1", 443, 5);
	uint64_t last_ns = 0;
	size_t i;

	(void)state;
	pcap_script_begin(&script, 1, false);
	talk(&c, &s, 7);
	script.now_ns += 1000 * MS;
	pcap_script_say(&script, &c, &s, "x", 1);
	/* An hour of silence takes few ticks; a packet that was written late goes first. */
	script.now_ns += 3600 * 1000 * MS;
	pcap_script_say(&script, &c, &s, "later", 5);
	script.now_ns -= 500 * MS;
	pcap_script_say(&script, &s, &c, "earlier", 7);
	pcap_script_run(&script, NULL, &seen);
	assert_int_equal(seen.result, -ENODATA);
	assert_in_range(pcap_seen_count(&seen, CAPTURE_TICK), 10 + 50, 10 + 50 + 200);
	for (i = 0; i < seen.count; i++) {
		assert_true(seen.all[i].event.time_ns >= last_ns);
		last_ns = seen.all[i].event.time_ns;
	}
	assert_int_equal(seen.all[seen.count - 1].event.type, CAPTURE_TICK);
	/* No time passes that did not. */
	assert_true(last_ns <= T0 + (3600 + 2) * 1000 * MS);
	assert_memory_equal(pcap_seen_find(&seen, CAPTURE_SEGMENT, 4)->data, "earlier", 7);
}

int main(void)
{
	static bool yes = true;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_from_start),
		cmocka_unit_test_prestate(test_from_start, &yes),
		cmocka_unit_test(test_arrival),
		cmocka_unit_test(test_hole),
		cmocka_unit_test(test_midstream),
		cmocka_unit_test(test_fin),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_reused_port),
		cmocka_unit_test(test_dials),
		cmocka_unit_test(test_two_nodes),
		cmocka_unit_test(test_far_peer),
		cmocka_unit_test(test_other_servers),
		cmocka_unit_test(test_dual_stack),
		cmocka_unit_test(test_link_address),
		cmocka_unit_test(test_loopback),
		cmocka_unit_test(test_loopback_beside),
		cmocka_unit_test(test_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
