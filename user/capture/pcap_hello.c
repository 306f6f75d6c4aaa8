// SPDX-License-Identifier: BSD-2-Clause
/*
 * The first bytes of a connection: who is the client, and what it calls the server. A ClientHello
 * (RFC 8446 4.1.2) behind its record's and its message's header:
 *
 *	2 version, 32 random, 1+n session, 2+n suites, 1+n compression, 2+n extensions
 */
#include <string.h>

#include "capture/pcap.h"

#define TLS_ALERT	21
#define TLS_HANDSHAKE	22
#define HELLO_CLIENT	1
#define HELLO_SERVER	2
#define HELLO_RANDOM	11
#define EXTENSION_SNI	0
#define NAME_MAX	255

static bool is_hello(const uint8_t *p, size_t len, uint8_t type)
{
	return len >= 6 && p[0] == TLS_HANDSHAKE && p[1] == 3 && p[5] == type;
}

static bool is_request(const uint8_t *p, size_t len)
{
	static const char *const methods[] = { "GET ", "HEAD ", "POST ", "PUT ", "OPTIONS ",
					       "CONNECT " };
	size_t i, n;

	for (i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		n = strlen(methods[i]);
		if (len >= n && !memcmp(p, methods[i], n))
			return true;
	}
	return false;
}

enum pcap_talk pcap_hello_talk(const uint8_t *p, size_t len, bool first)
{
	if (is_hello(p, len, HELLO_CLIENT) || is_request(p, len))
		return PCAP_TALK_CLIENT;
	if (is_hello(p, len, HELLO_SERVER) || (len >= 5 && !memcmp(p, "HTTP/", 5)))
		return PCAP_TALK_ANSWER;
	/* Too little of it, or a TLS server's refusal: neither tells anything. */
	if (!first || len < 6 || (p[0] == TLS_ALERT && p[1] == 3))
		return PCAP_TALK_MIDDLE;
	return PCAP_TALK_OTHER;
}

bool pcap_hello_random(const uint8_t *p, size_t len, uint8_t random[static 32])
{
	if (!is_hello(p, len, HELLO_CLIENT) || len < HELLO_RANDOM + 32)
		return false;
	memcpy(random, p + HELLO_RANDOM, 32);
	return true;
}

/* --- the server's name -------------------------------------------------------------------- */

/* Names are alike whatever their case. */
static uint64_t digest(const uint8_t *p, size_t len)
{
	uint64_t h = 0xcbf29ce484222325ULL;
	size_t i;

	for (i = 0; i < len; i++)
		h = (h ^ (p[i] >= 'A' && p[i] <= 'Z' ? p[i] | 0x20u : p[i])) * 0x100000001b3ULL;
	return len ? h | 1 : 0;
}

static size_t be16(const uint8_t *p)
{
	return (size_t)p[0] << 8 | p[1];
}

/* Passes over a field that is led by its length of @bytes bytes; false: it is not whole. */
static bool skip_field(const uint8_t **p, size_t *left, size_t bytes)
{
	size_t n;

	if (*left < bytes)
		return false;
	n = bytes + (bytes == 2 ? be16(*p) : **p);
	if (*left < n)
		return false;
	*p += n;
	*left -= n;
	return true;
}

static uint64_t sni_of(const uint8_t *p, size_t left)
{
	size_t len;

	if (left < HELLO_RANDOM + 32)
		return 0;
	p += HELLO_RANDOM + 32;
	left -= HELLO_RANDOM + 32;
	if (!skip_field(&p, &left, 1) || !skip_field(&p, &left, 2) || !skip_field(&p, &left, 1) ||
	    left < 2)
		return 0;
	p += 2;
	left -= 2;
	while (left >= 4) {
		len = be16(p + 2);
		if (len > left - 4)
			return 0;
		/* A list of one: type 0, and the name behind its length. */
		if (be16(p) == EXTENSION_SNI && len >= 5 && !p[6] && be16(p + 7) <= len - 5 &&
		    be16(p + 7) <= NAME_MAX)
			return digest(p + 9, be16(p + 7));
		p += 4 + len;
		left -= 4 + len;
	}
	return 0;
}

static uint64_t host_of(const uint8_t *p, size_t len)
{
	static const char field[] = "\r\nHost: ";
	const uint8_t *at = memmem(p, len, field, sizeof(field) - 1), *end;
	size_t n;

	if (!at)
		return 0;
	at += sizeof(field) - 1;
	end = memchr(at, '\r', (size_t)(p + len - at));
	if (!end)
		return 0;
	n = (size_t)(end - at);
	/* Without the port; an IPv6 address keeps its brackets. */
	if (n && at[0] != '[' && memchr(at, ':', n))
		n = (size_t)((const uint8_t *)memchr(at, ':', n) - at);
	return n <= NAME_MAX ? digest(at, n) : 0;
}

uint64_t pcap_hello_name(const uint8_t *p, size_t len)
{
	return is_hello(p, len, HELLO_CLIENT) ? sni_of(p, len) : host_of(p, len);
}
