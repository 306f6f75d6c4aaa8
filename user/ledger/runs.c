// SPDX-License-Identifier: BSD-2-Clause
/*
 * Packets that were counted and not seen one by one. A queue of the relay's is first in, first out:
 * what leaves is the oldest of its pair and class, whether the one or the other was counted.
 */
#include "ledger/internal.h"

#define RUN_SEARCH	4096u	/* items that are looked at */

static struct item *item_at(struct ledger *l, uint32_t i)
{
	return &l->items[i];
}

/* As many of @i as @s speaks of leave, and are booked. How many that were. */
static uint32_t leave(struct ledger *l, uint32_t i, const struct sight *s)
{
	struct item e = *item_at(l, i);
	uint32_t n = item_packets(&e);
	struct sight part = *s;
	bool whole = n <= sight_packets(s);

	if (!whole)
		n = sight_packets(s);
	if (s->run) {
		part.run = n;
		part.bytes = n < s->run && item_bytes(&e) < s->bytes ? item_bytes(&e) : s->bytes;
	}
	ledger_conn_done(&e);
	ledger_book_left(l, e.pair, &part, 0);
	if (whole && e.time_ns > s->conn->left_entered_ns[e.disco] && !e.pair->doubtful)
		s->conn->left_entered_ns[e.disco] = e.time_ns;
	ledger_item_shrink(l, i, n, sight_bytes(&part));
	return n;
}

/* What was taken for passed, and has been counted as it left. */
static uint32_t oldest_passed(struct ledger *l, const struct pair *p, bool disco)
{
	uint32_t i, n = 0;

	for (i = l->passed.head; i && n < RUN_SEARCH; i = item_at(l, i)->link[LINK_QUEUE].next, n++) {
		if (item_at(l, i)->pair == p && item_at(l, i)->disco == disco)
			return i;
	}
	return 0;
}

static uint32_t oldest(struct ledger *l, const struct pair *p, bool disco)
{
	uint32_t i = oldest_passed(l, p, disco), head = p->queue[disco].head;

	if (!i || (head && item_at(l, head)->time_ns < item_at(l, i)->time_ns))
		i = head;
	/* One of which a later one has left stands in no queue. */
	return i ? i : ledger_item_run(l, p, disco, SIDE_IN);
}

bool ledger_run_ghosts(struct ledger *l, struct item *e)
{
	struct pair *p = e->pair;
	struct item part;
	uint32_t g, n;
	uint64_t bytes;

	while (l->ghosts.head && (g = ledger_item_run(l, p, e->disco, SIDE_GHOST)) &&
	       item_at(l, g)->time_ns >= e->time_ns) {
		n = item_packets(item_at(l, g));
		if (n > item_packets(e))
			n = item_packets(e);
		bytes = item_bytes(e) / item_packets(e) * n;
		part = *e;
		if (e->run) {
			part.len = n;
			part.digest = n == item_packets(e) ? item_bytes(e) : bytes;
		}
		ledger_book_again(l, p, &part);
		ledger_conn_done(e);
		ledger_item_shrink(l, g, n, bytes);
		if (n == item_packets(e))
			return true;
		e->len -= n;
		e->digest -= bytes;
	}
	return false;
}

void ledger_entry_run(struct ledger *l, struct peer *src, struct peer *dst, const struct sight *s)
{
	struct pair *p = ledger_pair_get(l, src, dst);
	struct item e = {
		.pair = p,
		.dst = dst,
		.conn = s->conn,
		.digest = s->bytes,
		.time_ns = s->time_ns,
		.pos = s->pos,
		.no = s->conn->next_no++,
		.len = s->run,
		.kind = ITEM_ENTRY,
		.disco = s->disco,
		.hop = s->hop,
		.run = true,
	};

	/* What waits for it is joined at the tick. */
	p->counted = true;
	if (ledger_run_ghosts(l, &e))
		return;
	ledger_book_entered(l, p, &e);
	ledger_item_add(l, &e);
}

bool ledger_run_exit_one(struct ledger *l, struct pair *p, const struct sight *s)
{
	uint32_t i = ledger_item_run(l, p, s->disco, SIDE_IN);

	if (i)
		leave(l, i, s);
	return i;
}

bool ledger_run_retry(struct ledger *l, uint32_t wait, bool any)
{
	for (;;) {
		struct item *w = item_at(l, wait);
		struct sight s = ledger_sight(w);
		uint64_t bytes;
		bool last;
		uint32_t i, n = 1;

		if (w->run || any)
			i = oldest(l, w->pair, w->disco);
		else
			i = ledger_item_run(l, w->pair, w->disco, SIDE_IN);
		if (!i)
			return false;
		bytes = item_bytes(item_at(l, i));
		last = item_packets(w) <= item_packets(item_at(l, i));
		if (w->kind == ITEM_EXIT)
			n = leave(l, i, &s);
		else
			ledger_join_drop(l, i, w->no);
		ledger_item_shrink(l, wait, n, bytes);
		if (last || !s.run)
			return true;
	}
}

