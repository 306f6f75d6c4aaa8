// SPDX-License-Identifier: BSD-2-Clause
#include "base/frame_header.h"

#include <string.h>

#define LEN_1		60
#define FROM_START	1
#define PEER_IS_SERVER	2
#define HAS_SRC		4
#define IS_DISCO	8
#define DROPPED		2

static void put_be(uint8_t *to, uint64_t v, int bytes)
{
	while (bytes--) {
		to[bytes] = (uint8_t)v;
		v >>= 8;
	}
}

static uint64_t get_be(const uint8_t *from, int bytes)
{
	uint64_t v = 0;

	while (bytes--)
		v = v << 8 | *from++;
	return v;
}

static void put_drop(uint8_t *to, const struct frame_header *h)
{
	to[1] = DROPPED;
	put_be(to + 8, h->node, 4);
	put_be(to + 60, h->digest, 8);
	to[68] = (h->has_src ? HAS_SRC : 0) | (h->disco ? IS_DISCO : 0);
	memcpy(to + 72, h->reason, strnlen(h->reason, FRAME_HEADER_REASON_LEN));
}

static size_t get_drop(const uint8_t *p, struct frame_header *h)
{
	size_t i;

	*h = (struct frame_header){
		.dropped = true, .node = (uint32_t)get_be(p + 8, 4), .digest = get_be(p + 60, 8),
		.has_src = p[68] & HAS_SRC, .disco = p[68] & IS_DISCO,
	};
	for (i = 0; i < FRAME_HEADER_REASON_LEN && p[72 + i]; i++)
		h->reason[i] = p[72 + i] > 0x20 && p[72 + i] < 0x7f ? (char)p[72 + i] : '?';
	return FRAME_HEADER_LEN;
}

void frame_header_put(uint8_t to[static FRAME_HEADER_LEN], const struct frame_header *h)
{
	memset(to, 0, FRAME_HEADER_LEN);
	to[0] = 2;
	if (h->dropped) {
		put_drop(to, h);
		return;
	}
	to[1] = h->out;
	to[2] = h->local.family;
	to[3] = h->accepted ? 1 : h->dialled ? 2 : 0;
	put_be(to + 4, h->local.port, 2);
	put_be(to + 6, h->remote.port, 2);
	put_be(to + 8, h->node, 4);
	put_be(to + 12, h->conn, 8);
	put_be(to + 20, h->offset, 8);
	memcpy(to + 28, h->local.ip, sizeof(h->local.ip));
	memcpy(to + 44, h->remote.ip, sizeof(h->remote.ip));
	put_be(to + 60, h->digest, 8);
	to[68] = (h->from_start ? FROM_START : 0) | (h->peer_is_server ? PEER_IS_SERVER : 0);
	memcpy(to + 72, h->peer.b, KEY_LEN);
	memcpy(to + 104, h->server.b, KEY_LEN);
}

size_t frame_header_get(const uint8_t *p, size_t len, struct frame_header *h)
{
	if (len >= FRAME_HEADER_LEN && p[0] == 2 && p[1] == DROPPED)
		return get_drop(p, h);
	if (len < LEN_1 || !(p[0] == 1 || (p[0] == 2 && len >= FRAME_HEADER_LEN)) || p[1] > 1 ||
	    (p[2] != 4 && p[2] != 6))
		return 0;
	*h = (struct frame_header){
		.out = p[1], .accepted = p[3] == 1, .dialled = p[3] == 2,
		.node = (uint32_t)get_be(p + 8, 4), .conn = get_be(p + 12, 8),
		.offset = get_be(p + 20, 8),
	};
	addr_set(&h->local, p[2], p + 28, (uint16_t)get_be(p + 4, 2));
	addr_set(&h->remote, p[2], p + 44, (uint16_t)get_be(p + 6, 2));
	if (p[0] == 1)
		return LEN_1;
	h->digest = get_be(p + 60, 8);
	h->from_start = p[68] & FROM_START;
	h->peer_is_server = p[68] & PEER_IS_SERVER;
	memcpy(h->peer.b, p + 72, KEY_LEN);
	memcpy(h->server.b, p + 104, KEY_LEN);
	return FRAME_HEADER_LEN;
}
