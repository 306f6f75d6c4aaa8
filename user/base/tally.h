/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A row of counters, most of them zero and most of the others small, in as many bytes as they need: a
 * word in which a bit stands for each that is not zero, then those; all in the variable length of
 * protobuf, seven bits a byte. Put first what is seldom zero.
 */
#ifndef DT_BASE_TALLY_H
#define DT_BASE_TALLY_H

#include <stdint.h>

#define TALLY_COUNTERS	64	/* at most */
#define TALLY_BYTES(n)	(10 + 10 * (n))

static inline uint8_t *tally_put(uint8_t *p, uint64_t v)
{
	while (v >= 0x80) {
		*p++ = (uint8_t)(v | 0x80);
		v >>= 7;
	}
	*p++ = (uint8_t)v;
	return p;
}

/* The bytes are our own. */
static inline const uint8_t *tally_get(const uint8_t *p, uint64_t *v)
{
	unsigned int shift = 0;

	for (*v = 0; *p & 0x80; shift += 7)
		*v |= (uint64_t)(*p++ & 0x7f) << shift;
	*v |= (uint64_t)*p++ << shift;
	return p;
}

struct buckets;

/*
 * A histogram: how many buckets, and where there are any, the first one's number and then each; behind
 * a zero, how many more follow it. TALLY_BUCKETS_BYTES hold it.
 */
#define TALLY_BUCKETS_BYTES(n)	(4 + 5 * (n))
uint8_t *tally_pack_buckets(uint32_t first, const uint32_t *v, uint32_t count, uint8_t *to);
/* @to has room for as many as were packed. */
const uint8_t *tally_unpack_buckets(const uint8_t *p, struct buckets *to);

/* @n counters into TALLY_BYTES(n) at @to. Returns their end. */
uint8_t *tally_pack(const uint64_t *v, unsigned int n, uint8_t *to);
/* All @n of them. Returns the end of the bytes. */
const uint8_t *tally_unpack(const uint8_t *p, uint64_t *v, unsigned int n);

#endif
