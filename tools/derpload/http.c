/* SPDX-License-Identifier: BSD-2-Clause */
#include "http.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "text.h"

static bool plain(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (s[i] <= ' ' || s[i] >= 0x7f)
			return false;
	return true;
}

bool http_url_parse(const char *s, struct http_url *u)
{
	const char *host, *end, *after;
	uint64_t port;
	char digits[8];

	*u = (struct http_url){ 0 };
	if (!strncmp(s, "https://", 8))
		u->tls = true;
	else if (strncmp(s, "http://", 7))
		return false;
	host = s + (u->tls ? 8 : 7);
	if (*host == '[') {
		end = strchr(++host, ']');
		if (!end)
			return false;
		after = end + 1;
	} else {
		end = after = host + strcspn(host, ":/");
	}
	if (end == host || (size_t)(end - host) >= sizeof(u->host) || !plain(host, end - host))
		return false;
	memcpy(u->host, host, end - host);
	u->port = u->tls ? 443 : 80;
	if (*after == ':') {
		size_t n = strcspn(++after, "/");

		if (n >= sizeof(digits))
			return false;
		snprintf(digits, sizeof(digits), "%.*s", (int)n, after);
		if (!text_u64(digits, 1, 65535, &port))
			return false;
		u->port = port;
		after += n;
	}
	if (*after && *after != '/')
		return false;
	if (strlen(after) >= sizeof(u->path) || !plain(after, strlen(after)))
		return false;
	strcpy(u->path, *after ? after : "/derp");
	return true;
}

size_t http_request(char out[static HTTP_REQUEST_MAX], const struct http_url *u,
		    struct http_upgrade *up)
{
	const char *open = strchr(u->host, ':') ? "[" : "", *close = *open ? "]" : "";
	char port[8] = "", extra[160] = "";
	uint8_t nonce[16];

	if (u->port != (u->tls ? 443 : 80))
		snprintf(port, sizeof(port), ":%u", u->port);
	if (up->websocket) {
		randombytes_buf(nonce, sizeof(nonce));
		EVP_EncodeBlock((unsigned char *)up->ws_key, nonce, sizeof(nonce));
		snprintf(extra, sizeof(extra),
			 "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n"
			 "Sec-WebSocket-Protocol: derp\r\n", up->ws_key);
	} else if (up->fast_start) {
		snprintf(extra, sizeof(extra), "Derp-Fast-Start: 1\r\n");
	}
	return snprintf(out, HTTP_REQUEST_MAX,
			"GET %s HTTP/1.1\r\nHost: %s%s%s%s\r\nUser-Agent: derpload\r\n"
			"Connection: Upgrade\r\nUpgrade: %s\r\n%s\r\n",
			u->path, open, u->host, close, port,
			up->websocket ? "websocket" : "DERP", extra);
}

/* The value of a header inside [p, end), trimmed; NULL if it is not there. */
static const char *header(const char *p, const char *end, const char *name, size_t *len)
{
	size_t n = strlen(name);

	while (p < end) {
		const char *eol = memmem(p, end - p, "\r\n", 2);

		if (!eol)
			eol = end;
		if ((size_t)(eol - p) > n && p[n] == ':' && !strncasecmp(p, name, n)) {
			for (p += n + 1; p < eol && *p == ' '; p++)
				;
			while (eol > p && eol[-1] == ' ')
				eol--;
			*len = eol - p;
			return p;
		}
		p = eol + 2;
	}
	return NULL;
}

static bool ws_accepted(const char *p, const char *end, const char *key)
{
	char text[96], want[32];
	uint8_t sha[SHA_DIGEST_LENGTH];
	const char *v;
	size_t len;

	snprintf(text, sizeof(text), "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
	SHA1((uint8_t *)text, strlen(text), sha);
	EVP_EncodeBlock((unsigned char *)want, sha, sizeof(sha));
	v = header(p, end, "Sec-WebSocket-Accept", &len);
	if (!v || len != strlen(want) || memcmp(v, want, len))
		return false;
	v = header(p, end, "Sec-WebSocket-Protocol", &len);
	return v && len == 4 && !memcmp(v, "derp", 4);
}

ssize_t http_answer(const char *p, size_t len, const struct http_upgrade *up, char *why,
		    size_t why_len)
{
	const char *end = memmem(p, len, "\r\n\r\n", 4), *eol;

	if (!end) {
		if (len < HTTP_ANSWER_MAX && (len < 5 || !memcmp(p, "HTTP/", 5)))
			return 0;
		snprintf(why, why_len, "no HTTP answer to the upgrade request");
		return -EPROTO;
	}
	eol = memmem(p, end + 2 - p, "\r\n", 2);
	if (len < 13 || memcmp(p, "HTTP/1.1 101 ", 13)) {
		snprintf(why, why_len, "upgrade refused: %.*s", (int)(eol - p > 100 ? 100 : eol - p),
			 p);
		return -EPROTO;
	}
	if (up->websocket && !ws_accepted(eol + 2, end + 2, up->ws_key)) {
		snprintf(why, why_len, "upgrade answer is not WebSocket with protocol derp");
		return -EPROTO;
	}
	return end + 4 - p;
}
