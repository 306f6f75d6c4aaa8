// SPDX-License-Identifier: BSD-2-Clause
#include "stream/frames.h"

#include <stdlib.h>
#include <string.h>

/* So much of a frame is handed on: of a packet, its keys and what names it. */
#define PACKET_HEAD	(2 * DERP_KEY_LEN + DERP_DIGEST_LEN)
#define PACKET_KEPT	(WALK_HEADER_LEN + PACKET_HEAD)
#define OTHER_HEAD	4096

static bool within(uint32_t len, uint32_t low, uint32_t high)
{
	return len >= low && len <= high;
}

bool derp_plausible(const uint8_t *header, uint8_t talker)
{
	uint32_t len = walk_derp_len(header);
	bool client = talker & DERP_CLIENT, server = talker & DERP_SERVER;

	switch (header[0]) {
	case DERP_SERVER_KEY:
		return server && within(len, 40, 1024);
	case DERP_CLIENT_INFO:
		return client && within(len, 32 + 24 + 16, 4096);
	case DERP_SERVER_INFO:
		return server && within(len, 24 + 16, 4096);
	case DERP_SEND_PACKET:
		return client && within(len, DERP_KEY_LEN, DERP_KEY_LEN + DERP_MAX_PACKET);
	case DERP_RECV_PACKET:
		return server && within(len, DERP_KEY_LEN, DERP_KEY_LEN + DERP_MAX_PACKET);
	case DERP_FORWARD_PACKET:
		return client && within(len, 2 * DERP_KEY_LEN, 2 * DERP_KEY_LEN + DERP_MAX_PACKET);
	case DERP_KEEP_ALIVE:
		return server && !len;
	case DERP_NOTE_PREFERRED:
		return client && len == 1;
	case DERP_PEER_GONE:
		return server && within(len, 32, 33);
	case DERP_PEER_PRESENT:
		return server && (len == 32 || within(len, 50, 51));
	case DERP_WATCH_CONNS:
		return client && !len;
	case DERP_CLOSE_PEER:
		return client && len == 32;
	case DERP_PING:
	case DERP_PONG:
		return within(len, 8, 1000);
	case DERP_HEALTH:
		return server && len <= 4096;
	case DERP_RESTARTING:
		return server && len == 8;
	default:
		return false;
	}
}

/* A frame that does not lie in one piece. */
struct derp_part {
	struct walk walk;
	bool damaged;		/* some of what is needed of it is missing */
	size_t want;		/* so much of it is kept, header included; 0: nothing yet */
	size_t len, cap;	/* of bytes[] */
	uint8_t bytes[];
};

void derp_init(struct derp *d, bool synced)
{
	*d = (struct derp){ .synced = synced, .from_start = synced, .base_pos = UINT64_MAX };
}

static void drop_part(struct derp *d, struct budget *budget)
{
	if (d->part)
		budget_give(budget, d->part->cap);
	free(d->part);
	d->part = NULL;
}

static void drop_sync(struct derp *d, struct budget *budget)
{
	derp_sync_free(d->sync, budget);
	d->sync = NULL;
}

void derp_clear(struct derp *d, struct budget *budget)
{
	drop_part(d, budget);
	drop_sync(d, budget);
}

/* The next frame comes in parts; mostly it is a packet. False without memory. */
static bool begin_part(struct derp *d, struct budget *budget)
{
	size_t cap = budget_take(budget, PACKET_KEPT) ? PACKET_KEPT : 0;
	struct derp_part *part = malloc(sizeof(*part) + cap);

	if (!part) {
		budget_give(budget, cap);
		return false;
	}
	*part = (struct derp_part){ .cap = cap };
	walk_init(&part->walk, WALK_DERP);
	d->part = part;
	return true;
}

/* How much of a frame must be kept, header included. */
static size_t head_need(const struct walk *w)
{
	size_t most = OTHER_HEAD;

	if (w->type == DERP_SEND_PACKET || w->type == DERP_RECV_PACKET ||
	    w->type == DERP_FORWARD_PACKET)
		most = PACKET_HEAD;
	return WALK_HEADER_LEN + (w->len < most ? w->len : most);
}

