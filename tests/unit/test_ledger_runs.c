// SPDX-License-Identifier: BSD-2-Clause
/* Packets that the kernel counted: the books of runs, and of runs among packets that were seen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ledger_help.h"

#define IN	CAPTURE_IN
#define OUT	CAPTURE_OUT
#define P(n) ((struct lh_packet){ .no = (n), .len = 100 })
/* Peers 1, 2, 3 are on connections 1, 2, 3. */
static struct lh *three_clients(void)
{
	struct lh *t = lh_new(NULL);

	lh_client(t, 1, 1);
	lh_client(t, 2, 2);
	lh_client(t, 3, 3);
	lh_tick(t, 100);
	return t;
}

static void delivers(void **state)
{
	struct lh *t = three_clients();
	const struct lh_pair *p;

	(void)state;
	lh_run(t, 1, IN, 2, 50);
	lh_check_books(t, 1, 2, BOOKS(50, 0, 50, 0, 0));
	lh_run(t, 2, OUT, 1, 20);
	lh_check_books(t, 1, 2, BOOKS(50, 20, 30, 0, 0));
	lh_run(t, 1, IN, 2, 10);
	lh_run(t, 2, OUT, 1, 40);
	lh_check_books(t, 1, 2, BOOKS(60, 60, 0, 0, 0));
	lh_wait(t, 3000);
	p = lh_pair(t, 1, 2);
	lh_check_books(t, 1, 2, BOOKS(60, 60, 0, 0, 0));
	assert_int_equal(p->bytes[HOP_CLIENT_IN], 6000);
	assert_int_equal(p->bytes[HOP_CLIENT_OUT], 6000);
	assert_int_equal(p->first_seen, 0);
	lh_free(t);
}

static void timed(struct lh *t, int conn, uint32_t src, uint32_t dst, uint32_t bucket)
{
	struct capture_event e = {
		.type = CAPTURE_LATENCY, .time_ns = t->now, .node = 3, .conn = (uint64_t)conn,
		.latency = { lh_key(src), lh_key(dst), bucket, 4 },
	};

	ledger_event(t->l, &e);
}

/* What the kernel timed is its pair's; runs alone tell no time. */
static void timed_in_the_kernel(void **state)
{
	struct lh *t = three_clients();

	(void)state;
	lh_run(t, 1, IN, 2, 50);
	lh_run(t, 2, OUT, 1, 50);
	lh_tick(t, 100);
	assert_null(lh_pair(t, 1, 2)->latency);
	timed(t, 2, 1, 0, 33);
	timed(t, 2, 1, 0, 33);
	timed(t, 3, 1, 2, 34);	/* as of what leaves for the mesh */
	timed(t, 9, 1, 2, 35);	/* no connection */
	timed(t, 2, 1, 0, 1000);
	assert_int_equal(buckets_get(lh_pair(t, 1, 2)->latency, 33), 8);
	assert_int_equal(buckets_get(lh_pair(t, 1, 2)->latency, 34), 4);
	assert_int_equal(lh_pair(t, 1, 2)->latency->count, 2);
	lh_check_books(t, 1, 2, BOOKS(50, 50, 0, 0, 0));
	lh_free(t);
}

/* Counters are read one after the other: what left may be read first. */
static void exits_are_read_first(void **state)
{
	struct lh *t = three_clients();

	(void)state;
	lh_run(t, 2, OUT, 1, 30);
	lh_check_books(t, 1, 2, BOOKS(0));
	lh_tick(t, 100);
	lh_run(t, 1, IN, 2, 20);
	lh_run(t, 1, IN, 2, 15);
	lh_tick(t, 100);
	lh_check_books(t, 1, 2, BOOKS(35, 30, 5, 0, 0));
	/* Those that entered before we looked. */
	lh_run(t, 2, OUT, 1, 12);
	lh_wait(t, 200);
	lh_check_books(t, 1, 2, BOOKS(42, 42, 0, 0, 0));
	assert_int_equal(lh_pair(t, 1, 2)->first_seen, 7);
	lh_free(t);
}

static void no_route(void **state)
{
	struct lh *t = three_clients();

	(void)state;
	lh_run(t, 1, IN, 9, 25);
	lh_wait(t, 900);
	lh_check_books(t, 1, 9, BOOKS(25, 0, 25, 0, 0));
	lh_wait(t, 400);
	lh_check_books(t, 1, 9, BOOKS(25, 0, 0, 25, 0));
	assert_int_equal(lh_lost(t, 1, 9, REASON_NO_ROUTE), 25);
	lh_free(t);
}

static void drained(void **state)
{
	struct lh *t = three_clients();

	(void)state;
	lh_run(t, 1, IN, 2, 50);
	lh_run(t, 2, OUT, 1, 47);
	lh_wait(t, 1500);
	lh_check_books(t, 1, 2, BOOKS(50, 47, 0, 3, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_QUEUE), 3);
	assert_int_equal(t->losses[0].bytes, 300);
	lh_free(t);
}

