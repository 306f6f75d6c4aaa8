/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Losses as the nodes told them, kept until a report asks. A trace of days would keep millions: over
 * the limit, neighbours in time of one node, pair, reason and exit are taken together, over as wide a
 * span as it takes.
 */
#include "correlate/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOSSES_KEPT	131072u

/*
 * The relay tells of a drop when it happens, so it was since the last snapshot, though the packet may
 * have waited long. What is inferred is told late: there the packet's entry is all there is, but for a
 * full queue's, which are inferred from what left behind them: by then they had been dropped.
 */
static void drop_time(const struct correlate *c, struct loss *l, uint64_t told_ns)
{
	uint64_t before_ns = c->agents[c->lives[l->life]->agent].last_ns;

	l->from_ns = l->first_ns;
	l->to_ns = l->last_ns;
	/* Where snapshots are far apart the entry tells more. */
	if ((l->basis != BASIS_RELAY && l->reason != REASON_QUEUE) ||
	    told_ns > before_ns + 2 * NSEC_PER_SEC)
		return;
	if (l->basis == BASIS_RELAY && before_ns > l->from_ns)
		l->from_ns = before_ns;
	if (told_ns > l->to_ns)
		l->to_ns = told_ns;
}

static bool same_what(const struct loss *a, const struct loss *b)
{
	return a->life == b->life && a->pair == b->pair && a->dst == b->dst &&
	       a->reason == b->reason && a->basis == b->basis && a->from_mesh == b->from_mesh &&
	       a->out_conn == b->out_conn;
}

/* So many of the same that were told before were none: of the newest that had entered by then. */
static void take_back(struct correlate *c, const struct loss *back, uint64_t count)
{
	size_t i;

	for (i = c->loss_count; i && count; i--) {
		struct loss *l = &c->losses[i - 1];
		uint64_t n = count < l->count ? count : l->count;

		if (!n || !same_what(l, back) || l->first_ns > back->first_ns)
			continue;
		l->bytes -= l->bytes / l->count * n;
		l->count -= n;
		count -= n;
	}
}

int losses_add(struct correlate *c, uint32_t life, const struct record *r)
{
	const struct record_loss *rec = &r->loss;
	uint32_t src, dst, pair;
	struct loss l;

	if (!rec->count && !rec->back)
		return 0;
	src = peer_get(c, &rec->src, true);
	dst = peer_get(c, &rec->dst, true);
	pair = src == NONE || dst == NONE ? NONE : pair_of_peers(c, src, dst);
	if (pair == NONE)
		return -ENOMEM;
	l = (struct loss){
		.life = life,
		.pair = pair,
		.dst = dst,
		.reason = rec->reason > 0 && rec->reason < REASON_COUNT ? rec->reason : REASON_OTHER,
		.basis = rec->basis <= BASIS_UNKNOWN ? rec->basis : BASIS_UNKNOWN,
		.from_mesh = rec->from_mesh,
		.in_conn = rec->in_conn,
		.out_conn = rec->out_conn,
		.count = rec->count,
		.bytes = rec->bytes,
		.first_ns = rec->first_ns,
		.last_ns = rec->last_ns > rec->first_ns ? rec->last_ns : rec->first_ns,
	};
	if (rec->back)
		take_back(c, &l, rec->back);
	if (!rec->count)
		return 0;
	if (!VEC_ROOM(c->losses, c->loss_count, c->loss_cap))
		return -ENOMEM;
	drop_time(c, &l, r->time_ns);
	c->losses[c->loss_count++] = l;
	return 0;
}

#define CMP(x, y) do { if ((x) != (y)) return (x) < (y) ? -1 : 1; } while (0)

static int by_what_then_time(const void *pa, const void *pb)
{
	const struct loss *a = pa, *b = pb;

	CMP(a->life, b->life);
	CMP(a->pair, b->pair);
	CMP(a->dst, b->dst);
	CMP(a->reason, b->reason);
	CMP(a->basis, b->basis);
	CMP(a->from_mesh, b->from_mesh);
	CMP(a->out_conn, b->out_conn);
	CMP(a->first_ns, b->first_ns);
	CMP(a->last_ns, b->last_ns);
	CMP(a->in_conn, b->in_conn);
	CMP(a->count, b->count);
	return 0;
}

/* Takes together what lies within @span_ns. */
static void merge(struct correlate *c, uint64_t span_ns)
{
	size_t i, n = 0;

	for (i = 0; i < c->loss_count; i++) {
		struct loss *l = &c->losses[i], *p = n ? &c->losses[n - 1] : NULL;

		if (!p || !same_what(p, l) ||
		    (l->last_ns > p->first_ns && l->last_ns - p->first_ns > span_ns)) {
			c->losses[n++] = *l;
			continue;
		}
		p->count += l->count;
		p->bytes += l->bytes;
		if (l->last_ns > p->last_ns)
			p->last_ns = l->last_ns;
		if (l->from_ns < p->from_ns)
			p->from_ns = l->from_ns;
		if (l->to_ns > p->to_ns)
			p->to_ns = l->to_ns;
		if (p->in_conn != l->in_conn)
			p->in_conn = 0;
	}
	c->loss_count = n;
}

void losses_trim(struct correlate *c)
{
	uint64_t span_ns;

	if (!c->loss_limit)
		c->loss_limit = LOSSES_KEPT;
	if (c->loss_count <= c->loss_limit)
		return;
	qsort(c->losses, c->loss_count, sizeof(*c->losses), by_what_then_time);
	for (span_ns = NSEC_PER_SEC; c->loss_count > c->loss_limit / 2; span_ns *= 4) {
		merge(c, span_ns);
		if (span_ns > UINT64_MAX / 8)
			break;
	}
	/* One row for each node, pair, reason and exit is as little as it gets. */
	if (c->loss_count > c->loss_limit / 2)
		c->loss_limit = c->loss_count * 2;
}
