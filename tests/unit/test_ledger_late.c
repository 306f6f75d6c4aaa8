// SPDX-License-Identifier: BSD-2-Clause
/* Connections that are read late, because their secret was found late, or in part, or never. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ledger_help.h"

#define P(n) ((struct lh_packet){ .no = (n), .len = 100 })
#define SHORT ((struct lh_packet){ .no = 1, .len = 2 })
#define OUT 20	/* our connection to another node */
#define MS 1000000ull

static void check_books(struct lh *t, uint32_t src, uint32_t dst, struct record_books want)
{
	lh_snapshot(t, true);
	lh_check_books(t, src, dst, want);
}

/* The same of all pairs together. */
static void check_node(struct lh *t, struct record_books want)
{
	const struct record_books *b = &t->node.books;

	lh_snapshot(t, true);
	assert_int_equal(b->entered, want.entered);
	assert_int_equal(b->left, want.left);
	assert_int_equal(b->in_flight, want.in_flight);
	assert_int_equal(b->lost, want.lost);
	assert_int_equal(b->untraced, want.untraced);
}

static void claim(struct lh *t, int conn, uint32_t who)
{
	struct capture_event e = { .type = CAPTURE_PEER, .time_ns = t->now, .node = 3,
				   .conn = conn, .peer = { .key = lh_key(who) } };

	ledger_event(t->l, &e);
	lh_check(t);
}

static void info(struct lh *t, int conn, struct stream_info i)
{
	i.tls = true;
	i.bytes[CAPTURE_IN] = i.bytes[CAPTURE_OUT] = 2000;
	ledger_info(t->l, conn, &i);
	lh_check(t);
}

/* Its secret is missing, as it is after an attach. */
static void open_unread(struct lh *t, int conn)
{
	lh_open(t, conn, CAPTURE_ACCEPTED, false);
	lh_gap(t, conn, CAPTURE_IN, true);
	lh_gap(t, conn, CAPTURE_OUT, true);
	info(t, conn, (struct stream_info){ .stage = STREAM_TLS_DONE, .secret_missing = true });
}

/* Decrypted at last: what it carried so far is told with the time at which it passed. */
static void read_at_last(struct lh *t, int conn, uint64_t from_ns)
{
	uint64_t now = t->now;

	t->now = from_ns;
	lh_gap(t, conn, CAPTURE_IN, false);
	lh_gap(t, conn, CAPTURE_OUT, false);
	t->now = now;
	info(t, conn, (struct stream_info){ .stage = STREAM_DERP, .decrypted = true });
}

static void sent_before(struct lh *t, uint64_t at_ns, int conn, uint32_t dst, struct lh_packet p)
{
	uint64_t now = t->now;

	t->now = at_ns;
	lh_send(t, conn, dst, p);
	t->now = now;
}

static void received_before(struct lh *t, uint64_t at_ns, int conn, uint32_t src,
			    struct lh_packet p)
{
	uint64_t now = t->now;

	t->now = at_ns;
	lh_recv(t, conn, src, p);
	t->now = now;
}

/* 1 sends 2 four packets of which the third is lost; 1's connection is read two seconds later. */
static struct lh *sender_read_late(uint64_t *at_ns)
{
	struct lh *t = lh_new(NULL);

	open_unread(t, 1);
	lh_client(t, 2, 2);
	lh_tick(t, 100);
	*at_ns = t->now;
	lh_recv(t, 2, 1, P(1));
	lh_recv(t, 2, 1, P(2));
	lh_recv(t, 2, 1, P(4));
	lh_wait(t, 2000);
	check_books(t, 1, 2, BOOKS(3, 3, 0, 0, 0));
	read_at_last(t, 1, *at_ns - 10 * MS);
	return t;
}

static void named_before_its_packets_are_told(void **state)
{
	uint64_t at_ns;
	struct lh *t = sender_read_late(&at_ns);
	uint32_t i;

	(void)state;
	claim(t, 1, 1);
	for (i = 1; i <= 4; i++)
		sent_before(t, at_ns - 5 * MS, 1, 2, P(i));
	lh_wait(t, 3000);
	check_books(t, 1, 2, BOOKS(4, 3, 0, 1, 0));
	check_node(t, BOOKS(4, 3, 0, 1, 0));
	assert_int_equal(lh_pair(t, 1, 2)->first_seen, 0);
	lh_free(t);
}

/* The packets themselves say who sent them: equal ones left under that name. */
static void named_by_what_left_before(void **state)
{
	uint64_t at_ns;
	struct lh *t = sender_read_late(&at_ns);
	struct key who = lh_key(1);
	uint32_t i;

	(void)state;
	for (i = 1; i <= 4; i++)
		sent_before(t, at_ns - 5 * MS, 1, 2, P(i));
	lh_snapshot(t, true);
	assert_true(key_equal(&t->conns[1].rec.peer, &who));
	lh_wait(t, 3000);
	check_books(t, 1, 2, BOOKS(4, 3, 0, 1, 0));
	check_node(t, BOOKS(4, 3, 0, 1, 0));
	lh_free(t);
}

