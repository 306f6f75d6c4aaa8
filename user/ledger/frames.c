// SPDX-License-Identifier: BSD-2-Clause
/* DERP frames: which packets enter and leave, who is on a connection, who is behind the mesh. */
#include "ledger/internal.h"

#include "base/packet.h"

#define RECORD_BYTES	30u	/* of TLS, around what is inside; a packet's frame has more */

static const struct key *key_at(const struct stream_frame *f, size_t off)
{
	return (const struct key *)(f->head + off);
}

static bool has_bytes(const struct stream_frame *f, uint32_t n)
{
	return f->len >= n && f->head_len >= n;
}

/*
 * WireGuard's clear type (whitepaper, section 5.4): a handshake's messages have one length each, so that
 * what merely begins alike is not taken for one. 0: none.
 */
static uint8_t wireguard_type(const uint8_t *bytes, size_t have, uint32_t len)
{
	if (have < 4 || bytes[1] || bytes[2] || bytes[3])
		return 0;
	if ((bytes[0] == 1 && len == 148) || (bytes[0] == 2 && len == 92) || bytes[0] == 3 ||
	    bytes[0] == 4)
		return bytes[0];
	return 0;
}

/* False where the frame is too short, or longer than the relay takes. */
static bool packet_of(const struct stream_frame *f, struct conn *c, uint32_t keys,
		      enum record_hop hop, struct sight *s)
{
	const uint8_t *bytes = f->head + keys;
	size_t have;

	if (!has_bytes(f, keys) || f->len - keys > DERP_MAX_PACKET)
		return false;
	have = f->head_len - keys < f->len - keys ? f->head_len - keys : f->len - keys;
	*s = (struct sight){
		.conn = c,
		.time_ns = f->time_ns,
		.digest = f->digest ? f->digest : packet_digest(bytes, have, f->len - keys),
		.pos = f->tcp_end,
		.len = f->len - keys,
		.hop = hop,
	};
	s->disco = packet_is_disco(bytes, have, s->len);
	s->wg = wireguard_type(bytes, have, s->len);
	c->steps |= STEP_PACKET;
	return true;
}

static void on_send(struct ledger *l, struct conn *c, const struct stream_frame *f)
{
	struct peer *dst;
	struct sight s;

	ledger_conn_kind(l, c, CONN_CLIENT);
	if (!packet_of(f, c, DERP_KEY_LEN, HOP_CLIENT_IN, &s))
		return;
	dst = ledger_peer_get(l, key_at(f, 0));
	ledger_entry(l, ledger_conn_peer(l, c), dst, &s);
	ledger_peer_put(l, dst);
}

static void on_recv(struct ledger *l, struct conn *c, const struct stream_frame *f)
{
	struct peer *src;
	struct sight s;

	ledger_conn_kind(l, c, CONN_CLIENT);
	if (!packet_of(f, c, DERP_KEY_LEN, HOP_CLIENT_OUT, &s))
		return;
	src = ledger_peer_get(l, key_at(f, 0));
	ledger_exit(l, src, ledger_conn_peer(l, c), &s);
	ledger_peer_put(l, src);
}

static void on_forward(struct ledger *l, struct conn *c, const struct stream_frame *f)
{
	bool in = f->dir == CAPTURE_IN;
	struct peer *src, *dst;
	struct sight s;

	ledger_conn_kind(l, c, in ? CONN_MESH_IN : CONN_MESH_OUT);
	if (!packet_of(f, c, 2 * DERP_KEY_LEN, in ? HOP_MESH_IN : HOP_MESH_OUT, &s))
		return;
	src = ledger_peer_get(l, key_at(f, 0));
	dst = ledger_peer_get(l, key_at(f, DERP_KEY_LEN));
	ledger_forward(l, c, src, dst, &s, f->derp_off + DERP_HEADER_LEN + f->len);
	if (in) {
		ledger_entry(l, src, dst, &s);
	} else {
		ledger_peer_forwarded(l, dst, c, f->time_ns);
		ledger_exit(l, src, dst, &s);
		ledger_conn_sent(c, &s, NULL);
	}
	ledger_peer_put(l, src);
	ledger_peer_put(l, dst);
}

