/* SPDX-License-Identifier: BSD-2-Clause */
/* What was said once and need not be said again. */
#ifndef DT_SAID_H
#define DT_SAID_H

#include <stdbool.h>

struct said;

/* True the first time; where memory is short, each time. @set: NULL at first. */
bool said_first(struct said **set, const char *text);
void said_free(struct said **set);

#endif
