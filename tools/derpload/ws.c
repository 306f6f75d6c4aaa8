/* SPDX-License-Identifier: BSD-2-Clause */
#include "ws.h"

#include <errno.h>
#include <string.h>

/* How long the head is that starts so; at least 2 bytes are there. */
static size_t head_size(const uint8_t *h)
{
	switch (h[1] & 0x7f) {
	case 126:
		return 4;
	case 127:
		return 10;
	}
	return 2;
}

/* Takes what is still missing of the head. 1 = head complete, 0 = more bytes wanted, -EPROTO. */
static int take_head(struct ws_rx *rx, const uint8_t **p, const uint8_t *end)
{
	const uint8_t *h = rx->head;

	while (rx->head_len < 2 || rx->head_len < head_size(h)) {
		if (*p == end)
			return 0;
		rx->head[rx->head_len++] = *(*p)++;
	}
	/* No extension was agreed on, and a server does not mask. */
	if (h[0] & 0x70 || h[1] & 0x80)
		return -EPROTO;
	rx->opcode = h[0] & 15;
	rx->left = h[1] & 0x7f;
	if (rx->left >= 126) {
		rx->left = 0;
		for (size_t i = 2; i < head_size(h); i++)
			rx->left = rx->left << 8 | h[i];
	}
	if (rx->opcode >= WS_CLOSE ? rx->left > WS_CONTROL_MAX : rx->opcode > WS_BINARY)
		return -EPROTO;
	rx->head_len = 0;
	rx->control_len = 0;
	rx->in_frame = true;
	return 1;
}

ssize_t ws_read(struct ws_rx *rx, uint8_t *buf, size_t len)
{
	const uint8_t *p = buf, *end = buf + len;
	uint8_t *to = buf;
	size_t n;
	int err;

	for (;;) {
		if (!rx->in_frame) {
			err = take_head(rx, &p, end);
			if (err < 0)
				return err;
			if (!err)
				return to - buf;
		}
		n = end - p;
		if (n > rx->left)
			n = rx->left;
		if (rx->opcode >= WS_CLOSE) {
			memcpy(rx->control + rx->control_len, p, n);
			rx->control_len += n;
		} else {
			memmove(to, p, n);
			to += n;
		}
		p += n;
		rx->left -= n;
		if (rx->left)
			return to - buf;
		rx->in_frame = false;
		if (rx->opcode >= WS_CLOSE && rx->on_control)
			rx->on_control(rx, rx->opcode, rx->control, rx->control_len);
	}
}

size_t ws_head(uint8_t out[static WS_HEAD_MAX], uint8_t opcode, uint64_t len, uint32_t mask)
{
	size_t n = 2;

	out[0] = 0x80 | opcode;
	if (len < 126) {
		out[1] = 0x80 | len;
	} else if (len < 65536) {
		out[1] = 0x80 | 126;
		out[n++] = len >> 8;
		out[n++] = len;
	} else {
		out[1] = 0x80 | 127;
		for (int shift = 56; shift >= 0; shift -= 8)
			out[n++] = len >> shift;
	}
	memcpy(out + n, &mask, 4);
	return n + 4;
}

void ws_mask(uint8_t *p, size_t len, uint32_t mask)
{
	uint8_t m[4];
	size_t i;

	memcpy(m, &mask, 4);
	for (i = 0; i + 4 <= len; i += 4) {
		uint32_t v;

		memcpy(&v, p + i, 4);
		v ^= mask;
		memcpy(p + i, &v, 4);
	}
	for (; i < len; i++)
		p[i] ^= m[i & 3];
}
