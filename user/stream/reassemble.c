// SPDX-License-Identifier: BSD-2-Clause
#include "stream/held.h"

#include <stdlib.h>
#include <string.h>

/* A hole that nobody acknowledges is given up after this. */
#define HOLE_AGE_NS	3000000000ULL
/* Segments do not pass for so long while what is behind them is counted. */
#define COUNT_AGE_NS	1000000000ULL
/* No window reaches further; what claims to lie beyond is no segment of this connection. */
#define MAX_AHEAD	(1 << 30)
/* Where the receive window is not known, or closed: a probe may lie so far ahead. */
#define CLOSED_WINDOW	65536

void reassemble_init(struct reassemble *r, enum capture_dir dir, struct budget *budget,
		     const struct reassemble_sink *sink, void *ctx)
{
	*r = (struct reassemble){ .dir = dir, .budget = budget, .sink = sink, .ctx = ctx };
}

void reassemble_clear(struct reassemble *r)
{
	struct reassemble_held *h;

	while ((h = r->head)) {
		held_unlink(r, h);
		held_free(r, h);
	}
}

void reassemble_start(struct reassemble *r, uint32_t seq)
{
	r->started = true;
	r->origin = seq;
}

/* Signed: may lie before the origin. Sequence numbers wrap, positions do not. */
static int64_t locate(const struct reassemble *r, uint32_t seq)
{
	return (int64_t)r->next + (int32_t)(seq - (uint32_t)(r->origin + r->next));
}

uint64_t reassemble_position(const struct reassemble *r, uint32_t seq)
{
	int64_t pos = r->started ? locate(r, seq) : 0;

	if (pos < 0)
		return 0;
	if (r->has_fin && (uint64_t)pos == r->fin + 1)
		return r->fin;
	return (uint64_t)pos;
}

/* Hands on what begins where all before it was. */
static void hand_on(struct reassemble *r, const struct held_by *by, const uint8_t *data, uint64_t end)
{
	uint64_t pos = r->next;
	const struct reassemble_record record = { .start = data, .have = by->head, .len = end - pos,
						  .mark = by->mark };

	r->next = end;
	if (by->head)
		r->sink->head(r->ctx, r->dir, pos, by->time_ns, &record);
	else
		r->sink->bytes(r->ctx, r->dir, pos, by->time_ns, data, end - pos);
}

static void skip(struct reassemble *r, uint64_t to, uint64_t time_ns)
{
	uint64_t from = r->next;

	r->next = to;
	r->sink->gap(r->ctx, r->dir, from, time_ns, to - from);
}

/* What was counted is gone over when all of it may be. */
static bool pass_counted(struct reassemble *r, struct reassemble_held *h, uint64_t data_end)
{
	uint64_t bytes = h->end > r->next ? h->end - r->next : 0;

	if (h->end > data_end)
		return false;
	if (h->end > r->next)
		r->next = h->end;
	held_unlink(r, h);
	if (h->at)
		r->sink->counted(r->ctx, r->dir, r->next, h->by.time_ns, bytes, h->at);
	else
		r->sink->forward(r->ctx, r->dir, r->next, h->by.time_ns, bytes, h->forward);
	held_free(r, h);
	return true;
}

/* Hands on the held bytes before @data_end, and gives up holes that begin before @hole_end. */
static void deliver(struct reassemble *r, uint64_t data_end, uint64_t hole_end, uint64_t time_ns)
{
	if (r->counting && data_end > r->count_from)
		data_end = r->count_from;
	if (r->counting && hole_end > r->count_from)
		hole_end = r->count_from;
	while (r->next < data_end) {
		struct reassemble_held *h = r->head;
		uint64_t from = r->next, end;

		if (!h || h->pos > from) {
			end = h && h->pos < hole_end ? h->pos : hole_end;
			if (end <= from)
				return;
			skip(r, end, time_ns);
			continue;
		}
		if (held_is_counted(h)) {
			if (!pass_counted(r, h, data_end))
				return;
			continue;
		}
		end = h->end < data_end ? h->end : data_end;
		/* A record is handed on whole, or is missing. */
		if (h->by.head && h->end > data_end)
			return;
		if (h->by.head && from > h->pos && end > from)
			skip(r, end, time_ns);
		else if (end > from)
			hand_on(r, &h->by, h->data + (from - h->pos), end);
		if (h->end > data_end)
			return;
		held_unlink(r, h);
		/* What the ring had no room for was sent all the same, and is not sent again. */
		if (r->dir == CAPTURE_OUT && h->wire_end > r->next) {
			end = r->head && r->head->pos < h->wire_end ? r->head->pos : h->wire_end;
			if (end > r->next)
				skip(r, end, time_ns);
		}
		held_free(r, h);
	}
}

