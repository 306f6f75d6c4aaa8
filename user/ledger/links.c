// SPDX-License-Identifier: BSD-2-Clause
/*
 * ForwardPacket frames per mesh connection and pair. Both ends count the same stream, so that a frame
 * which both know (a mark) makes their counts comparable. The first frames of a stream, and the first
 * after each gap, are marked one by one; later the frame of the lowest rank in each snapshot: rank
 * comes from the packet's name, so that both ends mostly choose the same one.
 */
#include "ledger/internal.h"

#include <stdlib.h>

static uint64_t rank_of(const struct sight *s)
{
	return hash_mix(s->digest ^ 0x9fb21c651e98df25ULL, s->len + 0x165667b19e3779f9ULL);
}

static struct link *link_get(struct ledger *l, struct conn *c, struct peer *src, struct peer *dst)
{
	uint64_t hash = hash_words(&l->seed, (uintptr_t)c, (uintptr_t)src, (uintptr_t)dst);
	struct chain *at;
	struct link *k;

	for (at = chains_find(&l->links, hash); at; at = chains_again(at)) {
		k = ITEM_OF(at, struct link, chain);
		if (k->conn == c && k->src == src && k->dst == dst)
			return k;
	}
	/*
	 * Over the limit: a row of no one, one for each connection. No pair gets one of its own after that,
	 * or it would tell of some of its frames only, and the other end of them all.
	 */
	if ((l->links.count >= l->limits.max_pairs || c->mesh->crowded) &&
	    (src != l->nobody || dst != l->nobody)) {
		c->mesh->crowded = true;
		return link_get(l, c, l->nobody, l->nobody);
	}
	k = calloc(1, sizeof(*k));
	if (!k || !chains_add(&l->links, &k->chain, hash)) {
		free(k);
		return NULL;
	}
	k->conn = c;
	k->src = peer_ref(src);
	k->dst = peer_ref(dst);
	k->next = c->mesh->links;
	c->mesh->links = k;
	return k;
}

/* What the link counted when the mark was made, though more has come since. */
static uint64_t frames_at(const struct link *k, const struct mesh *m)
{
	return m->has_held && k->mark_id == m->held_id ? k->at_mark : k->frames;
}

static void mark_free(struct ledger *l, struct mark *m)
{
	ledger_peer_put(l, m->src);
	ledger_peer_put(l, m->dst);
	free(m->pairs);
	memset(m, 0, sizeof(*m));
}

static void mark_fill(struct ledger *l, struct mark *mark, uint64_t no, struct peer *src,
		      struct peer *dst, const struct sight *s)
{
	mark_free(l, mark);
	mark->no = no;
	mark->seen_ns = s->time_ns;
	mark->digest = s->digest;
	mark->len = s->len;
	mark->src = peer_ref(src);
	mark->dst = peer_ref(dst);
}

/* Totals at the mark of all that counted since the one before; what came after it stays touched. */
static void mark_pairs(struct mesh *m, struct mark *mark)
{
	struct link *k, *next, *kept = NULL;
	size_t n = 0;

	for (k = m->touched; k; k = k->next_touched)
		n++;
	mark->pairs = malloc((n ? n : 1) * sizeof(*mark->pairs));
	if (!mark->pairs)
		return;
	n = 0;
	for (k = m->touched; k; k = next) {
		uint64_t frames = frames_at(k, m);

		next = k->next_touched;
		if (frames)
			mark->pairs[n++] = (struct record_mark_pair){ k->src->key, k->dst->key,
								      frames };
		k->touched = frames != k->frames;
		if (k->touched) {
			k->next_touched = kept;
			kept = k;
		}
	}
	m->touched = kept;
	mark->pair_count = n;
}

static bool mark_push(struct mesh *m, const struct mark *mark)
{
	size_t size = m->mark_size ? m->mark_size * 2 : 4;
	struct mark *grown;

	if (m->mark_count == m->mark_size) {
		grown = realloc(m->marks, size * sizeof(*grown));
		if (!grown)
			return false;
		m->marks = grown;
		m->mark_size = size;
	}
	m->marks[m->mark_count++] = *mark;
	return true;
}

/* The held mark is made. */
static void release_held(struct ledger *l, struct mesh *m)
{
	if (!m->has_held)
		return;
	mark_pairs(m, &m->held);
	m->has_held = false;
	if (!m->held.pairs || !mark_push(m, &m->held))
		mark_free(l, &m->held);
	memset(&m->held, 0, sizeof(m->held));
}

