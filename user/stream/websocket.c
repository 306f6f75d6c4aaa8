// SPDX-License-Identifier: BSD-2-Clause
#include "stream/websocket.h"

#include <string.h>

#define FIN		0x80
#define RESERVED	0x70
#define CONTINUATION	0
#define TEXT		1
#define BINARY		2
#define CLOSE		8
#define PONG		10
#define MAX_CONTROL	125
#define MAX_MESSAGE	(1ULL << 24)	/* longer than any of DERP's */

static size_t header_len(const struct websocket *w)
{
	uint8_t len;

	if (w->have < 2)
		return 2;
	len = w->head[1] & 0x7f;
	return 2 + (len == 126 ? 2 : len == 127 ? 8 : 0) + (w->head[1] & 0x80 ? 4 : 0);
}

/* The header is whole. False: it is none. */
static bool begin(struct websocket *w)
{
	uint8_t opcode = w->head[0] & 15, len = w->head[1] & 0x7f;
	size_t at = 2, n = len == 126 ? 2 : len == 127 ? 8 : 0;

	w->have = 0;
	if (w->head[0] & RESERVED || (opcode > BINARY && opcode < CLOSE) || opcode > PONG)
		return false;
	w->left = n ? 0 : len;
	while (n--)
		w->left = w->left << 8 | w->head[at++];
	w->data = opcode < CLOSE;
	if (w->data ? w->left > MAX_MESSAGE : w->left > MAX_CONTROL || !(w->head[0] & FIN))
		return false;
	w->masked = w->head[1] & 0x80;
	w->turn = 0;
	if (w->masked)
		memcpy(w->mask, w->head + at, 4);
	return true;
}

bool websocket_next(struct websocket *w, uint8_t *data, size_t len, size_t *used, size_t *from,
		    size_t *out)
{
	size_t i, n;

	*used = *from = *out = 0;
	while (!w->left && *used < len) {
		n = header_len(w) - w->have;
		if (n > len - *used)
			n = len - *used;
		memcpy(w->head + w->have, data + *used, n);
		w->have += (uint8_t)n;
		*used += n;
		if (w->have >= 2 && w->have == header_len(w) && !begin(w))
			return false;
	}
	n = w->left < len - *used ? (size_t)w->left : len - *used;
	w->left -= n;
	*from = *used;
	*used += n;
	if (!w->data)
		return true;
	*out = n;
	for (i = 0; w->masked && i < n; i++)
		data[*from + i] ^= w->mask[w->turn++ & 3];
	return true;
}

bool websocket_skip(struct websocket *w, uint64_t bytes)
{
	if (bytes > w->left || w->have)
		return false;
	w->left -= bytes;
	w->turn = (uint8_t)((w->turn + bytes) & 3);
	return true;
}
