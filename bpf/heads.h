/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TLS records of which the kernel ships the start alone: what it may leave out it knows for certain.
 *
 * User space, which has the keys, foretells with what the stream cipher will mask the first bytes of
 * the records to come. Where a record begins as was foretold and these bytes, unmasked, are the header
 * of a packet's frame that fills the record to its end, there is nothing behind the frame's own start
 * that anyone would look at. Everything else is shipped whole. A mask that is not this record's makes
 * sense once in four billion times; then user space, which unmasks the start again, sees that it does
 * not, and takes the record for lost.
 */
#ifndef DT_HEADS_H
#define DT_HEADS_H

#include "walk.h"

#define HEADS_MASK_LEN	DERP_HEADER_LEN
#define HEADS_PEEK	(WALK_HEADER_LEN + HEADS_MASK_LEN)
/* TLS 1.3: a type and a tag stand behind the content. */
#define HEADS_TAG_LEN	16
#define HEADS_BEHIND	(1 + HEADS_TAG_LEN)
/* Shipped of a record: its header, a frame's start, and the type. */
#define HEADS_START	(WALK_HEADER_LEN + DERP_HEAD_LEN)
#define HEADS_CAPTURED	(HEADS_START + 1)
/* What is shorter is as well shipped whole. */
#define HEADS_MIN	320
#define HEADS_MAX_BODY	(16384 + 256)

/* A walk counts so many records; the next one's numbers begin behind them. */
#define HEADS_EPOCH	(1u << 20)

/* Of one record: its mask in the lower 40 bits, above it the lower bits of its number in the walk. */
WALK_INLINE unsigned long long heads_entry(unsigned int mark, const unsigned char *mask)
{
	return (unsigned long long)mark << 40 | (unsigned long long)mask[4] << 32 |
	       (unsigned long long)mask[3] << 24 | (unsigned long long)mask[2] << 16 |
	       (unsigned long long)mask[1] << 8 | mask[0];
}

/* A record of application data begins with these WALK_HEADER_LEN bytes: its length, header included; or 0. */
WALK_INLINE unsigned int heads_record(const unsigned char *p)
{
	unsigned int body = (unsigned int)p[3] << 8 | p[4];

	if (p[0] != TLS_APPLICATION || p[1] != 3 || p[2] != 3 || body < HEADS_BEHIND ||
	    body > HEADS_MAX_BODY)
		return 0;
	return WALK_HEADER_LEN + body;
}

/*
 * Is record number @mark, of @len bytes, one packet's frame and no more? @p: its first HEADS_PEEK
 * bytes. @entry: what was foretold in its place.
 */
WALK_INLINE int heads_fits(unsigned long long entry, unsigned int mark, const unsigned char *p,
			   unsigned int len)
{
	unsigned char header[8]; /* HEADS_MASK_LEN are used */
	unsigned int least = DERP_KEY_LEN;

	if (len < HEADS_MIN || (unsigned int)(entry >> 40) != (mark & 0xffffff))
		return 0;
	header[0] = p[5] ^ (unsigned char)entry;
	header[1] = p[6] ^ (unsigned char)(entry >> 8);
	header[2] = p[7] ^ (unsigned char)(entry >> 16);
	header[3] = p[8] ^ (unsigned char)(entry >> 24);
	header[4] = p[9] ^ (unsigned char)(entry >> 32);
	if (header[0] == DERP_FORWARD_PACKET)
		least = 2 * DERP_KEY_LEN;
	else if (header[0] != DERP_SEND_PACKET && header[0] != DERP_RECV_PACKET)
		return 0;
	return walk_derp_len(header) >= least &&
	       walk_derp_len(header) + DERP_HEADER_LEN + HEADS_BEHIND + WALK_HEADER_LEN == len;
}

#endif
