// SPDX-License-Identifier: BSD-2-Clause
#include "stream/records.h"

#include <stdlib.h>
#include <string.h>

#define RECORD_CAP	(WALK_HEADER_LEN + TLS_MAX_RECORD)
/* While scanning, bytes are looked at so many at a time. */
#define SCAN_SLICE	16384
#define MIN_SEALED	17
/* A hello's first bytes: its type, its length, the version in it. */
#define HELLO_HEAD	6
#define HELLO_CLIENT	1
#define HELLO_SERVER	2

void records_init(struct records *r, int side, bool scanning, struct budget *budget,
		  const struct records_sink *sink, void *ctx)
{
	*r = (struct records){ .side = side, .scanning = scanning, .budget = budget,
			       .sink = sink, .ctx = ctx };
	walk_init(&r->walk, WALK_TLS);
}

void records_clear(struct records *r)
{
	budget_give(r->budget, r->cap);
	free(r->buf);
	r->buf = NULL;
	r->len = r->cap = 0;
}

static bool reserve(struct records *r, size_t need)
{
	uint8_t *buf;

	if (need <= r->cap)
		return true;
	if (!budget_take(r->budget, need - r->cap))
		return false;
	buf = realloc(r->buf, need);
	if (!buf) {
		budget_give(r->budget, need - r->cap);
		return false;
	}
	r->buf = buf;
	r->cap = need;
	return true;
}

static void lose_boundary(struct records *r, uint64_t time_ns, uint64_t bytes)
{
	bytes += r->broken ? WALK_HEADER_LEN + r->walk.len - r->walk.left : r->len;
	if (!r->buf)
		bytes += r->walk.have;
	records_clear(r);
	walk_init(&r->walk, WALK_TLS);
	r->scanning = true;
	r->broken = false;
	r->sink->unknown(r->ctx, r->side, time_ns, bytes);
}

/* A record's body has begun: room for all of it, or it is lost. */
static void begin(struct records *r)
{
	if (!reserve(r, WALK_HEADER_LEN + r->walk.len)) {
		records_clear(r);
		r->broken = true;
		return;
	}
	memcpy(r->buf, r->walk.head, WALK_HEADER_LEN);
	r->len = WALK_HEADER_LEN;
}

static void finish(struct records *r, uint64_t time_ns, uint64_t tcp_end)
{
	struct records whole = *r;

	/* Detached first: what is handed on may come to need the room. */
	r->buf = NULL;
	r->len = r->cap = 0;
	r->broken = false;
	if (whole.broken)
		r->sink->lost(r->ctx, r->side, time_ns, r->walk.type,
			      WALK_HEADER_LEN + r->walk.len);
	else
		r->sink->record(r->ctx, r->side, time_ns, tcp_end, whole.buf, whole.len);
	records_clear(&whole);
}

/* Takes what it can of one record; how many bytes. 0: the boundary is lost at @data. */
static size_t step(struct records *r, uint64_t pos, uint64_t time_ns, const uint8_t *data,
		   size_t len)
{
	unsigned int n, avail = len < RECORD_CAP ? (unsigned int)len : RECORD_CAP;
	struct walk *w = &r->walk;

	if (!w->left && !w->have && len >= WALK_HEADER_LEN && walk_tls_valid(data)) {
		size_t whole = WALK_HEADER_LEN + ((size_t)data[3] << 8 | data[4]);

		if (whole <= len) {
			r->sink->record(r->ctx, r->side, time_ns, pos + whole, data, whole);
			return whole;
		}
	}
	if (!w->left) {
		n = walk_head(w, data, avail);
		if (w->have < WALK_HEADER_LEN)
			return n;
		if (!walk_read(w))
			return 0;
		begin(r);
	} else {
		n = walk_body(w, avail);
		if (!r->broken) {
			memcpy(r->buf + r->len, data, n);
			r->len += n;
		}
	}
	if (!w->left)
		finish(r, time_ns, pos + n);
	return n;
}

