// SPDX-License-Identifier: BSD-2-Clause
/*
 * The search for a frame's start. A guess begins wherever a header makes sense, and lives as long
 * as the header that must follow does, too. It is taken for true
 *  - when it began with a record (or segment) and ended with one: relays and clients flush whole
 *    frames, so that this is how an idle connection goes on;
 *  - or when three headers in a row made sense.
 * What a guess that began with a record spans is not looked into for other guesses to take before
 * that one has failed: a packet's payload may imitate frames.
 */
#include "stream/frames.h"

#include <stdlib.h>
#include <string.h>

#define MAX_KEPT	(96 << 10)	/* the longest packet and then some */
#define MAX_CHUNKS	160
#define MAX_GUESSES	16
#define ENOUGH		3

struct guess {
	uint64_t start, next;	/* offsets in the stream that is searched */
	uint64_t kept;		/* of its first header that is not forgotten, or comes next */
	unsigned int count;	/* headers */
	bool aligned;		/* began with a chunk */
};

struct derp_sync {
	uint64_t base, end;	/* offsets of what is kept */
	uint64_t scanned;	/* no guess begins before it any more */
	uint8_t *buf;
	size_t cap;
	size_t chunks;
	struct {
		uint64_t off, time_ns, tcp_pos, tcp_end;
		bool record, framed, inner;
	} chunk[MAX_CHUNKS];
	size_t guesses;
	struct guess guess[MAX_GUESSES];
};

void derp_sync_free(struct derp_sync *sync, struct budget *budget)
{
	if (!sync)
		return;
	budget_give(budget, sync->cap + sizeof(*sync));
	free(sync->buf);
	free(sync);
}

const uint8_t *derp_sync_bytes(const struct derp_sync *sync, size_t *len)
{
	*len = sync->end - sync->base;
	return sync->buf;
}

static bool make(struct derp_sync **sync, struct budget *budget)
{
	if (*sync)
		return true;
	if (!budget_take(budget, sizeof(**sync)))
		return false;
	*sync = calloc(1, sizeof(**sync));
	if (!*sync)
		budget_give(budget, sizeof(**sync));
	return *sync;
}

/* Forgets all that is kept; guesses whose next header is yet to come stay. */
static uint64_t forget(struct derp_sync *s)
{
	uint64_t bytes = s->end - s->base;
	size_t i, n = 0;

	for (i = 0; i < s->guesses; i++) {
		if (s->guess[i].next < s->end)
			continue;
		s->guess[n] = s->guess[i];
		s->guess[n].kept = s->guess[n].next;
		n++;
	}
	s->guesses = n;
	s->base = s->scanned = s->end;
	s->chunks = 0;
	return bytes;
}

static bool reserve(struct derp_sync *s, size_t need, struct budget *budget)
{
	return need <= s->cap ||
	       budget_grow(budget, &s->buf, &s->cap, need < 4096 ? 4096 : need + need / 2);
}

static bool append(struct derp_sync *s, const struct derp_chunk *c, struct budget *budget)
{
	size_t have = s->end - s->base;

	if (s->chunks == MAX_CHUNKS || have + c->len > MAX_KEPT ||
	    !reserve(s, have + c->len, budget))
		return false;
	memcpy(s->buf + have, c->data, c->len);
	s->chunk[s->chunks].off = s->end;
	s->chunk[s->chunks].time_ns = c->time_ns;
	s->chunk[s->chunks].tcp_pos = c->tcp_pos;
	s->chunk[s->chunks].tcp_end = c->tcp_end;
	s->chunk[s->chunks].record = c->record;
	s->chunk[s->chunks].framed = c->framed;
	s->chunk[s->chunks].inner = c->inner;
	s->chunks++;
	s->end += c->len;
	return true;
}

static bool ends_chunk(const struct derp_sync *s, uint64_t off)
{
	size_t i;

	for (i = s->chunks; i--;)
		if (s->chunk[i].off <= off)
			return s->chunk[i].off == off || off == s->end;
	return off == s->end;
}

