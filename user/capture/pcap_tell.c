// SPDX-License-Identifier: BSD-2-Clause
/*
 * The second pass: packets to events, as each node would have seen them. What a node's TCP accepted
 * is told when it arrived, not when it was acknowledged: that it was, in the end, is known from the
 * first pass, and a packet that the relay sends on may leave before the acknowledgement does.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/frame_header.h"
#include "capture/pcap.h"

#define TICK_NS		(100 * NSEC_PER_MSEC)
/* Where nothing happens, ticks grow rarer after this. */
#define QUIET_NS	(5 * NSEC_PER_SEC)
/* A connection whose FINs are both out ends so much later: the last acknowledgements come first. */
#define CLOSE_AFTER_NS	(200 * NSEC_PER_MSEC)
/* The next SYN of a dial would have come by then. */
#define NO_ANSWER_NS	(3 * NSEC_PER_SEC)
#define OTHERS_MOST	4096
#define FRAME_LEN	5	/* of a frame's header */

#define STATE_ESTABLISHED	1
#define STATE_FIN_WAIT1		4
#define STATE_FIN_WAIT2		5
#define STATE_TIME_WAIT		6
#define STATE_CLOSE_WAIT	8
#define STATE_CLOSING		11

static uint64_t max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t conn_id(const struct pcap_conn *c, int side)
{
	return 2 * (uint64_t)c->index + (uint64_t)side + 1;
}

static struct capture_event event_of(const struct pcap_teller *t, const struct pcap_conn *c,
				     int side, enum capture_type type)
{
	return (struct capture_event){
		.type = type, .time_ns = t->now_ns, .node = c->node[side], .conn = conn_id(c, side),
	};
}

/* --- facts -------------------------------------------------------------------------------- */

/* How much of what @side sends the other side has taken. */
static uint64_t accepted(const struct pcap_conn *c, int side)
{
	const struct pcap_stream *st = &c->track.sides[side].stream;

	return max(st->acked, min(st->next, c->acked[side]));
}

static uint8_t tcp_state(const struct pcap_stream *in, uint64_t in_taken,
			 const struct pcap_stream *out)
{
	bool fin_in = in->fin && in_taken >= in->fin;

	if (!out->fin)
		return fin_in ? STATE_CLOSE_WAIT : STATE_ESTABLISHED;
	if (out->acked >= out->fin)
		return fin_in ? STATE_TIME_WAIT : STATE_FIN_WAIT2;
	return fin_in ? STATE_CLOSING : STATE_FIN_WAIT1;
}

/* Those of the node at @side. False: nothing is known yet of one direction. */
static bool get_facts(const struct pcap_conn *c, int side, uint64_t in_taken,
		      struct capture_facts *f)
{
	const struct pcap_stream *in = &c->track.sides[!side].stream;
	const struct pcap_stream *out = &c->track.sides[side].stream;
	uint64_t acked = out->acked ? out->acked : out->first;

	if (!in_taken || !out->sent || !acked)
		return false;
	*f = (struct capture_facts){
		.has_seq = true,
		.rcv_nxt = (uint32_t)in_taken, .copied_seq = (uint32_t)in_taken,
		.rcv_wnd = 1 << 30,
		.snd_una = (uint32_t)acked, .snd_nxt = (uint32_t)out->sent,
		.write_seq = (uint32_t)out->sent,
		.unacked = (uint32_t)(out->sent - min(acked, out->sent)),
		.retransmits = out->retransmits, .snd_wnd = UINT32_MAX,
		.tcp_state = tcp_state(in, in_taken, out),
	};
	return true;
}

/* --- beginnings and ends ------------------------------------------------------------------ */

static enum capture_role role_of(const struct pcap_conn *c, int side)
{
	return side == c->server ? CAPTURE_ACCEPTED : CAPTURE_DIALLED;
}

