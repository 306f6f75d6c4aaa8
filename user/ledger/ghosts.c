// SPDX-License-Identifier: BSD-2-Clause
/*
 * Ghosts: packets that were seen leaving, or dropped, whose entry was not told in time, so that they
 * are in the books without it (first seen). Connections whose secret is found late tell their
 * entries late: those are no new packets, and may show who sends on their connection.
 */
#include "ledger/internal.h"

static struct item *item_at(struct ledger *l, uint32_t i)
{
	return &l->items[i];
}

/* The oldest in that pair that may be @e's; 0: none. */
static uint32_t ghost_of(struct ledger *l, const struct pair *p, const struct item *e)
{
	uint32_t g = ledger_item_same(l, p, e->len, e->digest, SIDE_GHOST), n;

	for (n = 0; g && n < SEARCH_MAX; n++, g = item_at(l, g)->link[LINK_SAME].next) {
		if (item_at(l, g)->time_ns >= e->time_ns)
			return g;
	}
	return 0;
}

static bool take(struct ledger *l, struct pair *p, const struct item *e)
{
	uint32_t g = ghost_of(l, p, e);

	if (!g)
		return false;
	ledger_book_again(l, p, e);
	ledger_conn_done(e);
	ledger_item_del(l, g);
	return true;
}

bool ledger_ghost_item(struct ledger *l, uint32_t i)
{
	struct item e = *item_at(l, i);

	if (e.run || !ghost_of(l, e.pair, &e))
		return false;
	ledger_book_unentered(l, e.pair, &e);
	take(l, e.pair, &e);
	ledger_item_del(l, i);
	return true;
}

/* A drop that named no source. */
static bool is_nobodys(const struct ledger *l, const struct item *g)
{
	return g->pair->src == l->nobody && !g->conn;
}

/* May @g be what became of @e, one end of which is not known yet? */
static bool may_be(const struct ledger *l, const struct item *g, const struct item *e)
{
	if (g->kind != ITEM_GHOST || g->digest != e->digest || g->len != e->len ||
	    g->time_ns < e->time_ns || g->pair == l->other)
		return false;
	if (g->dst != e->dst && !(g->dst->unknown && g->conn && !g->conn->shared))
		return false;
	return g->pair->src == e->pair->src || is_nobodys(l, g) ||
	       (e->pair->src->unknown && !e->conn->shared && !g->pair->src->unknown);
}

/* The one ghost that may be; 0: none, or several that differ. */
static uint32_t only_ghost(struct ledger *l, const struct item *e)
{
	uint32_t g = ledger_item_digest(l, e->len, e->digest), n, found = 0;

	for (n = 0; g && n < SEARCH_MAX; n++, g = item_at(l, g)->link[LINK_DIGEST].next) {
		const struct item *it = item_at(l, g), *f = item_at(l, found);

		if (!may_be(l, it, e))
			continue;
		if (found && (f->pair != it->pair || f->conn != it->conn))
			return 0;
		if (!found)
			found = g;
	}
	return n < SEARCH_MAX ? found : 0;
}

/* Dropped, and told as nobody's: now its sender has it, if that one is known. */
static void take_dropped(struct ledger *l, uint32_t g, const struct item *e)
{
	struct pair *p = item_at(l, g)->pair;

	if (!e->pair->src->unknown) {
		ledger_pair_move_lost(l, p, e->pair, item_at(l, g));
		p = e->pair;
	}
	ledger_book_again(l, p, e);
	ledger_conn_done(e);
	ledger_item_del(l, g);
}

/* Who sent it, or whose the connection was that it left on, shows in what left. */
static void learn(struct ledger *l, uint32_t g, struct item *e)
{
	struct item ghost = *item_at(l, g);
	struct key src = ghost.pair->src->key;

	if (ghost.dst->unknown)
		ledger_conn_identify(l, ghost.conn, &e->dst->key, IDENTITY_JOIN, ghost.time_ns);
	if (e->hop != HOP_CLIENT_IN)
		return;
	if (ledger_conn_peer(l, e->conn)->unknown)
		ledger_conn_identify(l, e->conn, &src, IDENTITY_JOIN, ghost.time_ns);
	e->pair = ledger_pair_get(l, ledger_conn_peer(l, e->conn), e->dst);
}

bool ledger_ghost_entry(struct ledger *l, struct item *e)
{
	uint32_t g;

	if (take(l, e->pair, e))
		return true;
	if (!e->late || e->len < NAMED_LEN || e->pair == l->other)
		return false;
	g = only_ghost(l, e);
	if (!g)
		return false;
	if (is_nobodys(l, item_at(l, g))) {
		take_dropped(l, g, e);
		return true;
	}
	learn(l, g, e);
	return take(l, e->pair, e);
}

void ledger_ghosts_move(struct ledger *l, const struct peer *from, struct peer *to)
{
	uint32_t i, next;

	for (i = l->ghosts.head; i; i = next) {
		struct item *it = item_at(l, i);
		struct pair *p;

		next = it->link[LINK_ALL].next;
		if (it->dst != from)
			continue;
		p = to == l->nobody ? l->other : ledger_pair_get(l, it->pair->src, to);
		/* Without a row of its own nobody would look for it there. */
		if (p == l->other) {
			ledger_item_del(l, i);
			continue;
		}
		ledger_peer_put(l, it->dst);
		it->dst = peer_ref(to);
		ledger_item_repair(l, i, p);
	}
}

void ledger_ghosts_tick(struct ledger *l)
{
	uint32_t i;

	while ((i = l->ghosts.head) &&
	       l->start_ns + item_at(l, i)->stamp * MSEC_NS + GHOST_NS < l->now_ns)
		ledger_item_del(l, i);
}
