/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who was connected where, and when: by the nodes' own connections, and by the word of mesh peers,
 * which is all there is of a node that nobody traces.
 */
#include "correlate/analysis.h"

#include <errno.h>
#include <stdlib.h>

#define TELL_NS		(5 * NSEC_PER_SEC)	/* one that tells its mesh at all has done so by then */
#define TAKE_IN_NS	(100 * NSEC_PER_MSEC)	/* and another to take that in */

#define CMP(x, y) do { if ((x) != (y)) return (x) < (y) ? -1 : 1; } while (0)

static int stays_order(const void *px, const void *py)
{
	const struct stay *x = px, *y = py;

	CMP(x->peer, y->peer);
	CMP(x->node, y->node);
	CMP(x->opened_ns, y->opened_ns);
	CMP(x->closed_ns, y->closed_ns);
	CMP(x->conn->rec.conn, y->conn->rec.conn);
	return 0;
}

static int words_order(const void *px, const void *py)
{
	const struct word *x = px, *y = py;

	CMP(x->peer, y->peer);
	CMP(x->node, y->node);
	CMP(x->to, y->to);
	CMP(x->from_ns, y->from_ns);
	CMP(x->to_ns, y->to_ns);
	return 0;
}

static uint64_t or_forever(uint64_t time_ns)
{
	return time_ns ? time_ns : FOREVER;
}

static int stays_fill(struct analysis *a)
{
	size_t i, j;

	for (i = 0; i < a->traced_count; i++) {
		const struct node *n = &a->nodes[i];

		for (j = 0; j < n->life->conn_count; j++) {
			const struct conn *conn = n->life->conns[j];
			uint64_t closed_ns = conn->rec.closed_ns;

			if (conn->rec.kind != CONN_CLIENT || conn->rec.dialled || !conn->peer)
				continue;
			if (!VEC_ROOM(a->stays, a->stay_count, a->stay_cap))
				return -ENOMEM;
			if (!closed_ns)
				closed_ns = n->life->info.ended_ns;
			/* The socket may live on for long, with what nobody reads. */
			if (conn->rec.left_ns && (!closed_ns || conn->rec.left_ns < closed_ns))
				closed_ns = conn->rec.left_ns;
			a->stays[a->stay_count++] = (struct stay){
				.peer = conn->peer, .node = i, .conn = conn,
				.opened_ns = ref_time(a, n->agent, conn->rec.opened_ns),
				.closed_ns = or_forever(ref_time(a, n->agent, closed_ns)),
			};
			/* Nodes are attached to one after another: what one drops meanwhile is for those
			 * who are on the next all the same. */
			if (conn->rec.from_start)
				a->stays[a->stay_count - 1].there_ns = a->stays[a->stay_count - 1].opened_ns;
		}
	}
	if (a->stay_count)
		qsort(a->stays, a->stay_count, sizeof(*a->stays), stays_order);
	return 0;
}

static int words_fill(struct analysis *a)
{
	size_t i, j;

	for (i = 0; i < a->edge_count; i++) {
		const struct edge *e = &a->edges[i];
		const struct life *life = e->out ? a->c->lives[e->out->life] : NULL;

		if (!life || e->from == e->to || e->reached != REACHED_MESH)
			continue;
		for (j = 0; j < life->presence_count; j++) {
			const struct presence *p = &life->presence[j];
			uint64_t gone_ns = or_forever(ref_time(a, life->agent, p->gone_ns));

			if (p->conn != e->out->rec.conn)
				continue;
			if (!VEC_ROOM(a->words, a->word_count, a->word_cap))
				return -ENOMEM;
			a->words[a->word_count++] = (struct word){
				.peer = p->peer, .node = e->to, .to = e->from, .addr = p->addr,
				.from_ns = ref_time(a, life->agent, p->from_ns),
				.to_ns = gone_ns < e->closed_ns ? gone_ns : e->closed_ns,
				.gone = gone_ns < e->closed_ns,
			};
		}
	}
	if (a->word_count)
		qsort(a->words, a->word_count, sizeof(*a->words), words_order);
	return 0;
}

int presence_make(struct analysis *a)
{
	int err = stays_fill(a);

	return err ? err : words_fill(a);
}

const struct stay *presence_stays(const struct analysis *a, uint32_t peer, size_t *count)
{
	size_t low = 0, high = a->stay_count, mid, end;

	while (low < high) {
		mid = (low + high) / 2;
		if (a->stays[mid].peer < peer)
			low = mid + 1;
		else
			high = mid;
	}
	for (end = low; end < a->stay_count && a->stays[end].peer == peer;)
		end++;
	*count = end - low;
	return a->stays + low;
}

static const struct word *words_of(const struct analysis *a, uint32_t peer, size_t *count)
{
	size_t low = 0, high = a->word_count, mid, end;

	while (low < high) {
		mid = (low + high) / 2;
		if (a->words[mid].peer < peer)
			low = mid + 1;
		else
			high = mid;
	}
	for (end = low; end < a->word_count && a->words[end].peer == peer;)
		end++;
	*count = end - low;
	return a->words + low;
}

static bool meets(uint64_t a_from, uint64_t a_to, uint64_t b_from, uint64_t b_to)
{
	return a_from <= b_to && b_from <= a_to;
}

