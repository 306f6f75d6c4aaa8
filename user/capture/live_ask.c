// SPDX-License-Identifier: BSD-2-Clause
/*
 * Asking sockets by sock_diag: those whose facts may change without a packet that we see, and all
 * of a node, to find connections that are new to us.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "capture/live.h"

#define IDLE_ASK_NS	(10 * NSEC_PER_SEC)	/* idle connections are asked so often */
#define QUIET_ASK_NS	NSEC_PER_SEC
#define BUSY_NS		(20 * NSEC_PER_MSEC)	/* a record this young tells more than an answer */
#define BUSY_ASK_NS	(500 * NSEC_PER_MSEC)	/* and what it does not tell, as times, is asked so often */
#define DIAL_TOLD_NS	NSEC_PER_SEC	/* a dial without an answer is told after that */
#define STATE_SYN_SENT	2
#define STATE_ESTABLISHED 1

/* --- answers --------------------------------------------------------------------------------- */

/*
 * The queues are read a moment before the byte counts: on a connection where packets pass just then
 * they do not belong together, and its records tell the rest.
 */
static struct capture_facts facts_of(const struct live_conn *conn,
				     const struct sockdiag_socket *s, bool busy)
{
	struct capture_facts f = conn->facts;

	f.tcp_state = s->state;
	f.rto_backoff = s->retries;
	f.rtt_us = s->rtt_us;
	f.retransmits = s->retransmits;
	f.snd_wnd = s->snd_wnd != UINT32_MAX ? s->snd_wnd : f.snd_wnd;
	f.has_read = f.has_queues = true;
	f.unread = s->rqueue;
	f.notsent = s->notsent;
	f.unacked = s->wqueue > s->notsent ? s->wqueue - s->notsent : 0;
	f.has_seq = conn->base_guessed && s->state != STATE_SYN_SENT;
	if (!f.has_seq)
		return f;
	f.rcv_nxt = conn->base_in + (uint32_t)s->bytes_received;
	f.snd_una = conn->base_out + (uint32_t)s->bytes_acked;
	if (busy && conn->facts.has_seq) {
		f.has_read = f.has_queues = conn->all_facts;
		return f;
	}
	f.copied_seq = f.rcv_nxt - s->rqueue;
	f.write_seq = f.snd_una + s->wqueue;
	f.snd_nxt = f.write_seq - s->notsent;
	return f;
}

static void answer_add(struct live *live, struct live_conn *conn, const struct capture_facts *facts)
{
	struct live_answer *bigger;
	size_t room;

	if (live->answer_count == live->answer_room) {
		room = live->answer_room ? live->answer_room * 2 : 64;
		bigger = realloc(live->answers, room * sizeof(*bigger));
		if (!bigger)
			return;
		live->answers = bigger;
		live->answer_room = room;
	}
	live->answers[live->answer_count++] = (struct live_answer){ conn, *facts };
}

static bool may_change(const struct live_conn *conn, const struct sockdiag_socket *s)
{
	return s->rqueue || s->wqueue || s->state != STATE_ESTABLISHED || conn->rst[ABI_IN];
}

static void note_answer(struct live *live, struct live_conn *conn, const struct sockdiag_socket *s,
			uint64_t now_ns)
{
	bool busy = now_ns - conn->record_ns < BUSY_NS;
	struct capture_facts facts;

	conn->seen = true;
	conn->inode = s->inode;
	conn->ifindex = s->ifindex;
	if (!s->has_info)
		return;
	if (!conn->started)
		conn->fresh = live_conn_is_fresh(conn, s);
	facts = facts_of(conn, s, busy);
	/* A reset that did not end the connection was a forgery, or out of its window. */
	conn->rst[ABI_IN] = conn->rst[ABI_OUT] = false;
	/* Of a busy one the record stands, with bytes that are read by now: it is asked once more. */
	conn->ask = busy || may_change(conn, s);
	conn->asked_ns = now_ns;
	answer_add(live, conn, &facts);
}

