/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a peer has to write: frames one after the other, and where a write shall end. A unit is
 * what goes to the kernel (or into TLS) in one call: one frame, a burst of them, or one that is
 * cut in the middle of a frame. In WebSocket mode a unit is a message, or several if it is long.
 */
#ifndef DERPLOAD_OUTQ_H
#define DERPLOAD_OUTQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct flow;

/* A packet whose way to the kernel somebody counts. */
struct outq_record {
	uint64_t end;			/* stream offset behind its last byte */
	uint64_t seq;
	struct flow *flow;
	uint32_t payload_len;
};

struct outq {
	bool websocket;
	uint8_t *buf;			/* buf[head..tail) is still to be written */
	size_t head, tail, cap;
	uint64_t base;			/* stream offset of buf[0] */
	uint64_t unit_start;		/* where the open unit begins */
	uint64_t *ends;			/* ends of the closed units, a ring */
	uint32_t ends_head, ends_len, ends_cap;
	struct outq_record *recs;	/* a ring, in order of their ends */
	uint32_t recs_head, recs_len, recs_cap;
};

/* Room for len more bytes, to be filled at once: the pointer holds until the next call. */
uint8_t *outq_put(struct outq *q, size_t len);

/* The bytes put last make a packet. */
void outq_record(struct outq *q, struct flow *flow, uint64_t seq, uint32_t payload_len);

/* Closes the unit `keep` bytes before the end; those begin the next one. */
void outq_close_unit(struct outq *q, size_t keep);

/* The rest of the oldest closed unit; false if there is none. */
bool outq_next(struct outq *q, const uint8_t **p, size_t *len);

/* That many bytes of it were written. */
void outq_written(struct outq *q, size_t len);

/* The next record that is written whole, taken out; false if there is none. */
bool outq_done(struct outq *q, struct outq_record *r);

/* The next record, written or not, taken out: what dies with the connection. */
bool outq_drop(struct outq *q, struct outq_record *r);

/* Bytes not written yet. */
size_t outq_pending(const struct outq *q);

/* Empties it for a new connection and frees its memory; records must have been dropped. */
void outq_reset(struct outq *q);

#endif
