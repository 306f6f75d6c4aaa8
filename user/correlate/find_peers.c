/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is wrong with peers although nothing was lost by it yet: one key twice, handshakes without an
 * answer, connections that do not last, a sender that is held back. Peers that come and go in order
 * are none of these.
 */
#include "correlate/analysis.h"
#include "capture/capture.h"

#include <errno.h>
#include <string.h>

#define OVERLAP_NS	NSEC_PER_SEC
#define STAYS_COMPARED	32u	/* of one peer, the newest */
#define BREAKS		3u
#define SOON_NS		(60 * NSEC_PER_SEC)	/* a reconnect comes so soon after an end */
#define NOTICED_NS	NSEC_PER_SEC	/* so late an end may be noticed: sockets are polled */
#define RETRY_NS	(5 * NSEC_PER_SEC)

static uint64_t least(uint64_t x, uint64_t y)
{
	return x < y ? x : y;
}

static bool is_node_key(const struct analysis *a, uint32_t peer)
{
	uint32_t i;

	for (i = 0; i < a->node_count; i++) {
		if (key_equal(&a->nodes[i].key, &a->c->peers[peer]))
			return true;
	}
	return false;
}

static bool one_region(const struct analysis *a, uint32_t x, uint32_t y)
{
	return a->nodes[x].identity == a->nodes[y].identity || region_same(a, x, y);
}

/*
 * Was the older connection used after the newer one had come? One that its client has left without a
 * word is not: nobody sends on it, and nothing that is sent to it is acknowledged.
 */
static bool still_used(const struct analysis *a, const struct stay *old, const struct stay *new)
{
	const struct record_conn_facts *rec = &old->conn->rec;
	uint32_t agent = a->nodes[old->node].agent;
	uint64_t since = new->opened_ns + OVERLAP_NS;

	return ref_time(a, agent, rec->last_in_ns) > since ||
	       (ref_time(a, agent, rec->last_out_ns) > since && !rec->unacked && !rec->closed_ns);
}

static bool is_twice(const struct analysis *a, const struct stay *x, const struct stay *y,
		     uint64_t *overlap_ns)
{
	const struct stay *old = x->opened_ns <= y->opened_ns ? x : y, *new = old == x ? y : x;
	uint64_t end = least(least(old->closed_ns, new->closed_ns), a->end_ns);

	if (!one_region(a, x->node, y->node) || end < new->opened_ns + OVERLAP_NS)
		return false;
	/* Without a map these may be nodes of two regions, and a client may be in both. */
	if (x->node != y->node && !a->has_map &&
	    addr_equal_ip(&x->conn->rec.remote, &y->conn->rec.remote))
		return false;
	*overlap_ns = end - new->opened_ns;
	return still_used(a, old, new) && new->conn->rec.in_bytes;
}

static int twice(struct analysis *a, const struct stay *x, const struct stay *y, uint64_t overlap_ns)
{
	const struct stay *old = x->opened_ns <= y->opened_ns ? x : y, *new = old == x ? y : x;
	struct finding *f = finding_get(a, VERDICT_DUPLICATE_PEER, new->node, NONE, NONE,
					LINK_REASON_NONE);

	if (!f || !VEC_ROOM(a->notes, a->note_count, a->note_cap))
		return -ENOMEM;
	finding_about(f, f->src, x->peer);
	finding_seen(f, new->opened_ns, new->opened_ns + overlap_ns);
	a->notes[a->note_count++] = (struct note){ f - a->findings, x->peer, old->conn, new->conn,
						   overlap_ns };
	return 0;
}

/* The pair of connections that overlapped longest speaks for the key. */
static int find_twice(struct analysis *a, const struct stay *s, size_t count)
{
	const struct stay *x = NULL, *y = NULL;
	uint64_t most = 0, overlap;
	size_t i, j, from = count > STAYS_COMPARED ? count - STAYS_COMPARED : 0;

	for (i = from; i < count; i++) {
		for (j = i + 1; j < count; j++) {
			if (!is_twice(a, &s[i], &s[j], &overlap) || overlap <= most)
				continue;
			most = overlap;
			x = &s[i];
			y = &s[j];
		}
	}
	return x ? twice(a, x, y, most) : 0;
}

/* It did not end because the client wanted it to. */
static bool broke(const struct stay *s)
{
	const struct record_conn_facts *rec = &s->conn->rec;

	/* One that was never let in has not been lost. */
	if (!rec->closed_ns || ((rec->steps & STEP_CLIENT_INFO) && !(rec->steps & STEP_SERVER_INFO)))
		return false;
	return rec->how == CAPTURE_CLOSED_RST_IN || rec->how == CAPTURE_CLOSED_RST_OUT ||
	       rec->how == CAPTURE_CLOSED_TIMEOUT ||
	       (rec->how == CAPTURE_CLOSED_FIN && rec->fin_out && !rec->fin_in);
}

