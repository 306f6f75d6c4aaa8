/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One connection: its two directions of bytes, what they turn out to carry, and the frames in them.
 */
#ifndef DT_STREAM_CONNECTION_H
#define DT_STREAM_CONNECTION_H

#include "base/chains.h"
#include "base/shelf.h"
#include "stream/frames.h"
#include "stream/http.h"
#include "stream/names.h"
#include "stream/reassemble.h"
#include "stream/tls.h"
#include "stream/websocket.h"

/* What all connections share. */
struct connection_shared {
	const struct stream_sink *sink;
	struct secrets secrets;
	struct budget budget;
	size_t connection_bytes;
	uint64_t now_ns;	/* of the current event */
	uint64_t patience_ns;	/* what waits longer for a secret is called missing */
	uint64_t trials;	/* so many are left for secrets that may be anybody's: a file has all at once */
	struct connection_search *waiting; /* for a secret, or a record's number */
	struct stream_stats gone; /* sums of connections that have ended, and of all gaps */
	struct tls_shared tls;
	struct shared names;
	uint8_t unmasked[16384];
};

enum connection_layer {
	LAYER_NEW,		/* nothing told yet what it carries */
	LAYER_TLS,
	LAYER_PLAIN,
	LAYER_FRAMES,		/* its frames are told, not read */
	LAYER_OTHER,		/* nothing that is read here */
};

/* Above TLS, or above TCP where it is plain: one direction. */
struct connection_app {
	enum {
		APP_NEW,
		APP_HTTP,
		APP_DERP,
		APP_WEBSOCKET,
		APP_IGNORED,
	} state;
	bool websocket_lost;	/* the next frame's start is not known */
	bool websocket_away;	/* the kernel has counted on, and is to tell where that ended */
	bool told;		/* frames were, up to derp.off */
	bool lost;		/* bytes were, before it was known what it carries */
	bool gap;		/* was told to begin */
	uint32_t searched;	/* bytes in which no frame was found */
	uint64_t gap_bytes;
	struct derp derp;	/* before it is DERP: what came so far, mid-stream */
	struct websocket *websocket;
};

/* A TLS connection as long as its keys, or record numbers, are looked for. */
struct connection_search {
	struct secret_user user;
	uint64_t waiting_ns;	/* since when it has waited for a secret; 0: it does not */
	uint64_t search_ns, search_wait_ns; /* memory is not searched for it before; 0: not yet */
	uint64_t fitted, tried;	/* serial numbers of the last unbound secrets; see unbound.c */
	struct connection_search *next, *prev; /* utlist, of those that wait */
};

/* The kernel's walk, by direction: see counted.c and foretold.c. */
struct connection_claim {
	/* That which stands where a frame, or a TLS record, may begin; the right one. */
	uint32_t claim, agreed;
	uint64_t pos;		/* of the claim */
	/* The record that the kernel calls @mark is TLS's number mark + base; told up to here. */
	uint64_t base;
	uint32_t end;
};

struct connection {
	struct chain chain;	/* by id */
	uint64_t id;
	uint64_t seen_ns;	/* of its last event */
	uint32_t node;
	uint32_t signature;	/* of the info that the sink has; 0: it has none */
	enum connection_layer layer;
	bool midstream;		/* its first bytes were not seen */
	bool has_client;	/* @client is known */
	bool framed;		/* its frames are told */
	bool closing;
	bool quiet;		/* nothing of it is handed over now */
	enum capture_dir client; /* the direction in which the client speaks */
	struct connection_shared *shared;
	struct budget budget;
	struct reassemble dirs[2];
	struct tls *tls;
	struct connection_search *search; /* NULL: nothing is looked for */
	struct http *http;
	struct connection_claim *claims; /* NULL: nothing is counted, or foretold */
	struct connection_app apps[2];
	struct stream_info info;
};

static inline int connection_side(const struct connection *c, enum capture_dir dir)
{
	return dir == c->client ? TLS_CLIENT : TLS_SERVER;
}

struct connection *connection_new(struct connection_shared *shared,
				  const struct capture_event *event);
/* Is it told only now, after it was told without its start, where that start is, and came nothing yet? */
bool connection_begins(const struct connection *c, const struct capture_event *event);
/* Says nothing more to the sink; see connection_close(). */
void connection_free(struct connection *c);

/* An event about this connection: SEGMENT, FRAME, FACTS, CANDIDATE, CLOSE. */
void connection_event(struct connection *c, const struct capture_event *event);
/* Its secrets have changed. */
void connection_secrets(struct connection *c, uint64_t time_ns);
/* Time has passed: what waits may go on, or be called missing. */
void connection_tick(struct connection *c, uint64_t time_ns);
void connection_close(struct connection *c, uint64_t time_ns);

