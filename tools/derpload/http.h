/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * URLs, and the HTTP/1.1 upgrade to DERP or to WebSocket.
 */
#ifndef DERPLOAD_HTTP_H
#define DERPLOAD_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define HTTP_REQUEST_MAX 1024
#define HTTP_ANSWER_MAX 16384

struct http_url {
	bool tls;
	char host[256];			/* without brackets */
	uint16_t port;
	char path[256];
};

/* http://HOST[:PORT][/PATH] or https://...; the path is /derp if there is none. */
bool http_url_parse(const char *s, struct http_url *u);

struct http_upgrade {
	bool websocket;
	bool fast_start;		/* the relay shall not answer the request */
	char ws_key[32];		/* made by http_request(), wanted by http_answer() */
};

/* Writes the request; returns its length. */
size_t http_request(char out[static HTTP_REQUEST_MAX], const struct http_url *u,
		    struct http_upgrade *up);

/* Length of a complete 101 answer, 0 if there is more to come, -EPROTO with a sentence in why. */
ssize_t http_answer(const char *p, size_t len, const struct http_upgrade *up, char *why,
		    size_t why_len);

#endif
