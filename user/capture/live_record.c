// SPDX-License-Identifier: BSD-2-Clause
/*
 * Records of the ring to events.
 *
 * A batch is read twice. A segment that comes in passes the hook before TCP decides on it, so what
 * its own record says of rcv_nxt does not cover it; the relay may read it and send it on before
 * anything else is heard of that connection. The first reading notes how far each connection's
 * rcv_nxt comes within the batch; connections that say nothing more of themselves are asked. The
 * second reading hands over, and behind a segment says what of it was accepted, as it is known by
 * then: so a packet's arrival is confirmed before the packet that the relay makes of it. What TCP
 * will throw away for its checksum is not handed over: rcv_nxt may come to cover it, when the true
 * one has taken its place, and must not confirm it.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "capture/live.h"

#define STATE_SYN_SENT		2
#define PENDING_GIVE_UP_NS	NSEC_PER_SEC	/* a forgery in the window is never confirmed */
#define WINDOW_ANY		(1u << 30)	/* as large as TCP knows: it was not told */
#define RELEASE_BYTES		(64ul << 10)	/* the kernel gets space back in such steps */

/* --- facts ----------------------------------------------------------------------------------- */

static void later(uint32_t *seq, uint32_t newer)
{
	if (live_seq_after(newer, *seq))
		*seq = newer;
}

void live_facts_merge(struct capture_facts *facts, const struct capture_facts *newer)
{
	struct capture_facts merged = *newer;

	if (facts->has_seq && newer->has_seq) {
		merged.rcv_nxt = facts->rcv_nxt;
		merged.copied_seq = facts->copied_seq;
		merged.snd_una = facts->snd_una;
		merged.snd_nxt = facts->snd_nxt;
		merged.write_seq = facts->write_seq;
		later(&merged.rcv_nxt, newer->rcv_nxt);
		later(&merged.copied_seq, newer->copied_seq);
		later(&merged.snd_una, newer->snd_una);
		later(&merged.snd_nxt, newer->snd_nxt);
		later(&merged.write_seq, newer->write_seq);
		later(&merged.rcv_nxt, merged.copied_seq);
		later(&merged.snd_nxt, merged.snd_una);
		later(&merged.write_seq, merged.snd_nxt);
		merged.unread = merged.rcv_nxt - merged.copied_seq;
		merged.notsent = merged.write_seq - merged.snd_nxt;
		merged.unacked = merged.snd_nxt - merged.snd_una;
	} else if (facts->has_seq) {
		merged = *facts;
	}
	*facts = merged;
}

/* A socket that dials has no numbers of the other side yet. */
static bool has_facts(const struct abi_segment *s)
{
	return s->has & ABI_HAS_FACTS && s->tcp_state != STATE_SYN_SENT;
}

static void facts_from_record(struct live_conn *conn, const struct abi_segment *s)
{
	struct capture_facts facts = conn->facts;

	facts.tcp_state = s->tcp_state;
	if (!has_facts(s)) {
		conn->facts = facts;
		return;
	}
	facts.has_seq = true;
	facts.rcv_nxt = s->rcv_nxt;
	facts.snd_una = s->snd_una;
	facts.snd_nxt = s->snd_nxt;
	facts.unacked = s->snd_nxt - s->snd_una;
	if (s->has & ABI_ALL_FACTS) {
		conn->all_facts = true;
		facts.has_read = facts.has_queues = true;
		facts.copied_seq = s->copied_seq;
		facts.rcv_wnd = s->rcv_wnd;
		facts.write_seq = s->write_seq;
		facts.snd_wnd = s->snd_wnd;
		facts.unread = s->rcv_nxt - s->copied_seq;
		facts.notsent = s->write_seq - s->snd_nxt;
	} else {
		/* What was read and written is known when it is asked, not now. */
		facts.has_read = facts.has_queues = false;
		facts.rcv_wnd = WINDOW_ANY;
		if (!conn->facts.has_seq) {
			facts.copied_seq = s->rcv_nxt - facts.unread;
			facts.write_seq = s->snd_nxt;
		}
	}
	live_facts_merge(&conn->facts, &facts);
}

