/* SPDX-License-Identifier: BSD-2-Clause */
#include "peer.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flow.h"
#include "mem.h"
#include "out.h"

#define CLOSE_TIMEOUT_NS (3 * NSEC_PER_SEC)

struct peer_settings peer_settings;

static struct peer *peers, *peers_by_key;
static struct peer *waiting_head, **waiting_tail = &waiting_head;
static uint32_t connecting, busy;
static struct transport *silent;	/* closed for us, open for the relay */
static uint32_t silent_len;

static void start_waiting(struct loop_task *t);
static struct loop_task starter = { .run = start_waiting };

struct peer *peer_find(const char *name)
{
	struct peer *p;

	HASH_FIND_STR(peers, name, p);
	return p;
}

struct peer *peer_find_key(const uint8_t key[static 32])
{
	struct peer *p;

	HASH_FIND(by_key, peers_by_key, key, 32, p);
	return p;
}

struct peer *peer_first(void)
{
	return peers;
}

struct peer *peer_next(struct peer *p)
{
	return p->hh.next;
}

uint32_t peer_busy(void)
{
	return busy;
}

void peer_derive_key(const char *name, uint8_t priv[static 32])
{
	char text[TEXT_NAME_MAX + 64];
	int n;

	n = snprintf(text, sizeof(text), "derpload node key %llu %s",
		     (unsigned long long)peer_settings.seed, name);
	crypto_generichash(priv, 32, (uint8_t *)text, n, NULL, 0);
	/* As tailscale clamps its own. */
	priv[0] &= 248;
	priv[31] = (priv[31] & 127) | 64;
}

static void set_state(struct peer *p, enum peer_state state)
{
	bool was_busy = p->state != PEER_DOWN && p->state != PEER_UP;
	bool is_busy = state != PEER_DOWN && state != PEER_UP;
	bool was_connecting = p->state >= PEER_CONNECTING && p->state < PEER_UP;
	bool is_connecting = state >= PEER_CONNECTING && state < PEER_UP;

	busy += is_busy - was_busy;
	connecting += is_connecting - was_connecting;
	p->state = state;
	if (was_connecting && !is_connecting && waiting_head)
		loop_soon(&starter);
}

static void deadline_passed(struct loop_timer *t)
{
	struct peer *p = (struct peer *)((char *)t - offsetof(struct peer, deadline));
	static const char *const step[] = {
		[PEER_CONNECTING] = "TCP connect", [PEER_SECURING] = "TLS handshake",
		[PEER_UPGRADING] = "HTTP upgrade", [PEER_GREETING] = "wait for ServerKey",
		[PEER_LOGIN] = "wait for ServerInfo",
	};
	char why[64] = "closed";

	if (p->state < PEER_UP)
		snprintf(why, sizeof(why), "timeout: %s", step[p->state]);
	peer_down(p, why);
}

static void start(struct peer *p)
{
	set_state(p, PEER_CONNECTING);
	p->connects++;
	loop_timer_set(&p->deadline, loop_clock() + peer_settings.connect_timeout_ns);
	if (transport_open(&p->link, &p->cfg.sock)) {
		peer_down(p, p->link.why);
		return;
	}
	io_start(p);
}

static void start_waiting(struct loop_task *t)
{
	(void)t;
	while (waiting_head && connecting < peer_settings.parallel) {
		struct peer *p = waiting_head;

		waiting_head = p->next_waiting;
		if (!waiting_head)
			waiting_tail = &waiting_head;
		start(p);
	}
}

static void stop_waiting(struct peer *p)
{
	struct peer **at = &waiting_head;

	while (*at != p)
		at = &(*at)->next_waiting;
	*at = p->next_waiting;
	if (!*at)
		waiting_tail = at;
}

