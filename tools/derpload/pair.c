/* SPDX-License-Identifier: BSD-2-Clause */
/* A hash for keys that are random already: uthash's own costs more than the rest of a packet. */
#define HASH_FUNCTION(key, len, hash) \
	do { \
		uint64_t a_, b_; \
		(void)(len); \
		memcpy(&a_, (const char *)(key), 8); \
		memcpy(&b_, (const char *)(key) + 32, 8); \
		(hash) = (unsigned int)payload_mix(a_, b_); \
	} while (0)

#include "pair.h"

#include <stdlib.h>
#include <string.h>

#include "loop.h"
#include "mem.h"

static struct pair *pairs;

struct pair *pair_get(const uint8_t src[static 32], const uint8_t dst[static 32])
{
	uint8_t keys[64];
	struct pair *p;

	memcpy(keys, src, 32);
	memcpy(keys + 32, dst, 32);
	HASH_FIND(hh, pairs, keys, sizeof(keys), p);
	if (p || HASH_COUNT(pairs) >= PAIR_MAX)
		return p;
	p = mem_zero(1, sizeof(*p));
	memcpy(p->keys, keys, sizeof(keys));
	p->mark = payload_pair(src, dst);
	p->first_seq = PAIR_NONE;
	HASH_ADD(hh, pairs, keys, sizeof(p->keys), p);
	return p;
}

struct pair *pair_first(void)
{
	return pairs;
}

struct pair *pair_next(struct pair *p)
{
	return p->hh.next;
}

void pair_sent(struct pair *p, uint64_t seq, uint32_t payload_len)
{
	p->sent++;
	p->sent_bytes += payload_len;
	if (seq == PAIR_NONE)
		p->sent_unnumbered++;
	else
		p->pending--;
}

void pair_unsent(struct pair *p, uint64_t seq)
{
	struct pair_range *last = p->unsent_len ? &p->unsent[p->unsent_len - 1] : NULL;

	if (seq == PAIR_NONE)
		return;
	p->pending--;
	if (last && last->to + 1 == seq) {
		last->to = seq;
		return;
	}
	p->unsent = mem_resize(p->unsent, p->unsent_len + 1, sizeof(*p->unsent));
	p->unsent[p->unsent_len++] = (struct pair_range){ seq, seq };
}

static bool seen_test(const struct pair *p, uint64_t seq)
{
	return seq / 64 < p->seen_words && p->seen[seq / 64] >> seq % 64 & 1;
}

static void seen_set(struct pair *p, uint64_t seq)
{
	uint64_t words = p->seen_words ? p->seen_words : 1;

	while (words <= seq / 64)
		words *= 2;
	if (words > p->seen_words) {
		p->seen = mem_resize(p->seen, words, 8);
		memset(p->seen + p->seen_words, 0, (words - p->seen_words) * 8);
		p->seen_words = words;
	}
	p->seen[seq / 64] |= 1ull << seq % 64;
}

/* One clock serves for both ends only where the sender is a peer of this machine. */
static void note_time(struct pair *p, uint64_t made_ns)
{
	uint64_t now_ns = loop_clock(), took_ns = now_ns - made_ns;

	if (!made_ns || made_ns > now_ns)
		return;
	if (!p->timed || took_ns < p->took_min_ns)
		p->took_min_ns = took_ns;
	if (took_ns > p->took_max_ns)
		p->took_max_ns = took_ns;
	p->took_ns += took_ns;
	p->timed++;
}

void pair_received(struct pair *p, const uint8_t *payload, size_t len)
{
	struct payload_said said;
	uint64_t seq;

	p->received++;
	p->received_bytes += len;
	switch (payload_check(payload, len, &p->mark, &said)) {
	case PAYLOAD_UNNUMBERED:
		p->received_unnumbered++;
		return;
	case PAYLOAD_CORRUPT:
		p->corrupt++;
		return;
	case PAYLOAD_OK:
		break;
	}
	seq = said.seq;
	if (seen_test(p, seq)) {
		p->dup++;
		return;
	}
	seen_set(p, seq);
	note_time(p, said.made_ns);
	if (seq < p->class_end[said.disco])
		p->reordered++;
	else
		p->class_end[said.disco] = seq + 1;
	if (seq < p->first_seq)
		p->first_seq = seq;
	if (seq >= p->end_seq)
		p->end_seq = seq + 1;
}

/* Is this number accounted for? If so *past is the next one that may not be. */
static bool settled(const struct pair *p, uint64_t seq, uint64_t *past)
{
	*past = seq + 1;
	if (seen_test(p, seq))
		return true;
	for (uint32_t i = 0; i < p->unsent_len; i++) {
		if (seq >= p->unsent[i].from && seq <= p->unsent[i].to) {
			*past = p->unsent[i].to + 1;
			return true;
		}
	}
	return false;
}

bool pair_missing(const struct pair *p, uint64_t at, struct pair_range *r)
{
	uint64_t end = p->sends ? p->next_seq - p->pending : p->end_seq;
	uint64_t past;

	if (!p->sends && p->first_seq != PAIR_NONE && at < p->first_seq)
		at = p->first_seq;
	while (at < end && settled(p, at, &past))
		at = past;
	if (at >= end)
		return false;
	r->from = r->to = at;
	while (r->to + 1 < end && !settled(p, r->to + 1, &past))
		r->to++;
	return true;
}