static void on_presence(struct ledger *l, struct conn *c, const struct stream_frame *f)
{
	static const uint8_t nowhere[18];
	struct record_presence said = { .present = f->type == DERP_PEER_PRESENT };
	const uint8_t *rest = f->head + DERP_KEY_LEN;

	if (!has_bytes(f, DERP_KEY_LEN))
		return;
	said.peer = *key_at(f, 0);
	if (!said.present) {
		said.not_here = has_bytes(f, DERP_KEY_LEN + 1) && rest[0] == 1;
	} else if (has_bytes(f, DERP_KEY_LEN + 18)) {
		if (memcmp(rest, nowhere, sizeof(nowhere)))
			addr_set(&said.addr, 6, rest, rest[16] << 8 | rest[17]);
		if (has_bytes(f, DERP_KEY_LEN + 19))
			said.flags = rest[18];
	}
	c->steps |= STEP_PEER_PRESENT;
	if (f->dir == CAPTURE_OUT)
		ledger_conn_kind(l, c, f->type == DERP_PEER_PRESENT ? CONN_MESH_IN : CONN_CLIENT);
	else if (c->kind == CONN_MESH_OUT)
		ledger_presence_tell(l, c, &said, f->time_ns);
}

static void on_server_key(struct ledger *l, struct conn *c, const struct stream_frame *f)
{
	c->steps |= STEP_SERVER_KEY;
	if (!has_bytes(f, 8 + DERP_KEY_LEN))
		return;
	if (f->dir == CAPTURE_IN)
		ledger_conn_server(c, key_at(f, 8));
	else
		ledger_server_key(l, key_at(f, 8));
}

static void on_client_info(struct ledger *l, struct conn *c, const struct stream_frame *f)
{
	c->steps |= STEP_CLIENT_INFO;
	c->info_len = f->len;
	if (!has_bytes(f, DERP_KEY_LEN))
		return;
	if (f->dir == CAPTURE_OUT) {
		ledger_server_key(l, key_at(f, 0));
		return;
	}
	ledger_conn_kind(l, c, CONN_CLIENT);
	ledger_conn_identify(l, c, key_at(f, 0), IDENTITY_FRAME, f->time_ns);
}

/* The relay registers a client right before it sends this: only now do packets leave there. */
static void on_server_info(struct ledger *l, struct conn *c, const struct stream_frame *f)
{
	c->steps |= STEP_SERVER_INFO;
	if (f->dir != CAPTURE_OUT || !c->registered || c->closed_ns)
		return;
	c->since_ns = f->time_ns;
	ledger_peer_reroute(l, c->peer, f->time_ns);
}

/* By who says it: the server to its client, or the client to its server. */
static void note_role(struct conn *c, const struct stream_frame *f)
{
	switch (f->type) {
	case DERP_SERVER_KEY:
	case DERP_SERVER_INFO:
	case DERP_RECV_PACKET:
	case DERP_KEEP_ALIVE:
	case DERP_PEER_GONE:
	case DERP_PEER_PRESENT:
		ledger_conn_role(c, f->dir == CAPTURE_OUT ? CAPTURE_ACCEPTED : CAPTURE_DIALLED);
		break;
	case DERP_CLIENT_INFO:
	case DERP_SEND_PACKET:
	case DERP_NOTE_PREFERRED:
	case DERP_FORWARD_PACKET:
	case DERP_WATCH_CONNS:
	case DERP_CLOSE_PEER:
		ledger_conn_role(c, f->dir == CAPTURE_IN ? CAPTURE_ACCEPTED : CAPTURE_DIALLED);
		break;
	default:
		break;
	}
}

/* What it sent is read up to there. */
static void note_told(struct conn *c, uint64_t pos)
{
	c->out_told = pos;
	c->out_late = false;
}

/* Nothing was sent between the moment at which the connection was found and this frame. */
static bool is_first(const struct conn *c, const struct stream_frame *f)
{
	uint64_t len = DERP_HEADER_LEN + (uint64_t)f->len + (c->tls ? RECORD_BYTES : 0);

	return !c->websocket && f->tcp_end && f->tcp_end <= len;
}

static void note_frame(struct ledger *l, struct conn *c, const struct stream_frame *f)
{
	if (f->time_ns > l->now_ns)
		l->now_ns = f->time_ns;
	c->dirty = true;
	if (f->dir == CAPTURE_IN) {
		c->last_type_in = f->type;
		c->in_told = f->tcp_end;
		return;
	}
	c->last_type_out = f->type;
	note_told(c, f->tcp_end);
	if (c->out_seen)
		return;
	c->out_seen = true;
	/* What came before the first frame that was understood was not. */
	if (!(f->derp_from_start && c->from_start) && !is_first(c, f) && f->time_ns > c->out_from_ns)
		c->out_from_ns = f->time_ns;
}

