/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Findings: one per (class, node, link, reason). Losses are charged to them, so that they add up to
 * the pairs' books; what may have been lost besides stands in the maximum of each that it may belong to.
 */
#include "correlate/analysis.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "derp.h"

#define MIN_PACKET_BYTES (DERP_HEADER_LEN + DERP_KEY_LEN + 1)	/* on the wire, of one that enters */

/* The table of classes, in the schema's order. Codes are stable: a new class gets a new one. */
static const struct class {
	const char *name, *code;
	void (*words)(struct words *w);
} classes[VERDICT_CLASSES] = {
	[VERDICT_NO_MESH_ROUTE] = { "no-mesh-route", "DT001", words_mesh_route },
	[VERDICT_LINK_DOWN] = { "link-down", "DT002", words_link_down },
	[VERDICT_LINK_ONE_WAY] = { "link-one-way", "DT003", words_link_one_way },
	[VERDICT_LINK_STALLED] = { "link-stalled", "DT004", words_link_stalled },
	[VERDICT_STALE_ROUTE] = { "stale-route", "DT005", words_stale_route },
	[VERDICT_HOST_DROP] = { "host-drop", "DT006", words_host_drop },
	[VERDICT_PEER_ABSENT] = { "peer-absent", "DT007", words_peer_absent },
	[VERDICT_QUEUE_DROP] = { "queue-drop", "DT008", words_queue_drop },
	[VERDICT_DUPLICATE_PEER] = { "duplicate-peer", "DT009", words_duplicate_peer },
	[VERDICT_RATE_LIMITED] = { "rate-limited", "DT010", words_rate_limited },
	[VERDICT_NOT_ADMITTED] = { "not-admitted", "DT011", words_not_admitted },
	[VERDICT_LAST_HOP] = { "last-hop", "DT012", words_last_hop },
	[VERDICT_HANDSHAKE_UNANSWERED] = { "handshake-unanswered", "DT013", words_handshake },
	[VERDICT_FLAPPING] = { "flapping", "DT014", words_flapping },
	[VERDICT_NODE_SLOW] = { "node-slow", "DT015", words_node_slow },
	[VERDICT_NODE_RESTARTED] = { "node-restarted", "DT016", words_node_restarted },
	[VERDICT_STUN_UNANSWERED] = { "stun-unanswered", "DT017", words_stun },
	[VERDICT_UNTRACED_NODE] = { "untraced-node", "DT018", words_untraced_node },
};

const char *verdict_class_name(enum verdict_class class)
{
	return classes[class].name;
}

const char *verdict_class_code(enum verdict_class class)
{
	return classes[class].code;
}

const char *finding_reason(uint8_t reason)
{
	if (reason > LINK_REASONS)
		return record_reason_name((enum record_reason)(reason - LINK_REASONS));
	return link_reason_name((enum link_reason)reason);
}

struct finding *finding_get(struct analysis *a, enum verdict_class class, uint32_t node,
			    uint32_t from, uint32_t to, uint8_t reason)
{
	uint64_t key = (uint64_t)class << 56 | (uint64_t)reason << 48 |
		       (uint64_t)(uint16_t)node << 32 | (uint32_t)(uint16_t)from << 16 |
		       (uint16_t)to;
	uint32_t *at = table_find(&a->finding_index, key);
	struct finding *f;

	if (at)
		return &a->findings[*at];
	if (!VEC_ROOM(a->findings, a->finding_count, a->finding_cap) ||
	    table_put(&a->finding_index, key, a->finding_count) < 0)
		return NULL;
	f = &a->findings[a->finding_count++];
	*f = (struct finding){ .class = class, .basis = BASIS_WIRE, .node = node, .from = from,
			       .to = to, .hop = -1, .reason = reason };
	return f;
}

void finding_seen(struct finding *f, uint64_t first_ns, uint64_t last_ns)
{
	if (first_ns && (!f->first_ns || first_ns < f->first_ns))
		f->first_ns = first_ns;
	if (last_ns > f->last_ns)
		f->last_ns = last_ns;
}

