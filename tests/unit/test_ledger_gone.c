// SPDX-License-Identifier: BSD-2-Clause
/* Packets that were taken for lost, or given up, and that leave after all, or are dropped late. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ledger_help.h"

#define OUT	20	/* our connection to another node */

static struct lh *two(void)
{
	struct lh *t = lh_new(NULL);

	lh_client(t, 1, 1);
	lh_client(t, 2, 2);
	lh_client(t, 3, 3);
	lh_tick(t, 100);
	return t;
}

/* Nothing is stuck anywhere for two seconds, and it has not left: the relay had no processor. */
static void leaves_late(void **state)
{
	const struct lh_packet p = { .no = 1, .len = 100 }, other = { .no = 2, .len = 100 };
	struct lh *t = two();

	(void)state;
	lh_send(t, 1, 2, p);
	lh_wait(t, 3000);
	lh_check_books(t, 1, 2, BOOKS(1, 0, 0, 1, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_QUEUE), 1);
	lh_recv(t, 2, 1, p);
	lh_wait(t, 300);
	lh_check_books(t, 1, 2, BOOKS(1, 1, 0, 0, 0));
	assert_int_equal(lh_lost(t, 1, 2, 0), 0);
	assert_int_equal(lh_pair(t, 1, 2)->first_seen, 0);
	/* It was one packet: what has its name now, or another, was not seen entering. */
	lh_recv(t, 2, 1, p);
	lh_recv(t, 2, 1, other);
	lh_wait(t, 300);
	lh_check_books(t, 1, 2, BOOKS(3, 3, 0, 0, 0));
	assert_int_equal(lh_pair(t, 1, 2)->first_seen, 2);
	lh_free(t);
}

/* It is taken back from what is not told yet, too, and from its own reason. */
static void before_it_is_told(void **state)
{
	const struct lh_packet p = { .no = 1, .len = 100 }, q = { .no = 2, .len = 100 };
	struct lh *t = two();

	(void)state;
	lh_send(t, 1, 2, p);
	lh_send(t, 1, 2, q);
	lh_wait(t, 3000);
	lh_recv(t, 2, 1, q);
	lh_wait(t, 300);
	lh_check_books(t, 1, 2, BOOKS(2, 1, 0, 1, 0));
	assert_int_equal(t->loss_count, 1);
	assert_int_equal(t->losses[0].count, 1);
	assert_int_equal(t->losses[0].bytes, 100);
	assert_int_equal(t->losses[0].back, 0);
	lh_free(t);
}

/* A later one of its queue left: then it leaves, too. */
static void leaves_behind_a_later_one(void **state)
{
	const struct lh_packet p = { .no = 1, .len = 100 }, q = { .no = 2, .len = 100 };
	struct lh *t = two();

	(void)state;
	lh_send(t, 1, 2, p);
	lh_send(t, 1, 2, q);
	lh_recv(t, 2, 1, q);
	lh_wait(t, 400);
	lh_check_books(t, 1, 2, BOOKS(2, 1, 0, 1, 0));
	lh_recv(t, 2, 1, p);
	lh_wait(t, 400);
	lh_check_books(t, 1, 2, BOOKS(2, 2, 0, 0, 0));
	assert_int_equal(lh_lost(t, 1, 2, 0), 0);
	lh_free(t);
}

/* The relay's word of a drop comes after its loss was inferred: one loss, by the relay's word. */
static void dropped_late(void **state)
{
	const struct lh_packet p = { .no = 1, .len = 100 }, q = { .no = 2, .len = 100 };
	struct lh *t = two();

	(void)state;
	lh_send(t, 1, 2, p);
	lh_send(t, 3, 2, q);
	lh_wait(t, 3000);
	lh_check_books(t, 1, 2, BOOKS(1, 0, 0, 1, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_QUEUE), 1);
	lh_drop(t, "queue_head", 0, 2, p);
	lh_drop(t, "unknown_dest", 3, 2, q);
	lh_wait(t, 400);
	lh_check_books(t, 1, 2, BOOKS(1, 0, 0, 1, 0));
	lh_check_books(t, 3, 2, BOOKS(1, 0, 0, 1, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_QUEUE), 0);
	assert_int_equal(lh_lost(t, 1, 2, REASON_QUEUE_HEAD), 1);
	assert_int_equal(lh_lost(t, 3, 2, REASON_UNKNOWN_DEST), 1);
	/* What the relay said stays. */
	lh_recv(t, 2, 1, p);
	lh_wait(t, 400);
	lh_check_books(t, 1, 2, BOOKS(2, 1, 0, 1, 0));
	lh_free(t);
}

/* Given up, for its exit could not be seen: it is seen leaving after all. */
static void given_up_and_leaves(void **state)
{
	const struct lh_packet p = { .no = 1, .len = 100 }, q = { .no = 2, .len = 100 };
	struct lh *t = two();

	(void)state;
	lh_send(t, 1, 2, p);
	lh_send(t, 3, 2, q);
	lh_gap(t, 2, CAPTURE_OUT, true);
	lh_wait(t, 200);
	lh_gap(t, 2, CAPTURE_OUT, false);
	lh_wait(t, 3000);
	lh_check_books(t, 1, 2, BOOKS(1, 0, 0, 0, 1));
	lh_recv(t, 2, 1, p);
	lh_drop(t, "queue_head", 0, 2, q);
	lh_wait(t, 400);
	lh_check_books(t, 1, 2, BOOKS(1, 1, 0, 0, 0));
	lh_check_books(t, 3, 2, BOOKS(1, 0, 0, 1, 0));
	lh_free(t);
}

