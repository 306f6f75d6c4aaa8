/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What records leave behind: the lives of nodes, their connections, links, marks, pairs, presences.
 * Records carry totals, so the newest of each is all there is to keep; what TCP said of a connection
 * while it stood still is kept at its worst, for a link that has healed shows nothing any more.
 */
#include "correlate/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NIC_DROPS_KEPT	128u	/* connections that a node's host dropped */
#define PRESENCE_KEPT	262144u
#define STEPS_KEPT	256u	/* of one agent */
#define STALL_NS	(1500 * NSEC_PER_MSEC)

#define ROWS_INDEXED	16u	/* more than so many rows of a connection have an index */

struct row *rows_get(struct rows *rows, uint32_t pair, bool make)
{
	uint32_t *at;
	size_t i;

	if (rows->index.size) {
		at = table_find(&rows->index, pair);
		if (at)
			return &rows->v[*at];
	} else {
		for (i = 0; i < rows->count; i++) {
			if (rows->v[i].pair == pair)
				return &rows->v[i];
		}
	}
	if (!make || !VEC_ROOM(rows->v, rows->count, rows->cap))
		return NULL;
	if (rows->index.size && table_put(&rows->index, pair, rows->count) < 0)
		return NULL;
	memset(&rows->v[rows->count], 0, sizeof(*rows->v));
	rows->v[rows->count++].pair = pair;
	if (rows->count == ROWS_INDEXED) {
		for (i = 0; i < rows->count; i++) {
			if (table_put(&rows->index, rows->v[i].pair, i) < 0)
				return NULL;
		}
	}
	return &rows->v[rows->count - 1];
}

void rows_free(struct rows *rows)
{
	free(rows->v);
	table_free(&rows->index);
}

void life_free(struct correlate *c, struct life *life)
{
	if (!life)
		return;
	conns_free(c, life);
	counts_drop(c, life);
	free(life->presence);
	free(life->nic_drops);
	table_free(&life->presence_index);
	free(life);
}

/* NULL with *err 0: over the limit, its records are not taken. */
static struct life *life_get(struct correlate *c, uint32_t agent, uint32_t node, int *err)
{
	uint64_t key = (uint64_t)agent << 32 | node;
	uint32_t *at = table_find(&c->life_index, key);
	struct life *life;

	*err = 0;
	if (at)
		return c->lives[*at];
	if (c->life_count >= c->limits.max_nodes) {
		*err = table_put(&c->left_out, key, 1);
		return NULL;
	}
	*err = -ENOMEM;
	life = calloc(1, sizeof(*life));
	if (!life || !VEC_ROOM(c->lives, c->life_count, c->life_cap) ||
	    table_put(&c->life_index, key, c->life_count) < 0) {
		free(life);
		return NULL;
	}
	life->agent = agent;
	life->node = node;
	life->number = (uint32_t)c->life_count;
	c->lives[c->life_count++] = life;
	*err = 0;
	return life;
}

/* How long nothing of what stands unacknowledged has been acknowledged. */
static uint64_t stalled_for(const struct record_conn_facts *rec, uint64_t now_ns)
{
	uint64_t end = rec->closed_ns ? rec->closed_ns : now_ns;

	if (!rec->unacked_since_ns || !rec->unacked || end < rec->unacked_since_ns)
		return 0;
	return end - rec->unacked_since_ns;
}

static int stall_note(struct conn *conn, uint64_t now_ns)
{
	uint64_t age = stalled_for(&conn->rec, now_ns);
	struct conn_mesh *mesh;
	struct stall *s;

	if (age <= STALL_NS && !conn->mesh->stall.before_end)
		return 0;
	mesh = conn_mesh_get(conn);
	if (!mesh)
		return -ENOMEM;
	s = &mesh->stall;
	s->before_end = age > STALL_NS;
	if (age <= STALL_NS)
		return 0;
	if (!s->first_ns)
		s->first_ns = conn->rec.unacked_since_ns;
	s->last_ns = conn->rec.unacked_since_ns + age;
	if (age < s->longest_ns)
		return 0;
	s->longest_ns = age;
	s->unacked = conn->rec.unacked;
	s->notsent = conn->rec.notsent;
	s->max_segment = conn->rec.max_unacked_segment;
	s->retransmits = conn->rec.retransmits;
	s->passed = mesh->rec.max_acked_forward;
	s->passed_count = mesh->rec.forwards_acked;
	s->stuck = mesh->rec.stuck_forward;
	return 0;
}

