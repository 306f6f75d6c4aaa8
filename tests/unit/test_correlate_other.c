// SPDX-License-Identifier: BSD-2-Clause
/*
 * Two nodes, each with more pairs than rows, which each chooses by itself: their real books, told to one
 * report. Whatever has a row here and none there, nobody is accused, and the sums are what was sent.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "correlate/correlate.h"
#include "ledger_help.h"

#define PEERS	45u		/* on each node: 2,025 pairs from the one to the other */
#define ROWS	500u
#define MESH	50		/* the connection that the first dials to the second */
#define THIRD	51		/* one that a third node, which nobody traces, dials to the second */
#define HERE(i)	(1 + (i))
#define THERE(i) (101 + (i))
#define P(n)	((struct lh_packet){ .no = (n), .len = 148 })

struct world {
	struct lh *node[2];
	struct correlate *c;
	int telling;		/* whose records are put */
	uint32_t no;
	uint64_t sent, received, lost;
};

/* As a tracer would tell them: the nodes are two, and their mesh connection has two ends. */
static int put(void *ctx, const struct record *record)
{
	struct world *w = ctx;
	struct record r = *record;
	struct addr dial, serve;
	const uint8_t ip[2][4] = { { 10, 0, 0, 1 }, { 10, 0, 0, 2 } };

	addr_set(&dial, 4, ip[0], 5000);
	addr_set(&serve, 4, ip[1], 443);
	r.agent = 1 + w->telling;
	if (r.type == RECORD_CONN && r.conn.conn == MESH) {
		r.conn.local = w->telling ? serve : dial;
		r.conn.remote = w->telling ? dial : serve;
	}
	if (r.type == RECORD_NODE) {
		r.node_info.pid += w->telling;
		if (r.node_info.serves_count && w->telling)
			r.node_info.serves[0] = serve;
	}
	return correlate_put(w->c, &r);
}

static void tell(struct world *w, bool final)
{
	const struct record_sink sink = { w, put };
	struct record end = { .type = RECORD_AGENT };

	for (w->telling = 0; w->telling < 2; w->telling++) {
		struct lh *t = w->node[w->telling];

		if (final)
			ledger_end(t->l, t->now);
		assert_int_equal(ledger_snapshot(t->l, t->now, final, &sink), 0);
		end.time_ns = t->now;
		end.agent_info.final = final;
		assert_int_equal(put(w, &end), 0);
	}
}

static void world_new(struct world *w, uint32_t rows_here, uint32_t rows_there)
{
	const struct ledger_limits limits[2] = { { .max_pairs = rows_here }, { .max_pairs = rows_there } };
	uint32_t i;
	int n;

	memset(w, 0, sizeof(*w));
	w->c = correlate_new(NULL, NULL);
	assert_non_null(w->c);
	for (n = 0; n < 2; n++) {
		w->node[n] = lh_new(&limits[n]);
		w->node[n]->quiet = true;
		for (i = 0; i < PEERS; i++)
			lh_client(w->node[n], 1 + i, n ? THERE(i) : HERE(i));
	}
	lh_mesh_out(w->node[0], MESH);
	lh_mesh_in(w->node[1], MESH);
	lh_mesh_in(w->node[1], THIRD);
	for (i = 0; i < PEERS; i++)
		lh_present(w->node[0], MESH, THERE(i), true);
}

static void world_free(struct world *w)
{
	lh_free(w->node[0]);
	lh_free(w->node[1]);
	correlate_free(w->c);
}

static void pass_time(struct world *w, uint32_t ms)
{
	lh_wait(w->node[0], ms);
	lh_wait(w->node[1], ms);
}

static void across(struct world *w, uint32_t i, uint32_t j, uint8_t first)
{
	struct lh_packet p = P(++w->no);

	p.first = first;
	lh_send(w->node[0], 1 + i, THERE(j), p);
	lh_forward(w->node[0], MESH, CAPTURE_OUT, HERE(i), THERE(j), p);
	lh_forward(w->node[1], MESH, CAPTURE_IN, HERE(i), THERE(j), p);
	w->sent++;
	if ((i + j) % 7 == 0) {
		lh_drop(w->node[1], "queue_head", HERE(i), THERE(j), p);
		w->lost++;
		return;
	}
	lh_recv(w->node[1], 1 + j, HERE(i), p);
	w->received++;
}

/* Pairs of the second node's own, and of a third, take most of its rows before any comes from the first. */
static void crowd_the_second(struct world *w)
{
	uint32_t i, j;

	for (i = 0; i < 20; i++) {
		for (j = 0; j < 20; j++) {
			struct lh_packet p = P(++w->no);

			lh_send(w->node[1], 1 + i, THERE(j), p);
			lh_recv(w->node[1], 1 + j, THERE(i), p);
			w->sent++;
			w->received++;
		}
	}
	for (i = 0; i < 20; i++) {
		for (j = 0; j < 15; j++) {
			struct lh_packet p = P(++w->no);

			lh_forward(w->node[1], THIRD, CAPTURE_IN, 201 + i, THERE(j), p);
			lh_recv(w->node[1], 1 + j, 201 + i, p);
			w->sent++;
			w->received++;
		}
	}
	pass_time(w, 300);
}

static void all_across(struct world *w)
{
	uint32_t i, j;

	for (i = 0; i < PEERS; i++) {
		for (j = 0; j < PEERS; j++)
			across(w, i, j, 0);
		pass_time(w, 100);
	}
}