bool presence_at(const struct analysis *a, uint32_t peer, uint32_t node, uint64_t from_ns,
		 uint64_t to_ns, const struct stay **what)
{
	size_t count, i;
	const struct stay *s = presence_stays(a, peer, &count);
	const struct word *w;

	for (i = count; i-- > 0;) {
		if (s[i].node == node && meets(s[i].there_ns, s[i].closed_ns, from_ns, to_ns)) {
			if (what)
				*what = &s[i];
			return true;
		}
	}
	w = words_of(a, peer, &count);
	for (i = 0; i < count; i++) {
		if (w[i].node == node && meets(w[i].from_ns, w[i].to_ns, from_ns, to_ns))
			return true;
	}
	return false;
}

bool presence_told_gone(const struct analysis *a, uint32_t peer, uint32_t node, uint64_t at_ns)
{
	uint64_t gone_ns = 0;
	size_t count, i;
	const struct word *w = words_of(a, peer, &count);
	const struct stay *s;

	for (i = 0; i < count; i++) {
		if (w[i].node != node || w[i].from_ns > at_ns)
			continue;
		if (w[i].to_ns > at_ns)
			return false;
		if (w[i].gone && w[i].to_ns > gone_ns)
			gone_ns = w[i].to_ns;
	}
	s = presence_stays(a, peer, &count);
	for (i = 0; i < count; i++) {
		if (s[i].node == node && s[i].opened_ns > gone_ns && s[i].there_ns <= at_ns)
			return false;
	}
	return gone_ns;
}

bool presence_was_on(const struct analysis *a, uint32_t peer, uint32_t node, uint64_t at_ns)
{
	size_t count, i;
	const struct stay *s = presence_stays(a, peer, &count);

	if (!a->nodes[node].life)
		return presence_at(a, peer, node, at_ns, at_ns, NULL);
	for (i = 0; i < count; i++) {
		if (s[i].node == node && s[i].there_ns <= at_ns && at_ns <= s[i].closed_ns)
			return true;
	}
	return false;
}

uint64_t presence_told(const struct analysis *a, uint32_t peer, uint32_t by, uint32_t node,
		       uint64_t at_ns)
{
	uint64_t told_ns = FOREVER;
	size_t count, i;
	const struct word *w = words_of(a, peer, &count);

	for (i = 0; i < count; i++) {
		if (w[i].node == node && w[i].to == by && w[i].to_ns >= at_ns && w[i].from_ns < told_ns)
			told_ns = w[i].from_ns;
	}
	return told_ns;
}

bool presence_untold(const struct analysis *a, uint32_t peer, uint32_t by, uint32_t node,
		     uint64_t first_ns, uint64_t last_ns)
{
	const struct edge *e = link_edge_at(a, link_find(a, by, node), first_ns);
	uint64_t told_ns = presence_told(a, peer, by, node, first_ns), since_ns;
	const struct stay *stay = NULL;

	/* Read without a hole: so it would have been seen. */
	if (!e || !e->out || !e->out->rec.readable || e->out->rec.in_missed || e->out->mesh->rec.gaps ||
	    !presence_at(a, peer, node, first_ns, last_ns, &stay) || !stay)
		return false;
	since_ns = stay->there_ns > e->there_ns ? stay->there_ns : e->there_ns;
	if (told_ns == FOREVER)
		return since_ns && last_ns < since_ns + TELL_NS;
	return since_ns && since_ns <= told_ns && told_ns <= stay->closed_ns &&
	       last_ns < told_ns + TAKE_IN_NS;
}

/* The newest of those that fit. */
static uint32_t find(const struct analysis *a, uint32_t peer, uint32_t node, bool abroad,
		     uint64_t from_ns, uint64_t to_ns)
{
	uint64_t newest = 0;
	uint32_t found = NONE;
	size_t count, i;
	const struct stay *s = presence_stays(a, peer, &count);
	const struct word *w;

	for (i = 0; peer && i < count; i++) {
		if (a->nodes[s[i].node].identity == a->nodes[node].identity ||
		    region_same(a, s[i].node, node) == abroad ||
		    !meets(s[i].there_ns, s[i].closed_ns, from_ns, to_ns))
			continue;
		if (found == NONE || s[i].opened_ns > newest) {
			found = s[i].node;
			newest = s[i].opened_ns;
		}
	}
	if (found != NONE || !peer)
		return found;
	w = words_of(a, peer, &count);
	for (i = 0; i < count && found == NONE; i++) {
		if (a->nodes[w[i].node].identity != a->nodes[node].identity &&
		    region_same(a, w[i].node, node) != abroad &&
		    meets(w[i].from_ns, w[i].to_ns, from_ns, to_ns))
			found = w[i].node;
	}
	return found;
}

uint32_t presence_elsewhere(const struct analysis *a, uint32_t peer, uint32_t but,
			    uint64_t from_ns, uint64_t to_ns)
{
	return find(a, peer, but, false, from_ns, to_ns);
}

uint32_t presence_abroad(const struct analysis *a, uint32_t peer, uint32_t node,
			 uint64_t from_ns, uint64_t to_ns)
{
	return find(a, peer, node, true, from_ns, to_ns);
}
