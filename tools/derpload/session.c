/* SPDX-License-Identifier: BSD-2-Clause */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flow.h"
#include "frame.h"
#include "mem.h"
#include "out.h"
#include "pair.h"
#include "peer.h"
#include "wait.h"

/* A relay that asks faster than it reads gets no more answers than this. */
#define ANSWERS_MAX (1024 * 1024)

uint64_t session_received, session_last_received_ns;

static void stash(struct peer *p, const uint8_t *buf, size_t len)
{
	if (len != p->stash_len) {
		free(p->stash);
		p->stash = len ? mem_zero(len, 1) : NULL;
		p->stash_len = len;
	}
	if (len)
		memcpy(p->stash, buf, len);
}

void session_send_raw(struct peer *p, const void *bytes, size_t len)
{
	memcpy(outq_put(&p->out, len), bytes, len);
	outq_close_unit(&p->out, 0);
	io_wake(p);
}

void session_send(struct peer *p, uint8_t type, const void *payload, size_t len)
{
	uint8_t *to = outq_put(&p->out, FRAME_HEAD + len);

	frame_head(to, type, len);
	if (len)
		memcpy(to + FRAME_HEAD, payload, len);
	outq_close_unit(&p->out, 0);
	io_wake(p);
}

/* --- the way in --- */

static bool send_client_info(struct peer *p)
{
	const char *mesh = *p->cfg.mesh_key ? p->cfg.mesh_key : NULL;
	uint8_t info[FRAME_CLIENT_INFO_MAX];
	size_t len;

	len = frame_client_info(info, p->pub, p->cfg.priv, p->server, mesh, p->cfg.pings);
	if (!len) {
		peer_down(p, "the relay's key is no valid key");
		return false;
	}
	session_send(p, FRAME_CLIENT_INFO, info, len);
	p->state = PEER_LOGIN;
	return true;
}

static void ws_control(struct ws_rx *rx, uint8_t opcode, const uint8_t *payload, size_t len)
{
	struct peer *p = (struct peer *)((char *)rx - offsetof(struct peer, ws));
	uint8_t head[WS_HEAD_MAX], *to;
	size_t n;

	if (opcode == WS_CLOSE)
		p->ws_ended = true;
	if (opcode != WS_PING || p->state == PEER_CLOSING || outq_pending(&p->out) > ANSWERS_MAX)
		return;
	/* A frame of its own, between two messages. */
	outq_close_unit(&p->out, 0);
	p->out.websocket = false;
	n = ws_head(head, WS_PONG, len, 0);
	to = outq_put(&p->out, n + len);
	memcpy(to, head, n);
	memcpy(to + n, payload, len);	/* the mask is zero */
	outq_close_unit(&p->out, 0);
	p->out.websocket = true;
	io_wake(p);
}

void session_start(struct peer *p)
{
	char request[HTTP_REQUEST_MAX];
	size_t len = http_request(request, &p->cfg.url, &p->upgrade);

	p->ws.on_control = ws_control;
	p->state = PEER_UPGRADING;
	session_send_raw(p, request, len);
	p->out.websocket = p->upgrade.websocket;
	if (!p->upgrade.fast_start)
		return;
	p->state = PEER_GREETING;
	if (transport_tls_meta_key(&p->link, p->server))
		send_client_info(p);
}

static void greeted(struct peer *p, const uint8_t *payload, size_t len)
{
	uint8_t key[32];

	if (!frame_server_key(payload, len, key)) {
		peer_down(p, "first frame is no ServerKey of a DERP relay");
		return;
	}
	/* After a fast start it comes late and says what the certificate said. */
	if (p->state != PEER_GREETING) {
		if (memcmp(key, p->server, 32))
			peer_down(p, "ServerKey is not the key in the certificate");
		return;
	}
	memcpy(p->server, key, 32);
	send_client_info(p);
}

static void logged_in(struct peer *p, const uint8_t *payload, size_t len)
{
	const uint8_t home = 1;

	if (!frame_server_info(payload, len, p->cfg.priv, p->server)) {
		peer_down(p, "ServerInfo does not open with the relay's key");
		return;
	}
	if (p->cfg.prefer)
		session_send(p, FRAME_NOTE_PREFERRED, &home, 1);
	peer_is_up(p);
}

/* --- frames of a peer that is up --- */

static void packet(struct peer *p, const uint8_t *payload, size_t len)
{
	struct pair *pair;

	if (len < FRAME_KEY) {
		p->malformed++;
		return;
	}
	p->received++;
	p->received_bytes += len - FRAME_KEY;
	session_received++;
	session_last_received_ns = loop_now();
	pair = pair_get(payload, p->pub);
	if (pair)
		pair_received(pair, payload + FRAME_KEY, len - FRAME_KEY);
	if (p->expect_at && p->received >= p->expect_at)
		wait_received(p);
}

static void peer_gone(struct peer *p, const uint8_t *payload, size_t len)
{
	uint8_t reason = len > FRAME_KEY ? payload[FRAME_KEY] : 0;

	if (len < FRAME_KEY) {
		p->malformed++;
		return;
	}
	if (reason == 1)
		p->gone_not_here++;
	else
		p->gone_disconnected++;
	out_begin("gone");
	out_str("peer", p->name);
	out_key("key", payload);
	if (reason > 1)
		out_u64("reason", reason);
	else
		out_str("reason", reason ? "not-here" : "disconnected");
	out_end();
}

