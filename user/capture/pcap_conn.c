// SPDX-License-Identifier: BSD-2-Clause
/*
 * TCP connections of a capture file, followed packet by packet. Both passes do the same, so the
 * n-th connection of the one is the n-th of the other.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "capture/pcap.h"

/* No window reaches further; what lies beyond is no packet of this connection. */
#define FAR	(1 << 30)

/* --- keys --------------------------------------------------------------------------------- */

static int compare_addr(const struct addr *a, const struct addr *b)
{
	int c = memcmp(a->ip, b->ip, sizeof(a->ip));

	if (a->family != b->family)
		return a->family < b->family ? -1 : 1;
	if (c)
		return c;
	return a->port < b->port ? -1 : a->port > b->port;
}

static void put_addr(uint8_t *to, const struct addr *a)
{
	to[0] = a->family;
	memcpy(to + 1, a->ip, sizeof(a->ip));
	memcpy(to + 17, &a->port, sizeof(a->port));
}

/* Returns the sender's side. */
static int make_key(uint8_t *key, uint32_t group, const struct pcap_segment *s)
{
	int side = compare_addr(&s->src, &s->dst) > 0;

	memcpy(key, &group, sizeof(group));
	put_addr(key + 4, side ? &s->dst : &s->src);
	put_addr(key + 4 + 19, side ? &s->src : &s->dst);
	return side;
}

/* --- the table ---------------------------------------------------------------------------- */

static struct pcap_conn *new_conn(struct pcap_conns *c)
{
	struct pcap_conn **grown, *conn;
	uint32_t capacity;

	if (c->count == PCAP_MAX_CONNS)
		return NULL;
	if (c->count == c->capacity) {
		capacity = c->capacity ? c->capacity * 2 : 64;
		grown = reallocarray(c->all, capacity, sizeof(*grown));
		if (!grown)
			return NULL;
		c->all = grown;
		c->capacity = capacity;
	}
	conn = calloc(1, sizeof(*conn));
	if (conn) {
		conn->index = c->count;
		c->all[c->count++] = conn;
	}
	return conn;
}

static struct pcap_conn *next_conn(struct pcap_conns *c)
{
	if (!c->again)
		return new_conn(c);
	return c->used < c->count ? c->all[c->used++] : NULL;
}

static struct pcap_conn *begin(struct pcap_conns *c, const uint8_t *key, uint32_t group,
			       const struct pcap_segment *s, int side, struct pcap_conn *old)
{
	struct pcap_conn *conn = next_conn(c);

	if (!conn) {
		c->over++;
		return NULL;
	}
	memcpy(conn->key, key, PCAP_KEY_LEN);
	conn->group = group;
	conn->started = s->flags & PCAP_TCP_SYN;
	if (conn->started && !c->again) {
		conn->certain = true;
		conn->server = s->flags & PCAP_TCP_ACK ? side : !side;
	}
	conn->track = (struct pcap_track){ 0 };
	conn->track.sides[side].addr = s->src;
	conn->track.sides[!side].addr = s->dst;
	conn->track.answered = !(s->flags & PCAP_TCP_SYN) || s->flags & PCAP_TCP_ACK;
	if (old)
		HASH_DEL(c->table, old);
	HASH_ADD(hh, c->table, key, PCAP_KEY_LEN, conn);
	return conn;
}

/* Does a SYN begin another connection than @conn, of the same addresses? */
static bool is_another(const struct pcap_conn *conn, const struct pcap_segment *s, int side)
{
	const struct pcap_stream *mine = &conn->track.sides[side].stream;

	if (!(s->flags & PCAP_TCP_SYN) || s->flags & PCAP_TCP_RST)
		return false;
	if (mine->first)
		return (uint32_t)mine->first != s->seq + 1;
	/* It answers the SYN that was seen, or else one that was not. */
	if (s->flags & PCAP_TCP_ACK)
		return !conn->track.sides[!side].stream.first ||
		       (uint32_t)conn->track.sides[!side].stream.first != s->ack;
	return true;
}

