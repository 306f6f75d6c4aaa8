/* SPDX-License-Identifier: BSD-2-Clause */
/* What is known of nodes, connections and secrets while a file is written. */
#ifndef DT_PCAPNG_STATE_H
#define DT_PCAPNG_STATE_H

#include <uthash.h>
#include <utlist.h>

#include "view/pcapng_private.h"

#define PCAPNG_NO_INTERFACE	UINT32_MAX

struct pcapng_id {
	uint64_t source, number;
};

/*
 * Events come in the order of cause and effect, though their times, taken on several CPUs, may differ
 * from it by a microsecond. A reader goes by time: so no packet is earlier than the one before.
 */
struct pcapng_source {
	uint64_t id;
	uint64_t last_ns;
	UT_hash_handle hh;
};

struct pcapng_node {
	struct pcapng_id id;
	struct pcapng_source *source;
	uint32_t serial;	/* over all sources, from 1 */
	uint32_t interface, frames_interface;
	struct pcapng_statistics segments, frames;
	struct key key;		/* read from memory; zero: not known */
	char name[112];
	char description[256];
	UT_hash_handle hh;
};

struct pcapng_conn {
	struct pcapng_id id;
	uint64_t serial;	/* over all sources, from 1 */
	struct pcapng_node *node;
	struct capture_conn_open open;
	uint64_t open_ns;
	uint32_t ack[2];	/* what a segment of this direction acknowledges */
	uint32_t told[2];	/* what the last packet of this direction acknowledged */
	uint32_t end[2];	/* behind its last payload byte, or SYN, FIN */
	bool has_ack;
	bool has_told[2], has_end[2];
	bool waits;		/* among those whose acknowledgements may be behind */
	bool syn[2];		/* written, by direction */
	bool handshake;		/* written whole */
	bool talked;		/* payload passed */
	bool plain;		/* from its start, and no TLS */
	bool has_random;
	bool decryptable;	/* its secrets are in the file */
	bool has_frames;	/* that were written */
	bool closed;
	uint8_t random[32];
	struct capture_peer peer; /* read from memory; zero: not known */
	struct pcapng_conn *next_closed;
	struct pcapng_conn *waits_next, *waits_prev;
	UT_hash_handle hh;
};

struct pcapng_secrets;

struct pcapng {
	struct pcapng_options options;
	struct pcapng_file *file;
	struct pcapng_source *sources;
	struct pcapng_node *nodes;
	struct pcapng_conn *conns;
	struct pcapng_conn *waiting;	/* utlist; until the next tick */
	struct pcapng_conn *closed;	/* their last frames may come until the next event */
	struct pcapng_secrets *secrets;	/* by client random, oldest first */
	struct pcapng_counts counts;
	uint64_t last_conn;
	uint64_t now_ns, statistics_ns;
	bool statistics_due;
};

struct pcapng_conn *pcapng_conn_find(struct pcapng *p, uint64_t source, uint64_t number);

/* --- pcapng_frames.c ---------------------------------------------------------------------- */

/* Can a stock tool read it from the segments alone? */
bool pcapng_conn_is_readable(struct pcapng *p, struct pcapng_conn *c);
/* What its first bytes say. */
void pcapng_conn_listen(struct pcapng *p, struct pcapng_conn *c, const struct capture_segment *s);
/* A packet that the relay dropped, of that node. */
void pcapng_drop(struct pcapng *p, struct pcapng_node *n, const struct capture_event *e);
void pcapng_secret_take(struct pcapng *p, const struct capture_secret *s);
void pcapng_secrets_free(struct pcapng *p);

#endif
