/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Offsets between the clocks of agents, from packets that both saw. A packet needs some time from one
 * node to the other; the smallest difference seen in each direction is that time plus, and minus, the
 * offset. Where packets went one way only, half of the connection's round trip stands in for the
 * other way. Agents that share no packet are taken to agree.
 *
 * The reference is the agent of the lowest number; offsets spread from it along shared packets.
 */
#include "correlate/analysis.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct measure {
	uint32_t x, y;		/* agents, x < y */
	bool forth, back;
	int64_t forth_ns, back_ns; /* smallest: y's time - x's of packets x to y; x's - y's of the others */
	int64_t rtt_ns;
};

uint64_t ref_time(const struct analysis *a, uint32_t agent, uint64_t time_ns)
{
	int64_t off = a->offset_ns[agent];

	if (!time_ns)
		return 0;
	if (off > 0 && (uint64_t)off >= time_ns)
		return 1;
	return time_ns - off;
}

static struct measure *measure_get(struct measure **list, size_t *count, size_t *cap, uint32_t x,
				   uint32_t y)
{
	size_t i;

	for (i = 0; i < *count; i++) {
		if ((*list)[i].x == x && (*list)[i].y == y)
			return &(*list)[i];
	}
	if (!vec_reserve((void **)list, *count, cap, sizeof(**list)))
		return NULL;
	(*list)[i] = (struct measure){ .x = x, .y = y };
	return &(*list)[(*count)++];
}

struct timed {
	match_mark_fn *each;
	void *ctx;
};

static void each_timed(void *ctx, const struct mark *sent, const struct mark *arrived)
{
	const struct timed *timed = ctx;

	if (sent->seen_ns && arrived->seen_ns)
		timed->each(timed->ctx, sent, arrived);
}

int clock_each_mark(const struct edge *e, match_mark_fn *each, void *ctx)
{
	struct timed timed = { each, ctx };

	return match_each_mark(e->out, e->in, each_timed, &timed);
}

struct least {
	bool found;
	int64_t ns;
};

static void least_add(void *ctx, const struct mark *sent, const struct mark *arrived)
{
	int64_t d = (int64_t)(arrived->seen_ns - sent->seen_ns);
	struct least *least = ctx;

	if (!least->found || d < least->ns)
		least->ns = d;
	least->found = true;
}

static int measure_edges(const struct analysis *a, struct measure **list, size_t *count)
{
	struct measure *m;
	size_t i, cap = 0;

	for (i = 0; i < a->edge_count; i++) {
		const struct edge *e = &a->edges[i];
		struct least least = { 0 };
		uint32_t x, y;

		if (!e->out || !e->in)
			continue;
		x = a->c->lives[e->out->life]->agent;
		y = a->c->lives[e->in->life]->agent;
		if (x == y)
			continue;
		if (clock_each_mark(e, least_add, &least) < 0)
			return -ENOMEM;
		if (!least.found)
			continue;
		m = measure_get(list, count, &cap, x < y ? x : y, x < y ? y : x);
		if (!m)
			return -ENOMEM;
		if (e->out->rec.rtt_us && (!m->rtt_ns || e->out->rec.rtt_us * 1000ll < m->rtt_ns))
			m->rtt_ns = e->out->rec.rtt_us * 1000ll;
		if (x < y) {
			m->forth_ns = m->forth && m->forth_ns < least.ns ? m->forth_ns :
							       least.ns;
			m->forth = true;
		} else {
			m->back_ns = m->back && m->back_ns < least.ns ? m->back_ns : least.ns;
			m->back = true;
		}
	}
	return 0;
}

/* y's clock minus x's. */
static int64_t offset_of(const struct measure *m)
{
	if (m->forth && m->back)
		return m->forth_ns / 2 - m->back_ns / 2;
	return m->forth ? m->forth_ns - m->rtt_ns / 2 : m->rtt_ns / 2 - m->back_ns;
}

int clock_offsets(struct analysis *a)
{
	size_t count = 0, i, n = a->c->agent_count, start;
	struct measure *list = NULL;
	bool *known = calloc(n + 1, sizeof(*known)), more;
	int err = known ? measure_edges(a, &list, &count) : -ENOMEM;

	for (start = 0; !err && start < n; start++) {
		/* The lowest number that no packet has led to is a reference of its own. */
		uint32_t first = NONE;

		for (i = 0; i < n; i++) {
			if (!known[i] && (first == NONE || a->c->agents[i].id < a->c->agents[first].id))
				first = i;
		}
		if (first == NONE)
			break;
		known[first] = true;
		do {
			more = false;
			for (i = 0; i < count; i++) {
				const struct measure *m = &list[i];

				if (known[m->x] == known[m->y])
					continue;
				if (known[m->x])
					a->offset_ns[m->y] = a->offset_ns[m->x] + offset_of(m);
				else
					a->offset_ns[m->x] = a->offset_ns[m->y] - offset_of(m);
				known[m->x] = known[m->y] = more = true;
			}
		} while (more);
	}
	free(list);
	free(known);
	return err;
}
