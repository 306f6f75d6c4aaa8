// SPDX-License-Identifier: BSD-2-Clause
/*
 * Connections whose packets reached the network card and not the socket. Told only where nothing else
 * can be: what the far end sends again, and again, and this host has had all the time.
 *
 * A SYN that came twice, unanswered: the host dropped it, before the listener or at it. One that was
 * answered was not dropped, even where the answer did not arrive.
 *
 * Data: TCP has accepted all before rcv_nxt; the bytes from there on have passed the card, without a
 * hole, came again three times, and a second later TCP still has not accepted them, though the relay
 * has read all that it has. A hole that the network made is none at the card either.
 */
#include "capture/nic.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/clock.h"
#include "wire.h"

#include "derptrace.skel.h"
#include "wire.skel.h"

#define LOOK_NS		NSEC_PER_SEC
#define SYN_SPAN_NS	(900 * NSEC_PER_MSEC)	/* TCP sends one again after a second */
#define SYN_QUIET_NS	(700 * NSEC_PER_MSEC)	/* so long nothing followed it */
#define RECENT_NS	(3 * NSEC_PER_SEC)
#define AGAIN		3u			/* times that data must have come again */
#define STUCK_NS	(900 * NSEC_PER_MSEC)
#define BATCH		512u
#define SUSPECTS_MAX	64u			/* connections that are asked after, in one look */
#define DROPS_KEPT	256u

struct suspect {
	struct abi_wire_key key;
	struct abi_wire_flow flow;
	struct live_conn *conn;
};

struct look {
	struct live *live;
	struct nic_space *space;
	uint64_t now_ns;
	struct suspect suspects[SUSPECTS_MAX];
	size_t suspect_count;
	struct sockdiag_query queries[SUSPECTS_MAX];
	size_t query_count;
};

static void addrs_of(const struct abi_wire_key *key, const struct abi_wire_flow *f, struct addr *local,
		     struct addr *remote)
{
	addr_set(local, f->family, key->daddr, key->dport);
	addr_set(remote, f->family, key->saddr, key->sport);
}

static struct live_conn *conn_at(struct live *live, const struct live_node *node,
				 const struct addr *local, const struct addr *remote)
{
	struct live_conn *conn;

	LIVE_EACH_CONN(live, conn) {
		if (conn->node == node && addr_equal(&conn->remote, remote) &&
		    addr_equal(&conn->local, local))
			return conn;
	}
	return NULL;
}

/* --- what was found -------------------------------------------------------------------------- */

static struct nic_drop *drop_get(struct nic_space *space, const struct abi_wire_key *key)
{
	struct nic_drop *d, *next, *oldest = NULL;

	HASH_FIND(hh, space->drops, key, sizeof(*key), d);
	if (d)
		return d;
	if (HASH_COUNT(space->drops) >= DROPS_KEPT) {
		HASH_ITER(hh, space->drops, d, next) {
			if (!oldest || d->last_ns < oldest->last_ns)
				oldest = d;
		}
		HASH_DEL(space->drops, oldest);
		free(oldest);
	}
	d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	d->key = *key;
	HASH_ADD(hh, space->drops, key, sizeof(d->key), d);
	return d;
}

static void tell_drop(struct look *k, struct nic_drop *d, const struct abi_wire_flow *f,
		      struct capture_nic_drop *drop, uint64_t conn)
{
	struct live_node *node = k->space->nodes[f->node];
	struct capture_event event = {
		.type = CAPTURE_NIC_DROP, .time_ns = k->now_ns, .node = node->id, .conn = conn,
	};

	if (d->packets == drop->packets && d->first_ns == drop->first_ns)
		return;
	if (d->first_ns != drop->first_ns && drop->kind != CAPTURE_NIC_ANSWERED)
		k->space->drop_counts[f->node]++;
	d->packets = drop->packets;
	d->first_ns = drop->first_ns;
	d->last_ns = drop->last_ns;
	addrs_of(&d->key, f, &drop->local, &drop->remote);
	event.nic_drop = *drop;
	live_emit(k->live, &event);
}

/* --- SYN ------------------------------------------------------------------------------------- */

static bool backlog_is_full(const struct live_node *node, const struct addr *local)
{
	const struct relay_listener *l = relay_listener_of(node->relay, local);

	return l && l->waiting > l->backlog;
}