/* Of what was forwarded. */
static int forwards_note(struct conn *conn, const struct record_conn *rec, bool first)
{
	static const struct record_conn_forwards none;
	struct record_conn_forwards now = {
		.forwards = rec->forwards, .forward_bytes = rec->forward_bytes,
		.forwards_acked = rec->forwards_acked,
		.max_acked_forward = rec->max_acked_forward,
		.stuck_forward = rec->stuck_forward, .derp_off = rec->derp_off, .gaps = rec->gaps,
	};
	struct conn_mesh *mesh;

	if (!conn_has_mesh(conn) && !memcmp(&now, &none, sizeof(now)))
		return 0;
	mesh = conn_mesh_get(conn);
	if (!mesh)
		return -ENOMEM;
	mesh->gaps_before = first ? now.gaps : mesh->rec.gaps;
	mesh->rec = now;
	return 0;
}

static void wedge_note(struct conn *conn, uint64_t now_ns)
{
	if (!conn->rec.unread || conn->rec.closed_ns) {
		conn->wedged_since_ns = 0;
	} else if (!conn->wedged_since_ns) {
		conn->wedged_since_ns = now_ns;
		conn->wedged_bytes = conn->rec.in_bytes;
	}
}

static void still_note(struct life *life, const struct record_node *rec)
{
	struct still *s = &life->stills[life->still_count];

	if (!rec->still_from_ns)
		return;
	if (life->still_count && (life->still_count == STILLS_KEPT ||
				  life->info.still_from_ns == rec->still_from_ns)) {
		s--;
	} else {
		s->from_ns = rec->still_from_ns;
		life->still_count++;
	}
	s->to_ns = rec->still_to_ns;
	if (rec->still_conns > s->conns)
		s->conns = rec->still_conns;
}

static const struct record_conn_names *keep_names(struct correlate *c, const struct record_conn *rec)
{
	struct record_conn_names names;

	memcpy(names.sni, rec->sni, sizeof(names.sni));
	memcpy(names.host, rec->host, sizeof(names.host));
	memcpy(names.cert_name, rec->cert_name, sizeof(names.cert_name));
	memcpy(names.ideal_node, rec->ideal_node, sizeof(names.ideal_node));
	return shared_keep(&c->names, &names);
}

static int apply_conn(struct correlate *c, struct life *life, const struct record *r)
{
	uint32_t peer = peer_get(c, &r->conn.peer, true);
	const struct record_conn_names *names;
	struct conn *conn;
	bool first;
	int err;

	if (peer == NONE)
		return -ENOMEM;
	if (!r->conn.conn)
		return 0;
	names = keep_names(c, &r->conn);
	if (!names)
		return -ENOMEM;
	err = conns_hand(c, life, r->conn.conn, &first, &conn);
	if (err) {
		shared_drop(&c->names, names);
		return err;
	}
	memcpy(&conn->rec, &r->conn, sizeof(conn->rec));
	shared_drop(&c->names, conn->names);
	conn->names = names;
	conn->peer = peer;
	conn->told_ns = r->time_ns;
	wedge_note(conn, r->time_ns);
	held_note(&life->held, conn, r->time_ns);
	if (forwards_note(conn, &r->conn, first) < 0)
		return -ENOMEM;
	return stall_note(conn, r->time_ns);
}

