// SPDX-License-Identifier: BSD-2-Clause
/*
 * The connections of a life. Thousands of them lie idle while one is told of, and each is kept folded,
 * behind its number; but for a few at hand, and for all of them while a report is made.
 */
#include "correlate/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fold.h"

#define CLOSED_KEPT	32768u	/* closed connections of one life */
#define DIALS_KEPT	1024u	/* of them, dials that never carried a packet */
#define BYTES		(FOLD_BYTES(sizeof(uint64_t)) + FOLD_BYTES(sizeof(struct conn)))

_Static_assert(sizeof(struct conn) % 8 == 0, "whole words are folded");
_Static_assert(BYTES <= SLAB_MAX, "a connection is one block");

static const struct conn_mesh no_mesh;

bool conn_has_mesh(const struct conn *conn)
{
	return conn->mesh != &no_mesh;
}

struct conn_mesh *conn_mesh_get(struct conn *conn)
{
	struct conn_mesh *own;

	if (conn->mesh != &no_mesh)
		return (struct conn_mesh *)conn->mesh;
	own = calloc(1, sizeof(*own));
	if (own)
		conn->mesh = own;
	return own;
}

static void mesh_free(struct conn *conn)
{
	struct conn_mesh *mesh = (struct conn_mesh *)conn->mesh;

	if (mesh == &no_mesh)
		return;
	rows_free(&mesh->rows);
	rows_free(&mesh->marks.base);
	free(mesh->marks.v);
	free(mesh->marks.deltas);
	free(mesh);
}

/* --- folded ------------------------------------------------------------------------------- */

static size_t conn_fold(const struct conn *conn, uint8_t bytes[static BYTES])
{
	struct conn copy = *conn;
	uint8_t *end = fold(&copy.rec.conn, sizeof(copy.rec.conn), bytes);

	copy.rec.conn = 0;
	copy.life = 0;
	copy.mesh = conn_has_mesh(conn) ? conn->mesh : NULL;
	return (size_t)(fold(&copy, sizeof(copy), end) - bytes);
}

static uint64_t conn_number(const struct correlate *c, uint32_t block)
{
	uint64_t number;

	unfold(slab_at(&c->rows, block), &number, sizeof(number));
	return number;
}

static void conn_unfold(const struct correlate *c, const struct life *life, uint32_t block,
			struct conn *conn)
{
	const uint8_t *bytes;
	uint64_t number;

	bytes = unfold(slab_at(&c->rows, block), &number, sizeof(number));
	unfold(bytes, conn, sizeof(*conn));
	conn->rec.conn = number;
	conn->life = life->number;
	if (!conn->mesh)
		conn->mesh = &no_mesh;
}

/* --- by number ---------------------------------------------------------------------------- */

struct whose {
	const struct correlate *c;
	const struct life *life;
};

static uint64_t number_hash(const struct correlate *c, uint64_t number)
{
	return hash_mix(c->seed.w[0] ^ number, c->seed.w[1]);
}

static uint64_t place_hash(const void *ctx, uint32_t place)
{
	const struct whose *w = ctx;

	return number_hash(w->c, conn_number(w->c, w->life->kept[place - 1]));
}

static bool place_same(const void *ctx, uint32_t place, const void *number)
{
	const struct whose *w = ctx;

	return conn_number(w->c, w->life->kept[place - 1]) == *(const uint64_t *)number;
}

uint32_t conns_place(const struct correlate *c, const struct life *life, uint64_t number)
{
	const struct whose whose = { c, life };
	const struct index_of of = { place_hash, place_same, &whose };

	return number ? index_find(&life->conn_index, &of, number_hash(c, number), &number) : 0;
}

static bool index_conn(const struct correlate *c, struct life *life, size_t i)
{
	const struct whose whose = { c, life };
	const struct index_of of = { place_hash, place_same, &whose };

	return index_insert(&life->conn_index, &of,
			    number_hash(c, conn_number(c, life->kept[i])), (uint32_t)i + 1);
}

const struct conn *life_conn(const struct correlate *c, const struct life *life, uint64_t number)
{
	uint32_t place = conns_place(c, life, number);

	return place ? life->conns[place - 1] : NULL;
}

/* --- at hand ------------------------------------------------------------------------------ */

/* A dial that came to nothing: it tells what the newest ones of its kind tell as well. */
static bool is_failed_dial(const struct conn *conn)
{
	return conn->rec.closed_ns && conn->rec.dialled && !(conn->rec.steps & STEP_PACKET) &&
	       !conn->mesh->rows.count;
}

static void count(struct life *life, const struct conn *conn, int sign)
{
	if (conn->rec.closed_ns)
		life->closed += sign;
	if (is_failed_dial(conn))
		life->failed_dials += sign;
}

static int put_back(struct correlate *c, struct hand *hand)
{
	uint8_t bytes[BYTES];
	size_t need;
	uint32_t *kept, block;

	if (!hand->life)
		return 0;
	need = conn_fold(&hand->conn, bytes);
	kept = &hand->life->kept[hand->place - 1];
	block = *kept;
	if (need > slab_room(block) || need < slab_room(block) / 4 * 3) {
		block = slab_take(&c->rows, need);
		if (!block)
			return -ENOMEM;
		slab_drop(&c->rows, *kept);
		*kept = block;
	}
	memcpy(slab_at(&c->rows, block), bytes, need);
	count(hand->life, &hand->conn, 1);
	hand->life = NULL;
	return 0;
}

