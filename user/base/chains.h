/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hash tables of things that carry their own link: 16 bytes an element, no allocation to add one. Where
 * strangers choose the keys, the hash is made with a seed of this run.
 */
#ifndef DT_BASE_CHAINS_H
#define DT_BASE_CHAINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"

struct chain {
	struct chain *next;
	uint64_t hash;
};

/* All zero is an empty one. */
struct chains {
	struct chain **slots;
	size_t mask, count;
};

#define ITEM_OF(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

/* False without memory; nothing has changed then. */
bool chains_add(struct chains *t, struct chain *c, uint64_t hash);
void chains_del(struct chains *t, struct chain *c);
/* The first element with this hash, and those behind it. */
static inline struct chain *chains_find(const struct chains *t, uint64_t hash)
{
	struct chain *c = t->slots ? t->slots[hash & t->mask] : NULL;

	while (c && c->hash != hash)
		c = c->next;
	return c;
}

static inline struct chain *chains_again(const struct chain *c)
{
	uint64_t hash = c->hash;

	do {
		c = c->next;
	} while (c && c->hash != hash);
	return (struct chain *)c;
}

/* All elements; the next one must be asked for before one is deleted, and none may be added. */
struct chain *chains_first(const struct chains *t);
struct chain *chains_next(const struct chains *t, const struct chain *c);
void chains_free(struct chains *t);

#endif
