// SPDX-License-Identifier: BSD-2-Clause
#include "ledger/numbers.h"

#include <stdlib.h>
#include <string.h>

uint32_t numbers_take(struct numbers *n)
{
	uint32_t number;

	if (!n->ready)
		return ++n->last;
	number = n->given[--n->ready];
	n->given[n->ready] = n->given[--n->count];
	return number;
}

void numbers_give(struct numbers *n, uint32_t number)
{
	size_t size = n->size ? n->size * 2 : 64;
	uint32_t *grown;

	if (!number)
		return;
	if (n->count == n->size) {
		grown = realloc(n->given, size * sizeof(*grown));
		if (!grown)
			return;	/* it is never taken again */
		n->given = grown;
		n->size = size;
	}
	n->given[n->count++] = number;
}

void numbers_ready(struct numbers *n)
{
	n->ready = n->count;
}

void numbers_free(struct numbers *n)
{
	free(n->given);
	memset(n, 0, sizeof(*n));
}
