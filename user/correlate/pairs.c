/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Books of a pair over the whole region, from those of its nodes and edges. Why they balance:
 *
 * Every node n keeps, to the frame,	E = L + I + X + U	(entered, left, in flight, lost, untraced)
 * every edge c (stream.c)		S = a + i + x + u	(sent, arrived, in flight, lost, untraced)
 *
 * With mi and mo what n counted on mesh-in and mesh-out, E - mi is what came to n from outside of the
 * mesh, or was first seen there, and L - mo what was delivered. Summed over the nodes:
 *
 *	sum(E - mi) + sum(mi) - sum(mo) = sum(L - mo) + sum(I) + sum(X) + sum(U)
 *
 * What the mesh carries stands twice in it: sum(mi) is sum(a), but for frames of connections that are
 * no edge (rin); sum(mo) is sum(S), but for what edges found beyond their senders' counts (first seen
 * at the far end, or ahead of the sender's snapshot: f) and frames that no edge has (rout):
 *
 *	sum(mi) - sum(mo) = sum(a) - sum(S) + f + rin - rout = f + rin - rout - sum(i) - sum(x) - sum(u)
 *
 * so that, with
 *	entered   = sum(E - mi) + f + rin
 *	delivered = sum(L - mo)
 *	in_flight = sum(I) + sum(i)
 *	lost      = sum(X) + sum(x)
 *	untraced  = sum(U) + sum(u) + rout
 *
 * the law holds whatever was seen or missed. Two things are then known to be one, and come off both
 * sides: a packet untraced at a node, or on an edge, and one that is first seen behind it; a packet in
 * flight at a node by its snapshot and ahead of it on an edge. Last, what was delivered to a socket
 * that ended without acknowledging it moves from delivered to lost.
 *
 * A mesh connection that can be read at neither end is in no sum above: what crosses it stays in flight,
 * or becomes untraced, at one node and is first seen at the other. Up to the lesser of the two these are
 * the same packets: they are taken as having left on it (h), and arrived. So it is with what is untraced
 * where both ends can be read by now and neither was from its start: what crossed before that is in no
 * row of the edge. What the edge's rows explain is theirs and comes off first.
 */
#include "correlate/analysis.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Nodes joined by a connection that nobody can read, or could at first. */
struct hidden {
	uint32_t from, to;
	bool still;		/* neither end is read without a gap */
};

struct hiding {
	struct hidden *v;
	size_t count, cap;
	struct books *books;	/* room for one pair's, by place */
};

/* A row of an edge, found by pair. */
struct ref {
	uint32_t pair, edge, row;
};

struct sum {
	int64_t entered, delivered, in_flight, lost, untraced;
};

#define CMP(x, y) do { if ((x) != (y)) return (x) < (y) ? -1 : 1; } while (0)

static int by_pair_node(const void *px, const void *py)
{
	const struct place *x = px, *y = py;

	CMP(x->pair, y->pair);
	CMP(x->node, y->node);
	return 0;
}

static int refs_by_pair(const void *px, const void *py)
{
	const struct ref *x = px, *y = py;

	CMP(x->pair, y->pair);
	CMP(x->edge, y->edge);
	return 0;
}

static int places_fill(struct analysis *a)
{
	size_t i, j, count = 0;

	for (i = 0; i < a->traced_count; i++)
		count += a->nodes[i].life->pair_count;	/* at most */
	a->places = malloc((count + 1) * sizeof(*a->places));
	if (!a->places)
		return -ENOMEM;
	for (i = 0; i < a->traced_count; i++) {
		const struct life *life = a->nodes[i].life;

		for (j = 0; j < life->pair_count; j++) {
			if (life->pairs[j].row && !a->partly[life->pairs[j].pair])
				a->places[a->place_count++] =
					(struct place){ life->pairs[j].pair, i, j };
		}
	}
	qsort(a->places, a->place_count, sizeof(*a->places), by_pair_node);
	return 0;
}

