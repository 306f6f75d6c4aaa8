// SPDX-License-Identifier: BSD-2-Clause
#include "base/chains.h"

#include <stdlib.h>

#define FIRST_SLOTS	16

static bool grow(struct chains *t)
{
	size_t slots = t->slots ? (t->mask + 1) * 2 : FIRST_SLOTS, i;
	struct chain **grown = calloc(slots, sizeof(*grown)), *c, *next;

	if (!grown)
		return false;
	for (i = 0; t->slots && i <= t->mask; i++) {
		for (c = t->slots[i]; c; c = next) {
			next = c->next;
			c->next = grown[c->hash & (slots - 1)];
			grown[c->hash & (slots - 1)] = c;
		}
	}
	free(t->slots);
	t->slots = grown;
	t->mask = slots - 1;
	return true;
}

bool chains_add(struct chains *t, struct chain *c, uint64_t hash)
{
	struct chain **slot;

	/* A table that cannot grow only gets slower. */
	if ((!t->slots || t->count > t->mask) && !grow(t) && !t->slots)
		return false;
	slot = &t->slots[hash & t->mask];
	c->hash = hash;
	c->next = *slot;
	*slot = c;
	t->count++;
	return true;
}

void chains_del(struct chains *t, struct chain *c)
{
	struct chain **at = &t->slots[c->hash & t->mask];

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	t->count--;
}

static struct chain *first_from(const struct chains *t, size_t slot)
{
	for (; t->slots && slot <= t->mask; slot++) {
		if (t->slots[slot])
			return t->slots[slot];
	}
	return NULL;
}

struct chain *chains_first(const struct chains *t)
{
	return first_from(t, 0);
}

struct chain *chains_next(const struct chains *t, const struct chain *c)
{
	return c->next ? c->next : first_from(t, (c->hash & t->mask) + 1);
}

void chains_free(struct chains *t)
{
	free(t->slots);
	memset(t, 0, sizeof(*t));
}