/*
 * The newest may be answered at this very moment: it counts once nothing has followed it for a while.
 * Those before it count already, as a SYN that comes every second would else be looked at too early
 * each time.
 */
static void judge_syn(struct look *k, const struct abi_wire_key *key, const struct abi_wire_flow *f)
{
	const struct live_node *node = k->space->nodes[f->node];
	bool newest = k->now_ns >= clock_from_monotonic_ns(f->last_ns) + SYN_QUIET_NS;
	uint64_t last_ns = newest ? f->last_ns : f->syn_before_ns;
	struct capture_nic_drop drop = {
		.kind = CAPTURE_NIC_DROP_BEFORE, .packets = newest ? f->syn : f->syn - 1,
		.first_ns = clock_from_monotonic_ns(f->syn_ns),
		.last_ns = clock_from_monotonic_ns(last_ns),
	};
	struct abi_handshake h = { 0 };
	struct addr local, remote;
	const struct live_conn *conn;
	struct nic_drop *d;

	if (drop.packets < 2 || last_ns - f->syn_ns < SYN_SPAN_NS ||
	    k->now_ns > drop.last_ns + 10 * RECENT_NS || !node->listeners_marked)
		return;
	addrs_of(key, f, &local, &remote);
	conn = conn_at(k->live, node, &local, &remote);
	/* Of a dial it is the answer that comes in vain; any other connection there has come about. */
	if (conn && !conn->dialling)
		return;
	if (!conn && !bpf_map_lookup_elem(bpf_map__fd(k->live->skel->maps.handshakes), key, &h)) {
		drop.kind = h.answers ? CAPTURE_NIC_ANSWERED :
			    backlog_is_full(node, &local) ? CAPTURE_NIC_DROP_BACKLOG :
							    CAPTURE_NIC_DROP_LISTENER;
	}
	d = drop_get(k->space, key);
	if (d)
		tell_drop(k, d, f, &drop, conn ? conn->cookie : 0);
}

/* The last part of a handshake is dropped where the queue of those to be accepted is full. */
static void judge_handshake(struct look *k, const struct abi_wire_key *key,
			    const struct abi_wire_flow *f)
{
	const struct live_node *node = k->space->nodes[f->node];
	struct capture_nic_drop drop = {
		.kind = CAPTURE_NIC_DROP_BACKLOG, .packets = f->packets - f->syn, .bytes = f->bytes,
		.first_ns = clock_from_monotonic_ns(f->syn_ns),
		.last_ns = clock_from_monotonic_ns(f->last_ns),
	};
	struct abi_handshake h = { 0 };
	struct addr local, remote;
	struct nic_drop *d;

	addrs_of(key, f, &local, &remote);
	if (!f->syn || f->fin || f->rst || !backlog_is_full(node, &local) ||
	    conn_at(k->live, node, &local, &remote) ||
	    bpf_map_lookup_elem(bpf_map__fd(k->live->skel->maps.handshakes), key, &h) || h.answers < 2)
		return;
	d = drop_get(k->space, key);
	if (d)
		tell_drop(k, d, f, &drop, 0);
}

/* --- data ------------------------------------------------------------------------------------ */

static void on_answer(void *ctx, const struct sockdiag_query *q, const struct sockdiag_socket *s)
{
	struct suspect *suspect = q->user;
	struct look *k = ctx;
	const struct abi_wire_flow *f = &suspect->flow;
	struct live_conn *conn = suspect->conn;
	struct capture_nic_drop drop = { .kind = CAPTURE_NIC_DROP_DATA };
	struct nic_drop *d;
	uint32_t rcv_nxt;

	if (!s || !s->has_info || s->state != TCP_ESTABLISHED || s->rqueue)
		return;
	rcv_nxt = conn->base_in + (uint32_t)s->bytes_received;
	if (wire_after(f->base, rcv_nxt) || !wire_after(f->next, rcv_nxt))
		return;
	/* What passed the socket's hook, whatever TCP made of it, was not dropped before it. */
	if (conn->has_in && !wire_after(f->next, conn->in_end))
		return;
	d = drop_get(k->space, &suspect->key);
	if (!d)
		return;
	if (!d->stuck_ns || d->rcv_nxt != rcv_nxt) {
		d->stuck_ns = k->now_ns;
		d->rcv_nxt = rcv_nxt;
		d->duplicates = f->duplicates;
		return;
	}
	if (k->now_ns - d->stuck_ns < STUCK_NS || f->duplicates == d->duplicates)
		return;
	drop.packets = f->duplicates - d->duplicates;
	drop.bytes = f->next - rcv_nxt;
	drop.first_ns = d->stuck_ns;
	drop.last_ns = clock_from_monotonic_ns(f->last_ns);
	tell_drop(k, d, f, &drop, conn->cookie);
}

