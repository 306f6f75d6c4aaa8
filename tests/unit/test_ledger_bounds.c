// SPDX-License-Identifier: BSD-2-Clause
/* Bounds of memory, snapshots, and whatever a network may send. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ledger_help.h"

#define P(n) ((struct lh_packet){ .no = (n), .len = 100 })
#define OUT 20	/* our connection to another node */
#define IN 21	/* its connection to us */

static struct lh *region(void)
{
	struct lh *t = lh_new(NULL);

	lh_client(t, 1, 1);
	lh_client(t, 2, 2);
	lh_mesh_out(t, OUT);
	lh_mesh_in(t, IN);
	lh_present(t, OUT, 8, true);
	lh_tick(t, 100);
	return t;
}

static void claim(struct lh *t, int conn, uint32_t who)
{
	struct capture_event e = { .type = CAPTURE_PEER, .time_ns = t->now, .node = 3,
				   .conn = conn, .peer = { .key = lh_key(who) } };

	ledger_event(t->l, &e);
	lh_check(t);
}

static void too_many_pairs(void **state)
{
	const struct ledger_limits limits = { .max_pairs = 8 };
	struct lh *t = lh_new(&limits);
	uint32_t who, no = 0;

	(void)state;
	lh_client(t, 1, 1);
	lh_client(t, 2, 2);
	lh_tick(t, 100);
	for (who = 100; who < 150; who++) {
		lh_send(t, 1, who, P(++no));
		lh_send(t, 2, who, P(++no));
	}
	lh_drop(t, "unknown_dest", 2, 149, P(no));
	lh_send(t, 2, 1, P(++no));
	lh_recv(t, 1, 2, P(no));
	lh_wait(t, 2000);
	lh_snapshot(t, true);
	assert_int_equal(t->node.books.entered, 101);
	assert_int_equal(t->node.books.lost, 100);
	assert_int_equal(t->node.books.left, 1);
	assert_true(t->pair_count <= 9);
	assert_true(t->node.other_frames > 80);
	assert_int_equal(lh_pair(t, 0, 0)->books.entered, t->node.other_frames);
	lh_free(t);
}

static void idle_pairs_are_let_go(void **state)
{
	const struct ledger_limits limits = { .max_pairs = 8 };
	struct lh *t = lh_new(&limits);
	uint32_t i;

	(void)state;
	for (i = 1; i <= 4; i++)
		lh_client(t, i, i);
	for (i = 0; i < 6; i++) {
		lh_send(t, 1 + i % 3, 2 + i % 2, P(i));
		lh_recv(t, 2 + i % 2, 1 + i % 3, P(i));
	}
	lh_snapshot(t, false);
	t->now += 61000000000;
	lh_tick(t, 100);
	lh_snapshot(t, false);
	lh_check_books(t, 1, 2, BOOKS(0));
	assert_int_equal(lh_pair(t, 0, 0)->books.left, 6);
	assert_int_equal(t->node.books.left, 6);
	/* It comes again. */
	lh_send(t, 1, 2, P(70));
	lh_recv(t, 2, 1, P(70));
	lh_check_books(t, 1, 2, BOOKS(1, 1, 0, 0, 0));
	lh_free(t);
}

static void too_many_connections(void **state)
{
	const struct ledger_limits limits = { .max_connections = 2 };
	struct lh *t = lh_new(&limits);

	(void)state;
	lh_client(t, 1, 1);
	lh_client(t, 2, 2);
	lh_client(t, 3, 3);
	lh_mesh_out(t, OUT);
	lh_send(t, 1, 2, P(1));
	lh_recv(t, 2, 1, P(1));
	lh_send(t, 3, 2, P(2));
	lh_recv(t, 2, 3, P(2));
	lh_send(t, 2, 3, P(3));
	lh_recv(t, 3, 2, P(3));
	lh_send(t, 1, 8, P(4));
	lh_forward(t, OUT, CAPTURE_OUT, 1, 8, P(4));
	lh_send(t, 1, 9, P(5));
	lh_wait(t, 3000);
	lh_check_books(t, 1, 2, BOOKS(1, 1, 0, 0, 0));
	lh_check_books(t, 1, 8, BOOKS(1, 1, 0, 0, 0));
	/* It may have left on one of those that are not followed. */
	lh_check_books(t, 1, 9, BOOKS(1, 0, 0, 0, 1));
	lh_snapshot(t, false);
	assert_int_equal(t->node.books.entered, 5);
	assert_int_equal(t->node.books.left, 4);
	lh_free(t);
}

static void too_much_in_flight(void **state)
{
	const struct ledger_limits limits = { .max_in_flight = 16 };
	struct lh *t = lh_new(&limits);
	uint32_t no;

	(void)state;
	lh_client(t, 1, 1);
	lh_client(t, 2, 2);
	for (no = 1; no <= 100; no++)
		lh_send(t, 1, 2, P(no));
	lh_check_books(t, 1, 2, BOOKS(100, 0, 16, 0, 84));
	for (no = 200; no <= 300; no++)
		lh_recv(t, 2, 1, P(no));
	lh_drop(t, "queue_head", 0, 2, P(100));
	lh_wait(t, 500);
	lh_snapshot(t, false);
	assert_int_equal(t->node.books.left, 101);
	lh_free(t);
}

