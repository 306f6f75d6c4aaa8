/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * HTTP/1 of one connection, as far as it leads to DERP: requests and answers until a connection is
 * upgraded. What the headers tell goes into struct stream_info.
 */
#ifndef DT_STREAM_HTTP_H
#define DT_STREAM_HTTP_H

#include "stream/budget.h"
#include "stream/stream.h"

enum http_result {
	HTTP_MORE,		/* all was used; it goes on */
	HTTP_UPGRADED,		/* what follows is DERP, or WebSocket frames: info->websocket */
	HTTP_OTHER,		/* it is not HTTP/1, or was upgraded to something else */
};

enum http_wanted {
	HTTP_WANTS_NOTHING,
	HTTP_WANTS_DERP,
	HTTP_WANTS_WEBSOCKET,
	HTTP_WANTS_OTHER,
};

struct http_side {
	enum {
		HTTP_START,
		HTTP_HEAD,
		HTTP_BODY,	/* @left bytes */
		HTTP_CHUNK_SIZE,
		HTTP_CHUNK,	/* @left bytes, then a line's end */
		HTTP_TRAILER,
	} state;
	uint8_t *buf;		/* a head, or a line of chunked coding, that is not whole */
	size_t len, cap;
	uint64_t left;
};

struct http {
	struct http_side sides[2]; /* requests, answers */
	enum http_wanted wanted;
	bool head_only;		/* the last request was HEAD: its answer has no body */
	bool refused;		/* the last upgrade was answered with something else than 101 */
};

/* Bytes of @side (0: requests, 1: answers). *used: how many belong to HTTP. */
enum http_result http_feed(struct http *h, int side, const uint8_t *data, size_t len,
			   struct budget *budget, struct stream_info *info, size_t *used);
void http_clear(struct http *h, struct budget *budget);

/* Could this be the first bytes of a request, or of an answer? */
bool http_starts(int side, const uint8_t *data, size_t len);

#endif
