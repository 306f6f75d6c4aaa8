// SPDX-License-Identifier: BSD-2-Clause
/*
 * Records of which only what is looked at is decrypted: their frames' heads. Below TLS's AEADs lies a
 * stream cipher, which may be entered anywhere; what is left out is the tag, and with it the proof
 * that keys and number are the right ones. So the first records under keys, and one of many after
 * that, are read whole; and so is any whose heads make no sense.
 */
#include "stream/tls_item.h"

/* So many are read whole where keys or number are new, and after that one of so many. */
#define PROVE_FIRST	8
#define PROVE_EVERY	64
/* What is short is read whole: KeyUpdates, alerts, and frames that are nothing but head. */
#define SHORT_BODY	64

struct record_parts {
	struct derp_parts parts;
	struct tls *tls;
	const struct tls_side *side;
	const uint8_t *body;
	bool begun;
	struct cipher_range there; /* brought last */
};

static bool peek(struct record_parts *r, const struct cipher_range *ranges, size_t count)
{
	struct tls_shared *shared = r->tls->shared;

	return !cipher_peek(shared->pool, &r->side->traffic, r->side->number, r->body, ranges,
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

bool tls_open_heads(struct tls *t, int side, const struct tls_item *item)
{
	struct tls_side *s = &t->sides[side];
	const struct cipher_suite *suite = s->traffic.suite;
	size_t body = item->bytes - WALK_HEADER_LEN, sealed = cipher_sealed_len(suite, body);
	struct record_parts r = { .tls = t, .side = s, .body = item->record + WALK_HEADER_LEN };

	if (s->proven < PROVE_FIRST || s->proven % PROVE_EVERY == 0 || !t->sink->heads)
		return false;
	if (item->record[0] != TLS_APPLICATION || body <= SHORT_BODY)
		return false;
	r.parts.bring = bring;
	r.parts.data = t->shared->scratch;
	r.parts.len = sealed - (suite->version == TLS_1_3);
	if (!t->sink->heads(t->ctx, side, item->time_ns, item->tcp_end, &r.parts))
		return false;
	t->shared->opened++;
	t->shared->by_heads++;
	if (t->search)
		t->search->sides[side].hinted = false;
	s->number++;
	s->proven++;
	return true;
}
