// SPDX-License-Identifier: BSD-2-Clause
/*
 * Rows: one for each pair, and one for all that has none (over the limit, or told of no one). A pair
 * of which one end is not known yet has a row of its own, per connection, until that end is learnt.
 */
#include "ledger/tell.h"

#include "latency.h"

#include <stdlib.h>

static uint64_t pair_hash(const struct ledger *l, const struct peer *src, const struct peer *dst)
{
	return hash_words(&l->seed, (uintptr_t)src, (uintptr_t)dst, 1);
}

static struct chains *pair_table(struct ledger *l, const struct peer *src, const struct peer *dst)
{
	return src->unknown || dst->unknown ? &l->unknown_pairs : &l->pairs;
}

struct pair *ledger_pair_get(struct ledger *l, struct peer *src, struct peer *dst)
{
	struct chains *t = pair_table(l, src, dst);
	uint64_t hash = pair_hash(l, src, dst);
	struct chain *c;
	struct pair *p;

	for (c = chains_find(t, hash); c; c = chains_again(c)) {
		p = ITEM_OF(c, struct pair, chain);
		if (p->src == src && p->dst == dst)
			return p;
	}
	p = ledger_resting_wake(l, src, dst);
	if (p)
		return p;
	if (l->other && ledger_pair_count(l) > l->limits.max_pairs)
		return l->other;
	p = calloc(1, sizeof(*p));
	if (!p || !chains_add(t, &p->chain, hash)) {
		free(p);
		return l->other;
	}
	p->src = peer_ref(src);
	p->dst = peer_ref(dst);
	ledger_meet(src, dst);
	return p;
}

size_t ledger_pair_count(const struct ledger *l)
{
	return l->pairs.count + l->unknown_pairs.count + l->resting.index.used;
}

struct pair *ledger_pair_now(struct pair *p)
{
	while (p->moved_to)
		p = p->moved_to;
	return p;
}

void ledger_pair_destroy(struct pair *p)
{
	if (!p)
		return;
	free(p->latency);
	free(p->more);
	free(p);
}

/* Rows live in their table; one that was moved lives as long as it is referred to. */
void ledger_pair_put(struct pair *p)
{
	struct pair *to = p->moved_to;

	if (--p->refs || !to)
		return;
	ledger_pair_destroy(p);
	ledger_pair_put(to);
}

void ledger_pair_free(struct ledger *l, struct pair *p)
{
	numbers_give(&l->pair_numbers, p->no);
	ledger_peer_put(l, p->src);
	ledger_peer_put(l, p->dst);
	ledger_pair_destroy(p);
}

void ledger_pair_dirty(struct ledger *l, struct pair *p)
{
	if (p->src->unknown || p->dst->unknown) {
		l->unknown_dirty = true;
		return;
	}
	if (p->dirty)
		return;
	p->dirty = true;
	p->dirty_next = l->dirty;
	l->dirty = p;
}

struct pair_more *ledger_pair_more(struct pair *p)
{
	if (!p->more)
		p->more = calloc(1, sizeof(*p->more));
	return p->more;
}

static void widen(uint64_t *first_ns, uint64_t *last_ns, uint64_t from_ns, uint64_t to_ns)
{
	if (from_ns && (!*first_ns || from_ns < *first_ns))
		*first_ns = from_ns;
	if (to_ns > *last_ns)
		*last_ns = to_ns;
}

static void more_add(struct pair *to, const struct pair_more *m)
{
	struct pair_more *t = m ? ledger_pair_more(to) : NULL;

	if (!t)
		return;
	t->last_hop += m->last_hop;
	widen(&t->last_hop_first_ns, &t->last_hop_last_ns, m->last_hop_first_ns,
	      m->last_hop_last_ns);
	t->wg_initiations += m->wg_initiations;
	t->wg_responses += m->wg_responses;
	widen(&t->wg_initiation_first_ns, &t->wg_initiation_last_ns, m->wg_initiation_first_ns,
	      m->wg_initiation_last_ns);
	if (m->wg_response_last_ns > t->wg_response_last_ns)
		t->wg_response_last_ns = m->wg_response_last_ns;
}

void ledger_pair_add(struct pair *to, const struct pair *from)
{
	int h;

	to->entered += from->entered;
	to->left += from->left;
	to->lost += from->lost;
	to->untraced += from->untraced;
	to->first_seen += from->first_seen;
	to->counted |= from->counted;
	to->disco += from->disco;
	for (h = 0; h < HOP_COUNT; h++) {
		to->frames[h] += from->frames[h];
		to->bytes[h] += from->bytes[h];
	}
	widen(&to->first_ns, &to->last_ns, from->first_ns, from->last_ns);
	buckets_sum(&to->latency, from->latency);
	more_add(to, from->more);
}

