// SPDX-License-Identifier: BSD-2-Clause
/*
 * Connections of relays, by socket cookie, which is never used twice. They begin with their first
 * record, or with a dump that lists them, and end when the kernel has no such socket any more; the
 * entry stays a while longer, so that a record that was late opens nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "capture/nic.h"

#define CLOSE_AFTER_NS	(50 * NSEC_PER_MSEC)	/* between the socket's end and the close */
#define FORGET_AFTER_NS	(10 * NSEC_PER_SEC)
#define EARLY_AGE_NS	(10 * NSEC_PER_SEC)
#define EARLY_BYTES_MAX	(4u << 20)

#define STATE_SYN_SENT	2

struct live_conn *live_conn_find(struct live *live, uint64_t cookie)
{
	struct live_conn **recent = &live->recent[cookie % LIVE_RECENT], *conn = *recent;
	struct chain *at;

	if (conn && conn->cookie == cookie)
		return conn;
	at = chains_find(&live->conns, cookie);
	if (!at)
		return NULL;
	*recent = ITEM_OF(at, struct live_conn, chain);
	return *recent;
}

static struct live_conn *conn_new(struct live *live, struct live_node *node, uint64_t cookie)
{
	struct live_conn *conn = calloc(1, sizeof(*conn));

	if (!conn || !chains_add(&live->conns, &conn->chain, cookie)) {
		free(conn);
		return NULL;
	}
	conn->cookie = cookie;
	conn->node = node;
	conn->ask = true;
	conn->facts.snd_wnd = UINT32_MAX;
	node->connections++;
	return conn;
}

struct live_walk *live_conn_walk_get(struct live_conn *conn, uint8_t dir)
{
	if (!conn->walks)
		conn->walks = calloc(2, sizeof(*conn->walks));
	return conn->walks ? &conn->walks[dir] : NULL;
}

/* --- the beginning --------------------------------------------------------------------------- */

struct live_conn *live_conn_from_record(struct live *live, const struct abi_segment *s)
{
	struct live_node *node = live_node_of_slot(live, s->slot);
	struct live_conn *conn;

	if (!node)
		return NULL;
	conn = conn_new(live, node, s->cookie);
	if (!conn)
		return NULL;
	conn->role = s->role == ABI_DIALLED ? CAPTURE_DIALLED : CAPTURE_ACCEPTED;
	live_record_addresses(s, &conn->local, &conn->remote);
	conn->first_ns = clock_from_monotonic_ns(s->time_ns);
	nic_dial(live, conn);
	return conn;
}

/* Has no payload byte passed so far? A dialled socket's SYN counts as acknowledged. */
bool live_conn_is_fresh(const struct live_conn *conn, const struct sockdiag_socket *s)
{
	return s->has_info && !s->bytes_received && !s->rqueue &&
	       (conn->dialling ||
		(!s->wqueue && s->bytes_acked <= (conn->role == CAPTURE_DIALLED)));
}

struct live_conn *live_conn_from_socket(struct live *live, struct live_node *node,
					const struct sockdiag_socket *s, enum capture_role role)
{
	struct live_conn *conn = conn_new(live, node, s->cookie);

	if (!conn)
		return NULL;
	conn->role = role;
	conn->local = s->local;
	conn->remote = s->remote;
	conn->ifindex = s->ifindex;
	conn->first_ns = clock_now_ns();
	conn->dialling = s->state == STATE_SYN_SENT;
	conn->fresh = live_conn_is_fresh(conn, s);
	nic_dial(live, conn);
	return conn;
}

/* Was this payload the beginning of @conn, whose first record is @s? */
static bool early_fits(const struct live_early *early, const struct abi_segment *s)
{
	return s->rcv_nxt - early->seq <= early->len;
}

void live_conn_start(struct live *live, struct live_conn *conn, const struct abi_segment *s)
{
	const struct live_early *early = live_early_find(live, s->slot, &conn->local,
							 &conn->remote);
	const uint8_t nothing = ABI_NOTHING_IN | ABI_NOTHING_OUT;

	conn->started = true;
	if (s->flags & ABI_TCP_SYN) {
		conn->fresh = true;
		conn->dialling = s->dir == ABI_OUT;
		conn->out_isn = s->dir == ABI_OUT ? s->seq : s->ack;
		conn->in_isn = s->dir == ABI_OUT ? 0 : s->seq;
	} else if (early && early_fits(early, s)) {
		conn->fresh = true;
		conn->in_isn = early->seq;
		conn->out_isn = early->ack;
	} else {
		conn->fresh = (s->has & nothing) == nothing && s->tcp_state != STATE_SYN_SENT;
		conn->in_isn = s->rcv_nxt;
		conn->out_isn = s->snd_nxt;
	}
}