uint8_t ledger_may_count(struct ledger *l, uint64_t conn, enum capture_dir dir)
{
	struct conn *c = ledger_conn_get(l, conn, l->now_ns);

	if (!c || c->shared)
		return 0;
	c->may_count = true;
	if (c->out_late)
		return 0;
	switch (c->kind) {
	case CONN_CLIENT:
		if (!c->peer || c->peer->unknown || c->claimed)
			return 0;
		return dir == CAPTURE_IN ? DERP_SEND_PACKET : DERP_RECV_PACKET;
	case CONN_MESH_IN:
		return dir == CAPTURE_IN ? DERP_FORWARD_PACKET : 0;
	case CONN_MESH_OUT:
		return dir == CAPTURE_OUT ? DERP_FORWARD_PACKET : 0;
	default:
		return 0;
	}
}

/* Packets that were counted: a client's, to it or from it. */
void ledger_run(struct ledger *l, const struct stream_run *r)
{
	struct conn *c = ledger_conn_get(l, r->conn, r->time_ns);
	bool in = r->dir == CAPTURE_IN;
	uint64_t frames = r->frames, bytes = r->bytes;
	struct peer *far, *own;

	if (!c || !frames || r->type != (in ? DERP_SEND_PACKET : DERP_RECV_PACKET))
		return;
	if (r->time_ns > l->now_ns)
		l->now_ns = r->time_ns;
	c->dirty = true;
	c->steps |= STEP_PACKET;
	*(in ? &c->last_type_in : &c->last_type_out) = r->type;
	/* Pairs are told one by one, whose frames came in turns. */
	if (!in)
		note_told(c, r->tcp_end > c->out_told ? r->tcp_end : c->out_told);
	else if (r->tcp_end > c->in_told)
		c->in_told = r->tcp_end;
	own = peer_ref(ledger_conn_peer(l, c));
	far = ledger_peer_get(l, &r->key);
	while (frames) {
		uint32_t n = frames < RUN_MAX ? (uint32_t)frames : RUN_MAX;
		struct sight s = {
			.conn = c,
			.time_ns = r->time_ns,
			.pos = r->tcp_end,
			.run = n,
			.bytes = n == frames ? bytes : bytes / frames * n,
			.hop = in ? HOP_CLIENT_IN : HOP_CLIENT_OUT,
			.disco = r->disco,
			.wg = r->wg,
		};

		frames -= n;
		bytes -= s.bytes;
		if (in)
			ledger_entry_run(l, own, far, &s);
		else
			ledger_exit_run(l, far, own, &s);
	}
	ledger_peer_put(l, far);
	ledger_peer_put(l, own);
}

void ledger_frame(struct ledger *l, const struct stream_frame *f)
{
	struct conn *c = ledger_conn_get(l, f->conn, f->time_ns);
	bool in = f->dir == CAPTURE_IN, theirs;

	if (!c)
		return;
	note_role(c, f);
	note_frame(l, c, f);
	/* A server over there speaks to us on what we dialled, and we to it. */
	theirs = c->role == CAPTURE_DIALLED ||
		 (c->shared && !in && f->type == DERP_FORWARD_PACKET);
	if (theirs)
		ledger_conn_kind(l, c, CONN_MESH_OUT);
	switch (f->type) {
	case DERP_SEND_PACKET:
		if (in && !theirs)
			on_send(l, c, f);
		break;
	case DERP_RECV_PACKET:
		if (!in && !theirs)
			on_recv(l, c, f);
		break;
	case DERP_FORWARD_PACKET:
		if (in != theirs)
			on_forward(l, c, f);
		break;
	case DERP_PEER_PRESENT:
	case DERP_PEER_GONE:
		on_presence(l, c, f);
		break;
	case DERP_SERVER_KEY:
		on_server_key(l, c, f);
		break;
	case DERP_CLIENT_INFO:
		on_client_info(l, c, f);
		break;
	case DERP_SERVER_INFO:
		on_server_info(l, c, f);
		break;
	case DERP_WATCH_CONNS:
		c->steps |= STEP_WATCH_CONNS;
		ledger_conn_kind(l, c, theirs ? CONN_MESH_OUT : CONN_MESH_IN);
		break;
	case DERP_NOTE_PREFERRED:
		if (has_bytes(f, 1))
			c->preferred_ns = f->head[0] ? f->time_ns : 0;
		break;
	default:
		break;
	}
}