/* @start: the header and what follows of it, @have bytes. */
static void emit(struct derp *d, const struct derp_host *h, const struct walk *w, uint64_t time_ns,
		 uint64_t tcp_end, const uint8_t *start, size_t have)
{
	struct stream_frame f = {
		.time_ns = time_ns,
		.dir = h->dir,
		.type = w->type,
		.len = w->len,
		.head_len = (uint32_t)(have - WALK_HEADER_LEN),
		.head = start + WALK_HEADER_LEN,
		.tcp_end = tcp_end,
		.derp_off = d->off,
		.derp_from_start = d->from_start,
	};

	d->off += WALK_HEADER_LEN + w->len;
	h->sink->frame(h->ctx, h->dir, &f, start, have);
}

static void part_ends(struct derp *d, const struct derp_host *h, uint64_t time_ns,
		      uint64_t tcp_end)
{
	struct derp_part *part = d->part;

	if (part->damaged) {
		d->off += WALK_HEADER_LEN + part->walk.len;
		h->sink->resumed(h->ctx, h->dir, time_ns);
	} else {
		emit(d, h, &part->walk, time_ns, tcp_end, part->bytes, part->len);
	}
	drop_part(d, h->budget);
}

static bool reserve(struct derp *d, struct budget *budget, size_t need)
{
	struct derp_part *part = d->part;
	size_t more = need > part->cap ? need - part->cap : 0;

	if (more) {
		if (!budget_take(budget, more))
			return false;
		part = realloc(part, sizeof(*part) + need);
		if (!part) {
			budget_give(budget, more);
			return false;
		}
		part->cap = need;
		d->part = part;
	}
	part->want = need;
	memcpy(part->bytes, part->walk.head, WALK_HEADER_LEN);
	part->len = WALK_HEADER_LEN;
	return true;
}

/* Keeps what is needed of a frame that does not lie in one piece. */
static void keep(struct derp *d, const struct derp_host *h, const uint8_t *data, size_t len)
{
	struct derp_part *part = d->part;
	size_t want;

	if (part->damaged)
		return;
	if (!part->want &&
	    !(h->want_whole && reserve(d, h->budget, WALK_HEADER_LEN + part->walk.len)) &&
	    !reserve(d, h->budget, head_need(&part->walk))) {
		part->damaged = true;
		return;
	}
	part = d->part;
	want = part->want - part->len;
	if (want > len)
		want = len;
	if (want)
		memcpy(part->bytes + part->len, data, want);
	part->len += want;
}

static uint64_t end_of(const struct derp_chunk *c, size_t used)
{
	return c->record ? c->tcp_end : c->tcp_pos + used;
}

static void lose_sync(struct derp *d, struct budget *budget)
{
	drop_part(d, budget);
	d->synced = false;
}

/* A frame that lies in one piece at @used. How long it is; 0: it does not. */
static size_t cut_whole(struct derp *d, const struct derp_host *h, const struct derp_chunk *c,
			size_t used)
{
	size_t left = c->len - used, whole, have;
	struct walk w;

	if (left < WALK_HEADER_LEN)
		return 0;
	walk_init(&w, WALK_DERP);
	walk_head(&w, c->data + used, WALK_HEADER_LEN);
	if (!walk_read(&w) || left - WALK_HEADER_LEN < w.len)
		return 0;
	whole = have = WALK_HEADER_LEN + w.len;
	if (c->parts && have > head_need(&w))
		have = head_need(&w);
	emit(d, h, &w, c->time_ns, end_of(c, used + whole), c->data + used, have);
	return whole;
}

/* What comes at @used of a frame in parts. How much; 0: the boundary is lost. */
static size_t cut_part(struct derp *d, const struct derp_host *h, const struct derp_chunk *c,
		       size_t used)
{
	unsigned int avail = c->len - used < UINT32_MAX ? (unsigned int)(c->len - used) : UINT32_MAX;
	struct walk *w = &d->part->walk;
	unsigned int n = 0, body;

	if (!w->left) {
		n = walk_head(w, c->data + used, avail);
		if (w->have < WALK_HEADER_LEN)
			return n;
		if (!walk_read(w))
			return 0;
	}
	body = walk_body(w, avail - n);
	keep(d, h, c->data + used + n, body);
	used += n + body;
	if (!d->part->walk.left) {
		if (d->part->damaged)
			h->sink->skipped(h->ctx, h->dir, c->time_ns, 0);
		part_ends(d, h, c->time_ns, end_of(c, used));
	}
	return n + body;
}

