// SPDX-License-Identifier: BSD-2-Clause
#include "base/tally.h"

#include <string.h>

#include "base/buckets.h"

uint8_t *tally_pack(const uint64_t *v, unsigned int n, uint8_t *to)
{
	uint64_t used = 0;
	unsigned int i;

	for (i = 0; i < n; i++)
		used |= (uint64_t)(v[i] != 0) << i;
	to = tally_put(to, used);
	for (; used; used &= used - 1)
		to = tally_put(to, v[__builtin_ctzll(used)]);
	return to;
}

const uint8_t *tally_unpack(const uint8_t *p, uint64_t *v, unsigned int n)
{
	uint64_t used;

	memset(v, 0, n * sizeof(*v));
	for (p = tally_get(p, &used); used; used &= used - 1)
		p = tally_get(p, &v[__builtin_ctzll(used)]);
	return p;
}

uint8_t *tally_pack_buckets(uint32_t first, const uint32_t *v, uint32_t count, uint8_t *to)
{
	uint32_t i, zeros;

	to = tally_put(to, count);
	if (count)
		to = tally_put(to, first);
	for (i = 0; i < count; i++) {
		to = tally_put(to, v[i]);
		if (v[i])
			continue;
		for (zeros = 0; i + 1 < count && !v[i + 1]; i++)
			zeros++;
		to = tally_put(to, zeros);
	}
	return to;
}

const uint8_t *tally_unpack_buckets(const uint8_t *p, struct buckets *to)
{
	uint64_t count, n;
	uint32_t i = 0;

	p = tally_get(p, &count);
	to->count = (uint16_t)count;
	if (count) {
		p = tally_get(p, &n);
		to->first = (uint8_t)n;
	}
	while (i < count) {
		p = tally_get(p, &n);
		to->v[i++] = (uint32_t)n;
		if (n)
			continue;
		for (p = tally_get(p, &n); n; n--)
			to->v[i++] = 0;
	}
	return p;
}
