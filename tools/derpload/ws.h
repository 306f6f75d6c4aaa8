/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * WebSocket (RFC 6455), client side, no extensions: the DERP stream is what the binary messages
 * carry, wherever they are cut.
 */
#ifndef DERPLOAD_WS_H
#define DERPLOAD_WS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define WS_HEAD_MAX 14
#define WS_CONTROL_MAX 125

enum ws_opcode {
	WS_CONTINUE = 0,
	WS_TEXT = 1,
	WS_BINARY = 2,
	WS_CLOSE = 8,
	WS_PING = 9,
	WS_PONG = 10,
};

/* Reading state, all zero at the start. */
struct ws_rx {
	uint8_t head[WS_HEAD_MAX];
	uint8_t head_len;
	uint8_t opcode;			/* of the frame being read */
	bool in_frame;
	uint64_t left;			/* payload bytes still to come */
	uint8_t control[WS_CONTROL_MAX];
	uint8_t control_len;
	void (*on_control)(struct ws_rx *rx, uint8_t opcode, const uint8_t *p, size_t len);
};

/* Turns received bytes into DERP bytes, in place. Returns how many, or -EPROTO. */
ssize_t ws_read(struct ws_rx *rx, uint8_t *buf, size_t len);

/* Writes a masked client frame's head; returns its length. */
size_t ws_head(uint8_t out[static WS_HEAD_MAX], uint8_t opcode, uint64_t len, uint32_t mask);

/* XORs a frame's payload with its mask. */
void ws_mask(uint8_t *p, size_t len, uint32_t mask);

#endif
