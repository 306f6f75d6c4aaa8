// SPDX-License-Identifier: BSD-2-Clause
#include "ledger/internal.h"

#include "base/fold.h"

#include <stdlib.h>

#define REST_NS		(2 * SECOND_NS)	/* silent for so long */

_Static_assert(sizeof(struct conn) % 8 == 0, "whole words are folded");
_Static_assert(FOLD_BYTES(sizeof(struct conn)) <= SHELF_MAX, "a connection is one block");

static bool is_silent(const struct ledger *l, uint64_t time_ns)
{
	return time_ns + REST_NS < l->now_ns;
}

/* Nothing of it waits, so no tick changes it: see conn_tick() and look_at(). */
static bool is_still(const struct conn *c)
{
	return !c->items && !c->ring && !c->notsent && !c->unread && c->quiet_ns != NEVER &&
	       (!c->has_acked || c->out_acked >= c->out_sent) && c->in_read >= c->in_arrived &&
	       c->has_read && c->tick_sent == c->out_sent && c->tick_acked == c->out_acked &&
	       c->tick_read == c->in_read;
}

/* Where it was before is of use to what has been in flight since then, only. */
static void forget_past(const struct ledger *l, struct peer *p)
{
	uint64_t until = p->past ? p->past->to_ns : 0;

	if (!p->past)
		return;
	if (p->past->unclean_ns > until)
		until = p->past->unclean_ns;
	if (until + LATE_NS < l->now_ns && until < ledger_oldest_ns(l)) {
		free(p->past);
		p->past = NULL;
	}
}

/* Nobody else refers to it than its peer, whose only exit it is. */
static bool is_alone(const struct ledger *l, const struct conn *c)
{
	struct peer *p = c->peer;

	if (!c->registered || p->unknown || p->conns != c || c->next_of_peer ||
	    p->route.exit != c || c->mesh || c->presences || c->server)
		return false;
	forget_past(l, p);
	return !p->past || p->past->route.exit != c;
}

static bool may_rest(const struct ledger *l, const struct conn *c)
{
	return c->kind == CONN_CLIENT && !c->closed_ns && !c->left_ns && !c->dirty && !c->shared &&
	       !c->unsure && is_silent(l, c->last_in_ns) && is_silent(l, c->last_out_ns) &&
	       is_silent(l, c->acked_ns) && is_silent(l, c->opened_ns) && is_still(c) &&
	       is_alone(l, c);
}

/* What the last tick left, and its place, need not be kept. */
static void lay_down(struct ledger *l, struct conn *c)
{
	uint8_t bytes[FOLD_BYTES(sizeof(*c))];
	struct peer *p = c->peer;
	struct conn rest = *c;

	rest.chain = (struct chain){ 0 };
	rest.id = rest.tick_sent = rest.tick_acked = rest.tick_read = rest.drained_ns = 0;
	if (!shelf_put(&l->dormant, c->id, bytes, (size_t)(fold(&rest, sizeof(rest), bytes) - bytes)))
		return;
	p->rests = true;
	p->resting = c->id;
	p->route.exit = NULL;
	chains_del(&l->conns, &c->chain);
	free(c);
}

void ledger_dormant_sweep(struct ledger *l)
{
	struct chain *at, *next;

	for (at = chains_first(&l->conns); at; at = next) {
		next = chains_next(&l->conns, at);
		if (may_rest(l, ITEM_OF(at, struct conn, chain)))
			lay_down(l, ITEM_OF(at, struct conn, chain));
	}
}

static void stand_up(const struct ledger *l, uint64_t id, const uint8_t *bytes, struct conn *c)
{
	unfold(bytes, c, sizeof(*c));
	c->id = id;
	c->tick_sent = c->out_sent;
	c->tick_acked = c->out_acked;
	c->tick_read = c->in_read;
	c->drained_ns = l->tick_ns;
}

struct conn *ledger_dormant_wake(struct ledger *l, uint64_t id)
{
	const uint8_t *bytes = shelf_find(&l->dormant, id);
	struct conn *c = bytes ? malloc(sizeof(*c)) : NULL;
	struct peer *p;

	if (!c)
		return NULL;
	stand_up(l, id, bytes, c);
	shelf_drop(&l->dormant, id);
	/* The table is there: it was in it. */
	chains_add(&l->conns, &c->chain, ledger_conn_hash(l, id));
	p = c->peer;
	if (p->rests) {
		p->rests = false;
		p->conns = NULL;
	}
	c->next_of_peer = p->conns;
	if (!p->conns)
		p->route.exit = c;
	p->conns = c;
	return c;
}

void ledger_dormant_wake_peer(struct ledger *l, struct peer *p)
{
	if (!p->rests || ledger_dormant_wake(l, p->resting))
		return;
	/* It is as if it had not been seen so far. */
	p->rests = false;
	p->conns = NULL;
	l->ambiguous_ns = l->now_ns;
}

void ledger_dormant_wake_all(struct ledger *l)
{
	uint64_t id;
	size_t at = 0;

	/* What stood behind it may have moved to its place. */
	while (shelf_next(&l->dormant, &at, &id)) {
		if (ledger_dormant_wake(l, id))
			at--;
	}
}

bool ledger_dormant_next(const struct ledger *l, size_t *at, struct conn *c)
{
	uint64_t id;
	const uint8_t *bytes = shelf_next(&l->dormant, at, &id);

	if (bytes)
		stand_up(l, id, bytes, c);
	return bytes;
}

bool ledger_dormant_look(const struct ledger *l, uint64_t id, struct conn *c)
{
	const uint8_t *bytes = shelf_find(&l->dormant, id);

	if (bytes)
		stand_up(l, id, bytes, c);
	return bytes;
}

void ledger_dormant_free(struct ledger *l)
{
	struct conn c;
	size_t at = 0;

	while (ledger_dormant_next(l, &at, &c)) {
		c.peer->rests = false;
		c.peer->conns = NULL;
		/* One reference is its connection's, the other that it is registered there. */
		ledger_peer_put(l, c.peer);
		ledger_peer_put(l, c.peer);
	}
	shelf_free(&l->dormant);
}
