// SPDX-License-Identifier: BSD-2-Clause
/* Who is on a connection, the mesh, links and marks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ledger_help.h"

#define P(n) ((struct lh_packet){ .no = (n), .len = 100 })
#define OUT 20	/* our connection to another node */
#define IN 21	/* its connection to us */

static bool is_peer(const struct lh *t, int conn, uint32_t who)
{
	struct key k = lh_key(who);

	return key_equal(&t->conns[conn].rec.peer, &k);
}

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

static void crosses_the_mesh(void **state)
{
	struct lh *t = region();
	const struct lh_pair *p;

	(void)state;
	lh_send(t, 1, 8, P(1));
	lh_forward(t, OUT, CAPTURE_OUT, 1, 8, P(1));
	lh_forward(t, IN, CAPTURE_IN, 8, 1, P(2));
	lh_recv(t, 1, 8, P(2));
	p = lh_pair(t, 1, 8);
	assert_int_equal(p->frames[HOP_CLIENT_IN], 1);
	assert_int_equal(p->frames[HOP_MESH_OUT], 1);
	assert_int_equal(p->bytes[HOP_MESH_OUT], 100);
	p = lh_pair(t, 8, 1);
	assert_int_equal(p->frames[HOP_MESH_IN], 1);
	assert_int_equal(p->frames[HOP_CLIENT_OUT], 1);
	assert_int_equal(t->conns[OUT].rec.kind, CONN_MESH_OUT);
	assert_int_equal(t->conns[OUT].rec.forwards, 1);
	assert_int_equal(t->conns[OUT].rec.forwards_acked, 0);
	assert_int_equal(t->conns[OUT].rec.derp_off, t->conns[OUT].out_off);
	assert_int_equal(t->conns[IN].rec.kind, CONN_MESH_IN);
	assert_int_equal(t->conns[IN].rec.forwards, 1);
	assert_int_equal(t->conns[IN].rec.derp_off, t->conns[IN].in_off);
	assert_int_equal(t->conns[1].rec.kind, CONN_CLIENT);
	assert_int_equal(t->link_count, 2);
	assert_int_equal(t->presences, 1);
	lh_tick(t, 100);
	lh_snapshot(t, false);
	assert_int_equal(t->conns[OUT].rec.forwards_acked, 1);
	/* What comes from the mesh goes to a client here or nowhere. */
	lh_forward(t, IN, CAPTURE_IN, 8, 9, P(3));
	lh_wait(t, 1300);
	lh_check_books(t, 8, 9, BOOKS(1, 0, 0, 1, 0));
	assert_true(t->losses[0].from_mesh);
	/* A packet for the node itself neither enters nor leaves. */
	lh_frame(t, OUT, CAPTURE_IN, DERP_RECV_PACKET, (uint8_t[128]){ 1 }, 100);
	lh_snapshot(t, false);
	assert_int_equal(t->node.books.entered, 3);
	lh_free(t);
}

/* The mesh connection takes nothing: the sender's reader stands, with packets read and not handled. */
static void mesh_blackhole(void **state)
{
	struct lh *t = region();

	(void)state;
	lh_send(t, 1, 8, P(1));
	lh_forward(t, OUT, CAPTURE_OUT, 1, 8, P(1));
	t->conns[OUT].out_acked = 0;
	t->conns[OUT].notsent = 4000;
	lh_tick(t, 100);
	lh_send(t, 1, 8, P(2));
	lh_send(t, 1, 7, P(3));
	lh_send(t, 1, 2, P(4));
	lh_wait(t, 5000);
	lh_check_books(t, 1, 8, BOOKS(2, 1, 1, 0, 0));
	lh_check_books(t, 1, 7, BOOKS(1, 0, 1, 0, 0));
	assert_int_equal(t->conns[OUT].rec.notsent, 4000);
	assert_in_range(t->conns[OUT].rec.blocked_ns, 4900000000, 5100000000);
	assert_true(t->conns[OUT].rec.unacked_since_ns);
	/* It heals. */
	t->conns[OUT].notsent = 0;
	t->conns[OUT].out_acked = UINT64_MAX;
	lh_forward(t, OUT, CAPTURE_OUT, 1, 8, P(2));
	lh_recv(t, 2, 1, P(4));
	lh_wait(t, 2500);
	lh_check_books(t, 1, 8, BOOKS(2, 2, 0, 0, 0));
	lh_check_books(t, 1, 7, BOOKS(1, 0, 0, 1, 0));
	lh_check_books(t, 1, 2, BOOKS(1, 1, 0, 0, 0));
	lh_free(t);
}

