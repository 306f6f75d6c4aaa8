// SPDX-License-Identifier: BSD-2-Clause
/* The books of one node: one scenario for each rule. The law is asserted after every event. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "latency.h"
#include "ledger_help.h"

/* Peers 1, 2, 3 are on connections 1, 2, 3. */
#define P(n) ((struct lh_packet){ .no = (n), .len = 100 })
#define D(n) ((struct lh_packet){ .no = (n), .len = 100, .disco = true })

static struct lh *two_clients(void)
{
	struct lh *t = lh_new(NULL);

	lh_client(t, 1, 1);
	lh_client(t, 2, 2);
	lh_tick(t, 100);
	return t;
}

static void delivers(void **state)
{
	struct lh *t = two_clients();
	const struct lh_pair *p;

	(void)state;
	lh_send(t, 1, 2, P(1));
	lh_check_books(t, 1, 2, BOOKS(1, 0, 1, 0, 0));
	t->now += 1000000;
	lh_recv(t, 2, 1, P(1));
	lh_check_books(t, 1, 2, BOOKS(1, 1, 0, 0, 0));
	p = lh_pair(t, 1, 2);
	assert_int_equal(p->frames[HOP_CLIENT_IN], 1);
	assert_int_equal(p->frames[HOP_CLIENT_OUT], 1);
	assert_int_equal(p->bytes[HOP_CLIENT_IN], 100);
	assert_int_equal(p->bytes[HOP_CLIENT_OUT], 100);
	assert_int_equal(p->first_seen, 0);
	assert_int_equal(buckets_get(p->latency, latency_bucket(1000000)), 1);
	lh_wait(t, 3000);
	lh_check_books(t, 1, 2, BOOKS(1, 1, 0, 0, 0));
	assert_int_equal(t->node.peers, 2);
	lh_free(t);
}

static void exit_before_entry(void **state)
{
	struct lh *t = two_clients();

	(void)state;
	lh_recv(t, 2, 1, P(1));
	lh_check_books(t, 1, 2, BOOKS(0));
	lh_send(t, 1, 2, P(1));
	lh_check_books(t, 1, 2, BOOKS(1, 1, 0, 0, 0));
	/* One that entered before we looked. */
	lh_recv(t, 2, 1, P(2));
	lh_tick(t, 100);
	lh_check_books(t, 1, 2, BOOKS(1, 1, 0, 0, 0));
	lh_tick(t, 100);
	lh_check_books(t, 1, 2, BOOKS(2, 2, 0, 0, 0));
	assert_int_equal(lh_pair(t, 1, 2)->first_seen, 1);
	lh_free(t);
}

static void relay_says_dropped(void **state)
{
	struct lh *t = two_clients();

	(void)state;
	lh_send(t, 1, 2, P(1));
	lh_drop(t, "queue_head", 0, 2, P(1));
	lh_wait(t, 200);
	lh_check_books(t, 1, 2, BOOKS(1, 0, 0, 1, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_QUEUE_HEAD), 1);
	assert_int_equal(t->losses[0].basis, BASIS_RELAY);
	assert_int_equal(t->losses[0].in_conn, 1);
	assert_int_equal(t->losses[0].out_conn, 2);
	assert_int_equal(t->losses[0].bytes, 100);
	/* The drop is told first, without and with its source. */
	lh_drop(t, "queue_tail", 0, 2, P(2));
	lh_send(t, 1, 2, P(2));
	lh_wait(t, 200);
	lh_check_books(t, 1, 2, BOOKS(2, 0, 0, 2, 0));
	lh_drop(t, "unknown_dest", 1, 7, P(3));
	lh_send(t, 1, 7, P(3));
	lh_check_books(t, 1, 7, BOOKS(1, 0, 0, 1, 0));
	/* Nobody told of it before. */
	lh_drop(t, "write_error", 1, 2, P(4));
	lh_drop(t, "some_new_word", 0, 2, P(5));
	lh_wait(t, 300);
	lh_check_books(t, 1, 2, BOOKS(3, 0, 0, 3, 0));
	lh_check_books(t, 0, 2, BOOKS(1, 0, 0, 1, 0));
	assert_int_equal(lh_lost(t, 0, 2, REASON_OTHER), 1);
	lh_free(t);
}

