/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Buckets for the time that a packet takes, in the kernel and in user space alike: four of equal width
 * to each power of two, so that where a time lies within its bucket is not more than a quarter of it.
 * From an eighth of a microsecond to 67 seconds; what took longer is in the last one.
 */
#ifndef DT_LATENCY_H
#define DT_LATENCY_H

#include "digest.h"

#define LATENCY_UNIT_NS	125u	/* an eighth of a microsecond */
#define LATENCY_BUCKETS	112u	/* below 2^29 units */

/* The greatest power of two that is not above @v, which is not 0: without an instruction for it. */
static inline __attribute__((always_inline)) unsigned int latency_octave(unsigned int v)
{
	unsigned int n, octave = 0;

	n = (v > 0xffff) << 4;
	v >>= n;
	octave |= n;
	n = (v > 0xff) << 3;
	v >>= n;
	octave |= n;
	n = (v > 0xf) << 2;
	v >>= n;
	octave |= n;
	n = (v > 3) << 1;
	v >>= n;
	octave |= n;
	return octave | v >> 1;
}

/* Below LATENCY_BUCKETS, whatever @ns is. */
static inline __attribute__((always_inline)) unsigned int latency_bucket(unsigned long long ns)
{
	unsigned long long units = ns / LATENCY_UNIT_NS;
	unsigned int v = (unsigned int)units, octave;

	if (units >> 29)
		return LATENCY_BUCKETS - 1;
	if (v < 4)
		return v;
	octave = latency_octave(v);
	return (octave - 1) * 4 + (v >> (octave - 2) & 3);
}

/* Where bucket @b begins, in units; the one behind the last is where the last one ends. */
static inline unsigned int latency_begin(unsigned int b)
{
	return b < 4 ? b : (4 + b % 4) << (b / 4 - 1);
}

#define LATENCY_ONE_OF	32	/* of so many packets one is timed in the kernel */
#define LATENCY_NONCE	38	/* in a disco packet, where its nonce begins */

/*
 * Is a packet one of those? The same on every node: its first word decides, and the one in which
 * WireGuard counts, or the first of disco's nonce.
 */
static inline __attribute__((always_inline)) int latency_sampled(unsigned long long first,
								  unsigned long long second)
{
	return digest_mix(digest_mix(LATENCY_ONE_OF, first), second) >> 32 < (1ull << 32) / LATENCY_ONE_OF;
}

#endif
