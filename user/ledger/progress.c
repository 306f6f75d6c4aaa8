// SPDX-License-Identifier: BSD-2-Clause
/*
 * How far TCP came with each connection: what was read, what is stuck, what was acknowledged.
 */
#include "ledger/internal.h"

#include <stdlib.h>

#define MIN_PACKET_BYTES (DERP_HEADER_LEN + DERP_KEY_LEN + 1) /* what may be a packet on its way out */
#define ACK_NS		(500 * MSEC_NS)	/* and a round trip: so long may an acknowledgement take, RFC 1122 */
#define STATE_FIN_WAIT1	4		/* of <netinet/tcp.h> */
#define STATE_FIN_WAIT2	5
#define STATE_LAST_ACK	9
#define STATE_CLOSING	11
#define RING_FIRST	16u
#define RING_MAX	65536u	/* beyond, neighbours are taken together */

/* Packets sent on a connection and not acknowledged. */
struct unacked {
	uint64_t pos;		/* position behind it */
	uint64_t time_ns;
	struct pair *pair;	/* NULL on mesh connections */
	uint32_t packets;
	uint32_t each;		/* a run's: TCP bytes of one, on average */
};

struct ring {
	uint32_t size, first, count;
	struct unacked v[];
};

static struct unacked *ring_at(struct ring *r, uint32_t n)
{
	return &r->v[(r->first + n) & (r->size - 1)];
}

/* False where it is as large as it gets, or there is no memory. */
static bool ring_grow(struct ring **ring)
{
	uint32_t size = *ring ? (*ring)->size * 2 : RING_FIRST, i;
	struct ring *r = size <= RING_MAX ? malloc(sizeof(*r) + size * sizeof(r->v[0])) : NULL;

	if (!r)
		return false;
	*r = (struct ring){ .size = size, .count = *ring ? (*ring)->count : 0 };
	for (i = 0; i < r->count; i++)
		r->v[i] = *ring_at(*ring, i);
	free(*ring);
	*ring = r;
	return true;
}

void ledger_conn_sent(struct conn *c, const struct sight *s, struct pair *pair)
{
	const uint32_t head = DERP_HEADER_LEN + (pair ? 1 : 2) * DERP_KEY_LEN;
	struct ring *r;
	struct unacked *u;

	if (c->shared)
		return;
	if ((!c->ring || c->ring->count == c->ring->size) && !ring_grow(&c->ring)) {
		if (!c->ring)
			return;
		r = c->ring;
		u = ring_at(r, r->count - 1);
		u->pos = s->pos;
		u->packets += sight_packets(s);
		u->each = 0;
		return;
	}
	r = c->ring;
	if (pair)
		pair->refs++;
	*ring_at(r, r->count++) = (struct unacked){
		s->pos, s->time_ns, pair, sight_packets(s),
		head + (s->run ? (uint32_t)(s->bytes / s->run) : s->len),
	};
}

static void ring_drop(struct conn *c)
{
	free(c->ring);
	c->ring = NULL;
}

static void mesh_acked(struct mesh *m, const struct unacked *u)
{
	m->acked += u->packets;
	if (u->each > m->max_acked)
		m->max_acked = u->each;
}

uint32_t ledger_conn_stuck(const struct conn *c)
{
	return c->ring && c->ring->count ? ring_at(c->ring, 0)->each : 0;
}

void ledger_conn_acked(struct conn *c)
{
	struct ring *r = c->ring;
	struct unacked *u;

	while (r && r->count && (u = ring_at(r, 0))->pos <= c->out_acked) {
		if (u->pair)
			ledger_pair_put(u->pair);
		else if (c->mesh)
			mesh_acked(c->mesh, u);
		r->first++;
		r->count--;
	}
}

/* Of a run a part may be acknowledged. */
static uint32_t packets_behind(const struct unacked *u, uint64_t acked)
{
	uint64_t n = u->each ? (u->pos - acked + u->each - 1) / u->each : u->packets;

	return n < u->packets ? (uint32_t)n : u->packets;
}

