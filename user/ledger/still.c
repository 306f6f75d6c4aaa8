// SPDX-License-Identifier: BSD-2-Clause
/*
 * A relay that stands still: stopped, frozen, or without CPU. Connections that it had always read at
 * once wait, all together, and it reads none of them. One that throttles its clients reads each late,
 * and some of them all the time; one that waits for a mesh peer shows that on the mesh connection, or has
 * lost it: who sends across then waits for the dial.
 */
#include "ledger/internal.h"

#define STILL_NS	SECOND_NS	/* less may be a busy host */
#define STILL_TICKS	6u		/* seen so often: else the whole host slept, and we with it */
#define STILL_CONNS	3u		/* that wait at least */
#define FRESH_NS	(500 * MSEC_NS)	/* before, all that had come was read */

struct look {
	uint32_t waiting, fresh;
	uint32_t mesh;		/* connections of ours to other nodes that are open */
	bool read, dialling;
};

static void look_at(const struct ledger *l, struct conn *c, struct look *look)
{
	look->mesh += c->kind == CONN_MESH_OUT && !c->closed_ns;
	look->dialling |= c->role == CAPTURE_DIALLED && c->kind == CONN_UNKNOWN && !c->closed_ns;
	if (c->closed_ns || !c->has_read)
		return;
	look->read |= c->in_read != c->tick_read;
	c->tick_read = c->in_read;
	if (c->in_read >= c->in_arrived) {
		c->drained_ns = l->now_ns;
		return;
	}
	look->waiting++;
	look->fresh += c->drained_ns && c->drained_ns + FRESH_NS >= l->alive_ns;
}

/* Where it was last seen: what was read since then may be through other nodes by now. */
static void end(struct ledger *l)
{
	struct record_node *n = &l->info;

	l->alive_ns = l->now_ns;
	l->still_ticks = 0;
	if (!n->still_from_ns || n->still_to_ns)
		return;
	n->still_to_ns = l->tick_before_ns;
	l->node_dirty = true;
}

/* What has ended shortly before, or was not told yet, goes on: only the last one is told. */
static void begin(struct ledger *l, uint32_t conns)
{
	struct record_node *n = &l->info;

	if (!n->still_from_ns || (n->still_to_ns && l->still_told &&
				  n->still_to_ns + STILL_NS < l->alive_ns)) {
		n->still_from_ns = l->alive_ns;
		n->still_conns = 0;
	}
	n->still_to_ns = 0;
	if (conns > n->still_conns)
		n->still_conns = conns;
	l->still_told = false;
	l->node_dirty = true;
}

/* Fewer than there were shortly before. */
static bool mesh_is_less(struct ledger *l, uint32_t mesh)
{
	if (mesh >= l->mesh_conns || l->now_ns > l->mesh_whole_ns + DIAL_NS) {
		l->mesh_conns = mesh;
		l->mesh_whole_ns = l->now_ns;
	}
	return mesh < l->mesh_conns;
}

void ledger_still_tick(struct ledger *l)
{
	struct look look = { 0 };
	struct conn *c;
	bool held_up, stands;

	EACH_CONN(l, c)
		look_at(l, c, &look);
	held_up = mesh_is_less(l, look.mesh) || look.dialling || l->mesh_blocked;
	stands = look.waiting >= STILL_CONNS && look.fresh * 4 >= look.waiting * 3;
	if (look.read || !look.waiting || held_up) {
		end(l);
		return;
	}
	l->still_ticks++;
	if (stands)
		l->stood_ns = l->now_ns;
	if (stands && l->still_ticks >= STILL_TICKS && l->now_ns >= l->alive_ns + STILL_NS)
		begin(l, look.waiting);
}