/* Follows the chain as far as it is there. False: it does not hold. */
static bool follow(const struct derp_sync *s, struct guess *g, uint8_t talker)
{
	while (g->next >= s->base && g->next + WALK_HEADER_LEN <= s->end) {
		const uint8_t *p = s->buf + (g->next - s->base);

		if (!derp_plausible(p, talker))
			return false;
		g->count++;
		g->next += WALK_HEADER_LEN + walk_derp_len(p);
		if (g->aligned && g->next <= s->end && ends_chunk(s, g->next))
			return true;
	}
	return true;
}

static bool proven(const struct derp_sync *s, const struct guess *g)
{
	return g->count >= ENOUGH || (g->aligned && g->count && g->next <= s->end &&
				      ends_chunk(s, g->next));
}

/* The oldest guess that is proven, unless an older one that began with a record still holds. */
static const struct guess *choose(const struct derp_sync *s)
{
	const struct guess *best = NULL, *open = NULL;
	size_t i;

	for (i = 0; i < s->guesses; i++) {
		const struct guess *g = &s->guess[i];

		if (proven(s, g)) {
			if (!best || g->start < best->start)
				best = g;
		} else if (g->aligned && (!open || g->start < open->start)) {
			open = g;
		}
	}
	return best && open && open->start < best->start ? NULL : best;
}

static void follow_all(struct derp_sync *s, uint8_t talker)
{
	size_t i, n = 0;

	for (i = 0; i < s->guesses; i++)
		if (proven(s, &s->guess[i]) || follow(s, &s->guess[i], talker))
			s->guess[n++] = s->guess[i];
	s->guesses = n;
}

static bool starts_chunk(const struct derp_sync *s, uint64_t off, size_t *hint)
{
	while (*hint < s->chunks && s->chunk[*hint].off < off)
		++*hint;
	return *hint < s->chunks && s->chunk[*hint].off == off && !s->chunk[*hint].inner;
}

static void add_guesses(struct derp_sync *s, uint8_t talker)
{
	size_t hint = 0;

	for (; s->scanned + WALK_HEADER_LEN <= s->end; s->scanned++) {
		struct guess g = { .start = s->scanned, .next = s->scanned, .kept = s->scanned };

		g.aligned = starts_chunk(s, s->scanned, &hint);
		/* Too many: only those that are likelier may still come in. */
		if (s->guesses == MAX_GUESSES || (!g.aligned && s->guesses > MAX_GUESSES / 2))
			continue;
		if (!derp_plausible(s->buf + (s->scanned - s->base), talker))
			continue;
		if (follow(s, &g, talker))
			s->guess[s->guesses++] = g;
	}
}

bool derp_sync_feed(struct derp_sync **sync, const struct derp_chunk *c, uint8_t talker,
		    struct budget *budget, uint64_t *dropped, uint64_t *start)
{
	const struct guess *g;
	struct derp_sync *s;

	*dropped = *start = 0;
	if (!make(sync, budget)) {
		*dropped = c->len;
		return false;
	}
	s = *sync;
	if (!append(s, c, budget)) {
		*dropped = forget(s);
		if (!append(s, c, budget)) {
			*dropped += c->len;
			s->end += c->len;
			s->base = s->scanned = s->end;
			s->guesses = 0;
			return false;
		}
	}
	follow_all(s, talker);
	add_guesses(s, talker);
	g = choose(s);
	if (!g)
		return false;
	*start = g->kept - s->base;
	return true;
}

bool derp_sync_chunk(const struct derp_sync *sync, size_t n, uint64_t start, struct derp_chunk *c)
{
	uint64_t from = sync->base + start, end;
	size_t i = 0;

	while (i < sync->chunks && (i + 1 < sync->chunks ? sync->chunk[i + 1].off : sync->end) <= from)
		i++;
	i += n;
	if (i >= sync->chunks)
		return false;
	end = i + 1 < sync->chunks ? sync->chunk[i + 1].off : sync->end;
	if (from < sync->chunk[i].off)
		from = sync->chunk[i].off;
	*c = (struct derp_chunk){
		.time_ns = sync->chunk[i].time_ns,
		.tcp_pos = sync->chunk[i].tcp_pos + (from - sync->chunk[i].off),
		.tcp_end = sync->chunk[i].tcp_end,
		.record = sync->chunk[i].record,
		.framed = sync->chunk[i].framed,
		.inner = sync->chunk[i].inner || from > sync->chunk[i].off,
		.data = sync->buf + (from - sync->base),
		.len = end - from,
	};
	return true;
}
