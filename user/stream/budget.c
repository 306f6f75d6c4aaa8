// SPDX-License-Identifier: BSD-2-Clause
#include "stream/budget.h"

#include <stdlib.h>

bool budget_grow(struct budget *b, uint8_t **buf, size_t *have, size_t bytes)
{
	uint8_t *grown;

	if (!budget_take(b, bytes - *have))
		return false;
	grown = realloc(*buf, bytes);
	if (!grown) {
		budget_give(b, bytes - *have);
		return false;
	}
	*buf = grown;
	*have = bytes;
	return true;
}