int conns_put_back(struct correlate *c)
{
	int err = 0;
	size_t i;

	for (i = 0; i < HANDS && !err; i++)
		err = put_back(c, &c->hands[i]);
	return err;
}

/* One that is all zeros but for its number. 0 or -ENOMEM. */
static int conn_add(struct correlate *c, struct life *life, uint64_t number)
{
	const struct conn conn = { .rec.conn = number, .mesh = &no_mesh };
	uint8_t bytes[BYTES];
	size_t need = conn_fold(&conn, bytes);
	uint32_t block;

	if (!VEC_ROOM(life->kept, life->conn_count, life->conn_cap))
		return -ENOMEM;
	block = slab_take(&c->rows, need);
	if (!block)
		return -ENOMEM;
	memcpy(slab_at(&c->rows, block), bytes, need);
	life->kept[life->conn_count] = block;
	if (!index_conn(c, life, life->conn_count)) {
		slab_drop(&c->rows, block);
		return -ENOMEM;
	}
	life->conn_count++;
	return 0;
}

int conns_hand(struct correlate *c, struct life *life, uint64_t number, bool *made,
	       struct conn **conn)
{
	struct hand *hand = &c->hands[number % HANDS];
	uint32_t place;

	if (made)
		*made = false;
	*conn = &hand->conn;
	if (hand->life == life && hand->conn.rec.conn == number)
		return 0;
	if (put_back(c, hand) < 0)
		return -ENOMEM;
	place = conns_place(c, life, number);
	if (!place && made) {
		if (conn_add(c, life, number) < 0)
			return -ENOMEM;
		*made = true;
		place = (uint32_t)life->conn_count;
	}
	if (!place) {
		*conn = NULL;
		return 0;
	}
	conn_unfold(c, life, life->kept[place - 1], &hand->conn);
	count(life, &hand->conn, -1);
	hand->life = life;
	hand->place = place;
	return 0;
}

/* --- all of them -------------------------------------------------------------------------- */

static int life_unfold(const struct correlate *c, struct life *life)
{
	struct conn *all = malloc(life->conn_count * sizeof(*all));
	size_t i;

	life->conns = malloc(life->conn_count * sizeof(struct conn *));
	if (!all || !life->conns) {
		free(all);
		free(life->conns);
		life->conns = NULL;
		return -ENOMEM;
	}
	for (i = 0; i < life->conn_count; i++) {
		conn_unfold(c, life, life->kept[i], &all[i]);
		life->conns[i] = &all[i];
	}
	return 0;
}

int conns_unfold(struct correlate *c)
{
	size_t i;

	if (conns_put_back(c) < 0)
		return -ENOMEM;
	for (i = 0; i < c->life_count; i++) {
		if (c->lives[i]->conn_count && life_unfold(c, c->lives[i]) < 0)
			return -ENOMEM;
	}
	return 0;
}

void conns_forget(struct correlate *c)
{
	size_t i;

	for (i = 0; i < c->life_count; i++) {
		struct life *life = c->lives[i];

		if (!life->conns)
			continue;
		free(life->conns[0]);
		free(life->conns);
		life->conns = NULL;
	}
}

/* --- those that are let go ---------------------------------------------------------------- */

static void conn_drop(struct correlate *c, struct conn *conn, uint32_t block)
{
	shared_drop(&c->names, conn->names);
	mesh_free(conn);
	slab_drop(&c->rows, block);
}

void conns_free(struct correlate *c, struct life *life)
{
	const struct hand *hand;
	struct conn conn;
	size_t i;

	for (i = 0; i < life->conn_count; i++) {
		conn_unfold(c, life, life->kept[i], &conn);
		hand = &c->hands[conn.rec.conn % HANDS];
		if (hand->life == life && hand->place == i + 1)
			conn = hand->conn;
		conn_drop(c, &conn, life->kept[i]);
	}
	free(life->kept);
	index_free(&life->conn_index);
}

int conns_trim(struct correlate *c, struct life *life, bool *moved)
{
	size_t i, n = 0;

	*moved = false;
	if (life->closed <= CLOSED_KEPT + CLOSED_KEPT / 4 &&
	    life->failed_dials <= DIALS_KEPT + DIALS_KEPT / 4)
		return 0;
	if (conns_put_back(c) < 0)
		return -ENOMEM;
	*moved = true;
	/* The oldest go; they stand in the order in which they were first told. */
	for (i = 0; i < life->conn_count; i++) {
		uint32_t block = life->kept[i];
		struct conn conn;
		bool dial;

		conn_unfold(c, life, block, &conn);
		dial = is_failed_dial(&conn);
		if ((dial && life->failed_dials > DIALS_KEPT) ||
		    (conn.rec.closed_ns && life->closed > CLOSED_KEPT)) {
			count(life, &conn, -1);
			life->failed_dials_gone += dial;
			conn_drop(c, &conn, block);
		} else {
			life->kept[n++] = block;
		}
	}
	life->conn_count = n;
	index_free(&life->conn_index);
	for (i = 0; i < n; i++) {
		if (!index_conn(c, life, i))
			return -ENOMEM;
	}
	return 0;
}
