// SPDX-License-Identifier: BSD-2-Clause
#include "base/shared.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_SLOTS	16

struct shared_block {
	struct shared_block *next;
	uint64_t hash;
	uint64_t holders;
	_Alignas(8) unsigned char data[];
};

void shared_init(struct shared *s, size_t size, uint64_t seed)
{
	*s = (struct shared){ .size = size, .seed = seed | 1 };
}

void shared_clear(struct shared *s)
{
	struct shared_block *b, *next;
	size_t i;

	for (i = 0; s->slots && i <= s->mask; i++) {
		for (b = s->slots[i]; b; b = next) {
			next = b->next;
			free(b);
		}
	}
	free(s->slots);
	s->slots = NULL;
	s->mask = s->count = 0;
}

static uint64_t hash_of(const struct shared *s, const void *block)
{
	const unsigned char *p = block;
	uint64_t h = s->seed, w;
	size_t i, n;

	for (i = 0; i < s->size; i += n) {
		n = s->size - i < sizeof(w) ? s->size - i : sizeof(w);
		w = 0;
		memcpy(&w, p + i, n);
		h = (h ^ w) * 0x9fb21c651e98df25ull;
		h ^= h >> 29;
		h += s->seed;
	}
	return h ^ h >> 32;
}

static bool grow(struct shared *s)
{
	size_t slots = s->slots ? (s->mask + 1) * 2 : FIRST_SLOTS, i;
	struct shared_block **grown = calloc(slots, sizeof(*grown)), *b, *next;

	if (!grown)
		return false;
	for (i = 0; s->slots && i <= s->mask; i++) {
		for (b = s->slots[i]; b; b = next) {
			next = b->next;
			b->next = grown[b->hash & (slots - 1)];
			grown[b->hash & (slots - 1)] = b;
		}
	}
	free(s->slots);
	s->slots = grown;
	s->mask = slots - 1;
	return true;
}

const void *shared_keep(struct shared *s, const void *block)
{
	uint64_t hash = hash_of(s, block);
	struct shared_block *b = s->slots ? s->slots[hash & s->mask] : NULL;

	while (b && (b->hash != hash || memcmp(b->data, block, s->size)))
		b = b->next;
	if (!b) {
		/* A table that cannot grow only gets slower. */
		if ((!s->slots || s->count > s->mask) && !grow(s) && !s->slots)
			return NULL;
		b = malloc(sizeof(*b) + s->size);
		if (!b)
			return NULL;
		memcpy(b->data, block, s->size);
		b->hash = hash;
		b->holders = 0;
		b->next = s->slots[hash & s->mask];
		s->slots[hash & s->mask] = b;
		s->count++;
	}
	b->holders++;
	return b->data;
}

void shared_drop(struct shared *s, const void *block)
{
	struct shared_block *b, **at;

	if (!block)
		return;
	b = (struct shared_block *)((char *)block - offsetof(struct shared_block, data));
	if (--b->holders)
		return;
	for (at = &s->slots[b->hash & s->mask]; *at != b; at = &(*at)->next)
		;
	*at = b->next;
	s->count--;
	free(b);
}
