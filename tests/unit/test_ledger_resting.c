// SPDX-License-Identifier: BSD-2-Clause
/* Pairs and connections that fall silent are laid down, wake as they were, and are never counted twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "latency.h"
#include "ledger/internal.h"
#include "ledger_help.h"

#define AT_REST(t)	((t)->l->resting.index.used)

static void pass_packet(struct lh *t, uint32_t src, uint32_t dst, uint32_t no)
{
	const struct lh_packet p = { .no = no, .len = 100 };

	lh_send(t, (int)src, dst, p);
	t->now += 1000000;
	lh_recv(t, (int)dst, src, p);
}

static struct lh *three_clients(const struct ledger_limits *limits)
{
	struct lh *t = lh_new(limits);

	lh_client(t, 1, 1);
	lh_client(t, 2, 2);
	lh_client(t, 3, 3);
	return t;
}

/* Told, silent for long, and asked for: so is every pair of which nothing is open. */
static void rest(struct lh *t)
{
	int i;

	for (i = 0; i < 4; i++) {
		lh_wait(t, 2500);
		lh_snapshot(t, false);
	}
}

static void test_wakes_as_it_was(void **state)
{
	struct lh *t = three_clients(NULL);
	const struct lh_pair *p;
	struct lh_pair before;
	uint32_t i;

	(void)state;
	for (i = 1; i <= 5; i++)
		pass_packet(t, 1, 2, i);
	pass_packet(t, 2, 3, 9);
	before = *lh_pair(t, 1, 2);
	assert_int_equal(AT_REST(t), 0);
	rest(t);
	assert_int_equal(AT_REST(t), 2);
	lh_check(t);
	pass_packet(t, 1, 2, 6);
	assert_int_equal(AT_REST(t), 1);
	lh_check(t);
	p = lh_pair(t, 1, 2);
	assert_int_equal(p->books.entered, 6);
	assert_int_equal(p->books.left, 6);
	assert_int_equal(p->frames[HOP_CLIENT_OUT], 6);
	assert_int_equal(p->bytes[HOP_CLIENT_IN], before.bytes[HOP_CLIENT_IN] / 5 * 6);
	assert_int_equal(p->first_ns, before.first_ns);
	assert_true(p->last_ns > before.last_ns);
	assert_int_equal(buckets_get(p->latency, latency_bucket(1000000)), 6);
	lh_free(t);
}

/* A snapshot of everything tells those at rest as well. */
static void test_told_at_rest(void **state)
{
	struct lh *t = three_clients(NULL);
	int records;

	(void)state;
	pass_packet(t, 1, 2, 1);
	pass_packet(t, 1, 3, 2);
	rest(t);
	assert_int_equal(AT_REST(t), 2);
	lh_snapshot(t, false);
	records = t->records;
	memset(t->pairs, 0, t->pair_count * sizeof(t->pairs[0]));
	t->pairs[0].src = t->pairs[1].src = lh_key(1);
	t->pairs[0].dst = lh_key(2);
	t->pairs[1].dst = lh_key(3);
	t->numbered[1] = &t->pairs[0];
	t->numbered[2] = &t->pairs[1];
	lh_snapshot(t, true);
	assert_true(t->records >= records + 2);
	assert_int_equal(t->pairs[0].books.left + t->pairs[1].books.left, 2);
	lh_free(t);
}

/* Over half of the bound, what has been silent for a minute goes to the other row: none is lost. */
static void test_bound_counts_those_at_rest(void **state)
{
	struct lh *t = three_clients(&(struct ledger_limits){ .max_pairs = 4 });
	int i;

	(void)state;
	pass_packet(t, 1, 2, 1);
	pass_packet(t, 2, 1, 2);
	pass_packet(t, 1, 3, 3);
	pass_packet(t, 3, 1, 4);
	rest(t);
	assert_int_equal(AT_REST(t), 4);
	for (i = 0; i < 30; i++) {
		lh_wait(t, 2600);
		lh_snapshot(t, false);
	}
	assert_int_equal(AT_REST(t), 0);
	assert_int_equal(t->node.other_frames, 4);
	assert_int_equal(t->node.books.left, 4);
	pass_packet(t, 1, 2, 5);
	lh_check_books(t, 1, 2, BOOKS(1, 1, 0, 0, 0));
	lh_free(t);
}

