/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Links: every ordered pair of nodes of a region, whether it is up, and why not. A link is what its
 * edges are: the newest that came through to the mesh, or the newest that did not.
 */
#include "correlate/analysis.h"
#include "capture/capture.h"

#include <errno.h>
#include <stdlib.h>

#define MATRIX_NODES	256u	/* more nodes than this: only links that somebody dialled */
#define REDIAL_NS	(15 * NSEC_PER_SEC)	/* a relay dials again every five seconds */
#define NEAR_NS		(6 * NSEC_PER_SEC)
#define FULL_SEGMENT	1200u
#define MANY_PASSED	100u
#define MARGIN		64u	/* bytes: more than what TLS adds to a frame */
#define GIVEN_UP_NS	(1500 * NSEC_PER_MSEC)

const char *link_reason_name(enum link_reason reason)
{
	static const char *const names[LINK_REASONS] = {
		[LINK_NO_DIAL] = "no-dial", [LINK_NO_ANSWER] = "no-answer",
		[LINK_REFUSED] = "refused", [LINK_TLS] = "tls", [LINK_UPGRADE] = "upgrade",
		[LINK_MESH_KEY] = "mesh-key", [LINK_NOT_ADMITTED] = "not-admitted",
		[LINK_SELF] = "self", [LINK_SAME_KEY] = "same-key", [LINK_CLOSED] = "closed",
		[LINK_HOST_DROP] = "host-drop", [LINK_BLACKHOLE] = "blackhole",
		[LINK_MTU] = "mtu", [LINK_CONGESTED] = "congested",
	};

	return reason < LINK_REASONS ? names[reason] : NULL;
}

static uint64_t link_key(uint32_t from, uint32_t to)
{
	return (uint64_t)from << 32 | to;
}

struct link *link_find(const struct analysis *a, uint32_t from, uint32_t to)
{
	uint32_t *at = table_find(&a->link_index, link_key(from, to));

	return at ? &a->links[*at] : NULL;
}

static struct link *link_get(struct analysis *a, uint32_t from, uint32_t to)
{
	struct link *l = link_find(a, from, to);

	if (l)
		return l;
	if (!VEC_ROOM(a->links, a->link_count, a->link_cap) ||
	    table_put(&a->link_index, link_key(from, to), a->link_count) < 0)
		return NULL;
	l = &a->links[a->link_count++];
	*l = (struct link){ .from = from, .to = to };
	return l;
}

const struct stall *link_stall(const struct edge *e)
{
	const struct stall *s = e->out ? &e->out->mesh->stall : NULL;

	return s && s->before_end ? s : NULL;
}

/*
 * It stands at a frame that is larger than all that had passed, and so is the segment that is sent again:
 * of so many that this is no chance. What passed before a link broke was as large as what got stuck.
 */
static bool outgrew(const struct stall *s)
{
	return s->passed_count >= MANY_PASSED && s->stuck >= s->passed + MARGIN &&
	       s->max_segment >= s->passed + MARGIN;
}

/* Two connections of one link that got stuck on a full segment each, after smaller ones had passed. */
static bool stuck_on_size(const struct analysis *a, const struct edge *e)
{
	const struct link *l = link_find(a, e->from, e->to);
	size_t i, stuck = 0;

	for (i = 0; l && i < l->edge_count; i++) {
		const struct edge *o = &a->edges[l->edges[i]];

		stuck += o->out && o->out->mesh->stall.longest_ns &&
			 o->out->mesh->stall.max_segment >= FULL_SEGMENT && o->reached == REACHED_MESH;
	}
	return e->out->mesh->stall.max_segment >= FULL_SEGMENT && stuck >= 2;
}

enum link_reason link_stall_reason(const struct analysis *a, const struct edge *e)
{
	if (nic_dropped_edge(a, e))
		return LINK_HOST_DROP;
	if (stuck_on_size(a, e) || outgrew(&e->out->mesh->stall))
		return LINK_MTU;
	/* Nothing had to be sent again: the far end has closed its window, or is slow to answer. */
	if (!e->out->rec.snd_wnd || !e->out->mesh->stall.retransmits)
		return LINK_CONGESTED;
	return LINK_BLACKHOLE;
}