/* --- single connections ---------------------------------------------------------------------- */

#define QUERIES	256

struct questions {
	struct live *live;
	struct relay_netns *netns;	/* of all of them */
	struct sockdiag_query queries[QUERIES];
	size_t count;
	sockdiag_answer answer;
	uint64_t now_ns;
};

static void flush(struct questions *q)
{
	if (q->count)
		sockdiag_ask(q->netns->sockdiag, q->queries, q->count,
			     q->answer, q);
	q->count = 0;
}

static void question(struct questions *q, struct live_conn *conn)
{
	struct relay_netns *netns = conn->node->relay->netns;

	if (q->count == QUERIES || q->netns != netns)
		flush(q);
	q->netns = netns;
	q->queries[q->count++] = (struct sockdiag_query){
		.local = conn->local, .remote = conn->remote, .ifindex = conn->ifindex,
		.cookie = conn->cookie, .user = conn,
	};
}

static void answer_changing(void *ctx, const struct sockdiag_query *query,
			    const struct sockdiag_socket *s)
{
	struct live_conn *conn = query->user;
	struct questions *q = ctx;

	if (s) {
		conn->bound = true;
		note_answer(q->live, conn, s, q->now_ns);
		return;
	}
	conn->asked_ns = q->now_ns;
	if (!conn->bound) {
		/* Bound to a device it is not found by its addresses: the dump tells. */
		conn->node->dump = true;
		return;
	}
	conn->gone = true;
	conn->gone_ns = q->now_ns;
}

/* It goes on: its next record tells the rest, or it is asked when none has come. */
static bool is_busy(const struct live_conn *conn, uint64_t now_ns)
{
	bool ends = conn->fin[ABI_IN] || conn->fin[ABI_OUT] || conn->rst[ABI_IN] ||
		    conn->rst[ABI_OUT] || conn->node->ended;

	return conn->all_facts && !ends && !conn->dialling && now_ns - conn->record_ns < BUSY_NS &&
	       now_ns - conn->asked_ns < BUSY_ASK_NS;
}

static bool is_due(const struct live_conn *conn, uint64_t now_ns)
{
	/* Nothing of it is handed over: that it ends is all it has to say. */
	if (conn->closed || conn->gone || (conn->quiet && now_ns - conn->asked_ns < QUIET_ASK_NS))
		return false;
	return (conn->ask && !is_busy(conn, now_ns)) || conn->dialling || conn->node->ended ||
	       now_ns - conn->asked_ns > IDLE_ASK_NS;
}

void live_ask_changing(struct live *live, uint64_t now_ns)
{
	struct questions q = { .live = live, .answer = answer_changing, .now_ns = now_ns };
	struct live_conn *conn;

	LIVE_EACH_CONN(live, conn) {
		if (is_due(conn, now_ns))
			question(&q, conn);
	}
	flush(&q);
}

static void answer_pending(void *ctx, const struct sockdiag_query *query,
			   const struct sockdiag_socket *s)
{
	struct live_conn *conn = query->user;
	uint32_t rcv_nxt;

	(void)ctx;
	if (!s || !s->has_info)
		return;
	conn->bound = true;
	rcv_nxt = conn->base_in + (uint32_t)s->bytes_received;
	if (!conn->has_ahead || live_seq_after(rcv_nxt, conn->ahead))
		conn->ahead = rcv_nxt;
	conn->has_ahead = true;
}

void live_ask_pending(struct live *live)
{
	struct questions q = { .live = live, .answer = answer_pending };
	struct live_conn *conn;
	size_t i;

	for (i = 0; i < live->pending_count; i++) {
		conn = live->pending[i];
		if (conn->base_guessed && !conn->closed &&
		    !(conn->has_ahead && !live_seq_after(conn->in_end, conn->ahead)))
			question(&q, conn);
	}
	flush(&q);
}

/* --- dumps ----------------------------------------------------------------------------------- */

