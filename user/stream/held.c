// SPDX-License-Identifier: BSD-2-Clause
#include "stream/held.h"

#include <string.h>

void held_unlink(struct reassemble *r, struct reassemble_held *h)
{
	*(h->prev ? &h->prev->next : &r->head) = h->next;
	*(h->next ? &h->next->prev : &r->tail) = h->prev;
}

void held_free(struct reassemble *r, struct reassemble_held *h)
{
	budget_give(r->budget, h->cost);
	free(h->at);
	free(h->forward);
	free(h);
}

bool held_add(struct reassemble *r, struct reassemble_held *before, uint64_t pos, uint64_t end,
	      uint64_t wire_end, const struct held_by *by, const uint8_t *data)
{
	size_t have = by->head ? by->head : end - pos, cost = sizeof(struct reassemble_held) + have;
	struct reassemble_held *h;

	if (!budget_take(r->budget, cost))
		return false;
	h = malloc(cost);
	if (!h) {
		budget_give(r->budget, cost);
		return false;
	}
	h->pos = pos;
	h->end = end;
	h->wire_end = wire_end;
	h->by = *by;
	h->cost = cost;
	h->at = NULL;
	h->forward = NULL;
	memcpy(h->data, data, have);
	h->next = before;
	h->prev = before ? before->prev : r->tail;
	*(h->prev ? &h->prev->next : &r->head) = h;
	*(before ? &before->prev : &r->tail) = h;
	return true;
}

/* Up to where are the bytes there that came so? Of a record, without the last one, which stands elsewhere. */
static uint64_t end_there(const struct held_by *by, uint64_t pos, uint64_t end)
{
	return by->head ? pos + by->head - 1 : end;
}

/* Does it overlap [pos, end) and hold other bytes there? */
static bool contradicts(const struct reassemble_held *h, uint64_t pos, uint64_t end,
			const struct held_by *by, const uint8_t *data)
{
	uint64_t from = h->pos > pos ? h->pos : pos;
	uint64_t held_to = end_there(&h->by, h->pos, h->end), to = end_there(by, pos, end);

	if (held_to < to)
		to = held_to;
	return !held_is_counted(h) && from < to &&
	       !!memcmp(h->data + (from - h->pos), data + (from - pos), to - from);
}

void held_forget(struct reassemble *r, uint64_t pos, uint64_t end)
{
	struct reassemble_held *h, *next;

	for (h = r->head; h && h->pos < end; h = next) {
		next = h->next;
		if (h->end <= pos || held_is_counted(h))
			continue;
		if (h->by.head) {
			held_unlink(r, h);
			held_free(r, h);
			continue;
		}
		/* No memory for its tail: the tail is a hole then, as if it had not been seen. */
		if (h->end > end)
			held_add(r, next, end, h->end, h->wire_end, &h->by, h->data + (end - h->pos));
		if (h->pos < pos) {
			h->end = h->wire_end = pos;
			continue;
		}
		held_unlink(r, h);
		held_free(r, h);
	}
}

/*
 * Two that contradict each other, and TCP has taken neither so far: the one whose checksum is worse
 * was thrown away, whole. Of equals it is the first, or the sender would not have sent the second.
 * False where it is the new one.
 */
static bool settle_contest(struct reassemble *r, uint64_t pos, uint64_t end,
			   const struct held_by *by, const uint8_t *data)
{
	struct reassemble_held *h, *next;
	bool equals = false;

	for (h = r->head; h && h->pos < end; h = h->next) {
		if (h->by.sum > by->sum && contradicts(h, pos, end, by, data))
			return false;
	}
	for (h = r->head; h && h->pos < end; h = next) {
		next = h->next;
		if (!contradicts(h, pos, end, by, data))
			continue;
		if (h->by.sum == by->sum) {
			equals = true;
			continue;
		}
		held_unlink(r, h);
		held_free(r, h);
	}
	if (equals)
		held_forget(r, pos, end);
	return true;
}

bool held_insert(struct reassemble *r, uint64_t pos, uint64_t end, uint64_t wire_end,
		 const struct held_by *by, const uint8_t *data)
{
	struct reassemble_held *h = r->tail;
	uint64_t at = pos;

	if (!h || h->end <= pos)
		return held_add(r, NULL, pos, end, wire_end, by, data);
	if (r->dir == CAPTURE_IN && !settle_contest(r, pos, end, by, data))
		return true;
	/* It cannot be cut: it takes the place of what is held there, which says the same. */
	if (by->head) {
		held_forget(r, pos, end);
		for (h = r->head; h && h->pos < pos; h = h->next)
			;
		return held_add(r, h, pos, end, wire_end, by, data);
	}
	for (h = r->head; h && at < end; h = h->next) {
		uint64_t to = h->pos < end ? h->pos : end;

		if (at < to && !held_add(r, h, at, to, to, by, data + (at - pos)))
			return false;
		if (h->end > at)
			at = h->end;
	}
	return at >= end || held_add(r, NULL, at, end, wire_end, by, data + (at - pos));
}
