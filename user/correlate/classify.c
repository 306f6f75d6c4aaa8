/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every lost frame is charged to one class. A node says what it dropped and why in its own terms;
 * where the destination was at that moment, and what stood between, is what makes it a finding.
 */
#include "correlate/analysis.h"
#include "capture/capture.h"

#include <errno.h>
#include <stdlib.h>

#define JUST_NOW_NS	NSEC_PER_SEC		/* a destination that was there so long ago still counts */
#define END_TOLD_NS	(300 * NSEC_PER_MSEC)	/* so late is the end of a connection told */
#define RECONNECT_NS	(2 * NSEC_PER_SEC)
#define DEATH_NS	(3 * NSEC_PER_SEC)
#define RECOVER_NS	(30 * NSEC_PER_SEC)	/* so long may the clients of a dead node take to come back */

/* A loss and all that is needed to judge it. */
struct loss_case {
	const struct loss *loss;
	uint32_t node, src, dst;
	uint64_t first_ns, last_ns;	/* when it was lost; the charge has when it entered */
	const struct edge *in, *out;	/* mesh edges where it entered, and should have left */
	struct charge charge;
};

static void set_link(struct loss_case *k, enum verdict_class class, uint32_t from, uint32_t to,
		     uint8_t reason)
{
	/* Whatever became of the link by it: what did it is known. */
	if (reason == LINK_HOST_DROP)
		class = VERDICT_HOST_DROP;
	k->charge.class = class;
	k->charge.from = from;
	k->charge.to = to;
	k->charge.reason = reason;
}

/* Connections of @node at that time that nobody could read: anyone may be on them. */
static bool blind_at(const struct analysis *a, uint32_t node, uint64_t at_ns)
{
	const struct node *n = &a->nodes[node];
	size_t i;

	for (i = 0; i < n->life->conn_count; i++) {
		const struct conn *conn = n->life->conns[i];
		uint64_t closed_ns = ref_time(a, n->agent, conn->rec.closed_ns);

		if (conn->rec.kind == CONN_UNKNOWN && !conn->rec.dialled && !conn->rec.readable &&
		    (conn->rec.secret_missing || conn->rec.unsynchronised) &&
		    ref_time(a, n->agent, conn->rec.opened_ns) <= at_ns &&
		    (!closed_ns || closed_ns >= at_ns))
			return true;
	}
	return false;
}

/* Is it certain that the destination was nowhere in the region? */
static bool nowhere_proven(const struct analysis *a, const struct loss_case *k)
{
	bool any = a->has_map && a->nodes[k->node].region >= 0;
	uint32_t i;

	for (i = 0; i < a->node_count; i++) {
		const struct node *n = &a->nodes[i];

		if (i == k->node || !region_same(a, k->node, i))
			continue;
		any = true;
		if (n->life && (n->ended || n->to_ns + JUST_NOW_NS >= k->last_ns) &&
		    n->from_ns <= k->first_ns + JUST_NOW_NS &&
		    !blind_at(a, i, k->last_ns))
			continue;
		/* It tells its clients on the link; without one, they may be there. */
		if (n->life || !link_was_up(a, link_find(a, k->node, i), k->last_ns))
			return false;
	}
	return any;
}

static bool at_death(const struct analysis *a, uint32_t node, uint64_t at_ns)
{
	const struct node *n = &a->nodes[node];

	return n->life && n->ended && at_ns + DEATH_NS >= n->to_ns;
}

/* The node that took the destination's last connection with it when it ended, shortly before; NONE. */
static uint32_t died_with(const struct analysis *a, const struct loss_case *k)
{
	const struct stay *last = NULL;
	size_t count, i;
	const struct stay *s = presence_stays(a, k->dst, &count);
	uint64_t end_ns;

	for (i = 0; k->dst && i < count; i++) {
		if (s[i].there_ns <= k->last_ns && (!last || s[i].opened_ns > last->opened_ns))
			last = &s[i];
	}
	if (!last || !a->nodes[last->node].ended)
		return NONE;
	end_ns = a->nodes[last->node].to_ns;
	return last->closed_ns + JUST_NOW_NS >= end_ns && k->last_ns + JUST_NOW_NS >= end_ns &&
	       k->last_ns < end_ns + RECOVER_NS ? last->node : NONE;
}

