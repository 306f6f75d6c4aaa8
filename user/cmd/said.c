// SPDX-License-Identifier: BSD-2-Clause
#include "cmd/said.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>

struct said {
	UT_hash_handle hh;
	char text[];
};

bool said_first(struct said **set, const char *text)
{
	size_t len = strlen(text);
	struct said *s;

	HASH_FIND(hh, *set, text, len, s);
	if (s)
		return false;
	s = calloc(1, sizeof(*s) + len + 1);
	if (!s)
		return true;
	memcpy(s->text, text, len);
	HASH_ADD_KEYPTR(hh, *set, s->text, len, s);
	return true;
}

void said_free(struct said **set)
{
	struct said *s, *next;

	HASH_ITER(hh, *set, s, next) {
		HASH_DEL(*set, s);
		free(s);
	}
}