static void advance(struct reassemble *r, uint64_t time_ns)
{
	if (r->dir == CAPTURE_IN)
		deliver(r, r->settled, r->settled, time_ns);
	else
		deliver(r, UINT64_MAX, r->settled, time_ns);
}

static struct held_by arrival_of(const struct capture_segment *seg, uint64_t time_ns)
{
	return (struct held_by){ .time_ns = time_ns, .sum = seg->sum,
				 .head = seg->head ? seg->captured : 0, .mark = seg->mark };
}

/* Behind the last byte that it brings. */
static int64_t end_of(const struct capture_segment *seg, const struct held_by *by, int64_t pos)
{
	return pos + (int64_t)(by->head ? seg->len : seg->captured);
}

/* TCP has taken it, and it is the next: it need not be held. False, with nothing done, where it must. */
static bool take_in(struct reassemble *r, int64_t pos, int64_t end,
		    const struct capture_segment *seg, uint64_t time_ns)
{
	const struct held_by by = arrival_of(seg, time_ns);

	if (pos != (int64_t)r->next || r->head || r->counting || seg->flags ||
	    (seg->captured != seg->len && !by.head))
		return false;
	if (r->settled < (uint64_t)end)
		r->settled = (uint64_t)end;
	hand_on(r, &by, seg->data, (uint64_t)end);
	return true;
}

/*
 * Facts may be of the moment before the segment, or tell already that it was accepted: what is held
 * of the same bytes then came first, and is what TCP took.
 */
static void segment_in(struct reassemble *r, int64_t pos, const struct capture_segment *seg,
		       uint64_t time_ns, const struct capture_facts *facts)
{
	const struct held_by by = arrival_of(seg, time_ns);
	int64_t end = end_of(seg, &by, pos);
	const uint8_t *data = seg->data;

	if (facts && facts->has_seq) {
		int64_t wanted = locate(r, facts->rcv_nxt);
		int64_t window = facts->rcv_wnd ? facts->rcv_wnd : CLOSED_WINDOW;

		if (pos > wanted + window)
			return;
		if (wanted > (int64_t)r->next)
			deliver(r, (uint64_t)wanted, 0, time_ns);
		if (seg->len && wanted >= end && take_in(r, pos, end, seg, time_ns))
			return;
		/* A keep-alive probe's byte is rubbish; it must not fill a hole. */
		if (seg->len == 1 && wanted > pos && pos > (int64_t)r->next)
			return;
	}
	if (seg->flags & CAPTURE_FIN && pos + (int64_t)seg->len >= (int64_t)r->next) {
		r->has_fin = true;
		r->fin = (uint64_t)pos + seg->len;
	}
	if (pos < (int64_t)r->next) {
		data += (int64_t)r->next - pos;
		/* A record whose start is old is missing, as far as it is new. */
		pos = by.head ? end : (int64_t)r->next;
	}
	/* Where there is no room it is not held, and a gap once TCP has taken it. */
	if (pos < end)
		held_insert(r, (uint64_t)pos, (uint64_t)end, (uint64_t)end, &by, data);
	advance(r, time_ns);
}

/* Is any of what comes before @end counted? */
static bool holds_counted(const struct reassemble *r, int64_t end)
{
	const struct reassemble_held *h;

	for (h = r->head; h && (int64_t)h->pos < end; h = h->next) {
		if (held_is_counted(h))
			return true;
	}
	return false;
}

