/* SPDX-License-Identifier: BSD-2-Clause */
/* Strings from the network: printable ASCII only, cut where too long. */
#ifndef DT_STREAM_TEXT_H
#define DT_STREAM_TEXT_H

#include <stddef.h>
#include <stdint.h>

static inline void text_copy(char *to, size_t size, const void *from, size_t len)
{
	const uint8_t *p = from;
	size_t i, n = len < size - 1 ? len : size - 1;

	for (i = 0; i < n; i++)
		to[i] = p[i] > 0x20 && p[i] < 0x7f ? (char)p[i] : '?';
	to[n] = '\0';
}

#endif
