/* SPDX-License-Identifier: BSD-2-Clause */
#include "mem.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void die(size_t count, size_t size)
{
	fprintf(stderr, "derpload: out of memory (%zu x %zu bytes)\n", count, size);
	exit(1);
}

void *mem_zero(size_t count, size_t size)
{
	void *p = calloc(count ? count : 1, size ? size : 1);

	if (!p)
		die(count, size);
	return p;
}

void *mem_resize(void *ptr, size_t count, size_t size)
{
	void *p = reallocarray(ptr, count ? count : 1, size ? size : 1);

	if (!p)
		die(count, size);
	return p;
}

char *mem_string(const char *s)
{
	char *p = strdup(s);

	if (!p)
		die(strlen(s) + 1, 1);
	return p;
}
