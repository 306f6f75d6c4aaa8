// SPDX-License-Identifier: BSD-2-Clause
/*
 * Gone: packets that were taken for lost by what was inferred, or given up as untraced. They are
 * remembered for a while: one that is seen leaving after all, or that the relay drops late, is no new
 * packet, and what was booked is taken back. What the relay itself dropped stays lost.
 */
#include "ledger/internal.h"

#define GONE_NS		(30 * SECOND_NS)	/* so long is it remembered */
#define GONE_SHARE	8u	/* one in so many of all items at most */
#define GONE_SEARCH	1024u	/* that are looked at */

static struct item *item_at(struct ledger *l, uint32_t i)
{
	return &l->items[i];
}

static void mark(struct item *g, enum record_reason reason, enum record_basis basis,
		 const struct conn *out)
{
	g->no = reason;
	g->unclean = basis == BASIS_WIRE;
	g->pos = out ? out->id : 0;
}

/* One more of what was lost in the same way just before. */
static bool join_last(struct ledger *l, const struct item *part)
{
	struct item *g = item_at(l, l->gones.tail);

	if (!l->gones.tail || !g->run || g->pair != part->pair || g->disco != part->disco ||
	    g->conn != part->conn || g->time_ns != part->time_ns || g->no != part->no ||
	    g->pos != part->pos || g->unclean != part->unclean || part->len > RUN_MAX - g->len)
		return false;
	g->len += part->len;
	g->digest += part->digest;
	return true;
}

/* A part of a run; without room it is forgotten. */
static void add_part(struct ledger *l, uint32_t i, uint32_t packets, uint64_t bytes,
		     enum record_reason reason, enum record_basis basis, const struct conn *out)
{
	struct item part = *item_at(l, i);

	ledger_item_shrink(l, i, packets, bytes);
	part.kind = ITEM_GONE;
	part.len = packets;
	part.digest = bytes;
	part.stamp = ledger_ms(l, l->now_ns);
	mark(&part, reason, basis, out);
	if (!join_last(l, &part) && ledger_item_room(l))
		ledger_item_add(l, &part);
}

void ledger_gone_add(struct ledger *l, uint32_t i, uint32_t packets, uint64_t bytes,
		     enum record_reason reason, enum record_basis basis, const struct conn *out)
{
	struct item *e = item_at(l, i);

	if (basis == BASIS_RELAY || e->pair->src->unknown || e->pair->dst->unknown) {
		ledger_item_shrink(l, i, packets, bytes);
		return;
	}
	if (packets < item_packets(e)) {
		add_part(l, i, packets, bytes, reason, basis, out);
	} else {
		ledger_item_go(l, i);
		mark(e, reason, basis, out);
	}
	while (l->gone_count > l->item_max / GONE_SHARE)
		ledger_item_del(l, l->gones.head);
}

/* A run's end may be that of one that was seen, and the other way round. */
static uint32_t of_class(struct ledger *l, const struct item *w)
{
	uint32_t g, n = 0;

	for (g = l->gones.head; g && n < GONE_SEARCH; g = item_at(l, g)->link[LINK_ALL].next, n++) {
		const struct item *it = item_at(l, g);

		if (it->pair == w->pair && it->disco == w->disco && (it->run || w->run) &&
		    it->time_ns <= w->time_ns)
			return g;
	}
	return 0;
}

/* Of equal ones an older one may have been taken for what left. */
static bool in_time(const struct item *g, const struct item *w)
{
	return g->time_ns <= w->time_ns || g->pair->repeats;
}

/* The oldest that may be the one of which @w speaks; 0: none. */
static uint32_t gone_of(struct ledger *l, const struct item *w)
{
	uint32_t g = w->run ? 0 : ledger_item_same(l, w->pair, w->len, w->digest, SIDE_GONE);

	if (g && in_time(item_at(l, g), w))
		return g;
	return w->pair->counted ? of_class(l, w) : 0;
}

/* As many of @g as @w speaks of were no loss; they left, or the relay says that it dropped them. */
static void take_back(struct ledger *l, uint32_t g, const struct item *w, uint32_t n, uint64_t bytes)
{
	struct item e = *item_at(l, g);
	struct sight s = ledger_sight(w);

	if (s.run)
		s.run = n;
	s.bytes = bytes;
	ledger_book_back(l, &e, n, bytes);
	ledger_conn_done(&e);
	if (e.run) {
		e.len = n;
		e.digest = bytes;
	}
	if (w->kind == ITEM_EXIT)
		ledger_book_left(l, e.pair, &s, e.run || s.run ? 0 : e.time_ns);
	else
		ledger_book_lost(l, &e, w->no, BASIS_RELAY, ledger_drop_place(l, e.dst, w->no));
	ledger_item_shrink(l, g, n, bytes);
}

/* One that a drop without a source speaks of. *open: of which sender's is not known. */
static uint32_t loose_of(struct ledger *l, const struct item *w, bool run, bool *open)
{
	uint32_t g = run ? ledger_item_gone_to(l, w->dst) : ledger_item_gone(l, w->len, w->digest);
	uint32_t n, first = 0;

	for (n = 0; g && n < GONE_SEARCH; g = item_at(l, g)->link[LINK_DIGEST].next, n++) {
		const struct item *it = item_at(l, g);

		if (it->kind != ITEM_GONE || it->dst != w->dst || it->run != run ||
		    !in_time(it, w) || it->disco != w->disco ||
		    (!run && (it->digest != w->digest || it->len != w->len)))
			continue;
		*open |= first && item_at(l, first)->pair != it->pair;
		if (!first)
			first = g;
	}
	return first;
}

static bool settle_loose(struct ledger *l, uint32_t wait)
{
	for (;;) {
		const struct item *w = item_at(l, wait);
		bool open = false;
		uint32_t g = loose_of(l, w, false, &open);

		if (!g)
			g = loose_of(l, w, true, &open);
		if (!g)
			return false;
		if (!open)
			take_back(l, g, w, 1, item_bytes(item_at(l, g)) / item_packets(item_at(l, g)));
		if (ledger_loose_done(l, wait))
			return true;
	}
}

bool ledger_gone_settle(struct ledger *l, uint32_t wait)
{
	struct item *w = item_at(l, wait);
	uint32_t g, n;
	uint64_t bytes;

	if (!l->gones.head)
		return false;
	if (!w->pair)
		return settle_loose(l, wait);
	while ((g = gone_of(l, w))) {
		const struct item *it = item_at(l, g);
		bool last = item_packets(w) <= item_packets(it);

		n = last ? item_packets(w) : item_packets(it);
		bytes = item_bytes(it) / item_packets(it) * n;
		if (n == item_packets(it))
			bytes = item_bytes(it);
		take_back(l, g, w, n, bytes);
		if (last) {
			ledger_item_del(l, wait);
			return true;
		}
		ledger_item_shrink(l, wait, n, bytes);
	}
	return false;
}

void ledger_gones_tick(struct ledger *l)
{
	uint32_t i;

	while ((i = l->gones.head) &&
	       l->start_ns + item_at(l, i)->stamp * MSEC_NS + GONE_NS < l->now_ns)
		ledger_item_del(l, i);
}
