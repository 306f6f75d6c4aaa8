/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory that a connection, and all of them together, may hold in buffers. */
#ifndef DT_STREAM_BUDGET_H
#define DT_STREAM_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct budget {
	size_t used, limit;
	struct budget *parent;	/* NULL: the sum over all connections */
};

/* False, with nothing taken, where it would go over a limit. */
static inline bool budget_take(struct budget *b, size_t bytes)
{
	struct budget *p;

	for (p = b; p; p = p->parent)
		if (bytes > p->limit - p->used)
			return false;
	for (p = b; p; p = p->parent)
		p->used += bytes;
	return true;
}

static inline void budget_give(struct budget *b, size_t bytes)
{
	for (; b; b = b->parent)
		b->used -= bytes;
}

/* *buf, of *have bytes, becomes one of @bytes; false, with nothing changed, where that cannot be. */
bool budget_grow(struct budget *b, uint8_t **buf, size_t *have, size_t bytes);

#endif
