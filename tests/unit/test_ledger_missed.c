// SPDX-License-Identifier: BSD-2-Clause
/* What the tracer itself has missed proves no loss: who is where, and what left, may be in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ledger_help.h"

#define P(n) ((struct lh_packet){ .no = (n), .len = 100 })
#define OUT 20	/* our connection to another node */

static struct lh *one_client(void)
{
	struct lh *t = lh_new(NULL);

	lh_client(t, 1, 1);
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

/* Seen from its first byte, but then nothing was: no key, no frame. */
static void open_and_miss(struct lh *t, int conn, enum capture_role role)
{
	lh_open(t, conn, role, true);
	lh_gap(t, conn, CAPTURE_IN, true);
	lh_gap(t, conn, CAPTURE_OUT, true);
}

static void a_hello_was_missed(void **state)
{
	struct lh *t = one_client();

	(void)state;
	open_and_miss(t, 2, CAPTURE_ACCEPTED);
	lh_send(t, 1, 2, P(1));
	lh_wait(t, 1500);
	lh_check_books(t, 1, 2, BOOKS(1, 0, 0, 0, 1));
	lh_free(t);
}

/* Memory names the peer long after it came; the packet was read only now. */
static void a_hello_was_missed_and_the_peer_learnt_late(void **state)
{
	struct lh *t = one_client();

	(void)state;
	open_and_miss(t, 2, CAPTURE_ACCEPTED);
	t->conns[1].in_read = t->conns[1].in_pos;
	lh_send(t, 1, 2, P(1));
	lh_wait(t, 6000);
	claim(t, 2, 2);
	t->conns[1].in_read = UINT64_MAX;
	lh_wait(t, 2500);
	lh_check_books(t, 1, 2, BOOKS(1, 0, 0, 0, 1));
	/* Understood again: what enters from now on is seen leaving, or does not. */
	lh_gap(t, 2, CAPTURE_OUT, false);
	lh_tick(t, 100);
	lh_send(t, 1, 2, P(2));
	lh_wait(t, 2500);
	lh_check_books(t, 1, 2, BOOKS(2, 0, 0, 1, 1));
	lh_free(t);
}

static void a_dial_was_missed(void **state)
{
	struct lh *t = one_client();

	(void)state;
	open_and_miss(t, OUT, CAPTURE_DIALLED);
	lh_send(t, 1, 8, P(1));
	lh_wait(t, 1500);
	lh_check_books(t, 1, 8, BOOKS(1, 0, 0, 0, 1));
	/* What the mesh brings does not leave there. */
	lh_mesh_in(t, 21);
	lh_forward(t, 21, CAPTURE_IN, 7, 8, P(2));
	lh_wait(t, 1500);
	lh_check_books(t, 7, 8, BOOKS(1, 0, 0, 1, 0));
	lh_free(t);
}

/*
 * Attached while it was open: where the first bytes that were sent since then are a whole frame, nothing
 * can have left before it unseen; where they are a frame's rest, what was that one's nobody knows.
 */
static void the_first_frame_since(void **state)
{
	struct lh *t = one_client();
	uint32_t rest;

	(void)state;
	for (rest = 0; rest < 2; rest++) {
		int conn = 2 + (int)rest;

		lh_open(t, conn, CAPTURE_ACCEPTED, false);
		claim(t, conn, (uint32_t)conn);
		t->now += 1000000;
		lh_send(t, 1, (uint32_t)conn, P(1));
		lh_send(t, 1, (uint32_t)conn, P(2));
		t->now += 1000000;
		t->conns[conn].out_pos = rest * 40;
		lh_recv(t, conn, 1, P(2));
		/* Its own entry was before: it is in the books once, and lacks none. */
		lh_recv(t, conn, 1, P(3));
		lh_wait(t, 2500);
		lh_check_books(t, 1, (uint32_t)conn, BOOKS(3, 2, 0, !rest, rest));
		assert_int_equal(lh_pair(t, 1, (uint32_t)conn)->first_seen, 1);
	}
	lh_free(t);
}

/* A connection of which nothing was seen is found among the sockets, later. */
static void a_whole_connection_was_missed(void **state)
{
	struct lh *t = one_client();

	(void)state;
	lh_send(t, 1, 2, P(1));
	lh_send(t, 1, 3, P(2));
	lh_tick(t, 500);
	lh_open(t, 2, CAPTURE_ACCEPTED, false);
	lh_open(t, 3, CAPTURE_ACCEPTED, false);
	claim(t, 3, 3);
	lh_send(t, 1, 2, P(3));
	lh_send(t, 1, 3, P(4));
	lh_wait(t, 2500);
	lh_check_books(t, 1, 2, BOOKS(2, 0, 0, 1, 1));
	lh_check_books(t, 1, 3, BOOKS(2, 0, 0, 1, 1));
	lh_free(t);
}

/* The last that was sent on a connection was not seen, and is known as a gap once it is acknowledged. */
static void the_last_segment_was_missed(void **state)
{
	struct lh *t = one_client();

	(void)state;
	lh_client(t, 2, 2);
	lh_tick(t, 100);
	lh_send(t, 1, 2, P(1));
	t->conns[2].unseen = 137;
	lh_wait(t, 3000);
	lh_check_books(t, 1, 2, BOOKS(1, 0, 1, 0, 0));
	t->conns[2].unseen = 0;
	lh_gap(t, 2, CAPTURE_OUT, true);
	lh_wait(t, 1500);
	lh_check_books(t, 1, 2, BOOKS(1, 0, 0, 0, 1));
	lh_free(t);
}

static uint64_t entered_of_nobody(struct lh *t, uint32_t dst)
{
	return lh_pair(t, 0, dst)->books.entered;
}

/*
 * The entry of peer 1's packet was missed, and a connection whose peer is not known has brought one that
 * is equal, as short ones are: it is still not peer 1's.
 */
static void short_packets_name_nobody(void **state)
{
	const struct lh_packet equal = { .no = 1, .len = 2 };
	struct lh *t = one_client();

	(void)state;
	lh_client(t, 2, 2);
	open_and_miss(t, 3, CAPTURE_ACCEPTED);
	lh_tick(t, 100);
	lh_send(t, 3, 2, P(5));
	lh_send(t, 3, 2, equal);
	t->now += 1000;
	lh_recv(t, 2, 1, equal);
	lh_wait(t, 500);
	lh_snapshot(t, true);
	assert_true(key_is_zero(&t->conns[3].rec.peer));
	/* What came before it on that connection may leave yet. */
	assert_int_equal(entered_of_nobody(t, 2), 2);
	lh_recv(t, 2, 3, P(5));
	lh_wait(t, 500);
	lh_snapshot(t, true);
	lh_check_books(t, 3, 2, BOOKS(2, 2, 0, 0, 0));
	lh_free(t);
}

/* One that left may be an equal one whose entry was missed: those before it may leave yet, unseen. */
static void short_packets_pass_nobody(void **state)
{
	const struct lh_packet equal = { .no = 1, .len = 2 };
	struct lh *t = one_client();

	(void)state;
	lh_client(t, 2, 2);
	lh_tick(t, 100);
	lh_send(t, 1, 2, P(5));
	lh_send(t, 1, 2, equal);
	t->now += 1000;
	lh_recv(t, 2, 1, equal);
	lh_gap(t, 2, CAPTURE_OUT, true);
	lh_wait(t, 2500);
	lh_check_books(t, 1, 2, BOOKS(2, 1, 0, 0, 1));
	lh_free(t);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(a_hello_was_missed),
	cmocka_unit_test(a_hello_was_missed_and_the_peer_learnt_late),
	cmocka_unit_test(a_dial_was_missed),
	cmocka_unit_test(the_first_frame_since),
	cmocka_unit_test(a_whole_connection_was_missed),
	cmocka_unit_test(the_last_segment_was_missed),
	cmocka_unit_test(short_packets_name_nobody),
	cmocka_unit_test(short_packets_pass_nobody),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
