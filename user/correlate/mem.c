/* SPDX-License-Identifier: BSD-2-Clause */
/* Growing arrays and hash tables of numbers. */
#include "correlate/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The empty slot. The one key that is this number is taken for its neighbour. */
#define EMPTY	UINT64_MAX

static size_t slot_of(const struct table *t, uint64_t key)
{
	uint64_t h = key * 0x9e3779b97f4a7c15ull;
	size_t i;

	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93ull;
	h ^= h >> 32;
	for (i = h & (t->size - 1); t->keys[i] != EMPTY && t->keys[i] != key;)
		i = (i + 1) & (t->size - 1);
	return i;
}

uint32_t *table_find(const struct table *t, uint64_t key)
{
	size_t i;

	if (!t->size)
		return NULL;
	key -= key == EMPTY;
	i = slot_of(t, key);
	return t->keys[i] == key ? &t->values[i] : NULL;
}

static int table_grow(struct table *t)
{
	struct table new = { .size = t->size ? t->size * 2 : 16, .used = t->used };
	size_t i, slot;

	new.keys = malloc(new.size * sizeof(*new.keys));
	new.values = malloc(new.size * sizeof(*new.values));
	if (!new.keys || !new.values) {
		table_free(&new);
		return -ENOMEM;
	}
	memset(new.keys, 0xff, new.size * sizeof(*new.keys));
	for (i = 0; i < t->size; i++) {
		if (t->keys[i] == EMPTY)
			continue;
		slot = slot_of(&new, t->keys[i]);
		new.keys[slot] = t->keys[i];
		new.values[slot] = t->values[i];
	}
	table_free(t);
	*t = new;
	return 0;
}

int table_put(struct table *t, uint64_t key, uint32_t value)
{
	size_t i;

	if (t->used + 1 > t->size - t->size / 4 && table_grow(t) < 0)
		return -ENOMEM;
	key -= key == EMPTY;
	i = slot_of(t, key);
	if (t->keys[i] == EMPTY) {
		t->keys[i] = key;
		t->used++;
	}
	t->values[i] = value;
	return 0;
}

void table_free(struct table *t)
{
	free(t->keys);
	free(t->values);
	memset(t, 0, sizeof(*t));
}

bool vec_reserve(void **data, size_t count, size_t *cap, size_t size)
{
	size_t want = *cap + *cap / 4 + 8;
	void *p;

	if (count < *cap)
		return true;
	p = realloc(*data, want * size);
	if (!p)
		return false;
	*data = p;
	*cap = want;
	return true;
}