/* No connection here could take it: the destination is elsewhere, or nowhere. */
static void judge_route(const struct analysis *a, struct loss_case *k)
{
	uint64_t since = k->first_ns > JUST_NOW_NS ? k->first_ns - JUST_NOW_NS : 0;
	uint32_t there = presence_elsewhere(a, k->dst, k->node, since, k->last_ns);
	uint32_t dead = died_with(a, k);
	const struct link *link;
	bool up;

	if (dead != NONE) {
		k->charge.class = VERDICT_NODE_RESTARTED;
		k->charge.node = dead;
		return;
	}
	if (there == NONE) {
		k->charge.class = VERDICT_PEER_ABSENT;
		if (!k->dst || !nowhere_proven(a, k))
			k->charge.basis = BASIS_UNKNOWN;
		return;
	}
	/* What is known of that node ended before: the peer may have left it. */
	if (a->nodes[there].life && a->nodes[there].to_ns + JUST_NOW_NS < k->last_ns)
		k->charge.basis = BASIS_UNKNOWN;
	link = link_find(a, k->node, there);
	/* Up in all that time (losses are told together): the node knew who had left, it was nobody. */
	up = link_was_up(a, link, k->first_ns) && link_was_up(a, link, k->last_ns);
	if (up && (presence_told_gone(a, k->dst, there, k->last_ns) ||
		   !presence_was_on(a, k->dst, there, k->first_ns) ||
		   !presence_was_on(a, k->dst, there, k->last_ns + END_TOLD_NS)))
		k->charge.class = VERDICT_PEER_ABSENT;
	else if (up && !link_just_back(a, link, k->first_ns, k->last_ns))
		set_link(k, presence_untold(a, k->dst, k->node, there, k->charge.first_ns,
					    k->charge.last_ns) ?
			 VERDICT_PEER_ABSENT : VERDICT_STALE_ROUTE, k->node, there, k->charge.reason);
	else if (link_ever_dialled(a, k->node, there))
		set_link(k, VERDICT_LINK_DOWN, k->node, there, link_reason_at(a, link, k->last_ns));
	else if (link && link->reason != LINK_NO_DIAL && link->reason)
		set_link(k, VERDICT_LINK_DOWN, k->node, there, link->reason);
	else if (link_was_up(a, link_find(a, there, k->node), k->last_ns))
		set_link(k, VERDICT_LINK_ONE_WAY, k->node, there, LINK_NO_DIAL);
	else
		set_link(k, VERDICT_NO_MESH_ROUTE, k->node, there, LINK_NO_DIAL);
}

/* A forward that reached a node without the destination. */
static void judge_forward(const struct analysis *a, struct loss_case *k)
{
	uint32_t there = presence_elsewhere(a, k->dst, k->node, k->first_ns,
					    k->last_ns + RECONNECT_NS);

	if (k->in) {
		k->charge.from = k->in->from;
		k->charge.to = k->in->to;
	}
	k->charge.class = there != NONE ? VERDICT_STALE_ROUTE : VERDICT_PEER_ABSENT;
	if (there == NONE && !nowhere_proven(a, k))
		k->charge.basis = BASIS_UNKNOWN;
}

static void judge_edge(const struct analysis *a, struct loss_case *k, const struct edge *e)
{
	uint64_t end_ns = e->closed_ns == FOREVER ? k->last_ns : e->closed_ns;

	if (at_death(a, e->to, end_ns) || at_death(a, e->from, end_ns)) {
		k->charge.class = VERDICT_NODE_RESTARTED;
		k->charge.node = at_death(a, e->to, end_ns) ? e->to : e->from;
	} else if (link_stall(e)) {
		/* Which of its frames had been sent is inferred; that it stood still was seen. */
		k->charge.basis = BASIS_WIRE;
		set_link(k, VERDICT_LINK_STALLED, e->from, e->to, link_stall_reason(a, e));
	} else {
		set_link(k, VERDICT_LINK_DOWN, e->from, e->to, LINK_CLOSED);
	}
}

