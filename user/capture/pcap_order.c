// SPDX-License-Identifier: BSD-2-Clause
/*
 * Segments in order of time. Where a file was filled from several interfaces, or several queues of
 * one, a segment may stand behind later ones; a heap of the latest few puts it right.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "capture/pcap.h"

struct held {
	struct pcap_segment segment;
	uint64_t serial;	/* of equal times the first goes first */
};

struct pcap_order {
	struct held *heap;	/* from 0; the children of i are 2i + 1 and 2i + 2 */
	size_t count, most;
	size_t bytes, most_bytes;
	uint64_t serial;
	uint8_t *taken;		/* payload of what was taken last */
};

struct pcap_order *pcap_order_new(size_t segments, size_t bytes)
{
	struct pcap_order *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->most = segments;
	o->most_bytes = bytes;
	o->heap = calloc(segments + 1, sizeof(*o->heap));
	if (!o->heap) {
		free(o);
		return NULL;
	}
	return o;
}

void pcap_order_clear(struct pcap_order *o)
{
	while (o->count)
		free((void *)o->heap[--o->count].segment.data);
	free(o->taken);
	o->taken = NULL;
	o->bytes = 0;
}

void pcap_order_free(struct pcap_order *o)
{
	if (!o)
		return;
	pcap_order_clear(o);
	free(o->heap);
	free(o);
}

static bool before(const struct held *a, const struct held *b)
{
	if (a->segment.time_ns != b->segment.time_ns)
		return a->segment.time_ns < b->segment.time_ns;
	return a->serial < b->serial;
}

static void swap(struct held *a, struct held *b)
{
	struct held c = *a;

	*a = *b;
	*b = c;
}

int pcap_order_put(struct pcap_order *o, const struct pcap_segment *s)
{
	uint8_t *copy = NULL;
	size_t at, up;

	if (o->count > o->most)
		return -ENOMEM;
	if (s->captured) {
		copy = malloc(s->captured);
		if (!copy)
			return -ENOMEM;
		memcpy(copy, s->data, s->captured);
	}
	at = o->count++;
	o->heap[at] = (struct held){ *s, o->serial++ };
	o->heap[at].segment.data = copy;
	o->bytes += s->captured;
	for (; at; at = up) {
		up = (at - 1) / 2;
		if (!before(&o->heap[at], &o->heap[up]))
			break;
		swap(&o->heap[at], &o->heap[up]);
	}
	return 0;
}

static void sink_down(struct pcap_order *o)
{
	size_t at = 0, next;

	for (;;) {
		next = 2 * at + 1;
		if (next >= o->count)
			return;
		if (next + 1 < o->count && before(&o->heap[next + 1], &o->heap[next]))
			next++;
		if (!before(&o->heap[next], &o->heap[at]))
			return;
		swap(&o->heap[at], &o->heap[next]);
		at = next;
	}
}

bool pcap_order_take(struct pcap_order *o, bool all, struct pcap_segment *s)
{
	free(o->taken);
	o->taken = NULL;
	if (!o->count || (!all && o->count < o->most && o->bytes < o->most_bytes))
		return false;
	*s = o->heap[0].segment;
	o->taken = (uint8_t *)s->data;
	o->bytes -= s->captured;
	o->heap[0] = o->heap[--o->count];
	sink_down(o);
	return true;
}