void pairs_row(const struct analysis *a, const struct place *place, struct pair_row *row)
{
	counts_get(a->c, a->nodes[place->node].life, place->number, row);
}

const struct place *pairs_places(const struct analysis *a, uint32_t pair, size_t *count)
{
	size_t low = 0, high = a->place_count, mid, end;

	while (low < high) {
		mid = (low + high) / 2;
		if (a->places[mid].pair < pair)
			low = mid + 1;
		else
			high = mid;
	}
	for (end = low; end < a->place_count && a->places[end].pair == pair;)
		end++;
	*count = end - low;
	return a->places + low;
}

static struct ref *refs_make(const struct analysis *a, size_t *count)
{
	struct ref *refs;
	size_t i, j, n = 0;

	for (i = 0; i < a->edge_count; i++)
		n += a->edges[i].row_count;
	refs = malloc((n + 1) * sizeof(*refs));
	if (!refs)
		return NULL;
	*count = n;
	for (i = n = 0; i < a->edge_count; i++) {
		for (j = 0; j < a->edges[i].row_count; j++)
			refs[n++] = (struct ref){ a->edges[i].rows[j].pair, i, j };
	}
	qsort(refs, n, sizeof(*refs), refs_by_pair);
	return refs;
}

/* One node's books of the pair, and what its mesh connections counted of it. */
struct books {
	int64_t entered, left, in_flight, lost, untraced, first_seen, mesh_in, mesh_out, last_hop;
	int64_t hidden_in, hidden_out;
	/* What the edges have of it: told and arrived by what its own ends count. */
	int64_t told, arrived, seen_behind, ahead, missed_before;
};

static int64_t least(int64_t x, int64_t y)
{
	return x < y ? x : y;
}

static void edges_of(const struct analysis *a, uint32_t node, struct books *b,
		     const struct ref *refs, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++) {
		const struct edge *e = &a->edges[refs[i].edge];
		const struct edge_row *row = &e->rows[refs[i].row];

		if (e->from == node) {
			b->told += e->out ? row->told : 0;
			b->seen_behind += row->first_seen;
			b->ahead += row->ahead;
		}
		if (e->to == node) {
			b->arrived += e->in ? row->arrived : 0;
			b->missed_before += row->untraced;
		}
	}
}

static void node_add(struct pair_sum *p, struct sum *s, const struct books *b)
{
	int64_t delivered = b->left - b->mesh_out, from_mesh = b->mesh_in + b->hidden_in, same;

	s->entered += b->entered - from_mesh;
	s->delivered += delivered - b->last_hop;
	s->in_flight += b->in_flight;
	s->lost += b->lost + b->last_hop;
	s->untraced += b->untraced;
	/* rin and rout; a negative one belongs to the other side. */
	if (b->mesh_in >= b->arrived)
		s->entered += b->mesh_in - b->arrived;
	else
		s->untraced += b->arrived - b->mesh_in;
	if (b->mesh_out >= b->told)
		s->untraced += b->mesh_out - b->told;
	else
		s->entered += b->told - b->mesh_out;
	same = least(b->untraced, b->seen_behind) + least(b->first_seen, b->missed_before);
	s->entered -= same;
	s->untraced -= same;
	same = least(b->in_flight, b->ahead);
	s->entered -= same;
	s->in_flight -= same;

	p->last_hop += b->last_hop;
	p->across_sent += b->hidden_out;
	p->across_delivered += least(delivered > 0 ? delivered : 0, from_mesh);
	p->same_node |= delivered > from_mesh;
	p->across |= from_mesh || b->mesh_out || b->hidden_out;
}