static int apply_link(struct correlate *c, struct life *life, const struct record_link *link)
{
	uint32_t pair = pair_get(c, &link->src, &link->dst);
	struct conn_mesh *mesh;
	struct conn *conn;
	struct row *row;
	int err = conns_hand(c, life, link->conn, NULL, &conn);

	if (pair == NONE || err)
		return -ENOMEM;
	if (!conn || pair == OTHER_PAIR)
		return 0;
	mesh = conn_mesh_get(conn);
	row = mesh ? rows_get(&mesh->rows, pair, true) : NULL;
	if (!row)
		return -ENOMEM;
	row->frames = link->frames;
	row->bytes = link->bytes;
	return 0;
}

/* Folds the older half of the marks into the base. */
static int marks_fold(struct marks *m)
{
	size_t half = m->count / 2, used = m->v[half].first_delta, i;
	struct row *row;

	for (i = 0; i < used; i++) {
		row = rows_get(&m->base, m->deltas[i].pair, true);
		if (!row)
			return -ENOMEM;
		row->frames = m->deltas[i].frames;
	}
	memmove(m->deltas, m->deltas + used, (m->delta_count - used) * sizeof(*m->deltas));
	m->delta_count -= used;
	memmove(m->v, m->v + half, (m->count - half) * sizeof(*m->v));
	m->count -= half;
	for (i = 0; i < m->count; i++)
		m->v[i].first_delta -= used;
	return 0;
}

static int apply_mark(struct correlate *c, struct life *life, const struct record_mark *rec)
{
	struct conn_mesh *mesh;
	struct conn *conn;
	struct marks *m;
	struct mark *mark;
	uint32_t pair;
	size_t i;
	int err = conns_hand(c, life, rec->conn, NULL, &conn);

	if (err || !conn)
		return err;
	mesh = conn_mesh_get(conn);
	if (!mesh)
		return -ENOMEM;
	m = &mesh->marks;
	if (m->count >= MARKS_KEPT && marks_fold(m) < 0)
		return -ENOMEM;
	if (!VEC_ROOM(m->v, m->count, m->cap))
		return -ENOMEM;
	pair = pair_get(c, &rec->src, &rec->dst);
	if (pair == NONE)
		return -ENOMEM;
	mark = &m->v[m->count];
	*mark = (struct mark){ .digest = rec->digest, .no = rec->no, .seen_ns = rec->seen_ns,
			       .len = rec->len, .pair = pair, .first_delta = m->delta_count,
			       .gaps_before = mesh->gaps_before };
	for (i = 0; i < rec->pair_count; i++) {
		pair = pair_get(c, &rec->pairs[i].src, &rec->pairs[i].dst);
		if (pair == NONE || !VEC_ROOM(m->deltas, m->delta_count, m->delta_cap))
			return -ENOMEM;
		if (pair == OTHER_PAIR)
			continue;
		m->deltas[m->delta_count++] = (struct mark_delta){ pair, rec->pairs[i].frames };
	}
	mark->delta_count = m->delta_count - mark->first_delta;
	m->count++;
	return 0;
}

static int apply_presence(struct correlate *c, struct life *life, const struct record *r)
{
	const struct record_presence *rec = &r->presence;
	uint32_t peer = peer_get(c, &rec->peer, true), conn_at, *at;
	uint64_t key, said_ns = rec->said_ns ? rec->said_ns : r->time_ns;
	struct presence *p;

	if (peer == NONE)
		return -ENOMEM;
	conn_at = conns_place(c, life, rec->conn);
	if (!conn_at || !peer)
		return 0;
	key = (uint64_t)conn_at << 32 | peer;
	at = table_find(&life->presence_index, key);
	if (!at) {
		if (life->presence_count >= PRESENCE_KEPT)
			return 0;
		if (!VEC_ROOM(life->presence, life->presence_count, life->presence_cap) ||
		    table_put(&life->presence_index, key, life->presence_count) < 0)
			return -ENOMEM;
		p = &life->presence[life->presence_count++];
		*p = (struct presence){ .conn = rec->conn, .peer = peer, .from_ns = said_ns };
	} else {
		p = &life->presence[*at];
		if (rec->present && p->gone_ns)
			p->from_ns = said_ns;
	}
	p->gone_ns = rec->present ? 0 : said_ns;
	if (rec->addr.family)
		p->addr = rec->addr;
	return 0;
}