void ledger_run_named(struct ledger *l, uint32_t wait)
{
	const struct item *w = item_at(l, wait);
	uint32_t i = ledger_item_digest(l, w->len, w->digest), n;

	for (n = 0; i && n < RUN_SEARCH; n++, i = item_at(l, i)->link[LINK_DIGEST].next) {
		const struct item *it = item_at(l, i);

		if (it->run || item_side(it) != SIDE_IN || it->digest != w->digest ||
		    it->len != w->len || it->dst != w->dst || !it->pair->counted)
			continue;
		ledger_join_drop(l, i, w->no);
		ledger_loose_done(l, wait);
		return;
	}
}

/* Before a count takes those that were dropped for its own. */
static void name_dropped(struct ledger *l, const struct peer *dst)
{
	uint32_t w = l->loose ? l->waiting.head : 0, next, n;

	for (n = 0; w && n < RUN_SEARCH; n++, w = next) {
		const struct item *it = item_at(l, w);

		next = it->link[LINK_ALL].next;
		if (it->kind == ITEM_DROP && !it->pair && it->dst == dst)
			ledger_run_named(l, w);
	}
}

void ledger_exit_run(struct ledger *l, struct peer *src, struct peer *dst, const struct sight *s)
{
	struct pair *p = ledger_pair_get(l, src, dst);
	struct sight rest = *s;
	uint32_t i;

	p->counted = true;
	name_dropped(l, dst);
	/* Entries that are told late are those of the exits that have waited longest. */
	while ((i = ledger_item_run(l, p, s->disco, SIDE_OUT)) && ledger_run_retry(l, i, false))
		;
	while (rest.run && (i = oldest(l, p, s->disco))) {
		uint64_t bytes = item_bytes(item_at(l, i));
		uint32_t n = leave(l, i, &rest);

		rest.bytes -= n < rest.run && bytes < rest.bytes ? bytes : rest.bytes;
		rest.run -= n;
	}
	if (rest.run) {
		struct item x = {
			.pair = p,
			.dst = dst,
			.conn = s->conn,
			.digest = rest.bytes,
			.time_ns = s->time_ns,
			.no = s->wg,
			.len = rest.run,
			.kind = ITEM_EXIT,
			.disco = s->disco,
			.hop = s->hop,
			.run = true,
		};

		ledger_item_add(l, &x);
	}
	ledger_conn_sent(s->conn, s, p);
}

/* A named one of a pair that was counted, whose own name was taken for another's. */
static uint32_t oldest_to(struct ledger *l, const struct item *w)
{
	uint32_t i, n = 0;

	for (i = l->entries.head; i && n < RUN_SEARCH; i = item_at(l, i)->link[LINK_ALL].next, n++) {
		const struct item *it = item_at(l, i);

		if (it->dst == w->dst && it->disco == w->disco && it->pair->counted)
			return i;
	}
	return 0;
}

/* One in flight that it may speak of; 0: none, or (*waits) of several senders'. */
static uint32_t loose_one(struct ledger *l, const struct item *w, bool all, bool *waits)
{
	uint32_t i = ledger_item_runs_to(l, w->dst), n, first = 0, named;

	for (n = 0; i && n < RUN_SEARCH; n++, i = item_at(l, i)->link[LINK_DIGEST].next) {
		const struct item *it = item_at(l, i);

		if (!it->run || item_side(it) != SIDE_IN || it->dst != w->dst ||
		    it->disco != w->disco)
			continue;
		/* Of several senders': whose it was shows when the queue has drained. */
		*waits = first && it->pair != item_at(l, first)->pair && !all;
		if (*waits)
			return 0;
		if (!first)
			first = i;
	}
	named = oldest_to(l, w);
	if (!first)
		return named;
	*waits = named && item_at(l, named)->pair != item_at(l, first)->pair && !all;
	return *waits ? 0 : first;
}

bool ledger_run_loose(struct ledger *l, uint32_t wait, bool all)
{
	bool waits = false;
	uint32_t i;

	while ((i = loose_one(l, item_at(l, wait), all, &waits))) {
		ledger_join_drop(l, i, item_at(l, wait)->no);
		if (ledger_loose_done(l, wait))
			return true;
	}
	return waits;
}

bool ledger_run_dropped(struct ledger *l, uint32_t i)
{
	uint32_t w = l->loose ? l->waiting.head : 0, next, n;

	for (n = 0; w && n < RUN_SEARCH; n++, w = next) {
		const struct item *it = item_at(l, w), *e = item_at(l, i);
		bool last = item_packets(e) == 1;

		next = it->link[LINK_ALL].next;
		if (it->kind != ITEM_DROP || it->pair || it->dst != e->dst || it->disco != e->disco)
			continue;
		ledger_join_drop(l, i, it->no);
		ledger_loose_done(l, w);
		if (last)
			return true;
	}
	return false;
}