static void a_later_one_left(void **state)
{
	struct lh *t = two_clients();

	(void)state;
	lh_send(t, 1, 2, P(1));
	lh_send(t, 1, 2, P(2));
	lh_send(t, 1, 2, D(3));
	lh_send(t, 1, 2, P(4));
	lh_recv(t, 2, 1, P(2));
	/* Held back, so that the relay's word can come first. */
	lh_check_books(t, 1, 2, BOOKS(4, 1, 3, 0, 0));
	lh_wait(t, 200);
	lh_check_books(t, 1, 2, BOOKS(4, 1, 2, 1, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_QUEUE), 1);
	/* Disco has a queue of its own. */
	lh_recv(t, 2, 1, P(4));
	lh_wait(t, 200);
	lh_check_books(t, 1, 2, BOOKS(4, 2, 1, 1, 0));
	lh_recv(t, 2, 1, D(3));
	lh_check_books(t, 1, 2, BOOKS(4, 3, 0, 1, 0));
	lh_free(t);
}

static void the_word_comes_after_the_inference(void **state)
{
	struct lh *t = two_clients();

	(void)state;
	lh_send(t, 1, 2, P(1));
	lh_send(t, 1, 2, P(2));
	lh_recv(t, 2, 1, P(2));
	lh_tick(t, 100);
	t->now -= 100000000;
	lh_drop(t, "queue_head", 0, 2, P(1));
	lh_wait(t, 3000);
	lh_check_books(t, 1, 2, BOOKS(2, 1, 0, 1, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_QUEUE_HEAD), 1);
	lh_free(t);
}

static void no_route(void **state)
{
	struct lh *t = two_clients();

	(void)state;
	lh_send(t, 1, 7, P(1));
	lh_wait(t, 900);
	lh_check_books(t, 1, 7, BOOKS(1, 0, 1, 0, 0));
	lh_wait(t, 400);
	lh_check_books(t, 1, 7, BOOKS(1, 0, 0, 1, 0));
	assert_int_equal(lh_lost(t, 1, 7, REASON_NO_ROUTE), 1);
	assert_int_equal(t->losses[0].basis, BASIS_INFERRED);
	assert_int_equal(t->losses[0].out_conn, 0);
	/* A packet that the relay has not read yet may still find its destination. */
	t->conns[1].in_read = t->conns[1].in_pos;
	lh_send(t, 1, 7, P(2));
	lh_wait(t, 5000);
	lh_check_books(t, 1, 7, BOOKS(2, 0, 1, 1, 0));
	lh_client(t, 7, 7);
	t->conns[1].in_read = UINT64_MAX;
	lh_recv(t, 7, 1, P(2));
	lh_wait(t, 3000);
	lh_check_books(t, 1, 7, BOOKS(2, 1, 0, 1, 0));
	lh_free(t);
}

/* The drop waits for its entry, when time would conclude. */
static void the_word_waits(void **state)
{
	struct lh *t = two_clients();

	(void)state;
	lh_send(t, 1, 2, P(1));
	lh_wait(t, 1050);
	lh_drop(t, "queue_head", 0, 2, P(1));
	lh_wait(t, 500);
	lh_check_books(t, 1, 2, BOOKS(1, 0, 0, 1, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_QUEUE_HEAD), 1);
	lh_free(t);
}

static void destination_came_too_late(void **state)
{
	struct lh *t = two_clients();

	(void)state;
	lh_send(t, 1, 7, P(1));
	t->now += 1000000;
	lh_client(t, 7, 7);
	lh_wait(t, 3000);
	lh_check_books(t, 1, 7, BOOKS(1, 0, 0, 1, 0));
	assert_int_equal(lh_lost(t, 1, 7, REASON_NO_ROUTE), 1);
	lh_free(t);
}

