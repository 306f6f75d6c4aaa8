/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Blocks of one size of which many are the same, such as the names of a server that thousands of
 * connections lead to: equal ones are kept once. They are chosen by strangers, so where they stand
 * in the table depends on a seed.
 */
#ifndef DT_BASE_SHARED_H
#define DT_BASE_SHARED_H

#include <stddef.h>
#include <stdint.h>

struct shared_block;

struct shared {
	size_t size;		/* of a block; its padding, if any, is compared, too */
	uint64_t seed;
	struct shared_block **slots;
	size_t mask, count;
};

void shared_init(struct shared *s, size_t size, uint64_t seed);
/* Frees all blocks, whoever holds them. */
void shared_clear(struct shared *s);

/* What is kept is as *block was. The caller's until shared_drop(). NULL without memory. */
const void *shared_keep(struct shared *s, const void *block);
/* One holder less; NULL is accepted. */
void shared_drop(struct shared *s, const void *block);

#endif
