/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Books of an edge. Both ends count the ForwardPacket frames of each pair on one reliable stream:
 * s at the sender, a at the receiver. Either may have begun to count later than the other; at a frame
 * that both have marked, base = s - a is what that makes, and what the two count from there on must
 * agree but for the stream's tail. So, for each pair:
 *
 *	untraced	base, where positive: the receiver's tracer missed them
 *	first seen	-base, where negative: the sender's missed them; they were sent all the same
 *	tail		s - a - base, where positive: in flight while an end is open, lost once both
 *			have ended; untraced where the receiver's tracer has ended before, or missed
 *			frames since the mark
 *	ahead		-(s - a - base), where negative: the receiver's snapshot is newer
 *	sent		s + first seen + ahead
 *
 * and sent = a + untraced + tail, whatever the signs are. Streams seen from their start at both ends,
 * without a gap, have base 0. Without a common mark, what differs is untraced or first seen.
 */
#include "correlate/analysis.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* An end's knowledge is as old as its tracer's last snapshot; a second or two is no news. */
#define STALE_NS	(3 * NSEC_PER_SEC)

struct base {
	bool known;
	struct rows out, in;	/* totals at the mark */
	bool in_dirty;		/* the receiver may have missed frames since */
};

/* Totals of every pair at @at. */
static int totals_at(const struct analysis *a, const struct marks *m, const struct mark *at,
		     struct rows *totals)
{
	size_t i, end = at->first_delta + at->delta_count;
	struct row *row;

	for (i = 0; i < m->base.count; i++) {
		row = rows_get(totals, m->base.v[i].pair, true);
		if (!row)
			return -ENOMEM;
		row->frames = m->base.v[i].frames;
	}
	for (i = 0; i < end; i++) {
		row = rows_get(totals, m->deltas[i].pair, true);
		if (!row)
			return -ENOMEM;
		row->frames = m->deltas[i].frames;
	}
	/* What has no row of its own: the rest of the frame's number. */
	row = rows_get(totals, OTHER_PAIR, true);
	if (!row)
		return -ENOMEM;
	row->frames = at->no;
	for (i = 0; i < totals->count; i++) {
		if (totals->v[i].pair != OTHER_PAIR && !a->partly[totals->v[i].pair])
			row->frames -= totals->v[i].frames < row->frames ? totals->v[i].frames :
									  row->frames;
	}
	return 0;
}

static int base_find(const struct analysis *a, const struct edge *e, struct base *b)
{
	const struct mark *out, *in;

	if (e->out->rec.from_start && e->in->rec.from_start && !e->out->mesh->rec.gaps &&
	    !e->in->mesh->rec.gaps) {
		b->known = true;
		return 0;
	}
	if (!match_marks(e->out, e->in, &out, &in)) {
		/* The start itself is a mark, but all gaps lie behind it. */
		b->known = e->out->rec.from_start && e->in->rec.from_start;
		b->in_dirty = e->in->mesh->rec.gaps != 0;
		return 0;
	}
	b->known = true;
	b->in_dirty = e->in->mesh->rec.gaps > in->gaps_before;
	if (totals_at(a, &e->out->mesh->marks, out, &b->out) < 0 ||
	    totals_at(a, &e->in->mesh->marks, in, &b->in) < 0)
		return -ENOMEM;
	return 0;
}

static uint64_t frames_of(const struct rows *rows, uint32_t pair)
{
	const struct row *row = rows_get((struct rows *)rows, pair, false);

	return row ? row->frames : 0;
}

static uint64_t count_of(const struct analysis *a, const struct conn *conn, uint32_t pair)
{
	return pair == OTHER_PAIR ? partly_rest(a, conn) : frames_of(&conn->mesh->rows, pair);
}

/* Has the receiver's tracer ended, or fallen silent, while the sender's went on? */
static bool receiver_unknown(const struct analysis *a, const struct edge *e)
{
	const struct agent *out = &a->c->agents[a->c->lives[e->out->life]->agent];
	const struct agent *in = &a->c->agents[a->c->lives[e->in->life]->agent];
	uint64_t out_ns, in_ns;

	if (out == in)
		return false;
	out_ns = ref_time(a, out - a->c->agents, out->last_ns);
	in_ns = ref_time(a, in - a->c->agents, in->last_ns);
	return in->cut || out_ns > in_ns + STALE_NS;
}