static void set_key(struct peer *p)
{
	uint8_t pub[32];
	struct peer *other;

	crypto_scalarmult_base(pub, p->cfg.priv);
	if (!memcmp(pub, p->pub, 32))
		return;
	if (peer_find_key(p->pub) == p) {
		HASH_DELETE(by_key, peers_by_key, p);
		/* Another one may have the old key too. */
		for (other = peers; other; other = peer_next(other))
			if (other != p && !memcmp(other->pub, p->pub, 32))
				break;
		if (other)
			HASH_ADD(by_key, peers_by_key, pub, 32, other);
	}
	memcpy(p->pub, pub, 32);
	if (!peer_find_key(p->pub))
		HASH_ADD(by_key, peers_by_key, pub, 32, p);
}

struct peer *peer_open(const char *name, const struct peer_config *cfg, char *err, size_t err_len)
{
	struct peer *p = peer_find(name);

	if (p && p->state != PEER_DOWN) {
		snprintf(err, err_len, "peer %s is there already", name);
		return NULL;
	}
	if (!p) {
		p = mem_zero(1, sizeof(*p));
		strcpy(p->name, name);
		p->link.fd = -1;
		p->deadline.fire = deadline_passed;
		HASH_ADD_STR(peers, name, p);
	}
	p->cfg = *cfg;
	set_key(p);
	transport_addr_text(&cfg->sock.to, p->remote, sizeof(p->remote));
	p->upgrade = (struct http_upgrade){
		.websocket = cfg->websocket, .fast_start = cfg->fast_start,
	};
	p->ws = (struct ws_rx){ 0 };
	p->ws_ended = p->paused = p->blocked = p->key_update = false;
	p->drip_rate = p->ping_at = 0;
	p->next_waiting = NULL;
	*waiting_tail = p;
	waiting_tail = &p->next_waiting;
	set_state(p, PEER_WAITING);
	loop_soon(&starter);
	return p;
}

void peer_is_up(struct peer *p)
{
	loop_timer_clear(&p->deadline);
	set_state(p, PEER_UP);
	out_begin("up");
	out_str("peer", p->name);
	out_key("key", p->pub);
	out_key("server", p->server);
	out_str("local", p->local);
	out_str("remote", p->remote);
	out_end();
	io_wake(p);
}

/* What stands in our buffers will not get to the kernel any more. */
static void give_up_unsent(struct peer *p, const char *why)
{
	struct outq_record r;

	while (outq_drop(&p->out, &r))
		flow_unsent(&r);
	flow_fail(p, why);
	outq_reset(&p->out);
}

static void leave(struct peer *p, const char *why)
{
	int unacked = transport_unacked(&p->link);
	char text[256];

	snprintf(text, sizeof(text), "%s", why);
	if (p->state == PEER_WAITING)
		stop_waiting(p);
	io_stop(p);
	loop_timer_clear(&p->deadline);
	give_up_unsent(p, text);
	free(p->stash);
	p->stash = NULL;
	p->stash_len = 0;
	set_state(p, PEER_DOWN);
	out_begin("down");
	out_str("peer", p->name);
	out_str("why", text);
	if (unacked > 0)
		out_u64("unacked_bytes", unacked);
	out_end();
}

void peer_down(struct peer *p, const char *why)
{
	if (p->state == PEER_DOWN)
		return;
	leave(p, p->state == PEER_CLOSING ? "closed" : why);
	transport_close(&p->link, false);
}

void peer_close(struct peer *p, enum peer_close how)
{
	if (p->state == PEER_DOWN || p->state == PEER_CLOSING)
		return;
	if (how == PEER_SILENT && p->link.fd >= 0) {
		leave(p, "silent");
		silent = mem_resize(silent, silent_len + 1, sizeof(*silent));
		silent[silent_len++] = p->link;
		p->link = (struct transport){ .fd = -1 };
		return;
	}
	if (how == PEER_RST || p->state != PEER_UP) {
		leave(p, how == PEER_RST ? "reset" : "closed");
		transport_close(&p->link, how == PEER_RST);
		return;
	}
	give_up_unsent(p, "closed");
	transport_finish(&p->link);
	set_state(p, PEER_CLOSING);
	loop_timer_set(&p->deadline, loop_clock() + CLOSE_TIMEOUT_NS);
	p->drip_rate = 0;
	io_pause(p, false);
}
