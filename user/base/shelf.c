// SPDX-License-Identifier: BSD-2-Clause
#include "base/shelf.h"

#include <string.h>

/* A block begins with its number. */
static uint64_t number_of(const struct shelf *s, uint32_t block)
{
	uint64_t number;

	memcpy(&number, slab_at(&s->slab, block), sizeof(number));
	return number;
}

static uint64_t hash_of(uint64_t number)
{
	uint64_t h = number * 0x9e3779b97f4a7c15ull;

	return h ^ h >> 32;
}

static uint64_t block_hash(const void *ctx, uint32_t block)
{
	return hash_of(number_of(ctx, block));
}

static bool block_same(const void *ctx, uint32_t block, const void *number)
{
	return number_of(ctx, block) == *(const uint64_t *)number;
}

static uint32_t find(const struct shelf *s, uint64_t number)
{
	const struct index_of of = { block_hash, block_same, s };

	return index_find(&s->index, &of, hash_of(number), &number);
}

bool shelf_put(struct shelf *s, uint64_t number, const uint8_t *bytes, size_t len)
{
	const struct index_of of = { block_hash, block_same, s };
	uint32_t block = slab_take(&s->slab, sizeof(number) + len);
	uint8_t *to;

	if (!block)
		return false;
	to = slab_at(&s->slab, block);
	memcpy(to, &number, sizeof(number));
	memcpy(to + sizeof(number), bytes, len);
	if (index_insert(&s->index, &of, hash_of(number), block))
		return true;
	explicit_bzero(to, sizeof(number) + len);
	slab_drop(&s->slab, block);
	return false;
}

const uint8_t *shelf_find(const struct shelf *s, uint64_t number)
{
	uint32_t block = find(s, number);

	return block ? slab_at(&s->slab, block) + sizeof(number) : NULL;
}

void shelf_drop(struct shelf *s, uint64_t number)
{
	const struct index_of of = { block_hash, block_same, s };
	uint32_t block = find(s, number);

	index_remove(&s->index, &of, block);
	explicit_bzero(slab_at(&s->slab, block), slab_room(block));
	slab_drop(&s->slab, block);
}

const uint8_t *shelf_next(const struct shelf *s, size_t *at, uint64_t *number)
{
	const struct index *x = &s->index;

	while (x->slots && *at <= x->mask) {
		uint32_t block = x->slots[(*at)++];

		if (!block)
			continue;
		*number = number_of(s, block);
		return slab_at(&s->slab, block) + sizeof(*number);
	}
	return NULL;
}

void shelf_free(struct shelf *s)
{
	const struct index *x = &s->index;
	size_t i;

	for (i = 0; x->slots && i <= x->mask; i++) {
		if (x->slots[i])
			explicit_bzero(slab_at(&s->slab, x->slots[i]), slab_room(x->slots[i]));
	}
	index_free(&s->index);
	slab_free(&s->slab);
}
