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
#define ROOM_FOR_COUNTS	(64u << 10)
#define BASE_NS		(1ull << 42)	/* 73 minutes: so long a time takes six bytes */
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
	if (getrandom(&c->seed, sizeof(c->seed), 0) != sizeof(c->seed) ||
	    !VEC_ROOM(c->peers, 0, c->peer_cap) || !VEC_ROOM(c->pairs, 0, c->pair_cap)) {
		correlate_free(c);
		return NULL;
	}
	shared_init(&c->names, sizeof(struct record_conn_names), c->seed.w[1]);
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
	index_free(&c->pair_index);
	slab_free(&c->rows);
	table_free(&c->left_out);
	free(c->agents);
	free(c->lives);
	free(c->peers);
	index_free(&c->peer_index);
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

/* A record in a stage: what its type uses of it, and then what that points to. */
struct staged {
	uint32_t size, tail;
};

static size_t body_size(const struct record *r)
{
	static const size_t size[] = {
#define BODY(type, field)	[type] = sizeof(((struct record *)0)->field)
		BODY(RECORD_NODE, node_info), BODY(RECORD_CONN, conn), BODY(RECORD_LINK, link),
		BODY(RECORD_MARK, mark), BODY(RECORD_PEERS, peers), BODY(RECORD_PAIRS, pairs),
		BODY(RECORD_COUNTS, counts.pair), BODY(RECORD_LOSS, loss),
		BODY(RECORD_PRESENCE, presence), BODY(RECORD_NIC, nic),
		BODY(RECORD_NIC_DROP, nic_drop), BODY(RECORD_STEP, step),
#undef BODY
	};

	return r->type < sizeof(size) / sizeof(size[0]) ? size[r->type] : 0;
}

/* What it points to, of those whose elements are kept as they are. */
static const void *tail_of(const struct record *r, size_t *bytes)
{
	switch (r->type) {
	case RECORD_MARK:
		*bytes = r->mark.pair_count * sizeof(*r->mark.pairs);
		return r->mark.pairs;
	case RECORD_PEERS:
		*bytes = r->peers.count * sizeof(*r->peers.v);
		return r->peers.v;
	case RECORD_PAIRS:
		*bytes = r->pairs.count * sizeof(*r->pairs.v);
		return r->pairs.v;
	default:
		*bytes = 0;
		return NULL;
	}
}

static void tail_set(struct record *r, const void *tail)
{
	if (r->type == RECORD_MARK)
		r->mark.pairs = tail;
	else if (r->type == RECORD_PEERS)
		r->peers.v = tail;
	else if (r->type == RECORD_PAIRS)
		r->pairs.v = tail;
}

/* Every record starts on 8 bytes, and so does its tail. */
static size_t padded(size_t bytes)
{
	return (bytes + 7) & ~(size_t)7;
}

/* Room for so many bytes at the stage's end. NULL: no memory; or *cut: it is no snapshot of ours. */
static uint8_t *stage_room(struct agent *a, size_t need, bool *cut)
{
	size_t cap = a->stage_cap ? a->stage_cap : 1 << 16;
	uint8_t *p;

	*cut = a->stage_len + need > STAGE_BYTES;
	if (*cut)
		return NULL;
	while (cap < a->stage_len + need)
		cap *= 2;
	if (cap != a->stage_cap) {
		p = realloc(a->stage, cap);
		if (!p)
			return NULL;
		a->stage = p;
		a->stage_cap = cap;
	}
	return a->stage + a->stage_len;
}

static uint8_t *stage_head(const struct record *r, size_t size, size_t tail, uint8_t *p)
{
	const struct staged head = { (uint32_t)size, (uint32_t)tail };

	memcpy(p, &head, sizeof(head));
	memcpy(p + sizeof(head), r, size);
	return p + sizeof(head) + padded(size);
}

static int stage_put(struct agent *a, const struct record *r)
{
	size_t size = offsetof(struct record, node_info) + body_size(r), bytes, need;
	const void *tail = tail_of(r, &bytes);
	bool cut;
	uint8_t *p;

	need = sizeof(struct staged) + padded(size) + padded(bytes);
	p = stage_room(a, need, &cut);
	a->cut = cut;
	if (!p)
		return cut ? 0 : -ENOMEM;
	p = stage_head(r, size, bytes, p);
	if (bytes)
		memcpy(p, tail, bytes);
	a->stage_len += need;
	return 0;
}

/* Counts are packed at once, as they are kept. */
static int stage_counts(struct agent *a, const struct record *r)
{
	const size_t size = offsetof(struct record, node_info) + body_size(r);
	const size_t head = sizeof(struct staged) + padded(size);
	size_t from = 0, bytes;
	bool cut;
	uint8_t *p;

	while (from < r->counts.count) {
		p = stage_room(a, head + ROOM_FOR_COUNTS, &cut);
		a->cut = cut;
		if (!p)
			return cut ? 0 : -ENOMEM;
		bytes = counts_pack(&r->counts, a->base_ns, from, &from, p + head, ROOM_FOR_COUNTS);
		stage_head(r, size, bytes, p);
		a->stage_len += head + padded(bytes);
	}
	return 0;
}

static int stage_apply_one(struct correlate *c, uint32_t agent, const struct staged *head,
			   const uint8_t *p)
{
	const uint8_t *tail = p + padded(head->size);
	struct record r;

	memcpy(&r, p, head->size);
	if (r.type == RECORD_COUNTS)
		return state_apply_counts(c, agent, &r, tail, head->tail);
	tail_set(&r, tail);
	return state_apply(c, agent, &r);
}

static int stage_apply(struct correlate *c, uint32_t agent)
{
	struct agent *a = &c->agents[agent];
	struct staged head;
	size_t at;
	int err;

	for (at = 0; at < a->stage_len; at += padded(head.size) + padded(head.tail)) {
		memcpy(&head, a->stage + at, sizeof(head));
		at += sizeof(head);
		err = stage_apply_one(c, agent, &head, a->stage + at);
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
	return state_closed(c, agent);
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
	if (!a->base_ns)
		a->base_ns = r->time_ns & ~(BASE_NS - 1);
	if (r->type == RECORD_COUNTS)
		return stage_counts(a, r);
	if (r->type != RECORD_AGENT)
		return body_size(r) ? stage_put(a, r) : 0;
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