/* As reassemble_sink.gap. */
void connection_gap(void *ctx, enum capture_dir dir, uint64_t pos, uint64_t time_ns, uint64_t bytes);

/* Adds what a connection that is open counts for. */
void connection_stats(const struct connection *c, uint64_t time_ns, struct stream_stats *stats);

/* Where it finds what all connections share, and its own. NULL: nowhere. */
void connection_tie(struct connection *c, struct connection_shared *shared);

/* --- rest.c: connections on which nothing happens ------------------------------------------ */

/* Has nothing happened for a while, and does nothing wait? It counts for nothing but itself then. */
bool connection_may_rest(const struct connection *c, uint64_t now_ns);
/* It is in no table any more. True: it is on @shelf, and freed. */
bool connection_rest(struct connection *c, struct shelf *shelf);
/* From there, where it is left. NULL without memory. */
struct connection *connection_wake(struct connection_shared *shared, uint64_t id,
				   const uint8_t *bytes);

/* --- search.c: as long as keys or record numbers are looked for ---------------------------- */

/* NULL without memory. */
struct connection_search *search_get(struct connection *c);
/* Since when it waits; 0: it does not. */
void search_wait(struct connection *c, uint64_t since_ns);
/* Its stake in secrets ends, too. */
void search_end(struct connection *c);

static inline uint64_t connection_waiting_since(const struct connection *c)
{
	return c->search ? c->search->waiting_ns : 0;
}

/* --- unbound.c: secrets of those whose ClientHello was not seen ---------------------------- */

/* Binds those that are told to fit, if there are new ones. Costs a trial or two for each. */
void unbound_fit(struct connection *c, uint64_t time_ns);
/* Tries the next ones far and wide, unless something else is being tried. */
void unbound_try(struct connection *c, uint64_t time_ns);
/* Nothing comes any more. */
void unbound_try_last(struct connection *c, uint64_t time_ns);

/* --- counted.c: what the kernel counts ----------------------------------------------------- */

/* The kernel's walk may say that a frame, or record, begins with @seg: that is looked at when it is read. */
void counted_claim(struct connection *c, const struct capture_segment *seg);
/* Bytes from @pos on are read next. */
void counted_reach(struct connection *c, enum capture_dir dir, uint64_t pos);
/* As reassemble_sink.counted. */
void counted_resume(void *ctx, enum capture_dir dir, uint64_t pos, uint64_t time_ns,
		    uint64_t bytes, const struct capture_counting *at);
/* As reassemble_sink.forward. */
void counted_forward(void *ctx, enum capture_dir dir, uint64_t pos, uint64_t time_ns,
		     uint64_t bytes, const struct capture_forward *f);
/* COUNTING; COUNT and FORWARD, which are told to the sink. */
void counted_event(struct connection *c, const struct capture_event *event);

/* --- foretold.c: records that do not come whole -------------------------------------------- */

/* Is there any use in its numbers? */
bool foretold_may(const struct connection *c, enum capture_dir dir);
/* The record that is read next has this number in the kernel's walk. */
void foretold_reach(struct connection *c, enum capture_dir dir, uint32_t mark);
/* As reassemble_sink.head. */
void foretold_head(void *ctx, enum capture_dir dir, uint64_t pos, uint64_t time_ns,
		   const struct reassemble_record *record);

/* --- application.c: HTTP, WebSocket, DERP ------------------------------------------------- */

struct derp_host application_derp(struct connection *c, enum capture_dir dir);
/* A frame that a file tells. */
void application_frame(struct connection *c, const struct capture_frame *f);
void application_feed(struct connection *c, struct derp_chunk *chunk, enum capture_dir dir);
/* The same by the heads of frames alone. False, with nothing done, where it must be fed whole. */
bool application_feed_parts(struct connection *c, struct derp_parts *parts, enum capture_dir dir,
			    uint64_t time_ns, uint64_t tcp_end);
/* Bytes are missing; see derp_gap(). */
void application_gap(struct connection *c, enum capture_dir dir, uint64_t time_ns, uint64_t pos,
		     uint64_t bytes, bool exact);
void application_clear(struct connection *c);
/* Frames of @dir may be missing from here on; @bytes of them were not read. */
void application_begin_gap(struct connection *c, enum capture_dir dir, uint64_t time_ns,
			   uint64_t bytes);
void application_end_gap(struct connection *c, enum capture_dir dir, uint64_t time_ns);
uint8_t application_talker(const struct connection *c, enum capture_dir dir);
/* Does a WebSocket frame with a DERP header begin here? Its payload may be masked. */
bool application_websocket(const struct connection *c, const struct derp_chunk *chunk,
			   enum capture_dir dir);
void application_raise(struct connection *c, enum stream_stage stage);

#endif