static void drained(void **state)
{
	struct lh *t = two_clients();

	(void)state;
	lh_send(t, 1, 2, P(1));
	/* Something is stuck in its socket: the queue behind it may hold the packet. */
	t->conns[2].notsent = 500;
	lh_wait(t, 5000);
	lh_check_books(t, 1, 2, BOOKS(1, 0, 1, 0, 0));
	t->conns[2].notsent = 0;
	lh_wait(t, 900);
	lh_check_books(t, 1, 2, BOOKS(1, 0, 1, 0, 0));
	lh_wait(t, 300);
	lh_check_books(t, 1, 2, BOOKS(1, 0, 0, 1, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_QUEUE), 1);
	assert_int_equal(t->losses[0].out_conn, 2);
	lh_free(t);
}

/* Its socket is never empty, but packets of others that came later have left. */
static void overtaken_by_others(void **state)
{
	struct lh *t = two_clients();
	uint32_t no;

	(void)state;
	lh_client(t, 3, 3);
	lh_send(t, 1, 2, P(1));
	t->conns[2].notsent = 500;
	for (no = 10; no < 30; no++) {
		lh_wait(t, 100);
		lh_send(t, 3, 2, P(no));
		lh_recv(t, 2, 3, P(no));
	}
	lh_check_books(t, 1, 2, BOOKS(1, 0, 0, 1, 0));
	lh_free(t);
}

static void entry_ends_unread(void **state)
{
	struct lh *t = two_clients();

	(void)state;
	lh_send(t, 1, 2, P(1));
	t->conns[1].in_read = t->conns[1].in_pos;
	lh_send(t, 1, 2, P(2));
	lh_send(t, 1, 2, P(3));
	lh_recv(t, 2, 1, P(1));
	lh_close(t, 1);
	/* The relay may read on after a reset. */
	lh_recv(t, 2, 1, P(2));
	lh_wait(t, 1200);
	lh_check_books(t, 1, 2, BOOKS(3, 2, 0, 1, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_UNREAD), 1);
	assert_int_equal(t->losses[0].in_conn, 1);
	lh_free(t);
}

/* At its end 300 bytes stood unsent in the socket; the writer's buffer is 2 KiB; the rest was queued. */
static void exit_ends_with_packets_inside(void **state)
{
	struct lh *t = two_clients();
	uint32_t no;

	(void)state;
	for (no = 1; no <= 40; no++)
		lh_send(t, 1, 2, P(no));
	lh_drop(t, "gone_disconnected", 0, 2, P(40));
	t->conns[2].notsent = 300;
	lh_close(t, 2);
	lh_wait(t, 900);
	lh_check_books(t, 1, 2, BOOKS(40, 0, 39, 1, 0));
	lh_wait(t, 300);
	lh_check_books(t, 1, 2, BOOKS(40, 0, 0, 40, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_UNSENT), 2);
	assert_int_equal(lh_lost(t, 1, 2, REASON_UNFLUSHED), 14);
	assert_int_equal(lh_lost(t, 1, 2, REASON_GONE_DISCONNECTED), 24);
	assert_int_equal(t->node.unflushed, 14);
	lh_free(t);
}

static void reconnected_meanwhile(void **state)
{
	struct lh *t = two_clients();

	(void)state;
	lh_send(t, 1, 2, P(1));
	lh_close(t, 2);
	t->now += 10000000;
	lh_client(t, 3, 2);
	lh_send(t, 1, 2, P(2));
	lh_recv(t, 3, 1, P(2));
	lh_wait(t, 900);
	lh_check_books(t, 1, 2, BOOKS(2, 1, 1, 0, 0));
	lh_wait(t, 400);
	lh_check_books(t, 1, 2, BOOKS(2, 1, 0, 1, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_UNFLUSHED), 1);
	assert_int_equal(t->losses[0].out_conn, 2);
	lh_free(t);
}