/* Frames from a boundary on. How many bytes were used: all but where the boundary is lost. */
static size_t cut(struct derp *d, const struct derp_host *h, const struct derp_chunk *c)
{
	size_t used = 0, n;

	while (used < c->len) {
		n = d->part ? 0 : cut_whole(d, h, c, used);
		if (!n && (d->part || begin_part(d, h->budget)))
			n = cut_part(d, h, c, used);
		if (!n)
			return used;
		used += n;
	}
	return used;
}

/* Brings @want bytes from @at on, or as many as there are. */
static bool bring(struct derp_parts *p, size_t at, size_t want)
{
	return p->bring(p, at, want < p->len - at ? at + want : p->len);
}

bool derp_plan(const struct derp *d, const struct derp_host *h, struct derp_parts *p)
{
	size_t at = 0, start, want = 0;
	struct walk w;

	walk_init(&w, WALK_DERP);
	if (d->part) {
		w = d->part->walk;
		want = d->part->want - d->part->len;
	}
	if (want > w.left)
		want = w.left;
	if (!d->synced || h->want_whole || !bring(p, 0, want))
		return false;
	while ((at += walk_body(&w, (unsigned int)(p->len - at))) < p->len) {
		start = at;
		if (!bring(p, at, DERP_HEAD_LEN))
			return false;
		at += walk_head(&w, p->data + at, (unsigned int)(p->len - at));
		if (w.have < WALK_HEADER_LEN)
			break;
		if (!derp_plausible(w.head, h->talker) || !walk_read(&w) ||
		    !bring(p, start, head_need(&w)))
			return false;
	}
	return true;
}

static void search(struct derp *d, const struct derp_host *h, const struct derp_chunk *c)
{
	uint64_t dropped = 0, start = 0;
	struct derp_sync *sync;
	struct derp_chunk part;
	bool found;
	size_t n;

	found = derp_sync_feed(&d->sync, c, h->talker, h->budget, &dropped, &start);
	if (dropped + start)
		h->sink->skipped(h->ctx, h->dir, c->time_ns, dropped + start);
	if (!found)
		return;
	sync = d->sync;
	d->sync = NULL;
	d->synced = true;
	/* Of a plain stream every offset stays known; the others count anew. */
	if (c->record || c->framed || d->base_pos == UINT64_MAX) {
		d->from_start = false;
		d->base_pos = UINT64_MAX;
		d->off = 0;
	}
	h->sink->resumed(h->ctx, h->dir, c->time_ns);
	for (n = 0; derp_sync_chunk(sync, n, start, &part); n++) {
		if (!n && d->base_pos != UINT64_MAX)
			d->off = part.tcp_pos - d->base_pos;
		derp_feed(d, h, &part);
	}
	derp_sync_free(sync, h->budget);
}

void derp_feed(struct derp *d, const struct derp_host *h, const struct derp_chunk *c)
{
	struct derp_chunk rest = *c;
	size_t used;

	if (d->synced && d->base_pos == UINT64_MAX && !c->record && !c->framed && c->len)
		d->base_pos = c->tcp_pos - d->off;
	if (d->synced) {
		used = cut(d, h, c);
		if (used == c->len)
			return;
		lose_sync(d, h->budget);
		rest.data += used;
		rest.len -= used;
		rest.tcp_pos += used;
		rest.inner |= used > 0;
	}
	if (rest.len)
		search(d, h, &rest);
}

void derp_gap(struct derp *d, const struct derp_host *h, uint64_t time_ns, uint64_t pos,
	      uint64_t bytes, bool exact)
{
	struct derp_part *part = d->part;
	size_t kept = 0;

	if (exact && part && part->walk.left && bytes <= part->walk.left) {
		/* Where the start of the frame was seen nothing is missed. */
		if (part->damaged || !part->want || part->len < head_need(&part->walk)) {
			part->damaged = true;
			h->sink->skipped(h->ctx, h->dir, time_ns, bytes);
		}
		/* What is kept must be of one piece: nothing is added behind the hole. */
		part->want = part->len;
		part->walk.left -= (unsigned int)bytes;
		if (!part->walk.left)
			part_ends(d, h, time_ns, pos + bytes);
		return;
	}
	if (d->sync)
		derp_sync_bytes(d->sync, &kept);
	drop_sync(d, h->budget);
	lose_sync(d, h->budget);
	h->sink->skipped(h->ctx, h->dir, time_ns, kept + bytes);
}

