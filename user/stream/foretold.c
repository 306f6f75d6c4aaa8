// SPDX-License-Identifier: BSD-2-Clause
/*
 * Records that need not come whole. The kernel numbers a connection's TLS records as they pass, and
 * where stream, when it comes there, knows TLS's own number, it foretells with what the next ones
 * will be masked: bpf/heads.h. Of those that are one packet's frame the start comes alone.
 */
#include "stream/connection.h"

/* So far ahead of what was read last; more is told before a quarter of it has passed. */
#define AHEAD		CAPTURE_MASKS_AHEAD
#define STILL		(AHEAD / 4 * 3)
#define AT_ONCE		TLS_PROVE_EVERY

static void tell(struct connection *c, enum capture_dir dir, uint32_t mark, uint64_t number,
		 uint32_t count)
{
	const struct stream_sink *sink = c->shared->sink;
	uint8_t masks[AT_ONCE][CAPTURE_MASK_LEN];
	const struct capture_masks told = { .dir = dir, .mark = mark, .count = count,
					    .masks = (const uint8_t (*)[CAPTURE_MASK_LEN])masks };

	if (!tls_masks(c->tls, connection_side(c, dir), number, count, masks))
		sink->foretell(sink->ctx, c->node, c->id, &told);
}

bool foretold_may(const struct connection *c, enum capture_dir dir)
{
	uint64_t number;

	return c->shared->sink->foretell &&
	       tls_reads_heads(c->tls, connection_side(c, dir), &number);
}

void foretold_reach(struct connection *c, enum capture_dir dir, uint32_t mark)
{
	struct connection_claim *f = &c->claims[dir];
	uint64_t next = 0, number;
	uint32_t at, end, count;

	if (!tls_reads_heads(c->tls, connection_side(c, dir), &next))
		return;
	at = mark + 1;
	if (f->base == next - mark && (int32_t)(f->end - at) > 0) {
		if (f->end - at > STILL)
			return;
		at = f->end;
	}
	end = mark + AHEAD;
	f->base = next - mark;
	f->end = end;
	for (; at != end; at += count) {
		number = f->base + at;
		count = TLS_PROVE_EVERY - (uint32_t)(number % TLS_PROVE_EVERY);
		if (count > end - at)
			count = end - at;
		/* One of so many comes whole, for its tag to be looked at. */
		if (number % TLS_PROVE_EVERY == 0)
			count = 1;
		else
			tell(c, dir, at, number, count);
	}
}

void foretold_head(void *ctx, enum capture_dir dir, uint64_t pos, uint64_t time_ns,
		   const struct reassemble_record *record)
{
	struct connection *c = ctx;
	const struct connection_claim *f = c->claims ? &c->claims[dir] : NULL;
	const struct tls_head head = {
		.pos = pos, .time_ns = time_ns, .start = record->start, .have = record->have,
		.len = record->len, .number = f ? f->base + record->mark : 0,
	};

	counted_reach(c, dir, pos);
	if (c->layer == LAYER_TLS && f && f->end && tls_feed_head(c->tls, connection_side(c, dir), &head))
		c->info.bytes[dir] += record->len;
	else
		connection_gap(c, dir, pos, time_ns, record->len);
}
