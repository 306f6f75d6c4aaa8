// SPDX-License-Identifier: BSD-2-Clause
#include "record/declared.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static uint64_t hash_of(const struct declared *d, const struct declared_node *n)
{
	return hash_words(&d->seed, n->agent, n->node, 0);
}

static uint64_t node_hash(const void *ctx, uint32_t number)
{
	const struct declared *d = ctx;

	return hash_of(d, &d->nodes[number]);
}

static bool node_same(const void *ctx, uint32_t number, const void *key)
{
	const struct declared_node *x = &((const struct declared *)ctx)->nodes[number], *y = key;

	return x->agent == y->agent && x->node == y->node;
}

/* NULL without memory. */
static struct declared_node *node_get(struct declared *d, const struct record *r)
{
	const struct declared_node key = { .agent = r->agent, .node = r->node };
	const struct index_of of = { node_hash, node_same, d };
	struct declared_node *grown;
	uint32_t number, size = d->size ? d->size * 2 : 16;

	if (!d->size && getrandom(&d->seed, sizeof(d->seed), 0) != sizeof(d->seed))
		return NULL;
	number = index_find(&d->index, &of, hash_of(d, &key), &key);
	if (number)
		return &d->nodes[number];
	if (d->count + 1 >= d->size) {
		grown = reallocarray(d->nodes, size, sizeof(*grown));
		if (!grown)
			return NULL;
		d->nodes = grown;
		d->size = size;
	}
	d->nodes[d->count + 1] = key;
	if (!index_insert(&d->index, &of, hash_of(d, &key), d->count + 1))
		return NULL;
	return &d->nodes[++d->count];
}

/* One that is known, or the next one. */
static bool tell(uint32_t *so_far, uint32_t number)
{
	if (!number || number - 1 > *so_far)
		return false;
	if (number > *so_far)
		*so_far = number;
	return true;
}

static bool check_peers(struct declared_node *n, const struct record_peers *peers)
{
	size_t i;

	for (i = 0; i < peers->count; i++) {
		if (!tell(&n->peers, peers->v[i].no))
			return false;
	}
	return true;
}

static bool check_pairs(struct declared_node *n, const struct record_pairs *pairs)
{
	size_t i;

	for (i = 0; i < pairs->count; i++) {
		if (!tell(&n->pairs, pairs->v[i].no) || pairs->v[i].src > n->peers ||
		    pairs->v[i].dst > n->peers)
			return false;
	}
	return true;
}

static bool check_counts(const struct declared_node *n, const struct record_counts *counts)
{
	size_t i;

	for (i = 0; i < counts->count; i++) {
		if (counts->pair[i] - 1 >= n->pairs)
			return false;
	}
	return true;
}

bool declared_check(struct declared *d, const struct record *r)
{
	struct declared_node *n;

	if (r->type != RECORD_PEERS && r->type != RECORD_PAIRS && r->type != RECORD_COUNTS)
		return true;
	n = node_get(d, r);
	if (!n)
		return false;
	if (r->type == RECORD_PEERS)
		return check_peers(n, &r->peers);
	if (r->type == RECORD_PAIRS)
		return check_pairs(n, &r->pairs);
	return check_counts(n, &r->counts);
}

void declared_free(struct declared *d)
{
	free(d->nodes);
	index_free(&d->index);
	memset(d, 0, sizeof(*d));
}
