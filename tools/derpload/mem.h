/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory that is there or ends the program: a load generator that has lost part of its books is
 * worth nothing, so it says so in one line and exits 1.
 */
#ifndef DERPLOAD_MEM_H
#define DERPLOAD_MEM_H

#include <stddef.h>

/* count * size bytes, zeroed. Never NULL. */
void *mem_zero(size_t count, size_t size);

/* *ptr made to hold count * size bytes, its contents kept. Never NULL. */
void *mem_resize(void *ptr, size_t count, size_t size);

/* A copy of the string, to be freed. Never NULL. */
char *mem_string(const char *s);

#endif
