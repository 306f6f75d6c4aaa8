/* SPDX-License-Identifier: BSD-2-Clause */
/* Hashes for tables of this process. Strangers choose keys: the seed is random, and of this run. */
#ifndef DT_BASE_HASH_H
#define DT_BASE_HASH_H

#include <stdint.h>
#include <string.h>

#include "base/key.h"

struct seed {
	uint64_t w[4];
};

static inline uint64_t hash_mix(uint64_t a, uint64_t b)
{
	__uint128_t r = (__uint128_t)a * b;

	return (uint64_t)r ^ (uint64_t)(r >> 64);
}

static inline uint64_t hash_words(const struct seed *s, uint64_t a, uint64_t b, uint64_t c)
{
	return hash_mix(hash_mix(a ^ s->w[0], b ^ s->w[1]) ^ s->w[2], c ^ s->w[3]);
}

static inline uint64_t hash_key(const struct seed *s, const struct key *key)
{
	uint64_t w[4];

	memcpy(w, key->b, sizeof(w));
	return hash_mix(hash_mix(w[0] ^ s->w[0], w[1] ^ s->w[1]) ^ s->w[2],
			hash_mix(w[2] ^ s->w[3], w[3] ^ s->w[0]) ^ s->w[1]);
}

#endif