/* Pairs are told one by one: of the last that is told a packet may have left before another pair's. */
static void told_in_turns(void **state)
{
	struct lh *t = three_clients();
	uint64_t sent;

	(void)state;
	lh_run(t, 1, IN, 2, 50);
	lh_run(t, 3, IN, 2, 20);
	lh_run(t, 2, OUT, 1, 47);
	sent = t->conns[2].out_pos;
	t->conns[2].out_pos -= 30 * (DERP_HEADER_LEN + DERP_KEY_LEN + 100ull);
	lh_run(t, 2, OUT, 3, 20);
	t->conns[2].out_pos = sent;
	lh_wait(t, 1500);
	lh_check_books(t, 1, 2, BOOKS(50, 47, 0, 3, 0));
	lh_check_books(t, 3, 2, BOOKS(20, 20, 0, 0, 0));
	lh_free(t);
}

/* The drop's source is known: one packet of the pair's. */
static void relay_says_who(void **state)
{
	struct lh *t = three_clients();

	(void)state;
	lh_run(t, 1, IN, 9, 10);
	lh_drop(t, "unknown_dest", 1, 9, P(3));
	lh_check_books(t, 1, 9, BOOKS(10, 0, 9, 1, 0));
	lh_drop(t, "unknown_dest", 1, 9, P(11));
	lh_drop(t, "unknown_dest", 1, 9, P(12));
	lh_check_books(t, 1, 9, BOOKS(10, 0, 7, 3, 0));
	assert_int_equal(lh_lost(t, 1, 9, REASON_UNKNOWN_DEST), 3);
	lh_free(t);
}

/* It is told before what it speaks of was read. */
static void relay_says_early(void **state)
{
	struct lh *t = three_clients();

	(void)state;
	lh_run(t, 1, IN, 9, 1);
	lh_drop(t, "unknown_dest", 1, 9, P(1));
	lh_drop(t, "unknown_dest", 1, 9, P(2));
	lh_run(t, 1, IN, 9, 5);
	lh_tick(t, 100);
	lh_check_books(t, 1, 9, BOOKS(6, 0, 4, 2, 0));
	assert_int_equal(lh_pair(t, 1, 9)->first_seen, 0);
	lh_free(t);
}

/* It names no source, and there is but one. */
static void one_sender_only(void **state)
{
	struct lh *t = three_clients();

	(void)state;
	lh_drop(t, "queue_head", 0, 2, P(3));
	lh_drop(t, "queue_head", 0, 2, P(4));
	lh_run(t, 1, IN, 2, 50);
	lh_run(t, 2, OUT, 1, 40);
	lh_wait(t, 300);
	lh_check_books(t, 1, 2, BOOKS(50, 40, 8, 2, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_QUEUE_HEAD), 2);
	lh_free(t);
}

/* Of several it is the one whose packets are missing in the end. */
static void several_senders(void **state)
{
	struct lh *t = three_clients();
	uint32_t i;

	(void)state;
	lh_run(t, 1, IN, 2, 50);
	lh_run(t, 3, IN, 2, 50);
	for (i = 0; i < 4; i++)
		lh_drop(t, "queue_head", 0, 2, P(i));
	lh_wait(t, 300);
	lh_check_books(t, 1, 2, BOOKS(50, 0, 50, 0, 0));
	lh_run(t, 2, OUT, 3, 49);
	lh_run(t, 2, OUT, 1, 47);
	lh_wait(t, 2000);
	lh_check_books(t, 1, 2, BOOKS(50, 47, 0, 3, 0));
	lh_check_books(t, 3, 2, BOOKS(50, 49, 0, 1, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_QUEUE_HEAD), 3);
	assert_int_equal(lh_lost(t, 3, 2, REASON_QUEUE_HEAD), 1);
	assert_int_equal(lh_lost(t, 0, 2, 0), 0);
	lh_free(t);
}

/* Counted where they enter, seen where they leave; and the other way round. */
static void counted_at_one_end(void **state)
{
	struct lh *t = three_clients();
	uint32_t i;

	(void)state;
	for (i = 0; i < 10; i++)
		lh_recv(t, 2, 1, P(i));
	lh_run(t, 1, IN, 2, 12);
	lh_tick(t, 100);
	lh_check_books(t, 1, 2, BOOKS(12, 10, 2, 0, 0));
	lh_recv(t, 2, 1, P(10));
	lh_check_books(t, 1, 2, BOOKS(12, 11, 1, 0, 0));
	lh_recv(t, 2, 1, P(11));
	for (i = 20; i < 30; i++)
		lh_send(t, 1, 2, P(i));
	lh_run(t, 2, OUT, 1, 8);
	lh_check_books(t, 1, 2, BOOKS(22, 20, 2, 0, 0));
	/* The two that are left are told to have left by name. */
	lh_recv(t, 2, 1, P(28));
	lh_recv(t, 2, 1, P(29));
	lh_check_books(t, 1, 2, BOOKS(22, 22, 0, 0, 0));
	lh_wait(t, 2000);
	lh_check_books(t, 1, 2, BOOKS(22, 22, 0, 0, 0));
	lh_free(t);
}