static void edges_add(const struct analysis *a, struct pair_sum *p, struct sum *s,
		      const struct ref *refs, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++) {
		const struct edge *e = &a->edges[refs[i].edge];
		const struct edge_row *row = &e->rows[refs[i].row];

		s->entered += row->first_seen + row->ahead;
		s->in_flight += row->in_flight;
		s->lost += row->lost;
		s->untraced += row->untraced;
		p->across_sent += row->sent;
		if (!a->nodes[e->to].life)
			p->untraced_node += row->untraced;
	}
}

/* Moves a negative term to the other side: records that do not balance must not break the law. */
static uint64_t settle(int64_t term, int64_t *other_side)
{
	if (term >= 0)
		return term;
	*other_side -= term;
	return 0;
}

static void sum_take(struct pair_sum *p, struct sum *s)
{
	p->in_flight = settle(s->in_flight, &s->entered);
	p->lost = settle(s->lost, &s->entered);
	p->delivered = settle(s->delivered, &s->entered);
	p->untraced = settle(s->untraced, &s->entered);
	if (s->entered < 0) {
		p->untraced -= s->entered;
		s->entered = 0;
	}
	p->entered = s->entered;
	if (p->untraced_node > p->untraced)
		p->untraced_node = p->untraced;
}

static void pair_times(const struct analysis *a, struct pair_sum *p, uint32_t node,
		       const struct pair_row *row)
{
	uint64_t first = ref_time(a, a->nodes[node].agent, row->first_ns);
	uint64_t last = ref_time(a, a->nodes[node].agent, row->last_ns);

	if (first && (!p->first_ns || first < p->first_ns))
		p->first_ns = first;
	if (last > p->last_ns)
		p->last_ns = last;
}

static struct books books_of(const struct pair_row *row)
{
	return (struct books){
		.entered = row->books.entered, .left = row->books.left,
		.in_flight = row->books.in_flight, .lost = row->books.lost,
		.untraced = row->books.untraced, .first_seen = row->first_seen,
		.mesh_in = row->frames[HOP_MESH_IN], .mesh_out = row->frames[HOP_MESH_OUT],
		.last_hop = row->last_hop,
	};
}

/* Where it is not, packets may pass that neither end counts. */
static bool is_read(const struct conn *conn)
{
	return (conn->rec.last_type_in || conn->rec.last_type_out) && !conn->mesh->rec.gaps;
}

static bool was_read(const struct conn *conn)
{
	return conn->rec.from_start && is_read(conn);
}

static int hiding_find(const struct analysis *a, struct hiding *h)
{
	size_t i;

	h->books = calloc(a->traced_count + 1, sizeof(*h->books));
	if (!h->books)
		return -ENOMEM;
	for (i = 0; i < a->edge_count; i++) {
		const struct edge *e = &a->edges[i];

		if (e->from == e->to || !e->out || !e->in || was_read(e->out) || was_read(e->in) ||
		    !e->out->rec.out_bytes || !e->out->rec.in_bytes)
			continue;
		if (!VEC_ROOM(h->v, h->count, h->cap))
			return -ENOMEM;
		h->v[h->count++] = (struct hidden){
			e->from, e->to, !is_read(e->out) && !is_read(e->in),
		};
	}
	return 0;
}

static struct books *books_at(const struct place *place, size_t places, uint32_t node,
			      struct books *books)
{
	size_t i;

	for (i = 0; i < places; i++) {
		if (place[i].node == node)
			return &books[i];
	}
	return NULL;
}

/* @explained: of @inside, by edges. */
static void cross(int64_t *inside, int64_t explained, struct books *from, struct books *to)
{
	int64_t same = least(*inside - explained, to->first_seen - to->missed_before);

	if (same <= 0)
		return;
	*inside -= same;
	from->hidden_out += same;
	to->first_seen -= same;
	to->hidden_in += same;
}