/*
 * Where the socket's byte counts begin. The counts and numbers of a record are of one moment where
 * the sender held the socket's lock, or where nothing had arrived; others may be torn and count
 * once they were said twice.
 */
static void learn_base(struct live_conn *conn, const struct abi_segment *s)
{
	uint32_t in = s->rcv_nxt - s->bytes_received, out = s->snd_una - s->bytes_acked;

	if (conn->has_base || !has_facts(s))
		return;
	conn->has_base = s->has & ABI_LOCKED || (conn->base_guessed && conn->base_in == in &&
						 conn->base_out == out);
	conn->base_guessed = true;
	conn->base_in = in;
	conn->base_out = out;
}

/* --- inbound payload ------------------------------------------------------------------------- */

void live_record_handed(struct live_conn *conn, uint32_t seq, uint32_t end)
{
	if (!conn->has_handed) {
		conn->has_handed = true;
		conn->handed = end;
		return;
	}
	if (seq == end || !live_seq_after(seq, conn->handed)) {
		later(&conn->handed, end);
	} else if (conn->island == conn->island_end || live_seq_after(seq, conn->island_end) ||
		   live_seq_after(conn->island, end)) {
		conn->island = seq;
		conn->island_end = end;
	} else {
		if (live_seq_after(conn->island, seq))
			conn->island = seq;
		later(&conn->island_end, end);
	}
	if (conn->island != conn->island_end && !live_seq_after(conn->island, conn->handed)) {
		later(&conn->handed, conn->island_end);
		conn->island = conn->island_end;
	}
}

static void pending_add(struct live *live, struct live_conn *conn)
{
	struct live_conn **bigger;
	size_t room;

	if (conn->pending)
		return;
	if (live->pending_count == live->pending_room) {
		room = live->pending_room ? live->pending_room * 2 : 64;
		bigger = realloc(live->pending, room * sizeof(*bigger));
		if (!bigger)
			return;
		live->pending = bigger;
		live->pending_room = room;
	}
	live->pending[live->pending_count++] = conn;
	conn->pending = true;
	conn->pending_ns = clock_now_ns();
}

static bool is_confirmed(const struct live_conn *conn)
{
	return !conn->has_in || (conn->has_ahead && !live_seq_after(conn->in_end, conn->ahead));
}

/* Bytes of the segment that a record is about: of a TLS record its start stands for all of it. */
static uint32_t span_of(const struct abi_segment *s)
{
	return s->has & ABI_HEAD ? s->len : s->captured;
}

/* Is it the last piece of its segment? The FIN belongs to that one. */
static bool is_last(const struct abi_segment *s)
{
	return s->offset + span_of(s) >= s->len;
}

/* How far the payload goes that a record of inbound payload brings; its FIN counts one. */
static uint32_t piece_end(const struct abi_segment *s)
{
	bool fin = s->flags & ABI_TCP_FIN && is_last(s);

	return s->seq + s->offset + span_of(s) + fin;
}

/* What lies beyond the window, or before what was accepted, is a stranger's or nothing new. */
static bool is_plausible(const struct abi_segment *s)
{
	uint32_t end = piece_end(s);

	return !(s->has & ABI_ALL_FACTS) ||
	       (live_seq_after(end, s->rcv_nxt) &&
		!live_seq_after(end, s->rcv_nxt + s->rcv_wnd + 1));
}

/*
 * TCP had not accepted these bytes when they passed once more: what passed before may have been
 * thrown away (a bad checksum), and is not confirmed before both were handed over.
 */
static void note_contest(struct live_conn *conn, const struct abi_segment *s)
{
	uint32_t seq = s->seq + s->offset;

	if (!conn->has_in || !has_facts(s) || !live_seq_after(conn->in_end, seq) ||
	    live_seq_after(s->rcv_nxt, seq))
		return;
	if (!conn->contested || live_seq_after(conn->contested_at, seq))
		conn->contested_at = seq;
	conn->contested = true;
}