static int apply_step(struct agent *a, const struct record_step *step)
{
	if (a->step_count == STEPS_KEPT)
		memmove(a->steps, a->steps + 1, --a->step_count * sizeof(*a->steps));
	if (!VEC_ROOM(a->steps, a->step_count, a->step_cap))
		return -ENOMEM;
	a->steps[a->step_count++] = *step;
	return 0;
}

static int apply_nic_drop(struct life *life, const struct record_nic_drop *rec)
{
	struct record_nic_drop *d, *oldest = life->nic_drops;
	size_t i;

	for (i = 0; i < life->nic_drop_count; i++) {
		d = &life->nic_drops[i];
		if (addr_equal(&d->remote, &rec->remote) && addr_equal(&d->local, &rec->local)) {
			*d = *rec;
			return 0;
		}
		if (d->last_ns < oldest->last_ns)
			oldest = d;
	}
	if (life->nic_drop_count >= NIC_DROPS_KEPT) {
		*oldest = *rec;
		return 0;
	}
	if (!VEC_ROOM(life->nic_drops, life->nic_drop_count, life->nic_drop_cap))
		return -ENOMEM;
	life->nic_drops[life->nic_drop_count++] = *rec;
	return 0;
}

int state_apply(struct correlate *c, uint32_t agent, const struct record *r)
{
	struct life *life;
	int err;

	if (r->type == RECORD_STEP)
		return apply_step(&c->agents[agent], &r->step);
	life = life_get(c, agent, r->node, &err);
	if (!life)
		return err;
	life->told_ns = r->time_ns;
	switch (r->type) {
	case RECORD_NODE:
		still_note(life, &r->node_info);
		life->info = r->node_info;
		return 0;
	case RECORD_NIC:
		life->nic = r->nic;
		life->has_nic = true;
		return 0;
	case RECORD_NIC_DROP:
		return apply_nic_drop(life, &r->nic_drop);
	case RECORD_CONN:
		return apply_conn(c, life, r);
	case RECORD_LINK:
		return apply_link(c, life, &r->link);
	case RECORD_MARK:
		return apply_mark(c, life, &r->mark);
	case RECORD_PEERS:
		return counts_peers(c, life, &r->peers);
	case RECORD_PAIRS:
		return counts_pairs(c, life, &r->pairs);
	case RECORD_LOSS:
		return losses_add(c, life->number, r);
	case RECORD_PRESENCE:
		return apply_presence(c, life, r);
	default:
		return 0;
	}
}

int state_apply_counts(struct correlate *c, uint32_t agent, const struct record *r,
		       const uint8_t *bytes, size_t len)
{
	struct life *life;
	int err;

	life = life_get(c, agent, r->node, &err);
	if (!life)
		return err;
	life->told_ns = r->time_ns;
	return counts_apply(c, life, bytes, len);
}

/* The connections have moved; presences of those that are gone say nothing any more. */
static int presence_trim(struct correlate *c, struct life *life)
{
	uint32_t conn_at;
	size_t i, n;

	table_free(&life->presence_index);
	for (i = n = 0; i < life->presence_count; i++) {
		conn_at = conns_place(c, life, life->presence[i].conn);
		if (!conn_at)
			continue;
		life->presence[n] = life->presence[i];
		if (table_put(&life->presence_index,
			      (uint64_t)conn_at << 32 | life->presence[n].peer, n) < 0)
			return -ENOMEM;
		n++;
	}
	life->presence_count = n;
	return 0;
}

int state_closed(struct correlate *c, uint32_t agent)
{
	bool moved;
	size_t i;

	for (i = 0; i < c->life_count; i++) {
		if (c->lives[i]->agent != agent)
			continue;
		held_judge(&c->lives[i]->held);
		if (conns_trim(c, c->lives[i], &moved) < 0 ||
		    (moved && presence_trim(c, c->lives[i]) < 0))
			return -ENOMEM;
	}
	losses_trim(c);
	return 0;
}