struct capture_event live_conn_event(const struct live_conn *conn, enum capture_type type,
				     uint64_t time_ns)
{
	return (struct capture_event){
		.type = type, .time_ns = time_ns, .node = conn->node->id, .conn = conn->cookie,
		.facts = &conn->facts,
	};
}

static void tell_early(struct live *live, struct live_conn *conn)
{
	struct live_early *early = live_early_take(live, conn->node->slot, &conn->local,
						   &conn->remote);
	struct capture_event event;

	if (!early)
		return;
	if (conn->fresh && early->seq == conn->in_isn) {
		event = live_conn_event(conn, CAPTURE_SEGMENT, early->time_ns);
		event.facts = NULL;
		event.segment = (struct capture_segment){
			.dir = CAPTURE_IN, .seq = early->seq, .len = early->len,
			.captured = early->len, .data = early->data,
		};
		live_emit(live, &event);
		live_record_handed(conn, early->seq, early->seq + early->len);
	}
	free(early);
}

void live_conn_announce(struct live *live, struct live_conn *conn, uint64_t time_ns)
{
	bool answered = conn->told_dial && !conn->dialling && conn->fresh;
	struct capture_event event;

	if ((conn->announced && !answered) || conn->closed || !conn->node->announced)
		return;
	conn->announced = true;
	conn->told_dial = conn->dialling;
	event = live_conn_event(conn, CAPTURE_CONN_OPEN, time_ns);
	event.facts = conn->facts.tcp_state ? &conn->facts : NULL;
	/* Its first bytes are told next: what the socket says of now would make a gap of them. */
	if (live_early_find(live, conn->node->slot, &conn->local, &conn->remote))
		event.facts = NULL;
	event.open = (struct capture_conn_open){
		.role = conn->role, .local = conn->local, .remote = conn->remote,
		/* Before it is answered the other side's first number is not known. */
		.from_start = conn->fresh && !conn->dialling,
		.in_isn = conn->in_isn, .out_isn = conn->out_isn,
	};
	live_emit(live, &event);
	tell_early(live, conn);
	live_govern_opened(live, conn, time_ns);
}

/* --- the end --------------------------------------------------------------------------------- */

/*
 * A segment passes before TCP has taken what it acknowledges, and a socket that it ends cannot be asked
 * afterwards. What TCP would not take says nothing.
 */
void live_conn_note_ack(struct live_conn *conn, const struct abi_segment *s)
{
	uint32_t end = s->seq + s->len;

	if (s->dir != ABI_IN || !(s->flags & ABI_TCP_ACK) || !(s->has & ABI_ALL_FACTS) ||
	    live_seq_after(s->rcv_nxt, end) || live_seq_after(s->seq, s->rcv_nxt + s->rcv_wnd) ||
	    !live_seq_after(s->ack, s->snd_una) || live_seq_after(s->ack, s->snd_nxt) ||
	    (conn->has_ack && !live_seq_after(s->ack, conn->ack)))
		return;
	conn->has_ack = true;
	conn->ack = s->ack;
}

bool live_conn_take_ack(struct live_conn *conn)
{
	struct capture_facts *f = &conn->facts;

	if (!conn->has_ack || !f->has_seq || !live_seq_after(conn->ack, f->snd_una) ||
	    live_seq_after(conn->ack, f->snd_nxt))
		return false;
	f->snd_una = conn->ack;
	f->unacked = f->snd_nxt - f->snd_una;
	return true;
}

static enum capture_how how_closed(const struct live_conn *conn)
{
	if (conn->dialling)
		return conn->rst[ABI_IN] ? CAPTURE_CLOSED_REFUSED : CAPTURE_CLOSED_NO_ANSWER;
	if (conn->fin[ABI_IN] && conn->fin[ABI_OUT])
		return CAPTURE_CLOSED_FIN;
	if (conn->rst[ABI_OUT])
		return CAPTURE_CLOSED_RST_OUT;
	if (conn->rst[ABI_IN])
		return CAPTURE_CLOSED_RST_IN;
	if (conn->fin[ABI_IN] || conn->fin[ABI_OUT])
		return CAPTURE_CLOSED_FIN;
	return CAPTURE_CLOSED_TIMEOUT;
}

