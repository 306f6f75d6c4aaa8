// SPDX-License-Identifier: BSD-2-Clause
/* What a relay's own code tells by its probes: secrets of handshakes, and packets that it drops. */
#include <string.h>

#include "base/clock.h"
#include "base/packet.h"
#include "capture/live.h"

void live_told_secret(struct live *live, const struct abi_secret *r)
{
	struct live_node *node = live_node_of_slot(live, r->slot);
	char label[ABI_LABEL_LEN + 1];
	struct capture_event event;

	if (!node || !node->announced || !r->label_len || r->label_len > ABI_LABEL_LEN ||
	    r->random_len != 32 || (r->secret_len != 32 && r->secret_len != 48))
		return;
	memcpy(label, r->label, r->label_len);
	label[r->label_len] = '\0';
	event = (struct capture_event){
		.type = CAPTURE_SECRET, .time_ns = clock_from_monotonic_ns(r->time_ns),
		.node = node->id, .secret = { .label = label, .len = r->secret_len },
	};
	memcpy(event.secret.random, r->random, sizeof(event.secret.random));
	memcpy(event.secret.secret, r->secret, r->secret_len);
	live_emit(live, &event);
	explicit_bzero(&event, sizeof(event));
}

/* Relays before v1.80 or so pass a number; the order has not changed since there are reasons. */
static const char *const numbered_reasons[] = {
	"unknown_dest", "unknown_dest_on_fwd", "gone_disconnected", "queue_head", "queue_tail",
	"write_error", "dup_client",
};

/* For these the relay passes the key of whom it was serving just then as the source. */
static bool has_source(const char *reason)
{
	return strcmp(reason, "queue_head") && strcmp(reason, "queue_tail") &&
	       strcmp(reason, "gone_disconnected");
}

static bool drop_reason(const struct abi_drop *r, char reason[static ABI_REASON_LEN + 1])
{
	size_t count = sizeof(numbered_reasons) / sizeof(numbered_reasons[0]);
	size_t i;

	if (!r->reason_len && r->reason_number >= count)
		return false;
	if (!r->reason_len) {
		strcpy(reason, numbered_reasons[r->reason_number]);
		return true;
	}
	for (i = 0; i < r->reason_len && i < ABI_REASON_LEN; i++) {
		reason[i] = (char)r->reason[i];
		if ((reason[i] < 'a' || reason[i] > 'z') && reason[i] != '_')
			return false;
	}
	reason[i] = '\0';
	return true;
}

void live_told_drop(struct live *live, const struct abi_drop *r)
{
	struct live_node *node = live_node_of_slot(live, r->slot);
	char reason[ABI_REASON_LEN + 1] = "";
	struct capture_event event;

	if (!node || !node->announced)
		return;
	live_probes_count_drop(live, node);
	if (!r->has_keys || r->packet_len > DERP_MAX_PACKET || !drop_reason(r, reason)) {
		live->unread_drops++;
		return;
	}
	event = (struct capture_event){
		.type = CAPTURE_DROP, .time_ns = clock_from_monotonic_ns(r->time_ns),
		.node = node->id,
		.drop = {
			.reason = reason, .has_src = has_source(reason),
			.len = (uint32_t)r->packet_len,
			.digest = packet_digest(r->packet, sizeof(r->packet), (uint32_t)r->packet_len),
			.disco = packet_is_disco(r->packet, sizeof(r->packet), (uint32_t)r->packet_len),
		},
	};
	memcpy(event.drop.src.b, r->src, KEY_LEN);
	memcpy(event.drop.dst.b, r->dst, KEY_LEN);
	live_emit(live, &event);
}