struct pcap_conn *pcap_conns_find(struct pcap_conns *c, const struct pcap_segment *s, int *side,
				  struct pcap_conn **replaced)
{
	uint32_t group = c->by_interface ? s->interface + 1 : 0;
	uint8_t key[PCAP_KEY_LEN];
	struct pcap_conn *conn;

	*replaced = NULL;
	if (addr_equal(&s->src, &s->dst))
		return NULL;
	*side = make_key(key, group, s);
	HASH_FIND(hh, c->table, key, sizeof(key), conn);
	if (conn && !is_another(conn, s, *side))
		return conn;
	if (!conn && s->flags & PCAP_TCP_RST)
		return NULL;
	*replaced = conn;
	return begin(c, key, group, s, *side, conn);
}

struct pcap_conn *pcap_conns_peek(const struct pcap_conns *c, const struct pcap_segment *s,
				  int *side)
{
	uint8_t key[PCAP_KEY_LEN];
	struct pcap_conn *conn;

	*side = make_key(key, c->by_interface ? s->interface + 1 : 0, s);
	HASH_FIND(hh, c->table, key, sizeof(key), conn);
	return conn;
}

void pcap_conns_rewind(struct pcap_conns *c)
{
	struct pcap_conn *conn;
	uint32_t i;
	int side;

	HASH_CLEAR(hh, c->table);
	c->again = true;
	c->used = 0;
	c->over = 0;
	for (i = 0; i < c->count; i++) {
		conn = c->all[i];
		for (side = 0; side < 2; side++) {
			conn->acked[side] = conn->track.sides[side].stream.acked;
			conn->first[side] = conn->track.sides[side].stream.first;
		}
	}
}

void pcap_conns_free(struct pcap_conns *c)
{
	HASH_CLEAR(hh, c->table);
	while (c->count)
		free(c->all[--c->count]);
	free(c->all);
	*c = (struct pcap_conns){ 0 };
}

/* --- sequence numbers --------------------------------------------------------------------- */

static uint64_t near_to(uint64_t near, uint32_t seq)
{
	if (!near)
		return 1ULL << 32 | seq;
	return near + (uint64_t)(int64_t)(int32_t)(seq - (uint32_t)near);
}

static bool is_far(const struct pcap_stream *st, uint64_t pos)
{
	return st->sent && (pos > st->sent + FAR || pos + FAR < st->sent);
}

uint64_t pcap_conn_position(const struct pcap_conn *conn, const struct pcap_segment *s, int side)
{
	return near_to(conn->track.sides[side].stream.sent,
		       s->seq + !!(s->flags & PCAP_TCP_SYN));
}

static void drop_range(struct pcap_stream *st, int at)
{
	for (; at < PCAP_RANGES - 1; at++)
		st->ahead[at] = st->ahead[at + 1];
	st->ahead[at].from = st->ahead[at].to = 0;
}

/* What is ahead has joined what came before it. */
static void join_ranges(struct pcap_stream *st)
{
	while (st->ahead[0].to && st->ahead[0].from <= st->next) {
		if (st->ahead[0].to > st->next)
			st->next = st->ahead[0].to;
		drop_range(st, 0);
	}
}

/*
 * Keeps [from, to) in mind. Where there are more holes than can be, the last ones are forgotten: the
 * bytes behind them count once they are acknowledged.
 */
static void add_range(struct pcap_stream *st, uint64_t from, uint64_t to)
{
	int at, i;

	for (at = 0; at < PCAP_RANGES && st->ahead[at].to; at++) {
		if (to < st->ahead[at].from)
			break;
		if (from > st->ahead[at].to)
			continue;
		if (from > st->ahead[at].from)
			from = st->ahead[at].from;
		if (to < st->ahead[at].to)
			to = st->ahead[at].to;
		drop_range(st, at--);
	}
	if (at == PCAP_RANGES)
		return;
	for (i = PCAP_RANGES - 1; i > at; i--)
		st->ahead[i] = st->ahead[i - 1];
	st->ahead[at].from = from;
	st->ahead[at].to = to;
}

