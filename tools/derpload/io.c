/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "flow.h"
#include "frame.h"
#include "peer.h"

#define READ_ROOM (128 * 1024)
/* What a peer may do before the others get their turn. */
#define READ_SHARE (512 * 1024)
#define WRITE_SHARE (256 * 1024)
#define DRIP_TICK_NS (20 * NSEC_PER_MSEC)

static uint8_t scratch[FRAME_LEN_MAX + FRAME_HEAD + HTTP_ANSWER_MAX + READ_ROOM];

static bool reading(const struct peer *p)
{
	return !p->paused && !p->drip.slot;
}

static bool streaming(const struct peer *p)
{
	return p->state >= PEER_UPGRADING;
}

static void arm(struct peer *p)
{
	uint32_t events = 0;
	int err;

	if (p->link.fd < 0)
		return;
	if (p->state == PEER_CONNECTING) {
		events = EPOLLOUT;
	} else {
		if (reading(p))
			events |= EPOLLIN;
		if ((p->blocked && p->state != PEER_CLOSING) || p->link.want_write)
			events |= EPOLLOUT;
	}
	err = loop_watch(&p->fd, events);
	if (err)
		peer_down(p, strerror(-err));
}

/* --- reading --- */

static void drip_fired(struct loop_timer *t)
{
	io_wake((struct peer *)((char *)t - offsetof(struct peer, drip)));
}

/* How much may be read now; 0 sets the timer for later. */
static size_t room(struct peer *p)
{
	uint64_t now, ticks, most;

	if (!p->drip_rate)
		return READ_ROOM;
	now = loop_clock();
	ticks = (now - p->drip_at) / DRIP_TICK_NS;
	if (ticks > NSEC_PER_SEC / DRIP_TICK_NS)
		ticks = NSEC_PER_SEC / DRIP_TICK_NS;
	/* A thousandth of a byte is the unit, or slow rates would round to nothing. */
	p->drip_tokens += ticks * (DRIP_TICK_NS / NSEC_PER_MSEC) * p->drip_rate;
	if (ticks)
		p->drip_at = now;
	most = p->drip_rate * 1000;
	if (p->drip_tokens > most)
		p->drip_tokens = most;
	if (p->drip_tokens < 1000) {
		loop_timer_set(&p->drip, now + DRIP_TICK_NS);
		return 0;
	}
	return p->drip_tokens / 1000 < READ_ROOM ? p->drip_tokens / 1000 : READ_ROOM;
}

static void read_some(struct peer *p)
{
	size_t share = READ_SHARE, len, stashed;
	ssize_t n;

	while (streaming(p) && reading(p)) {
		if (!share) {
			/* The socket may be empty and TLS not. */
			if (transport_has_pending(&p->link))
				loop_soon(&p->more);
			return;
		}
		len = room(p);
		if (!len)
			return;
		stashed = p->stash_len;
		n = transport_read(&p->link, scratch + stashed, len);
		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			peer_down(p, n ? p->link.why : "closed by the relay");
			return;
		}
		if (p->drip_rate)
			p->drip_tokens -= n * 1000;
		if (stashed)
			memcpy(scratch, p->stash, stashed);
		share -= (size_t)n < share ? (size_t)n : share;
		session_input(p, scratch, stashed, n);
	}
}

/* --- writing --- */

static void write_failed(struct peer *p)
{
	char why[sizeof(p->link.why)];

	/* What the relay sent before it went is still in the socket, and was delivered. */
	memcpy(why, p->link.why, sizeof(why));
	p->blocked = true;
	for (int i = 0; i < 64 && streaming(p) && p->link.fd >= 0 && reading(p); i++)
		read_some(p);
	peer_down(p, why);
}

static bool update_key(struct peer *p)
{
	int err = transport_tls_key_update(&p->link);

	p->key_update = false;
	if (err == -EAGAIN)
		p->blocked = true;
	else if (err && err != -EOPNOTSUPP)
		peer_down(p, p->link.why);
	return !err;
}

