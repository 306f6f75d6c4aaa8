/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pairs that have been silent for some seconds: most of them, on a node that has been traced for long.
 * Of each the bytes that its numbers need are kept, found by its peers' numbers, until a packet of it
 * is seen.
 */
#ifndef LEDGER_RESTING_H
#define LEDGER_RESTING_H

#include "base/index.h"
#include "base/slab.h"
#include "record/record.h"

struct ledger;
struct pair;
struct peer;

/* All zero is an empty one. */
struct resting {
	struct index index;
	struct slab slab;
	uint64_t swept_ns;
	struct peer **numbered;	/* peers by the numbers by which they are told */
	size_t numbered_size;
};

/* The pair, if it was at rest; it is awake then; without memory the other row. NULL: it was not. */
struct pair *ledger_resting_wake(struct ledger *l, const struct peer *src, const struct peer *dst);
/* Lays down those that have been silent, and told, for long enough. */
void ledger_resting_sweep(struct ledger *l);
/* Wakes those that were last seen before then. */
void ledger_resting_wake_before(struct ledger *l, uint64_t before_ns);
/* All of them, one by one, as they would be told; stops at an error and returns it. */
int ledger_resting_each(const struct ledger *l, void *ctx,
			int (*each)(void *ctx, uint32_t no, const struct record_pair *counts));
void ledger_resting_free(struct ledger *l);

/* --- pairs.c --- */
/* Those with a row of their own, at rest or not. */
size_t ledger_pair_count(const struct ledger *l);
/* A pair as it was, whose references to its peers are still held. NULL without memory. */
struct pair *ledger_pair_restore(struct ledger *l, struct peer *src, struct peer *dst,
				 uint64_t first_ns, const struct record_pair *r);
/* Gives nothing back but its memory. */
void ledger_pair_destroy(struct pair *p);

#endif