/* Between two that were counted one was seen; it leaves, and the count of those before it comes later. */
static void seen_among_counted(void **state)
{
	struct lh *t = three_clients();

	(void)state;
	lh_send(t, 1, 2, P(1));
	lh_send(t, 1, 2, P(2));
	lh_recv(t, 2, 1, P(2));
	lh_run(t, 2, OUT, 1, 1);
	lh_wait(t, 1000);
	lh_check_books(t, 1, 2, BOOKS(2, 2, 0, 0, 0));
	/* Named ones whose entry a count has taken. */
	lh_run(t, 1, IN, 2, 3);
	lh_send(t, 1, 2, P(3));
	lh_run(t, 2, OUT, 1, 4);
	lh_send(t, 1, 2, P(4));
	lh_recv(t, 2, 1, P(5));
	lh_wait(t, 1000);
	lh_check_books(t, 1, 2, BOOKS(7, 7, 0, 0, 0));
	lh_free(t);
}

static void ends_inside(void **state)
{
	struct lh *t = three_clients();

	(void)state;
	lh_run(t, 1, IN, 2, 100);
	lh_run(t, 2, OUT, 1, 20);
	lh_tick(t, 100);
	lh_close(t, 2);
	lh_wait(t, 1500);
	lh_check_books(t, 1, 2, BOOKS(100, 20, 0, 80, 0));
	/* A writer's buffer of 2 KiB holds 14 of 137 bytes. */
	assert_int_equal(lh_lost(t, 1, 2, REASON_UNFLUSHED), 14);
	assert_int_equal(lh_lost(t, 1, 2, REASON_GONE_DISCONNECTED), 66);
	lh_free(t);
}

static void ends_unread(void **state)
{
	struct lh *t = three_clients();

	(void)state;
	t->conns[1].in_read = t->conns[1].in_pos;
	lh_run(t, 1, IN, 2, 30);
	lh_close(t, 1);
	lh_wait(t, 1500);
	lh_check_books(t, 1, 2, BOOKS(30, 0, 0, 30, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_UNREAD), 30);
	lh_free(t);
}

/* Of a run a part was acknowledged when its connection ended. */
static void last_hop(void **state)
{
	struct lh *t = three_clients();

	(void)state;
	lh_run(t, 1, IN, 2, 30);
	t->conns[2].out_acked = t->conns[2].out_pos + 137 * 10 + 1;
	lh_run(t, 2, OUT, 1, 30);
	lh_close(t, 2);
	assert_int_equal(lh_pair(t, 1, 2)->last_hop, 20);
	lh_free(t);
}

static void missed(void **state)
{
	struct lh *t = three_clients();

	(void)state;
	lh_run(t, 1, IN, 2, 30);
	lh_gap(t, 2, OUT, true);
	lh_tick(t, 100);
	lh_gap(t, 2, OUT, false);
	lh_run(t, 2, OUT, 1, 10);
	lh_wait(t, 1500);
	lh_check_books(t, 1, 2, BOOKS(30, 10, 0, 0, 20));
	lh_free(t);
}

/* Each time what left is told first, and its entries right behind the tick. */
static void always_a_little_late(void **state)
{
	struct lh *t = three_clients();
	uint32_t i;

	(void)state;
	for (i = 0; i < 20; i++) {
		lh_run(t, 2, OUT, 1, 2);
		lh_tick(t, 100);
		lh_send(t, 1, 2, P(2 * i));
		lh_send(t, 1, 2, P(2 * i + 1));
	}
	lh_wait(t, 2000);
	lh_check_books(t, 1, 2, BOOKS(40, 40, 0, 0, 0));
	assert_int_equal(lh_pair(t, 1, 2)->first_seen, 0);
	lh_free(t);
}

/* Entries told so late that their exits were booked without them: counted, and seen. */
static void late_entries(void **state)
{
	struct lh *t = three_clients();
	uint64_t then;

	(void)state;
	lh_run(t, 2, OUT, 1, 5);
	then = t->now;
	lh_wait(t, 300);
	assert_int_equal(lh_pair(t, 1, 2)->first_seen, 5);
	t->quiet = true;
	t->now = then;
	lh_send(t, 1, 2, P(1));
	lh_run(t, 1, IN, 2, 3);
	t->now = then + 300000000;
	lh_check(t);
	lh_check_books(t, 1, 2, BOOKS(5, 5, 0, 0, 0));
	assert_int_equal(lh_pair(t, 1, 2)->first_seen, 1);
	/* A later one is none of them. */
	lh_run(t, 1, IN, 2, 3);
	lh_check_books(t, 1, 2, BOOKS(8, 5, 3, 0, 0));
	lh_free(t);
}