static void pair_let_go(struct ledger *l, struct pair *p)
{
	chains_del(pair_table(l, p->src, p->dst), &p->chain);
	if (p->src->unknown || p->dst->unknown)
		l->unknown_dirty = true;
}

void ledger_pair_move(struct ledger *l, struct pair *from, struct pair *to)
{
	ledger_pair_add(to, from);
	ledger_pair_dirty(l, to);
	pair_let_go(l, from);
	ledger_peer_put(l, from->src);
	ledger_peer_put(l, from->dst);
	if (!from->refs) {
		ledger_pair_destroy(from);
		return;
	}
	from->src = from->dst = NULL;
	from->moved_to = to;
	to->refs++;
}

void ledger_pair_move_entry(struct ledger *l, struct item *e, struct pair *to)
{
	uint32_t packets = item_packets(e), disco = e->disco ? packets : 0;
	uint64_t bytes = item_bytes(e);
	struct pair *from = e->pair;

	from->entered -= packets;
	from->disco -= disco;
	from->frames[e->hop] -= packets;
	from->bytes[e->hop] -= bytes < from->bytes[e->hop] ? bytes : from->bytes[e->hop];
	to->entered += packets;
	to->disco += disco;
	to->frames[e->hop] += packets;
	to->bytes[e->hop] += bytes;
	widen(&to->first_ns, &to->last_ns, e->time_ns, e->time_ns);
	ledger_pair_dirty(l, from);
	ledger_pair_dirty(l, to);
}

void ledger_pair_move_lost(struct ledger *l, struct pair *from, struct pair *to,
			   const struct item *i)
{
	from->entered--;
	from->first_seen--;
	from->disco -= i->disco;
	from->lost--;
	to->entered++;
	to->first_seen++;
	to->disco += i->disco;
	to->lost++;
	widen(&to->first_ns, &to->last_ns, i->time_ns, i->time_ns);
	ledger_pair_dirty(l, from);
	ledger_pair_dirty(l, to);
}

static void enter(struct ledger *l, struct pair *p, const struct item *i)
{
	uint32_t packets = item_packets(i);

	l->books.entered += packets;
	l->node_dirty = true;
	if (p == l->other)
		l->info.other_frames += packets;
	p->entered += packets;
	p->disco += i->disco ? packets : 0;
}

void ledger_book_entered(struct ledger *l, struct pair *p, const struct item *i)
{
	enter(l, p, i);
	p->frames[i->hop] += item_packets(i);
	p->bytes[i->hop] += item_bytes(i);
	widen(&p->first_ns, &p->last_ns, i->time_ns, i->time_ns);
	ledger_pair_dirty(l, p);
}

void ledger_book_unentered(struct ledger *l, struct pair *p, const struct item *i)
{
	l->books.entered--;
	l->node_dirty = true;
	if (p == l->other)
		l->info.other_frames--;
	p->entered--;
	p->disco -= i->disco;
	p->frames[i->hop]--;
	p->bytes[i->hop] -= i->len;
	ledger_pair_dirty(l, p);
}

void ledger_book_first_seen(struct ledger *l, struct pair *p, const struct item *i)
{
	enter(l, p, i);
	p->first_seen += item_packets(i);
	widen(&p->first_ns, &p->last_ns, i->time_ns, i->time_ns);
	ledger_pair_dirty(l, p);
}

void ledger_book_again(struct ledger *l, struct pair *p, const struct item *i)
{
	p->first_seen -= item_packets(i);
	p->frames[i->hop] += item_packets(i);
	p->bytes[i->hop] += item_bytes(i);
	widen(&p->first_ns, &p->last_ns, i->time_ns, i->time_ns);
	ledger_pair_dirty(l, p);
}

/*
 * A peer sends data only in a session: who was not answered before has been since, by another way,
 * or speaks under an older session yet.
 */
static void wireguard_session(struct pair_more *m)
{
	m->wg_initiations = 0;
	m->wg_initiation_first_ns = 0;
	m->wg_initiation_last_ns = 0;
}

static void wireguard_add(struct pair *p, uint8_t type, uint64_t time_ns)
{
	struct pair_more *m = type == 1 || type == 2 ? ledger_pair_more(p) : p->more;

	if (!m)
		return;
	if (type == 1) {
		m->wg_initiations++;
		widen(&m->wg_initiation_first_ns, &m->wg_initiation_last_ns, time_ns, time_ns);
	} else if (type == 2) {
		m->wg_responses++;
		if (time_ns > m->wg_response_last_ns)
			m->wg_response_last_ns = time_ns;
	} else if (type == 4) {
		wireguard_session(m);
	}
}