static void mesh_connection_ends(void **state)
{
	struct lh *t = region();

	(void)state;
	lh_send(t, 1, 8, P(1));
	lh_send(t, 1, 8, P(2));
	t->conns[OUT].notsent = 250;
	lh_close(t, OUT);
	lh_wait(t, 1400);
	lh_check_books(t, 1, 8, BOOKS(2, 0, 0, 2, 0));
	assert_int_equal(lh_lost(t, 1, 8, REASON_UNSENT), 1);
	assert_int_equal(lh_lost(t, 1, 8, REASON_UNFLUSHED), 1);
	assert_int_equal(t->losses[0].out_conn, OUT);
	assert_int_equal(t->node.unflushed, 1);
	/* No route any more. */
	lh_send(t, 1, 8, P(3));
	lh_wait(t, 1400);
	lh_snapshot(t, false);
	assert_int_equal(lh_lost(t, 1, 8, REASON_NO_ROUTE), 1);
	lh_free(t);
}

static void route_changes(void **state)
{
	struct lh *t = region();

	(void)state;
	lh_send(t, 1, 8, P(1));
	t->now += 1000000;
	/* It moves here: the packet may be behind either exit. */
	lh_client(t, 8, 8);
	t->now += 1000000;
	lh_send(t, 1, 8, P(2));
	lh_recv(t, 8, 1, P(2));
	lh_wait(t, 300);
	lh_check_books(t, 1, 8, BOOKS(2, 1, 1, 0, 0));
	lh_forward(t, OUT, CAPTURE_OUT, 1, 8, P(1));
	lh_check_books(t, 1, 8, BOOKS(2, 2, 0, 0, 0));
	lh_present(t, OUT, 8, false);
	lh_snapshot(t, false);
	assert_int_equal(t->presences_gone, 1);
	lh_free(t);
}

static void presence_is_told(void **state)
{
	struct lh *t = region();
	uint8_t said[51] = { 0 };
	struct key k = lh_key(9);

	(void)state;
	lh_snapshot(t, false);
	assert_int_equal(t->presence.addr.family, 0);
	memcpy(said, k.b, KEY_LEN);
	said[42] = said[43] = 0xff;
	memcpy(said + 44, (uint8_t[]){ 192, 0, 2, 7, 0x12, 0x34, 3 }, 7);
	lh_frame(t, OUT, CAPTURE_IN, DERP_PEER_PRESENT, said, 51);
	lh_snapshot(t, false);
	assert_int_equal(t->presence.addr.family, 4);
	assert_int_equal(t->presence.addr.ip[3], 7);
	assert_int_equal(t->presence.addr.port, 0x1234);
	assert_int_equal(t->presence.flags, 3);
	said[32] = 1;
	lh_frame(t, OUT, CAPTURE_IN, DERP_PEER_GONE, said, 33);
	lh_snapshot(t, false);
	assert_false(t->presence.present);
	assert_true(t->presence.not_here);
	/* Short ones say nothing, and older ones less. */
	lh_frame(t, OUT, CAPTURE_IN, DERP_PEER_PRESENT, said, 31);
	lh_frame(t, OUT, CAPTURE_IN, DERP_PEER_PRESENT, said, 32);
	lh_snapshot(t, false);
	assert_true(t->presence.present);
	assert_int_equal(t->presence.addr.family, 0);
	lh_free(t);
}