static void ask_suspects(struct look *k)
{
	struct live_conn *conn;
	struct addr local, remote;
	struct suspect *s;
	size_t i;

	for (i = 0; i < k->suspect_count; i++)
		k->suspects[i].conn = NULL;
	LIVE_EACH_CONN(k->live, conn) {
		for (i = 0; i < k->suspect_count; i++) {
			s = &k->suspects[i];
			addrs_of(&s->key, &s->flow, &local, &remote);
			if (conn->closed || !conn->has_base || (conn->base_guessed && !conn->has_in) ||
			    conn->node != k->space->nodes[s->flow.node] ||
			    !addr_equal(&conn->remote, &remote) || !addr_equal(&conn->local, &local))
				continue;
			s->conn = conn;
			k->queries[k->query_count++] = (struct sockdiag_query){
				.local = local, .remote = remote, .ifindex = conn->ifindex,
				.cookie = conn->cookie, .user = s,
			};
			break;
		}
		if (k->query_count == SUSPECTS_MAX)
			break;
	}
	if (k->query_count)
		sockdiag_ask(k->space->netns->sockdiag, k->queries, k->query_count, on_answer, k);
}

/* --- the look -------------------------------------------------------------------------------- */

static void judge(struct look *k, const struct abi_wire_key *key, const struct abi_wire_flow *f)
{
	uint64_t last_ns = clock_from_monotonic_ns(f->last_ns);

	if (f->node >= ABI_WIRE_NODES || !k->space->nodes[f->node] ||
	    clock_from_monotonic_ns(f->first_ns) < k->space->blind_ns)
		return;
	if (f->syn && f->packets == f->syn) {
		judge_syn(k, key, f);
		return;
	}
	if (f->duplicates < AGAIN || k->now_ns > last_ns + RECENT_NS || !f->followed)
		return;
	judge_handshake(k, key, f);
	if (k->suspect_count < SUSPECTS_MAX) {
		k->suspects[k->suspect_count].key = *key;
		k->suspects[k->suspect_count++].flow = *f;
	}
}

static void read_flows(struct look *k)
{
	struct abi_wire_key *keys = calloc(BATCH, sizeof(*keys));
	struct abi_wire_flow *values = calloc(BATCH, sizeof(*values));
	int fd = bpf_map__fd(k->space->skel->maps.flows), err = 0;
	uint32_t at = 0, next, count, i, turns;

	/* As long as a flood goes on new ones may come up for ever. */
	for (turns = 0; keys && values && !err && turns < 2 * ABI_WIRE_FLOWS / BATCH; turns++) {
		count = BATCH;
		err = bpf_map_lookup_batch(fd, turns ? &at : NULL, &next, keys, values, &count, NULL);
		for (i = 0; (!err || err == -ENOENT) && i < count; i++)
			judge(k, &keys[i], &values[i]);
		at = next;
	}
	free(keys);
	free(values);
}

void nic_flows_look(struct live *live, struct nic_space *space, uint64_t now_ns)
{
	struct look *k;

	/* While the sockets' programs are silent there is nothing to hold the card against. */
	if (live->level == CAPTURE_LEVEL_OFF)
		space->blind_ns = now_ns;
	if (now_ns - space->flows_ns < LOOK_NS || live->level == CAPTURE_LEVEL_OFF)
		return;
	space->flows_ns = now_ns;
	k = calloc(1, sizeof(*k));
	if (!k)
		return;
	k->live = live;
	k->space = space;
	k->now_ns = now_ns;
	read_flows(k);
	/* After the flows were read: what the socket says is newer than what the card had. */
	ask_suspects(k);
	free(k);
}

void nic_flows_free(struct nic_space *space)
{
	struct nic_drop *d, *next;

	HASH_ITER(hh, space->drops, d, next) {
		HASH_DEL(space->drops, d);
		free(d);
	}
}