static void tell_open(const struct pcap_teller *t, struct pcap_conn *c, int side,
		      const struct capture_sink *sink)
{
	struct capture_event e = event_of(t, c, side, CAPTURE_CONN_OPEN);

	if (c->opened[side] || !c->node[side])
		return;
	/* What was only ever asked, or never finished its handshake, is no connection of a server. */
	if (side == c->server && c->started && !c->track.answered)
		return;
	c->opened[side] = true;
	if (c->has_random)
		pcap_keylog_tell(t->keylog, c->random, t->now_ns, sink);
	e.open = (struct capture_conn_open){
		.role = role_of(c, side),
		.local = c->track.sides[side].addr, .remote = c->track.sides[!side].addr,
		.from_start = c->started,
		.in_isn = (uint32_t)c->first[!side], .out_isn = (uint32_t)c->first[side],
		.framed = c->framed,
	};
	sink->event(sink->ctx, &e);
}

static enum capture_how how_closed(const struct pcap_conn *c, int side)
{
	const struct pcap_track *t = &c->track;

	if (c->started && !t->answered)
		return t->rst[!side] ? CAPTURE_CLOSED_REFUSED : CAPTURE_CLOSED_NO_ANSWER;
	if (t->sides[0].stream.fin && t->sides[1].stream.fin)
		return CAPTURE_CLOSED_FIN;
	if (t->rst[side])
		return CAPTURE_CLOSED_RST_OUT;
	if (t->rst[!side])
		return CAPTURE_CLOSED_RST_IN;
	return CAPTURE_CLOSED_UNKNOWN;
}

static void tell_close(const struct pcap_teller *t, struct pcap_conn *c,
		       const struct capture_sink *sink)
{
	struct capture_facts facts;
	struct capture_event e;
	int side;

	if (c->closed)
		return;
	c->closed = true;
	for (side = 0; side < 2; side++) {
		if (!c->opened[side])
			continue;
		e = event_of(t, c, side, CAPTURE_CONN_CLOSE);
		if (get_facts(c, side, accepted(c, !side), &facts))
			e.facts = &facts;
		e.close = (struct capture_conn_close){
			.how = how_closed(c, side),
			.fin_in = c->track.sides[!side].stream.fin,
			.fin_out = c->track.sides[side].stream.fin,
		};
		sink->event(sink->ctx, &e);
	}
}

/* --- connections that are about to end ---------------------------------------------------- */

static void list(struct pcap_teller *t, struct pcap_conn *c)
{
	struct pcap_conn **grown;
	uint32_t capacity;

	if (c->listed || c->closed)
		return;
	if (t->ending_count == t->ending_capacity) {
		capacity = t->ending_capacity ? t->ending_capacity * 2 : 64;
		grown = reallocarray(t->ending, capacity, sizeof(*grown));
		if (!grown)
			return;
		t->ending = grown;
		t->ending_capacity = capacity;
	}
	t->ending[t->ending_count++] = c;
	c->listed = t->ending_count;
}

static void unlist(struct pcap_teller *t, struct pcap_conn *c)
{
	struct pcap_conn *last;

	if (!c->listed)
		return;
	last = t->ending[--t->ending_count];
	t->ending[c->listed - 1] = last;
	last->listed = c->listed;
	c->listed = 0;
}

static bool is_over(const struct pcap_teller *t, const struct pcap_conn *c)
{
	if (c->track.closed_ns)
		return t->now_ns >= c->track.closed_ns + CLOSE_AFTER_NS;
	return t->now_ns >= c->track.syn_ns + NO_ANSWER_NS;
}

static void end_those(struct pcap_teller *t, const struct capture_sink *sink)
{
	struct pcap_conn *c;
	uint32_t i = 0;

	while (i < t->ending_count) {
		c = t->ending[i];
		if (!c->track.closed_ns && c->track.answered) {
			unlist(t, c);
		} else if (is_over(t, c)) {
			unlist(t, c);
			tell_close(t, c, sink);
		} else {
			i++;
		}
	}
}

/* --- time --------------------------------------------------------------------------------- */

static void tick(struct pcap_teller *t, uint64_t time_ns, const struct capture_sink *sink)
{
	struct capture_event e = { .type = CAPTURE_TICK, .time_ns = time_ns };

	t->now_ns = time_ns;
	end_those(t, sink);
	sink->event(sink->ctx, &e);
}

