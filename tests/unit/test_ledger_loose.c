// SPDX-License-Identifier: BSD-2-Clause
/* Drops that do not say whose packet it was, of several senders' equal packets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ledger_help.h"

#define IN 21	/* another node's connection to us */

static struct lh *three(void)
{
	struct lh *t = lh_new(NULL);

	lh_client(t, 1, 1);
	lh_client(t, 2, 2);
	lh_client(t, 5, 5);
	lh_mesh_in(t, IN);
	lh_tick(t, 100);
	return t;
}

/* Two send the same two bytes to one: the relay drops the one's, and does not say whose. */
static void drop_of_equal_bytes(void **state)
{
	const struct lh_packet p = { .no = 1, .len = 2 };
	struct lh *t = three();

	(void)state;
	lh_send(t, 1, 2, p);
	t->now += 1000000;
	lh_send(t, 5, 2, p);
	lh_drop(t, "queue_head", 0, 2, p);
	lh_wait(t, 400);
	lh_recv(t, 2, 1, p);
	lh_wait(t, 400);
	lh_check_books(t, 1, 2, BOOKS(1, 1, 0, 0, 0));
	lh_check_books(t, 5, 2, BOOKS(1, 0, 0, 1, 0));
	assert_int_equal(lh_lost(t, 5, 2, REASON_QUEUE_HEAD), 1);
	/* Both are dropped: that shows when nothing can hold them any more. */
	lh_send(t, 1, 2, p);
	lh_send(t, 5, 2, p);
	lh_drop(t, "queue_tail", 0, 2, p);
	lh_drop(t, "queue_tail", 0, 2, p);
	lh_wait(t, 3000);
	lh_check_books(t, 1, 2, BOOKS(2, 1, 0, 1, 0));
	lh_check_books(t, 5, 2, BOOKS(2, 0, 0, 2, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_QUEUE_TAIL), 1);
	assert_int_equal(lh_lost(t, 5, 2, REASON_QUEUE_TAIL), 1);
	lh_free(t);
}

/*
 * Two flood one that is slow with equal packets, a queue of four: of each drop it is not known whose it
 * was, of all together it is, but for what the queue may still hold.
 */
static void drops_of_equal_packets(void **state)
{
	const struct lh_packet p = { .no = 1, .len = 1200 };
	struct lh *t = three();
	uint32_t queue[4], n = 0, i, who;
	uint64_t left[2] = { 0 }, lost[2] = { 0 };

	(void)state;
	for (i = 0; i < 400; i++) {
		/* The one sends more than the other, and both are dropped. */
		who = i % 3 ? 1 : 5;
		t->now += 1000000;
		lh_send(t, who, 2, p);
		if (n == 4) {
			lost[queue[0] == 5]++;
			memmove(queue, queue + 1, --n * sizeof(queue[0]));
			lh_drop(t, "queue_head", 0, 2, p);
		}
		queue[n++] = who;
		if (i % 4 == 0) {
			left[queue[0] == 5]++;
			lh_recv(t, 2, queue[0], p);
			memmove(queue, queue + 1, --n * sizeof(queue[0]));
		}
		if (i % 50 == 49)
			lh_tick(t, 50);
	}
	lh_wait(t, 400);
	for (i = 0; i < 2; i++) {
		const struct record_books *b = &lh_pair(t, i ? 5 : 1, 2)->books;

		assert_int_equal(b->left, left[i]);
		assert_in_range(lost[i], b->lost, b->lost + b->in_flight);
		assert_in_range(b->in_flight, 1, 8);
	}
	/* The trace ends before the queue has drained. */
	ledger_end(t->l, t->now);
	for (i = 0; i < 2; i++) {
		const struct record_books *b = &lh_pair(t, i ? 5 : 1, 2)->books;

		assert_int_equal(b->left, left[i]);
		assert_in_range(lost[i], b->lost, b->lost + b->untraced);
		assert_in_range(b->untraced, 1, 8);
	}
	lh_free(t);
}

/* Of a queue's tail the relay names the sender: it is the one that it was serving. */
static void drop_at_the_tail(void **state)
{
	const struct lh_packet p = { .no = 1, .len = 100 };
	struct lh *t = three();

	(void)state;
	lh_send(t, 1, 2, p);
	lh_send(t, 5, 2, p);
	lh_tail_drop(t, "queue_tail", 5, 2, p);
	lh_check_books(t, 5, 2, BOOKS(1, 0, 0, 1, 0));
	/* Another node forwarded it: it is named instead of its client. */
	lh_forward(t, IN, CAPTURE_IN, 8, 2, p);
	lh_tail_drop(t, "queue_tail", 9000 + IN, 2, p);
	lh_recv(t, 2, 1, p);
	lh_wait(t, 400);
	lh_check_books(t, 1, 2, BOOKS(1, 1, 0, 0, 0));
	lh_check_books(t, 8, 2, BOOKS(1, 0, 0, 1, 0));
	lh_free(t);
}

/* The same bytes come from a client and over the mesh: what has no destination says by which way it came. */
static void equal_by_both_ways(void **state)
{
	const struct lh_packet p = { .no = 1, .len = 100 };
	struct lh *t = three();

	(void)state;
	lh_mesh_out(t, 20);
	lh_present(t, 20, 8, true);
	t->conns[1].in_read = t->conns[1].in_pos;	/* its reader waits */
	lh_send(t, 1, 8, p);
	lh_forward(t, IN, CAPTURE_IN, 1, 8, p);
	lh_drop(t, "unknown_dest_on_fwd", 1, 8, p);
	lh_wait(t, 3000);
	lh_check_books(t, 1, 8, BOOKS(2, 0, 1, 1, 0));
	t->conns[1].in_read = UINT64_MAX;
	lh_forward(t, 20, CAPTURE_OUT, 1, 8, p);
	lh_wait(t, 3000);
	lh_check_books(t, 1, 8, BOOKS(2, 1, 0, 1, 0));
	assert_int_equal(t->loss_count, 1);
	lh_free(t);
}

/*
 * Two of the same bytes enter, the one before its exit has a gap and the other behind it; one is seen
 * leaving, and may be either: the other may have left unseen, or have been dropped.
 */
static void equal_over_a_gap(void **state)
{
	const struct lh_packet p = { .no = 1, .len = 100 };
	struct lh *t = three();

	(void)state;
	lh_send(t, 1, 2, p);
	lh_gap(t, 2, CAPTURE_OUT, true);
	t->now += 1000000;
	lh_gap(t, 2, CAPTURE_OUT, false);
	t->now += 1000000;
	lh_send(t, 1, 2, p);
	t->now += 1000000;
	lh_recv(t, 2, 1, p);
	lh_wait(t, 3000);
	lh_check_books(t, 1, 2, BOOKS(2, 1, 0, 0, 1));
	/* The same with a drop of one of them. */
	lh_send(t, 5, 2, p);
	lh_gap(t, 2, CAPTURE_OUT, true);
	t->now += 1000000;
	lh_gap(t, 2, CAPTURE_OUT, false);
	t->now += 1000000;
	lh_send(t, 5, 2, p);
	t->now += 1000000;
	lh_drop(t, "queue_head", 0, 2, p);
	lh_wait(t, 3000);
	lh_check_books(t, 5, 2, BOOKS(2, 0, 0, 1, 1));
	lh_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(drop_of_equal_bytes),
		cmocka_unit_test(drops_of_equal_packets),
		cmocka_unit_test(drop_at_the_tail),
		cmocka_unit_test(equal_by_both_ways),
		cmocka_unit_test(equal_over_a_gap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