/* Its exit ended: what the relay had written stood in no book of the relay's, and the count of that goes, too. */
static void unflushed_and_leaves(void **state)
{
	const struct lh_packet p = { .no = 1, .len = 100 };
	struct lh *t = two();

	(void)state;
	lh_mesh_out(t, OUT);
	lh_present(t, OUT, 8, true);
	lh_send(t, 1, 8, p);
	lh_tick(t, 10);
	lh_close(t, OUT);
	lh_wait(t, 3000);
	lh_check_books(t, 1, 8, BOOKS(1, 0, 0, 1, 0));
	lh_snapshot(t, false);
	assert_int_equal(t->node.unflushed, 1);
	lh_mesh_out(t, OUT + 1);
	lh_forward(t, OUT + 1, CAPTURE_OUT, 1, 8, p);
	lh_wait(t, 400);
	lh_check_books(t, 1, 8, BOOKS(1, 1, 0, 0, 0));
	assert_int_equal(t->node.unflushed, 0);
	lh_free(t);
}

/*
 * The link across is lost and dialled again. Who sends across waits for that, with what it had read for
 * others: nothing is lost by it.
 */
static void behind_a_dial(void **state)
{
	const struct lh_packet p = { .no = 1, .len = 100 }, q = { .no = 2, .len = 100 };
	struct lh *t = two();
	int dial;

	(void)state;
	for (dial = 0; dial < 2; dial++) {
		lh_mesh_out(t, OUT + dial);
		lh_present(t, OUT + dial, 8, true);
		lh_close(t, OUT + dial);
		lh_open(t, OUT + 2 + dial, dial ? CAPTURE_DIALLED : CAPTURE_ACCEPTED, true);
		lh_send(t, dial ? 3 : 1, 2, dial ? q : p);
		lh_wait(t, 3000);
		lh_close(t, OUT + 2 + dial);
	}
	lh_check_books(t, 1, 2, BOOKS(1, 0, 0, 1, 0));
	lh_check_books(t, 3, 2, BOOKS(1, 0, 1, 0, 0));
	lh_wait(t, 1500);
	lh_check_books(t, 3, 2, BOOKS(1, 0, 0, 1, 0));
	/* A dial that has no answer for long is not waited for. */
	lh_open(t, OUT + 4, CAPTURE_DIALLED, true);
	lh_send(t, 1, 3, q);
	lh_wait(t, 10000);
	lh_check_books(t, 1, 3, BOOKS(1, 0, 1, 0, 0));
	lh_wait(t, 7000);
	lh_check_books(t, 1, 3, BOOKS(1, 0, 0, 1, 0));
	lh_free(t);
}

/* Packets that were counted have no names: what leaves late is the oldest. */
static void counted(void **state)
{
	const struct lh_packet p = { .no = 1, .len = 100 };
	struct lh *t = two();

	(void)state;
	lh_run(t, 1, CAPTURE_IN, 2, 5);
	lh_wait(t, 3000);
	lh_check_books(t, 1, 2, BOOKS(5, 0, 0, 5, 0));
	lh_run(t, 2, CAPTURE_OUT, 1, 3);
	lh_wait(t, 400);
	lh_check_books(t, 1, 2, BOOKS(5, 3, 0, 2, 0));
	lh_drop(t, "queue_head", 0, 2, p);
	lh_recv(t, 2, 1, p);
	lh_wait(t, 400);
	lh_check_books(t, 1, 2, BOOKS(5, 4, 0, 1, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_QUEUE_HEAD), 1);
	/* That were all of them. */
	lh_run(t, 2, CAPTURE_OUT, 1, 1);
	lh_wait(t, 400);
	lh_check_books(t, 1, 2, BOOKS(6, 5, 0, 1, 0));
	lh_free(t);
}

/* Strangers choose how much is lost: what is remembered is bounded in number and time. */
static void bounds(void **state)
{
	const struct ledger_limits limits = { .max_in_flight = 64 };
	struct lh_packet p = { .no = 1, .len = 100 };
	struct lh *t = lh_new(&limits);
	uint32_t i;

	(void)state;
	lh_client(t, 1, 1);
	lh_client(t, 2, 2);
	lh_tick(t, 100);
	for (i = 0; i < 40; i++, p.no++)
		lh_send(t, 1, 2, p);
	lh_wait(t, 3000);
	lh_check_books(t, 1, 2, BOOKS(40, 0, 0, 40, 0));
	for (p.no = 1; p.no <= 40; p.no++)
		lh_recv(t, 2, 1, p);
	lh_wait(t, 400);
	/* The newest eight. */
	lh_check_books(t, 1, 2, BOOKS(72, 40, 0, 32, 0));
	lh_send(t, 1, 2, p);
	lh_wait(t, 40000);
	lh_recv(t, 2, 1, p);
	lh_wait(t, 400);
	lh_check_books(t, 1, 2, BOOKS(74, 41, 0, 33, 0));
	lh_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(leaves_late),
		cmocka_unit_test(before_it_is_told),
		cmocka_unit_test(leaves_behind_a_later_one),
		cmocka_unit_test(dropped_late),
		cmocka_unit_test(given_up_and_leaves),
		cmocka_unit_test(unflushed_and_leaves),
		cmocka_unit_test(behind_a_dial),
		cmocka_unit_test(counted),
		cmocka_unit_test(bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