/* From a file, mid-stream: nobody is known but by the packets themselves. */
static void peers_are_learnt(void **state)
{
	struct lh *t = lh_new(NULL);
	uint32_t no;

	(void)state;
	lh_open(t, 1, CAPTURE_ROLE_UNKNOWN, false);
	lh_open(t, 2, CAPTURE_ROLE_UNKNOWN, false);
	t->conns[1].offline = t->conns[2].offline = true;
	t->now += 1000000;
	lh_send(t, 1, 2, P(1));
	lh_recv(t, 2, 1, P(1));
	lh_send(t, 1, 2, P(2));
	lh_snapshot(t, false);
	assert_int_equal(lh_pair(t, 0, 2)->books.entered, 2);
	lh_wait(t, 200);
	/* Now they are: what was booked for unknown ends is theirs. */
	lh_check_books(t, 1, 2, BOOKS(2, 1, 1, 0, 0));
	lh_check_books(t, 0, 2, BOOKS(0));
	assert_true(is_peer(t, 1, 1));
	for (no = 3; no < 10; no++) {
		lh_send(t, 1, 2, P(no));
		lh_recv(t, 2, 1, P(no));
	}
	lh_send(t, 2, 1, P(50));
	lh_recv(t, 1, 2, P(50));
	lh_wait(t, 300);
	lh_check_books(t, 1, 2, BOOKS(9, 8, 0, 1, 0));
	lh_check_books(t, 2, 1, BOOKS(1, 1, 0, 0, 0));
	assert_int_equal(buckets_get(lh_pair(t, 1, 2)->latency, 0), 8);
	lh_free(t);
}

/* A destination nobody knows may be on a connection of which the peer is not known. */
static void may_be_anywhere(void **state)
{
	struct lh *t = lh_new(NULL);

	(void)state;
	lh_client(t, 1, 1);
	lh_open(t, 2, CAPTURE_ACCEPTED, false);
	lh_recv(t, 2, 5, P(1));
	t->conns[2].notsent = 300;
	lh_tick(t, 100);
	lh_send(t, 1, 7, P(2));
	lh_wait(t, 4000);
	lh_check_books(t, 1, 7, BOOKS(1, 0, 1, 0, 0));
	t->conns[2].notsent = 0;
	lh_wait(t, 1300);
	lh_check_books(t, 1, 7, BOOKS(1, 0, 0, 1, 0));
	lh_free(t);
}

/* What an unknown sender lost stays its: it has been told. */
static void losses_of_the_unknown(void **state)
{
	struct lh *t = lh_new(NULL);

	(void)state;
	lh_open(t, 1, CAPTURE_ACCEPTED, false);
	lh_client(t, 2, 2);
	lh_send(t, 1, 2, P(1));
	lh_send(t, 1, 2, P(2));
	lh_drop(t, "queue_head", 0, 2, P(1));
	lh_wait(t, 300);
	lh_check_books(t, 0, 2, BOOKS(2, 0, 1, 1, 0));
	assert_int_equal(lh_lost(t, 0, 2, REASON_QUEUE_HEAD), 1);
	lh_recv(t, 2, 1, P(2));
	lh_wait(t, 300);
	lh_check_books(t, 1, 2, BOOKS(1, 1, 0, 0, 0));
	lh_check_books(t, 0, 2, BOOKS(1, 0, 0, 1, 0));
	/* The relay names both ends of a drop. */
	lh_open(t, 5, CAPTURE_ACCEPTED, false);
	lh_send(t, 5, 9, P(3));
	lh_drop(t, "unknown_dest", 5, 9, P(3));
	lh_wait(t, 300);
	lh_check_books(t, 5, 9, BOOKS(1, 0, 0, 1, 0));
	lh_check_books(t, 0, 9, BOOKS(0));
	lh_free(t);
}