void live_conn_close(struct live *live, struct live_conn *conn)
{
	struct capture_event event;
	uint64_t now = clock_now_ns();

	if (conn->closed)
		return;
	/* A dial that nothing answered is worth a word, an accepted one without a byte is not. */
	if (conn->dialling)
		live_conn_announce(live, conn, conn->first_ns);
	if (conn->announced && live_conn_take_ack(conn)) {
		event = live_conn_event(conn, CAPTURE_FACTS, live->read_ns);
		live_emit(live, &event);
	}
	if (conn->announced) {
		event = live_conn_event(conn, CAPTURE_CONN_CLOSE, live->read_ns);
		event.close = (struct capture_conn_close){
			.how = how_closed(conn),
			.fin_in = conn->fin[ABI_IN], .fin_out = conn->fin[ABI_OUT],
		};
		live_emit(live, &event);
	}
	conn->closed = true;
	conn->gone_ns = now;
	conn->node->connections--;
	live_claim_drop(live, conn);
	nic_undial(conn);
	live_govern_closed(live, conn);
	live_count_forget(live, conn);
	live_heads_forget(live, conn);
}

static void conn_free(struct live *live, struct live_conn *conn)
{
	size_t i;

	if (conn->pending) {
		for (i = 0; i < live->pending_count; i++) {
			if (live->pending[i] == conn)
				live->pending[i--] = live->pending[--live->pending_count];
		}
	}
	for (i = 0; i < live->answer_count; i++) {
		if (live->answers[i].conn == conn)
			live->answers[i--] = live->answers[--live->answer_count];
	}
	live_heads_forget(live, conn);
	chains_del(&live->conns, &conn->chain);
	if (live->recent[conn->cookie % LIVE_RECENT] == conn)
		live->recent[conn->cookie % LIVE_RECENT] = NULL;
	free(conn->walks);
	free(conn);
}

void live_conns_expire(struct live *live, uint64_t now_ns)
{
	struct live_conn *conn;

	LIVE_EACH_CONN(live, conn) {
		if (conn->closed && now_ns - conn->gone_ns > FORGET_AFTER_NS)
			conn_free(live, conn);
		else if (!conn->closed && conn->gone && !conn->node->provisional &&
			 now_ns - conn->gone_ns > CLOSE_AFTER_NS)
			live_conn_close(live, conn);
	}
}

void live_conns_forget(struct live *live, const struct live_node *node)
{
	struct live_conn *conn;

	LIVE_EACH_CONN(live, conn) {
		if (node && conn->node != node)
			continue;
		if (node)
			live_conn_close(live, conn);
		conn_free(live, conn);
	}
	if (!node)
		chains_free(&live->conns);
}

/* --- payload that came before its connection ------------------------------------------------- */

static bool early_is(const struct live_early *early, uint32_t slot, const struct addr *local,
		     const struct addr *remote)
{
	return early->slot == slot && addr_equal(&early->local, local) &&
	       addr_equal(&early->remote, remote);
}

const struct live_early *live_early_find(const struct live *live, uint32_t slot,
					 const struct addr *local, const struct addr *remote)
{
	const struct live_early *early;

	for (early = live->early; early; early = early->next) {
		if (early_is(early, slot, local, remote))
			return early;
	}
	return NULL;
}

struct live_early *live_early_take(struct live *live, uint32_t slot, const struct addr *local,
				   const struct addr *remote)
{
	struct live_early **at, *early;

	for (at = &live->early; (early = *at); at = &early->next) {
		if (!early_is(early, slot, local, remote))
			continue;
		*at = early->next;
		live->early_bytes -= sizeof(*early) + early->len;
		return early;
	}
	return NULL;
}

void live_early_keep(struct live *live, const struct abi_segment *s, const uint8_t *data)
{
	struct addr local, remote;
	struct live_early *early;

	/* More than a chunk does not come with a handshake; a flood of handshakes is not kept. */
	if (s->captured != s->len || s->has & ABI_UNREADABLE ||
	    live->early_bytes > EARLY_BYTES_MAX)
		return;
	live_record_addresses(s, &local, &remote);
	free(live_early_take(live, s->slot, &local, &remote));
	early = malloc(sizeof(*early) + s->len);
	if (!early)
		return;
	*early = (struct live_early){
		.next = live->early, .slot = s->slot, .local = local, .remote = remote,
		.time_ns = clock_from_monotonic_ns(s->time_ns),
		.seq = s->seq, .ack = s->ack, .len = s->len,
	};
	memcpy(early->data, data, s->len);
	live->early = early;
	live->early_bytes += sizeof(*early) + s->len;
}

void live_early_expire(struct live *live, uint64_t now_ns)
{
	struct live_early **at = &live->early, *early;

	while ((early = *at)) {
		if (now_ns && now_ns - early->time_ns < EARLY_AGE_NS) {
			at = &early->next;
			continue;
		}
		*at = early->next;
		live->early_bytes -= sizeof(*early) + early->len;
		free(early);
	}
}