static void follow_data(struct pcap_track *t, struct pcap_stream *st, uint64_t pos,
			const struct pcap_segment *s)
{
	uint64_t end = pos + s->len;

	if (!st->sent)
		st->next = st->sent = pos;
	if (s->flags & PCAP_TCP_SYN) {
		if (!st->has_syn)
			st->first = st->next = st->sent = pos;
		st->has_syn = true;
		if (!(s->flags & PCAP_TCP_ACK))
			t->syn_ns = s->time_ns;
	}
	if (s->flags & PCAP_TCP_FIN)
		st->fin = ++end;
	if (end == pos)
		return;
	if (end <= st->sent && s->len)
		st->retransmits++;
	if (end > st->sent)
		st->sent = end;
	if (pos > st->next)
		add_range(st, pos, end);
	else if (end > st->next)
		st->next = end;
	join_ranges(st);
}

/* @st is what the acknowledgement is about: the far end's stream. */
static void follow_ack(struct pcap_conn *conn, struct pcap_stream *st, const struct pcap_segment *s)
{
	uint64_t pos = near_to(st->sent, s->ack);

	if (is_far(st, pos))
		return;
	if (!st->sent) {
		st->next = st->sent = pos;
		/* Its SYN was not seen, but this answers it. */
		if (conn->started && !st->first)
			st->first = pos;
	}
	if (pos <= st->acked)
		return;
	st->acked = pos;
	if (pos > st->sent)
		st->sent = pos;
	if (pos > st->next)
		st->next = pos;
	join_ranges(st);
}

/* A forged reset, or one of an older connection, ends nothing. */
static bool is_reset(const struct pcap_track *t, const struct pcap_segment *s, int side,
		     uint64_t pos)
{
	const struct pcap_stream *mine = &t->sides[side].stream, *far = &t->sides[!side].stream;

	if (!t->answered)
		return s->flags & PCAP_TCP_ACK && (uint32_t)far->first == s->ack;
	return pos >= mine->acked && pos <= mine->sent;
}

/* --- what is said ------------------------------------------------------------------------- */

static void listen(struct pcap_conn *conn, struct pcap_side *me, const struct pcap_segment *s,
		   uint64_t pos)
{
	bool first = me->stream.first && pos == me->stream.first;

	conn->talked = true;
	if (me->talk != PCAP_TALK_NONE)
		return;
	me->talk = pcap_hello_talk(s->data, s->captured, first);
	if (me->talk != PCAP_TALK_CLIENT)
		return;
	conn->has_random = pcap_hello_random(s->data, s->captured, conn->random);
	conn->name = pcap_hello_name(s->data, s->captured);
}

void pcap_conn_follow(struct pcap_conn *conn, const struct pcap_segment *s, int side)
{
	struct pcap_track *t = &conn->track;
	struct pcap_side *me = &t->sides[side];
	uint64_t pos = pcap_conn_position(conn, s, side);

	t->last_ns = s->time_ns;
	if (s->flags & PCAP_TCP_RST) {
		if (!t->closed_ns && is_reset(t, s, side, pos)) {
			t->rst[side] = true;
			t->closed_ns = s->time_ns;
		}
		return;
	}
	if (is_far(&me->stream, pos))
		return;
	if (!(s->flags & PCAP_TCP_SYN) || s->flags & PCAP_TCP_ACK)
		t->answered = true;
	follow_data(t, &me->stream, pos, s);
	if (s->flags & PCAP_TCP_ACK)
		follow_ack(conn, &t->sides[!side].stream, s);
	if (s->len)
		listen(conn, me, s, pos);
	if (!t->closed_ns && t->sides[0].stream.fin && t->sides[1].stream.fin)
		t->closed_ns = s->time_ns;
}