/*
 * Had the relay given it up? What the relay has closed the kernel may still hold, as long as the far
 * end acknowledges nothing.
 */
static bool stood_still(const struct analysis *a, const struct edge *e, uint64_t at_ns)
{
	const struct stall *s = e->out ? &e->out->mesh->stall : NULL;
	uint32_t agent;

	if (!s || !s->longest_ns)
		return false;
	agent = a->c->lives[e->out->life]->agent;
	return ref_time(a, agent, s->first_ns) + GIVEN_UP_NS <= at_ns &&
	       at_ns <= ref_time(a, agent, s->last_ns);
}

const struct edge *link_edge_at(const struct analysis *a, const struct link *link, uint64_t at_ns)
{
	const struct edge *found = NULL;
	size_t i;

	for (i = 0; link && i < link->edge_count; i++) {
		const struct edge *e = &a->edges[link->edges[i]];

		if (e->reached == REACHED_MESH && e->there_ns <= at_ns && at_ns < e->closed_ns &&
		    !stood_still(a, e, at_ns))
			found = e;
	}
	return found;
}

bool link_was_up(const struct analysis *a, const struct link *link, uint64_t at_ns)
{
	return link_edge_at(a, link, at_ns);
}

bool link_just_back(const struct analysis *a, const struct link *link, uint64_t first_ns,
		    uint64_t last_ns)
{
	const struct edge *before = NULL, *back = NULL;
	uint64_t since_ns;
	size_t i;

	for (i = 0; link && i < link->edge_count; i++) {
		const struct edge *e = &a->edges[link->edges[i]];

		if (e->reached != REACHED_MESH || e->opened_ns > last_ns)
			continue;
		before = back;
		back = e;
	}
	if (!before || before->closed_ns == FOREVER || !before->reason)
		return false;
	/* What the relay has closed may outlive it in the kernel. */
	since_ns = before->closed_ns < back->opened_ns ? before->closed_ns : back->opened_ns;
	return first_ns + GIVEN_UP_NS >= since_ns && last_ns <= back->opened_ns + NEAR_NS;
}

/*
 * What the relay met when it next tried says more than that the connection before had ended. Where
 * none had been there yet, as after a first dial that failed before the trace, nobody dialled then.
 */
enum link_reason link_reason_at(const struct analysis *a, const struct link *link, uint64_t at_ns)
{
	enum link_reason found = LINK_REASON_NONE, reason;
	size_t i;

	for (i = 0; link && i < link->edge_count; i++) {
		const struct edge *e = &a->edges[link->edges[i]];

		if (e->opened_ns > at_ns + NEAR_NS && found)
			break;
		reason = e->reason;
		if (reason && (reason != LINK_CLOSED || !found))
			found = reason;
	}
	if (!found && link && link->edge_count && a->edges[link->edges[0]].opened_ns > at_ns)
		return LINK_NO_DIAL;
	return found ? found : LINK_CLOSED;
}

bool link_ever_dialled(const struct analysis *a, uint32_t from, uint32_t to)
{
	return table_find(&a->dialled, link_key(a->nodes[from].identity, a->nodes[to].identity));
}

static bool dialled_itself(const struct analysis *a, uint32_t node)
{
	size_t i;

	for (i = 0; i < a->edge_count; i++) {
		if (a->edges[i].from == node && a->edges[i].to == node)
			return true;
	}
	return false;
}

static void state_undialled(const struct analysis *a, struct link *l)
{
	const struct node *from = &a->nodes[l->from], *to = &a->nodes[l->to];

	if (!from->life) {
		l->state = LINK_UNKNOWN;
		return;
	}
	l->state = LINK_DOWN;
	if (dialled_itself(a, l->from))
		l->reason = LINK_SELF;
	else if (!key_is_zero(&from->key) && key_equal(&from->key, &to->key))
		l->reason = LINK_SAME_KEY;
	else
		l->reason = LINK_NO_DIAL;
}

static uint64_t node_now(const struct analysis *a, uint32_t node)
{
	return a->nodes[node].life && a->nodes[node].to_ns < a->end_ns ? a->nodes[node].to_ns : a->end_ns;
}

