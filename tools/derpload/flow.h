/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A flow: count packets of one pair on one peer's connection, at a rate or flat out. It ends with
 * one "sent" event, when the last packet is with the kernel or can no longer get there.
 */
#ifndef DERPLOAD_FLOW_H
#define DERPLOAD_FLOW_H

#include <stdbool.h>
#include <stdint.h>

#include "outq.h"
#include "payload.h"
#include "peer.h"

#define FLOW_BURST_MAX 1024
#define FLOW_BURST_BYTES (256 * 1024)	/* a burst ends here whatever its count */

struct flow_options {
	const char *id;			/* NULL: none */
	enum payload_kind kind;
	uint64_t count;
	uint64_t size[2];		/* bytes, min and max */
	uint64_t rate;			/* packets per second, 0: flat out */
	uint64_t burst;			/* packets per write */
	bool coalesce;			/* writes end inside packets */
};

/* Several flows under one id, and the event when all have ended. */
struct flow_group;
struct flow_group *flow_group_begin(const char *id);
void flow_group_end(struct flow_group *g);

/*
 * Starts it; group may be NULL. With forward, ForwardPacket frames from src to dst instead of
 * SendPacket frames of the peer itself. 0 or -errno with err filled.
 */
int flow_start(struct peer *p, const uint8_t src[static 32], const uint8_t dst[static 32],
	       bool forward, const struct flow_options *o, struct flow_group *group, char *err,
	       size_t err_len);

/* Makes the next write of the peer's flows in turn; false if none has anything now. */
bool flow_fill(struct peer *p);

/* Ends all flows of this id early; NULL: all there are. Returns how many. */
uint32_t flow_stop(const char *id);

/* A packet went to the kernel. */
void flow_sent(const struct outq_record *r);
/* It was given up with the connection. */
void flow_unsent(const struct outq_record *r);
/* The peer is down, its records dropped: its flows end. */
void flow_fail(struct peer *p, const char *why);

/* Flows not ended. */
uint32_t flow_active(void);

#endif
