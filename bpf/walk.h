/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The walker of length-prefixed streams: DERP frames (one byte of type, four of length) and TLS
 * records (type, version, two bytes of length) have a header of five bytes each. It never touches
 * memory but its own state and the bytes it is handed, has no loop beyond the header's length, and
 * so compiles for kernel, user space and fuzzers alike.
 *
 *	while (bytes are left) {
 *		n = walk_body(w, left);		skips what belongs to the current item
 *		n = walk_head(w, p, left);	takes header bytes of the next one
 *		if (w->have == WALK_HEADER_LEN)
 *			walk_read(w);		begins it, or says that this is no header
 *	}
 */
#ifndef DT_WALK_H
#define DT_WALK_H

#include "derp.h"

#define WALK_HEADER_LEN		5
#define WALK_INLINE		static inline __attribute__((always_inline))

#define TLS_CHANGE_CIPHER	20
#define TLS_ALERT		21
#define TLS_HANDSHAKE		22
#define TLS_APPLICATION		23
#define TLS_MAX_RECORD		(16384 + 2048)	/* TLS 1.2's limit; 1.3's is lower */

enum walk_kind {
	WALK_DERP,
	WALK_TLS,
};

struct walk {
	unsigned int left;	/* body bytes of the current item that are still to come */
	unsigned int len;	/* its body, whole */
	unsigned char kind;	/* enum walk_kind */
	unsigned char type;
	unsigned char have;	/* header bytes of the next item, 0 .. WALK_HEADER_LEN */
	unsigned char head[9];	/* WALK_HEADER_LEN are used; the rest keeps masked indices inside */
};

WALK_INLINE unsigned int walk_derp_len(const unsigned char *head)
{
	return (unsigned int)head[1] << 24 | (unsigned int)head[2] << 16 |
	       (unsigned int)head[3] << 8 | head[4];
}

/* The longest payload that a frame of this type may have. */
WALK_INLINE unsigned int walk_derp_max(unsigned char type)
{
	switch (type) {
	case DERP_SEND_PACKET:
	case DERP_RECV_PACKET:
		return DERP_KEY_LEN + DERP_MAX_PACKET;
	case DERP_FORWARD_PACKET:
		return 2 * DERP_KEY_LEN + DERP_MAX_PACKET;
	case DERP_CLIENT_INFO:
	case DERP_SERVER_INFO:
		return DERP_MAX_INFO;
	default:
		return DERP_MAX_FRAME;
	}
}

WALK_INLINE int walk_tls_valid(const unsigned char *head)
{
	unsigned int len = (unsigned int)head[3] << 8 | head[4];

	return head[0] >= TLS_CHANGE_CIPHER && head[0] <= TLS_APPLICATION && head[1] == 3 &&
	       head[2] <= 4 && len <= TLS_MAX_RECORD;
}

WALK_INLINE void walk_init(struct walk *w, enum walk_kind kind)
{
	w->left = 0;
	w->len = 0;
	w->kind = kind;
	w->type = 0;
	w->have = 0;
}

/* How many of the next @avail bytes belong to the current item; they are taken as read. */
WALK_INLINE unsigned int walk_body(struct walk *w, unsigned int avail)
{
	unsigned int n = w->left < avail ? w->left : avail;

	w->left -= n;
	return n;
}

/* Takes at most what the header still lacks from @p, and says how many bytes that were. */
WALK_INLINE unsigned int walk_head(struct walk *w, const unsigned char *p, unsigned int avail)
{
	unsigned int i, n = 0;

	for (i = 0; i < WALK_HEADER_LEN; i++) {
		if (w->have >= WALK_HEADER_LEN || i >= avail)
			break;
		w->head[w->have & 7] = p[i];
		w->have++;
		n++;
	}
	return n;
}

/* The header is whole: begins the item. 0 where it is no header; then the boundary is lost. */
WALK_INLINE int walk_read(struct walk *w)
{
	unsigned int len;

	w->have = 0;
	if (w->kind == WALK_TLS) {
		if (!walk_tls_valid(w->head))
			return 0;
		len = (unsigned int)w->head[3] << 8 | w->head[4];
	} else {
		len = walk_derp_len(w->head);
		if (len > walk_derp_max(w->head[0]))
			return 0;
	}
	w->type = w->head[0];
	w->len = len;
	w->left = len;
	return 1;
}

#endif
