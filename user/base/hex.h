/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef DT_HEX_H
#define DT_HEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 0 to 15, of either case; -1: it is no digit. */
int hex_value(char c);
/* @len bytes from twice as many digits; false where they are not, and @to may be half written. */
bool hex_parse(const char *text, uint8_t *to, size_t len);

#endif