/* Two connections of one peer: which one carries a packet is not known, so order says nothing. */
static void duplicates(void **state)
{
	struct lh *t = two_clients();

	(void)state;
	lh_client(t, 3, 2);
	t->now += 1000000;
	lh_send(t, 1, 2, P(1));
	lh_send(t, 1, 2, P(2));
	lh_recv(t, 3, 1, P(2));
	lh_wait(t, 600);
	lh_check_books(t, 1, 2, BOOKS(2, 1, 1, 0, 0));
	lh_recv(t, 2, 1, P(1));
	lh_check_books(t, 1, 2, BOOKS(2, 2, 0, 0, 0));
	assert_int_equal(t->node.peers, 2);
	/* One is left: it is the one exit again, for what enters from now on. */
	lh_close(t, 3);
	t->now += 1000000;
	lh_send(t, 1, 2, P(3));
	lh_send(t, 1, 2, P(4));
	lh_recv(t, 2, 1, P(4));
	lh_wait(t, 200);
	lh_check_books(t, 1, 2, BOOKS(4, 3, 0, 1, 0));
	lh_free(t);
}

static void gap_at_the_exit(void **state)
{
	struct lh *t = two_clients();

	(void)state;
	lh_send(t, 1, 2, P(1));
	lh_send(t, 1, 2, P(2));
	lh_gap(t, 2, CAPTURE_OUT, true);
	t->now += 1000000;
	lh_gap(t, 2, CAPTURE_OUT, false);
	lh_send(t, 1, 2, P(3));
	lh_send(t, 1, 2, P(4));
	t->now += 1000000;
	lh_recv(t, 2, 1, P(4));
	lh_wait(t, 200);
	/* What was there during the gap may have left in it; what came later did not. */
	lh_check_books(t, 1, 2, BOOKS(4, 1, 0, 1, 2));
	/* After a second, without a later one. */
	lh_send(t, 1, 2, P(5));
	lh_gap(t, 2, CAPTURE_OUT, true);
	t->now += 1000000;
	lh_gap(t, 2, CAPTURE_OUT, false);
	lh_wait(t, 1300);
	lh_check_books(t, 1, 2, BOOKS(5, 1, 0, 1, 3));
	lh_free(t);
}

static void unreadable_exit(void **state)
{
	struct stream_info info = { .stage = STREAM_TLS, .tls = true };
	struct lh *t = two_clients();

	(void)state;
	info.bytes[CAPTURE_OUT] = 1000;
	/* Open before we came, its secret not found yet: whose it is, nobody knows. */
	lh_open(t, 3, CAPTURE_ACCEPTED, false);
	t->conns[3].out_pos = 1000;
	ledger_info(t->l, 3, &info);
	lh_send(t, 1, 3, P(1));
	lh_wait(t, 4500);
	lh_check_books(t, 1, 3, BOOKS(1, 0, 1, 0, 0));
	lh_wait(t, 700);
	lh_check_books(t, 1, 3, BOOKS(1, 0, 0, 0, 1));
	/* It can be read now: what enters from here on is followed. */
	lh_send(t, 1, 3, P(2));
	info.decrypted = true;
	t->now += 1000000;
	ledger_info(t->l, 3, &info);
	lh_recv(t, 3, 1, P(9));
	t->now += 1000000;
	lh_send(t, 1, 3, P(3));
	lh_send(t, 1, 3, P(4));
	lh_recv(t, 3, 1, P(3));
	lh_recv(t, 3, 1, P(4));
	lh_wait(t, 2000);
	assert_int_equal(lh_pair(t, 1, 3)->books.left, 3);
	assert_int_equal(lh_pair(t, 1, 3)->books.lost, 0);
	assert_int_equal(lh_pair(t, 1, 3)->books.untraced, 2);
	lh_free(t);
}

