/* SPDX-License-Identifier: BSD-2-Clause */
/* For test_counting.c: what is on the connection, and what is to be told of it. */
#ifndef DT_TEST_COUNTING_FRAMES_H
#define DT_TEST_COUNTING_FRAMES_H

#include "counting_world.h"

#include "base/packet.h"

/* Its packets are told apart by what stands further behind. */
static const uint8_t disco_magic[] = { 'T', 'S', 0xf0, 0x9f, 0x92, 0xac };
#define DISCO_MIN	62

/* Written, alone or with those before it: a WebSocket's messages hold several, or parts. */
static void add_frame(struct world *w, struct bytes *b, int side, uint8_t type, const uint8_t *payload,
		      uint32_t len)
{
	const uint8_t head[DERP_HEADER_LEN] = { type, 0, 0, (uint8_t)(len >> 8), (uint8_t)len };

	bytes_add(b, head, sizeof(head));
	bytes_add(b, payload, len);
	if (w->dialog.websocket && chance_percent(&w->chance, 50))
		return;
	w->starts[w->start_count++] = w->dialog.wire[w->dir].len;
	dialog_stream(&w->dialog, side, b->p, b->len);
	b->len = 0;
}

/* Of the packet at @p, as latency.h says. */
static bool is_sampled(const uint8_t *p, uint32_t len)
{
	bool disco = len >= DISCO_MIN && !memcmp(p, disco_magic, sizeof(disco_magic));
	uint64_t first, second;

	if (len < 16)
		return false;
	memcpy(&first, p, 8);
	memcpy(&second, p + (disco ? LATENCY_NONCE : 8), 8);
	return latency_sampled(first, second);
}

static void make_frames(struct world *w, int side)
{
	const uint32_t keys = w->type == DERP_FORWARD_PACKET ? 64 : 32;
	struct bytes written = { 0 };
	uint8_t payload[64 + 3000];
	uint32_t i, n, len, k;

	for (i = 0; i < 600; i++) {
		bool tiny = i / 100 % 2;

		if (chance_percent(&w->chance, 3)) {
			memset(payload, 7, 8);
			add_frame(w, &written, side, DERP_PING, payload, 8);
			continue;
		}
		len = chance_between(&w->chance, 0, tiny ? 20 : 2900);
		k = chance_between(&w->chance, 0, KEYS - 1);
		memset(payload, 0, keys);
		payload[0] = (uint8_t)k;
		for (n = 0; n < len; n++)
			payload[keys + n] = (uint8_t)chance_next(&w->chance);
		if (len >= DISCO_MIN && chance_percent(&w->chance, 20))
			memcpy(payload + keys, disco_magic, sizeof(disco_magic));
		add_frame(w, &written, side, w->type, payload, keys + len);
		w->truth[k].frames++;
		w->truth[k].bytes += len;
		w->sampled[w->digest_count] = is_sampled(payload + keys, len);
		w->digests[w->digest_count++] = packet_digest(payload + keys, len, len);
	}
	dialog_stream(&w->dialog, side, written.p, written.len);
	bytes_free(&written);
}

#endif