static void note_mark(struct ledger *l, struct conn *c, struct peer *src, struct peer *dst,
		      const struct sight *s)
{
	struct mesh *m = c->mesh;
	uint64_t rank;

	if (m->head_left) {
		m->head_left--;
		release_held(l, m);
		mark_fill(l, &m->held, m->forwards, src, dst, s);
		mark_pairs(m, &m->held);
		if (!m->held.pairs || !mark_push(m, &m->held))
			mark_free(l, &m->held);
		memset(&m->held, 0, sizeof(m->held));
		return;
	}
	rank = rank_of(s);
	if (m->has_held && rank >= m->held_rank)
		return;
	mark_fill(l, &m->held, m->forwards, src, dst, s);
	m->has_held = true;
	m->held_rank = rank;
	m->held_id++;
}

void ledger_forward(struct ledger *l, struct conn *c, struct peer *src, struct peer *dst,
		    const struct sight *s, uint64_t derp_off)
{
	struct mesh *m = c->mesh;
	struct link *k;

	if (!m || c->shared)
		return;
	m->forwards++;
	m->bytes += s->len;
	m->derp_off = derp_off;
	c->dirty = true;
	k = link_get(l, c, src, dst);
	if (!k)
		return;
	if (m->has_held && k->mark_id != m->held_id) {
		k->mark_id = m->held_id;
		k->at_mark = k->frames;
	}
	k->frames++;
	k->bytes += s->len;
	k->dirty = true;
	if (!k->touched) {
		k->touched = true;
		k->next_touched = m->touched;
		m->touched = k;
	}
	note_mark(l, c, src, dst, s);
}

void ledger_mesh_gap(struct conn *c, enum capture_dir dir)
{
	if (c->mesh && dir == (c->kind == CONN_MESH_OUT ? CAPTURE_OUT : CAPTURE_IN))
		c->mesh->head_left = LEDGER_HEAD_MARKS;
}

void ledger_mesh_free(struct ledger *l, struct conn *c)
{
	struct mesh *m = c->mesh;
	struct link *k;
	size_t i;

	if (!m)
		return;
	while ((k = m->links)) {
		m->links = k->next;
		chains_del(&l->links, &k->chain);
		ledger_peer_put(l, k->src);
		ledger_peer_put(l, k->dst);
		free(k);
	}
	for (i = 0; i < m->mark_count; i++)
		mark_free(l, &m->marks[i]);
	mark_free(l, &m->held);
	free(m->marks);
	free(m);
	c->mesh = NULL;
}

int ledger_links_tell(struct ledger *l, struct record *r, bool all, const struct record_sink *sink)
{
	struct link *k;
	struct conn *c;
	int err = 0;

	r->type = RECORD_LINK;
	EACH_CONN(l, c) {
		for (k = c->mesh ? c->mesh->links : NULL; k && !err; k = k->next) {
			if (!k->dirty && !all)
				continue;
			k->dirty = false;
			r->link = (struct record_link){ c->id, k->src->key, k->dst->key,
							k->frames, k->bytes };
			err = sink->put(sink->ctx, r);
		}
	}
	return err;
}

static int mark_tell(struct conn *c, const struct mark *mark, struct record *r,
		     const struct record_sink *sink)
{
	r->mark = (struct record_mark){
		.conn = c->id,
		.no = mark->no,
		.seen_ns = mark->seen_ns,
		.digest = mark->digest,
		.len = mark->len,
		.src = mark->src->key,
		.dst = mark->dst->key,
		.pairs = mark->pairs,
		.pair_count = mark->pair_count,
	};
	return sink->put(sink->ctx, r);
}

int ledger_marks_tell(struct ledger *l, struct record *r, const struct record_sink *sink)
{
	struct conn *c;
	int err = 0;
	size_t i;

	r->type = RECORD_MARK;
	EACH_CONN(l, c) {
		if (!c->mesh)
			continue;
		release_held(l, c->mesh);
		for (i = 0; i < c->mesh->mark_count; i++) {
			if (!err)
				err = mark_tell(c, &c->mesh->marks[i], r, sink);
			mark_free(l, &c->mesh->marks[i]);
		}
		c->mesh->mark_count = 0;
	}
	return err;
}
