/* SPDX-License-Identifier: BSD-2-Clause */
/* What one direction holds: bytes that TCP has not taken yet, or that stand behind a hole, in order. */
#ifndef DT_STREAM_HELD_H
#define DT_STREAM_HELD_H

#include <stdlib.h>

#include "stream/reassemble.h"

/* The segment that bytes came with. */
struct held_by {
	uint64_t time_ns;
	enum capture_sum sum;
	uint32_t head;		/* a TLS record, of which so many bytes are there; 0: it is whole */
	uint32_t mark;		/* of it */
};

struct reassemble_held {
	struct reassemble_held *next, *prev;
	uint64_t pos, end;	/* of the bytes at @data */
	uint64_t wire_end;	/* what passed the hook may be longer than what was captured */
	struct held_by by;
	size_t cost;
	struct capture_counting *at; /* no bytes: it was counted, and goes on like this */
	struct capture_forward *forward; /* no bytes: this frame, which was counted, ends it */
	uint8_t data[];
};

static inline bool held_is_counted(const struct reassemble_held *h)
{
	return h->at || h->forward;
}

void held_unlink(struct reassemble *r, struct reassemble_held *h);
/* It was unlinked. */
void held_free(struct reassemble *r, struct reassemble_held *h);
/* Puts [pos, end) before @before (NULL: last). False where there is no memory for it. */
bool held_add(struct reassemble *r, struct reassemble_held *before, uint64_t pos, uint64_t end,
	      uint64_t wire_end, const struct held_by *by, const uint8_t *data);
/* Forgets what is held of [pos, end). */
void held_forget(struct reassemble *r, uint64_t pos, uint64_t end);
/*
 * Holds those parts of [pos, end) that are not held yet. False where there is no memory for it; what
 * is known to be no part of the stream is left out.
 */
bool held_insert(struct reassemble *r, uint64_t pos, uint64_t end, uint64_t wire_end,
		 const struct held_by *by, const uint8_t *data);

#endif
