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

struct records_part {
	struct walk walk;
	bool broken;		/* some of the record is missing: none of it is kept */
	size_t len, cap;	/* of bytes[] */
	uint64_t pos;		/* scanning: of bytes[0] */
	uint8_t bytes[];
};

static void free_part(struct records_part *part, struct budget *budget)
{
	if (part)
		budget_give(budget, part->cap);
	free(part);
}

void records_clear(struct records *r, struct budget *budget)
{
	free_part(r->part, budget);
	r->part = NULL;
}

/* A part with room for @need bytes. False, with nothing changed, where that cannot be. */
static bool reserve(struct records *r, const struct records_host *h, size_t need)
{
	size_t cap = r->part ? r->part->cap : 0;
	struct records_part *part;

	if (r->part && need <= cap)
		return true;
	if (!budget_take(h->budget, need - cap))
		return false;
	part = realloc(r->part, sizeof(*part) + need);
	if (!part) {
		budget_give(h->budget, need - cap);
		return false;
	}
	if (!r->part) {
		memset(part, 0, sizeof(*part));
		walk_init(&part->walk, WALK_TLS);
	}
	part->cap = need;
	r->part = part;
	return true;
}

static void lose_boundary(struct records *r, const struct records_host *h, uint64_t time_ns,
			  uint64_t bytes)
{
	const struct records_part *part = r->part;

	if (part && part->broken)
		bytes += WALK_HEADER_LEN + part->walk.len - part->walk.left;
	else if (part)
		bytes += part->cap ? part->len : part->walk.have;
	records_clear(r, h->budget);
	r->scanning = true;
	h->sink->unknown(h->ctx, h->side, time_ns, bytes);
}

/* A record's body has begun: room for all of it, or it is lost. False without any memory. */
static bool begin(struct records *r, const struct records_host *h, const struct walk *w)
{
	struct walk walk = *w;
	bool whole = reserve(r, h, WALK_HEADER_LEN + walk.len);

	if (!whole && !reserve(r, h, 0))
		return false;
	r->part->walk = walk;
	r->part->broken = !whole;
	if (whole) {
		memcpy(r->part->bytes, walk.head, WALK_HEADER_LEN);
		r->part->len = WALK_HEADER_LEN;
	}
	return true;
}

static void finish(struct records *r, const struct records_host *h, uint64_t time_ns,
		   uint64_t tcp_end)
{
	struct records_part *part = r->part;

	/* Detached first: what is handed on may come to need the room. */
	r->part = NULL;
	if (part->broken)
		h->sink->lost(h->ctx, h->side, time_ns, part->walk.type,
			      WALK_HEADER_LEN + part->walk.len);
	else
		h->sink->record(h->ctx, h->side, time_ns, tcp_end, part->bytes, part->len);
	free_part(part, h->budget);
}

/* Header bytes. How many; 0: it is no header, or there is no memory. */
static size_t step_head(struct records *r, const struct records_host *h, const uint8_t *data,
			unsigned int avail)
{
	struct walk fresh, *w = r->part ? &r->part->walk : &fresh;
	size_t n;

	if (!r->part)
		walk_init(&fresh, WALK_TLS);
	n = walk_head(w, data, avail);
	if (w->have == WALK_HEADER_LEN)
		return walk_read(w) && begin(r, h, w) ? n : 0;
	if (!r->part) {
		if (!reserve(r, h, 0))
			return 0;
		r->part->walk = fresh;
	}
	return n;
}

/* Takes what it can of one record; how many bytes. 0: the boundary is lost at @data. */
static size_t step(struct records *r, const struct records_host *h, uint64_t pos,
		   uint64_t time_ns, const uint8_t *data, size_t len)
{
	unsigned int avail = len < RECORD_CAP ? (unsigned int)len : RECORD_CAP;
	struct records_part *part = r->part;
	size_t n;

	if (!part && len >= WALK_HEADER_LEN && walk_tls_valid(data)) {
		size_t whole = WALK_HEADER_LEN + ((size_t)data[3] << 8 | data[4]);

		if (whole <= len) {
			h->sink->record(h->ctx, h->side, time_ns, pos + whole, data, whole);
			return whole;
		}
	}
	if (!part || !part->walk.left) {
		n = step_head(r, h, data, avail);
		if (!n || r->part->walk.have)
			return n;
	} else {
		n = walk_body(&part->walk, avail);
		if (!part->broken) {
			memcpy(part->bytes + part->len, data, n);
			part->len += n;
		}
	}
	if (!r->part->walk.left)
		finish(r, h, time_ns, pos + n);
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

static void scan(struct records *r, const struct records_host *h, uint64_t time_ns)
{
	struct records_part *part = r->part;
	bool more = false, found = false;
	size_t p;

	for (p = 0; p + WALK_HEADER_LEN <= part->len; p++) {
		found = plausible(part->bytes + p, part->len - p, &more);
		if (found)
			break;
	}
	if (p)
		h->sink->unknown(h->ctx, h->side, time_ns, p);
	if (!found || more) {
		memmove(part->bytes, part->bytes + p, part->len - p);
		part->len -= p;
		part->pos += p;
		return;
	}
	r->part = NULL;
	r->scanning = false;
	records_feed(r, h, part->pos + p, time_ns, part->bytes + p, part->len - p);
	free_part(part, h->budget);
}

/* Keeps a slice of what is scanned; how many bytes. */
static size_t keep(struct records *r, const struct records_host *h, uint64_t pos,
		   uint64_t time_ns, const uint8_t *data, size_t len)
{
	size_t n = len < SCAN_SLICE ? len : SCAN_SLICE, have = r->part ? r->part->len : 0;

	if (!reserve(r, h, have + n)) {
		lose_boundary(r, h, time_ns, n);
		return n;
	}
	if (!have)
		r->part->pos = pos;
	memcpy(r->part->bytes + have, data, n);
	r->part->len += n;
	scan(r, h, time_ns);
	return n;
}

void records_feed(struct records *r, const struct records_host *h, uint64_t pos,
		  uint64_t time_ns, const uint8_t *data, size_t len)
{
	size_t n, had;

	while (len) {
		if (r->scanning) {
			n = keep(r, h, pos, time_ns, data, len);
		} else {
			had = r->part ? r->part->walk.have : 0;
			n = step(r, h, pos, time_ns, data, len);
			if (!n) {
				records_clear(r, h->budget);
				lose_boundary(r, h, time_ns, had);
			}
		}
		pos += n;
		data += n;
		len -= n;
	}
}

void records_gap(struct records *r, const struct records_host *h, uint64_t time_ns, uint64_t bytes)
{
	struct records_part *part = r->part;

	if (r->scanning || !part || !part->walk.left || bytes > part->walk.left) {
		lose_boundary(r, h, time_ns, bytes);
		return;
	}
	/* It lies within one record, which ends where its header says. */
	part->walk.left -= (unsigned int)bytes;
	budget_give(h->budget, part->cap);
	part->len = part->cap = 0;
	part->broken = true;
	if (!part->walk.left)
		finish(r, h, time_ns, 0);
}

bool records_at_boundary(const struct records *r)
{
	return !r->scanning && !r->part;
}

bool records_fits(const uint8_t *header, size_t len)
{
	return walk_tls_valid(header) &&
	       WALK_HEADER_LEN + ((size_t)header[3] << 8 | header[4]) == len;
}

void records_resume(struct records *r, const struct records_host *h, uint64_t time_ns)
{
	if (r->part)
		lose_boundary(r, h, time_ns, 0);
	r->scanning = false;
}