static bool end_closed(const struct analysis *a, const struct conn *conn)
{
	return conn->rec.closed_ns || a->c->lives[conn->life]->info.ended_ns;
}

static bool agent_over(const struct analysis *a, const struct conn *conn)
{
	const struct agent *agent = &a->c->agents[a->c->lives[conn->life]->agent];

	return agent->cut || agent->info.final;
}

static void tail_put(const struct analysis *a, const struct edge *e, const struct base *b,
		     struct edge_row *row, uint64_t tail)
{
	bool out_over = end_closed(a, e->out), in_over = end_closed(a, e->in);

	if (b->in_dirty || (!in_over && receiver_unknown(a, e)))
		row->untraced += tail;
	else if (in_over ? out_over || agent_over(a, e->out) : out_over && agent_over(a, e->in))
		row->lost += tail;
	else
		row->in_flight += tail;
}

static int row_add(struct edge *e, const struct edge_row *row)
{
	if (!row->sent && !row->arrived)
		return 0;
	if (!VEC_ROOM(e->rows, e->row_count, e->row_cap))
		return -ENOMEM;
	e->rows[e->row_count++] = *row;
	return 0;
}

/* Both ends told. */
static int pair_both(const struct analysis *a, struct edge *e, const struct base *b, uint32_t pair)
{
	uint64_t s = count_of(a, e->out, pair), arrived = count_of(a, e->in, pair);
	struct edge_row row = { .pair = pair, .told = s, .arrived = arrived };
	int64_t base, rest;

	base = b->known ? (int64_t)(frames_of(&b->out, pair) - frames_of(&b->in, pair)) :
			  (int64_t)(s - arrived);
	rest = (int64_t)(s - arrived) - base;
	if (base > 0)
		row.untraced = base;
	else
		row.first_seen = -base;
	if (rest < 0)
		row.ahead = -rest;
	else
		tail_put(a, e, b, &row, rest);
	row.sent = s + row.first_seen + row.ahead;
	return row_add(e, &row);
}

/* One end alone: what the sender sent was seen by nobody else; what arrived was sent. */
static int pair_one(const struct analysis *a, struct edge *e, uint32_t pair)
{
	struct edge_row row = { .pair = pair };

	if (e->out) {
		row.told = row.sent = row.untraced = count_of(a, e->out, pair);
	} else {
		row.sent = row.arrived = row.first_seen = count_of(a, e->in, pair);
	}
	return row_add(e, &row);
}

static int books_one(const struct analysis *a, struct edge *e)
{
	const struct rows *rows = &(e->out ? e->out : e->in)->mesh->rows;
	size_t i;
	int err = 0;

	for (i = 0; !err && i < rows->count; i++) {
		if (!a->partly[rows->v[i].pair])
			err = pair_one(a, e, rows->v[i].pair);
	}
	return err ? err : pair_one(a, e, OTHER_PAIR);
}

static int books_both(const struct analysis *a, struct edge *e)
{
	const struct rows *out = &e->out->mesh->rows, *in = &e->in->mesh->rows;
	struct base b = { 0 };
	size_t i;
	int err = base_find(a, e, &b);

	e->anchored = b.known;
	for (i = 0; !err && i < out->count; i++) {
		if (!a->partly[out->v[i].pair])
			err = pair_both(a, e, &b, out->v[i].pair);
	}
	for (i = 0; !err && i < in->count; i++) {
		if (!a->partly[in->v[i].pair] && !rows_get((struct rows *)out, in->v[i].pair, false))
			err = pair_both(a, e, &b, in->v[i].pair);
	}
	if (!err)
		err = pair_both(a, e, &b, OTHER_PAIR);
	rows_free(&b.out);
	rows_free(&b.in);
	return err;
}

int stream_books(struct analysis *a)
{
	size_t i;
	int err = 0;

	for (i = 0; !err && i < a->edge_count; i++) {
		if (a->edges[i].from != a->edges[i].to)
			err = (a->edges[i].out && a->edges[i].in ? books_both : books_one)(a, &a->edges[i]);
	}
	return err;
}