struct flaps {
	uint64_t count, lived_ns, first_ns, last_ns, idle_least_ns, idle_most_ns;
};

static void flap_add(const struct analysis *a, struct flaps *f, const struct stay *s)
{
	const struct record_conn_facts *rec = &s->conn->rec;
	uint64_t last = rec->last_in_ns > rec->last_out_ns ? rec->last_in_ns : rec->last_out_ns;
	uint64_t idle;

	last = ref_time(a, a->nodes[s->node].agent, last);
	idle = last && s->closed_ns > last ? s->closed_ns - last : 0;
	f->idle_least_ns = f->count ? least(f->idle_least_ns, idle) : idle;
	f->idle_most_ns = idle > f->idle_most_ns ? idle : f->idle_most_ns;
	f->count++;
	f->lived_ns += s->closed_ns > s->opened_ns ? s->closed_ns - s->opened_ns : 0;
	f->first_ns = f->first_ns ? least(f->first_ns, s->closed_ns) : s->closed_ns;
	f->last_ns = s->closed_ns > f->last_ns ? s->closed_ns : f->last_ns;
}

/* A client that was cut off comes back at once: the end of the old may be noticed after that. */
static bool follows(const struct stay *new, const struct stay *old)
{
	return new->opened_ns > old->opened_ns && new->opened_ns + NOTICED_NS >= old->closed_ns &&
	       new->opened_ns < old->closed_ns + SOON_NS;
}

/* Ends that were no good-bye, each followed by a new connection, on whichever node. */
static int find_flaps(struct analysis *a, const struct stay *s, size_t count)
{
	struct flaps flaps = { 0 };
	struct finding *f;
	size_t i, j;

	for (i = 0; i < count && count > BREAKS; i++) {
		if (!broke(&s[i]) || a->nodes[s[i].node].ended)
			continue;
		for (j = 0; j < count && !follows(&s[j], &s[i]);)
			j++;
		if (j < count)
			flap_add(a, &flaps, &s[i]);
	}
	if (flaps.count < BREAKS)
		return 0;
	f = finding_get(a, VERDICT_FLAPPING, s->node, NONE, NONE, LINK_CLOSED);
	if (!f)
		return -ENOMEM;
	finding_about(f, f->src, s->peer);
	finding_seen(f, flaps.first_ns, flaps.last_ns);
	f->number[3]++;
	if (flaps.count < f->number[0] ||
	    (flaps.count == f->number[0] &&
	     key_compare(&a->c->peers[f->peer], &a->c->peers[s->peer]) < 0))
		return 0;
	f->peer = s->peer;
	f->number[0] = flaps.count;
	f->number[1] = flaps.lived_ns / flaps.count;
	/* A middlebox's idle time-out: the same age each time. */
	f->number[2] = flaps.idle_least_ns > 20 * NSEC_PER_SEC &&
		       flaps.idle_most_ns < flaps.idle_least_ns + flaps.idle_least_ns / 10 ?
		       flaps.idle_most_ns : 0;
	return 0;
}

struct shakes {
	uint64_t count, first_ns, last_ns;
	uint32_t node;
};

/* Where the last of them went: what came before, at another node or in another life, was another try. */
static void shakes_of(const struct analysis *a, uint32_t pair, struct shakes *t)
{
	struct pair_row row;
	uint64_t last;
	size_t count, i;
	const struct place *p = pairs_places(a, pair, &count);

	*t = (struct shakes){ .node = NONE };
	for (i = 0; i < count; i++) {
		uint32_t agent = a->nodes[p[i].node].agent;

		pairs_row(a, &p[i], &row);
		last = ref_time(a, agent, row.wg_initiation_last_ns);
		if (!row.wg_initiations || last < t->last_ns)
			continue;
		*t = (struct shakes){
			.count = row.wg_initiations,
			.first_ns = ref_time(a, agent, row.wg_initiation_first_ns),
			.last_ns = last, .node = p[i].node,
		};
	}
}

/* Are there nodes that may have counted the pair among others, without a row of its own? */
static bool hidden_among_others(const struct analysis *a, uint32_t pair)
{
	const struct place *p;
	size_t count, i, j;

	p = pairs_places(a, pair, &count);
	for (i = 0; i < a->traced_count; i++) {
		for (j = 0; j < count && p[j].node != i;)
			j++;
		if (j == count && a->nodes[i].life->info.other_frames)
			return true;
	}
	return false;
}

