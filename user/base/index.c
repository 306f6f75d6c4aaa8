// SPDX-License-Identifier: BSD-2-Clause
#include "base/index.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_SLOTS	16

static void put(struct index *x, uint64_t hash, uint32_t number)
{
	size_t i = hash & x->mask;

	while (x->slots[i])
		i = (i + 1) & x->mask;
	x->slots[i] = number;
}

static bool grow(struct index *x, const struct index_of *of)
{
	size_t slots = x->slots ? (x->mask + 1) * 2 : FIRST_SLOTS, i;
	struct index grown = { calloc(slots, sizeof(*x->slots)), slots - 1, x->used };

	if (!grown.slots)
		return false;
	for (i = 0; x->slots && i <= x->mask; i++) {
		if (x->slots[i])
			put(&grown, of->hash(of->ctx, x->slots[i]), x->slots[i]);
	}
	free(x->slots);
	*x = grown;
	return true;
}

bool index_insert(struct index *x, const struct index_of *of, uint64_t hash, uint32_t number)
{
	/* Three of four slots, at most. */
	if ((!x->slots || x->used >= (x->mask + 1) / 4 * 3) && !grow(x, of))
		return false;
	put(x, hash, number);
	x->used++;
	return true;
}

/* Those behind it move up, as far as they may stand there. */
void index_remove(struct index *x, const struct index_of *of, uint32_t number)
{
	size_t hole = of->hash(of->ctx, number) & x->mask, i;

	while (x->slots[hole] != number)
		hole = (hole + 1) & x->mask;
	for (i = (hole + 1) & x->mask; x->slots[i]; i = (i + 1) & x->mask) {
		size_t home = of->hash(of->ctx, x->slots[i]) & x->mask;

		if (((i - home) & x->mask) < ((i - hole) & x->mask))
			continue;
		x->slots[hole] = x->slots[i];
		hole = i;
	}
	x->slots[hole] = 0;
	x->used--;
}

void index_free(struct index *x)
{
	free(x->slots);
	memset(x, 0, sizeof(*x));
}
