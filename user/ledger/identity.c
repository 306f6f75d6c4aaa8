// SPDX-License-Identifier: BSD-2-Clause
/*
 * Whose a connection is. A ClientInfo frame says so; memory claims it; a packet that came in
 * without a source and went out with one shows it. What was booked before is then moved.
 */
#include "ledger/internal.h"

struct peer *ledger_conn_peer(struct ledger *l, struct conn *c)
{
	if (!c->peer)
		c->peer = c->shared ? peer_ref(l->nobody) : ledger_peer_unknown(l);
	return c->peer;
}

static struct peer *renamed(struct peer *p, struct peer *from, struct peer *to)
{
	return p == from ? to : p;
}

/* Packets of @c that wait or are in flight become those of its new peer. */
static void repair_items(struct ledger *l, const struct list *list, struct conn *c,
			 struct peer *from, struct peer *to)
{
	uint32_t i, next;
	struct pair *p;

	for (i = list->head; i; i = next) {
		struct item *it = &l->items[i];

		next = it->link[LINK_ALL].next;
		if (it->conn != c || !it->pair || it->pair == l->other ||
		    (it->pair->src != from && it->pair->dst != from))
			continue;
		if (item_side(it) == SIDE_IN) {
			if (it->pair->src != from)
				continue;
			p = ledger_pair_get(l, to, it->pair->dst);
			ledger_pair_move_entry(l, it, p);
		} else {
			if (it->pair->dst != from)
				continue;
			p = ledger_pair_get(l, it->pair->src, to);
			peer_ref(to);
			ledger_peer_put(l, it->dst);
			it->dst = to;
		}
		ledger_item_repair(l, i, p);
		/* What it is may have left, or been dropped, before it was told. */
		if (item_side(it) == SIDE_IN && l->ghosts.head)
			ledger_ghost_item(l, i);
	}
}

static void retry_waiting(struct ledger *l)
{
	uint32_t i, next;

	for (i = l->waiting.head; i; i = next) {
		next = l->items[i].link[LINK_ALL].next;
		ledger_wait_retry(l, i);
	}
}

static void move_pairs(struct ledger *l, struct peer *from, struct peer *to)
{
	struct chain *at, *next;
	struct pair *p, *q;
	size_t mask;

	ledger_ghosts_move(l, from, to);
	for (at = chains_first(&l->unknown_pairs); at; at = next) {
		next = chains_next(&l->unknown_pairs, at);
		p = ITEM_OF(at, struct pair, chain);
		if ((p->src != from && p->dst != from) || p->in_flight)
			continue;
		mask = l->unknown_pairs.mask;
		q = ledger_pair_get(l, renamed(p->src, from, to), renamed(p->dst, from, to));
		if (q == p)
			continue;
		ledger_pair_move(l, p, q);
		/* A row was added and the table has grown: begin again. */
		if (mask != l->unknown_pairs.mask)
			next = chains_first(&l->unknown_pairs);
	}
}

/*
 * Who is known by its ClientInfo is here from then on. Who is known otherwise has been, for how long
 * nobody saw: its packets may have left here ever since the connection was opened.
 */
static void set_peer(struct ledger *l, struct conn *c, struct peer *to, enum identity how,
		     uint64_t time_ns)
{
	uint64_t since_ns = how == IDENTITY_FRAME ? time_ns : c->opened_ns;
	struct peer *from = c->peer;

	if (from == l->nobody)
		from = NULL;
	/* The old one is kept until all that refers to it has moved. */
	ledger_peer_unregister(l, c);
	c->peer = to;
	ledger_peer_register(l, c, c->from_start ? since_ns : 0, c->from_start ? time_ns : 0);
	if (!from)
		return;
	repair_items(l, &l->entries, c, from, to);
	repair_items(l, &l->waiting, c, from, to);
	if (from->unknown)
		move_pairs(l, from, to);
	retry_waiting(l);
	ledger_peer_put(l, from);
}

void ledger_conn_identify(struct ledger *l, struct conn *c, const struct key *key,
			  enum identity how, uint64_t time_ns)
{
	struct peer *to;

	if (c->shared || key_is_zero(key))
		return;
	c->dirty = true;
	l->node_dirty = true;
	if (c->role == CAPTURE_DIALLED) {
		ledger_conn_server(c, key);
		return;
	}
	if (c->peer && !c->peer->unknown) {
		if (key_equal(&c->peer->key, key)) {
			c->claimed &= how == IDENTITY_CLAIM;
			return;
		}
		if (how == IDENTITY_CLAIM && !c->claimed)
			return;
	}
	to = ledger_peer_get(l, key);
	c->claimed = how == IDENTITY_CLAIM;
	c->contradictions = 0;
	set_peer(l, c, to, how, time_ns);
}

void ledger_conn_disown(struct ledger *l, struct conn *c)
{
	ledger_peer_unregister(l, c);
	if (c->peer && c->peer->unknown && c->peer != l->nobody)
		move_pairs(l, c->peer, l->nobody);
	ledger_peer_put(l, c->peer);
	c->peer = NULL;
}
