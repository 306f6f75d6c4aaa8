// SPDX-License-Identifier: BSD-2-Clause
/*
 * A row at rest is a block: a head of three words, then as base/tally.h packs them when the pair was first
 * seen, its counts and its histogram. It has been told as it is, so it has a number, as its peers have.
 */
#include "ledger/resting.h"

#include "base/tally.h"
#include "latency.h"
#include "ledger/internal.h"

#include <stdlib.h>

#define REST_NS		(5 * SECOND_NS)	/* silent for so long */
#define SWEEP_NS	(2 * SECOND_NS)

struct head {
	uint32_t src, dst;	/* numbers of peers */
	uint32_t no : 30, doubtful : 1, counted : 1;
};

#define MAX_NUMBER	(1u << 30)
#define BYTES		(sizeof(struct head) + 10 + TALLY_BYTES(RECORD_PAIR_COLUMNS) +		\
			 TALLY_BUCKETS_BYTES(LATENCY_BUCKETS))

_Static_assert(BYTES <= SLAB_MAX, "a row is one block");

/* What a block unpacks to. */
struct row {
	struct head head;
	uint64_t first_ns;
	struct record_pair counts;
	union {
		struct buckets latency;
		uint8_t room[sizeof(struct buckets) + LATENCY_BUCKETS * sizeof(uint32_t)];
	};
};

static uint64_t ends_hash(const struct ledger *l, const struct head *h)
{
	return hash_mix(l->seed.w[0] ^ ((uint64_t)h->src << 32 | h->dst), l->seed.w[1]);
}

static uint64_t block_hash(const void *ctx, uint32_t block)
{
	const struct ledger *l = ctx;

	return ends_hash(l, (const void *)slab_at(&l->resting.slab, block));
}

static bool block_same(const void *ctx, uint32_t block, const void *key)
{
	const struct ledger *l = ctx;
	const struct head *x = (const void *)slab_at(&l->resting.slab, block), *y = key;

	return x->src == y->src && x->dst == y->dst;
}

/* Times are kept from the ledger's start on, and the last one from the first one on: they are short. */
static void unpack(const struct ledger *l, uint32_t block, struct row *row)
{
	const uint8_t *p = slab_at(&l->resting.slab, block);

	memcpy(&row->head, p, sizeof(row->head));
	p = tally_get(p + sizeof(row->head), &row->first_ns);
	row->first_ns += l->start_ns;
	p = tally_unpack(p, (uint64_t *)&row->counts, RECORD_PAIR_COLUMNS);
	row->counts.last_ns += row->first_ns;
	tally_unpack_buckets(p, &row->latency);
	row->counts.latency = row->latency.count ? &row->latency : NULL;
}

static size_t pack(const struct ledger *l, const struct pair *p, uint8_t bytes[static BYTES])
{
	const struct head head = { .src = p->src->no, .dst = p->dst->no, .no = p->no,
				   .doubtful = p->doubtful, .counted = p->counted };
	const struct buckets *b = p->latency;
	struct record_pair counts = { 0 };
	uint8_t *to = bytes;

	ledger_pair_fill(l, p, &counts);
	counts.books.in_flight = 0;
	counts.last_ns -= p->first_ns;
	memcpy(to, &head, sizeof(head));
	to = tally_put(to + sizeof(head), p->first_ns - l->start_ns);
	to = tally_pack((const uint64_t *)&counts, RECORD_PAIR_COLUMNS, to);
	to = tally_pack_buckets(b ? b->first : 0, b ? b->v : NULL, b ? b->count : 0, to);
	return (size_t)(to - bytes);
}

/* False without memory: it stays awake. */
static bool lay_down(struct ledger *l, struct pair *p)
{
	const struct index_of of = { block_hash, block_same, l };
	uint8_t bytes[BYTES];
	size_t len = pack(l, p, bytes);
	uint32_t block = slab_take(&l->resting.slab, len);

	if (!block)
		return false;
	memcpy(slab_at(&l->resting.slab, block), bytes, len);
	if (index_insert(&l->resting.index, &of, ends_hash(l, (const void *)bytes), block))
		return true;
	slab_drop(&l->resting.slab, block);
	return false;
}