/* The relay names one that was seen; others of its pair are counted as they leave. */
static void named_among_counted(void **state)
{
	struct lh *t = three_clients();
	uint32_t i;

	(void)state;
	lh_run(t, 1, IN, 2, 1);
	lh_run(t, 2, OUT, 1, 1);
	for (i = 0; i < 6; i++)
		lh_send(t, 1, 2, P(i));
	lh_drop(t, "queue_head", 0, 2, P(0));
	lh_check_books(t, 1, 2, BOOKS(7, 1, 5, 1, 0));
	lh_run(t, 2, OUT, 1, 3);
	/* Its name is gone: a count has taken it. */
	lh_drop(t, "queue_head", 0, 2, P(2));
	lh_wait(t, 300);
	lh_check_books(t, 1, 2, BOOKS(7, 4, 1, 2, 0));
	lh_run(t, 2, OUT, 1, 1);
	lh_wait(t, 1500);
	lh_check_books(t, 1, 2, BOOKS(7, 5, 0, 2, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_QUEUE_HEAD), 2);
	assert_int_equal(lh_lost(t, 0, 2, 0), 0);
	lh_free(t);
}

/* The first count of a pair comes behind the relay's word; another's packets are under way as runs. */
static void dropped_before_the_first_count(void **state)
{
	struct lh *t = three_clients();
	uint32_t i;

	(void)state;
	lh_run(t, 3, IN, 2, 10);
	for (i = 0; i < 10; i++)
		lh_send(t, 1, 2, P(i));
	for (i = 0; i < 4; i++)
		lh_drop(t, "queue_head", 0, 2, P(i));
	lh_run(t, 2, OUT, 1, 6);
	lh_run(t, 2, OUT, 3, 10);
	lh_wait(t, 2000);
	lh_check_books(t, 1, 2, BOOKS(10, 6, 0, 4, 0));
	lh_check_books(t, 3, 2, BOOKS(10, 10, 0, 0, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_QUEUE_HEAD), 4);
	lh_free(t);
}

/* Runs are few, and their packets many; when there is no room the oldest is untraced, whole. */
static void bounded(void **state)
{
	const struct ledger_limits limits = { .max_in_flight = 64 };
	struct lh *t = lh_new(&limits);
	uint32_t i;

	(void)state;
	lh_client(t, 1, 1);
	for (i = 0; i < 100; i++)
		lh_run(t, 1, IN, 100 + i, 3000000);
	lh_snapshot(t, true);
	assert_int_equal(t->node.books.entered, 300000000);
	assert_true(t->node.books.untraced >= 200000000);
	lh_wait(t, 2000);
	lh_snapshot(t, true);
	assert_int_equal(t->node.books.in_flight, 0);
	lh_free(t);
}

/* Who sent them is learnt later. */
static void learnt_late(void **state)
{
	struct lh *t = three_clients();
	struct key k = lh_key(4);
	struct capture_event e = { .type = CAPTURE_PEER, .node = 3, .conn = 4, .peer = { .key = k } };

	(void)state;
	lh_open(t, 4, CAPTURE_ACCEPTED, false);
	lh_run(t, 4, IN, 2, 9);
	lh_run(t, 2, OUT, 4, 4);
	e.time_ns = t->now;
	ledger_event(t->l, &e);
	lh_check(t);
	lh_tick(t, 100);
	lh_check_books(t, 4, 2, BOOKS(9, 4, 5, 0, 0));
	lh_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(delivers),
		cmocka_unit_test(exits_are_read_first),
		cmocka_unit_test(no_route),
		cmocka_unit_test(drained),
		cmocka_unit_test(told_in_turns),
		cmocka_unit_test(relay_says_who),
		cmocka_unit_test(relay_says_early),
		cmocka_unit_test(one_sender_only),
		cmocka_unit_test(several_senders),
		cmocka_unit_test(counted_at_one_end),
		cmocka_unit_test(seen_among_counted),
		cmocka_unit_test(ends_inside),
		cmocka_unit_test(ends_unread),
		cmocka_unit_test(last_hop),
		cmocka_unit_test(missed),
		cmocka_unit_test(always_a_little_late),
		cmocka_unit_test(late_entries),
		cmocka_unit_test(named_among_counted),
		cmocka_unit_test(dropped_before_the_first_count),
		cmocka_unit_test(bounded),
		cmocka_unit_test(timed_in_the_kernel),
		cmocka_unit_test(learnt_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