/*
 * A node that dies, or closes, leaves what it just sent to its kernel, and the acknowledgement may have
 * come after the socket was asked for the last time. A FIN that answers the node's brings it along, and
 * the socket is gone with it. Whom the far end cut off has had none.
 */
static bool may_be_acked(const struct conn *c, const struct unacked *u)
{
	if (c->how == CAPTURE_CLOSED_TIMEOUT)
		return false;
	if (c->fin_in && c->ends_here)
		return true;
	if (!c->ends_here && (c->fin_in || c->how == CAPTURE_CLOSED_RST_IN))
		return false;
	return u->time_ns + ACK_NS + c->rtt_us * 1000ull > c->acked_ns;
}

void ledger_conn_unacked(struct ledger *l, struct conn *c)
{
	struct ring *r = c->ring;
	struct pair_more *m;
	struct unacked *u;
	struct pair *p;

	ledger_conn_acked(c);
	for (; r && r->count; r->first++, r->count--) {
		u = ring_at(r, 0);
		if (!u->pair)
			continue;
		p = ledger_pair_now(u->pair);
		m = c->has_acked && !may_be_acked(c, u) ? ledger_pair_more(p) : NULL;
		if (m) {
			if (!m->last_hop)
				m->last_hop_first_ns = u->time_ns;
			m->last_hop += packets_behind(u, c->out_acked);
			if (u->time_ns > m->last_hop_last_ns)
				m->last_hop_last_ns = u->time_ns;
			ledger_pair_dirty(l, p);
		}
		ledger_pair_put(u->pair);
	}
	ring_drop(c);
}

static void note_blocked(struct conn *c, uint64_t time_ns)
{
	if (c->blocked_from_ns && time_ns > c->blocked_from_ns) {
		c->blocked_ns += time_ns - c->blocked_from_ns;
		c->blocked_from_ns = time_ns;
	}
	if (!c->notsent)
		c->blocked_from_ns = 0;
	else if (!c->blocked_from_ns)
		c->blocked_from_ns = time_ns;
}

/* The relay has closed its end; what it had written may be on its way for long. */
static bool has_left(uint8_t tcp_state)
{
	return tcp_state == STATE_FIN_WAIT1 || tcp_state == STATE_FIN_WAIT2 ||
	       tcp_state == STATE_LAST_ACK || tcp_state == STATE_CLOSING;
}

void ledger_conn_facts(struct conn *c, const struct capture_facts *f, uint64_t time_ns)
{
	if (f->has_read) {
		c->has_read = true;
		c->unread = f->unread;
	}
	if (f->has_queues) {
		c->has_queues = true;
		c->notsent = f->notsent;
	}
	c->unacked = f->unacked;
	if (f->rtt_us)
		c->rtt_us = f->rtt_us;
	if (f->retransmits > c->retransmits)
		c->retransmits = f->retransmits;
	c->snd_wnd = f->snd_wnd;
	if (f->tcp_state == 1)
		c->steps |= STEP_ESTABLISHED;
	if (!c->left_ns && has_left(f->tcp_state))
		c->left_ns = time_ns;
	c->ends_here |= f->tcp_state == STATE_FIN_WAIT1 || f->tcp_state == STATE_FIN_WAIT2;
}

void ledger_progress(struct ledger *l, const struct stream_progress *p)
{
	struct conn *c = ledger_conn_get(l, p->conn, p->time_ns);
	bool acked = false;

	if (p->time_ns > l->now_ns)
		l->now_ns = p->time_ns;
	if (!c || c->shared || c->closed_ns)
		return;
	c->dirty = true;
	if (p->in_arrived > c->in_arrived) {
		c->in_arrived = p->in_arrived;
		c->last_in_ns = p->time_ns;
		c->steps |= STEP_ESTABLISHED;
	}
	if (p->has_read && p->in_read > c->in_read)
		c->in_read = p->in_read;
	c->has_read |= p->has_read;
	if (p->out_sent > c->out_sent) {
		c->out_sent = p->out_sent;
		c->last_out_ns = p->time_ns;
	}
	if (p->has_acked)
		c->acked_ns = p->time_ns;
	if (p->has_acked && (p->out_acked > c->out_acked || !c->has_acked)) {
		acked = p->out_acked > c->out_acked;
		c->out_acked = p->out_acked;
		c->has_acked = true;
		ledger_conn_acked(c);
	}
	if (p->facts)
		ledger_conn_facts(c, p->facts, p->time_ns);
	note_blocked(c, p->time_ns);
	if (acked)
		c->max_unacked_segment = 0;
	if (!c->has_acked || c->out_acked >= c->out_sent)
		c->unacked_since_ns = 0;
	else if (acked || !c->unacked_since_ns)
		c->unacked_since_ns = p->time_ns;
}

