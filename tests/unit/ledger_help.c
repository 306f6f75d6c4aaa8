// SPDX-License-Identifier: BSD-2-Clause
#include "ledger_help.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "digest.h"
#include "ledger/check.h"

#define START_NS	1000000000000ull

void lh_check(struct lh *t)
{
	char err[256];

	if (!ledger_check(t->l, err))
		fail_msg("%s", err);
}

static void after(struct lh *t)
{
	if (!t->quiet)
		lh_check(t);
}

struct lh *lh_new(const struct ledger_limits *limits)
{
	const struct capture_node_up up = { .pid = 7, .name = "derper", .software = "derper v1" };
	struct lh *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	t->now = START_NS;
	t->l = ledger_new(3, 99, &up, t->now, limits);
	assert_non_null(t->l);
	return t;
}

void lh_free(struct lh *t)
{
	int i;

	for (i = 0; i < t->pair_count; i++)
		free(t->latencies[i]);
	ledger_free(t->l);
	free(t);
}

struct key lh_key(uint32_t who)
{
	struct key k = { { 0 } };

	if (who) {
		memset(k.b, 0x5a, sizeof(k.b));
		memcpy(k.b, &who, sizeof(who));
	}
	return k;
}

void lh_open(struct lh *t, int conn, enum capture_role role, bool from_start)
{
	struct capture_event e = {
		.type = CAPTURE_CONN_OPEN,
		.time_ns = t->now,
		.node = 3,
		.conn = conn,
		.open = { .role = role, .from_start = from_start },
	};
	const uint8_t ip[4] = { 10, 0, 0, 1 };

	addr_set(&e.open.local, 4, ip, 443);
	addr_set(&e.open.remote, 4, ip, 10000 + conn);
	t->conns[conn] = (struct lh_conn){ .in_read = UINT64_MAX, .out_acked = UINT64_MAX,
					   .from_start = from_start, .open = true };
	ledger_event(t->l, &e);
	after(t);
}

void lh_progress(struct lh *t, int conn)
{
	struct lh_conn *c = &t->conns[conn];
	struct capture_facts facts = {
		.has_read = !c->offline,
		.has_queues = !c->offline,
		.notsent = c->notsent,
		.tcp_state = c->tcp_state ? c->tcp_state : 1,
	};
	struct stream_progress p = {
		.node = 3,
		.conn = conn,
		.time_ns = t->now,
		.facts = &facts,
		.has_read = !c->offline,
		.in_arrived = c->in_pos,
		.in_read = c->in_read < c->in_pos ? c->in_read : c->in_pos,
		.out_sent = c->out_pos,
		.out_acked = c->out_acked < c->out_pos ? c->out_acked : c->out_pos,
		.has_acked = true,
	};

	facts.unread = p.in_arrived - p.in_read;
	facts.unacked = p.out_sent - p.out_acked + c->unseen;
	ledger_progress(t->l, &p);
	after(t);
}

void lh_close(struct lh *t, int conn)
{
	struct capture_event e = {
		.type = CAPTURE_CONN_CLOSE,
		.time_ns = t->now,
		.node = 3,
		.conn = conn,
		.close = { .how = CAPTURE_CLOSED_FIN, .fin_in = true },
	};

	lh_progress(t, conn);
	t->conns[conn].open = false;
	ledger_event(t->l, &e);
	after(t);
}

void lh_frame(struct lh *t, int conn, enum capture_dir dir, uint8_t type, const void *bytes,
	      uint32_t len)
{
	struct lh_conn *c = &t->conns[conn];
	uint64_t *pos = dir == CAPTURE_IN ? &c->in_pos : &c->out_pos;
	uint64_t *off = dir == CAPTURE_IN ? &c->in_off : &c->out_off;
	struct stream_frame f = {
		.node = 3,
		.conn = conn,
		.time_ns = t->now,
		.dir = dir,
		.type = type,
		.len = len,
		.head_len = len < 128 ? len : 128,
		.head = bytes,
		.derp_off = *off,
		.derp_from_start = c->from_start,
	};

	*pos += DERP_HEADER_LEN + len;
	*off += DERP_HEADER_LEN + len;
	f.tcp_end = *pos;
	ledger_frame(t->l, &f);
	after(t);
}