/* @value stays where all share it, and becomes @none where they do not. */
static void common(uint32_t *value, bool *set, uint32_t now)
{
	if (!*set)
		*value = now;
	else if (*value != now)
		*value = 0;
	*set = true;
}

void finding_about(struct finding *f, uint32_t src, uint32_t dst)
{
	common(&f->src, &f->src_set, src);
	common(&f->dst, &f->dst_set, dst);
}

int finding_share(struct analysis *a, struct finding *f, uint32_t pair, uint64_t count)
{
	uint32_t finding = f - a->findings, *at;
	uint64_t key = (uint64_t)finding << 32 | pair;

	at = table_find(&a->share_index, key);

	if (at) {
		a->shares[*at].count += count;
		return 0;
	}
	if (!VEC_ROOM(a->shares, a->share_count, a->share_cap) ||
	    table_put(&a->share_index, key, a->share_count) < 0)
		return -ENOMEM;
	a->shares[a->share_count++] = (struct share){ finding, pair, count };
	f->pairs++;
	return 0;
}

int finding_charge(struct analysis *a, const struct charge *charge)
{
	/* A node that ended, or stood still, is one finding, in how many ways it may lose. */
	bool one = charge->class == VERDICT_NODE_RESTARTED || charge->class == VERDICT_NODE_SLOW;
	struct finding *f = finding_get(a, charge->class, charge->node, charge->from, charge->to,
					one ? LINK_REASON_NONE : charge->reason);
	struct pair_sum *p = &a->sums[charge->pair];
	const struct pair_ends *ends = &a->c->pairs[charge->pair];

	if (!f || finding_share(a, f, charge->pair, charge->count) < 0)
		return -ENOMEM;
	if (!f->hop_set)
		f->hop = charge->hop;
	else if (f->hop != charge->hop)
		f->hop = -1;
	f->hop_set = true;
	finding_about(f, ends->src, ends->dst);
	f->count += charge->count;
	f->by_basis[charge->basis] += charge->count;
	finding_seen(f, charge->first_ns, charge->last_ns);

	p->lost_by[charge->class] += charge->count;
	if (p->worst == NONE || charge->count > p->worst_count) {
		p->worst = f - a->findings;
		p->worst_count = charge->count;
	}
	/* What stood between two nodes was on its way across; so was what came out of the mesh. */
	if (charge->from != NONE || charge->hop == HOP_MESH_IN) {
		p->across = true;
		p->across_lost += charge->count;
		if (charge->hop == HOP_CLIENT_IN)
			p->across_sent += charge->count;
	} else if (charge->class != VERDICT_PEER_ABSENT) {
		p->same_node |= !p->across;
	}
	return 0;
}

static int untraced_charge(struct analysis *a, const struct edge *e, const struct edge_row *row)
{
	struct finding *f = finding_get(a, VERDICT_UNTRACED_NODE, e->from, e->from, e->to,
					LINK_REASON_NONE);
	const struct pair_sum *p = &a->sums[row->pair];
	const struct pair_ends *ends = &a->c->pairs[row->pair];

	if (!f || finding_share(a, f, row->pair, row->untraced) < 0)
		return -ENOMEM;
	f->basis = BASIS_UNKNOWN;
	f->hop = HOP_MESH_OUT;
	f->hop_set = true;
	f->maybe += row->untraced;
	finding_about(f, ends->src, ends->dst);
	finding_seen(f, p->first_ns, p->last_ns);
	return 0;
}

static uint64_t pair_maybe(const struct analysis *a, uint32_t pair)
{
	return a->sums[pair].untraced - a->sums[pair].untraced_node;
}

/* Bytes that came in at the finding's node and were not read: so many packets are in no book. */
static uint64_t missed_packets(const struct analysis *a, const struct finding *f)
{
	const struct life *life = a->nodes[f->node].life;
	uint64_t packets = 0;
	size_t i;

	for (i = 0; i < life->conn_count; i++) {
		const struct conn *conn = life->conns[i];

		if (conn->rec.dialled || (f->hop == HOP_MESH_IN && conn->rec.kind == CONN_CLIENT))
			continue;
		if (f->src && conn->rec.kind == CONN_CLIENT && conn->peer && conn->peer != f->src)
			continue;
		packets += conn->rec.in_missed / MIN_PACKET_BYTES;
	}
	return packets;
}