static bool may_rest(const struct ledger *l, const struct pair *p)
{
	return p->no && p->no < MAX_NUMBER && p->told_first_ns == p->first_ns && !p->dirty &&
	       !p->refs && !p->in_flight && p->last_ns + REST_NS < l->now_ns;
}

void ledger_resting_sweep(struct ledger *l)
{
	struct chain *c, *next;
	struct pair *p;

	if (l->now_ns < l->resting.swept_ns + SWEEP_NS)
		return;
	l->resting.swept_ns = l->now_ns;
	for (c = chains_first(&l->pairs); c; c = next) {
		next = chains_next(&l->pairs, c);
		p = ITEM_OF(c, struct pair, chain);
		if (!may_rest(l, p) || !lay_down(l, p))
			continue;
		/* Its references to its peers go on, and so does its number. */
		chains_del(&l->pairs, c);
		ledger_pair_destroy(p);
	}
}

/* NULL without memory; nothing has changed then. */
static struct pair *wake(struct ledger *l, uint32_t block)
{
	const struct index_of of = { block_hash, block_same, l };
	struct row row;
	struct pair *p;

	unpack(l, block, &row);
	p = ledger_pair_restore(l, l->resting.numbered[row.head.src], l->resting.numbered[row.head.dst], row.first_ns,
				&row.counts);
	if (!p)
		return NULL;
	p->no = row.head.no;
	p->told_first_ns = row.first_ns;
	p->doubtful = row.head.doubtful;
	p->counted = row.head.counted;
	index_remove(&l->resting.index, &of, block);
	slab_drop(&l->resting.slab, block);
	return p;
}

struct pair *ledger_resting_wake(struct ledger *l, const struct peer *src, const struct peer *dst)
{
	const struct index_of of = { block_hash, block_same, l };
	const struct head ends = { .src = src->no, .dst = dst->no };
	struct pair *p;
	uint32_t block;

	if (!src->no || !dst->no)
		return NULL;
	block = index_find(&l->resting.index, &of, ends_hash(l, &ends), &ends);
	if (!block)
		return NULL;
	p = wake(l, block);
	return p ? p : l->other;
}

void ledger_resting_wake_before(struct ledger *l, uint64_t before_ns)
{
	struct index *x = &l->resting.index;
	struct row row;
	size_t i = 0;

	while (x->slots && i <= x->mask) {
		row.counts.last_ns = before_ns;
		if (x->slots[i])
			unpack(l, x->slots[i], &row);
		/* What stood behind it may have moved here. */
		if (row.counts.last_ns >= before_ns || !wake(l, x->slots[i]))
			i++;
	}
}

int ledger_resting_each(const struct ledger *l, void *ctx,
			int (*each)(void *ctx, uint32_t no, const struct record_pair *counts))
{
	const struct index *x = &l->resting.index;
	struct row row;
	int err = 0;
	size_t i;

	for (i = 0; x->slots && i <= x->mask && !err; i++) {
		if (!x->slots[i])
			continue;
		unpack(l, x->slots[i], &row);
		err = each(ctx, row.head.no, &row.counts);
	}
	return err;
}

void ledger_resting_free(struct ledger *l)
{
	struct index *x = &l->resting.index;
	struct row row;
	size_t i;

	for (i = 0; x->slots && i <= x->mask; i++) {
		if (!x->slots[i])
			continue;
		unpack(l, x->slots[i], &row);
		ledger_peer_put(l, l->resting.numbered[row.head.src]);
		ledger_peer_put(l, l->resting.numbered[row.head.dst]);
	}
	index_free(x);
	slab_free(&l->resting.slab);
}
