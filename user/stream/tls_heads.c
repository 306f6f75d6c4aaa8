// SPDX-License-Identifier: BSD-2-Clause
/*
 * Records of which only what is looked at is decrypted: their frames' heads. Below TLS's AEADs lies a
 * stream cipher, which may be entered anywhere; what is left out is the tag, and with it the proof
 * that keys and number are the right ones. So the first records under keys, and one of many after
 * that, are read whole; and so is any whose heads make no sense.
 */
#include <string.h>

#include "stream/tls_item.h"

/* So many are read whole where keys or number are new. */
#define PROVE_FIRST	8
/* What is short is read whole: KeyUpdates, alerts, and frames that are nothing but head. */
#define SHORT_BODY	64

struct record_parts {
	struct derp_parts parts;
	struct tls *tls;
	const struct tls_side *side;
	uint64_t number;
	const uint8_t *body;
	size_t have;		/* of its content so much is there, and the type; 0: all */
	bool begun;
	struct cipher_range there; /* brought last */
};

static bool peek(struct record_parts *r, const struct cipher_range *ranges, size_t count)
{
	struct tls_shared *shared = r->tls->shared;

	return !cipher_peek(shared->pool, &r->side->traffic, r->number, r->body, ranges,
			    count, shared->scratch);
}

/* Its start, and, of TLS 1.3, its type. False where it is no application data for all we know. */
static bool begin(struct record_parts *r)
{
	size_t len = r->parts.len;
	bool has_type = r->side->traffic.suite->version == TLS_1_3;
	struct cipher_range ranges[2] = {
		{ .to = len < DERP_HEAD_LEN ? len : DERP_HEAD_LEN }, { .from = len, .to = len + 1 },
	};

	r->begun = true;
	r->there = ranges[0];
	/* A type of zero is padding. */
	return peek(r, ranges, has_type ? 2 : 1) &&
	       (!has_type || r->tls->shared->scratch[len] == TLS_APPLICATION);
}

static bool bring(struct derp_parts *parts, size_t from, size_t to)
{
	struct record_parts *r = (struct record_parts *)parts;
	struct cipher_range missing = { .from = from, .to = to };
	bool adds;

	if (r->have && to > r->have)
		return false;
	if (!r->begun && !begin(r))
		return false;
	adds = from >= r->there.from && from <= r->there.to;
	if (adds)
		missing.from = r->there.to;
	if (missing.from >= to)
		return true;
	if (!peek(r, &missing, 1))
		return false;
	r->there.from = adds ? r->there.from : from;
	r->there.to = to;
	return true;
}

/* What is there of a record that is not there whole, where it would be. False: it cannot be read so. */
static bool put_apart(struct record_parts *r, const struct tls_item *item)
{
	struct tls_shared *shared = r->tls->shared;
	size_t start = item->have - 1;

	if (r->side->traffic.suite->version != TLS_1_3 ||
	    start < WALK_HEADER_LEN + DERP_HEAD_LEN || start > WALK_HEADER_LEN + r->parts.len ||
	    r->parts.len >= sizeof(shared->apart))
		return false;
	r->have = start - WALK_HEADER_LEN;
	r->body = shared->apart;
	memcpy(shared->apart, item->record + WALK_HEADER_LEN, r->have);
	shared->apart[r->parts.len] = item->record[start];
	return true;
}

/* Is it a packet's frame, and nothing else? Only then the rest may be missing. */
static bool is_one_packet(struct record_parts *r)
{
	const uint8_t *p = r->parts.data;

	return bring(&r->parts, 0, WALK_HEADER_LEN) &&
	       (p[0] == DERP_SEND_PACKET || p[0] == DERP_RECV_PACKET || p[0] == DERP_FORWARD_PACKET) &&
	       WALK_HEADER_LEN + walk_derp_len(p) == r->parts.len;
}

/* False: it cannot be read in parts. */
static bool parts_of(struct tls *t, int side, const struct tls_item *item, uint64_t number,
		     struct record_parts *r)
{
	const struct tls_side *s = &t->sides[side];
	const struct cipher_suite *suite = s->traffic.suite;
	size_t body = item->bytes - WALK_HEADER_LEN;

	if (!suite || !s->started || !t->sink->heads || item->record[0] != TLS_APPLICATION ||
	    body <= SHORT_BODY)
		return false;
	*r = (struct record_parts){
		.tls = t, .side = s, .number = number, .body = item->record + WALK_HEADER_LEN,
		.parts = {
			.bring = bring, .data = t->shared->scratch,
			.len = cipher_sealed_len(suite, body) - (suite->version == TLS_1_3),
		},
	};
	if (!item->have)
		return true;
	r->parts.begins = true;
	return put_apart(r, item) && is_one_packet(r);
}

bool tls_is_foretold(struct tls *t, int side, const struct tls_item *item, uint64_t number)
{
	struct record_parts r;

	return parts_of(t, side, item, number, &r);
}

bool tls_open_heads(struct tls *t, int side, const struct tls_item *item)
{
	struct tls_side *s = &t->sides[side];
	struct record_parts r;

	if (!item->have && (s->proven < PROVE_FIRST || s->number % TLS_PROVE_EVERY == 0))
		return false;
	if (!s->number_known || !parts_of(t, side, item, s->number, &r) ||
	    !t->sink->heads(t->ctx, side, item->time_ns, item->tcp_end, &r.parts))
		return false;
	t->shared->opened++;
	t->shared->by_heads++;
	if (t->search)
		t->search->sides[side].hinted = false;
	s->number++;
	s->proven++;
	s->heads = true;
	return true;
}