void lh_client(struct lh *t, int conn, uint32_t who)
{
	uint8_t info[104] = { 0 };
	struct key k = lh_key(who);

	lh_open(t, conn, CAPTURE_ACCEPTED, true);
	memcpy(info, k.b, KEY_LEN);
	lh_frame(t, conn, CAPTURE_IN, DERP_CLIENT_INFO, info, sizeof(info));
	lh_frame(t, conn, CAPTURE_OUT, DERP_SERVER_INFO, info, 53);
}

void lh_mesh_out(struct lh *t, int conn)
{
	uint8_t info[182] = { 0 };

	lh_open(t, conn, CAPTURE_DIALLED, true);
	memset(info, 0x77, KEY_LEN);
	lh_frame(t, conn, CAPTURE_OUT, DERP_CLIENT_INFO, info, sizeof(info));
	lh_frame(t, conn, CAPTURE_IN, DERP_SERVER_INFO, info, 53);
	lh_frame(t, conn, CAPTURE_OUT, DERP_WATCH_CONNS, info, 0);
}

void lh_mesh_in(struct lh *t, int conn)
{
	uint8_t none = 0;

	lh_client(t, conn, 9000 + conn);
	lh_frame(t, conn, CAPTURE_IN, DERP_WATCH_CONNS, &none, 0);
}

void lh_present(struct lh *t, int conn, uint32_t who, bool present)
{
	uint8_t said[51] = { 0 };
	struct key k = lh_key(who);

	memcpy(said, k.b, KEY_LEN);
	lh_frame(t, conn, CAPTURE_IN, present ? DERP_PEER_PRESENT : DERP_PEER_GONE, said,
		 present ? 51 : 33);
}

static void packet_bytes(struct lh_packet p, uint8_t bytes[static 64])
{
	static const uint8_t magic[6] = { 0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac };

	memset(bytes, 0, 64);
	bytes[0] = p.first;
	memcpy(bytes + 8, &p.no, sizeof(p.no));
	if (p.disco)
		memcpy(bytes, magic, sizeof(magic));
}

uint64_t lh_digest(struct lh_packet p)
{
	unsigned long long words[8];
	uint8_t bytes[64];
	uint32_t i;

	packet_bytes(p, bytes);
	for (i = p.len; i < 64; i++)
		bytes[i] = 0;
	memcpy(words, bytes, sizeof(words));
	return digest_words(words, p.len);
}

void lh_send(struct lh *t, int conn, uint32_t dst, struct lh_packet p)
{
	struct key k = lh_key(dst);
	uint8_t head[128];

	memcpy(head, k.b, KEY_LEN);
	packet_bytes(p, head + KEY_LEN);
	lh_frame(t, conn, CAPTURE_IN, DERP_SEND_PACKET, head, KEY_LEN + p.len);
}

void lh_recv(struct lh *t, int conn, uint32_t src, struct lh_packet p)
{
	struct key k = lh_key(src);
	uint8_t head[128];

	memcpy(head, k.b, KEY_LEN);
	packet_bytes(p, head + KEY_LEN);
	lh_frame(t, conn, CAPTURE_OUT, DERP_RECV_PACKET, head, KEY_LEN + p.len);
}

void lh_forward(struct lh *t, int conn, enum capture_dir dir, uint32_t src, uint32_t dst,
		struct lh_packet p)
{
	struct key s = lh_key(src), d = lh_key(dst);
	uint8_t head[128];

	memcpy(head, s.b, KEY_LEN);
	memcpy(head + KEY_LEN, d.b, KEY_LEN);
	packet_bytes(p, head + 2 * KEY_LEN);
	lh_frame(t, conn, dir, DERP_FORWARD_PACKET, head, 2 * KEY_LEN + p.len);
}

static void tell_drop(struct lh *t, const char *reason, uint32_t src, bool has_src, uint32_t dst,
		      struct lh_packet p)
{
	struct capture_event e = {
		.type = CAPTURE_DROP,
		.time_ns = t->now,
		.node = 3,
		.drop = {
			.reason = reason,
			.dst = lh_key(dst),
			.src = lh_key(src),
			.has_src = has_src,
			.len = p.len,
			.digest = lh_digest(p),
			.disco = p.disco,
		},
	};

	ledger_event(t->l, &e);
	after(t);
}

void lh_drop(struct lh *t, const char *reason, uint32_t src, uint32_t dst, struct lh_packet p)
{
	tell_drop(t, reason, src, src, dst, p);
}

