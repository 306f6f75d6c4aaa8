/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where things that rest are laid down, each under a number of 64 bits of its own: 12 bytes above its
 * own, and what rounding up costs. Numbers are given by ourselves, or by the kernel.
 */
#ifndef DT_BASE_SHELF_H
#define DT_BASE_SHELF_H

#include <stdbool.h>

#include "base/index.h"
#include "base/slab.h"

/* All zero is an empty one. */
struct shelf {
	struct index index;
	struct slab slab;
};

#define SHELF_MAX	(SLAB_MAX - 8)	/* bytes of one thing */

/* Nothing is there under @number yet. False without memory; nothing has changed then. */
bool shelf_put(struct shelf *s, uint64_t number, const uint8_t *bytes, size_t len);
/* What is there, as long as nothing is put or dropped; NULL: nothing. */
const uint8_t *shelf_find(const struct shelf *s, uint64_t number);
/* It is there. Its bytes are wiped. */
void shelf_drop(struct shelf *s, uint64_t number);

/* All that are there: *at is 0 before the first. NULL: no more. */
const uint8_t *shelf_next(const struct shelf *s, size_t *at, uint64_t *number);
static inline size_t shelf_count(const struct shelf *s)
{
	return s->index.used;
}

/* Wipes all of it. */
void shelf_free(struct shelf *s);

#endif