/* Is the destination on another socket than the one that this went to? */
static bool lives_on(const struct analysis *a, const struct loss_case *k, uint64_t from_ns,
		     uint64_t to_ns)
{
	size_t count, i, here = 0;
	const struct stay *s = presence_stays(a, k->dst, &count);

	if (presence_elsewhere(a, k->dst, k->node, from_ns, to_ns) != NONE)
		return true;
	for (i = 0; k->dst && i < count; i++) {
		if (s[i].node != k->node || s[i].opened_ns > to_ns || s[i].closed_ns < from_ns)
			continue;
		if (k->loss && k->loss->out_conn == s[i].conn->rec.conn)
			continue;
		here++;
	}
	/* Of those there, one is the dead one where it is not known which it was. */
	return here > (k->loss && k->loss->out_conn ? 0 : 1);
}

/*
 * However the relay got rid of it: what shows that the socket was left is that the destination was
 * seen on another one.
 */
static void set_stale_socket(struct loss_case *k)
{
	k->charge.class = VERDICT_STALE_ROUTE;
	k->charge.basis = BASIS_WIRE;
	k->charge.reason = LINK_REASON_NONE;
	k->charge.hop = HOP_CLIENT_OUT;
}

/* Its exit ended with it inside: handed to that connection, though it never went out. */
static void judge_exit(const struct analysis *a, struct loss_case *k)
{
	if (k->loss->reason >= REASON_NO_ROUTE)
		k->charge.hop = k->out ? HOP_MESH_OUT : HOP_CLIENT_OUT;
	if (k->loss->reason == REASON_UNSENT)
		k->charge.basis = BASIS_WIRE;	/* it stood in the socket when that ended */
	if (k->out)
		judge_edge(a, k, k->out);
	else if (at_death(a, k->node, k->last_ns) && k->loss->reason != REASON_GONE_DISCONNECTED)
		k->charge.class = VERDICT_NODE_RESTARTED;
	else if (lives_on(a, k, k->first_ns, k->last_ns + RECONNECT_NS))
		set_stale_socket(k);
	else
		k->charge.class = VERDICT_PEER_ABSENT;
}

/*
 * A full queue: the destination is slow, or it has left this socket for another without a word, so
 * that the socket takes nothing any more; or a node stood still, and then read at once what had come.
 */
static void judge_queue(const struct analysis *a, struct loss_case *k)
{
	const struct stay *old = NULL;
	uint64_t newer_ns = 0;
	size_t count, i;
	const struct stay *s = presence_stays(a, k->dst, &count);
	uint32_t slow;

	for (i = 0; k->dst && i < count; i++) {
		if (s[i].opened_ns > k->last_ns || s[i].closed_ns < k->first_ns)
			continue;
		if (s[i].node == k->node && (!old || s[i].opened_ns < old->opened_ns))
			old = &s[i];
		if (s[i].opened_ns > newer_ns &&
		    (s[i].node == k->node || region_same(a, s[i].node, k->node)))
			newer_ns = s[i].opened_ns;
	}
	k->charge.class = VERDICT_QUEUE_DROP;
	/* However late it is dropped: what had entered by then waited for the node. */
	slow = still_behind(a, k->node, k->charge.first_ns, k->last_ns);
	if (slow != NONE) {
		k->charge.class = VERDICT_NODE_SLOW;
		k->charge.node = slow;
	}
	if (old && newer_ns > old->opened_ns && old->conn->rec.unacked &&
	    ref_time(a, a->nodes[k->node].agent, old->conn->rec.last_in_ns) < newer_ns)
		set_stale_socket(k);
}

/* Its entry ended before the relay had read it. */
static void judge_entry(const struct analysis *a, struct loss_case *k)
{
	if (at_death(a, k->node, k->last_ns))
		k->charge.class = VERDICT_NODE_RESTARTED;
	else if (k->in)
		judge_edge(a, k, k->in);
	else
		k->charge.class = VERDICT_HOST_DROP;
}

