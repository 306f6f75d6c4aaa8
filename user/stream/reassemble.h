/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One direction of a TCP connection: segments as they passed the hook in, each payload byte once
 * and in order out.
 *
 * Inbound bytes are held until TCP has accepted them; outbound bytes are handed on when they first
 * pass. What was accepted (or acknowledged) and never seen here is a gap; what the kernel counted is
 * none, it stands in its place without bytes.
 */
#ifndef DT_STREAM_REASSEMBLE_H
#define DT_STREAM_REASSEMBLE_H

#include "capture/capture.h"
#include "stream/budget.h"

/* As capture_segment.head says. */
struct reassemble_record {
	const uint8_t *start;
	size_t have;		/* bytes there */
	size_t len;		/* in the stream */
	uint32_t mark;		/* its number in the kernel's walk */
};

struct reassemble_sink {
	/* @pos: of @data[0]. @data is valid during the call only. */
	void (*bytes)(void *ctx, enum capture_dir dir, uint64_t pos, uint64_t time_ns,
		      const uint8_t *data, size_t len);
	/* The bytes from @pos on are one TLS record, of which the start is there. */
	void (*head)(void *ctx, enum capture_dir dir, uint64_t pos, uint64_t time_ns,
		     const struct reassemble_record *record);
	void (*gap)(void *ctx, enum capture_dir dir, uint64_t pos, uint64_t time_ns,
		    uint64_t bytes);
	/* @bytes before @pos were counted; with @at the direction goes on as capture.h says. */
	void (*counted)(void *ctx, enum capture_dir dir, uint64_t pos, uint64_t time_ns,
			uint64_t bytes, const struct capture_counting *at);
	/* The same of those up to the end of a frame that was named. */
	void (*forward)(void *ctx, enum capture_dir dir, uint64_t pos, uint64_t time_ns,
			uint64_t bytes, const struct capture_forward *f);
};

struct reassemble_held;

struct reassemble {
	enum capture_dir dir;
	bool started;		/* the origin is known */
	bool has_fin;
	uint32_t origin;	/* sequence number of position 0 */
	uint64_t next;		/* all before it was handed on or is in a gap */
	uint64_t settled;	/* in: accepted by TCP; out: acknowledged */
	uint64_t fin;		/* position of FIN */
	struct reassemble_held *head, *tail;
	bool counting;		/* from count_from on: nothing is handed on, and nothing is missing */
	uint64_t count_from;
	struct budget *budget;
	const struct reassemble_sink *sink;
	void *ctx;
};

void reassemble_init(struct reassemble *r, enum capture_dir dir, struct budget *budget,
		     const struct reassemble_sink *sink, void *ctx);
/* Frees what is held, hands nothing on. */
void reassemble_clear(struct reassemble *r);

/* Not one byte of it was handed on, is held, or missing. */
static inline bool reassemble_is_untouched(const struct reassemble *r)
{
	return !r->next && !r->head && !r->counting;
}

/* Position 0 is sequence number @seq. */
void reassemble_start(struct reassemble *r, uint32_t seq);

/*
 * A segment passed the hook. @facts: of that moment, or NULL. Starts the direction where it was
 * not: at what TCP expected next, if the facts tell, so that what is sent again does not count.
 */
void reassemble_segment(struct reassemble *r, const struct capture_segment *seg, uint64_t time_ns,
			const struct capture_facts *facts);

/* Counting begins, or ends. */
void reassemble_counting(struct reassemble *r, const struct capture_counting *at, uint64_t time_ns);
/* A frame that was counted was named: it is handed on when all before it was. */
void reassemble_forward(struct reassemble *r, const struct capture_forward *f, uint64_t time_ns);
/* It has come so far, at least. */
void reassemble_counted(struct reassemble *r, uint32_t seq);
/* Where it stands by @facts: position behind the last byte that passed. */
uint64_t reassemble_passed(const struct reassemble *r, const struct capture_facts *facts);

/*
 * Do @facts count the segment's start as accepted already? Then the segment is to be told before
 * reassemble_settle() is, or it would pass for a gap.
 */
bool reassemble_covered(const struct reassemble *r, const struct capture_segment *seg,
			const struct capture_facts *facts);

/* All before sequence number @seq is accepted (in: rcv_nxt) or acknowledged (out: snd_una). */
void reassemble_settle(struct reassemble *r, uint32_t seq, bool fin_counted, uint64_t time_ns);

/* Nothing comes any more: what is held behind a hole is handed on (out), or forgotten (in). */
void reassemble_end(struct reassemble *r, uint64_t time_ns);

/* Where @seq stands; before position 0 it is 0. FIN takes no position. */
uint64_t reassemble_position(const struct reassemble *r, uint32_t seq);

#endif
