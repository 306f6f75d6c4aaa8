/* SPDX-License-Identifier: BSD-2-Clause */
/* A relayed packet, by its start: its name, and what it is. */
#ifndef DT_PACKET_H
#define DT_PACKET_H

#include <endian.h>
#include <stdbool.h>
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

/* Disco's magic, with room behind it for the sender's key and a nonce. */
static inline bool packet_is_disco(const uint8_t *bytes, size_t have, uint32_t len)
{
	static const uint8_t magic[] = { 'T', 'S', 0xf0, 0x9f, 0x92, 0xac };

	return len >= 62 && have >= sizeof(magic) && !memcmp(bytes, magic, sizeof(magic));
}

#endif
