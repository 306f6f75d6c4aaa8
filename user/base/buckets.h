/* SPDX-License-Identifier: BSD-2-Clause */
/* A histogram of which most buckets are empty: kept from the first to the last that is not. */
#ifndef DT_BASE_BUCKETS_H
#define DT_BASE_BUCKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buckets {
	uint8_t first;
	uint16_t count;
	uint32_t v[];
};

/* NULL is one that is empty. */
static inline uint32_t buckets_get(const struct buckets *b, unsigned int i)
{
	return b && i >= b->first && i - b->first < b->count ? b->v[i - b->first] : 0;
}

/* What one takes in memory. */
static inline size_t buckets_size(const struct buckets *b)
{
	return b ? sizeof(*b) + b->count * sizeof(b->v[0]) : 0;
}

/*
 * Adds @n to bucket @i, which is below 256. Where that is more than a bucket holds, all are halved: what is
 * kept is their shape. False without memory; nothing has changed then.
 */
bool buckets_add(struct buckets **b, unsigned int i, uint32_t n);

/* Adds each of @from. False without memory; what was added by then stays. */
bool buckets_sum(struct buckets **b, const struct buckets *from);

/* Makes *b what @from is. False without memory; nothing has changed then. */
bool buckets_set(struct buckets **b, const struct buckets *from);

#endif