/* Every tenth of a second up to @time_ns; over a long silence, ever rarer. */
static void pass_time(struct pcap_teller *t, uint64_t time_ns, const struct capture_sink *sink)
{
	uint64_t last_ns = t->now_ns, step;

	while (time_ns >= t->tick_ns) {
		step = TICK_NS;
		tick(t, t->tick_ns, sink);
		if (t->tick_ns > last_ns + QUIET_NS)
			step = (t->tick_ns - last_ns) / 8;
		t->tick_ns += step;
	}
	t->now_ns = max(t->now_ns, time_ns);
}

/* --- segments ----------------------------------------------------------------------------- */

static uint8_t flags_of(const struct pcap_segment *s)
{
	return (s->flags & PCAP_TCP_SYN ? CAPTURE_SYN : 0) |
	       (s->flags & PCAP_TCP_FIN ? CAPTURE_FIN : 0) |
	       (s->flags & PCAP_TCP_RST ? CAPTURE_RST : 0);
}

static bool is_bare(const struct pcap_segment *s)
{
	return !s->len && !flags_of(s);
}

static void tell_segment(const struct pcap_teller *t, struct pcap_conn *c, int side, int sender,
			 uint64_t in_taken, const struct pcap_segment *s,
			 const struct capture_sink *sink)
{
	struct capture_event e = event_of(t, c, side, CAPTURE_SEGMENT);
	struct capture_facts facts;

	if (!c->opened[side] || is_bare(s))
		return;
	if (get_facts(c, side, in_taken, &facts))
		e.facts = &facts;
	e.segment = (struct capture_segment){
		.dir = side == sender ? CAPTURE_OUT : CAPTURE_IN, .flags = flags_of(s),
		.seq = s->seq + !!(s->flags & PCAP_TCP_SYN),
		.len = s->len, .captured = s->captured, .data = s->data,
	};
	sink->event(sink->ctx, &e);
}

static void tell_facts(const struct pcap_teller *t, const struct pcap_conn *c, int side,
		       const struct capture_sink *sink)
{
	struct capture_event e = event_of(t, c, side, CAPTURE_FACTS);
	struct capture_facts facts;

	if (!c->opened[side] || !get_facts(c, side, accepted(c, !side), &facts))
		return;
	e.facts = &facts;
	sink->event(sink->ctx, &e);
}

/* The node that sends tells before the one that receives. */
static void tell_both(const struct pcap_teller *t, struct pcap_conn *c, int sender,
		      const struct pcap_segment *s, const struct capture_sink *sink)
{
	uint64_t acked[2] = { c->track.sides[0].stream.acked, c->track.sides[1].stream.acked };
	uint64_t taken = accepted(c, sender);

	pcap_conn_follow(c, s, sender);
	tell_open(t, c, sender, sink);
	tell_open(t, c, !sender, sink);
	tell_segment(t, c, sender, sender, accepted(c, !sender), s, sink);
	/* What the far node had taken before this segment: the rest may be in it. */
	tell_segment(t, c, !sender, sender, taken, s, sink);
	if (accepted(c, sender) != taken || acked[!sender] != c->track.sides[!sender].stream.acked)
		tell_facts(t, c, !sender, sink);
	if (is_bare(s) && acked[!sender] != c->track.sides[!sender].stream.acked)
		tell_facts(t, c, sender, sink);
}

void pcap_tell_segment(struct pcap_teller *t, const struct pcap_segment *s,
		       const struct capture_sink *sink)
{
	struct pcap_conn *c, *replaced;
	int sender;

	pass_time(t, s->time_ns, sink);
	c = pcap_conns_find(t->conns, s, &sender, &replaced);
	if (replaced) {
		unlist(t, replaced);
		tell_close(t, replaced, sink);
	}
	if (!c || c->closed)
		return;
	tell_both(t, c, sender, s, sink);
	if (c->track.closed_ns && (c->track.rst[0] || c->track.rst[1])) {
		unlist(t, c);
		tell_close(t, c, sink);
	} else if (c->track.closed_ns || !c->track.answered) {
		list(t, c);
	}
}

/* --- frames ------------------------------------------------------------------------------- */

