// SPDX-License-Identifier: BSD-2-Clause
#include "base/buckets.h"

#include <stdlib.h>
#include <string.h>

/* Room for buckets @first to @last, what is there already in its place. */
static bool widen(struct buckets **b, unsigned int first, unsigned int last)
{
	unsigned int count = last - first + 1;
	struct buckets *wide = calloc(1, sizeof(*wide) + count * sizeof(wide->v[0]));

	if (!wide)
		return false;
	wide->first = (uint8_t)first;
	wide->count = (uint16_t)count;
	if (*b)
		memcpy(wide->v + ((*b)->first - first), (*b)->v, (*b)->count * sizeof(wide->v[0]));
	free(*b);
	*b = wide;
	return true;
}

static void halve(struct buckets *b)
{
	unsigned int i;

	for (i = 0; i < b->count; i++)
		b->v[i] >>= 1;
}

bool buckets_add(struct buckets **b, unsigned int i, uint32_t n)
{
	unsigned int first = i, last = i;

	if (!n)
		return true;
	if (*b) {
		if ((*b)->first < first)
			first = (*b)->first;
		if ((*b)->first + (*b)->count - 1u > last)
			last = (*b)->first + (*b)->count - 1u;
	}
	if ((!*b || last - first + 1 != (*b)->count) && !widen(b, first, last))
		return false;
	if (n > UINT32_MAX - (*b)->v[i - first]) {
		halve(*b);
		n >>= 1;
	}
	(*b)->v[i - first] += n;
	return true;
}

bool buckets_sum(struct buckets **b, const struct buckets *from)
{
	unsigned int i;

	for (i = 0; from && i < from->count; i++) {
		if (!buckets_add(b, from->first + i, from->v[i]))
			return false;
	}
	return true;
}

bool buckets_set(struct buckets **b, const struct buckets *from)
{
	struct buckets *to = *b;

	if (from && (!to || to->count != from->count)) {
		to = malloc(buckets_size(from));
		if (!to)
			return false;
	}
	if (to != *b || !from)
		free(*b);
	*b = from ? memcpy(to, from, buckets_size(from)) : NULL;
	return true;
}
