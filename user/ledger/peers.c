// SPDX-License-Identifier: BSD-2-Clause
/*
 * Peers, where they are, and the exit that leads to each. The relay takes a peer's own connection
 * here first; only a peer without one is behind the mesh. What leaves is first in first out only as
 * long as one exit leads to it, so every change of that is noted with its time.
 */
#include "ledger/internal.h"

#include <stdlib.h>

struct peer *ledger_peer_unknown(struct ledger *l)
{
	struct peer *p = calloc(1, sizeof(*p));

	if (!p)
		return l->nobody ? peer_ref(l->nobody) : NULL;
	p->unknown = true;
	p->refs = 1;
	return p;
}

struct peer *ledger_peer_get(struct ledger *l, const struct key *key)
{
	uint64_t hash;
	struct chain *c;
	struct peer *p;

	if (key_is_zero(key))
		key = &key_zero_named;
	hash = hash_key(&l->seed, key);
	for (c = chains_find(&l->peers, hash); c; c = chains_again(c)) {
		p = ITEM_OF(c, struct peer, chain);
		if (key_equal(&p->key, key))
			return peer_ref(p);
	}
	p = l->peers.count < 2 * (size_t)l->limits.max_pairs ? calloc(1, sizeof(*p)) : NULL;
	if (!p || !chains_add(&l->peers, &p->chain, hash)) {
		free(p);
		return peer_ref(l->nobody);
	}
	p->key = *key;
	p->refs = 1;
	return p;
}

void ledger_peer_put(struct ledger *l, struct peer *p)
{
	if (!p || --p->refs)
		return;
	if (!p->unknown)
		chains_del(&l->peers, &p->chain);
	numbers_give(&l->peer_numbers, p->no);
	free(p->past);
	free(p);
}

static struct conn *only_exit(struct ledger *l, struct peer *p)
{
	struct conn *only = NULL, *c;
	struct presence *pr;
	unsigned int n = 0;

	ledger_dormant_wake_peer(l, p);
	for (c = p->conns; c; c = c->next_of_peer) {
		if (!c->closed_ns) {
			n++;
			only = c;
		}
	}
	if (n)
		return n == 1 ? only : NULL;
	for (pr = p->presences; pr; pr = pr->next_of_peer) {
		if (pr->present && !pr->conn->closed_ns) {
			n++;
			only = pr->conn;
		}
	}
	if (n != 1)
		return NULL;
	/* Another node of which presence was missed may have it as well. */
	return l->unsure > only->unsure ? NULL : only;
}

/* NULL without memory: what entered before now may have left unseen. */
static struct peer_past *past_get(struct ledger *l, struct peer *p)
{
	if (!p->past)
		p->past = calloc(1, sizeof(*p->past));
	if (!p->past)
		l->ambiguous_ns = l->now_ns;
	return p->past;
}

static void set_route(struct ledger *l, struct peer *p, struct conn *exit, uint64_t time_ns)
{
	struct peer_past *past = p->route.exit ? past_get(l, p) : p->past;

	if (past) {
		past->route = p->route;
		past->to_ns = time_ns;
	}
	p->route = (struct route){ exit, time_ns };
}

void ledger_peer_reroute(struct ledger *l, struct peer *p, uint64_t time_ns)
{
	struct conn *exit;

	if (p == l->nobody)
		return;
	exit = only_exit(l, p);
	set_route(l, p, exit, time_ns);
}

static bool is_here(const struct peer *p)
{
	const struct conn *c;

	for (c = p->conns; c; c = c->next_of_peer) {
		if (!c->closed_ns)
			return true;
	}
	return false;
}

void ledger_peer_register(struct ledger *l, struct conn *c, uint64_t since_ns, uint64_t time_ns)
{
	struct peer *p = c->peer;

	if (c->registered || c->shared || c->closed_ns)
		return;
	ledger_dormant_wake_peer(l, p);
	c->registered = true;
	c->since_ns = since_ns;
	c->next_of_peer = p->conns;
	p->conns = c;
	peer_ref(p);
	ledger_peer_reroute(l, p, time_ns);
}

/* @c is let go. */
static void forget_exit(struct ledger *l, struct peer *p, const struct conn *c)
{
	if (p->route.exit == c)
		ledger_peer_reroute(l, p, l->now_ns);
	if (p->route.exit == c)
		p->route.exit = NULL;
	if (p->past && p->past->route.exit == c)
		p->past->route.exit = NULL;
}

void ledger_peer_unregister(struct ledger *l, struct conn *c)
{
	struct peer *p = c->peer;
	struct peer_past *past;
	struct conn **at;
	uint64_t until;

	if (!c->registered)
		return;
	for (at = &p->conns; *at != c; at = &(*at)->next_of_peer)
		;
	*at = c->next_of_peer;
	c->registered = false;
	until = ledger_conn_clean_ns(c);
	if (c->closed_ns && c->closed_ns < until)
		until = c->closed_ns;
	past = until != NEVER && until ? past_get(l, p) : NULL;
	if (past && until > past->unclean_ns)
		past->unclean_ns = until;
	forget_exit(l, p, c);
	ledger_peer_put(l, p);
}

