/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The door's first half: records come in, and wait until their snapshot is closed. An agent that is
 * cut loses its open snapshot: half of one would not balance.
 */
#include "correlate/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define MAX_PAIRS	262144u
#define MAX_NODES	1024u
#define STAGE_KEPT	(4u << 20)
#define STAGE_BYTES	(1ull << 30)	/* of one open snapshot; a greater one is no snapshot of ours */

struct correlate *correlate_new(const struct derpmap *map, const struct correlate_limits *limits)
{
	struct correlate *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->map = map;
	if (limits)
		c->limits = *limits;
	if (!c->limits.max_pairs)
		c->limits.max_pairs = MAX_PAIRS;
	if (!c->limits.max_nodes)
		c->limits.max_nodes = MAX_NODES;
	if (getrandom(c->seed, sizeof(c->seed), GRND_NONBLOCK) < 0)
		c->seed[0] = (uintptr_t)c;
	shared_init(&c->names, sizeof(struct record_conn_names), c->seed[1]);
	if (!VEC_ROOM(c->peers, 0, c->peer_cap) || !VEC_ROOM(c->pairs, 0, c->pair_cap)) {
		correlate_free(c);
		return NULL;
	}
	memset(&c->peers[0], 0, sizeof(c->peers[0]));
	memset(&c->pairs[0], 0, sizeof(c->pairs[0]));
	c->peer_count = c->pair_count = 1;
	return c;
}

void correlate_free(struct correlate *c)
{
	size_t i;

	if (!c)
		return;
	for (i = 0; i < c->agent_count; i++) {
		free(c->agents[i].stage);
		free(c->agents[i].steps);
	}
	for (i = 0; i < c->life_count; i++)
		life_free(c, c->lives[i]);
	shared_clear(&c->names);
	table_free(&c->life_index);
	table_free(&c->pair_index);
	table_free(&c->left_out);
	free(c->agents);
	free(c->lives);
	free(c->peers);
	free(c->peer_slots);
	free(c->pairs);
	free(c->losses);
	free(c);
}

static uint32_t agent_get(struct correlate *c, uint64_t id)
{
	size_t i;

	for (i = 0; i < c->agent_count; i++) {
		if (c->agents[i].id == id)
			return i;
	}
	if (!VEC_ROOM(c->agents, c->agent_count, c->agent_cap))
		return NONE;
	memset(&c->agents[i], 0, sizeof(c->agents[i]));
	c->agents[i].id = id;
	return c->agent_count++;
}

/* Bytes of a record that its type uses. */
static size_t record_size(const struct record *r)
{
	size_t head = offsetof(struct record, node_info);

	switch (r->type) {
	case RECORD_NODE:
		return head + sizeof(r->node_info);
	case RECORD_CONN:
		return head + sizeof(r->conn);
	case RECORD_LINK:
		return head + sizeof(r->link);
	case RECORD_MARK:
		return head + sizeof(r->mark);
	case RECORD_PAIR:
		return head + sizeof(r->pair);
	case RECORD_LOSS:
		return head + sizeof(r->loss);
	case RECORD_PRESENCE:
		return head + sizeof(r->presence);
	case RECORD_NIC:
		return head + sizeof(r->nic);
	case RECORD_STEP:
		return head + sizeof(r->step);
	case RECORD_NIC_DROP:
		return head + sizeof(r->nic_drop);
	default:
		return 0;
	}
}

/* Every record starts on 8 bytes. */
static size_t padded(size_t bytes)
{
	return (bytes + 7) & ~(size_t)7;
}

/* What a record points to stands behind it. */
static size_t tail_bytes(const struct record *r, const void **tail)
{
	if (r->type == RECORD_MARK) {
		*tail = r->mark.pairs;
		return r->mark.pair_count * sizeof(*r->mark.pairs);
	}
	*tail = r->type == RECORD_PAIR ? r->pair.latency : NULL;
	return buckets_size(*tail);
}

/* The record at @at, and how far the next one is from it. */
static size_t stage_get(const uint8_t *at, struct record *r)
{
	const struct buckets *latency;
	size_t size;

	/* The type stands first; the rest is copied once its size is known. */
	memcpy(r, at, offsetof(struct record, node_info));
	size = record_size(r);
	memcpy(r, at, size);
	if (r->type == RECORD_MARK) {
		r->mark.pairs = (const void *)(at + padded(size));
		return padded(size) + padded(r->mark.pair_count * sizeof(*r->mark.pairs));
	}
	if (r->type != RECORD_PAIR || !r->pair.latency)
		return padded(size);
	latency = (const void *)(at + padded(size));
	r->pair.latency = latency;
	return padded(size) + padded(buckets_size(latency));
}

static int stage_put(struct agent *a, const struct record *r)
{
	const void *behind;
	size_t size = record_size(r), tail = tail_bytes(r, &behind), cap;
	size_t need = padded(size) + padded(tail);
	uint8_t *p;

	if (!size)
		return 0;
	if (a->stage_len + need > STAGE_BYTES) {
		a->cut = true;
		return 0;
	}
	if (a->stage_len + need > a->stage_cap) {
		cap = a->stage_cap ? a->stage_cap * 2 : 1 << 16;
		while (cap < a->stage_len + need)
			cap *= 2;
		p = realloc(a->stage, cap);
		if (!p)
			return -ENOMEM;
		a->stage = p;
		a->stage_cap = cap;
	}
	memcpy(a->stage + a->stage_len, r, size);
	if (tail)
		memcpy(a->stage + a->stage_len + padded(size), behind, tail);
	a->stage_len += need;
	return 0;
}

static int stage_apply(struct correlate *c, uint32_t agent)
{
	struct agent *a = &c->agents[agent];
	struct record r;
	size_t at = 0;
	int err;

	while (at < a->stage_len) {
		at += stage_get(a->stage + at, &r);
		err = state_apply(c, agent, &r);
		if (err < 0)
			return err;
	}
	a->stage_len = 0;
	/* One that tells everything is many times as long as those that follow. */
	if (a->stage_cap > STAGE_KEPT) {
		free(a->stage);
		a->stage = NULL;
		a->stage_cap = 0;
	}
	return state_trim(c, agent);
}

static void agent_cut(struct agent *a)
{
	if (!a->info.final)
		a->cut = true;
	free(a->stage);
	a->stage = NULL;
	a->stage_len = a->stage_cap = 0;
}

int correlate_put(struct correlate *c, const struct record *r)
{
	uint32_t agent = agent_get(c, r->agent);
	struct agent *a;
	int err;

	if (agent == NONE)
		return -ENOMEM;
	a = &c->agents[agent];
	if (r->type == RECORD_CUT) {
		agent_cut(a);
		return 0;
	}
	if (a->cut || a->info.final)
		return 0;
	if (r->type != RECORD_AGENT)
		return stage_put(a, r);
	err = stage_apply(c, agent);
	if (err < 0)
		return err;
	if (!a->known)
		a->first_ns = r->time_ns;
	a->known = true;
	a->last_ns = r->time_ns;
	a->info = r->agent_info;
	if (a->info.final) {
		free(a->stage);
		a->stage = NULL;
		a->stage_cap = 0;
	}
	return 0;
}