static void judge_unknown(const struct analysis *a, struct loss_case *k)
{
	if (presence_at(a, k->dst, k->node, k->first_ns, k->last_ns, NULL))
		k->charge.class = VERDICT_QUEUE_DROP;
	else
		judge_route(a, k);
}

static void judge(const struct analysis *a, struct loss_case *k)
{
	switch (k->loss->reason) {
	case REASON_UNKNOWN_DEST:
		judge_route(a, k);
		break;
	case REASON_NO_ROUTE:
		if (k->loss->from_mesh)
			judge_forward(a, k);
		else
			judge_route(a, k);
		break;
	case REASON_UNKNOWN_DEST_ON_FWD:
		judge_forward(a, k);
		break;
	case REASON_QUEUE_HEAD:
	case REASON_QUEUE_TAIL:
	case REASON_QUEUE:
		judge_queue(a, k);
		break;
	case REASON_DUP_CLIENT:
		k->charge.class = VERDICT_DUPLICATE_PEER;
		break;
	case REASON_GONE_DISCONNECTED:
	case REASON_WRITE_ERROR:
	case REASON_UNSENT:
	case REASON_UNFLUSHED:
		judge_exit(a, k);
		break;
	case REASON_UNREAD:
		judge_entry(a, k);
		break;
	default:
		judge_unknown(a, k);
	}
}

static struct charge charge_of(const struct loss *l, uint32_t node, uint64_t first_ns,
			       uint64_t last_ns)
{
	return (struct charge){
		.basis = l->basis, .node = node, .from = NONE, .to = NONE,
		.hop = l->from_mesh ? HOP_MESH_IN : HOP_CLIENT_IN,
		/* Words of our own are no reason of the relay's: the class says what they mean. */
		.reason = l->reason < REASON_NO_ROUTE ? FINDING_RELAY_REASON(l->reason) : LINK_REASON_NONE,
		.pair = l->pair, .count = l->count, .first_ns = first_ns, .last_ns = last_ns,
	};
}

/* @pair: whose books hold it; not always the one that it was told of. */
static int charge_loss(struct analysis *a, const struct loss *l, uint32_t pair, uint64_t count)
{
	const struct life *life = a->c->lives[l->life];
	uint64_t first_ns = ref_time(a, life->agent, l->first_ns);
	uint64_t last_ns = ref_time(a, life->agent, l->last_ns);
	struct loss_case k = {
		.loss = l, .node = a->node_of_life[l->life], .src = a->c->pairs[l->pair].src,
		.dst = l->dst,
		.first_ns = ref_time(a, life->agent, l->from_ns),
		.last_ns = ref_time(a, life->agent, l->to_ns),
		.in = edge_of(a, life_conn(a->c, life, l->in_conn)),
		.out = edge_of(a, life_conn(a->c, life, l->out_conn)),
	};

	k.charge = charge_of(l, k.node, first_ns, last_ns);
	k.charge.pair = pair;
	k.charge.count = count;
	judge(a, &k);
	/* What is inferred from what was seen needs that all was seen. */
	if (l->basis == BASIS_INFERRED && agent_missed(a, life->agent))
		k.charge.basis = BASIS_UNKNOWN;
	return finding_charge(a, &k.charge);
}

/* What is left to be charged of each (pair, node): by place, or, for the other row, by node. */
struct rest {
	uint64_t *places, *others;
};

static uint64_t *rest_of(const struct analysis *a, const struct rest *r, uint32_t pair, uint32_t node)
{
	size_t count, i;
	const struct place *p;

	if (pair == OTHER_PAIR)
		return &r->others[node];
	p = pairs_places(a, pair, &count);
	for (i = 0; i < count; i++) {
		if (p[i].node == node)
			return &r->places[p + i - a->places];
	}
	return NULL;
}

