/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Edges: every connection that one node opened, or tried to open, to another one as a mesh peer, and
 * how far it came. A relay dials other things too (its admission URL, its certificate's issuer), so a
 * dial that failed early counts only where something says that it was meant for a node.
 */
#include "correlate/analysis.h"
#include "capture/capture.h"
#include "derpmap/derpmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOCALS_KEPT	64u	/* addresses of one node */
#define SETTLE_NS	(2 * NSEC_PER_SEC)	/* an open mesh connection is believed after so long */
#define SYN_WAIT_NS	(3 * NSEC_PER_SEC)
#define HANDSHAKE_NS	(10 * NSEC_PER_SEC)

struct local {
	struct addr addr;
	uint32_t node;
};

struct finder {
	struct local *locals;
	size_t count, cap;
	struct conn **puzzles;	/* dials that failed, nobody knows to whom */
	size_t puzzle_count, puzzle_cap;
};

static bool spoke_mesh(const struct conn *conn)
{
	const struct record_conn_facts *rec = &conn->rec;

	return (rec->steps & (STEP_WATCH_CONNS | STEP_PEER_PRESENT)) || conn->mesh->rec.forwards ||
	       ((rec->kind == CONN_MESH_OUT || rec->kind == CONN_MESH_IN) && !rec->from_start);
}

/* No DERP, and no attempt at it. */
static bool is_foreign(const struct conn *conn)
{
	return conn->rec.kind == CONN_OTHER && !conn->rec.http_status;
}

static int locals_add(struct finder *f, uint32_t node, size_t first, const struct addr *addr)
{
	size_t i;

	for (i = first; i < f->count; i++) {
		if (addr_equal(&f->locals[i].addr, addr))
			return 0;
	}
	if (!addr->family || f->count - first >= LOCALS_KEPT)
		return 0;
	if (!VEC_ROOM(f->locals, f->count, f->cap))
		return -ENOMEM;
	f->locals[f->count++] = (struct local){ *addr, node };
	return 0;
}

/* Where each traced node has been reached. */
static int locals_fill(const struct analysis *a, struct finder *f)
{
	size_t i, j, first;

	for (i = 0; i < a->traced_count; i++) {
		const struct life *life = a->nodes[i].life;

		first = f->count;
		for (j = 0; j < life->info.serves_count && j < 4; j++) {
			if (locals_add(f, i, first, &life->info.serves[j]) < 0)
				return -ENOMEM;
		}
		for (j = 0; j < life->conn_count; j++) {
			if (!life->conns[j]->rec.dialled &&
			    locals_add(f, i, first, &life->conns[j]->rec.local) < 0)
				return -ENOMEM;
		}
	}
	return 0;
}

/*
 * A connection that came about after that process had ended was to another one. The end is noticed
 * late, and the next process may be quick; but no connection outlives its process.
 */
static bool was_gone(const struct analysis *a, uint32_t node, const struct conn *conn)
{
	const struct node *n = &a->nodes[node];
	uint64_t ended_ns = n->life->info.ended_ns;
	/* Two hosts' clocks have not been compared yet. */
	uint64_t slack_ns = a->c->lives[conn->life]->agent == n->agent ? 0 : SETTLE_NS;
	uint64_t alive_ns = conn->rec.closed_ns ? conn->rec.closed_ns : conn->told_ns;

	if (!ended_ns || !(conn->rec.steps & STEP_ESTABLISHED))
		return false;
	return conn->rec.opened_ns > ended_ns + slack_ns ||
	       (conn->rec.opened_ns + NOTICE_NS > ended_ns &&
		alive_ns > ended_ns + NSEC_PER_SEC + slack_ns);
}

/* Of two lives of one relay, the one that was there at @at_ns; earlier ones else. */
static bool fits_better(const struct analysis *a, uint32_t node, uint32_t than, uint64_t at_ns)
{
	const struct record_node *x = &a->nodes[node].life->info, *y;

	if (than == NONE)
		return true;
	y = &a->nodes[than].life->info;
	if ((x->since_ns <= at_ns) != (y->since_ns <= at_ns))
		return x->since_ns <= at_ns;
	return x->since_ns <= at_ns ? x->since_ns > y->since_ns : x->since_ns < y->since_ns;
}

static uint32_t node_by_key(const struct analysis *a, const struct key *key, uint32_t but,
			    const struct conn *conn)
{
	uint32_t found = NONE, i;

	if (key_is_zero(key))
		return NONE;
	for (i = 0; i < a->traced_count; i++) {
		if (i != but && key_equal(&a->nodes[i].key, key) && !was_gone(a, i, conn) &&
		    fits_better(a, i, found, conn->rec.opened_ns))
			found = i;
	}
	return found;
}

/* @port false: the port does not matter, but then only one relay may live there. */
static uint32_t node_by_addr(const struct analysis *a, const struct finder *f,
			     const struct conn *dial, uint32_t self, bool port)
{
	const struct addr *addr = &dial->rec.remote;
	uint32_t found = NONE;
	size_t i;

	for (i = 0; i < f->count; i++) {
		uint32_t node = f->locals[i].node;

		if (node == self || (port ? !addr_equal(&f->locals[i].addr, addr) :
					    !addr_equal_ip(&f->locals[i].addr, addr)))
			continue;
		if (addr_is_loopback(addr) && a->nodes[node].agent != a->nodes[self].agent)
			continue;
		if (was_gone(a, node, dial))
			continue;
		if (!port && found != NONE && a->nodes[found].identity != a->nodes[node].identity)
			return NONE;
		if (fits_better(a, node, found, dial->rec.opened_ns))
			found = node;
	}
	return found;
}

static uint32_t node_by_name(const struct analysis *a, const struct conn *dial, uint32_t self)
{
	const char *name = dial->names->sni[0] ? dial->names->sni : dial->names->host;
	uint32_t found = NONE, i;

	for (i = 0; *name && i < a->traced_count; i++) {
		const struct node *n = &a->nodes[i];

		if (i == self || was_gone(a, i, dial) ||
		    (strcasecmp(n->life->info.tls_name, name) &&
		     (!n->map || strcasecmp(n->map->hostname, name))))
			continue;
		if (found != NONE && a->nodes[found].identity != n->identity)
			return NONE;	/* one name, several backends: it tells nothing */
		if (fits_better(a, i, found, dial->rec.opened_ns))
			found = i;
	}
	return found;
}

static bool own_address(const struct finder *f, uint32_t self, const struct addr *addr)
{
	size_t i;

	for (i = 0; i < f->count; i++) {
		if (f->locals[i].node == self && addr_equal_ip(&f->locals[i].addr, addr))
			return true;
	}
	return addr_is_loopback(addr);
}

/*
 * The traced node that a dial was meant for; @self where it came back to where it began; NONE.
 * A node that meets its own key takes it for itself, so a far end of the same key is another node
 * only where its end of the connection, or its address, says so.
 */
static uint32_t target(const struct analysis *a, const struct finder *f, const struct conn *dial,
		       uint32_t self)
{
	const struct conn *accept = match_accepted(a, dial);
	const struct key *own = &a->nodes[self].key;
	uint32_t node;

	if (accept)
		return a->node_of_life[accept->life];
	node = node_by_addr(a, f, dial, self, true);
	if (!key_is_zero(&a->c->peers[dial->peer])) {
		if (!key_equal(&a->c->peers[dial->peer], own))
			return node_by_key(a, &a->c->peers[dial->peer], self, dial);
		if (node == NONE)
			node = own_address(f, self, &dial->rec.remote) ? self :
			       node_by_key(a, own, self, dial);
		return node == NONE ? self : node;
	}
	if (node == NONE)
		node = node_by_name(a, dial, self);
	if (node == NONE && !(dial->rec.steps & STEP_ESTABLISHED) &&
	    !addr_is_loopback(&dial->rec.remote))
		node = node_by_addr(a, f, dial, self, false);
	if (node == NONE && spoke_mesh(dial) && own_address(f, self, &dial->rec.remote))
		node = self;
	return node;
}

/* A dial that reached its own node, as a mesh peer and not as a health check does. */
static bool is_self_dial(const struct analysis *a, const struct conn *dial, uint32_t self)
{
	const struct conn *accept = match_accepted(a, dial);
	const struct key *own = &a->nodes[self].key;

	if (spoke_mesh(dial))
		return true;
	if (dial->rec.kind != CONN_MESH_OUT || key_is_zero(own) || !key_equal(&a->c->peers[dial->peer], own))
		return false;
	return !accept || key_is_zero(&a->c->peers[accept->peer]) || key_equal(&a->c->peers[accept->peer], own);
}

static int edge_add(struct analysis *a, uint32_t from, uint32_t to, const struct conn *out,
		    const struct conn *in)
{
	struct edge *e;

	if (!VEC_ROOM(a->edges, a->edge_count, a->edge_cap))
		return -ENOMEM;
	e = &a->edges[a->edge_count++];
	memset(e, 0, sizeof(*e));
	e->from = from;
	e->to = to;
	e->out = out;
	e->in = in;
	return 0;
}

static int puzzle_add(struct finder *f, struct conn *dial)
{
	if ((dial->rec.steps & STEP_TLS_DONE) || is_foreign(dial))
		return 0;
	if (!VEC_ROOM(f->puzzles, f->puzzle_count, f->puzzle_cap))
		return -ENOMEM;
	f->puzzles[f->puzzle_count++] = dial;
	return 0;
}

static int dial_edge(struct analysis *a, struct finder *f, uint32_t self, struct conn *dial)
{
	const struct conn *accept = match_accepted(a, dial);
	uint32_t to;

	if (is_foreign(dial) && !(accept && spoke_mesh(accept)))
		return 0;
	to = target(a, f, dial, self);
	if (to != NONE && a->nodes[to].identity == a->nodes[self].identity)
		to = self;
	if (to == self)
		return is_self_dial(a, dial, self) ? edge_add(a, self, self, dial, accept) : 0;
	if (to == NONE && (spoke_mesh(dial) || dial->rec.kind == CONN_MESH_OUT)) {
		to = region_untraced(a, &a->c->peers[dial->peer], &dial->rec.remote,
				     dial->names->sni[0] ? dial->names->sni : dial->names->host);
		if (to == NONE)
			return -ENOMEM;
	}
	return to == NONE ? puzzle_add(f, dial) : edge_add(a, self, to, dial, accept);
}

/* A mesh peer's connection whose dialling end nobody told of. */
static int accept_edge(struct analysis *a, uint32_t self, const struct conn *accept)
{
	struct addr addr = accept->rec.remote;
	uint32_t from;

	if (accept->rec.kind != CONN_MESH_IN && !(accept->rec.steps & STEP_WATCH_CONNS))
		return 0;
	from = node_by_key(a, &a->c->peers[accept->peer], self, accept);
	if (from == NONE) {
		addr.port = 0;
		from = region_untraced(a, &a->c->peers[accept->peer], &addr, NULL);
		if (from == NONE)
			return -ENOMEM;
	}
	return edge_add(a, from, self, NULL, accept);
}

/* Dials that failed: to a node that is known by now, or one of the map. */
static uint32_t puzzle_target(struct analysis *a, const struct conn *dial, uint32_t self)
{
	const struct addr *addr = &dial->rec.remote;
	const struct derpmap_node *map = NULL;
	uint32_t i, found = NONE;
	char ip[ADDR_TEXT_LEN];

	for (i = a->traced_count; i < a->node_count; i++) {
		if (addr_equal(&a->nodes[i].addr, addr))
			return i;
	}
	if (!a->has_map)
		return NONE;
	addr_format_ip(addr, ip);
	map = derpmap_find_node_by_address(a->c->map, ip, addr->port);
	if (!map && dial->names->sni[0])
		map = derpmap_find_node_by_host(a->c->map, dial->names->sni);
	if (!map || map->region->id != a->nodes[self].region || map == a->nodes[self].map)
		return NONE;
	/* One that is traced may have been reached at its other address only. */
	for (i = 0; i < a->traced_count; i++)
		if (a->nodes[i].map == map && !was_gone(a, i, dial) && fits_better(a, i, found, dial->rec.opened_ns))
			found = i;
	return found != NONE ? found : region_untraced(a, &(struct key){ 0 }, addr, dial->names->sni);
}

static bool has_edge(const struct analysis *a, uint32_t from, uint32_t to)
{
	size_t i;

	for (i = 0; i < a->edge_count; i++) {
		if (a->edges[i].from == from && a->edges[i].to == to)
			return true;
	}
	return false;
}

/* The one node of its region that @self has never dialled; NONE where there are others. */
static uint32_t only_missing(const struct analysis *a, uint32_t self)
{
	uint32_t found = NONE, i;

	for (i = 0; i < a->node_count; i++) {
		if (i == self || !region_same(a, self, i) || has_edge(a, self, i))
			continue;
		if (found != NONE && a->nodes[found].identity != a->nodes[i].identity)
			return NONE;
		found = i;
	}
	return found;
}

/*
 * A dial that fails again and again, where exactly one node of the region was never dialled: it is
 * that one. Once is not enough, and neither is one of several.
 */
static int puzzles_solve(struct analysis *a, struct finder *f)
{
	size_t i, j, again;
	uint32_t self, to;

	for (i = 0; i < f->puzzle_count; i++) {
		struct conn *dial = f->puzzles[i];

		self = a->node_of_life[dial->life];
		to = puzzle_target(a, dial, self);
		if (to != NONE) {
			if (edge_add(a, self, to, dial, NULL) < 0)
				return -ENOMEM;
			f->puzzles[i] = NULL;
		}
	}
	for (i = 0; i < f->puzzle_count; i++) {
		const struct conn *dial = f->puzzles[i];

		if (!dial)
			continue;
		for (j = again = 0; j < f->puzzle_count; j++)
			again += f->puzzles[j] && f->puzzles[j]->life == dial->life &&
				 addr_equal(&f->puzzles[j]->rec.remote, &dial->rec.remote);
		to = again < 2 ? NONE : only_missing(a, a->node_of_life[dial->life]);
		for (j = i; j < f->puzzle_count; j++) {
			struct conn *same = f->puzzles[j];

			if (!same || same->life != dial->life ||
			    !addr_equal(&same->rec.remote, &dial->rec.remote))
				continue;
			if (to != NONE && edge_add(a, a->node_of_life[same->life], to, same, NULL) < 0)
				return -ENOMEM;
			if (same != dial)
				f->puzzles[j] = NULL;
		}
	}
	return 0;
}

static uint32_t steps_of(const struct edge *e)
{
	return (e->out ? e->out->rec.steps : 0) | (e->in ? e->in->rec.steps : 0);
}

/* Open before anybody looked, and idle since: a node's key is on nothing but what it dials for its mesh. */
static bool has_nodes_key(const struct analysis *a, const struct edge *e)
{
	const struct key *from = &a->nodes[e->from].key;

	return e->in && !e->in->rec.from_start && e->closed_ns == FOREVER && !key_is_zero(from) &&
	       key_equal(&a->c->peers[e->in->peer], from);
}

static enum reached reached_of(const struct analysis *a, const struct edge *e)
{
	const struct conn *conn = e->out ? e->out : e->in;
	uint32_t steps = steps_of(e);
	uint64_t age_ns = (e->closed_ns == FOREVER ? a->end_ns : e->closed_ns) - e->opened_ns;

	if ((steps & STEP_PEER_PRESENT) || conn->mesh->rec.forwards || (e->in && e->in->mesh->rec.forwards) ||
	    (!conn->rec.from_start && spoke_mesh(conn)) ||
	    (e->in && !e->in->rec.from_start && spoke_mesh(e->in)))
		return REACHED_MESH;
	if ((((steps & STEP_WATCH_CONNS) && e->closed_ns == FOREVER) || has_nodes_key(a, e)) &&
	    (int64_t)age_ns > (int64_t)SETTLE_NS)
		return REACHED_MESH;
	if (steps & (STEP_SERVER_INFO | STEP_WATCH_CONNS))
		return REACHED_INFO;
	if (steps & (STEP_UPGRADED | STEP_SERVER_KEY | STEP_CLIENT_INFO))
		return REACHED_UPGRADE;
	if (steps & (STEP_TLS_DONE | STEP_HTTP_REQUEST))
		return REACHED_TLS;
	if (steps & (STEP_ESTABLISHED | STEP_CLIENT_HELLO))
		return REACHED_TCP;
	return REACHED_NOTHING;
}

static bool alerted(const struct conn *conn)
{
	return conn && (conn->rec.tls_alert || conn->rec.tls_alert_hidden);
}

static enum link_reason tcp_reason(const struct edge *e, uint64_t age_ns)
{
	const struct conn *out = e->out;

	if (!out)
		return LINK_CLOSED;
	if (out->rec.closed_ns)
		return out->rec.how == CAPTURE_CLOSED_REFUSED ? LINK_REFUSED :
		       out->rec.how == CAPTURE_CLOSED_RST_IN ? LINK_REFUSED : LINK_NO_ANSWER;
	return age_ns > SYN_WAIT_NS ? LINK_NO_ANSWER : LINK_REASON_NONE;
}

/* Where it stopped. NONE: it has not (yet). */
static enum link_reason reason_of(const struct analysis *a, const struct edge *e)
{
	const struct conn *conn = e->out ? e->out : e->in;
	uint32_t steps = steps_of(e);
	bool closed = e->closed_ns != FOREVER, alert = alerted(e->out) || alerted(e->in);
	uint64_t age_ns = closed || a->end_ns < e->opened_ns ? 0 : a->end_ns - e->opened_ns;

	if (e->from == e->to)
		return LINK_SELF;
	if (!key_is_zero(&a->nodes[e->from].key) &&
	    key_equal(&a->nodes[e->from].key, &a->nodes[e->to].key))
		return LINK_SAME_KEY;
	if (e->reached == REACHED_NOTHING) {
		enum link_reason reason = tcp_reason(e, age_ns);

		return reason == LINK_NO_ANSWER && nic_dropped_edge(a, e) ? LINK_HOST_DROP : reason;
	}
	if (!closed && (e->reached == REACHED_MESH || age_ns < HANDSHAKE_NS))
		return LINK_REASON_NONE;
	/* Open before the trace began, and idle since: how far it had come was not seen. */
	if (!conn->rec.from_start && e->reached < REACHED_UPGRADE && !alert)
		return closed ? LINK_CLOSED : LINK_REASON_NONE;
	if (e->reached < REACHED_UPGRADE && conn->rec.tls &&
	    (e->reached == REACHED_TCP || (alert && !(steps & STEP_HTTP_REQUEST))))
		return LINK_TLS;
	if (e->reached < REACHED_UPGRADE)
		return conn->rec.http_status || (steps & STEP_HTTP_REQUEST) ? LINK_UPGRADE : LINK_CLOSED;
	if (e->reached == REACHED_UPGRADE)
		return LINK_NOT_ADMITTED;
	return e->reached == REACHED_INFO && (steps & STEP_WATCH_CONNS) ? LINK_MESH_KEY : LINK_CLOSED;
}

static uint64_t end_time(const struct analysis *a, const struct conn *conn)
{
	const struct life *life;
	uint64_t closed_ns;

	if (!conn)
		return FOREVER;
	life = a->c->lives[conn->life];
	closed_ns = conn->rec.closed_ns ? conn->rec.closed_ns : life->info.ended_ns;
	return closed_ns ? ref_time(a, life->agent, closed_ns) : FOREVER;
}

void edge_times(struct analysis *a)
{
	size_t i;

	for (i = 0; i < a->edge_count; i++) {
		struct edge *e = &a->edges[i];
		const struct conn *conn = e->out ? e->out : e->in;
		uint64_t out = end_time(a, e->out), in = end_time(a, e->in);

		e->opened_ns = ref_time(a, a->c->lives[conn->life]->agent, conn->rec.opened_ns);
		e->there_ns = conn->rec.from_start ? e->opened_ns : 0;
		e->closed_ns = out < in ? out : in;
		e->ended = (!e->out || out != FOREVER) && (!e->in || in != FOREVER);
		e->reached = reached_of(a, e);
		e->reason = reason_of(a, e);
	}
	/* A relay that took another's place, and that nobody traces, is there since it was dialled. */
	for (i = 0; i < a->edge_count; i++) {
		const struct edge *e = &a->edges[i];
		uint32_t ends[] = { e->from, e->to }, k;

		for (k = 0; k < 2; k++) {
			struct node *n = &a->nodes[ends[k]];

			if (!n->life && n->identity != ends[k] &&
			    (!n->from_ns || e->opened_ns < n->from_ns))
				n->from_ns = e->opened_ns;
		}
	}
}

/* A node that is not on the map stands where its mesh peers stand. */
static void regions_adopt(struct analysis *a)
{
	size_t i, round;
	bool again = a->has_map;

	for (round = 0; again && round < a->node_count; round++) {
		again = false;
		for (i = 0; i < a->edge_count; i++) {
			const struct edge *e = &a->edges[i];
			struct node *x = &a->nodes[e->from], *y = &a->nodes[e->to];

			if ((x->region < 0) == (y->region < 0) ||
			    !spoke_mesh(e->out ? e->out : e->in))
				continue;
			if (x->region < 0)
				x->region = y->region;
			else
				y->region = x->region;
			again = true;
		}
	}
}

const struct edge *edge_of(const struct analysis *a, const struct conn *conn)
{
	uint32_t *at = conn ? table_find(&a->edge_of_conn, (uintptr_t)conn) : NULL;

	return at ? &a->edges[*at] : NULL;
}

static int edges_index(struct analysis *a)
{
	size_t i;

	for (i = 0; i < a->edge_count; i++) {
		const struct edge *e = &a->edges[i];
		uint64_t ends = (uint64_t)a->nodes[e->from].identity << 32 |
				a->nodes[e->to].identity;

		if ((e->out && table_put(&a->edge_of_conn, (uintptr_t)e->out, i) < 0) ||
		    (e->in && table_put(&a->edge_of_conn, (uintptr_t)e->in, i) < 0) ||
		    table_put(&a->dialled, ends, 1) < 0)
			return -ENOMEM;
	}
	return 0;
}

int edge_make(struct analysis *a)
{
	struct finder f = { 0 };
	int err = locals_fill(a, &f);
	size_t i, j;

	for (i = 0; !err && i < a->traced_count; i++) {
		const struct life *life = a->nodes[i].life;

		for (j = 0; !err && j < life->conn_count; j++) {
			if (life->conns[j]->rec.dialled)
				err = dial_edge(a, &f, i, life->conns[j]);
			else if (!match_dialled(a, life->conns[j]))
				err = accept_edge(a, i, life->conns[j]);
		}
	}
	if (!err)
		err = puzzles_solve(a, &f);
	if (!err)
		err = edges_index(a);
	if (!err)
		regions_adopt(a);
	free(f.locals);
	free(f.puzzles);
	return err;
}
