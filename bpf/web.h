/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The header of a WebSocket frame (RFC 6455), shared by kernel, user space and fuzzers:
 *
 *	FIN, 3 reserved bits, 4 of opcode | MASK, 7 of length | 0, 2 or 8 of length | 0 or 4 of mask
 *
 * What frames of data carry is one stream of bytes, however it was cut into frames and messages;
 * control frames stand between them. No extension of the protocol is read: with one a reserved bit
 * is set.
 */
#ifndef DT_WEB_H
#define DT_WEB_H

#include "walk.h"

#define WEB_HEADER_MAX		14
#define WEB_MESSAGE		0x82		/* a message of binary data in one frame begins so */

#define WEB_FIN			0x80
#define WEB_RESERVED		0x70
#define WEB_MASKED		0x80
#define WEB_BINARY		2
#define WEB_CLOSE		8
#define WEB_PONG		10
#define WEB_MAX_CONTROL		125
#define WEB_MAX_DATA		(1u << 24)	/* longer than any of DERP's */

struct web_frame {
	unsigned int len;	/* of its payload */
	unsigned int mask;	/* the first payload byte is masked by the lowest byte; 0 where none is */
	unsigned char data;	/* it is no control frame */
	unsigned char masked;
};

/* How long is the header whose second byte is @second? */
WALK_INLINE unsigned int web_header_len(unsigned char second)
{
	unsigned int len = second & 0x7f;

	return 2 + (len == 126 ? 2 : len == 127 ? 8 : 0) + (second & WEB_MASKED ? 4 : 0);
}

/* Four bytes, in which order the mask is applied. */
WALK_INLINE unsigned int web_mask(const unsigned char *p)
{
	return p[0] | (unsigned int)p[1] << 8 | (unsigned int)p[2] << 16 | (unsigned int)p[3] << 24;
}

/* @mask, for what begins @n bytes further on. */
WALK_INLINE unsigned int web_mask_at(unsigned int mask, unsigned int n)
{
	n = (n & 3) * 8;
	return mask >> n | mask << (-n & 31);
}

/* The header at @head is whole. 0: it is none. */
WALK_INLINE int web_read(const unsigned char *head, struct web_frame *f)
{
	unsigned char opcode = head[0] & 15;

	if (head[0] & WEB_RESERVED || (opcode > WEB_BINARY && opcode < WEB_CLOSE) || opcode > WEB_PONG)
		return 0;
	f->data = opcode < WEB_CLOSE;
	f->masked = !!(head[1] & WEB_MASKED);
	f->len = head[1] & 0x7f;
	f->mask = web_mask(head + 2);
	if (f->len == 126) {
		f->len = (unsigned int)head[2] << 8 | head[3];
		f->mask = web_mask(head + 4);
	} else if (f->len == 127) {
		if (head[2] | head[3] | head[4] | head[5])
			return 0;
		f->len = walk_derp_len(head + 5);
		f->mask = web_mask(head + 10);
	}
	if (!f->masked)
		f->mask = 0;
	return f->data ? f->len <= WEB_MAX_DATA : f->len <= WEB_MAX_CONTROL && head[0] & WEB_FIN;
}

#endif
