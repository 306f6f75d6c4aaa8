// SPDX-License-Identifier: BSD-2-Clause
#include "stream/websocket.h"

#include <string.h>

static size_t header_len(const struct websocket *w)
{
	return w->have < 2 ? 2 : web_header_len(w->head[1]);
}

/* The header is whole. False: it is none. */
static bool begin(struct websocket *w)
{
	struct web_frame f;

	w->have = 0;
	if (!web_read(w->head, &f))
		return false;
	w->left = f.len;
	w->data = f.data;
	w->masked = f.masked;
	w->mask = f.mask;
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
	for (i = 0; w->mask && i < n; i++)
		data[*from + i] ^= (uint8_t)(w->mask >> (i & 3) * 8);
	w->mask = web_mask_at(w->mask, (unsigned int)n);
	return true;
}

bool websocket_skip(struct websocket *w, uint64_t bytes)
{
	if (bytes > w->left || w->have)
		return false;
	w->left -= bytes;
	w->mask = web_mask_at(w->mask, (unsigned int)bytes);
	return true;
}
