/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Secrets that may be a connection's, and record numbers that are only nearly known: a record's
 * tag decides. What a guess costs is bounded by the caller, trial by trial.
 */
#ifndef DT_STREAM_TRIAL_H
#define DT_STREAM_TRIAL_H

#include "capture/capture.h"
#include "stream/cipher.h"

#define TRIAL_VARIANTS	48
/*
 * The number that stands in memory is that of records encrypted, or read, and is written byte by
 * byte: what was captured before it was looked at makes it too high, what is still in buffers too
 * low, a carry off by 256.
 */
#define TRIAL_BELOW	300
#define TRIAL_ABOVE	4096

/* A record to be tried. */
struct trial_record {
	uint64_t index;		/* sealed records of its side before it, as far as they were counted */
	const uint8_t *header, *body;
	size_t len;
};

/* A suite under a candidate's secret. */
struct trial_variant {
	struct cipher cipher[2]; /* by side (client, server); TLS 1.3: the first serves for both */
	uint8_t secret[CIPHER_MAX_SECRET]; /* they are made of */
	int64_t base[2];	/* hint of the record's number less its index */
	uint64_t window;	/* so far beyond the hint is looked */
	bool either;		/* TLS 1.3 from memory: it may be either side's */
	uint8_t side;		/* where not @either */
	bool from_memory;
};

struct trial {
	struct cipher_pool *pool;
	struct trial_variant *variants;	/* NULL: none */
	unsigned int count;
	uint64_t generation;	/* changes as candidates come and go: steps begin anew */
};

enum trial_result {
	TRIAL_FOUND,
	TRIAL_NOTHING,		/* all was tried */
	TRIAL_LATER,		/* the allowance is used up; go on with the same record */
};

/*
 * @counted: sealed records of client and server so far. Where there are too many the oldest goes.
 * -EINVAL where the candidate makes no sense, -ENOSPC where there is no memory.
 */
int trial_add(struct trial *t, const struct capture_candidate *c, const uint64_t counted[2]);
/* A TLS 1.3 traffic secret of one side whose suite is not known, from its first record on. */
int trial_add_traffic(struct trial *t, int side, const uint8_t *secret, size_t len,
		      uint64_t window);

struct trial_found {
	uint64_t number;	/* of the record */
	uint8_t type;		/* of what is in it */
	struct cipher keys;	/* of its side; the caller's from here on */
	struct cipher other;	/* TLS 1.2: of the other side */
	int64_t other_base;	/* its number's hint less its index */
};

/*
 * Tries @r, a record of @side, with what is left of *allowance trials. *step: how far its trials got,
 * 0 with a new record. Of each candidate @guesses numbers are tried, nearest to the hint first; 0: all.
 * @scratch has room for the record, and has it in clear, with *found, where the result is TRIAL_FOUND.
 */
enum trial_result trial_record(struct trial *t, int side, const struct trial_record *r,
			       uint64_t guesses, uint64_t *step, uint64_t *allowance, uint8_t *scratch,
			       struct trial_found *found);

/* Wipes and frees all candidates. */
void trial_clear(struct trial *t);

#endif