struct dump {
	struct live *live;
	struct live_node *node;
	const uint32_t *inodes;
	size_t inode_count, new_count;
	uint64_t now_ns;
};

/* Does another relay listen there too (SO_REUSEPORT)? Then only a descriptor tells whose it is. */
static bool is_contested(const struct dump *dump, const struct addr *local)
{
	const struct live_node *node;

	for (node = dump->live->nodes; node; node = node->next) {
		if (node != dump->node && node->relay->netns == dump->node->relay->netns &&
		    relay_listener_of(node->relay, local))
			return true;
	}
	return false;
}

static void found_socket(void *ctx, const struct sockdiag_socket *s)
{
	struct dump *dump = ctx;
	struct live_conn *conn = live_conn_find(dump->live, s->cookie);
	bool held, accepted;

	if (conn) {
		if (conn->node == dump->node && !conn->closed)
			note_answer(dump->live, conn, s, dump->now_ns);
		return;
	}
	held = relay_holds_inode(dump->inodes, dump->inode_count, s->inode);
	accepted = relay_listener_of(dump->node->relay, &s->local);
	/* In the backlog, or closed by the relay and not yet at an end, it has no descriptor. */
	if (!held && !(accepted && !s->inode && !is_contested(dump, &s->local)))
		return;
	conn = live_conn_from_socket(dump->live, dump->node, s,
				     accepted ? CAPTURE_ACCEPTED : CAPTURE_DIALLED);
	if (!conn)
		return;
	dump->new_count++;
	note_answer(dump->live, conn, s, dump->now_ns);
	live_claim_conn(dump->live, conn);
}

int live_ask_node(struct live *live, struct live_node *node, size_t *new_count)
{
	struct dump dump = { .live = live, .node = node, .now_ns = clock_now_ns() };
	struct live_conn *conn;
	uint32_t *inodes = NULL;
	int err;

	if (new_count)
		*new_count = 0;
	LIVE_EACH_CONN(live, conn)
		conn->seen = false;
	/* An ended process holds nothing: what is left of its sockets is known already. */
	err = node->ended ? 0 : relay_socket_inodes(node->relay->pid, &inodes, &dump.inode_count);
	if (err)
		return err;
	dump.inodes = inodes;
	err = sockdiag_dump(node->relay->netns->sockdiag, SOCKDIAG_CONNECTED, NULL, 0,
			    found_socket, &dump);
	free(inodes);
	if (err)
		return err;
	LIVE_EACH_CONN(live, conn) {
		if (conn->node != node || conn->seen || conn->closed || conn->gone ||
		    conn->first_ns > dump.now_ns)
			continue;
		if (conn->bound) {
			conn->ask = true;
			continue;
		}
		conn->gone = true;
		conn->gone_ns = dump.now_ns;
	}
	node->dump = false;
	if (new_count)
		*new_count = dump.new_count;
	return 0;
}

/* --- telling --------------------------------------------------------------------------------- */

void live_ask_tell(struct live *live)
{
	uint64_t now_ns = clock_now_ns();
	struct capture_facts before;
	struct capture_event event;
	struct live_conn *conn;
	size_t i;

	for (i = 0; i < live->answer_count; i++) {
		conn = live->answers[i].conn;
		if (conn->closed || !conn->node->announced)
			continue;
		before = conn->facts;
		live_facts_merge(&conn->facts, &live->answers[i].facts);
		/* An idle one has nothing to say that was not said. */
		if (conn->told_facts && !conn->ask && !memcmp(&conn->facts, &before, sizeof(before)))
			continue;
		/* Where nothing has passed yet, the first byte's record opens it, from its start. */
		if (conn->dialling ? now_ns - conn->first_ns < DIAL_TOLD_NS :
				     !conn->started && conn->fresh)
			continue;
		live_conn_announce(live, conn, live->read_ns);
		event = live_conn_event(conn, CAPTURE_FACTS, live->read_ns);
		live_emit(live, &event);
		conn->told_facts = true;
	}
	live->answer_count = 0;
}