static void segment_out(struct reassemble *r, int64_t pos, const struct capture_segment *seg,
			uint64_t time_ns)
{
	const struct held_by by = arrival_of(seg, time_ns);
	int64_t end, wire_end;
	uint64_t from = r->next;

	/* What comes behind the FIN, which counts one and is no byte. */
	if (r->has_fin && pos == (int64_t)r->fin + 1)
		pos--;
	end = end_of(seg, &by, pos);
	wire_end = pos + (int64_t)seg->len;
	if (seg->flags & CAPTURE_FIN) {
		r->has_fin = true;
		r->fin = (uint64_t)wire_end;
	}
	if (wire_end <= (int64_t)r->next)
		return;
	if (r->counting) {
		if (seg->captured && pos >= (int64_t)r->next)
			held_insert(r, (uint64_t)pos, (uint64_t)end, (uint64_t)wire_end, &by, seg->data);
		return;
	}
	if (pos > (int64_t)r->next) {
		if (seg->captured && held_insert(r, (uint64_t)pos, (uint64_t)end, (uint64_t)wire_end,
					    &by, seg->data))
			return;
		/* No room to wait for what is missing. */
		deliver(r, UINT64_MAX, (uint64_t)pos, time_ns);
		from = r->next;
	}
	/* Sent again in a larger piece, behind a hole. */
	if (end > (int64_t)from && !(by.head && pos < (int64_t)from)) {
		const uint8_t *data = seg->data + ((int64_t)from - pos);

		if (holds_counted(r, end))
			held_insert(r, from, (uint64_t)end, (uint64_t)wire_end, &by, data);
		else
			hand_on(r, &by, data, (uint64_t)end);
	}
	deliver(r, UINT64_MAX, r->settled, time_ns);
	if (wire_end > (int64_t)r->next)
		deliver(r, UINT64_MAX, (uint64_t)wire_end, time_ns);
}

bool reassemble_covered(const struct reassemble *r, const struct capture_segment *seg,
			const struct capture_facts *facts)
{
	return r->dir == CAPTURE_IN && facts && facts->has_seq &&
	       (int32_t)(facts->rcv_nxt - seg->seq) > 0;
}

/* Where a direction begins that is first seen now. */
static uint32_t first_seq(const struct reassemble *r, const struct capture_segment *seg,
			  const struct capture_facts *facts)
{
	if (!facts || !facts->has_seq)
		return seg->seq;
	/* From a file, snd_nxt may count this very segment. */
	if (r->dir == CAPTURE_OUT)
		return facts->has_read ? facts->snd_nxt : seg->seq;
	return facts->rcv_nxt - seg->seq <= seg->len ? seg->seq : facts->rcv_nxt;
}

void reassemble_segment(struct reassemble *r, const struct capture_segment *seg, uint64_t time_ns,
			const struct capture_facts *facts)
{
	int64_t pos;

	if (!r->started && !seg->len)
		return;
	if (!r->started)
		reassemble_start(r, first_seq(r, seg, facts));
	/* Its end was lost: what came since stands behind a hole. */
	if (r->counting && r->head && r->head->pos >= r->count_from &&
	    time_ns > r->head->by.time_ns + COUNT_AGE_NS)
		r->counting = false;
	pos = locate(r, seg->seq);
	if (pos > (int64_t)r->next + MAX_AHEAD || pos < (int64_t)r->next - MAX_AHEAD)
		return;
	if (r->dir == CAPTURE_IN) {
		segment_in(r, pos, seg, time_ns, facts);
		return;
	}
	segment_out(r, pos, seg, time_ns);
	if (r->head && time_ns > r->head->by.time_ns + HOLE_AGE_NS)
		deliver(r, UINT64_MAX, r->head->pos, time_ns);
}

void reassemble_settle(struct reassemble *r, uint32_t seq, bool fin_counted, uint64_t time_ns)
{
	uint64_t pos;

	if (!r->started)
		return;
	pos = reassemble_position(r, seq);
	if (pos && fin_counted && !(r->has_fin && pos == r->fin))
		pos--;
	if (pos <= r->settled)
		return;
	r->settled = pos;
	advance(r, time_ns);
}