static void claims(void **state)
{
	struct lh *t = lh_new(NULL);
	uint32_t no;

	(void)state;
	lh_open(t, 1, CAPTURE_ACCEPTED, false);
	lh_open(t, 2, CAPTURE_ACCEPTED, false);
	lh_open(t, 3, CAPTURE_ACCEPTED, false);
	claim(t, 1, 1);
	claim(t, 2, 2);
	claim(t, 3, 7);
	t->now += 1000000;
	lh_snapshot(t, false);
	assert_true(t->conns[1].rec.peer_claimed);
	lh_send(t, 1, 2, P(1));
	lh_recv(t, 2, 1, P(1));
	lh_snapshot(t, false);
	assert_false(t->conns[1].rec.peer_claimed);
	assert_false(t->conns[2].rec.peer_claimed);
	lh_check_books(t, 1, 2, BOOKS(1, 1, 0, 0, 0));
	/* Memory was wrong about 3: packets for it show who it is. */
	for (no = 10; no < 16; no++) {
		lh_send(t, 1, 3, P(no));
		lh_recv(t, 3, 1, P(no));
		lh_wait(t, 300);
	}
	lh_wait(t, 300);
	lh_snapshot(t, false);
	assert_true(is_peer(t, 3, 3));
	lh_send(t, 1, 3, P(20));
	lh_recv(t, 3, 1, P(20));
	assert_true(lh_pair(t, 1, 3)->books.left >= 3);
	/* The wire is believed, a later claim is not. */
	claim(t, 2, 6);
	lh_snapshot(t, false);
	assert_true(is_peer(t, 2, 2));
	lh_free(t);
}

static void marks(void **state)
{
	struct lh *t = region();
	uint64_t total = 0;
	uint32_t no;
	int i, first;

	(void)state;
	for (no = 1; no <= 100; no++)
		lh_forward(t, OUT, CAPTURE_OUT, 1 + no % 2, 8, P(no));
	lh_snapshot(t, false);
	/* The first 32 one by one, then one of the rest. */
	assert_int_equal(t->mark_count, 33);
	for (i = 0; i < 32; i++) {
		assert_int_equal(t->marks[i].no, i + 1);
		assert_int_equal(t->marks[i].digest, lh_digest(P(i + 1)));
		assert_int_equal(t->marks[i].pair_count, 1);
		assert_int_equal(t->marks[i].pairs[0].frames, i / 2 + 1);
	}
	assert_true(t->marks[32].no > 32 && t->marks[32].no <= 100);
	for (i = 0; i < (int)t->marks[32].pair_count; i++)
		total += t->marks[32].pairs[i].frames;
	if (t->marks[32].pair_count == 2)
		assert_int_equal(total, t->marks[32].no);
	/* After a gap again one by one; the first of them counts all that came since the last. */
	lh_gap(t, OUT, CAPTURE_OUT, true);
	t->now += 1000000;
	lh_gap(t, OUT, CAPTURE_OUT, false);
	first = t->mark_count;
	for (no = 101; no <= 104; no++)
		lh_forward(t, OUT, CAPTURE_OUT, 1 + no % 2, 8, P(no));
	lh_snapshot(t, false);
	assert_int_equal(t->mark_count, first + 4);
	assert_int_equal(t->marks[first].no, 101);
	assert_int_equal(t->conns[OUT].rec.gaps, 1);
	for (i = 0, total = 0; i < t->link_count; i++)
		total += t->links[i].frames;
	assert_int_equal(total, 104);
	lh_free(t);
}