void lh_tail_drop(struct lh *t, const char *reason, uint32_t serving, uint32_t dst, struct lh_packet p)
{
	tell_drop(t, reason, serving, false, dst, p);
}

void lh_run(struct lh *t, int conn, enum capture_dir dir, uint32_t other, uint32_t packets)
{
	struct lh_conn *c = &t->conns[conn];
	uint64_t *pos = dir == CAPTURE_IN ? &c->in_pos : &c->out_pos;
	struct stream_run r = {
		.node = 3,
		.conn = conn,
		.first_ns = t->now,
		.time_ns = t->now,
		.dir = dir,
		.type = dir == CAPTURE_IN ? DERP_SEND_PACKET : DERP_RECV_PACKET,
		.key = lh_key(other),
		.frames = packets,
		.bytes = 100ull * packets,
	};

	*pos += (DERP_HEADER_LEN + DERP_KEY_LEN + 100ull) * packets;
	r.tcp_end = *pos;
	ledger_run(t->l, &r);
	after(t);
}

void lh_gap(struct lh *t, int conn, enum capture_dir dir, bool begins)
{
	struct stream_gap g = { .node = 3, .conn = conn, .time_ns = t->now, .dir = dir,
				.begins = begins };

	ledger_gap(t->l, &g);
	after(t);
}

void lh_tick(struct lh *t, uint32_t ms)
{
	int i;

	t->now += ms * 1000000ull;
	for (i = 1; i < LH_CONNS; i++) {
		if (t->conns[i].open)
			lh_progress(t, i);
	}
	ledger_tick(t->l, t->now);
	after(t);
}

void lh_wait(struct lh *t, uint32_t ms)
{
	for (; ms; ms = ms > 100 ? ms - 100 : 0)
		lh_tick(t, ms > 100 ? 100 : ms);
}

static void keep_peers(struct lh *t, const struct record_peers *peers)
{
	size_t i;

	for (i = 0; i < peers->count; i++) {
		assert_in_range(peers->v[i].no, 1, LH_PEERS - 1);
		t->peers[peers->v[i].no] = peers->v[i].key;
	}
}

static void keep_pair(struct lh *t, const struct record_pair_ends *ends)
{
	const struct key *src = &t->peers[ends->src], *dst = &t->peers[ends->dst];
	int i;

	assert_in_range(ends->no, 1, LH_PAIRS - 1);
	for (i = 0; i < t->pair_count; i++) {
		if (key_equal(&t->pairs[i].src, src) && key_equal(&t->pairs[i].dst, dst))
			break;
	}
	assert_true(i < LH_PAIRS);
	t->pairs[i].src = *src;
	t->pairs[i].dst = *dst;
	t->pairs[i].first_ns = ends->first_ns;
	t->pair_count += i == t->pair_count;
	t->numbered[ends->no] = &t->pairs[i];
}

static void keep_latency(struct lh *t, int pair, const struct record_counts *counts, size_t row,
			 size_t at)
{
	uint32_t i;

	buckets_set(&t->latencies[pair], NULL);
	for (i = 0; i < counts->latency_count[row]; i++)
		assert_true(buckets_add(&t->latencies[pair], counts->latency_first[row] + i,
					counts->latency[at + i]));
	t->pairs[pair].latency = t->latencies[pair];
}

static void keep_counts(struct lh *t, const struct record_counts *counts)
{
	const struct record_books *b;
	struct lh_pair *p;
	uint64_t *v;
	size_t i, k, at = 0;

	for (i = 0; i < counts->count; i++) {
		assert_in_range(counts->pair[i], 1, LH_PAIRS - 1);
		p = t->numbered[counts->pair[i]];
		assert_non_null(p);
		v = (uint64_t *)&p->books;
		for (k = 0; k < RECORD_PAIR_COLUMNS; k++)
			v[k] = counts->column[k] ? counts->column[k][i] : 0;
		keep_latency(t, (int)(p - t->pairs), counts, i, at);
		at += counts->latency_count[i];
		b = &p->books;
		assert_int_equal(b->entered, b->left + b->in_flight + b->lost + b->untraced);
		t->records++;
	}
}

static void keep_mark(struct lh *t, const struct record_mark *m)
{
	size_t n = m->pair_count < 16 ? m->pair_count : 16;

	assert_true(t->mark_count < LH_MARKS);
	t->marks[t->mark_count] = *m;
	memcpy(t->mark_pairs[t->mark_count], m->pairs, n * sizeof(*m->pairs));
	t->marks[t->mark_count].pairs = t->mark_pairs[t->mark_count];
	t->mark_count++;
}