/*
 * The tracer could not keep up at the finding's node: what it is about may have happened to all that
 * was not followed there, of its source and destination, and to what was not seen at all.
 */
static uint64_t starved_maybe(const struct analysis *a, uint32_t finding)
{
	const struct finding *f = &a->findings[finding];
	uint64_t maybe = missed_packets(a, f);
	struct pair_row row;
	size_t i;

	for (i = 0; i < a->place_count; i++) {
		const struct place *p = &a->places[i];
		const struct pair_ends *ends = &a->c->pairs[p->pair];

		if (p->node != f->node || (f->src && ends->src && ends->src != f->src) ||
		    (f->dst && ends->dst && ends->dst != f->dst) ||
		    table_find(&a->share_index, (uint64_t)finding << 32 | p->pair))
			continue;
		pairs_row(a, p, &row);
		maybe += row.books.untraced;
	}
	return maybe;
}

static bool was_starved(const struct analysis *a, uint32_t node)
{
	return a->nodes[node].life && a->c->agents[a->nodes[node].agent].info.segments_lost;
}

/* Each finding's own: of one packet that may be lost several may have it. */
int finding_uncertain(struct analysis *a)
{
	size_t i, j;

	for (i = 0; i < a->share_count; i++) {
		struct finding *f = &a->findings[a->shares[i].finding];

		if (f->count)
			f->maybe += pair_maybe(a, a->shares[i].pair);
	}
	for (i = 0; i < a->finding_count; i++) {
		struct finding *f = &a->findings[i];

		if (f->count && f->node != NONE && was_starved(a, f->node))
			f->maybe += starved_maybe(a, i);
	}
	for (i = 0; i < a->edge_count; i++) {
		const struct edge *e = &a->edges[i];

		for (j = 0; !a->nodes[e->to].life && j < e->row_count; j++) {
			if (e->rows[j].untraced && untraced_charge(a, e, &e->rows[j]) < 0)
				return -ENOMEM;
		}
	}
	return 0;
}

/* The basis of most of what was lost. */
static enum record_basis basis_of(const struct finding *f)
{
	int i, most = f->basis;
	uint64_t count = 0;

	for (i = BASIS_RELAY; i <= BASIS_UNKNOWN; i++) {
		if (f->by_basis[i] > count) {
			count = f->by_basis[i];
			most = i;
		}
	}
	return (enum record_basis)most;
}

static int number_or_null(uint32_t node)
{
	return node == NONE ? -1 : (int)node;
}

/* Where frames ended: of a link on which none did, no node is named. */
static int node_of(const struct finding *f)
{
	return f->from != NONE && !f->count && !f->maybe ? -1 : number_or_null(f->node);
}

int verdict_words(struct analysis *a, const struct finding *f, struct report_verdict *out)
{
	struct words w = { .a = a, .f = f, .out = out };
	const char *reason = finding_reason(f->reason);

	memset(out, 0, sizeof(*out));
	out->class = f->class;
	out->basis = basis_of(f);
	out->node = node_of(f);
	out->link_from = number_or_null(f->from);
	out->link_to = number_or_null(f->to);
	out->hop = f->hop;
	text_copy(out->reason, sizeof(out->reason), reason ? reason : "");
	out->src = a->c->peers[f->src];
	out->dst = a->c->peers[f->dst];
	out->count.min = f->count;
	out->count.max = f->count + f->maybe;
	out->first_ns = f->first_ns ? f->first_ns : a->end_ns;
	out->last_ns = f->last_ns > out->first_ns ? f->last_ns : out->first_ns;
	classes[f->class].words(&w);
	out->summary = text_take(&w.summary);
	out->fix = text_take(&w.fix);
	return w.failed || !out->summary || !out->fix ? -ENOMEM : 0;
}