static void note_inbound(struct live_conn *conn, const struct abi_segment *s)
{
	uint32_t end = piece_end(s);

	if (has_facts(s)) {
		if (!conn->has_ahead)
			conn->ahead = s->rcv_nxt;
		conn->has_ahead = true;
		later(&conn->ahead, s->rcv_nxt);
	}
	if (s->dir != ABI_IN || !s->len || !is_plausible(s))
		return;
	note_contest(conn, s);
	if (!conn->has_in)
		conn->in_end = end;
	conn->has_in = true;
	later(&conn->in_end, end);
}

void live_record_pending(struct live *live, struct live_conn *conn, uint32_t end)
{
	if (!conn->has_in)
		conn->in_end = end;
	conn->has_in = true;
	later(&conn->in_end, end);
	if (!is_confirmed(conn))
		pending_add(live, conn);
}

/* FACTS, where TCP has accepted more of what was handed over than was told. */
static void confirm(struct live *live, struct live_conn *conn, uint64_t time_ns)
{
	struct capture_event event;
	uint32_t upto = conn->ahead;

	if (!conn->facts.has_seq || !conn->has_ahead || !conn->has_handed)
		return;
	if (live_seq_after(upto, conn->handed))
		upto = conn->handed;
	if (conn->contested && live_seq_after(upto, conn->contested_at))
		upto = conn->contested_at;
	if (!live_seq_after(upto, conn->facts.rcv_nxt))
		return;
	conn->facts.rcv_nxt = upto;
	conn->facts.unread = upto - conn->facts.copied_seq;
	if (!conn->announced || conn->closed)
		return;
	event = live_conn_event(conn, CAPTURE_FACTS, time_ns);
	live_emit(live, &event);
}

/* Tell what TCP has accepted by now; @all was handed over: forget those that wait for nothing. */
static void pending_tell(struct live *live, uint64_t time_ns, bool all)
{
	uint64_t now_ns = clock_now_ns();
	struct live_conn *conn;
	size_t i;

	for (i = 0; i < live->pending_count; i++) {
		conn = live->pending[i];
		conn->contested &= !all;
		confirm(live, conn, time_ns);
		if (conn->contested)
			continue;
		if ((is_confirmed(conn) && conn->facts.rcv_nxt == conn->ahead) || conn->closed ||
		    now_ns - conn->pending_ns > PENDING_GIVE_UP_NS) {
			conn->pending = false;
			live->pending[i--] = live->pending[--live->pending_count];
		}
	}
}

/* --- segments -------------------------------------------------------------------------------- */

void live_record_addresses(const struct abi_segment *s, struct addr *local, struct addr *remote)
{
	struct addr source, destination;

	addr_set(&source, s->ip, s->saddr, s->sport);
	addr_set(&destination, s->ip, s->daddr, s->dport);
	*local = s->dir == ABI_IN ? destination : source;
	*remote = s->dir == ABI_IN ? source : destination;
}

/* The first reading. */
static void segment_note(struct live *live, const struct abi_segment *s, const uint8_t *data)
{
	struct live_conn *conn;

	if (s->has & ABI_LISTENING) {
		if (!live_check_refuses(s, live_check_sum(s, data)))
			live_early_keep(live, s, data);
		return;
	}
	conn = live_conn_find(live, s->cookie);
	if (!conn)
		conn = live_conn_from_record(live, s);
	if (!conn || conn->closed)
		return;
	if (!conn->started)
		live_conn_start(live, conn, s);
	learn_base(conn, s);
	note_inbound(conn, s);
	if (!is_confirmed(conn) || conn->contested)
		pending_add(live, conn);
}