static int rest_fill(const struct analysis *a, struct rest *r)
{
	struct pair_row row;
	uint64_t lost;
	size_t i;

	r->places = calloc(a->place_count + 1, sizeof(*r->places));
	r->others = calloc(a->node_count + 1, sizeof(*r->others));
	if (!r->places || !r->others)
		return -ENOMEM;
	for (i = 0; i < a->place_count; i++) {
		pairs_row(a, &a->places[i], &row);
		r->places[i] = row.books.lost;
		r->others[a->places[i].node] += r->places[i];
	}
	for (i = 0; i < a->traced_count; i++) {
		lost = a->nodes[i].life->info.books.lost;
		r->others[i] = lost > r->others[i] ? lost - r->others[i] : 0;
	}
	return 0;
}

/* Lost, and no record tells of which reason. */
static int charge_rest(struct analysis *a, uint32_t pair, uint32_t node, uint64_t count,
		       uint64_t first_ns, uint64_t last_ns)
{
	struct loss l = { .pair = pair, .reason = REASON_OTHER, .basis = BASIS_INFERRED, .count = count };
	struct loss_case k = { .loss = &l, .node = node, .src = a->c->pairs[pair].src,
			       .dst = a->c->pairs[pair].dst, .first_ns = first_ns,
			       .last_ns = last_ns };

	k.charge = charge_of(&l, node, first_ns, last_ns);
	judge_unknown(a, &k);
	return finding_charge(a, &k.charge);
}

static int charge_rests(struct analysis *a, const struct rest *r)
{
	size_t i;
	int err = 0;

	for (i = 0; !err && i < a->place_count; i++) {
		const struct place *p = &a->places[i];
		uint32_t agent = a->nodes[p->node].agent;
		struct pair_row row;

		if (!r->places[i])
			continue;
		pairs_row(a, p, &row);
		err = charge_rest(a, p->pair, p->node, r->places[i],
				  ref_time(a, agent, row.first_ns), ref_time(a, agent, row.last_ns));
	}
	for (i = 0; !err && i < a->traced_count; i++) {
		if (r->others[i])
			err = charge_rest(a, OTHER_PAIR, i, r->others[i], a->nodes[i].from_ns,
					  a->nodes[i].to_ns);
	}
	return err;
}

/* Delivered to a socket that ended without acknowledging it. */
static int charge_last_hop(struct analysis *a, const struct place *p)
{
	uint32_t agent = a->nodes[p->node].agent;
	struct pair_row row;
	struct loss_case k = {
		.node = p->node, .dst = a->c->pairs[p->pair].dst,
		.charge = { .class = VERDICT_LAST_HOP, .basis = BASIS_WIRE, .node = p->node,
			    .from = NONE, .to = NONE, .hop = HOP_CLIENT_OUT, .pair = p->pair },
	};

	pairs_row(a, p, &row);
	if (!row.last_hop)
		return 0;
	k.charge.count = row.last_hop;
	k.charge.first_ns = k.first_ns = ref_time(a, agent, row.last_hop_first_ns);
	k.charge.last_ns = k.last_ns = ref_time(a, agent, row.last_hop_last_ns);
	if (lives_on(a, &k, k.first_ns, k.last_ns))
		k.charge.class = VERDICT_STALE_ROUTE;
	else if (at_death(a, p->node, k.last_ns))
		k.charge.class = VERDICT_NODE_RESTARTED;
	return finding_charge(a, &k.charge);
}

static int charge_edge_row(struct analysis *a, const struct edge *e, const struct edge_row *row)
{
	const struct stall *stall = link_stall(e);
	uint32_t agent = a->c->lives[(e->out ? e->out : e->in)->life]->agent;
	struct loss_case k = {
		.node = e->from,
		.last_ns = e->closed_ns == FOREVER ? a->end_ns : e->closed_ns,
		.charge = { .basis = BASIS_WIRE, .node = e->from, .from = NONE, .to = NONE,
			    .hop = HOP_MESH_OUT, .pair = row->pair, .count = row->lost },
	};

	k.first_ns = stall ? ref_time(a, agent, stall->first_ns) : k.last_ns;
	if (k.first_ns > k.last_ns)
		k.first_ns = k.last_ns;
	k.charge.first_ns = k.first_ns;
	k.charge.last_ns = k.last_ns;
	judge_edge(a, &k, e);
	return finding_charge(a, &k.charge);
}

