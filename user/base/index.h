/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A hash table of numbers, four bytes a slot, open addressing: what a number stands for, its key and
 * hash with it, is kept by whoever numbers it. Strangers choose keys: hash them with a seed.
 */
#ifndef DT_BASE_INDEX_H
#define DT_BASE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zero is an empty one. */
struct index {
	uint32_t *slots;	/* 0: empty */
	size_t mask, used;
};

struct index_of {
	uint64_t (*hash)(const void *ctx, uint32_t number);
	bool (*same)(const void *ctx, uint32_t number, const void *key);
	const void *ctx;
};

/* The number of @key, whose hash is @hash; 0: none. Inlined where @of is known at compile time. */
static inline uint32_t index_find(const struct index *x, const struct index_of *of, uint64_t hash,
				  const void *key)
{
	size_t i;

	if (!x->slots)
		return 0;
	for (i = hash & x->mask; x->slots[i]; i = (i + 1) & x->mask) {
		if (of->same(of->ctx, x->slots[i], key))
			return x->slots[i];
	}
	return 0;
}

/* @number, not 0, is not in it yet. False without memory; nothing has changed then. */
bool index_insert(struct index *x, const struct index_of *of, uint64_t hash, uint32_t number);
/* @number is in it. */
void index_remove(struct index *x, const struct index_of *of, uint32_t number);
void index_free(struct index *x);

#endif