static void link_state(const struct analysis *a, struct link *l)
{
	const struct edge *e = NULL;
	size_t i;

	if (!l->edge_count) {
		state_undialled(a, l);
		return;
	}
	for (i = l->edge_count; i-- > 0;) {
		e = &a->edges[l->edges[i]];
		if (e->closed_ns != FOREVER || e->reached != REACHED_MESH || e->reason)
			continue;
		l->state = link_stall(e) ? LINK_STALLED : LINK_UP;
		l->reason = link_stall(e) ? link_stall_reason(a, e) : LINK_REASON_NONE;
		l->since_ns = link_stall(e) ? 0 : e->opened_ns;
		return;
	}
	for (i = l->edge_count; i-- > 0 && !l->reason;) {
		e = &a->edges[l->edges[i]];
		l->reason = e->reason;
	}
	l->state = l->reason ? LINK_DOWN : LINK_UNKNOWN;
	if (!l->reason)
		return;
	l->since_ns = e->closed_ns == FOREVER ? e->opened_ns : e->closed_ns;
	e = &a->edges[l->edges[l->edge_count - 1]];
	if (l->reason == LINK_CLOSED && e->closed_ns != FOREVER && a->nodes[l->from].life &&
	    node_now(a, l->from) > e->closed_ns + REDIAL_NS)
		l->reason = LINK_NO_DIAL;
}

static void link_sum(const struct analysis *a, struct link *l)
{
	size_t i, j;

	for (i = 0; i < l->edge_count; i++) {
		const struct edge *e = &a->edges[l->edges[i]];

		for (j = 0; j < e->row_count; j++) {
			l->sent += e->rows[j].sent;
			l->arrived += e->rows[j].arrived;
			l->untraced += e->rows[j].untraced;
			l->in_flight += e->rows[j].in_flight;
			l->lost += e->rows[j].lost;
		}
	}
	l->has_arrived = a->nodes[l->to].life != NULL;
}

#define CMP(x, y) do { if ((x) != (y)) return (x) < (y) ? -1 : 1; } while (0)

static int by_time(const void *px, const void *py, void *ctx)
{
	const struct analysis *a = ctx;
	uint32_t x = *(const uint32_t *)px, y = *(const uint32_t *)py;

	CMP(a->edges[x].opened_ns, a->edges[y].opened_ns);
	CMP(x, y);
	return 0;
}

static int by_ends(const void *px, const void *py)
{
	const struct link *x = px, *y = py;

	CMP(x->from, y->from);
	CMP(x->to, y->to);
	return 0;
}

static int matrix(struct analysis *a)
{
	uint32_t x, y;

	if (a->node_count > MATRIX_NODES)
		return 0;
	for (x = 0; x < a->node_count; x++) {
		for (y = 0; y < a->node_count; y++) {
			if (x != y && region_same(a, x, y) && region_overlap(a, x, y) &&
			    !link_get(a, x, y))
				return -ENOMEM;
		}
	}
	return 0;
}

int link_make(struct analysis *a)
{
	struct link *l;
	size_t i;

	if (matrix(a) < 0)
		return -ENOMEM;
	for (i = 0; i < a->edge_count; i++) {
		if (a->edges[i].from == a->edges[i].to)
			continue;
		l = link_get(a, a->edges[i].from, a->edges[i].to);
		if (!l || !VEC_ROOM(l->edges, l->edge_count, l->edge_cap))
			return -ENOMEM;
		l->edges[l->edge_count++] = i;
	}
	if (a->link_count)
		qsort(a->links, a->link_count, sizeof(*a->links), by_ends);
	table_free(&a->link_index);
	for (i = 0; i < a->link_count; i++) {
		l = &a->links[i];
		if (table_put(&a->link_index, link_key(l->from, l->to), i) < 0)
			return -ENOMEM;
		if (l->edge_count)
			qsort_r(l->edges, l->edge_count, sizeof(*l->edges), by_time, a);
	}
	for (i = 0; i < a->link_count; i++) {
		link_state(a, &a->links[i]);
		link_sum(a, &a->links[i]);
	}
	return 0;
}
