/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One direction's DERP stream cut into frames. Where its start was not seen, or after bytes were
 * lost, a chain of headers that make sense finds the next frame: a frame that is skipped is better
 * than one that never was.
 */
#ifndef DT_STREAM_FRAMES_H
#define DT_STREAM_FRAMES_H

#include "stream/budget.h"
#include "stream/stream.h"
#include "walk.h"

/* Bytes of the DERP stream that came together: of one TLS record, or one TCP segment. */
struct derp_chunk {
	uint64_t time_ns;
	uint64_t tcp_pos;	/* plain: position of data[0] */
	uint64_t tcp_end;	/* record: position behind it */
	bool record;
	bool framed;		/* inside a WebSocket: positions count for tcp_end only */
	bool inner;		/* data[0] is not where the record, or segment, began */
	bool parts;		/* derp_plan() brought what is needed of it; no more is there */
	const uint8_t *data;
	size_t len;
};

/* The bytes of a chunk that come when they are asked for. */
struct derp_parts {
	const uint8_t *data;
	size_t len;
	bool begins;		/* it is known that a frame begins with it */
	/* Brings data[from] up to data[to]. False where that cannot be, or is no use. */
	bool (*bring)(struct derp_parts *p, size_t from, size_t to);
};

struct derp_sink {
	/* node, conn and dir are left to the sink. */
	void (*frame)(void *ctx, enum capture_dir dir, struct stream_frame *f,
		      const uint8_t *whole, size_t whole_len);
	/* So many bytes were passed over; frames may have been in them. */
	void (*skipped)(void *ctx, enum capture_dir dir, uint64_t time_ns, uint64_t bytes);
	/* From here on every frame is seen. */
	void (*resumed)(void *ctx, enum capture_dir dir, uint64_t time_ns);
};

enum derp_talker {
	DERP_CLIENT = 1,
	DERP_SERVER = 2,
	DERP_EITHER = 3,
};

struct derp_part;
struct derp_sync;

struct derp {
	struct derp_part *part;	/* of the frame under way; NULL: the next byte is a header's first */
	struct derp_sync *sync;	/* while searching */
	uint64_t off;		/* of the current frame's header */
	uint64_t base_pos;	/* plain: position of offset 0 */
	bool synced;
	bool from_start;
};

/* Whose it is. */
struct derp_host {
	enum capture_dir dir;
	uint8_t talker;		/* who sends in this direction, for headers to make sense */
	bool want_whole;
	struct budget *budget;
	const struct derp_sink *sink;
	void *ctx;
};

/* Is it a header that @talker would send? */
bool derp_plausible(const uint8_t *header, uint8_t talker);

/* @synced: the first byte is a header, the stream's first one. */
void derp_init(struct derp *d, bool synced);
/* After a loss: a frame begins with what is fed next. */
void derp_begin(struct derp *d, const struct derp_host *host, uint64_t time_ns);
void derp_feed(struct derp *d, const struct derp_host *host, const struct derp_chunk *c);

/*
 * Brings what derp_feed() will look at in the next chunk. False where that is all of it, or where not
 * every header in it makes sense; then it must be fed whole.
 */
bool derp_plan(const struct derp *d, const struct derp_host *host, struct derp_parts *p);

/*
 * Bytes are missing. @exact: as many as that, none more (plain TCP); else it is anyone's guess.
 * @pos: where they began.
 */
void derp_gap(struct derp *d, const struct derp_host *host, uint64_t time_ns, uint64_t pos,
	      uint64_t bytes, bool exact);
/*
 * @bytes before @pos were walked by another, who stands where @at says: the frame that is under way
 * is taken over.
 */
void derp_resume(struct derp *d, const struct derp_host *host, uint64_t time_ns, uint64_t pos,
		 const struct capture_counting *at);
/* All before @pos, where a frame ends, was walked by another: what was under way is. */
void derp_pass(struct derp *d, const struct derp_host *host, uint64_t pos);
/* A frame that was walked so, and named, ends at @pos. */
void derp_named(struct derp *d, const struct derp_host *host, uint64_t time_ns, uint64_t pos,
		const struct capture_forward *f);
/* Does a frame begin with what is fed next? */
bool derp_at_boundary(const struct derp *d);
void derp_clear(struct derp *d, struct budget *budget);

/* --- sync.c: the search ------------------------------------------------------------------- */

/* Keeps @c. True: a frame begins at *start of what is kept; see derp_sync_chunk(). */
bool derp_sync_feed(struct derp_sync **sync, const struct derp_chunk *c, uint8_t talker,
		    struct budget *budget, uint64_t *dropped, uint64_t *start);
/* The n-th kept chunk from *start on, in order; false: no more. */
bool derp_sync_chunk(const struct derp_sync *sync, size_t n, uint64_t start,
		     struct derp_chunk *c);
/* All that is kept, in one piece. */
const uint8_t *derp_sync_bytes(const struct derp_sync *sync, size_t *len);
void derp_sync_free(struct derp_sync *sync, struct budget *budget);

#endif
