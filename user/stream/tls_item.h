/* SPDX-License-Identifier: BSD-2-Clause */
/* Between tls.c, where records wait, and tls_open.c, where they are opened. */
#ifndef DT_STREAM_TLS_ITEM_H
#define DT_STREAM_TLS_ITEM_H

#include "stream/tls.h"

#define TLS_1_2		0x0303
#define TLS_1_3		0x0304

enum tls_item_kind {
	TLS_RECORD,
	TLS_LOST,		/* one record, not whole */
	TLS_UNKNOWN,		/* some bytes */
};

struct tls_item {
	struct tls_item *next;
	enum tls_item_kind kind;
	bool sealed;		/* it counts among the sealed records */
	uint64_t time_ns, tcp_end;
	uint64_t index;		/* sealed records of its side before it */
	uint64_t bytes;		/* header included */
	const uint8_t *record;	/* TLS_RECORD: header and body ... */
	size_t have;		/* ... or so many bytes of their start, and one of their end; 0: all */
	uint8_t copy[];
};

enum tls_outcome {
	TLS_READ,		/* or not readable at all: the next one, please */
	TLS_WAITS,		/* for a secret, or for allowance */
};

/* Opens a sealed record, or learns that it cannot be. */
enum tls_outcome tls_open(struct tls *t, int side, const struct tls_item *item);

/*
 * The same for one whose keys and number are known, of which the heads of frames are all that is
 * wanted. False, with nothing done: it must be read whole.
 */
bool tls_open_heads(struct tls *t, int side, const struct tls_item *item);

/*
 * Is one of which the start is there number @number under the keys, and one packet's frame and no
 * more? What was foretold of it says so.
 */
bool tls_is_foretold(struct tls *t, int side, const struct tls_item *item, uint64_t number);
/* Whatever was in doubt, the next record is this one. */
void tls_set_number(struct tls *t, int side, uint64_t number);

/* Of a connection that was at rest, if need be. NULL without memory. */
struct tls_search *tls_search(struct tls *t);
/* There is a new guess. */
static inline void tls_grant(struct tls_search *s)
{
	s->slow = 0;
	if (s->allowance < TLS_GRANT)
		s->allowance = TLS_GRANT;
}

/* 0: not known. */
uint16_t tls_version(const struct tls *t, int side);

/* Between here and the next record @more may have passed, about @likely of them. */
void tls_forget_number(struct tls *t, int side, uint64_t more, uint64_t likely);

/* Handshake bytes and alerts, sealed or not. */
void tls_read_handshake(struct tls *t, int side, const uint8_t *data, size_t len);
void tls_read_alert(struct tls *t, int side, const uint8_t *data, size_t len);
/* A candidate of known keys tells their record number. */
void tls_hint_number(struct tls *t, const struct capture_candidate *c);

#endif
