/* SPDX-License-Identifier: BSD-2-Clause */
#include "outq.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "ws.h"

/* Relays refuse messages of more than 32 KiB. */
#define WS_MESSAGE_MAX (16 * 1024)
#define KEEP_CAP (64 * 1024)	/* an empty queue holds on to no more than this */

uint8_t *outq_put(struct outq *q, size_t len)
{
	if (q->cap - q->tail < len && q->head) {
		memmove(q->buf, q->buf + q->head, q->tail - q->head);
		q->base += q->head;
		q->tail -= q->head;
		q->head = 0;
	}
	if (q->cap - q->tail < len) {
		q->cap = 2 * q->cap > q->tail + len ? 2 * q->cap : q->tail + len;
		q->buf = mem_resize(q->buf, q->cap, 1);
	}
	q->tail += len;
	return q->buf + q->tail - len;
}

void outq_record(struct outq *q, struct flow *flow, uint64_t seq, uint32_t payload_len)
{
	if (q->recs_len == q->recs_cap) {
		uint32_t cap = q->recs_cap ? 2 * q->recs_cap : 32;
		struct outq_record *recs = mem_zero(cap, sizeof(*recs));

		for (uint32_t i = 0; i < q->recs_len; i++)
			recs[i] = q->recs[(q->recs_head + i) & (q->recs_cap - 1)];
		free(q->recs);
		q->recs = recs;
		q->recs_head = 0;
		q->recs_cap = cap;
	}
	q->recs[(q->recs_head + q->recs_len++) & (q->recs_cap - 1)] = (struct outq_record){
		.end = q->base + q->tail, .seq = seq, .flow = flow, .payload_len = payload_len,
	};
}

/* Makes len bytes at stream offset `at` one masked message; returns what its head added. */
static size_t wrap(struct outq *q, uint64_t at, size_t len)
{
	uint32_t mask = randombytes_random();
	uint8_t head[WS_HEAD_MAX], *p;
	size_t n;

	n = ws_head(head, WS_BINARY, len, mask);
	outq_put(q, n);
	p = q->buf + (at - q->base);
	memmove(p + n, p, q->buf + q->tail - n - p);
	memcpy(p, head, n);
	ws_mask(p + n, len, mask);
	/* The packets that end in or behind this message moved on; they are the youngest. */
	for (uint32_t i = q->recs_len; i--;) {
		struct outq_record *r = &q->recs[(q->recs_head + i) & (q->recs_cap - 1)];

		if (r->end <= at)
			break;
		r->end += n;
	}
	return n;
}

/* The open unit up to stream offset `end` as messages; returns where they end. */
static uint64_t wrap_all(struct outq *q, uint64_t end)
{
	uint64_t at = q->unit_start;

	while (at < end) {
		size_t len = end - at < WS_MESSAGE_MAX ? end - at : WS_MESSAGE_MAX;
		size_t n = wrap(q, at, len);

		at += n + len;
		end += n;
	}
	return end;
}

void outq_close_unit(struct outq *q, size_t keep)
{
	uint64_t end = q->base + q->tail - keep;

	if (end <= q->unit_start)
		return;
	if (q->websocket)
		end = wrap_all(q, end);
	if (q->ends_len == q->ends_cap) {
		uint32_t cap = q->ends_cap ? 2 * q->ends_cap : 16;
		uint64_t *ends = mem_zero(cap, sizeof(*ends));

		for (uint32_t i = 0; i < q->ends_len; i++)
			ends[i] = q->ends[(q->ends_head + i) & (q->ends_cap - 1)];
		free(q->ends);
		q->ends = ends;
		q->ends_head = 0;
		q->ends_cap = cap;
	}
	q->ends[(q->ends_head + q->ends_len++) & (q->ends_cap - 1)] = end;
	q->unit_start = end;
}

bool outq_next(struct outq *q, const uint8_t **p, size_t *len)
{
	if (!q->ends_len)
		return false;
	*p = q->buf + q->head;
	*len = q->ends[q->ends_head & (q->ends_cap - 1)] - (q->base + q->head);
	return true;
}

void outq_written(struct outq *q, size_t len)
{
	q->head += len;
	if (q->ends[q->ends_head & (q->ends_cap - 1)] == q->base + q->head) {
		q->ends_head++;
		q->ends_len--;
	}
	if (q->head < q->tail)
		return;
	q->base += q->head;
	q->head = q->tail = 0;
	if (q->cap > KEEP_CAP) {
		free(q->buf);
		q->buf = NULL;
		q->cap = 0;
	}
}

bool outq_drop(struct outq *q, struct outq_record *r)
{
	if (!q->recs_len)
		return false;
	*r = q->recs[q->recs_head++ & (q->recs_cap - 1)];
	q->recs_len--;
	return true;
}

bool outq_done(struct outq *q, struct outq_record *r)
{
	if (!q->recs_len ||
	    q->recs[q->recs_head & (q->recs_cap - 1)].end > q->base + q->head)
		return false;
	return outq_drop(q, r);
}

size_t outq_pending(const struct outq *q)
{
	return q->tail - q->head;
}

void outq_reset(struct outq *q)
{
	free(q->buf);
	free(q->ends);
	free(q->recs);
	*q = (struct outq){ 0 };
}