static void note_flags(struct live_conn *conn, const struct abi_segment *s)
{
	if (s->flags & ABI_TCP_SYN && s->dir == ABI_IN) {
		conn->in_isn = s->seq;
		conn->dialling = false;
	}
	if (s->flags & ABI_TCP_FIN && is_last(s) && (s->dir == ABI_OUT || is_plausible(s)))
		conn->fin[s->dir] = true;
	if (s->flags & ABI_TCP_RST)
		conn->rst[s->dir] = true;
	if (s->tcp_state != STATE_SYN_SENT)
		conn->dialling = false;
	conn->ask = true;
}

/*
 * Has TCP taken all of this segment by now, and none before it is missing? Then that is told with it,
 * and not by an event of its own.
 */
static bool is_taken(const struct live_conn *conn, const struct abi_segment *s)
{
	return s->dir == ABI_IN && s->len && !s->flags && !conn->contested && conn->facts.has_seq &&
	       conn->has_handed && conn->handed == s->seq + s->offset &&
	       conn->island == conn->island_end && conn->has_ahead &&
	       !live_seq_after(piece_end(s), conn->ahead);
}

static uint8_t segment_flags(const struct abi_segment *s)
{
	uint8_t flags = 0;

	if (s->flags & ABI_TCP_SYN && !s->offset)
		flags |= CAPTURE_SYN;
	if (s->flags & ABI_TCP_FIN && is_last(s))
		flags |= CAPTURE_FIN;
	if (s->flags & ABI_TCP_RST)
		flags |= CAPTURE_RST;
	return flags;
}

/* The second reading. */
static void segment_tell(struct live *live, const struct abi_segment *s, const uint8_t *data)
{
	const enum capture_sum sum = live_check_sum(s, data);
	struct capture_event event;
	struct live_conn *conn;
	uint64_t time_ns;

	if (s->has & ABI_LISTENING || live_check_refuses(s, sum))
		return;
	conn = live_conn_find(live, s->cookie);
	if (!conn || conn->closed)
		return;
	time_ns = clock_from_monotonic_ns(s->time_ns);
	conn->record_ns = time_ns;
	conn->told_facts = false;
	note_flags(conn, s);
	live_conn_note_ack(conn, s);
	facts_from_record(conn, s);
	/* A dial is told when it was answered: then both first bytes are known. */
	if (conn->dialling)
		return;
	live_conn_announce(live, conn, time_ns);
	if (is_taken(conn, s)) {
		later(&conn->facts.rcv_nxt, piece_end(s));
		conn->facts.unread = conn->facts.rcv_nxt - conn->facts.copied_seq;
	}
	event = live_conn_event(conn, CAPTURE_SEGMENT, time_ns);
	if (!conn->facts.has_seq)
		event.facts = NULL;
	event.segment = (struct capture_segment){
		.dir = s->dir == ABI_IN ? CAPTURE_IN : CAPTURE_OUT,
		.sum = sum, .flags = segment_flags(s), .seq = s->seq + s->offset,
		.epoch = s->offset || s->has_mark ? 0 : s->epoch, .counted = s->counted,
		.len = span_of(s), .captured = s->has & ABI_UNREADABLE ? 0 : s->captured,
		.mark = !s->offset && s->has_mark ? s->mark : 0,
		.head = s->has & ABI_HEAD && !(s->has & ABI_UNREADABLE),
		.data = data,
	};
	if (!conn->announced)
		return;
	live_emit(live, &event);
	/* What TCP had accepted by then was handed over, or is lost. */
	if (has_facts(s))
		live_record_handed(conn, s->rcv_nxt, s->rcv_nxt);
	if (s->dir == ABI_IN && s->len) {
		live_record_handed(conn, s->seq + s->offset, piece_end(s));
		confirm(live, conn, time_ns);
	}
}

/* --- the ring -------------------------------------------------------------------------------- */

