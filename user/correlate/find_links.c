/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is wrong with the mesh although nothing was lost by it yet. A region whose nodes the DERP map
 * names must be whole. Without a map two relays of one report may have nothing to do with each other,
 * so there a link is missed only where one of the two has dialled the other.
 */
#include "correlate/analysis.h"
#include "derpmap/derpmap.h"

#include <errno.h>

#define REDIAL_NS	(6 * NSEC_PER_SEC)	/* who wants a link has dialled in so much time */
#define STALL_SHOWN_NS	(2 * NSEC_PER_SEC)
#define BREAKS		3u

static bool on_map(const struct analysis *a, const struct link *l)
{
	return a->nodes[l->from].map && a->nodes[l->to].map &&
	       a->nodes[l->from].map->region == a->nodes[l->to].map->region;
}

/* Is this class said of the link already, because packets were lost by it? */
static bool is_said(const struct analysis *a, const struct link *l)
{
	size_t i;

	for (i = 0; i < a->finding_count; i++) {
		const struct finding *f = &a->findings[i];

		if (f->from == l->from && f->to == l->to &&
		    (f->class == VERDICT_NO_MESH_ROUTE || f->class == VERDICT_LINK_DOWN ||
		     f->class == VERDICT_LINK_ONE_WAY || f->class == VERDICT_LINK_STALLED ||
		     f->class == VERDICT_HOST_DROP))
			return true;
	}
	return false;
}

/* Both ends are there, and have been for long enough that they would have dialled. */
static bool had_time(const struct analysis *a, const struct link *l)
{
	const struct node *from = &a->nodes[l->from], *to = &a->nodes[l->to];
	uint64_t begin = from->from_ns > to->from_ns ? from->from_ns : to->from_ns;

	return !from->ended && !to->ended && a->end_ns > begin + REDIAL_NS &&
	       from->to_ns + REDIAL_NS > a->end_ns;
}

static bool back_up(const struct analysis *a, const struct link *l)
{
	const struct link *back = link_find(a, l->to, l->from);

	return back && back->state == LINK_UP && back->since_ns + REDIAL_NS < a->end_ns;
}

/* An accepted connection of @to that cannot be read may be the link. */
static bool may_be_hidden(const struct analysis *a, const struct link *l)
{
	const struct node *to = &a->nodes[l->to];
	size_t i;

	for (i = 0; to->life && i < to->life->conn_count; i++) {
		const struct record_conn_facts *rec = &to->life->conns[i]->rec;

		if (!rec->dialled && !rec->closed_ns && rec->kind == CONN_UNKNOWN && !rec->readable)
			return true;
	}
	return false;
}

static int missing(struct analysis *a, const struct link *l)
{
	enum verdict_class class = VERDICT_LINK_DOWN;
	uint8_t reason = l->reason;
	struct finding *f;

	if (l->reason == LINK_NO_DIAL && (!had_time(a, l) || may_be_hidden(a, l)))
		return 0;
	if (l->reason == LINK_NO_DIAL && !link_ever_dialled(a, l->from, l->to)) {
		if (back_up(a, l))
			class = VERDICT_LINK_ONE_WAY;
		else if (on_map(a, l))
			class = VERDICT_NO_MESH_ROUTE;
		else
			return 0;
	}
	if (reason == LINK_HOST_DROP)
		class = VERDICT_HOST_DROP;
	f = finding_get(a, class, l->from, l->from, l->to, reason);
	if (!f)
		return -ENOMEM;
	finding_seen(f, l->since_ns ? l->since_ns : a->nodes[l->from].from_ns, a->end_ns);
	return 0;
}

/* Nobody traces the dialling end; the other end would know of a connection. */
static int missing_from_untraced(struct analysis *a, const struct link *l)
{
	const struct link *back = link_find(a, l->to, l->from);
	struct finding *f;

	if (!a->nodes[l->to].life || l->edge_count || !back || !back_up(a, l) || !had_time(a, l) ||
	    may_be_hidden(a, l))
		return 0;
	f = finding_get(a, VERDICT_LINK_ONE_WAY, l->to, l->from, l->to, LINK_NO_DIAL);
	if (!f)
		return -ENOMEM;
	finding_seen(f, a->nodes[l->to].from_ns, a->end_ns);
	return 0;
}

/* A link that stood still for a while shows nothing of it once it has healed. */
static int stalls(struct analysis *a, const struct link *l)
{
	enum link_reason reason;
	struct finding *f;
	size_t i;

	for (i = 0; i < l->edge_count; i++) {
		const struct edge *e = &a->edges[l->edges[i]];
		uint32_t agent;

		if (!e->out || e->out->mesh->stall.longest_ns < STALL_SHOWN_NS || e->reached != REACHED_MESH)
			continue;
		agent = a->c->lives[e->out->life]->agent;
		reason = link_stall_reason(a, e);
		f = finding_get(a, reason == LINK_HOST_DROP ? VERDICT_HOST_DROP : VERDICT_LINK_STALLED,
				l->from, l->from, l->to, reason);
		if (!f)
			return -ENOMEM;
		if (!f->hop_set)
			f->hop = HOP_MESH_OUT;
		finding_seen(f, ref_time(a, agent, e->out->mesh->stall.first_ns),
			     ref_time(a, agent, e->out->mesh->stall.last_ns));
	}
	return 0;
}

/* Links that came through to the mesh again and again. */
static int breaks(struct analysis *a, const struct link *l)
{
	uint64_t count = 0, lived_ns = 0, first_ns = 0, last_ns = 0;
	struct finding *f;
	size_t i;

	for (i = 0; i < l->edge_count; i++) {
		const struct edge *e = &a->edges[l->edges[i]];

		if (e->reached != REACHED_MESH || e->closed_ns == FOREVER || e->closed_ns < e->opened_ns)
			continue;
		count++;
		lived_ns += e->closed_ns - e->opened_ns;
		first_ns = first_ns ? first_ns : e->closed_ns;
		last_ns = e->closed_ns;
	}
	if (count < BREAKS)
		return 0;
	f = finding_get(a, VERDICT_FLAPPING, l->from, l->from, l->to, LINK_CLOSED);
	if (!f)
		return -ENOMEM;
	f->number[0] = count;
	f->number[1] = lived_ns / count;
	finding_seen(f, first_ns, last_ns);
	return 0;
}

int find_links(struct analysis *a)
{
	size_t i;
	int err = 0;

	for (i = 0; !err && i < a->link_count; i++) {
		const struct link *l = &a->links[i];

		if (!a->nodes[l->from].life && !is_said(a, l))
			err = missing_from_untraced(a, l);
		if (!err && l->state == LINK_DOWN && (a->nodes[l->from].life || l->edge_count) &&
		    !a->nodes[l->from].ended && !a->nodes[l->to].ended && !is_said(a, l))
			err = missing(a, l);
		if (!err)
			err = stalls(a, l);
		if (!err)
			err = breaks(a, l);
	}
	return err;
}