static void cross_hidden(const struct hiding *h, const struct place *place, size_t places)
{
	struct books *from, *to;
	size_t i;

	for (i = 0; i < h->count; i++) {
		from = books_at(place, places, h->v[i].from, h->books);
		to = books_at(place, places, h->v[i].to, h->books);
		if (!from || !to)
			continue;
		cross(&from->untraced, from->seen_behind, from, to);
		/* What is inside where the connection is read will be seen leaving, or be given up. */
		if (h->v[i].still)
			cross(&from->in_flight, from->ahead, from, to);
	}
}

static void pair_sum(const struct analysis *a, uint32_t pair, const struct ref *refs, size_t count,
		     const struct hiding *h)
{
	struct pair_sum *p = &a->sums[pair];
	struct sum s = { 0 };
	size_t places, i;
	const struct place *place = pairs_places(a, pair, &places);
	struct pair_row row;

	for (i = 0; i < places && i < a->traced_count; i++) {
		pairs_row(a, &place[i], &row);
		h->books[i] = books_of(&row);
		edges_of(a, place[i].node, &h->books[i], refs, count);
		pair_times(a, p, place[i].node, &row);
	}
	cross_hidden(h, place, i);
	for (i = 0; i < places && i < a->traced_count; i++)
		node_add(p, &s, &h->books[i]);
	edges_add(a, p, &s, refs, count);
	sum_take(p, &s);
}

/* What a node's books hold beyond its pairs. */
static void rest_of(const struct analysis *a, const struct node *n, struct books *b)
{
	const struct record_books *all = &n->life->info.books;
	struct pair_row row;
	size_t i;

	*b = (struct books){ .entered = all->entered, .left = all->left,
			     .in_flight = all->in_flight, .lost = all->lost,
			     .untraced = all->untraced };
	for (i = 0; i < n->life->pair_count; i++) {
		if (a->partly[n->life->pairs[i].pair] || !counts_get(a->c, n->life, i, &row))
			continue;
		b->entered -= row.books.entered;
		b->left -= row.books.left;
		b->in_flight -= row.books.in_flight;
		b->lost -= row.books.lost;
		b->untraced -= row.books.untraced;
	}
	for (i = 0; i < n->life->conn_count; i++) {
		const struct conn *conn = n->life->conns[i];
		int64_t rest = partly_rest(a, conn);

		if (conn->rec.dialled)
			b->mesh_out += rest;
		else
			b->mesh_in += rest;
	}
	/* Counts of connections that have been let go are in no row: not more than there is. */
	b->mesh_in = least(b->mesh_in, b->entered > 0 ? b->entered : 0);
	b->mesh_out = least(b->mesh_out, b->left > 0 ? b->left : 0);
}

static void other_sum(const struct analysis *a, const struct ref *refs, size_t count)
{
	struct pair_sum *p = &a->sums[OTHER_PAIR];
	struct sum s = { 0 };
	struct books b;
	size_t i;

	for (i = 0; i < a->traced_count; i++) {
		rest_of(a, &a->nodes[i], &b);
		edges_of(a, i, &b, refs, count);
		node_add(p, &s, &b);
	}
	edges_add(a, p, &s, refs, count);
	sum_take(p, &s);
	p->same_node = p->across = false;
}

int pairs_sum(struct analysis *a)
{
	size_t count = 0, at, end, pair;
	struct ref *refs = refs_make(a, &count);
	struct hiding h = { 0 };
	int err = refs ? places_fill(a) : -ENOMEM;

	if (!err)
		err = hiding_find(a, &h);

	if (!err) {
		a->sums = calloc(a->c->pair_count, sizeof(*a->sums));
		err = a->sums ? 0 : -ENOMEM;
	}
	for (pair = at = 0; !err && pair < a->c->pair_count; pair++) {
		a->sums[pair].worst = NONE;
		for (end = at; end < count && refs[end].pair == pair;)
			end++;
		if (pair == OTHER_PAIR)
			other_sum(a, refs + at, end - at);
		else
			pair_sum(a, pair, refs + at, end - at, &h);
		at = end;
	}
	free(h.books);
	free(h.v);
	free(refs);
	return err;
}
