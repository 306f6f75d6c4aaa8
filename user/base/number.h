/* SPDX-License-Identifier: BSD-2-Clause */
/* Strict numbers from text: the whole string, in range, or nothing. And one way to write a count. */
#ifndef DT_NUMBER_H
#define DT_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

bool number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *value);
/* "65536", "64K", "4M", "1G": powers of 1,024. */
bool number_parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *bytes);
/* "500ms", "10s", "5m", "1h"; a bare number is seconds; fractions too ("0.5s"). */
bool number_parse_duration(const char *text, uint64_t *ns);

/* "1%", "0.1%", in millionths; 0 to 100 %. */
bool number_parse_percent(const char *text, uint32_t *ppm);

/* "12,345": counts are compared by eye. */
struct number_text { char s[28]; };
struct number_text number_grouped(uint64_t value);

#endif