/* Both ends of a link choose the same frame, whatever one has missed before. */
static void marks_at_both_ends(void **state)
{
	struct lh *a = region(), *b = region();
	struct record_mark *ma, *mb;
	uint32_t no;

	(void)state;
	for (no = 1; no <= 400; no++) {
		lh_forward(a, OUT, CAPTURE_OUT, 1, 8, P(no));
		if (no > 50)
			lh_forward(b, IN, CAPTURE_IN, 1, 8, P(no));
	}
	lh_snapshot(a, false);
	lh_snapshot(b, false);
	ma = &a->marks[a->mark_count - 1];
	mb = &b->marks[b->mark_count - 1];
	assert_int_equal(ma->digest, mb->digest);
	assert_int_equal(ma->pairs[0].frames - mb->pairs[0].frames, 50);
	lh_free(a);
	lh_free(b);
}

/* The client resets as soon as it has sent: what the relay had read ahead went with its reader. */
static void reset_behind_the_last_packet(void **state)
{
	struct lh *t = region();
	struct capture_event e = { .type = CAPTURE_CONN_CLOSE, .node = 3, .conn = 1,
				   .close = { .how = CAPTURE_CLOSED_RST_IN } };

	(void)state;
	lh_send(t, 1, 2, P(1));
	lh_recv(t, 2, 1, P(1));
	lh_wait(t, 2000);
	lh_send(t, 1, 2, P(2));
	lh_send(t, 1, 8, P(3));
	lh_tick(t, 100);
	e.time_ns = t->now;
	ledger_event(t->l, &e);
	lh_wait(t, 2500);
	lh_check_books(t, 1, 2, BOOKS(2, 1, 0, 1, 0));
	lh_check_books(t, 1, 8, BOOKS(1, 0, 0, 1, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_UNREAD), 1);
	assert_int_equal(lh_lost(t, 1, 8, REASON_UNREAD), 1);
	lh_free(t);
}

/* A forward that was under way when its destination's node said good-bye for it brings it not back. */
static void forwarded_as_it_left(void **state)
{
	struct lh *t = region();

	(void)state;
	lh_send(t, 1, 8, P(1));
	lh_present(t, OUT, 8, false);
	lh_tick(t, 10);
	lh_forward(t, OUT, CAPTURE_OUT, 1, 8, P(1));
	lh_tick(t, 100);
	lh_send(t, 1, 8, P(2));
	lh_wait(t, 2500);
	lh_check_books(t, 1, 8, BOOKS(2, 1, 0, 1, 0));
	assert_int_equal(lh_lost(t, 1, 8, REASON_NO_ROUTE), 1);
	assert_false(t->presence.present);
	lh_free(t);
}

/* Drops of equal packets: which of them left is not known, so it shows nobody else's loss. */
static void equal_packets_overtake_nobody(void **state)
{
	struct lh *t = region();
	int i;

	(void)state;
	lh_client(t, 3, 3);
	t->conns[2].notsent = 800;
	for (i = 0; i < 10; i++) {
		lh_send(t, 1, 2, P(7));
		if (i < 4)
			lh_send(t, 3, 2, P(100 + i));
		lh_tick(t, 100);
	}
	/* Four of either wait in the socket; what came after them was dropped. */
	for (i = 0; i < 6; i++)
		lh_drop(t, "queue_tail", 0, 2, P(7));
	lh_wait(t, 300);
	lh_recv(t, 2, 1, P(7));
	lh_recv(t, 2, 3, P(100));
	lh_wait(t, 2000);
	lh_check_books(t, 1, 2, BOOKS(10, 1, 3, 6, 0));
	lh_check_books(t, 3, 2, BOOKS(4, 1, 3, 0, 0));
	lh_free(t);
}