static void told_once_and_when_changed(void **state)
{
	struct lh *t = region();
	struct record_conn *c;

	(void)state;
	lh_send(t, 1, 2, P(1));
	lh_recv(t, 2, 1, P(1));
	lh_drop(t, "unknown_dest", 1, 9, P(2));
	lh_wait(t, 300);
	lh_snapshot(t, true);
	assert_int_equal(t->loss_count, 1);
	lh_snapshot(t, false);
	assert_int_equal(t->records, 0);
	lh_snapshot(t, true);
	assert_int_equal(t->loss_count, 1);
	assert_true(t->records >= 1 + 4 + 2 + 1);
	assert_string_equal(t->node.software, "derper v1");
	assert_int_equal(t->node.serves_count, 1);
	assert_int_equal(t->node.serves[0].port, 443);
	c = &t->conns[1].rec;
	assert_int_equal(c->steps & (STEP_CLIENT_INFO | STEP_SERVER_INFO | STEP_PACKET),
			 STEP_CLIENT_INFO | STEP_SERVER_INFO | STEP_PACKET);
	assert_int_equal(c->info_len, 104);
	assert_int_equal(c->last_type_in, DERP_SEND_PACKET);
	/* A closed one is told once more, kept a moment, and let go. */
	lh_close(t, 1);
	lh_snapshot(t, false);
	assert_true(t->conns[1].rec.closed_ns);
	lh_wait(t, 7000);
	memset(&t->conns[1].rec, 0, sizeof(t->conns[1].rec));
	lh_snapshot(t, true);
	assert_false(t->conns[1].rec.closed_ns);
	lh_check_books(t, 1, 2, BOOKS(1, 1, 0, 0, 0));
	lh_free(t);
}

static unsigned int chance(unsigned int *rng, unsigned int n)
{
	*rng = *rng * 1664525u + 1013904223u;
	return (*rng >> 8) % n;
}

/* Whatever comes: no order is needed, nothing is believed. */
static void noise(void **state)
{
	static const uint8_t types[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 16, 17, 0x55 };
	const struct ledger_limits limits = { .max_pairs = 40, .max_in_flight = 64,
					      .max_connections = 12 };
	struct lh *t = lh_new(&limits);
	uint8_t bytes[128];
	unsigned int rng = 1, i, j;

	(void)state;
	for (i = 0; i < 60000; i++) {
		int conn = 1 + chance(&rng, 16);

		t->now += chance(&rng, 20000000);
		for (j = 0; j < sizeof(bytes); j++)
			bytes[j] = 0;
		bytes[0] = chance(&rng, 6);
		bytes[32] = chance(&rng, 4);
		bytes[64] = chance(&rng, 3);
		switch (chance(&rng, 12)) {
		case 0:
			lh_open(t, conn, chance(&rng, 3), chance(&rng, 2));
			break;
		case 1:
			if (!chance(&rng, 4))
				lh_close(t, conn);
			break;
		case 2:
			lh_gap(t, conn, chance(&rng, 2), chance(&rng, 2));
			break;
		case 3:
			claim(t, conn, chance(&rng, 5));
			break;
		case 4:
			lh_drop(t, "queue_head", chance(&rng, 3), chance(&rng, 5), P(chance(&rng, 20)));
			break;
		case 5:
			lh_tick(t, chance(&rng, 300));
			break;
		case 6:
			if (!chance(&rng, 10))
				ledger_snapshot(t->l, t->now, chance(&rng, 2),
						&(struct record_sink){ NULL, lh_ignore });
			break;
		default:
			lh_frame(t, conn, chance(&rng, 2), types[chance(&rng, sizeof(types))],
				 bytes, chance(&rng, 128));
			break;
		}
	}
	lh_free(t);
}

/* It is a destination like any other, and not one that is not known. */
static void to_the_zero_key(void **state)
{
	struct lh *t = region();
	uint64_t lost = 0;
	int i;

	(void)state;
	lh_send(t, 1, 0, P(1));
	lh_wait(t, 2500);
	lh_snapshot(t, true);
	lh_check_books(t, 1, 0, BOOKS(0));
	for (i = 0; i < t->pair_count; i++) {
		if (key_equal(&t->pairs[i].dst, &key_zero_named))
			lost += t->pairs[i].books.lost;
	}
	assert_int_equal(lost, 1);
	assert_int_equal(t->loss_count, 1);
	assert_true(key_equal(&t->losses[0].dst, &key_zero_named));
	lh_free(t);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(to_the_zero_key),
	cmocka_unit_test(too_many_pairs),
	cmocka_unit_test(idle_pairs_are_let_go),
	cmocka_unit_test(too_many_connections),
	cmocka_unit_test(too_much_in_flight),
	cmocka_unit_test(told_once_and_when_changed),
	cmocka_unit_test(noise),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
