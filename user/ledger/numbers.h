/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Numbers that stand for something in records, small ones first: taken, and given back. One that was
 * given back is taken again from the next snapshot on, so that in one snapshot each means one thing.
 */
#ifndef LEDGER_NUMBERS_H
#define LEDGER_NUMBERS_H

#include <stddef.h>
#include <stdint.h>

/* All zero: none was taken yet. */
struct numbers {
	uint32_t last;
	uint32_t *given;
	size_t count, size;
	size_t ready;		/* of those given back, the first so many may be taken */
};

/* Never 0. */
uint32_t numbers_take(struct numbers *n);
/* 0 is accepted: none. */
void numbers_give(struct numbers *n, uint32_t number);
/* A snapshot begins. */
void numbers_ready(struct numbers *n);
void numbers_free(struct numbers *n);

#endif