#define CMP(x, y) do { if ((x) != (y)) return (x) < (y) ? -1 : 1; } while (0)

/* By node and time; never by who was told of first. What is left equal is of one pair and node. */
static int by_node_time(const void *px, const void *py, void *ctx)
{
	const struct analysis *a = ctx;
	const struct loss *x = &a->c->losses[*(const uint32_t *)px];
	const struct loss *y = &a->c->losses[*(const uint32_t *)py];
	const struct pair_ends *p = &a->c->pairs[x->pair], *q = &a->c->pairs[y->pair];
	int cmp;

	CMP(a->node_of_life[x->life], a->node_of_life[y->life]);
	CMP(x->first_ns, y->first_ns);
	cmp = key_compare(&a->c->peers[p->src], &a->c->peers[q->src]);
	if (!cmp)
		cmp = key_compare(&a->c->peers[x->dst], &a->c->peers[y->dst]);
	if (cmp)
		return cmp;
	CMP(x->reason, y->reason);
	return x < y ? -1 : x > y;
}

static uint64_t take(uint64_t *rest, uint64_t count)
{
	if (!rest)
		return 0;
	if (count > *rest)
		count = *rest;
	*rest -= count;
	return count;
}

/*
 * Told of a pair whose row has gone since: its source was learnt, so that the packets moved to another
 * row of the same destination; or it was idle for long, and its sums went to the other row.
 */
static int charge_moved(struct analysis *a, struct rest *r, const struct loss *l, uint32_t node,
			uint64_t count)
{
	const struct pair_ends *ends = &a->c->pairs[l->pair];
	uint64_t taken;
	size_t i;
	int err = 0;

	for (i = 0; !err && count && !ends->src && ends->dst && i < a->place_count; i++) {
		if (a->places[i].node != node || a->c->pairs[a->places[i].pair].dst != ends->dst)
			continue;
		taken = take(&r->places[i], count);
		count -= taken;
		if (taken)
			err = charge_loss(a, l, a->places[i].pair, taken);
	}
	taken = take(&r->others[node], count);
	return !err && taken ? charge_loss(a, l, OTHER_PAIR, taken) : err;
}

static int charge_losses(struct analysis *a, struct rest *r)
{
	uint32_t *order = malloc((a->c->loss_count + 1) * sizeof(*order));
	uint64_t *left = malloc((a->c->loss_count + 1) * sizeof(*left)), taken;
	int err = order && left ? 0 : -ENOMEM;
	size_t i, n = a->c->loss_count;

	for (i = 0; !err && i < n; i++)
		order[i] = i;
	if (!err && n)
		qsort_r(order, n, sizeof(*order), by_node_time, a);
	for (i = 0; !err && i < n; i++) {
		const struct loss *l = &a->c->losses[order[i]];
		uint32_t node = a->node_of_life[l->life];

		taken = node == NONE ? 0 : take(rest_of(a, r, l->pair, node), l->count);
		left[i] = node == NONE ? 0 : l->count - taken;
		if (taken)
			err = charge_loss(a, l, l->pair, taken);
	}
	for (i = 0; !err && i < n; i++) {
		const struct loss *l = &a->c->losses[order[i]];

		if (left[i])
			err = charge_moved(a, r, l, a->node_of_life[l->life], left[i]);
	}
	free(order);
	free(left);
	return err;
}

int classify_losses(struct analysis *a)
{
	struct rest r = { 0 };
	size_t i, j;
	int err = rest_fill(a, &r);

	err = err ? err : charge_losses(a, &r);
	err = err ? err : charge_rests(a, &r);
	for (i = 0; !err && i < a->place_count; i++)
		err = charge_last_hop(a, &a->places[i]);
	for (i = 0; !err && i < a->edge_count; i++) {
		for (j = 0; !err && j < a->edges[i].row_count; j++) {
			if (a->edges[i].rows[j].lost)
				err = charge_edge_row(a, &a->edges[i], &a->edges[i].rows[j]);
		}
	}
	free(r.places);
	free(r.others);
	return err;
}