/* Which forwards TCP has brought over, and at which it stands. */
static void largest_forward_acked(void **state)
{
	struct lh *t = lh_new(NULL);

	(void)state;
	lh_mesh_in(t, 21);
	lh_mesh_out(t, OUT);
	lh_present(t, OUT, 8, true);
	lh_tick(t, 100);
	lh_forward(t, OUT, CAPTURE_OUT, 1, 8, (struct lh_packet){ .no = 1, .len = 300 });
	lh_forward(t, OUT, CAPTURE_OUT, 1, 8, (struct lh_packet){ .no = 2, .len = 100 });
	lh_tick(t, 100);
	t->conns[OUT].out_acked = t->conns[OUT].out_pos;
	lh_forward(t, OUT, CAPTURE_OUT, 1, 8, (struct lh_packet){ .no = 3, .len = 1300 });
	lh_forward(t, OUT, CAPTURE_OUT, 1, 8, (struct lh_packet){ .no = 4, .len = 80 });
	lh_tick(t, 100);
	lh_snapshot(t, true);
	assert_int_equal(t->conns[OUT].rec.max_acked_forward, 5 + 64 + 300);
	assert_int_equal(t->conns[OUT].rec.stuck_forward, 5 + 64 + 1300);
	t->conns[OUT].out_acked = UINT64_MAX;
	lh_tick(t, 100);
	lh_snapshot(t, true);
	assert_int_equal(t->conns[OUT].rec.max_acked_forward, 5 + 64 + 1300);
	assert_int_equal(t->conns[OUT].rec.stuck_forward, 0);
	lh_free(t);
}

/* The node says FIN, and what it had sent is acknowledged by the FIN that answers, of a socket that is gone. */
static void fin_answers_fin(void **state)
{
	struct lh *t = region();

	(void)state;
	lh_send(t, 1, 2, P(1));
	t->conns[2].out_acked = t->conns[2].out_pos;
	lh_recv(t, 2, 1, P(1));
	lh_tick(t, 800);
	assert_int_equal(lh_pair(t, 1, 2)->last_hop, 0);
	t->conns[2].tcp_state = 4;
	lh_close(t, 2);
	assert_int_equal(lh_pair(t, 1, 2)->last_hop, 0);
	lh_check_books(t, 1, 2, BOOKS(1, 1, 0, 0, 0));
	lh_free(t);
}

/* The relay has closed a connection whose socket lives on: what comes then cannot be meant for it. */
static void closed_by_the_relay(void **state)
{
	struct lh *t = region();

	(void)state;
	t->conns[2].notsent = 5000;
	lh_tick(t, 100);
	assert_int_equal(t->conns[2].rec.left_ns, 0);
	lh_send(t, 1, 2, P(1));
	t->conns[2].tcp_state = 4;
	lh_tick(t, 100);
	lh_tick(t, 1);
	lh_send(t, 1, 2, P(2));
	lh_wait(t, 3000);
	lh_check_books(t, 1, 2, BOOKS(2, 0, 1, 1, 0));
	assert_int_equal(lh_lost(t, 1, 2, REASON_NO_ROUTE), 1);
	lh_snapshot(t, true);
	assert_in_range(t->conns[2].rec.left_ns, 1, t->now);
	lh_close(t, 2);
	lh_wait(t, 3000);
	lh_check_books(t, 1, 2, BOOKS(2, 0, 0, 2, 0));
	lh_free(t);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(closed_by_the_relay),
	cmocka_unit_test(fin_answers_fin),
	cmocka_unit_test(largest_forward_acked),
	cmocka_unit_test(crosses_the_mesh),
	cmocka_unit_test(mesh_blackhole),
	cmocka_unit_test(mesh_connection_ends),
	cmocka_unit_test(route_changes),
	cmocka_unit_test(presence_is_told),
	cmocka_unit_test(peers_are_learnt),
	cmocka_unit_test(may_be_anywhere),
	cmocka_unit_test(losses_of_the_unknown),
	cmocka_unit_test(claims),
	cmocka_unit_test(marks),
	cmocka_unit_test(marks_at_both_ends),
	cmocka_unit_test(reset_behind_the_last_packet),
	cmocka_unit_test(forwarded_as_it_left),
	cmocka_unit_test(equal_packets_overtake_nobody),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