/* What was counted, without bytes: they were in [pos, end). NULL where there is no memory for it. */
static struct reassemble_held *hold_counted(struct reassemble *r, uint64_t pos, uint64_t end,
					    uint64_t time_ns)
{
	const struct held_by by = { .time_ns = time_ns };
	struct reassemble_held *before, *h;

	/* What TCP had not taken when it passed first, and was counted when it came again. */
	held_forget(r, pos, end);
	/* Where nothing was counted the end stands behind what was counted before. */
	before = r->head;
	while (before && (before->pos < pos || (before->pos == pos && held_is_counted(before))))
		before = before->next;
	if (!held_add(r, before, pos, pos, end, &by, (const uint8_t *)""))
		return NULL;
	h = before ? before->prev : r->tail;
	h->end = end;
	return h;
}

static void drop_held(struct reassemble *r, struct reassemble_held *h)
{
	held_unlink(r, h);
	held_free(r, h);
}

static void hold_end(struct reassemble *r, uint64_t pos, uint64_t end,
		     const struct capture_counting *at, uint64_t time_ns)
{
	struct reassemble_held *h = hold_counted(r, pos, end, time_ns);

	if (!h)
		return;
	h->at = malloc(sizeof(*h->at) + at->have);
	if (!h->at) {
		drop_held(r, h);
		return;
	}
	*h->at = *at;
	h->at->head = (const uint8_t *)(h->at + 1);
	if (at->have)
		memcpy(h->at + 1, at->head, at->have);
}

static void hold_forward(struct reassemble *r, uint64_t pos, uint64_t end,
			 const struct capture_forward *f, uint64_t time_ns)
{
	struct reassemble_held *h = hold_counted(r, pos, end, time_ns);

	if (!h)
		return;
	h->forward = malloc(sizeof(*f) + f->head_len);
	if (!h->forward) {
		drop_held(r, h);
		return;
	}
	*h->forward = *f;
	h->forward->head = (const uint8_t *)(h->forward + 1);
	memcpy(h->forward + 1, f->head, f->head_len);
}

void reassemble_counting(struct reassemble *r, const struct capture_counting *at, uint64_t time_ns)
{
	int64_t pos;

	if (!r->started)
		return;
	pos = locate(r, at->seq);
	if (pos < 0)
		return;
	if (at->begins) {
		r->counting = true;
		r->count_from = (uint64_t)pos;
	} else if (r->counting) {
		r->counting = false;
		if ((uint64_t)pos >= r->count_from)
			hold_end(r, r->count_from, (uint64_t)pos, at, time_ns);
	}
	advance(r, time_ns);
}

void reassemble_forward(struct reassemble *r, const struct capture_forward *f, uint64_t time_ns)
{
	int64_t pos = r->started ? locate(r, f->seq) : 0;
	uint64_t from = r->count_from;

	if (!r->counting || pos <= (int64_t)from)
		return;
	r->count_from = (uint64_t)pos;
	if (r->next != from) {
		hold_forward(r, from, (uint64_t)pos, f, time_ns);
		return;
	}
	r->next = (uint64_t)pos;
	r->sink->forward(r->ctx, r->dir, r->next, time_ns, r->next - from, f);
}

void reassemble_counted(struct reassemble *r, uint32_t seq)
{
	int64_t pos = r->started ? locate(r, seq) : 0;

	/* What came before it is not confirmed yet: it is gone over where the counting ends, if not before. */
	if (!r->counting || pos <= (int64_t)r->count_from || r->next != r->count_from)
		return;
	r->next = (uint64_t)pos;
	r->sink->counted(r->ctx, r->dir, r->next, 0, r->next - r->count_from, NULL);
	r->count_from = (uint64_t)pos;
}

uint64_t reassemble_passed(const struct reassemble *r, const struct capture_facts *facts)
{
	uint64_t pos = r->counting && facts->has_seq ? reassemble_position(r, facts->snd_nxt) : 0;

	return pos > r->next ? pos : r->next;
}

void reassemble_end(struct reassemble *r, uint64_t time_ns)
{
	r->counting = false;
	if (r->dir == CAPTURE_OUT && r->tail)
		deliver(r, r->tail->wire_end, r->tail->wire_end, time_ns);
	reassemble_clear(r);
}
