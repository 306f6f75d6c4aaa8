/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The walk of count.h through a WebSocket: what each frame of it carries is a piece, which is walked as
 * if it were a segment's end, with the mask taken off the bytes that are looked at. A DERP frame's start
 * is kept from piece to piece as it is from segment to segment. Where it stands in the WebSocket is told
 * in numbers of the stream that segments have, too (TCP's), of which a segment's offset 0 is @base.
 *
 *	while (bytes are left, w->off < web->end) {
 *		count_web_next(w, web, from);	up to a piece: w->off < w->end, or there is none here
 *		count_next(w, from);		as in count.h; COUNT_PART ends the piece
 *	}
 */
#ifndef DT_COUNT_WEB_H
#define DT_COUNT_WEB_H

#include "count.h"
#include "web.h"

/* At the WebSocket frame's end, and at no part of the next one's header? Else it is inside. */
WALK_INLINE int count_web_between(const struct count_web *web, unsigned int at)
{
	return web->stop == at && !web->have;
}

WALK_INLINE void count_web_begin(struct count_web *web, unsigned int at)
{
	web->stop = at;
	web->mask = 0;
	web->passed = 0;
	web->have = 0;
}

/* What is missing of the header, as far as the segment goes. w->off stays where it is none. */
WALK_INLINE void count_web_header(struct count_walk *w, struct count_web *web,
				  const struct count_from *from)
{
	unsigned long long have = web->have;
	unsigned int n = WEB_HEADER_MAX - web->have, whole = 2;
	struct web_frame f;

	w->step = COUNT_BROKEN;
	if (n > web->end - w->off)
		n = web->end - w->off;
	WALK_HIDE(have);
	if (have >= WEB_HEADER_MAX ||
	    count_load(from->bytes, w->off, web->head + have, n, WEB_HEADER_MAX))
		return;
	if (have + n >= 2)
		whole = web_header_len(web->head[1]);
	if (have + n < whole) {
		web->have += n;
		web->stop += n;
		w->off = web->end;
		w->step = COUNT_PART;
		return;
	}
	if (!web_read(web->head, &f))
		return;
	w->off += whole - web->have;
	web->have = 0;
	web->stop = from->base + w->off;
	web->mask = web_mask_at(f.mask, -web->stop);
	web->stop += f.len;
	web->passed = !f.data;
	w->step = COUNT_PART;
}

/* The next piece is at w->off, up to w->end; nothing, where the two are equal. Or COUNT_BROKEN. */
WALK_INLINE void count_web_next(struct count_walk *w, struct count_web *web,
				const struct count_from *from)
{
	unsigned int left;

	w->step = COUNT_PART;
	if (web->stop == from->base + w->off)
		count_web_header(w, web, from);
	w->end = w->off;
	if (w->step == COUNT_BROKEN)
		return;
	left = web->stop - (from->base + w->off);
	if (left > web->end - w->off)
		left = web->end - w->off;
	w->end += left;
	if (web->passed)
		w->off = w->end;
}

#endif
