/* SPDX-License-Identifier: BSD-2-Clause */
/* The name of a relayed packet, in user space. */
#ifndef DT_PACKET_H
#define DT_PACKET_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "digest.h"

/* @bytes: the start of its payload, min(@len, DERP_DIGEST_LEN) of them at least; @have: those there are. */
static inline uint64_t packet_digest(const uint8_t *bytes, size_t have, uint32_t len)
{
	unsigned long long words[DERP_DIGEST_LEN / 8] = { 0 };
	int i;

	memcpy(words, bytes, have < DERP_DIGEST_LEN ? have : DERP_DIGEST_LEN);
	for (i = 0; i < DERP_DIGEST_LEN / 8; i++)
		words[i] = le64toh(words[i]);
	return digest_words(words, len);
}

#endif
