/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The name of a relayed packet: 64 bits over the first DERP_DIGEST_LEN bytes of its payload and its
 * length. WireGuard's clear receiver index and counter, and disco's nonce, stand there and do not
 * repeat. Equal at every hop and on every node, in the kernel and in user space alike; it is no
 * defence against a sender who wants two packets to be named the same (those are matched first in,
 * first out).
 */
#ifndef DT_DIGEST_H
#define DT_DIGEST_H

#include "derp.h"

static inline __attribute__((always_inline)) unsigned long long digest_mix(unsigned long long h,
									    unsigned long long w)
{
	h ^= w;
	h *= 0x9fb21c651e98df25ULL;	/* the multiplier of XXH3's rrmxmx finaliser */
	return h ^ (h >> 29);
}

/* @words: the payload's start as little-endian words, zero-padded; @len: the payload's length. */
static inline __attribute__((always_inline)) unsigned long long
digest_words(const unsigned long long words[DERP_DIGEST_LEN / 8], unsigned int len)
{
	unsigned long long h = 0x165667b19e3779f9ULL ^ len;
	int i;

	for (i = 0; i < DERP_DIGEST_LEN / 8; i++)
		h = digest_mix(h, words[i]);
	return digest_mix(h, h >> 32);
}

#endif
