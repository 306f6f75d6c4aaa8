/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Lines from a descriptor, in order, one at a time, and none while the reader is held. Memory is
 * bounded: what is not yet wanted stays in the pipe.
 */
#ifndef DERPLOAD_INPUT_H
#define DERPLOAD_INPUT_H

#include <stdbool.h>
#include <stdint.h>

#define INPUT_LINE_MAX (1024 * 1024)

/* line() gets each line without its end; NULL at the end of the input. Returns 0 or -errno. */
int input_start(int fd, void (*line)(char *line, uint64_t number));

/* Held, no line is handed out. */
void input_hold(bool hold);

#endif