/* A segment that goes out again from the first byte that is not acknowledged. */
void ledger_segment(struct ledger *l, const struct capture_event *e)
{
	const struct capture_facts *f = e->facts;
	const struct capture_segment *s = &e->segment;
	struct conn *c;

	if (!f || !f->has_seq || s->dir != CAPTURE_OUT || !s->len || s->seq != f->snd_una ||
	    (int32_t)(s->seq - f->snd_nxt) >= 0)
		return;
	c = ledger_conn_get(l, e->conn, e->time_ns);
	if (c && !c->shared && s->len > c->max_unacked_segment) {
		c->max_unacked_segment = s->len;
		c->dirty = true;
	}
}

/*
 * Stuck: bytes wait to be sent, or what was sent at the tick before is not acknowledged yet and
 * nothing was since. The relay's writer may then be waiting, and its queue with it. So it is where
 * more was sent than was seen: what that was is missed once it is acknowledged.
 */
static void conn_tick(struct ledger *l, struct conn *c)
{
	bool unseen = c->has_acked && c->unacked > c->out_sent - c->out_acked;
	bool stuck = c->notsent || unseen || (c->has_acked && c->out_acked < c->tick_sent &&
					      c->out_acked == c->tick_acked);

	/* More was sent, to the end, than frames that were told explain: it is not read, or not yet. */
	if (c->out_seen && !c->out_late && !c->notsent && c->out_sent >= c->out_told + MIN_PACKET_BYTES)
		c->out_late = true;
	if (c->ring && !c->ring->count)
		ring_drop(c);
	c->tick_sent = c->out_sent;
	c->tick_acked = c->out_acked;
	if (stuck)
		c->quiet_ns = NEVER;
	else if (c->quiet_ns == NEVER)
		c->quiet_ns = l->now_ns;
}

static void note_anywhere(const struct ledger *l, struct anywhere *any, const struct conn *c)
{
	uint64_t clean_ns = ledger_conn_clean_ns(c);

	if (clean_ns > any->clean_ns)
		any->clean_ns = clean_ns;
	any->late |= c->out_late && !c->misread;
	any->busy |= c->quiet_ns == NEVER || c->quiet_ns + SETTLE_NS > l->now_ns;
}

/* Who sends across waits for the dial, with all that stands in its reader's buffer. */
static bool is_dialling(const struct ledger *l, const struct conn *c)
{
	/* One of which something was missed may be up. */
	return c->role == CAPTURE_DIALLED && c->kind == CONN_UNKNOWN && !c->gaps[0] && !c->gaps[1] &&
	       c->opened_ns + DIAL_NS > l->now_ns;
}

void ledger_conns_tick(struct ledger *l)
{
	struct conn *c;

	memset(l->anywhere, 0, sizeof(l->anywhere));
	l->anywhere[ANYWHERE_HERE].clean_ns = l->overflow ? NEVER : l->ambiguous_ns;
	l->anywhere[ANYWHERE_ALL].clean_ns = l->overflow ? NEVER : l->ambiguous_ns;
	l->mesh_blocked = false;
	EACH_CONN(l, c) {
		if (c->closed_ns)
			continue;
		conn_tick(l, c);
		if ((c->kind == CONN_MESH_OUT && c->quiet_ns == NEVER) || is_dialling(l, c))
			l->mesh_blocked = true;
		if (!ledger_conn_may_exit(c))
			continue;
		note_anywhere(l, &l->anywhere[ANYWHERE_ALL], c);
		if (c->role != CAPTURE_DIALLED)
			note_anywhere(l, &l->anywhere[ANYWHERE_HERE], c);
	}
}