static const struct abi_segment *as_segment(const void *record, uint32_t len, const uint8_t **data)
{
	const struct abi_segment *s = record;

	if (s->type != ABI_SEGMENT || len < sizeof(*s) || s->captured > len - sizeof(*s))
		return NULL;
	*data = (const uint8_t *)(s + 1);
	return s;
}

/* Whose is it? NULL where that is no provisional node. */
static struct live_node *provisional_of(struct live *live, const void *record, uint32_t len)
{
	const struct live_node *any;
	struct live_node *node;
	uint32_t slot = 0;

	for (any = live->nodes; any && !any->provisional; any = any->next)
		;
	if (!any)
		return NULL;
	if (*(const uint8_t *)record == ABI_SEGMENT && len >= sizeof(struct abi_segment))
		slot = ((const struct abi_segment *)record)->slot;
	else if (*(const uint8_t *)record == ABI_SECRET && len >= sizeof(struct abi_secret))
		slot = ((const struct abi_secret *)record)->slot;
	else if (*(const uint8_t *)record == ABI_DROP && len >= sizeof(struct abi_drop))
		slot = ((const struct abi_drop *)record)->slot;
	else if (*(const uint8_t *)record == ABI_COUNTING && len >= sizeof(struct abi_counting))
		slot = ((const struct abi_counting *)record)->slot;
	else if (*(const uint8_t *)record == ABI_FORWARD && len >= sizeof(struct abi_forward))
		slot = ((const struct abi_forward *)record)->slot;
	node = live_node_of_slot(live, slot);
	return node && node->provisional ? node : NULL;
}

static void record_note(struct live *live, const void *record, uint32_t len)
{
	const uint8_t *data;
	const struct abi_segment *s = as_segment(record, len, &data);

	if (provisional_of(live, record, len))
		return;
	if (s)
		segment_note(live, s, data);
	else if (*(const uint8_t *)record == ABI_COUNTING && len >= sizeof(struct abi_counting))
		live_count_note(live, record);
}

static void record_tell(struct live *live, const void *record, uint32_t len)
{
	const uint8_t type = *(const uint8_t *)record, *data;
	const struct abi_segment *s = as_segment(record, len, &data);
	struct live_node *node = provisional_of(live, record, len);

	if (node)
		live_node_hold(live, node, record, len);
	else if (s)
		segment_tell(live, s, data);
	else if (type == ABI_SECRET && len >= sizeof(struct abi_secret))
		live_told_secret(live, record);
	else if (type == ABI_DROP && len >= sizeof(struct abi_drop))
		live_told_drop(live, record);
	else if (type == ABI_COUNTING && len >= sizeof(struct abi_counting))
		live_count_tell(live, record);
	else if (type == ABI_FORWARD && len >= sizeof(struct abi_forward))
		live_count_forward(live, record);
}

void live_record_replay(struct live *live, struct live_node *node)
{
	const struct live_held *h;

	for (h = node->held; h; h = h->next)
		record_note(live, h->record, h->len);
	live_ask_pending(live);
	for (h = node->held; h; h = h->next)
		record_tell(live, h->record, h->len);
	pending_tell(live, live->read_ns, true);
}

void live_drain(struct live *live)
{
	unsigned long pos = live_ring_begin(&live->ring), released = pos;
	unsigned long end = live_ring_end(&live->ring), at = pos;
	const uint64_t began_ns = clock_now_ns();
	const void *record;
	uint32_t len;

	live_reader_awake(live);
	while ((record = live_ring_next(&live->ring, &at, end, &len)))
		record_note(live, record, len);
	/* A record that is still being written ends the batch for both readings. */
	end = at;
	live_ask_pending(live);
	pending_tell(live, live->read_ns, false);
	while ((record = live_ring_next(&live->ring, &pos, end, &len))) {
		record_tell(live, record, len);
		if (pos - released > RELEASE_BYTES) {
			live_ring_release(&live->ring, pos);
			released = pos;
		}
	}
	live_ring_release(&live->ring, pos);
	live->read_ns = began_ns;
	pending_tell(live, live->read_ns, true);
}