/* What the relay's memory said when the file was made. */
static void tell_keys(const struct pcap_teller *t, struct pcap_conn *c, int side,
		      const struct frame_header *h, const struct capture_sink *sink)
{
	struct pcap_node *node = &t->nodes->nodes[c->node[side] - 1];
	struct capture_event e;

	if (!node->named && !key_is_zero(&h->server)) {
		node->named = true;
		e = event_of(t, c, side, CAPTURE_SERVER_KEY);
		e.server_key = h->server;
		sink->event(sink->ctx, &e);
	}
	if (!c->named && !key_is_zero(&h->peer)) {
		c->named = true;
		e = event_of(t, c, side, CAPTURE_PEER);
		e.peer = (struct capture_peer){ .key = h->peer, .is_server = h->peer_is_server };
		sink->event(sink->ctx, &e);
	}
}

void pcap_tell_frame(struct pcap_teller *t, const struct pcap_segment *s,
		     const struct capture_sink *sink)
{
	struct frame_header h;
	struct pcap_conn *c;
	struct capture_event e;
	int sender, side;
	size_t at;

	pass_time(t, s->time_ns, sink);
	c = pcap_conns_peek(t->conns, s, &sender);
	at = frame_header_get(s->data, s->captured, &h);
	side = h.out ? sender : !sender;
	if (!c || !c->framed || c->closed || !at || !c->opened[side])
		return;
	tell_keys(t, c, side, &h, sink);
	e = event_of(t, c, side, CAPTURE_FRAME);
	e.frame = (struct capture_frame){
		.dir = h.out ? CAPTURE_OUT : CAPTURE_IN, .offset = h.offset,
		.from_start = h.from_start, .digest = h.digest,
		.captured = s->captured - (uint32_t)at, .data = s->data + at,
	};
	sink->event(sink->ctx, &e);
}

/* What the relay said when the file was made. */
void pcap_tell_drop(struct pcap_teller *t, const struct pcap_segment *s,
		    const struct capture_sink *sink)
{
	struct capture_event e = { .type = CAPTURE_DROP, .time_ns = s->time_ns };
	struct frame_header h;
	const uint8_t *frame;
	uint32_t i, len;
	size_t at;

	pass_time(t, s->time_ns, sink);
	at = frame_header_get(s->data, s->captured, &h);
	for (i = 0; i < t->nodes->count && !e.node; i++) {
		if (t->nodes->nodes[i].interface == s->interface + 1)
			e.node = i + 1;
	}
	if (!at || !e.node)
		return;
	frame = s->data + at;
	len = (uint32_t)frame[1] << 24 | (uint32_t)frame[2] << 16 | (uint32_t)frame[3] << 8 | frame[4];
	if (len < 2 * KEY_LEN)
		return;
	e.time_ns = t->now_ns;
	e.drop = (struct capture_drop){
		.reason = h.reason, .has_src = h.has_src, .disco = h.disco, .digest = h.digest,
		.len = len - 2 * KEY_LEN,
	};
	memcpy(e.drop.src.b, frame + FRAME_LEN, KEY_LEN);
	memcpy(e.drop.dst.b, frame + FRAME_LEN + KEY_LEN, KEY_LEN);
	sink->event(sink->ctx, &e);
}

void pcap_tell_begin(struct pcap_teller *t, uint64_t time_ns, const struct capture_sink *sink)
{
	struct capture_event e = { .time_ns = time_ns };
	const struct pcap_node *n;
	uint32_t i;

	t->now_ns = time_ns;
	t->tick_ns = time_ns + TICK_NS;
	for (i = 0; i < t->nodes->count; i++) {
		n = &t->nodes->nodes[i];
		e.type = CAPTURE_NODE_UP;
		e.node = i + 1;
		e.node_up = (struct capture_node_up){
			.name = n->name[0] ? n->name : t->file_name,
			.listeners = n->listeners, .listener_count = n->listener_count,
		};
		sink->event(sink->ctx, &e);
	}
	pcap_keylog_tell_others(t->keylog, t->conns, OTHERS_MOST, time_ns, sink);
	e = (struct capture_event){ .type = CAPTURE_READY, .time_ns = time_ns };
	sink->event(sink->ctx, &e);
}

/* No time passes after the last packet; what waits is tried all the same. */
void pcap_tell_end(struct pcap_teller *t, const struct capture_sink *sink)
{
	tick(t, t->now_ns, sink);
}