static void write_some(struct peer *p)
{
	int64_t share = WRITE_SHARE;
	struct outq_record r;
	const uint8_t *buf;
	size_t len;
	ssize_t n;

	while (streaming(p) && p->state != PEER_CLOSING && !p->blocked) {
		if (p->key_update && !p->link.half_written && !update_key(p))
			return;
		if (!outq_next(&p->out, &buf, &len)) {
			if (p->state != PEER_UP || !flow_fill(p))
				return;
			continue;
		}
		if (share <= 0) {
			loop_soon(&p->more);
			return;
		}
		n = transport_write(&p->link, buf, len);
		if (n == -EAGAIN) {
			p->blocked = true;
			return;
		}
		if (n < 0) {
			write_failed(p);
			return;
		}
		share -= n;
		outq_written(&p->out, n);
		while (outq_done(&p->out, &r))
			flow_sent(&r);
	}
}

/* --- events --- */

static void connected(struct peer *p)
{
	struct transport_addr local;
	const char *host = p->cfg.url.host, *sni = p->cfg.sni;
	struct transport_addr numeric;

	if (transport_connected(&p->link)) {
		peer_down(p, p->link.why);
		return;
	}
	transport_local(&p->link, &local);
	transport_addr_text(&local, p->local, sizeof(p->local));
	if (!p->cfg.url.tls) {
		session_start(p);
		return;
	}
	if (!*sni)
		sni = transport_addr_parse(host, &numeric) ? NULL : host;
	if (transport_tls_begin(&p->link, sni, *p->cfg.sni ? p->cfg.sni : host)) {
		peer_down(p, p->link.why);
		return;
	}
	if (p->drip_rate)
		transport_read_slowly(&p->link);
	p->state = PEER_SECURING;
}

static void secure(struct peer *p)
{
	int err = transport_tls_handshake(&p->link);

	if (err == -EAGAIN)
		return;
	if (err)
		peer_down(p, p->link.why);
	else
		session_start(p);
}

static void work(struct peer *p)
{
	if (p->state == PEER_SECURING)
		secure(p);
	read_some(p);
	write_some(p);
	arm(p);
}

static void more(struct loop_task *t)
{
	struct peer *p = (struct peer *)((char *)t - offsetof(struct peer, more));

	if (p->link.fd >= 0 && p->state != PEER_CONNECTING)
		work(p);
}

static void ready(struct loop_fd *w, uint32_t events)
{
	struct peer *p = (struct peer *)((char *)w - offsetof(struct peer, fd));
	int err;

	if (p->state == PEER_CONNECTING) {
		connected(p);
	} else if (events & (EPOLLERR | EPOLLHUP) && streaming(p) && !reading(p)) {
		/* It would be reported again and again while nobody reads. */
		err = transport_error(&p->link);
		peer_down(p, err ? strerror(err) : "closed by the relay");
	}
	if (events & EPOLLOUT)
		p->blocked = false;
	if (p->link.fd >= 0)
		work(p);
}

void io_start(struct peer *p)
{
	p->fd = (struct loop_fd){ .fd = p->link.fd, .ready = ready };
	p->more.run = more;
	p->drip.fire = drip_fired;
	arm(p);
}

void io_stop(struct peer *p)
{
	loop_forget(&p->fd);
	loop_timer_clear(&p->drip);
}

void io_wake(struct peer *p)
{
	if (p->link.fd >= 0)
		loop_soon(&p->more);
}

void io_pause(struct peer *p, bool paused)
{
	p->paused = paused;
	if (!p->drip_rate)
		loop_timer_clear(&p->drip);
	io_wake(p);
}

void io_drip(struct peer *p, uint64_t bytes_per_second)
{
	p->drip_rate = bytes_per_second;
	p->drip_tokens = 0;
	p->drip_at = loop_clock();
	loop_timer_clear(&p->drip);
	if (bytes_per_second)
		transport_read_slowly(&p->link);
	io_wake(p);
}
