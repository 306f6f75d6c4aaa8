/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The books: per directed pair of node keys what was handed to the kernel and what came out at the
 * other end. A pair lives as long as the process, whatever its peers' connections do.
 */
#ifndef DERPLOAD_PAIR_H
#define DERPLOAD_PAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

#include "payload.h"

#define PAIR_NONE UINT64_MAX		/* "this frame has no sequence number" */
#define PAIR_MAX (1u << 21)		/* bound on what a peer's traffic can make us remember */

struct pair_range {
	uint64_t from, to;		/* both inclusive */
};

struct pair {
	uint8_t keys[64];		/* source, destination */
	struct payload_pair mark;

	/* out; all 0 and sends false unless a peer of this process is the source */
	bool sends;
	uint64_t reserved;		/* packets asked for */
	uint64_t planned;		/* packets made, of any kind */
	uint64_t next_seq;		/* numbered ones made */
	uint64_t next_short;		/* others made */
	uint64_t pending;		/* numbered ones made that are still on their way to the kernel */
	uint64_t sent, sent_bytes, sent_unnumbered;
	struct pair_range *unsent;	/* numbers that died in our buffers with a connection */
	uint32_t unsent_len;

	/* in */
	uint64_t received, received_bytes, received_unnumbered;
	uint64_t corrupt, dup, reordered;
	uint64_t timed, took_min_ns, took_max_ns, took_ns; /* from being made to arriving; the sum */
	uint64_t first_seq, end_seq;	/* lowest seen, highest seen + 1 */
	uint64_t class_end[2];		/* the same for data and disco: relays queue them apart */
	uint64_t *seen;			/* a bit per sequence number */
	uint64_t seen_words;

	UT_hash_handle hh;
};

/* The pair of these keys, made at need. NULL only when PAIR_MAX is reached. */
struct pair *pair_get(const uint8_t src[static 32], const uint8_t dst[static 32]);

/* A numbered frame (or seq PAIR_NONE) with this payload was handed to the kernel whole. */
void pair_sent(struct pair *p, uint64_t seq, uint32_t payload_len);
/* It never will be. */
void pair_unsent(struct pair *p, uint64_t seq);
/* A packet of this pair arrived. */
void pair_received(struct pair *p, const uint8_t *payload, size_t len);

/* The pairs in order of their making; NULL ends. */
struct pair *pair_first(void);
struct pair *pair_next(struct pair *p);

/*
 * The next range of numbers at or after `at` that were handed to the kernel (as far as this
 * process knows) and have not arrived. False if there is none. Without the sender in this process,
 * only gaps between the lowest and the highest number seen are known.
 */
bool pair_missing(const struct pair *p, uint64_t at, struct pair_range *r);

#endif