/* Short ones name nobody: they wait until their sender is named in another way. */
static void named_after_its_packets_are_told(void **state)
{
	struct lh *t = lh_new(NULL);
	uint64_t at_ns;

	(void)state;
	open_unread(t, 1);
	lh_client(t, 2, 2);
	lh_tick(t, 100);
	at_ns = t->now;
	lh_recv(t, 2, 1, SHORT);
	lh_wait(t, 1500);
	read_at_last(t, 1, at_ns - 10 * MS);
	sent_before(t, at_ns - 5 * MS, 1, 2, SHORT);
	sent_before(t, at_ns - 4 * MS, 1, 2, P(7));
	lh_wait(t, 2500);
	check_node(t, BOOKS(3, 1, 2, 0, 0));
	claim(t, 1, 1);
	check_books(t, 1, 2, BOOKS(2, 1, 1, 0, 0));
	lh_wait(t, 1500);
	check_books(t, 1, 2, BOOKS(2, 1, 0, 1, 0));
	check_node(t, BOOKS(2, 1, 0, 1, 0));
	lh_free(t);
}

/* Nobody ever says who sent it: it may be what left, and is no loss. */
static void never_named(void **state)
{
	struct lh *t = lh_new(NULL);
	uint64_t at_ns;

	(void)state;
	open_unread(t, 1);
	lh_client(t, 2, 2);
	lh_tick(t, 100);
	at_ns = t->now;
	lh_recv(t, 2, 1, SHORT);
	lh_wait(t, 1500);
	read_at_last(t, 1, at_ns - 10 * MS);
	sent_before(t, at_ns - 5 * MS, 1, 2, SHORT);
	lh_wait(t, 6000);
	check_node(t, BOOKS(2, 1, 0, 0, 1));
	lh_free(t);
}

/* Both ends are read late, the receiver first: it is named by the sender's packets. */
static void both_ends_are_read_late(void **state)
{
	struct lh *t = lh_new(NULL);
	uint64_t at_ns;

	(void)state;
	open_unread(t, 1);
	open_unread(t, 2);
	lh_tick(t, 100);
	at_ns = t->now;
	lh_wait(t, 1500);
	read_at_last(t, 2, at_ns - 10 * MS);
	received_before(t, at_ns, 2, 1, P(1));
	received_before(t, at_ns, 2, 1, P(2));
	lh_wait(t, 500);
	read_at_last(t, 1, at_ns - 10 * MS);
	sent_before(t, at_ns - 5 * MS, 1, 2, P(1));
	sent_before(t, at_ns - 5 * MS, 1, 2, P(2));
	lh_wait(t, 3000);
	check_books(t, 1, 2, BOOKS(2, 2, 0, 0, 0));
	check_node(t, BOOKS(2, 2, 0, 0, 0));
	lh_free(t);
}

/* The relay said that it dropped them, one without its source, long before they are told. */
static void dropped_before_it_is_told(void **state)
{
	struct lh *t = lh_new(NULL);
	uint64_t at_ns;

	(void)state;
	open_unread(t, 1);
	lh_client(t, 2, 2);
	lh_tick(t, 100);
	at_ns = t->now;
	lh_drop(t, "queue_head", 0, 2, P(1));
	lh_drop(t, "unknown_dest", 1, 2, P(2));
	lh_wait(t, 2000);
	read_at_last(t, 1, at_ns - 10 * MS);
	claim(t, 1, 1);
	sent_before(t, at_ns - 5 * MS, 1, 2, P(1));
	sent_before(t, at_ns - 5 * MS, 1, 2, P(2));
	lh_wait(t, 2500);
	check_books(t, 1, 2, BOOKS(2, 0, 0, 2, 0));
	check_node(t, BOOKS(2, 0, 0, 2, 0));
	lh_free(t);
}

static struct lh *sender_and_unread_receiver(bool from_start)
{
	struct lh *t = lh_new(NULL);

	lh_client(t, 1, 1);
	lh_open(t, 2, CAPTURE_ACCEPTED, from_start);
	lh_tick(t, 100);
	return t;
}

/* What came in on it is read, what went out is not yet: no gap has been told. */
static void only_what_came_in_is_read(void **state)
{
	struct lh *t = sender_and_unread_receiver(true);
	uint64_t at_ns;

	(void)state;
	info(t, 2, (struct stream_info){ .stage = STREAM_TLS_DONE, .secret_missing = true });
	info(t, 2, (struct stream_info){ .stage = STREAM_DERP, .decrypted = true });
	claim(t, 2, 2);
	lh_send(t, 1, 2, P(1));
	at_ns = t->now;
	lh_wait(t, 2000);
	check_books(t, 1, 2, BOOKS(1, 0, 1, 0, 0));
	received_before(t, at_ns + MS, 2, 1, P(1));
	lh_wait(t, 500);
	check_books(t, 1, 2, BOOKS(1, 1, 0, 0, 0));
	lh_send(t, 1, 2, P(2));
	lh_wait(t, 2500);
	check_books(t, 1, 2, BOOKS(2, 1, 0, 1, 0));
	lh_free(t);
}

