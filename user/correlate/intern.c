/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Peers and pairs as numbers. Keys are chosen by strangers, so the table of keys is hashed with a
 * seed that they do not know; nothing that is reported depends on it.
 */
#include "correlate/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t peer_hash(const void *ctx, uint32_t peer)
{
	const struct correlate *c = ctx;

	return hash_key(&c->seed, &c->peers[peer]);
}

static bool peer_same(const void *ctx, uint32_t peer, const void *key)
{
	return key_equal(&((const struct correlate *)ctx)->peers[peer], key);
}

uint32_t peer_get(struct correlate *c, const struct key *key, bool make)
{
	const struct index_of of = { peer_hash, peer_same, c };
	uint64_t hash;
	uint32_t peer;

	if (key_is_zero(key))
		return 0;
	hash = hash_key(&c->seed, key);
	peer = index_find(&c->peer_index, &of, hash, key);
	if (peer || !make)
		return peer;
	if (!VEC_ROOM(c->peers, c->peer_count, c->peer_cap))
		return NONE;
	c->peers[c->peer_count] = *key;
	if (!index_insert(&c->peer_index, &of, hash, (uint32_t)c->peer_count))
		return NONE;
	return c->peer_count++;
}

static uint64_t ends_hash(const struct correlate *c, const struct pair_ends *ends)
{
	return hash_mix(c->seed.w[0] ^ ((uint64_t)ends->src << 32 | ends->dst), c->seed.w[1]);
}

static uint64_t pair_hash(const void *ctx, uint32_t pair)
{
	const struct correlate *c = ctx;

	return ends_hash(c, &c->pairs[pair]);
}

static bool pair_same(const void *ctx, uint32_t pair, const void *key)
{
	const struct pair_ends *x = &((const struct correlate *)ctx)->pairs[pair], *y = key;

	return x->src == y->src && x->dst == y->dst;
}

uint32_t pair_find(const struct correlate *c, uint32_t src, uint32_t dst)
{
	const struct index_of of = { pair_hash, pair_same, c };
	const struct pair_ends ends = { .src = src, .dst = dst };

	return index_find(&c->pair_index, &of, ends_hash(c, &ends), &ends);
}

uint32_t pair_of_peers(struct correlate *c, uint32_t src, uint32_t dst)
{
	const struct index_of of = { pair_hash, pair_same, c };
	const struct pair_ends ends = { .src = src, .dst = dst };
	uint64_t hash = ends_hash(c, &ends);
	uint32_t pair;

	if (!src && !dst)
		return OTHER_PAIR;
	pair = index_find(&c->pair_index, &of, hash, &ends);
	if (pair)
		return pair;
	if (c->pair_count > c->limits.max_pairs)
		return OTHER_PAIR;
	if (!VEC_ROOM(c->pairs, c->pair_count, c->pair_cap))
		return NONE;
	c->pairs[c->pair_count] = ends;
	if (!index_insert(&c->pair_index, &of, hash, (uint32_t)c->pair_count))
		return NONE;
	return c->pair_count++;
}

uint32_t pair_get(struct correlate *c, const struct key *src, const struct key *dst)
{
	uint32_t s = peer_get(c, src, true), d = peer_get(c, dst, true);

	return s == NONE || d == NONE ? NONE : pair_of_peers(c, s, d);
}
