/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the network cards of a connection's two ends say of it: whether it never reached the far host,
 * or reached it and was dropped there.
 */
#include "correlate/analysis.h"
#include "capture/capture.h"

#include <errno.h>
#include <string.h>

bool nic_is_watched(const struct analysis *a, uint32_t node)
{
	const struct life *life = a->nodes[node].life;

	return life && life->has_nic && life->nic.mode[0] && strcmp(life->nic.mode, "off");
}

static const struct record_nic_drop *find(const struct analysis *a, uint32_t node,
					  const struct addr *local, const struct addr *remote)
{
	const struct life *life = a->nodes[node].life;
	size_t i;

	for (i = 0; life && i < life->nic_drop_count; i++) {
		const struct record_nic_drop *d = &life->nic_drops[i];

		if (addr_equal(&d->remote, remote) && addr_equal(&d->local, local))
			return d;
	}
	return NULL;
}

const struct record_nic_drop *nic_of_edge(const struct analysis *a, const struct edge *e,
					  uint32_t *node)
{
	const struct record_conn_facts *out = e->out ? &e->out->rec : NULL;
	const struct record_conn_facts *in = e->in ? &e->in->rec : NULL;
	const struct record_nic_drop *d = NULL, *back;

	*node = e->to;
	/* The accepting end's own addresses, where it knows of it: a proxy may stand between. */
	if (in)
		d = find(a, e->to, &in->local, &in->remote);
	else if (out)
		d = find(a, e->to, &out->remote, &out->local);
	if (out && (!d || d->kind == CAPTURE_NIC_ANSWERED)) {
		back = find(a, e->from, &out->local, &out->remote);
		*node = back ? e->from : e->to;
		d = back ? back : d;
	}
	return d;
}

bool nic_dropped_edge(const struct analysis *a, const struct edge *e)
{
	uint32_t node;
	const struct record_nic_drop *d = nic_of_edge(a, e, &node);

	return d && d->kind != CAPTURE_NIC_ANSWERED;
}

bool nic_is_of_a_link(const struct analysis *a, uint32_t node, const struct record_nic_drop *d)
{
	uint32_t where;
	size_t i;

	for (i = 0; i < a->edge_count; i++) {
		const struct edge *e = &a->edges[i];

		if ((e->to == node || e->from == node) && nic_of_edge(a, e, &where) == d)
			return true;
	}
	return false;
}

int nic_find_drops(struct analysis *a, uint32_t node)
{
	const struct node *n = &a->nodes[node];
	struct finding *f;
	size_t i;

	for (i = 0; i < n->life->nic_drop_count; i++) {
		const struct record_nic_drop *d = &n->life->nic_drops[i];
		const struct conn *conn;

		if (d->kind == CAPTURE_NIC_ANSWERED || nic_is_of_a_link(a, node, d))
			continue;
		f = finding_get(a, VERDICT_HOST_DROP, node, NONE, NONE, LINK_HOST_DROP);
		if (!f)
			return -ENOMEM;
		conn = d->conn ? life_conn(a->c, n->life, d->conn) : NULL;
		if (conn)
			finding_about(f, conn->peer, f->dst);
		finding_seen(f, ref_time(a, n->agent, d->first_ns), ref_time(a, n->agent, d->last_ns));
	}
	return 0;
}