void ledger_book_left(struct ledger *l, struct pair *p, const struct sight *s, uint64_t entered_ns)
{
	l->books.left += sight_packets(s);
	l->node_dirty = true;
	p->left += sight_packets(s);
	p->frames[s->hop] += sight_packets(s);
	p->bytes[s->hop] += sight_bytes(s);
	if (s->hop == HOP_CLIENT_OUT)
		wireguard_add(p, s->wg, s->time_ns);
	if (entered_ns)
		buckets_add(&p->latency, latency_bucket(s->time_ns > entered_ns ?
							s->time_ns - entered_ns : 0), 1);
	if (s->time_ns > p->last_ns)
		p->last_ns = s->time_ns;
	ledger_pair_dirty(l, p);
}

void ledger_latency(struct ledger *l, const struct capture_event *e)
{
	const struct capture_latency *n = &e->latency;
	struct conn *c = ledger_conn_known(l, e->conn);
	struct peer *src, *dst;
	struct pair *p;

	if (!c || n->bucket >= LATENCY_BUCKETS)
		return;
	src = ledger_peer_get(l, &n->src);
	dst = key_is_zero(&n->dst) ? peer_ref(ledger_conn_peer(l, c)) : ledger_peer_get(l, &n->dst);
	p = ledger_pair_get(l, src, dst);
	buckets_add(&p->latency, n->bucket, n->count);
	ledger_pair_dirty(l, p);
	ledger_peer_put(l, src);
	ledger_peer_put(l, dst);
}

void ledger_book_untraced(struct ledger *l, struct pair *p, uint32_t packets)
{
	l->books.untraced += packets;
	l->node_dirty = true;
	p->untraced += packets;
	ledger_pair_dirty(l, p);
}

void ledger_pair_fill(const struct ledger *l, const struct pair *p, struct record_pair *r)
{
	const struct pair_more *m = p->more;
	int h;

	r->books.entered += p->entered;
	r->books.left += p->left;
	r->books.lost += p->lost;
	r->books.untraced += p->untraced;
	r->books.in_flight += p->count_id == l->count_id ? p->walked : 0;
	for (h = 0; h < HOP_COUNT; h++) {
		r->frames[h] += p->frames[h];
		r->bytes[h] += p->bytes[h];
	}
	r->first_seen += p->first_seen;
	r->disco += p->disco;
	if (p->last_ns > r->last_ns)
		r->last_ns = p->last_ns;
	if (!m)
		return;
	r->last_hop += m->last_hop;
	widen(&r->last_hop_first_ns, &r->last_hop_last_ns, m->last_hop_first_ns,
	      m->last_hop_last_ns);
	r->wg_initiations += m->wg_initiations;
	r->wg_responses += m->wg_responses;
	widen(&r->wg_initiation_first_ns, &r->wg_initiation_last_ns, m->wg_initiation_first_ns,
	      m->wg_initiation_last_ns);
	if (m->wg_response_last_ns > r->wg_response_last_ns)
		r->wg_response_last_ns = m->wg_response_last_ns;
}

static void take_more(struct pair_more *m, const struct record_pair *r)
{
	m->last_hop = r->last_hop;
	m->last_hop_first_ns = r->last_hop_first_ns;
	m->last_hop_last_ns = r->last_hop_last_ns;
	m->wg_initiations = r->wg_initiations;
	m->wg_responses = r->wg_responses;
	m->wg_initiation_first_ns = r->wg_initiation_first_ns;
	m->wg_initiation_last_ns = r->wg_initiation_last_ns;
	m->wg_response_last_ns = r->wg_response_last_ns;
}

struct pair *ledger_pair_restore(struct ledger *l, struct peer *src, struct peer *dst,
				 uint64_t first_ns, const struct record_pair *r)
{
	bool more = r->last_hop || r->wg_initiations || r->wg_responses;
	struct pair *p = calloc(1, sizeof(*p));

	if (!p || (more && !ledger_pair_more(p)) || !buckets_set(&p->latency, r->latency) ||
	    !chains_add(&l->pairs, &p->chain, pair_hash(l, src, dst))) {
		ledger_pair_destroy(p);
		return NULL;
	}
	p->src = src;
	p->dst = dst;
	p->entered = r->books.entered;
	p->left = r->books.left;
	p->lost = r->books.lost;
	p->untraced = r->books.untraced;
	memcpy(p->frames, r->frames, sizeof(p->frames));
	memcpy(p->bytes, r->bytes, sizeof(p->bytes));
	p->first_seen = r->first_seen;
	p->disco = r->disco;
	p->first_ns = first_ns;
	p->last_ns = r->last_ns;
	if (more)
		take_more(p->more, r);
	return p;
}