static void peer_present(struct peer *p, const uint8_t *payload, size_t len)
{
	static const uint8_t v4_mapped[12] = { [10] = 0xff, 0xff };
	struct transport_addr a = { 0 };
	char text[64];

	if (len < FRAME_KEY) {
		p->malformed++;
		return;
	}
	p->present++;
	out_begin("present");
	out_str("peer", p->name);
	out_key("key", payload);
	if (len >= FRAME_KEY + 18) {
		const uint8_t *ip = payload + FRAME_KEY;
		struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a.ss;
		struct sockaddr_in *v4 = (struct sockaddr_in *)&a.ss;

		if (!memcmp(ip, v4_mapped, 12)) {
			v4->sin_family = AF_INET;
			memcpy(&v4->sin_addr, ip + 12, 4);
			memcpy(&v4->sin_port, ip + 16, 2);
		} else {
			v6->sin6_family = AF_INET6;
			memcpy(&v6->sin6_addr, ip, 16);
			memcpy(&v6->sin6_port, ip + 16, 2);
		}
		transport_addr_text(&a, text, sizeof(text));
		out_str("endpoint", text);
	}
	if (len >= FRAME_KEY + 19)
		out_u64("flags", payload[FRAME_KEY + 18]);
	out_end();
}

static void pinged(struct peer *p, const uint8_t *payload, size_t len)
{
	p->pings++;
	if (p->state != PEER_UP || len > 1000 || outq_pending(&p->out) > ANSWERS_MAX)
		return;
	session_send(p, FRAME_PONG, payload, len);
}

static void ponged(struct peer *p)
{
	p->pongs++;
	if (!p->ping_at)
		return;
	out_begin("pong");
	out_str("peer", p->name);
	out_u64("rtt_us", (loop_clock() - p->ping_at) / 1000);
	out_end();
	p->ping_at = 0;
}

static void health(struct peer *p, const uint8_t *payload, size_t len)
{
	p->health++;
	out_begin("health");
	out_str("peer", p->name);
	out_fmt("text", "%.*s", (int)(len < 256 ? len : 256), (const char *)payload);
	out_end();
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
}

static void restarting(struct peer *p, const uint8_t *payload, size_t len)
{
	if (len < 8) {
		p->malformed++;
		return;
	}
	p->restarting++;
	out_begin("restarting");
	out_str("peer", p->name);
	out_u64("reconnect_in_ms", be32(payload));
	out_u64("try_for_ms", be32(payload + 4));
	out_end();
}

static void frame(struct peer *p, uint8_t type, const uint8_t *payload, size_t len)
{
	if (p->state < PEER_UP) {
		if (type == FRAME_SERVER_KEY || p->state == PEER_GREETING)
			greeted(p, payload, len);
		else if (type == FRAME_SERVER_INFO)
			logged_in(p, payload, len);
		else
			p->unknown++;
		return;
	}
	switch (type) {
	case FRAME_RECV_PACKET:
		packet(p, payload, len);
		break;
	case FRAME_KEEP_ALIVE:
		p->keepalives++;
		break;
	case FRAME_PEER_GONE:
		peer_gone(p, payload, len);
		break;
	case FRAME_PEER_PRESENT:
		peer_present(p, payload, len);
		break;
	case FRAME_PING:
		pinged(p, payload, len);
		break;
	case FRAME_PONG:
		ponged(p);
		break;
	case FRAME_HEALTH:
		health(p, payload, len);
		break;
	case FRAME_RESTARTING:
		restarting(p, payload, len);
		break;
	default:
		p->unknown++;
	}
}

/* Whole frames at the start of buf; returns their bytes. The peer may be down afterwards. */
static size_t frames(struct peer *p, const uint8_t *buf, size_t len)
{
	char why[80];
	size_t at = 0;

	while (p->state != PEER_DOWN && len - at >= FRAME_HEAD) {
		uint32_t n = frame_len(buf + at);

		if (n > FRAME_LEN_MAX) {
			snprintf(why, sizeof(why), "frame of type 0x%02x and %u bytes", buf[at], n);
			peer_down(p, why);
			break;
		}
		if (len - at - FRAME_HEAD < n)
			break;
		frame(p, buf[at], buf + at + FRAME_HEAD, n);
		at += FRAME_HEAD + n;
	}
	return at;
}

void session_input(struct peer *p, uint8_t *buf, size_t stashed, size_t fresh)
{
	size_t len = stashed + fresh;
	char why[160];
	ssize_t n;

	if (p->state == PEER_UPGRADING) {
		n = http_answer((char *)buf, len, &p->upgrade, why, sizeof(why));
		if (n < 0) {
			peer_down(p, why);
			return;
		}
		if (!n) {
			stash(p, buf, len);
			return;
		}
		buf += n;
		stashed = 0;
		fresh = len - n;
		p->state = PEER_GREETING;
	}
	if (p->upgrade.websocket) {
		n = ws_read(&p->ws, buf + stashed, fresh);
		if (n < 0) {
			peer_down(p, "not a WebSocket stream");
			return;
		}
		fresh = n;
	}
	len = stashed + fresh;
	n = frames(p, buf, len);
	if (p->state == PEER_DOWN)
		return;
	stash(p, buf + n, len - n);
	if (p->ws_ended)
		peer_down(p, "WebSocket closed by the relay");
}