void derp_begin(struct derp *d, const struct derp_host *h, uint64_t time_ns)
{
	size_t kept = 0;

	if (d->sync)
		derp_sync_bytes(d->sync, &kept);
	drop_sync(d, h->budget);
	lose_sync(d, h->budget);
	if (kept)
		h->sink->skipped(h->ctx, h->dir, time_ns, kept);
	d->synced = true;
	d->from_start = false;
	d->base_pos = UINT64_MAX;
	d->off = 0;
	h->sink->resumed(h->ctx, h->dir, time_ns);
}

bool derp_at_boundary(const struct derp *d)
{
	return d->synced && !d->part;
}

/* So much of the frame lies before @at. */
static uint64_t walked_of(const struct capture_counting *at)
{
	if (at->have < WALK_HEADER_LEN)
		return at->have;
	return WALK_HEADER_LEN + walk_derp_len(at->head) - at->left;
}

/* Takes over the frame that is under way. False: it makes no sense. */
static bool take_over(struct derp *d, const struct derp_host *h, const struct capture_counting *at)
{
	struct walk *w;

	if (!begin_part(d, h->budget))
		return false;
	w = &d->part->walk;
	memcpy(w->head, at->head, at->have < WALK_HEADER_LEN ? at->have : WALK_HEADER_LEN);
	w->have = (unsigned char)(at->have < WALK_HEADER_LEN ? at->have : WALK_HEADER_LEN);
	if (at->have < WALK_HEADER_LEN)
		return true;
	if (!walk_read(w))
		return false;
	keep(d, h, at->head + WALK_HEADER_LEN, at->have - WALK_HEADER_LEN);
	/* Of its start more was walked than was kept. */
	w = &d->part->walk;
	d->part->damaged |= walked_of(at) > at->have && at->have < head_need(w);
	w->left = at->left;
	return true;
}

void derp_resume(struct derp *d, const struct derp_host *h, uint64_t time_ns, uint64_t pos,
		 const struct capture_counting *at)
{
	derp_clear(d, h->budget);
	d->synced = false;
	if (at->have >= WALK_HEADER_LEN && at->left > walk_derp_len(at->head)) {
		h->sink->skipped(h->ctx, h->dir, time_ns, 0);
		return;
	}
	d->synced = true;
	if (d->base_pos == UINT64_MAX) {
		d->base_pos = at->web.on ? UINT64_MAX : pos - walked_of(at);
		d->from_start = false;
	}
	/* Of what was counted in a WebSocket it is not known how much was DERP's. */
	d->off = at->web.on ? 0 : pos - walked_of(at) - d->base_pos;
	h->sink->resumed(h->ctx, h->dir, time_ns);
	if (at->have && !take_over(d, h, at)) {
		lose_sync(d, h->budget);
		h->sink->skipped(h->ctx, h->dir, time_ns, at->left);
	}
}

void derp_pass(struct derp *d, const struct derp_host *h, uint64_t pos)
{
	derp_clear(d, h->budget);
	d->synced = true;
	if (d->base_pos == UINT64_MAX) {
		d->base_pos = pos;
		d->from_start = false;
	}
	d->off = pos - d->base_pos;
}

void derp_named(struct derp *d, const struct derp_host *h, uint64_t time_ns, uint64_t pos,
		const struct capture_forward *named)
{
	struct stream_frame f = {
		.time_ns = time_ns, .dir = h->dir, .type = DERP_FORWARD_PACKET, .len = named->len,
		.head_len = named->head_len, .head = named->head, .digest = named->digest,
		.tcp_end = pos, .named = true,
	};

	if (d->base_pos == UINT64_MAX) {
		d->base_pos = pos - WALK_HEADER_LEN - named->len;
		d->from_start = false;
	}
	derp_pass(d, h, pos);
	f.derp_off = d->off - WALK_HEADER_LEN - named->len;
	f.derp_from_start = d->from_start;
	h->sink->frame(h->ctx, h->dir, &f, named->head, 0);
}
