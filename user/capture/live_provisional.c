// SPDX-License-Identifier: BSD-2-Clause
/*
 * What may be a relay, until it proves to be one: a client of its DERP server stands in its
 * memory. Its sockets are claimed like any relay's and what passes them is held, so that the first
 * client's packets are in the books; where that becomes too much it is something else that is busy,
 * and nothing more is taken of it until there is proof.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "capture/live.h"

#include "derptrace.skel.h"

#define HELD_MAX	(2u << 20)			/* bytes of records per process */
#define PROOF_FIRST_NS	(100 * NSEC_PER_MSEC)		/* between looks, doubled ... */
#define PROOF_LAST_NS	(60 * NSEC_PER_SEC)		/* ... up to this */

static void mute(struct live *live, struct live_node *node, bool on)
{
	uint64_t bit = 1ull << (node->slot % 64);

	node->muted = on;
	if (node->slot >= ABI_SLOTS)
		return;
	if (on)
		live->skel->bss->muted_slots[node->slot / 64] |= bit;
	else
		live->skel->bss->muted_slots[node->slot / 64] &= ~bit;
}

void live_node_held_free(struct live_node *node)
{
	struct live_held *h;

	while ((h = node->held)) {
		node->held = h->next;
		/* It may hold secrets. */
		explicit_bzero(h->record, h->len);
		free(h);
	}
	node->held_end = &node->held;
	node->held_bytes = 0;
}

void live_node_hold(struct live *live, struct live_node *node, const void *record, uint32_t len)
{
	struct live_held *h;

	if (node->muted)
		return;
	if (!node->held) {
		node->held_end = &node->held;
		/* A client that is met now may be in its memory very soon. */
		if (node->proof_ns > clock_now_ns() + PROOF_FIRST_NS && !node->proof_wait_ns)
			node->proof_ns = clock_now_ns() + PROOF_FIRST_NS;
	}
	h = node->held_bytes + len > HELD_MAX ? NULL : malloc(sizeof(*h) + len);
	if (!h) {
		mute(live, node, true);
		live_node_held_free(node);
		live_conns_forget(live, node);
		return;
	}
	h->next = NULL;
	h->len = len;
	memcpy(h->record, record, len);
	*node->held_end = h;
	node->held_end = &h->next;
	node->held_bytes += len;
}

void live_node_prove(struct live *live, struct live_node *node)
{
	node->provisional = false;
	if (node->muted)
		mute(live, node, false);
	live_node_announce(live, node);
	live_record_replay(live, node);
	live_node_held_free(node);
}

void live_node_look(struct live *live, struct live_node *node, uint64_t now_ns)
{
	/* Without a packet nothing has changed since the last look. */
	if (!node->provisional || node->search || (!node->held && !node->muted) ||
	    now_ns < node->proof_ns)
		return;
	node->proof_wait_ns = node->proof_wait_ns ? node->proof_wait_ns * 2 : PROOF_FIRST_NS;
	if (node->proof_wait_ns > PROOF_LAST_NS)
		node->proof_wait_ns = PROOF_LAST_NS;
	node->proof_ns = now_ns + node->proof_wait_ns;
	live_search_start(live, node);
}