/* More was sent than is understood: it waits for a key, or for a record's number. */
static void what_went_out_is_not_read_yet(void **state)
{
	struct lh *t = lh_new(NULL);
	uint64_t at_ns;

	(void)state;
	lh_client(t, 1, 1);
	lh_client(t, 2, 2);
	lh_tick(t, 100);
	lh_send(t, 1, 2, P(1));
	lh_send(t, 1, 2, P(2));
	at_ns = t->now;
	t->conns[2].out_pos += 137;
	lh_wait(t, 3000);
	check_books(t, 1, 2, BOOKS(2, 0, 2, 0, 0));
	t->conns[2].out_pos -= 137;
	received_before(t, at_ns + MS, 2, 1, P(1));
	lh_wait(t, 2500);
	check_books(t, 1, 2, BOOKS(2, 1, 0, 1, 0));
	/* And one that is never read. */
	lh_send(t, 1, 2, P(3));
	t->conns[2].out_pos += 137;
	lh_wait(t, 6000);
	check_books(t, 1, 2, BOOKS(3, 1, 0, 1, 1));
	lh_free(t);
}

/* A part of a frame was sent, the rest waits in the socket: that hides nothing. */
static void a_part_of_a_frame_is_stuck(void **state)
{
	struct lh *t = lh_new(NULL);

	(void)state;
	lh_client(t, 1, 1);
	lh_client(t, 2, 2);
	lh_tick(t, 100);
	lh_send(t, 1, 2, P(1));
	t->conns[2].out_pos += 100;
	t->conns[2].notsent = 37;
	lh_wait(t, 1000);
	lh_close(t, 2);
	lh_wait(t, 3000);
	check_books(t, 1, 2, BOOKS(1, 0, 0, 1, 0));
	lh_free(t);
}

/* Read from the middle, it was taken for something else; memory says that a peer is on it. */
static void taken_for_something_else(void **state)
{
	struct lh *t = sender_and_unread_receiver(false);

	(void)state;
	lh_gap(t, 2, CAPTURE_OUT, true);
	info(t, 2, (struct stream_info){ .stage = STREAM_TLS_DONE, .secret_missing = true });
	lh_gap(t, 2, CAPTURE_OUT, false);
	info(t, 2, (struct stream_info){ .stage = STREAM_OTHER, .decrypted = true });
	claim(t, 2, 2);
	lh_tick(t, 100);
	lh_send(t, 1, 2, P(1));
	lh_wait(t, 3000);
	check_books(t, 1, 2, BOOKS(1, 0, 0, 0, 1));
	info(t, 2, (struct stream_info){ .stage = STREAM_OTHER, .decrypted = true });
	lh_send(t, 1, 2, P(2));
	lh_wait(t, 3000);
	check_books(t, 1, 2, BOOKS(2, 0, 0, 0, 2));
	lh_free(t);
}

/* Two equal packets, and the first one's exit was missed: what leaves is the second. */
static void of_equal_ones_one_left_unseen(void **state)
{
	struct lh *t = lh_new(NULL);

	(void)state;
	lh_client(t, 1, 1);
	lh_client(t, 2, 2);
	lh_tick(t, 100);
	lh_send(t, 1, 2, SHORT);
	t->now += MS;
	lh_gap(t, 2, CAPTURE_OUT, true);
	t->now += MS;
	lh_gap(t, 2, CAPTURE_OUT, false);
	t->now += MS;
	lh_send(t, 1, 2, SHORT);
	lh_send(t, 1, 2, P(5));
	t->now += MS;
	lh_recv(t, 2, 1, SHORT);
	lh_recv(t, 2, 1, P(5));
	lh_wait(t, 2500);
	check_books(t, 1, 2, BOOKS(3, 2, 0, 0, 1));
	lh_free(t);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(named_before_its_packets_are_told),
	cmocka_unit_test(named_by_what_left_before),
	cmocka_unit_test(named_after_its_packets_are_told),
	cmocka_unit_test(never_named),
	cmocka_unit_test(both_ends_are_read_late),
	cmocka_unit_test(dropped_before_it_is_told),
	cmocka_unit_test(only_what_came_in_is_read),
	cmocka_unit_test(what_went_out_is_not_read_yet),
	cmocka_unit_test(a_part_of_a_frame_is_stuck),
	cmocka_unit_test(taken_for_something_else),
	cmocka_unit_test(of_equal_ones_one_left_unseen),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