/* --- connections -------------------------------------------------------------------------- */

#define DORMANT(t)	((int)shelf_count(&(t)->l->dormant))

/* Nobody is asked meanwhile: nothing has changed. */
static void sleep_on(struct lh *t)
{
	int i;

	lh_tick(t, 100);
	lh_tick(t, 100);
	lh_snapshot(t, false);
	for (i = 0; i < 10; i++)
		ledger_tick(t->l, t->now += 1100000000);
	lh_check(t);
}

/* Told as it was; packets of a silent client and for it find it, and so does its end. */
static void test_connections_rest(void **state)
{
	struct lh *t = three_clients(NULL);
	struct record_conn before;
	uint64_t loops;

	(void)state;
	pass_packet(t, 1, 2, 1);
	lh_tick(t, 100);
	lh_snapshot(t, true);
	before = t->conns[2].rec;
	sleep_on(t);
	assert_int_equal(DORMANT(t), 3);
	lh_snapshot(t, true);
	assert_memory_equal(&t->conns[2].rec.tag, &before.tag, sizeof(before.tag));
	assert_int_equal(t->conns[2].rec.out_bytes, before.out_bytes);
	assert_int_equal(t->conns[2].rec.steps, before.steps);
	assert_memory_equal(&t->conns[2].rec.peer, &before.peer, sizeof(before.peer));
	assert_int_equal(t->node.peers, 3);
	assert_int_equal(DORMANT(t), 3);
	for (loops = 2; loops < 20; loops++) {
		pass_packet(t, 1, 2, (uint32_t)loops);
		assert_int_equal(DORMANT(t), 1);
		sleep_on(t);
		assert_int_equal(DORMANT(t), 3);
	}
	lh_check_books(t, 1, 2, BOOKS(19, 19, 0, 0, 0));
	lh_close(t, 2);
	t->now += 2000000000;
	lh_send(t, 1, 2, (struct lh_packet){ .no = 99, .len = 100 });
	lh_wait(t, 4000);
	lh_check_books(t, 1, 2, BOOKS(20, 19, 0, 1, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_NO_ROUTE), 1);
	lh_free(t);
}

/* What is sent to a client that sleeps, and does not come out, was dropped in its queue. */
static void test_loss_at_one_that_rests(void **state)
{
	struct lh *t = three_clients(NULL);
	int i;

	(void)state;
	sleep_on(t);
	assert_int_equal(DORMANT(t), 3);
	lh_send(t, 1, 2, (struct lh_packet){ .no = 1, .len = 100 });
	lh_progress(t, 1);
	ledger_tick(t->l, t->now += 100000000);
	assert_int_equal(DORMANT(t), 2);
	for (i = 0; i < 4; i++)
		ledger_tick(t->l, t->now += 1100000000);
	lh_snapshot(t, false);
	lh_check_books(t, 1, 2, BOOKS(1, 0, 0, 1, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_QUEUE), 1);
	assert_int_equal(t->losses[0].out_conn, 2);
	lh_free(t);
}

/* The same peer comes again while its connection sleeps: both are its. */
static void test_again_while_it_rests(void **state)
{
	struct lh *t = three_clients(NULL);

	(void)state;
	sleep_on(t);
	lh_client(t, 4, 2);
	assert_int_equal(DORMANT(t), 2);
	lh_snapshot(t, true);
	assert_int_equal(t->node.peers, 3);
	lh_close(t, 4);
	pass_packet(t, 1, 2, 1);
	lh_check_books(t, 1, 2, BOOKS(1, 1, 0, 0, 0));
	lh_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wakes_as_it_was),
		cmocka_unit_test(test_told_at_rest),
		cmocka_unit_test(test_bound_counts_those_at_rest),
		cmocka_unit_test(test_connections_rest),
		cmocka_unit_test(test_loss_at_one_that_rests),
		cmocka_unit_test(test_again_while_it_rests),
	};

	return cmocka_run_group_tests_name("ledger_resting", tests, NULL, NULL);
}
