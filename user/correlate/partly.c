/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pairs that a node has, wholly or in part, in its other row. Where there are more pairs than rows each
 * node chooses by itself which ones keep theirs, so a pair may have a row where it enters the mesh and
 * none where it leaves it: its books do not join. It goes to the report's other row with all its
 * rows, whose sums are exact whatever is in it. Such a pair is
 *
 *	- one that a mesh connection has counted by itself and its node has not, or no longer;
 *	- one that one end of a mesh connection has counted by itself and the other end among others.
 *
 * One that stays on one node crosses nothing: what each of its rows says is true by itself.
 */
#include "correlate/analysis.h"

#include <errno.h>
#include <stdlib.h>

uint64_t partly_rest(const struct analysis *a, const struct conn *conn)
{
	const struct rows *rows = &conn->mesh->rows;
	uint64_t rest = conn->mesh->rec.forwards;
	size_t i;

	for (i = 0; i < rows->count; i++) {
		if (!a->partly[rows->v[i].pair])
			rest -= rows->v[i].frames < rest ? rows->v[i].frames : rest;
	}
	return rest;
}

static int find_at(const struct analysis *a, const struct life *life, bool *found)
{
	bool *has = calloc(a->c->pair_count, sizeof(*has));
	const struct rows *rows;
	struct pair_row row;
	size_t i, j;

	if (!has)
		return -ENOMEM;
	for (i = 0; i < life->pair_count; i++) {
		if (counts_get(a->c, life, i, &row) && row.books.entered)
			has[life->pairs[i].pair] = true;
	}
	for (i = 0; i < life->conn_count; i++) {
		rows = &life->conns[i]->mesh->rows;
		for (j = 0; j < rows->count; j++) {
			uint32_t pair = rows->v[j].pair;

			found[pair] |= rows->v[j].frames && (!has[pair] || a->c->pairs[pair].folded);
		}
	}
	free(has);
	return 0;
}

/* What one end counted by itself, and the other, which has others too, did not. */
static void find_apart(const struct analysis *a, const struct conn *here, const struct conn *there,
		       bool *found)
{
	const struct rows *rows = &here->mesh->rows, *far = &there->mesh->rows;
	size_t i;

	if (!partly_rest(a, there))
		return;
	for (i = 0; i < rows->count; i++)
		found[rows->v[i].pair] |= !rows_get((struct rows *)far, rows->v[i].pair, false);
}

int partly_find(struct analysis *a)
{
	bool *found = calloc(a->c->pair_count, sizeof(*found));
	size_t i;
	int err;

	/* Until all are found none is taken for one: a connection's rest is what it told. */
	a->partly = calloc(a->c->pair_count, sizeof(*a->partly));
	err = found && a->partly ? 0 : -ENOMEM;
	for (i = 0; !err && i < a->traced_count; i++) {
		if (a->nodes[i].life->info.other_frames)
			err = find_at(a, a->nodes[i].life, found);
	}
	for (i = 0; !err && i < a->edge_count; i++) {
		const struct edge *e = &a->edges[i];

		if (e->from == e->to || !e->out || !e->in)
			continue;
		find_apart(a, e->out, e->in, found);
		find_apart(a, e->in, e->out, found);
	}
	if (err) {
		free(found);
		return err;
	}
	free(a->partly);
	a->partly = found;
	return 0;
}
