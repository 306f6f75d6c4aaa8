// SPDX-License-Identifier: BSD-2-Clause
#include "record/record.h"
#include "latency.h"

#include <stdlib.h>
#include <string.h>

#define ROWS	512u	/* of one record: few enough to stay in a processor's cache */

struct record_batch {
	struct record record;
	struct record_sink sink;
	int error;
	struct record_peer peers[ROWS];
	size_t peer_count;
	struct record_pair_ends pairs[ROWS];
	size_t pair_count;
	uint32_t numbers[ROWS];
	size_t count;
	uint64_t used;		/* columns in which there is anything but zeros */
	uint64_t column[RECORD_PAIR_COLUMNS][ROWS];
	uint32_t latency_first[ROWS], latency_count[ROWS];
	uint32_t latency[ROWS * LATENCY_BUCKETS];
	size_t latency_total;
};

struct record_batch *record_batch_new(const struct record *head, const struct record_sink *sink)
{
	struct record_batch *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->record.agent = head->agent;
	b->record.node = head->node;
	b->record.time_ns = head->time_ns;
	b->sink = *sink;
	return b;
}

void record_batch_free(struct record_batch *b)
{
	free(b);
}

static void tell(struct record_batch *b, enum record_type type)
{
	b->record.type = type;
	if (!b->error)
		b->error = b->sink.put(b->sink.ctx, &b->record);
}

static void tell_peers(struct record_batch *b)
{
	b->record.peers = (struct record_peers){ b->peers, b->peer_count };
	if (b->peer_count)
		tell(b, RECORD_PEERS);
	b->peer_count = 0;
}

static void tell_pairs(struct record_batch *b)
{
	b->record.pairs = (struct record_pairs){ b->pairs, b->pair_count };
	if (b->pair_count)
		tell(b, RECORD_PAIRS);
	b->pair_count = 0;
}

static void tell_counts(struct record_batch *b)
{
	struct record_counts *c = &b->record.counts;
	size_t i;

	*c = (struct record_counts){
		.pair = b->numbers, .count = b->count, .latency = b->latency,
		.latency_first = b->latency_first, .latency_count = b->latency_count,
	};
	for (i = 0; i < RECORD_PAIR_COLUMNS; i++)
		c->column[i] = b->used >> i & 1 ? b->column[i] : NULL;
	if (b->count)
		tell(b, RECORD_COUNTS);
	for (i = 0; i < RECORD_PAIR_COLUMNS; i++) {
		if (b->used >> i & 1)
			memset(b->column[i], 0, b->count * sizeof(b->column[i][0]));
	}
	b->used = b->count = b->latency_total = 0;
}

int record_batch_peer(struct record_batch *b, const struct record_peer *peer)
{
	if (b->peer_count == ROWS)
		tell_peers(b);
	b->peers[b->peer_count++] = *peer;
	return b->error;
}

int record_batch_pair(struct record_batch *b, const struct record_pair_ends *ends)
{
	if (b->pair_count == ROWS) {
		tell_peers(b);
		tell_pairs(b);
	}
	b->pairs[b->pair_count++] = *ends;
	return b->error;
}

static void add_latency(struct record_batch *b, const struct buckets *latency)
{
	uint32_t count = latency ? latency->count : 0;

	b->latency_first[b->count] = count ? latency->first : 0;
	b->latency_count[b->count] = count;
	if (count)
		memcpy(b->latency + b->latency_total, latency->v, count * sizeof(b->latency[0]));
	b->latency_total += count;
}

int record_batch_counts(struct record_batch *b, uint32_t pair, const struct record_pair *counts)
{
	const uint64_t *v = (const uint64_t *)counts;
	size_t i;

	if (b->count == ROWS)
		record_batch_flush(b);
	b->numbers[b->count] = pair;
	for (i = 0; i < RECORD_PAIR_COLUMNS; i++) {
		if (!v[i])
			continue;
		b->column[i][b->count] = v[i];
		b->used |= 1ull << i;
	}
	add_latency(b, counts->latency);
	b->count++;
	return b->error;
}

int record_batch_flush(struct record_batch *b)
{
	tell_peers(b);
	tell_pairs(b);
	tell_counts(b);
	return b->error;
}