static void keep_link(struct lh *t, const struct record_link *k)
{
	int i;

	for (i = 0; i < t->link_count; i++) {
		if (t->links[i].conn == k->conn && key_equal(&t->links[i].src, &k->src) &&
		    key_equal(&t->links[i].dst, &k->dst))
			break;
	}
	assert_true(i < LH_LINKS);
	t->links[i] = *k;
	t->link_count += i == t->link_count;
}

static int keep(void *ctx, const struct record *r)
{
	struct lh *t = ctx;
	size_t i;

	assert_int_equal(r->node, 3);
	assert_int_equal(r->agent, 99);
	t->records += r->type != RECORD_PEERS && r->type != RECORD_PAIRS && r->type != RECORD_COUNTS;
	switch (r->type) {
	case RECORD_NODE:
		t->node = r->node_info;
		break;
	case RECORD_CONN:
		if (r->conn.conn < LH_CONNS)
			t->conns[r->conn.conn].rec = r->conn;
		break;
	case RECORD_LINK:
		keep_link(t, &r->link);
		break;
	case RECORD_MARK:
		keep_mark(t, &r->mark);
		break;
	case RECORD_PEERS:
		keep_peers(t, &r->peers);
		break;
	case RECORD_PAIRS:
		for (i = 0; i < r->pairs.count; i++)
			keep_pair(t, &r->pairs.v[i]);
		break;
	case RECORD_COUNTS:
		keep_counts(t, &r->counts);
		break;
	case RECORD_LOSS:
		assert_true(t->loss_count < LH_LOSSES);
		t->losses[t->loss_count++] = r->loss;
		break;
	case RECORD_PRESENCE:
		t->presences += r->presence.present;
		t->presences_gone += !r->presence.present;
		t->presence = r->presence;
		break;
	default:
		break;
	}
	return 0;
}

void lh_snapshot(struct lh *t, bool all)
{
	const struct record_sink sink = { t, keep };
	struct record_books sum = { 0 };
	uint64_t lost = 0;
	int i;

	t->records = 0;
	assert_int_equal(ledger_snapshot(t->l, t->now, all, &sink), 0);
	for (i = 0; i < t->pair_count; i++) {
		sum.entered += t->pairs[i].books.entered;
		sum.left += t->pairs[i].books.left;
		sum.in_flight += t->pairs[i].books.in_flight;
		sum.lost += t->pairs[i].books.lost;
		sum.untraced += t->pairs[i].books.untraced;
	}
	/* What a reader knows balances too. */
	assert_memory_equal(&sum, &t->node.books, sizeof(sum));
	for (i = 0; i < t->loss_count; i++)
		lost += t->losses[i].count - t->losses[i].back;
	assert_int_equal(lost, sum.lost);
	after(t);
}

int lh_ignore(void *ctx, const struct record *r)
{
	(void)ctx;
	(void)r;
	return 0;
}

const struct lh_pair *lh_pair(struct lh *t, uint32_t src, uint32_t dst)
{
	static const struct lh_pair none;
	struct key s = lh_key(src), d = lh_key(dst);
	int i;

	lh_snapshot(t, false);
	for (i = 0; i < t->pair_count; i++) {
		if (key_equal(&t->pairs[i].src, &s) && key_equal(&t->pairs[i].dst, &d))
			return &t->pairs[i];
	}
	return &none;
}

void lh_check_books(struct lh *t, uint32_t src, uint32_t dst, struct record_books want)
{
	const struct record_books *b = &lh_pair(t, src, dst)->books;

	assert_int_equal(b->entered, want.entered);
	assert_int_equal(b->left, want.left);
	assert_int_equal(b->in_flight, want.in_flight);
	assert_int_equal(b->lost, want.lost);
	assert_int_equal(b->untraced, want.untraced);
}

uint64_t lh_lost(const struct lh *t, uint32_t src, uint32_t dst, enum record_reason reason)
{
	struct key s = lh_key(src), d = lh_key(dst);
	uint64_t n = 0;
	int i;

	for (i = 0; i < t->loss_count; i++) {
		if (key_equal(&t->losses[i].src, &s) && key_equal(&t->losses[i].dst, &d) &&
		    (!reason || t->losses[i].reason == reason))
			n += t->losses[i].count - t->losses[i].back;
	}
	return n;
}