/* No response of the reverse pair since then, and none that a relay may have lost. */
static bool unanswered(const struct analysis *a, uint32_t pair, uint64_t since_ns)
{
	const struct pair_ends *ends = &a->c->pairs[pair];
	uint32_t back = pair_find(a->c, ends->dst, ends->src);
	uint32_t nameless = pair_find(a->c, 0, ends->src);
	const struct place *p;
	struct pair_row row;
	size_t count, i;

	/* A sender whose key is not known may be the one that answered. */
	if (nameless && a->sums[nameless].entered)
		return false;
	if (hidden_among_others(a, back ? back : OTHER_PAIR))
		return false;
	if (!back)
		return true;
	if (a->sums[back].lost || a->sums[back].untraced)
		return false;
	p = pairs_places(a, back, &count);
	for (i = 0; i < count; i++) {
		pairs_row(a, &p[i], &row);
		if (ref_time(a, a->nodes[p[i].node].agent, row.wg_response_last_ns) >= since_ns)
			return false;
	}
	return true;
}

/* An answer that no tracer saw stands in no book: silence proves nothing then. */
static bool missed_segments(const struct analysis *a)
{
	size_t i;

	for (i = 0; i < a->c->agent_count; i++) {
		if (agent_missed(a, i))
			return true;
	}
	return false;
}

static int find_handshakes(struct analysis *a)
{
	struct finding *f;
	struct shakes t;
	uint32_t i;

	for (i = missed_segments(a) ? a->c->pair_count : 1; i < a->c->pair_count; i++) {
		const struct pair_ends *ends = &a->c->pairs[i];

		shakes_of(a, i, &t);
		/* WireGuard asks again after five seconds; the first may be answered yet. */
		if (!ends->src || !ends->dst || t.last_ns < t.first_ns + RETRY_NS ||
		    !unanswered(a, i, t.first_ns))
			continue;
		f = finding_get(a, VERDICT_HANDSHAKE_UNANSWERED, t.node, NONE, NONE, LINK_REASON_NONE);
		if (!f)
			return -ENOMEM;
		if (finding_share(a, f, i, t.count) < 0)
			return -ENOMEM;
		finding_about(f, ends->src, ends->dst);
		finding_seen(f, t.first_ns, t.last_ns);
		f->hop = HOP_CLIENT_OUT;
		f->number[0] += t.count;
	}
	return 0;
}

/* A mesh link that does not drain stops the reading of senders too; then that is the matter. */
static bool mesh_is_blocked(const struct life *life)
{
	size_t i;

	for (i = 0; i < life->conn_count; i++) {
		const struct conn *conn = life->conns[i];

		if (conn->rec.kind == CONN_MESH_OUT && (conn->mesh->stall.longest_ns ||
							(!conn->rec.closed_ns && conn->rec.notsent)))
			return true;
	}
	return false;
}

static int find_held(struct analysis *a, uint32_t node)
{
	const struct life *life = a->nodes[node].life;
	const struct held *h = &life->held;
	uint64_t first_ns = ref_time(a, life->agent, h->first_ns);
	uint64_t last_ns = ref_time(a, life->agent, h->last_ns);
	struct finding *f;

	/* One that stood still reads what has waited, and not all at once. */
	if (!h->last_ns || mesh_is_blocked(life) || still_at(a, node, first_ns, last_ns))
		return 0;
	f = finding_get(a, VERDICT_RATE_LIMITED, node, NONE, NONE, LINK_REASON_NONE);
	if (!f)
		return -ENOMEM;
	f->basis = BASIS_INFERRED;
	finding_about(f, h->several ? 0 : h->worst.peer, f->dst);
	finding_seen(f, first_ns, last_ns);
	f->peer = h->worst.peer;
	f->number[0] = h->worst.held_ns;
	f->number[1] = h->worst.rate;
	return 0;
}

int find_peers(struct analysis *a)
{
	size_t i, end;
	int err = 0;

	for (i = 0; !err && i < a->stay_count; i = end) {
		for (end = i; end < a->stay_count && a->stays[end].peer == a->stays[i].peer;)
			end++;
		if (is_node_key(a, a->stays[i].peer))
			continue;
		err = find_twice(a, &a->stays[i], end - i);
		if (!err)
			err = find_flaps(a, &a->stays[i], end - i);
	}
	if (!err)
		err = find_handshakes(a);
	for (i = 0; !err && i < a->traced_count; i++)
		err = find_held(a, i);
	return err;
}
