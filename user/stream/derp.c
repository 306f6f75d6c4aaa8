// SPDX-License-Identifier: BSD-2-Clause
#include "stream/frames.h"

#include <stdlib.h>
#include <string.h>

/* So much of a frame is handed on: of a packet, its keys and what names it. */
#define PACKET_HEAD	(2 * DERP_KEY_LEN + DERP_DIGEST_LEN)
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

void derp_init(struct derp *d, enum capture_dir dir, uint8_t talker, bool synced, bool want_whole,
	       struct budget *budget, const struct derp_sink *sink, void *ctx)
{
	*d = (struct derp){ .dir = dir, .talker = talker, .synced = synced, .from_start = synced,
			    .want_whole = want_whole, .budget = budget, .sink = sink, .ctx = ctx,
			    .base_pos = UINT64_MAX };
	walk_init(&d->walk, WALK_DERP);
}

static void drop_head(struct derp *d)
{
	budget_give(d->budget, d->head_cap);
	free(d->head);
	d->head = NULL;
	d->head_len = d->head_cap = d->head_want = 0;
}

void derp_clear(struct derp *d)
{
	drop_head(d);
	derp_sync_free(d->sync, d->budget);
	d->sync = NULL;
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
static void emit(struct derp *d, uint64_t time_ns, uint64_t tcp_end, const uint8_t *start,
		 size_t have)
{
	struct stream_frame f = {
		.time_ns = time_ns,
		.dir = d->dir,
		.type = d->walk.type,
		.len = d->walk.len,
		.head_len = (uint32_t)(have - WALK_HEADER_LEN),
		.head = start + WALK_HEADER_LEN,
		.tcp_end = tcp_end,
		.derp_off = d->off,
		.derp_from_start = d->from_start,
	};

	d->off += WALK_HEADER_LEN + d->walk.len;
	d->sink->frame(d->ctx, d->dir, &f, start, have);
}

static void frame_ends(struct derp *d, uint64_t time_ns, uint64_t tcp_end)
{
	if (d->damaged) {
		d->damaged = false;
		d->off += WALK_HEADER_LEN + d->walk.len;
		d->sink->resumed(d->ctx, d->dir, time_ns);
	} else {
		emit(d, time_ns, tcp_end, d->head, d->head_len);
	}
	drop_head(d);
}

static bool reserve(struct derp *d, size_t need)
{
	if (!budget_take(d->budget, need))
		return false;
	d->head = malloc(need);
	if (!d->head) {
		budget_give(d->budget, need);
		return false;
	}
	d->head_cap = d->head_want = need;
	memcpy(d->head, d->walk.head, WALK_HEADER_LEN);
	d->head_len = WALK_HEADER_LEN;
	return true;
}

/* Keeps what is needed of a frame that does not lie in one piece. */
static void keep(struct derp *d, const uint8_t *data, size_t len)
{
	size_t want;

	if (d->damaged)
		return;
	if (!d->head && !(d->want_whole && reserve(d, WALK_HEADER_LEN + d->walk.len)) &&
	    !reserve(d, head_need(&d->walk))) {
		d->damaged = true;
		return;
	}
	want = d->head_want - d->head_len;
	if (want > len)
		want = len;
	if (want)
		memcpy(d->head + d->head_len, data, want);
	d->head_len += want;
}

static uint64_t end_of(const struct derp_chunk *c, size_t used)
{
	return c->record ? c->tcp_end : c->tcp_pos + used;
}

static void lose_sync(struct derp *d)
{
	drop_head(d);
	walk_init(&d->walk, WALK_DERP);
	d->damaged = false;
	d->synced = false;
}

/* Frames from a boundary on. How many bytes were used: all but where the boundary is lost. */
static size_t cut(struct derp *d, const struct derp_chunk *c)
{
	struct walk *w = &d->walk;
	size_t used = 0, n, start = SIZE_MAX; /* of the current frame, where it began in here */

	while (used < c->len) {
		unsigned int avail = c->len - used < UINT32_MAX ? (unsigned int)(c->len - used) :
								  UINT32_MAX;

		if (w->left) {
			n = walk_body(w, avail);
		} else {
			if (!w->have)
				start = used;
			n = walk_head(w, c->data + used, avail);
			if (w->have < WALK_HEADER_LEN)
				return c->len;
			if (!walk_read(w))
				return used;
			used += n;
			n = walk_body(w, avail - (unsigned int)n);
		}
		used += n;
		if (!w->left && start != SIZE_MAX && used - start == WALK_HEADER_LEN + w->len) {
			n = used - start;
			if (c->parts && n > head_need(w))
				n = head_need(w);
			emit(d, c->time_ns, end_of(c, used), c->data + start, n);
		} else {
			keep(d, c->data + used - n, n);
			if (!w->left) {
				bool was_damaged = d->damaged;

				if (was_damaged)
					d->sink->skipped(d->ctx, d->dir, c->time_ns, 0);
				frame_ends(d, c->time_ns, end_of(c, used));
			}
		}
		start = SIZE_MAX;
	}
	return c->len;
}

/* Brings @want bytes from @at on, or as many as there are. */
static bool bring(struct derp_parts *p, size_t at, size_t want)
{
	return p->bring(p, at, want < p->len - at ? at + want : p->len);
}

bool derp_plan(const struct derp *d, struct derp_parts *p)
{
	struct walk w = d->walk;
	size_t at = 0, start, want = d->head ? d->head_want - d->head_len : 0;

	if (want > w.left)
		want = w.left;
	if (!d->synced || d->want_whole || !bring(p, 0, want))
		return false;
	while ((at += walk_body(&w, (unsigned int)(p->len - at))) < p->len) {
		start = at;
		if (!bring(p, at, DERP_HEAD_LEN))
			return false;
		at += walk_head(&w, p->data + at, (unsigned int)(p->len - at));
		if (w.have < WALK_HEADER_LEN)
			break;
		if (!derp_plausible(w.head, d->talker) || !walk_read(&w) ||
		    !bring(p, start, head_need(&w)))
			return false;
	}
	return true;
}

static void search(struct derp *d, const struct derp_chunk *c)
{
	uint64_t dropped = 0, start = 0;
	struct derp_sync *sync;
	struct derp_chunk part;
	bool found;
	size_t n;

	found = derp_sync_feed(&d->sync, c, d->talker, d->budget, &dropped, &start);
	if (dropped + start)
		d->sink->skipped(d->ctx, d->dir, c->time_ns, dropped + start);
	if (!found)
		return;
	sync = d->sync;
	d->sync = NULL;
	d->synced = true;
	walk_init(&d->walk, WALK_DERP);
	/* Of a plain stream every offset stays known; the others count anew. */
	if (c->record || c->framed || d->base_pos == UINT64_MAX) {
		d->from_start = false;
		d->base_pos = UINT64_MAX;
		d->off = 0;
	}
	d->sink->resumed(d->ctx, d->dir, c->time_ns);
	for (n = 0; derp_sync_chunk(sync, n, start, &part); n++) {
		if (!n && d->base_pos != UINT64_MAX)
			d->off = part.tcp_pos - d->base_pos;
		derp_feed(d, &part);
	}
	derp_sync_free(sync, d->budget);
}

void derp_feed(struct derp *d, const struct derp_chunk *c)
{
	struct derp_chunk rest = *c;
	size_t used;

	if (d->synced && d->base_pos == UINT64_MAX && !c->record && !c->framed && c->len)
		d->base_pos = c->tcp_pos - d->off;
	if (d->synced) {
		used = cut(d, c);
		if (used == c->len)
			return;
		lose_sync(d);
		rest.data += used;
		rest.len -= used;
		rest.tcp_pos += used;
		rest.inner |= used > 0;
	}
	if (rest.len)
		search(d, &rest);
}

void derp_gap(struct derp *d, uint64_t time_ns, uint64_t pos, uint64_t bytes, bool exact)
{
	struct walk *w = &d->walk;
	size_t kept = 0;

	if (d->synced && exact && w->left && bytes <= w->left) {
		/* Where the start of the frame was seen nothing is missed. */
		if (d->damaged || !d->head || d->head_len < head_need(&d->walk)) {
			d->damaged = true;
			d->sink->skipped(d->ctx, d->dir, time_ns, bytes);
		}
		/* What is kept must be of one piece: nothing is added behind the hole. */
		d->head_want = d->head_len;
		w->left -= (unsigned int)bytes;
		if (!w->left)
			frame_ends(d, time_ns, pos + bytes);
		return;
	}
	if (d->sync)
		derp_sync_bytes(d->sync, &kept);
	derp_sync_free(d->sync, d->budget);
	d->sync = NULL;
	if (d->synced)
		lose_sync(d);
	d->sink->skipped(d->ctx, d->dir, time_ns, kept + bytes);
}

bool derp_at_boundary(const struct derp *d)
{
	return d->synced && !d->walk.left && !d->walk.have;
}

/* So much of the frame lies before @at. */
static uint64_t walked_of(const struct capture_counting *at)
{
	if (at->have < WALK_HEADER_LEN)
		return at->have;
	return WALK_HEADER_LEN + walk_derp_len(at->head) - at->left;
}

void derp_resume(struct derp *d, uint64_t time_ns, uint64_t pos, const struct capture_counting *at)
{
	struct walk *w = &d->walk;

	derp_clear(d);
	lose_sync(d);
	if (at->have >= WALK_HEADER_LEN && at->left > walk_derp_len(at->head)) {
		d->sink->skipped(d->ctx, d->dir, time_ns, 0);
		return;
	}
	d->synced = true;
	if (d->base_pos == UINT64_MAX) {
		d->base_pos = pos - walked_of(at);
		d->from_start = false;
	}
	d->off = pos - walked_of(at) - d->base_pos;
	d->sink->resumed(d->ctx, d->dir, time_ns);
	memcpy(w->head, at->head, at->have < WALK_HEADER_LEN ? at->have : WALK_HEADER_LEN);
	if (at->have < WALK_HEADER_LEN) {
		w->have = (unsigned char)at->have;
		return;
	}
	w->have = WALK_HEADER_LEN;
	if (!walk_read(w)) {
		lose_sync(d);
		d->sink->skipped(d->ctx, d->dir, time_ns, at->left);
		return;
	}
	keep(d, at->head + WALK_HEADER_LEN, at->have - WALK_HEADER_LEN);
	/* Of its start more was walked than was kept. */
	d->damaged |= walked_of(at) > at->have && at->have < head_need(w);
	w->left = at->left;
}

void derp_named(struct derp *d, uint64_t time_ns, uint64_t pos, const struct capture_forward *named)
{
	struct stream_frame f = {
		.time_ns = time_ns, .dir = d->dir, .type = DERP_FORWARD_PACKET, .len = named->len,
		.head_len = named->head_len, .head = named->head, .digest = named->digest,
		.tcp_end = pos, .named = true,
	};

	if (d->base_pos == UINT64_MAX) {
		d->base_pos = pos - WALK_HEADER_LEN - named->len;
		d->from_start = false;
	}
	d->off = pos - d->base_pos;
	f.derp_off = d->off - WALK_HEADER_LEN - named->len;
	f.derp_from_start = d->from_start;
	d->sink->frame(d->ctx, d->dir, &f, named->head, 0);
}