/* A hello: a record whose first message says of itself that it fits in. */
static bool begins_hello(const uint8_t *p, size_t len, size_t body, bool *more)
{
	size_t message;

	if (!p[2] || p[2] > 3 || body < HELLO_HEAD || body > TLS_MAX_RECORD)
		return false;
	if (len < WALK_HEADER_LEN + HELLO_HEAD) {
		*more = true;
		return true;
	}
	p += WALK_HEADER_LEN;
	message = (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
	return (p[0] == HELLO_CLIENT || p[0] == HELLO_SERVER) && 4 + message <= body &&
	       p[4] == 3 && p[5] <= 3;
}

static bool begins_change(const uint8_t *p, size_t len, size_t body, bool *more)
{
	if (p[2] != 3 || body != 1)
		return false;
	*more = *more || len == WALK_HEADER_LEN;
	return len == WALK_HEADER_LEN || p[WALK_HEADER_LEN] == 1;
}

/* Nothing but a record begins like that. */
static bool begins(const uint8_t *p, size_t len, size_t body, bool *more)
{
	if (p[1] != 3)
		return false;
	switch (p[0]) {
	case TLS_APPLICATION:
		return p[2] == 3 && body >= MIN_SEALED && body <= TLS_MAX_RECORD;
	case TLS_HANDSHAKE:
		return begins_hello(p, len, body, more);
	case TLS_CHANGE_CIPHER:
		return begins_change(p, len, body, more);
	default:
		return false;
	}
}

/* Is there a record at @p, as far as these bytes show? *more: they do not show it yet. */
static bool plausible(const uint8_t *p, size_t len, bool *more)
{
	size_t body = (size_t)p[3] << 8 | p[4], rest;
	const uint8_t *next;

	if (!begins(p, len, body, more))
		return false;
	if (WALK_HEADER_LEN + body > len) {
		*more = true;
		return true;
	}
	next = p + WALK_HEADER_LEN + body;
	rest = len - WALK_HEADER_LEN - body;
	return (rest < 1 || (next[0] >= TLS_CHANGE_CIPHER && next[0] <= TLS_APPLICATION)) &&
	       (rest < 2 || next[1] == 3) && (rest < 3 || next[2] == 3) &&
	       (rest < 4 || next[3] <= TLS_MAX_RECORD >> 8);
}

static void feed(struct records *r, uint64_t pos, uint64_t time_ns, const uint8_t *data,
		 size_t len);

static void scan(struct records *r, uint64_t time_ns)
{
	bool more = false, found = false;
	struct records old;
	size_t p;

	for (p = 0; p + WALK_HEADER_LEN <= r->len; p++) {
		found = plausible(r->buf + p, r->len - p, &more);
		if (found)
			break;
	}
	if (p)
		r->sink->unknown(r->ctx, r->side, time_ns, p);
	if (!found || more) {
		memmove(r->buf, r->buf + p, r->len - p);
		r->len -= p;
		r->pos += p;
		return;
	}
	old = *r;
	r->buf = NULL;
	r->len = r->cap = 0;
	r->scanning = false;
	feed(r, old.pos + p, time_ns, old.buf + p, old.len - p);
	records_clear(&old);
}

static void feed(struct records *r, uint64_t pos, uint64_t time_ns, const uint8_t *data,
		 size_t len)
{
	size_t n, had;

	while (len) {
		if (r->scanning) {
			n = len < SCAN_SLICE ? len : SCAN_SLICE;
			if (!reserve(r, r->len + n)) {
				lose_boundary(r, time_ns, n);
			} else {
				if (!r->len)
					r->pos = pos;
				memcpy(r->buf + r->len, data, n);
				r->len += n;
				scan(r, time_ns);
			}
		} else {
			had = r->walk.have;
			n = step(r, pos, time_ns, data, len);
			if (!n)
				lose_boundary(r, time_ns, had);
		}
		pos += n;
		data += n;
		len -= n;
	}
}

void records_feed(struct records *r, uint64_t pos, uint64_t time_ns, const uint8_t *data,
		  size_t len)
{
	feed(r, pos, time_ns, data, len);
}

void records_gap(struct records *r, uint64_t time_ns, uint64_t bytes)
{
	struct walk *w = &r->walk;

	if (r->scanning || !w->left || bytes > w->left) {
		lose_boundary(r, time_ns, bytes);
		return;
	}
	/* It lies within one record, which ends where its header says. */
	w->left -= (unsigned int)bytes;
	if (!r->broken)
		records_clear(r);
	r->broken = true;
	if (!w->left)
		finish(r, time_ns, 0);
}