/* The secret of the sender's connection is found long after its packets have left. */
static void entry_told_very_late(void **state)
{
	struct lh *t = two_clients();

	(void)state;
	t->now += 1000000;
	lh_recv(t, 2, 1, P(1));
	lh_wait(t, 1000);
	lh_check_books(t, 1, 2, BOOKS(1, 1, 0, 0, 0));
	assert_int_equal(lh_pair(t, 1, 2)->first_seen, 1);
	t->now -= 1000500000;
	lh_send(t, 1, 2, P(1));
	t->now += 1000500000;
	lh_wait(t, 3000);
	lh_check_books(t, 1, 2, BOOKS(1, 1, 0, 0, 0));
	assert_int_equal(lh_pair(t, 1, 2)->first_seen, 0);
	/* Later still: its exit would be forgotten. */
	lh_wait(t, 9000);
	t->now -= 8000000000;
	lh_send(t, 1, 2, P(2));
	t->now += 8000000000;
	lh_check_books(t, 1, 2, BOOKS(2, 1, 0, 0, 1));
	lh_free(t);
}

/* The node dies: what it sent right before may be acknowledged, and nobody asks its socket any more. */
static void last_hop_of_a_node_that_dies(void **state)
{
	struct capture_event down = { .type = CAPTURE_NODE_DOWN, .node = 3 };
	struct lh *t = lh_new(NULL);

	(void)state;
	lh_client(t, 1, 1);
	lh_client(t, 2, 2);
	lh_tick(t, 100);
	t->conns[2].out_acked = t->conns[2].out_pos;
	lh_send(t, 1, 2, (struct lh_packet){ .no = 1, .len = 100 });
	lh_recv(t, 2, 1, (struct lh_packet){ .no = 1, .len = 100 });
	lh_wait(t, 500);
	lh_send(t, 1, 2, (struct lh_packet){ .no = 2, .len = 100 });
	lh_recv(t, 2, 1, (struct lh_packet){ .no = 2, .len = 100 });
	t->now += 300000000;
	lh_progress(t, 2);
	down.time_ns = t->now;
	ledger_event(t->l, &down);
	lh_snapshot(t, true);
	/* The first had eight tenths of a second for it. */
	assert_int_equal(lh_pair(t, 1, 2)->last_hop, 1);
	lh_free(t);
}

static void last_hop(void **state)
{
	struct lh *t = two_clients();
	const struct lh_pair *p;

	(void)state;
	lh_send(t, 1, 2, P(1));
	lh_send(t, 1, 2, P(2));
	lh_send(t, 1, 2, P(3));
	lh_recv(t, 2, 1, P(1));
	t->conns[2].out_acked = t->conns[2].out_pos;
	lh_recv(t, 2, 1, P(2));
	t->now += 5000000;
	lh_recv(t, 2, 1, P(3));
	lh_tick(t, 100);
	assert_int_equal(lh_pair(t, 1, 2)->last_hop, 0);
	lh_close(t, 2);
	p = lh_pair(t, 1, 2);
	assert_int_equal(p->last_hop, 2);
	assert_int_equal(p->last_hop_last_ns - p->last_hop_first_ns, 5000000);
	lh_check_books(t, 1, 2, BOOKS(3, 3, 0, 0, 0));
	lh_free(t);
}

static void wireguard_types(void **state)
{
	struct lh *t = two_clients();
	struct lh_packet p = { .no = 1, .len = 148, .first = 1 };
	const struct lh_pair *r;

	(void)state;
	lh_send(t, 1, 2, p);
	lh_recv(t, 2, 1, p);
	p.no = 2;
	p.first = 2;
	p.len = 92;
	lh_send(t, 1, 2, p);
	lh_recv(t, 2, 1, p);
	lh_send(t, 1, 2, D(4));
	r = lh_pair(t, 1, 2);
	assert_int_equal(r->wg_initiations, 1);
	assert_int_equal(r->wg_responses, 1);
	assert_int_equal(r->wg_initiation_last_ns, t->now);
	assert_int_equal(r->disco, 1);
	/* Data: there is a session. */
	p.first = 4;
	p.no = 3;
	lh_recv(t, 2, 1, p);
	lh_send(t, 1, 2, p);
	assert_int_equal(lh_pair(t, 1, 2)->wg_initiations, 0);
	lh_free(t);
}

