// SPDX-License-Identifier: BSD-2-Clause
/* The books of one node: one scenario for each rule. The law is asserted after every event. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

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

static void check_books(struct lh *t, uint32_t src, uint32_t dst, struct record_books want)
{
	const struct record_books *b = &lh_pair(t, src, dst)->books;

	assert_int_equal(b->entered, want.entered);
	assert_int_equal(b->left, want.left);
	assert_int_equal(b->in_flight, want.in_flight);
	assert_int_equal(b->lost, want.lost);
	assert_int_equal(b->untraced, want.untraced);
}

#define BOOKS(...) ((struct record_books){ __VA_ARGS__ })

static void delivers(void **state)
{
	struct lh *t = two_clients();
	const struct record_pair *p;

	(void)state;
	lh_send(t, 1, 2, P(1));
	check_books(t, 1, 2, BOOKS(1, 0, 1, 0, 0));
	t->now += 1000000;
	lh_recv(t, 2, 1, P(1));
	check_books(t, 1, 2, BOOKS(1, 1, 0, 0, 0));
	p = lh_pair(t, 1, 2);
	assert_int_equal(p->frames[HOP_CLIENT_IN], 1);
	assert_int_equal(p->frames[HOP_CLIENT_OUT], 1);
	assert_int_equal(p->bytes[HOP_CLIENT_IN], 100);
	assert_int_equal(p->bytes[HOP_CLIENT_OUT], 100);
	assert_int_equal(p->first_seen, 0);
	assert_int_equal(p->latency[12], 1);	/* 1 ms is 8,000 eighths of a microsecond */
	lh_wait(t, 3000);
	check_books(t, 1, 2, BOOKS(1, 1, 0, 0, 0));
	assert_int_equal(t->node.peers, 2);
	lh_free(t);
}

static void exit_before_entry(void **state)
{
	struct lh *t = two_clients();

	(void)state;
	lh_recv(t, 2, 1, P(1));
	check_books(t, 1, 2, BOOKS(0));
	lh_send(t, 1, 2, P(1));
	check_books(t, 1, 2, BOOKS(1, 1, 0, 0, 0));
	/* One that entered before we looked. */
	lh_recv(t, 2, 1, P(2));
	lh_tick(t, 100);
	check_books(t, 1, 2, BOOKS(1, 1, 0, 0, 0));
	lh_tick(t, 100);
	check_books(t, 1, 2, BOOKS(2, 2, 0, 0, 0));
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
	check_books(t, 1, 2, BOOKS(1, 0, 0, 1, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_QUEUE_HEAD), 1);
	assert_int_equal(t->losses[0].basis, BASIS_RELAY);
	assert_int_equal(t->losses[0].in_conn, 1);
	assert_int_equal(t->losses[0].out_conn, 2);
	assert_int_equal(t->losses[0].bytes, 100);
	/* The drop is told first, without and with its source. */
	lh_drop(t, "queue_tail", 0, 2, P(2));
	lh_send(t, 1, 2, P(2));
	lh_wait(t, 200);
	check_books(t, 1, 2, BOOKS(2, 0, 0, 2, 0));
	lh_drop(t, "unknown_dest", 1, 7, P(3));
	lh_send(t, 1, 7, P(3));
	check_books(t, 1, 7, BOOKS(1, 0, 0, 1, 0));
	/* Nobody told of it before. */
	lh_drop(t, "write_error", 1, 2, P(4));
	lh_drop(t, "some_new_word", 0, 2, P(5));
	lh_wait(t, 300);
	check_books(t, 1, 2, BOOKS(3, 0, 0, 3, 0));
	check_books(t, 0, 2, BOOKS(1, 0, 0, 1, 0));
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
	check_books(t, 1, 2, BOOKS(4, 1, 3, 0, 0));
	lh_wait(t, 200);
	check_books(t, 1, 2, BOOKS(4, 1, 2, 1, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_QUEUE), 1);
	/* Disco has a queue of its own. */
	lh_recv(t, 2, 1, P(4));
	lh_wait(t, 200);
	check_books(t, 1, 2, BOOKS(4, 2, 1, 1, 0));
	lh_recv(t, 2, 1, D(3));
	check_books(t, 1, 2, BOOKS(4, 3, 0, 1, 0));
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
	check_books(t, 1, 2, BOOKS(2, 1, 0, 1, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_QUEUE_HEAD), 1);
	lh_free(t);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(delivers),
	cmocka_unit_test(exit_before_entry),
	cmocka_unit_test(relay_says_dropped),
	cmocka_unit_test(a_later_one_left),
	cmocka_unit_test(the_word_comes_after_the_inference),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