static const struct report_pair *other_of(const struct report *r)
{
	size_t i;

	for (i = 0; i < r->pair_count; i++) {
		if (r->pairs[i].is_other)
			return &r->pairs[i];
	}
	fail_msg("no other row");
	return NULL;
}

/* Rows and the other row together are what was sent, and every row is true by itself. */
static void check(const struct world *w, const struct report *r)
{
	uint64_t entered = 0, delivered = 0, lost = 0;
	size_t i;

	for (i = 0; i < r->pair_count; i++) {
		const struct report_pair *p = &r->pairs[i];

		assert_int_equal(p->entered, p->delivered + p->in_flight + p->lost.min + p->untraced);
		assert_int_equal(p->untraced, 0);
		assert_int_equal(p->in_flight, 0);
		entered += p->entered;
		delivered += p->delivered;
		lost += p->lost.min;
	}
	assert_int_equal(entered, w->sent);
	assert_int_equal(delivered, w->received);
	assert_int_equal(lost, w->lost);
	assert_true(other_of(r)->entered);
}

/* All that was lost, or is said to be wrong with peers, is of that class. */
static const struct report_verdict *only(const struct report *r, enum verdict_class class)
{
	const struct report_verdict *found = NULL;
	size_t i;

	for (i = 0; i < r->verdict_count; i++) {
		const struct report_verdict *v = &r->verdicts[i];

		if (v->class == class)
			found = v;
		else if (v->count.max || v->class == VERDICT_HANDSHAKE_UNANSWERED)
			fail_msg("%s: %s", verdict_class_name(v->class), v->summary);
	}
	return found;
}

static void end(struct world *w, struct report *r)
{
	pass_time(w, 2000);
	lh_close(w->node[0], MESH);
	lh_close(w->node[1], MESH);
	pass_time(w, 2000);
	tell(w, true);
	assert_int_equal(correlate_report(w->c, r), 0);
}

static void rows_chosen_apart(void **state)
{
	struct world w;
	struct report r;

	(void)state;
	world_new(&w, ROWS, ROWS);
	crowd_the_second(&w);
	all_across(&w);
	tell(&w, false);
	end(&w, &r);
	check(&w, &r);
	assert_true(r.pair_count > ROWS / 2);
	assert_int_equal(only(&r, VERDICT_QUEUE_DROP)->count.min, w.lost);
	report_free(&r);
	world_free(&w);
}

/* One node lets rows go that were idle, the other keeps them; then their pairs come again. */
static void rows_let_go_by_one(void **state)
{
	struct world w;
	struct report r;
	uint32_t i, j, round;

	(void)state;
	world_new(&w, 0, 40);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < 5; i++) {
			for (j = 1; j < 6; j++)
				across(&w, i, i + j == 7 ? 20 : j, 0);
		}
		pass_time(&w, 2000);
		tell(&w, false);
		w.node[0]->now += 61000000000;
		w.node[1]->now += 61000000000;
		pass_time(&w, 200);
		tell(&w, false);
	}
	across(&w, 1, 1, 0);
	end(&w, &r);
	check(&w, &r);
	only(&r, VERDICT_QUEUE_DROP);
	report_free(&r);
	world_free(&w);
}

/* Lost without a row: it is known all the same whom it was for, and so why. */
static void lost_among_others(void **state)
{
	struct world w;
	struct report r;
	uint32_t i;

	(void)state;
	world_new(&w, 0, 40);
	for (i = 0; i < 2 * PEERS; i++) {
		struct lh_packet p = P(++w.no);
		uint32_t from = i / 2, to = (i + i / 2) % 15;

		/* Nobody dials from there to here. */
		lh_send(w.node[1], 1 + from, HERE(to), p);
		lh_drop(w.node[1], "unknown_dest", THERE(from), HERE(to), p);
		w.sent++;
		w.lost++;
	}
	pass_time(&w, 2000);
	tell(&w, true);
	assert_int_equal(correlate_report(w.c, &r), 0);
	check(&w, &r);
	assert_true(other_of(&r)->lost.min > PEERS);
	assert_int_equal(only(&r, VERDICT_LINK_ONE_WAY)->count.min, w.lost);
	report_free(&r);
	world_free(&w);
}

static void on_the_second(struct world *w, uint32_t i, uint32_t j, uint32_t len, uint8_t first)
{
	struct lh_packet p = { .no = ++w->no, .len = len, .first = first };

	lh_send(w->node[1], 1 + i, THERE(j), p);
	lh_recv(w->node[1], 1 + j, THERE(i), p);
	w->sent++;
	w->received++;
}

/* The initiations have a row, and what answers them has none. */
static void answered_among_others(void **state)
{
	struct world w;
	struct report r;
	uint32_t i;

	(void)state;
	world_new(&w, 0, 40);
	for (i = 0; i + 1 < PEERS; i++)
		on_the_second(&w, i, i + 1, 148, 1);
	pass_time(&w, 6000);
	on_the_second(&w, 0, 1, 148, 1);
	on_the_second(&w, 1, 0, 92, 2);
	pass_time(&w, 2000);
	tell(&w, true);
	assert_int_equal(correlate_report(w.c, &r), 0);
	check(&w, &r);
	assert_null(only(&r, VERDICT_QUEUE_DROP));
	report_free(&r);
	world_free(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_chosen_apart),
		cmocka_unit_test(rows_let_go_by_one),
		cmocka_unit_test(lost_among_others),
		cmocka_unit_test(answered_among_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
