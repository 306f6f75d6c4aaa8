/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Peers and pairs as numbers. Keys are chosen by strangers, so the table of keys is hashed with a
 * seed that they do not know; nothing that is reported depends on it.
 */
#include "correlate/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t mix(uint64_t h, uint64_t w)
{
	h ^= w;
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93ull;
	h ^= h >> 32;
	return h * 0x9fb21c651e98df25ull;
}

static uint64_t key_hash(const struct correlate *c, const struct key *key)
{
	uint64_t w[4], h = c->seed[0];
	int i;

	memcpy(w, key->b, sizeof(w));
	for (i = 0; i < 4; i++)
		h = mix(h, w[i] ^ c->seed[1]);
	return h ^ (h >> 29);
}

static size_t peer_slot(const struct correlate *c, const struct key *key)
{
	size_t i = key_hash(c, key) & (c->peer_slot_count - 1);

	while (c->peer_slots[i] && !key_equal(&c->peers[c->peer_slots[i]], key))
		i = (i + 1) & (c->peer_slot_count - 1);
	return i;
}

static int peer_slots_grow(struct correlate *c)
{
	size_t count = c->peer_slot_count ? c->peer_slot_count * 2 : 64, i;
	uint32_t *slots = calloc(count, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	free(c->peer_slots);
	c->peer_slots = slots;
	c->peer_slot_count = count;
	for (i = 1; i < c->peer_count; i++)
		slots[peer_slot(c, &c->peers[i])] = i;
	return 0;
}

uint32_t peer_get(struct correlate *c, const struct key *key, bool make)
{
	size_t slot;

	if (key_is_zero(key))
		return 0;
	if (!make && !c->peer_slot_count)
		return 0;
	if (make && 2 * (c->peer_count + 1) > c->peer_slot_count && peer_slots_grow(c) < 0)
		return NONE;
	slot = peer_slot(c, key);
	if (c->peer_slots[slot] || !make)
		return c->peer_slots[slot];
	if (!VEC_ROOM(c->peers, c->peer_count, c->peer_cap))
		return NONE;
	c->peers[c->peer_count] = *key;
	c->peer_slots[slot] = c->peer_count;
	return c->peer_count++;
}

uint32_t pair_get(struct correlate *c, const struct key *src, const struct key *dst)
{
	uint32_t s, d, *known;
	uint64_t key;

	if (key_is_zero(src) && key_is_zero(dst))
		return OTHER_PAIR;
	s = peer_get(c, src, true);
	d = peer_get(c, dst, true);
	if (s == NONE || d == NONE)
		return NONE;
	key = (uint64_t)s << 32 | d;
	known = table_find(&c->pair_index, key);
	if (known)
		return *known;
	if (c->pair_count > c->limits.max_pairs)
		return OTHER_PAIR;
	if (!VEC_ROOM(c->pairs, c->pair_count, c->pair_cap) ||
	    table_put(&c->pair_index, key, c->pair_count) < 0)
		return NONE;
	c->pairs[c->pair_count].src = s;
	c->pairs[c->pair_count].dst = d;
	return c->pair_count++;
}
