/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which numbers of peers and pairs each node of a file has told: what uses another one is damaged, and
 * what tells one too high would make whoever keeps them allocate as much.
 */
#ifndef DT_RECORD_DECLARED_H
#define DT_RECORD_DECLARED_H

#include "base/hash.h"
#include "base/index.h"
#include "record/record.h"

/* All zero is an empty one. */
struct declared {
	struct declared_node {
		uint64_t agent;
		uint32_t node;
		uint32_t peers, pairs;	/* numbers so far */
	} *nodes;			/* [0] is none */
	uint32_t count, size;
	struct index index;
	struct seed seed;
};

/* Takes in what @r tells. False: it uses a number that was not told, or there is no memory. */
bool declared_check(struct declared *d, const struct record *r);
void declared_free(struct declared *d);

#endif
