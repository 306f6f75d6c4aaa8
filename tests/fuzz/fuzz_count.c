// SPDX-License-Identifier: BSD-2-Clause
/*
 * The kernel's walk through a WebSocket finds in segments of any size the frames that the reader of user
 * space finds in the whole, with the same starts, and gives up where that does. The first byte is a
 * segment's size, the second where its numbers begin.
 */
#include "ops.h"

static inline int count_load(void *bytes, unsigned int off, unsigned char *to, unsigned int n,
			     unsigned int most)
{
	const struct op *segment = bytes;

	must(n && n <= most && off + n <= segment->len);
	memcpy(to, segment->arg + off, n);
	return 0;
}

#include "count_web.h"
#include "stream/websocket.h"

struct found {
	uint8_t *starts;	/* of the frames: so much as is looked at, one behind the other */
	size_t len, count;
	bool bad;
};

static void find(struct found *f, const uint8_t *start)
{
	size_t looked = start[0] == DERP_FORWARD_PACKET ? DERP_HEAD_LEN : COUNT_FAST;
	size_t len = DERP_HEADER_LEN + walk_derp_len(start);

	if (looked > len)
		looked = len;
	memcpy(f->starts + f->len, start, looked);
	f->len += looked;
	f->count++;
}

/* The stream in it, as far as there are WebSocket frames; then the frames in that. */
static void read_all(struct found *f, const uint8_t *data, size_t size)
{
	struct websocket w = { 0 };
	size_t at = 0, len = 0, used, from, out, whole;
	uint8_t *copy = malloc(size), *derp = malloc(size);

	must(copy && derp);
	memcpy(copy, data, size);
	for (; at < size && !f->bad; at += used) {
		f->bad = !websocket_next(&w, copy + at, size - at, &used, &from, &out);
		memcpy(derp + len, copy + at + from, out);
		len += out;
	}
	for (at = 0; len - at >= DERP_HEADER_LEN; at += whole) {
		if (!count_plausible(derp + at)) {
			f->bad = true;
			break;
		}
		whole = DERP_HEADER_LEN + walk_derp_len(derp + at);
		if (whole > len - at)
			break;
		find(f, derp + at);
	}
	free(copy);
	free(derp);
}

static void walk_segment(struct found *f, struct count_walk *w, struct count_web *web,
			 struct count_from *from, size_t len)
{
	w->off = 0;
	web->end = (unsigned int)len;
	while (w->off < web->end && !f->bad) {
		count_web_next(w, web, from);
		must(w->step == COUNT_BROKEN || (w->off <= w->end && w->end <= web->end));
		if (w->step != COUNT_BROKEN && w->off < w->end) {
			count_next(w, from);
			if (w->step == COUNT_FRAME)
				find(f, w->head);
			must(w->step != COUNT_PART || w->off == w->end);
		}
		f->bad = w->step == COUNT_BROKEN;
	}
}

static void walk_all(struct found *f, const uint8_t *data, size_t size, size_t piece,
		     unsigned int number)
{
	struct count_walk w = { 0 };
	struct count_web web = { .on = 1 };
	struct count_from from = { .web = &web };
	size_t at, n;

	count_web_begin(&web, number);
	for (at = 0; at < size && !f->bad; at += n) {
		n = size - at < piece ? size - at : piece;
		struct op segment = { .arg = data + at, .len = n };

		from.bytes = &segment;
		from.base = number + (unsigned int)at;
		walk_segment(f, &w, &web, &from, n);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct found a = { 0 }, b = { 0 };

	if (size < 3)
		return 0;
	a.starts = malloc(size);
	b.starts = malloc(size);
	must(a.starts && b.starts);
	read_all(&a, data + 2, size - 2);
	walk_all(&b, data + 2, size - 2, 1 + data[0], data[1] - 128u);
	must(a.count == b.count && a.bad == b.bad && a.len == b.len &&
	     !memcmp(a.starts, b.starts, a.len));
	free(a.starts);
	free(b.starts);
	return 0;
}