static void equal_bytes(void **state)
{
	struct lh *t = two_clients();
	int i;

	(void)state;
	for (i = 0; i < 2000; i++)
		lh_send(t, 1, 2, P(0));
	for (i = 0; i < 1500; i++)
		lh_recv(t, 2, 1, P(0));
	for (i = 0; i < 200; i++)
		lh_drop(t, "queue_head", 0, 2, P(0));
	lh_wait(t, 2000);
	lh_check_books(t, 1, 2, BOOKS(2000, 1500, 0, 500, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_QUEUE_HEAD), 200);
	assert_int_equal(lh_lost(t, 1, 2, REASON_QUEUE), 300);
	lh_free(t);
}

static void node_goes_down(void **state)
{
	struct capture_event ended = { .type = CAPTURE_NODE_ENDED, .node = 3 };
	struct capture_event e = { .type = CAPTURE_NODE_DOWN, .node = 3 };
	struct lh *t = two_clients();

	(void)state;
	ended.time_ns = t->now;
	ledger_event(t->l, &ended);
	lh_snapshot(t, false);
	assert_int_equal(t->node.ended_ns, ended.time_ns);
	/* Its sockets are read to their ends: all of that is booked, and does not make it end later. */
	t->now += 2000000000;
	lh_send(t, 1, 2, P(1));
	t->conns[1].in_read = t->conns[1].in_pos;
	lh_send(t, 1, 2, P(2));
	lh_send(t, 1, 7, P(3));
	lh_recv(t, 2, 1, P(4));
	lh_close(t, 1);
	lh_close(t, 2);
	e.time_ns = t->now;
	ledger_event(t->l, &e);
	lh_check(t);
	lh_check_books(t, 1, 2, BOOKS(3, 1, 0, 2, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_UNFLUSHED), 1);
	assert_int_equal(lh_lost(t, 1, 2, REASON_UNREAD), 1);
	assert_int_equal(lh_lost(t, 1, 7, REASON_UNREAD), 1);
	assert_int_equal(t->node.ended_ns, ended.time_ns);
	lh_free(t);
}

static void the_trace_ends(void **state)
{
	struct lh *t = two_clients();

	(void)state;
	lh_send(t, 1, 2, P(1));
	lh_send(t, 1, 2, P(2));
	lh_send(t, 1, 2, P(3));
	lh_recv(t, 2, 1, P(2));
	lh_recv(t, 2, 1, P(9));
	ledger_end(t->l, t->now);
	lh_snapshot(t, true);
	lh_check_books(t, 1, 2, BOOKS(4, 2, 1, 1, 0));
	lh_free(t);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(delivers),
	cmocka_unit_test(exit_before_entry),
	cmocka_unit_test(relay_says_dropped),
	cmocka_unit_test(a_later_one_left),
	cmocka_unit_test(the_word_comes_after_the_inference),
	cmocka_unit_test(the_word_waits),
	cmocka_unit_test(no_route),
	cmocka_unit_test(destination_came_too_late),
	cmocka_unit_test(drained),
	cmocka_unit_test(overtaken_by_others),
	cmocka_unit_test(entry_ends_unread),
	cmocka_unit_test(exit_ends_with_packets_inside),
	cmocka_unit_test(reconnected_meanwhile),
	cmocka_unit_test(duplicates),
	cmocka_unit_test(gap_at_the_exit),
	cmocka_unit_test(unreadable_exit),
	cmocka_unit_test(entry_told_very_late),
	cmocka_unit_test(last_hop),
	cmocka_unit_test(last_hop_of_a_node_that_dies),
	cmocka_unit_test(wireguard_types),
	cmocka_unit_test(equal_bytes),
	cmocka_unit_test(node_goes_down),
	cmocka_unit_test(the_trace_ends),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
