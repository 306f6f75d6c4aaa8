/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The door of ledger: the balanced books of ONE node. DERP frames of its connections in, records
 * out. It knows who is on each connection, which packets entered and have not left, and what became
 * of the rest; it knows nothing of other nodes.
 *
 * The law, at every moment, for the node and every pair, to the frame:
 *
 *	entered = left + in_flight + lost + untraced
 *
 * Every term is counted on its own. How each packet finds its term:
 *
 *  entered	its frame came in (SendPacket on a client's connection, ForwardPacket on a mesh peer's)
 *		and waits in the in-flight list of its pair and class (disco or other). A packet that is
 *		seen leaving, or dropped, and whose entry was not seen, enters then (first_seen).
 *  left	a RecvPacket of it went out on a client's connection, or a ForwardPacket on one of ours
 *		into the mesh. Entry and exit are joined by (pair, length, digest), first in first out;
 *		of equal ones those go first that cannot have left unseen.
 *		Either may be told first: an inbound frame is known only when TCP has confirmed it. An
 *		exit without an entry waits until the tick after which its entry must have been told.
 *		One told later still (its connection's secret was found late) finds its exit in the books
 *		for five seconds, under its sender's name, and is no new packet.
 *  lost	- the relay said so (ledger_drop), joined in the same way; where it names no source, and
 *		  several senders' equal packets are inside, as soon as their number, or what leaves,
 *		  shows whose it was; if the end comes first, each that may have been it is untraced;
 *		- passed: a later packet of the same entry connection, pair, class and exit left, and the
 *		  exit was the only one all the while (no second connection of the destination, no change
 *		  of route), and no observation was missed at the exit meanwhile;
 *		- no route: handled by the relay, and the destination has neither a connection here nor
 *		  is known to be behind a mesh connection, for one second;
 *		- drained: handled by the relay for one second, and its destination's connection here has
 *		  had nothing stuck in its socket for a second (or a packet of its class that entered
 *		  later has left there), and is readable without a gap;
 *		- its entry connection ended with it unread; its exit's connection ended with it inside.
 *  untraced	in flight, and its exit may have been missed: the exit's stream had a gap, or could not be
 *		read, at some moment since it entered, and a later packet has left or a second has passed.
 *		An exit of which more bytes went out than frames were told is not read, or not yet. Who
 *		sent it is not known, and it was told so late that its exit may be in the books already.
 *  taken back	what was inferred to be lost, or given up as untraced, is remembered for half a minute:
 *		one that leaves after all, or is dropped by the relay's word after all, has its entry in
 *		the books already. Sightings without an entry look there last, before they enter anew.
 *  handled: read, and a later packet of its entry connection is known to be through, or nothing is left
 *  to read there and no mesh connection is stuck, or dialled just now: a sender's reader writes to the
 *  mesh itself, and waits for the dial.
 *
 *  in_flight	the rest of the in-flight list, counted one by one.
 *
 * Packets that the kernel counted have no digest. They come as runs, several of one pair and class
 * that followed each other on one connection, and are joined by order and number: what leaves is the
 * oldest of its pair and class. So a loss inside a run shows when its end does not leave; the relay's
 * word of a drop takes one packet off, and one that names no source waits until only one sender's are
 * left, or their fate is decided. Everything else holds for a run as for a packet.
 */
#ifndef DT_LEDGER_H
#define DT_LEDGER_H

#include "capture/capture.h"
#include "record/record.h"
#include "stream/stream.h"

struct ledger_limits {
	uint32_t max_connections;	/* 0: 65,536; over it: known by their frames alone */
	uint32_t max_pairs;		/* 0: 262,144; over it: an exact "other" row (zero keys), where
					 * rows idle for a minute go too once half of it is used */
	uint32_t max_in_flight;		/* 0: 262,144 packets of 96 bytes, an eighth of them for those that
					 * may be taken back; over it the oldest become untraced */
};

struct ledger;

struct ledger *ledger_new(uint32_t node, uint64_t agent, const struct capture_node_up *up,
			  uint64_t now_ns, const struct ledger_limits *limits);
void ledger_free(struct ledger *l);

/* Events of capture that are about this node: connections opened and closed, peers and server keys
 * from memory, drops, lost observations, the NIC, the node's end. Others are ignored. A close must
 * come after the last frame of its connection. */
void ledger_event(struct ledger *l, const struct capture_event *event);

/* What stream makes of its connections. */
void ledger_frame(struct ledger *l, const struct stream_frame *frame);
/* Packets that the kernel counted, as often as they are read there; see runs.c. */
void ledger_run(struct ledger *l, const struct stream_run *run);
void ledger_progress(struct ledger *l, const struct stream_progress *progress);
void ledger_gap(struct ledger *l, const struct stream_gap *gap);
void ledger_info(struct ledger *l, uint64_t conn, const struct stream_info *info);

/*
 * Which frames of a connection's direction may be counted and not be seen? Packets of a client whose key
 * is certain; of a mesh connection forwards, which are named (stream_frame.named): marks need every one
 * of them. 0: none, what is learnt of others needs every packet.
 */
uint8_t ledger_may_count(struct ledger *l, uint64_t conn, enum capture_dir dir);

/*
 * Every socket was asked, and all that was seen before @now_ns has been told: joins are settled,
 * and time passes.
 */
void ledger_tick(struct ledger *l, uint64_t now_ns);

/*
 * The trace ends, or its source does: nothing more will be told of what was before @now_ns. Sightings
 * that wait for their entry are settled; nothing in flight becomes a loss by it. Call it before the
 * last snapshot.
 */
void ledger_end(struct ledger *l, uint64_t now_ns);

/* When the oldest packet in flight entered; UINT64_MAX where none is. */
uint64_t ledger_oldest_ns(const struct ledger *l);

/*
 * Who is to be sampled together with @conn: two that are each other's first have one group, on every
 * node. *link where it joins two nodes. 0: not known yet.
 */
uint32_t ledger_group(struct ledger *l, uint64_t conn, bool *link);

/* Tell what has changed since the last snapshot, as records in record.h's order (without the agent's);
 * @all: everything that is known now (the first snapshot, the last). */
int ledger_snapshot(struct ledger *l, uint64_t now_ns, bool all, const struct record_sink *sink);

#endif
