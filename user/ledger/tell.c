// SPDX-License-Identifier: BSD-2-Clause
/*
 * Pairs, told: by number, in columns. Peers and pairs get their numbers when they are first told. Pairs
 * with an unknown end and the same other end are told as one.
 */
#include "ledger/tell.h"

#include <errno.h>
#include <stdlib.h>

static int number_peer(struct ledger *l, struct peer *p, struct record_batch *b)
{
	struct record_peer peer = { .key = p->key };
	struct peer **grown;
	size_t size = l->resting.numbered_size;

	if (p->no || key_is_zero(&p->key))
		return 0;
	peer.no = numbers_take(&l->peer_numbers);
	if (peer.no >= size) {
		size = size ? size * 2 : 64;
		grown = reallocarray(l->resting.numbered, size, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		l->resting.numbered = grown;
		l->resting.numbered_size = size;
	}
	l->resting.numbered[peer.no] = p;
	p->no = peer.no;
	return record_batch_peer(b, &peer);
}

/* Which pair it is, where that is not told yet. *no: its number; 0: none yet. */
static int number_pair(struct ledger *l, struct peer *src, struct peer *dst, uint64_t first_ns,
		       uint32_t *no, uint64_t *told_first_ns, struct record_batch *b)
{
	struct record_pair_ends ends = { .first_ns = first_ns };
	int err;

	if (*no && *told_first_ns == first_ns)
		return 0;
	err = number_peer(l, src, b);
	if (!err)
		err = number_peer(l, dst, b);
	if (err)
		return err;
	if (!*no)
		*no = numbers_take(&l->pair_numbers);
	*told_first_ns = first_ns;
	ends.no = *no;
	ends.src = src->no;
	ends.dst = dst->no;
	return record_batch_pair(b, &ends);
}

static int pair_tell(struct ledger *l, struct pair *p, struct record_batch *b)
{
	struct record_pair counts = { 0 };
	int err = number_pair(l, p->src, p->dst, p->first_ns, &p->no, &p->told_first_ns, b);

	if (err)
		return err;
	ledger_pair_fill(l, p, &counts);
	counts.latency = p->latency;
	return record_batch_counts(b, p->no, &counts);
}

/* All pairs with an unknown end that say the same. */
struct row {
	struct chain chain;
	struct peer *src, *dst;
	uint32_t no;
	uint64_t first_ns, told_first_ns;
	struct record_pair counts;
	struct buckets *latency; /* of the counts */
	uint64_t told;		/* hash of what was told last */
};

static uint64_t row_hash(const struct ledger *l, const struct key *src, const struct key *dst)
{
	return hash_mix(hash_key(&l->seed, src) ^ l->seed.w[2], hash_key(&l->seed, dst));
}

static struct row *row_get(struct ledger *l, const struct pair *p)
{
	uint64_t hash = row_hash(l, &p->src->key, &p->dst->key);
	struct chain *c = chains_find(&l->rows, hash);
	struct row *row;

	for (; c; c = chains_again(c)) {
		row = ITEM_OF(c, struct row, chain);
		if (key_equal(&row->src->key, &p->src->key) &&
		    key_equal(&row->dst->key, &p->dst->key))
			return row;
	}
	row = calloc(1, sizeof(*row));
	if (!row || !chains_add(&l->rows, &row->chain, hash)) {
		free(row);
		return NULL;
	}
	/* An unknown end is nobody, whoever it turns out to be. */
	row->src = peer_ref(p->src->unknown ? l->nobody : p->src);
	row->dst = peer_ref(p->dst->unknown ? l->nobody : p->dst);
	return row;
}

static void row_free(struct ledger *l, struct row *row)
{
	numbers_give(&l->pair_numbers, row->no);
	ledger_peer_put(l, row->src);
	ledger_peer_put(l, row->dst);
	free(row->latency);
	free(row);
}

static uint64_t row_sum(const struct ledger *l, const struct row *row)
{
	const uint64_t *v = (const uint64_t *)&row->counts;
	const struct buckets *b = row->latency;
	uint64_t sum = hash_mix(row->first_ns ^ l->seed.w[0], l->seed.w[1]);
	size_t i;

	for (i = 0; i < RECORD_PAIR_COLUMNS; i++)
		sum = hash_mix(sum ^ l->seed.w[0], v[i] ^ l->seed.w[1]) + i;
	for (i = 0; b && i < b->count; i++)
		sum = hash_mix(sum ^ l->seed.w[0], b->v[i] ^ l->seed.w[1]) + i;
	return sum;
}

static void rows_sum(struct ledger *l)
{
	struct chain *c;
	struct row *row;
	struct pair *p;

	for (c = chains_first(&l->rows); c; c = chains_next(&l->rows, c)) {
		row = ITEM_OF(c, struct row, chain);
		memset(&row->counts, 0, sizeof(row->counts));
		buckets_set(&row->latency, NULL);
		row->first_ns = 0;
	}
	for (c = chains_first(&l->unknown_pairs); c;
	     c = chains_next(&l->unknown_pairs, c)) {
		p = ITEM_OF(c, struct pair, chain);
		row = row_get(l, p);
		if (!row)
			continue;
		ledger_pair_fill(l, p, &row->counts);
		buckets_sum(&row->latency, p->latency);
		row->counts.latency = row->latency;
		if (p->first_ns && (!row->first_ns || p->first_ns < row->first_ns))
			row->first_ns = p->first_ns;
	}
}

void ledger_rows_free(struct ledger *l)
{
	struct chain *c, *next;

	for (c = chains_first(&l->rows); c; c = next) {
		next = chains_next(&l->rows, c);
		row_free(l, ITEM_OF(c, struct row, chain));
	}
	chains_free(&l->rows);
}

static int row_tell(struct ledger *l, struct row *row, bool all, struct record_batch *b)
{
	uint64_t sum = row_sum(l, row);
	int err;

	if ((sum == row->told && !all) || (!row->told && !row->counts.books.entered))
		return 0;
	row->told = sum;
	err = number_pair(l, row->src, row->dst, row->first_ns, &row->no, &row->told_first_ns, b);
	return err ? err : record_batch_counts(b, row->no, &row->counts);
}

static int rows_tell(struct ledger *l, bool all, struct record_batch *b)
{
	struct chain *c, *next;
	struct row *row;
	int err = 0;

	if (!l->unknown_dirty && !all)
		return 0;
	l->unknown_dirty = false;
	rows_sum(l);
	for (c = chains_first(&l->rows); c && !err; c = next) {
		row = ITEM_OF(c, struct row, chain);
		next = chains_next(&l->rows, c);
		err = row_tell(l, row, all, b);
		/* Its packets have moved to a peer that was learnt, and that has been told. */
		if (!row->counts.books.entered) {
			chains_del(&l->rows, c);
			row_free(l, row);
		}
	}
	return err;
}

static bool is_idle(const struct ledger *l, const struct pair *p, uint64_t now_ns)
{
	if (p->in_flight || p->refs || p->dirty || p == l->other || p->last_ns + IDLE_NS > now_ns)
		return false;
	/* The unknown end of a connection is folded when the connection goes. */
	return (!p->src->unknown || p->src == l->nobody) && (!p->dst->unknown || p->dst == l->nobody);
}

/* Its sums stay, in the other row. */
static int tell_idle(struct ledger *l, struct chains *t, uint64_t now_ns, struct record_batch *b)
{
	const struct record_pair none = { 0 };
	struct chain *c, *next;
	int err = 0;

	for (c = chains_first(t); c && !err; c = next) {
		struct pair *p = ITEM_OF(c, struct pair, chain);

		next = chains_next(t, c);
		if (!is_idle(l, p, now_ns))
			continue;
		if (p->no)
			err = record_batch_counts(b, p->no, &none);
		l->info.other_frames += p->entered;
		l->node_dirty = true;
		ledger_pair_add(l->other, p);
		l->unknown_dirty = true;
		chains_del(t, c);
		ledger_pair_free(l, p);
	}
	return err;
}

static int tell_resting(void *batch, uint32_t no, const struct record_pair *counts)
{
	return record_batch_counts(batch, no, counts);
}

static int tell_dirty(struct ledger *l, bool all, struct record_batch *b)
{
	struct pair *p, *next;
	struct chain *c;
	int err = 0;

	for (p = l->dirty; p; p = next) {
		next = p->dirty_next;
		p->dirty = false;
		if (!err && !all)
			err = pair_tell(l, p, b);
	}
	l->dirty = NULL;
	for (c = all ? chains_first(&l->pairs) : NULL; c && !err;
	     c = chains_next(&l->pairs, c))
		err = pair_tell(l, ITEM_OF(c, struct pair, chain), b);
	return err || !all ? err : ledger_resting_each(l, b, tell_resting);
}

int ledger_pairs_tell(struct ledger *l, const struct record *head, bool all,
		      const struct record_sink *sink)
{
	bool crowded = ledger_pair_count(l) > l->limits.max_pairs / 2;
	struct record_batch *b;
	int err = 0;

	if (!l->dirty && !l->unknown_dirty && !all && !crowded)
		return 0;
	b = record_batch_new(head, sink);
	if (!b)
		return -ENOMEM;
	numbers_ready(&l->peer_numbers);
	numbers_ready(&l->pair_numbers);
	/* Rows that have been idle for long make room. */
	if (crowded) {
		ledger_resting_wake_before(l, head->time_ns - IDLE_NS);
		err = tell_idle(l, &l->pairs, head->time_ns, b);
	}
	if (!err && crowded)
		err = tell_idle(l, &l->unknown_pairs, head->time_ns, b);
	if (!err)
		err = tell_dirty(l, all, b);
	if (!err)
		err = rows_tell(l, all, b);
	if (!err)
		err = record_batch_flush(b);
	record_batch_free(b);
	return err;
}
