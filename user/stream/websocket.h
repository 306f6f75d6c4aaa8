/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * WebSocket frames (RFC 6455) of one direction, taken off: the data of binary messages is one byte
 * stream, however it was cut into frames and messages. Control frames are passed over.
 */
#ifndef DT_STREAM_WEBSOCKET_H
#define DT_STREAM_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "web.h"

struct websocket {
	uint8_t head[WEB_HEADER_MAX];
	uint8_t have;		/* header bytes so far */
	bool data;		/* the current frame is no control frame */
	bool masked;
	uint32_t mask;		/* of the next payload byte the lowest, and so on */
	uint64_t left;		/* of the current frame's payload */
};

/*
 * Takes the next piece of @data: *used bytes, of which *out bytes from *from on are of the stream,
 * unmasked in place. False where these are no WebSocket frames.
 */
bool websocket_next(struct websocket *w, uint8_t *data, size_t len, size_t *used, size_t *from,
		    size_t *out);

/* Does a frame of it begin with what comes next? */
static inline bool websocket_at_boundary(const struct websocket *w)
{
	return !w->left && !w->have;
}

/* Bytes were lost. False where the next frame's start is lost with them. */
bool websocket_skip(struct websocket *w, uint64_t bytes);

#endif