void ledger_conn_unsure(struct ledger *l, struct conn *c)
{
	if (c->unsure || c->closed_ns || c->shared)
		return;
	c->unsure = true;
	l->unsure++;
	l->mesh_changed_ns = l->now_ns;
}

static uint64_t presence_hash(const struct ledger *l, const struct conn *c, const struct peer *p)
{
	return hash_words(&l->seed, (uintptr_t)c, (uintptr_t)p, 0);
}

static struct presence *presence_find(const struct ledger *l, const struct conn *c,
				      const struct peer *p)
{
	struct chain *at = chains_find(&l->presences, presence_hash(l, c, p));

	for (; at; at = chains_again(at)) {
		struct presence *pr = ITEM_OF(at, struct presence, chain);

		if (pr->conn == c && pr->peer == p)
			return pr;
	}
	return NULL;
}

/* Over the limit the connection's presence is not sure any more. */
static struct presence *presence_get(struct ledger *l, struct conn *c, struct peer *p)
{
	struct presence *pr = presence_find(l, c, p);

	if (pr)
		return pr;
	pr = l->presences.count < l->limits.max_pairs && p != l->nobody ? calloc(1, sizeof(*pr)) :
									  NULL;
	if (!pr || !chains_add(&l->presences, &pr->chain, presence_hash(l, c, p))) {
		free(pr);
		ledger_conn_unsure(l, c);
		return NULL;
	}
	pr->conn = c;
	pr->peer = peer_ref(p);
	pr->next_of_conn = c->presences;
	pr->at_conn = &c->presences;
	if (pr->next_of_conn)
		pr->next_of_conn->at_conn = &pr->next_of_conn;
	c->presences = pr;
	pr->next_of_peer = p->presences;
	p->presences = pr;
	return pr;
}

void ledger_peer_forwarded(struct ledger *l, struct peer *p, struct conn *c, uint64_t time_ns)
{
	struct presence *pr;

	if (p->route.exit == c || p == l->nobody || c->shared)
		return;
	ledger_dormant_wake_peer(l, p);
	pr = presence_get(l, c, p);
	/* Written before the relay had taken in that it is gone. */
	if (pr && !pr->present && pr->gone_ns && time_ns < pr->gone_ns + SETTLE_NS)
		return;
	if (pr && !pr->present) {
		pr->present = pr->seen = true;
		ledger_peer_reroute(l, p, time_ns);
	}
	/* Whatever else might lead to it: this does, until something changes. */
	if (!is_here(p) && p->route.exit != c && pr)
		set_route(l, p, c, time_ns);
}

void ledger_presence_tell(struct ledger *l, struct conn *c, const struct record_presence *said,
			  uint64_t time_ns)
{
	struct peer *p = ledger_peer_get(l, &said->peer);
	struct presence *pr = presence_get(l, c, p);

	if (pr) {
		bool changed = pr->present != said->present;

		if (said->present && (changed || pr->seen))
			pr->here_ns = time_ns;
		pr->present = said->present;
		pr->not_here = said->not_here;
		pr->seen = false;
		pr->dirty = true;
		if (said->present) {
			pr->addr = said->addr;
			pr->flags = said->flags;
		} else {
			pr->gone_ns = time_ns;
		}
		if (changed)
			ledger_peer_reroute(l, p, time_ns);
	}
	ledger_peer_put(l, p);
}

void ledger_presences_end(struct ledger *l, struct conn *c, uint64_t time_ns)
{
	struct presence *pr;

	for (pr = c->presences; pr; pr = pr->next_of_conn)
		ledger_peer_reroute(l, pr->peer, time_ns);
}

static void presence_free(struct ledger *l, struct presence *pr)
{
	struct presence **at;

	*pr->at_conn = pr->next_of_conn;
	if (pr->next_of_conn)
		pr->next_of_conn->at_conn = pr->at_conn;
	for (at = &pr->peer->presences; *at != pr; at = &(*at)->next_of_peer)
		;
	*at = pr->next_of_peer;
	chains_del(&l->presences, &pr->chain);
	ledger_peer_put(l, pr->peer);
	free(pr);
}

void ledger_presences_sweep(struct ledger *l)
{
	struct chain *at, *next;
	struct presence *pr;

	for (at = chains_first(&l->presences); at; at = next) {
		next = chains_next(&l->presences, at);
		pr = ITEM_OF(at, struct presence, chain);
		if (!pr->present && !pr->dirty && pr->gone_ns + KEEP_NS < l->now_ns)
			presence_free(l, pr);
	}
}

void ledger_presences_free(struct ledger *l, struct conn *c)
{
	struct presence *pr;

	while ((pr = c->presences)) {
		forget_exit(l, pr->peer, c);
		presence_free(l, pr);
	}
}
