/* SPDX-License-Identifier: BSD-2-Clause */
/* What is wrong with nodes although nothing was lost by it: restarted, refusing, slow, deaf. */
#include "correlate/analysis.h"
#include "capture/capture.h"
#include "derpmap/derpmap.h"
#include "derp.h"

#include <errno.h>
#include <string.h>

#define SLOW_P50_US	20000.0
#define SLOW_P99_US	100000.0
#define SLOW_SAMPLES	1000u	/* of a node; a pair is asked from 100 on */
#define STILL_MIN_NS	(2 * NSEC_PER_SEC) /* where nothing was lost by it */
#define STUN_REQUESTS	10u

static int find_restart(struct analysis *a, uint32_t node)
{
	const struct node *n = &a->nodes[node];
	uint32_t i = region_successor(a, node);
	struct finding *f;

	if (i == NONE)
		return 0;
	f = finding_get(a, VERDICT_NODE_RESTARTED, node, NONE, NONE, LINK_REASON_NONE);
	if (!f)
		return -ENOMEM;
	finding_seen(f, n->to_ns, a->nodes[i].from_ns);
	return 0;
}

/* It said who it is, and the node closed it instead of answering. Who did not say so is a scanner. */
static bool was_refused(const struct analysis *a, const struct node *n, const struct conn *conn)
{
	const struct record_conn_facts *rec = &conn->rec;

	if (rec->dialled || !rec->closed_ns || !rec->from_start || rec->kind != CONN_CLIENT ||
	    (rec->steps & STEP_SERVER_INFO) || !(rec->steps & STEP_CLIENT_INFO) ||
	    rec->last_type_out != DERP_SERVER_KEY || match_dialled(a, conn))
		return false;
	if (n->ended && rec->closed_ns + NSEC_PER_SEC > n->life->info.ended_ns)
		return false;
	return rec->fin_out || rec->how == CAPTURE_CLOSED_RST_OUT;
}

static int find_refused(struct analysis *a, uint32_t node)
{
	const struct node *n = &a->nodes[node];
	struct table peers = { 0 };
	struct finding *f = NULL;
	int err = 0;
	size_t i;

	for (i = 0; !err && i < n->life->conn_count; i++) {
		const struct conn *conn = n->life->conns[i];
		uint64_t closed_ns;

		if (!was_refused(a, n, conn))
			continue;
		f = finding_get(a, VERDICT_NOT_ADMITTED, node, NONE, NONE, LINK_NOT_ADMITTED);
		if (!f) {
			err = -ENOMEM;
			break;
		}
		closed_ns = ref_time(a, n->agent, conn->rec.closed_ns);
		finding_about(f, conn->peer, f->dst);
		finding_seen(f, closed_ns, closed_ns);
		f->number[0]++;
		f->conn = conn;
		f->peer = conn->peer;
		err = table_put(&peers, conn->peer, 1);
	}
	if (f)
		f->number[1] = peers.used;
	table_free(&peers);
	return err;
}

struct slow {
	struct histogram all;
	uint64_t pairs, slow_pairs;
};

static void slow_add(struct slow *s, const struct buckets *latency)
{
	struct report_latency one = latency_told(latency);

	histogram_add(&s->all, latency);
	if (one.samples < 100)
		return;
	s->pairs++;
	s->slow_pairs += one.p99_us > SLOW_P99_US;
}

/* Sockets that do not drain explain long waits; so does a mesh link that stood still. */
static bool is_backed_up(const struct life *life)
{
	size_t i, clients = 0, backed = 0;

	for (i = 0; i < life->conn_count; i++) {
		const struct conn *conn = life->conns[i];

		if (conn->rec.kind == CONN_MESH_OUT && (conn->mesh->stall.longest_ns || conn->rec.notsent))
			return true;
		if (conn->rec.kind != CONN_CLIENT || conn->rec.closed_ns)
			continue;
		clients++;
		backed += conn->rec.notsent != 0;
	}
	return backed * 4 > clients;
}

static int find_slow(struct analysis *a, uint32_t node)
{
	const struct life *life = a->nodes[node].life;
	struct slow s = { .pairs = 0 };
	struct report_latency all;
	struct pair_row row;
	struct finding *f;
	size_t i;

	for (i = 0; i < life->pair_count; i++) {
		if (counts_get(a->c, life, i, &row))
			slow_add(&s, row.latency);
	}
	if (s.all.total < SLOW_SAMPLES || s.slow_pairs < 3 || s.slow_pairs * 2 <= s.pairs ||
	    is_backed_up(life))
		return 0;
	all = histogram_told(&s.all);
	if (all.p50_us < SLOW_P50_US || all.p99_us < SLOW_P99_US)
		return 0;
	f = finding_get(a, VERDICT_NODE_SLOW, node, NONE, NONE, LINK_REASON_NONE);
	if (!f)
		return -ENOMEM;
	finding_seen(f, a->nodes[node].from_ns, a->nodes[node].to_ns);
	f->number[0] = all.p50_us;
	f->number[1] = all.p99_us;
	f->number[2] = s.slow_pairs;
	f->number[3] = s.pairs;
	return 0;
}

static int find_still(struct analysis *a, uint32_t node)
{
	const struct node *n = &a->nodes[node];
	struct finding *f;
	uint32_t i;

	for (i = 0; i < n->life->still_count; i++) {
		uint64_t from_ns = ref_time(a, n->agent, n->life->stills[i].from_ns);
		uint64_t length_ns = still_length(a, node, &n->life->stills[i]);

		if (length_ns < STILL_MIN_NS)
			continue;
		f = finding_get(a, VERDICT_NODE_SLOW, node, NONE, NONE, LINK_REASON_NONE);
		if (!f)
			return -ENOMEM;
		finding_seen(f, from_ns, from_ns + length_ns);
	}
	return 0;
}

static int find_stun(struct analysis *a, uint32_t node)
{
	const struct life *life = a->nodes[node].life;
	struct finding *f;

	if (!life->has_nic || life->nic.stun_in < STUN_REQUESTS || life->nic.stun_out)
		return 0;
	/* The map tells clients not to ask it: those that do have an old one. */
	if (a->nodes[node].map && a->nodes[node].map->stun_port < 0)
		return 0;
	f = finding_get(a, VERDICT_STUN_UNANSWERED, node, NONE, NONE, LINK_REASON_NONE);
	if (!f)
		return -ENOMEM;
	finding_seen(f, a->nodes[node].from_ns, a->nodes[node].to_ns);
	f->number[0] = life->nic.stun_in;
	return 0;
}

int find_nodes(struct analysis *a)
{
	uint32_t i;
	int err = 0;

	for (i = 0; !err && i < a->traced_count; i++) {
		err = find_restart(a, i);
		if (!err)
			err = find_refused(a, i);
		if (!err)
			err = find_slow(a, i);
		if (!err)
			err = find_still(a, i);
		if (!err)
			err = find_stun(a, i);
		if (!err)
			err = nic_find_drops(a, i);
	}
	return err;
}
