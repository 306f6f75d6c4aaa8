// SPDX-License-Identifier: BSD-2-Clause
/*
 * Relays come and go. A new one is claimed in this order: its process is known to the connect
 * programs, its listeners are claimed, and then its sockets are dumped until none is new: what is
 * accepted from then on inherits its listener's mark.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/clock.h"
#include "capture/gobin.h"
#include "capture/nic.h"

#include "derptrace.skel.h"

#define SETTLE_ROUNDS	20
#define OPTMEM_MIN	4096			/* below, a mark on a listener may refuse connections */
#define SCAN_NS		NSEC_PER_SEC		/* between looks for new relays, listeners */
#define SOON_NS		(30 * NSEC_PER_SEC)	/* after an end they are frequent */
#define YOUNG_NS	(10 * NSEC_PER_SEC)	/* after so long a relay listens, where it will */
#define LOOK_NS		(10 * NSEC_PER_SEC)	/* between dumps of all sockets */
#define LINGER_NS	(2 * NSEC_PER_SEC)	/* for what a dead process's sockets still send */

struct live_node *live_node_of_slot(struct live *live, uint32_t slot)
{
	struct live_node *node;

	/* Newest first: a slot that was handed on names the newer process. */
	for (node = live->nodes; node; node = node->next) {
		if (node->slot == slot)
			return node;
	}
	return NULL;
}

/* --- up -------------------------------------------------------------------------------------- */

static int settle(struct live *live, struct live_node *node)
{
	size_t new_count = 1;
	int i, err;

	for (i = 0; i < SETTLE_ROUNDS && new_count; i++) {
		err = relay_listeners_update(node->relay);
		if (!err)
			err = live_claim_listeners(live, node);
		if (!err)
			err = live_ask_node(live, node, &new_count);
		live_claim_poke(live, node);
		if (err)
			return err;
	}
	return 0;
}

static void node_free(struct live *live, struct live_node *node)
{
	struct live_node **at = &live->nodes;
	uint32_t pid = (uint32_t)node->relay->pid;

	nic_node_gone(live, node);
	live_search_cancel(node);
	live_node_held_free(node);
	live_probes_free(node);
	bpf_map_delete_elem(bpf_map__fd(live->skel->maps.relays), &pid);
	while (*at != node)
		at = &(*at)->next;
	*at = node->next;
	relay_free(live->finder, node->relay);
	free(node);
}

/* All that takes its time, and needs none of its sockets. */
static int node_prepare(struct live *live, struct live_node *node)
{
	const struct relay *relay = node->relay;
	uint32_t pid = (uint32_t)relay->pid;
	int err;

	node->listeners_marked = relay->netns->optmem_max < 0 ||
				 relay->netns->optmem_max >= OPTMEM_MIN;
	if (!node->listeners_marked)
		live_warn(live, "%s (pid %d): net.core.optmem_max is %ld: too little to mark its "
			  "listeners safely, the start of new connections is not traced; "
			  "raise it to 20480", relay->comm, (int)pid, relay->netns->optmem_max);
	err = bpf_map_update_elem(bpf_map__fd(live->skel->maps.relays), &pid, &node->slot,
				  BPF_ANY);
	if (err)
		return err;
	live_probes_attach(live, node);
	live_search_check(live, node);
	return 0;
}

static void refuse(struct live *live, struct live_node *node, int err)
{
	live_warn(live, "%s (pid %d) is not traced: its sockets could not be claimed: %s",
		  node->relay->comm, (int)node->relay->pid, strerror(-err));
	live_conns_forget(live, node);
	node_free(live, node);
}

/*
 * Nodes that were found together are claimed one right after the other: what one forwards in between
 * is not seen by the next, which has not been looked at yet.
 */
static void attach_found(struct live *live)
{
	struct live_node *node, *next;
	int err;

	for (node = live->nodes; node; node = next) {
		next = node->next;
		err = node->found ? node_prepare(live, node) : 0;
		if (err)
			refuse(live, node, err);
	}
	for (node = live->nodes; node; node = next) {
		next = node->next;
		if (!node->found)
			continue;
		node->found = false;
		err = settle(live, node);
		node->listened_ns = node->looked_ns = node->young_ns = clock_now_ns();
		/* What was there before us, and listens, has long begun to. */
		if (live->ready || !node->relay->listener_count)
			node->young_ns += YOUNG_NS;
		if (err)
			refuse(live, node, err);
	}
}

static void found_relay(void *ctx, struct relay *relay)
{
	struct live *live = ctx;
	struct live_node *node = calloc(1, sizeof(*node));

	if (!node) {
		relay_free(live->finder, relay);
		return;
	}
	node->relay = relay;
	node->slot = live_claim_slot(live, relay);
	node->id = ++live->last_node;
	node->provisional = !relay->proved;
	memcpy(node->software, gobin_info(relay->bin)->software, sizeof(node->software));
	node->next = live->nodes;
	node->found = true;
	live->nodes = node;
}

int live_nodes_find(struct live *live)
{
	int err;

	live->scan_ns = clock_now_ns();
	err = relay_find(live->finder, found_relay, live);
	attach_found(live);
	return err;
}

void live_node_announce(struct live *live, struct live_node *node)
{
	struct addr listeners[RELAY_LISTENERS_MAX];
	char hostname[128];
	struct capture_event event = {
		.type = CAPTURE_NODE_UP, .time_ns = clock_now_ns(), .node = node->id,
		.node_up = {
			.pid = node->relay->pid, .name = node->relay->comm,
			.software = node->software[0] ? node->software : NULL,
			.hostname = relay_hostname(node->relay->pid, hostname, sizeof(hostname)) ?
				    hostname : NULL,
			.listeners = listeners, .listener_count = node->relay->listener_count,
		},
	};
	size_t i;

	for (i = 0; i < node->relay->listener_count; i++)
		listeners[i] = node->relay->listeners[i].addr;
	node->announced = true;
	live_emit(live, &event);
	nic_node_up(live, node);
}

/* In the order in which they were found. */
static void announce_from(struct live *live, struct live_node *node)
{
	if (!node)
		return;
	announce_from(live, node->next);
	if (!node->announced && !node->provisional)
		live_node_announce(live, node);
	/* Not before secrets are told: what is set up until then is in its memory, or will be told. */
	if (!node->searched && live_probes_are_idle(node))
		live_search_start(live, node);
}

void live_nodes_announce(struct live *live)
{
	announce_from(live, live->nodes);
}

/* --- while it runs, and down ----------------------------------------------------------------- */

static bool has_ended(const struct live_node *node)
{
	struct pollfd p = { .fd = node->relay->pidfd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

/* At once: what becomes of its sockets may take seconds, and its successor may be there before. */
static void tell_end(struct live *live, const struct live_node *node)
{
	struct capture_event event = {
		.type = CAPTURE_NODE_ENDED, .time_ns = node->ended_ns, .node = node->id,
	};

	if (node->announced)
		live_emit(live, &event);
}

/*
 * Where does it listen? The kernel goes through a table of all listeners there may be, and what that puts
 * out of the caches is the relays': every tick is too often, but where accept queues are watched.
 */
static int listeners_watch(struct live *live, struct live_node *node, uint64_t now_ns)
{
	uint64_t before = node->relay->listening_sum;
	int err;

	if (!live->nics && !node->dump && now_ns > node->young_ns &&
	    now_ns - node->listened_ns < SCAN_NS)
		return 0;
	node->listened_ns = now_ns;
	err = relay_listeners_update(node->relay);
	/* What was accepted meanwhile is not marked. */
	node->dump |= node->relay->listening_sum != before;
	return err ? err : live_claim_listeners(live, node);
}

static void watch(struct live *live, struct live_node *node, uint64_t now_ns)
{
	uint32_t pid = (uint32_t)node->relay->pid;
	bool look;

	if (!node->ended && has_ended(node)) {
		node->ended = true;
		node->ended_ns = live->ended_ns = now_ns;
		tell_end(live, node);
		live_probes_detach(node);
		bpf_map_delete_elem(bpf_map__fd(live->skel->maps.relays), &pid);
	}
	if (node->ended)
		return;
	live_probes_tick(live, node, now_ns);
	live_node_look(live, node, now_ns);
	/* One that does not answer any more ends, and then has_ended(). */
	if (listeners_watch(live, node, now_ns))
		return;
	look = node->dump || !node->listeners_marked || now_ns - node->looked_ns > LOOK_NS;
	if (!look)
		return;
	node->looked_ns = now_ns;
	live_ask_node(live, node, NULL);
	live_claim_poke(live, node);
}

void live_nodes_watch(struct live *live, uint64_t now_ns)
{
	bool soon = live->ended_ns && now_ns - live->ended_ns < SOON_NS;
	struct live_node *node;

	for (node = live->nodes; node; node = node->next)
		watch(live, node, now_ns);
	/* A process that was asked for by its pid does not come back; others often do, at once. */
	if ((soon || now_ns - live->scan_ns >= SCAN_NS) && !live->options.filter.pid_count)
		live_nodes_find(live);
}

static bool is_over(struct live_node *node, uint64_t now_ns)
{
	return node->ended && live_probes_are_gone(node) && !node->search &&
	       (!node->connections || now_ns - node->ended_ns > LINGER_NS);
}

void live_nodes_expire(struct live *live, uint64_t now_ns)
{
	struct capture_event event = { .type = CAPTURE_NODE_DOWN, .time_ns = now_ns };
	struct live_node *node, *next;

	for (node = live->nodes; node; node = next) {
		next = node->next;
		if (!is_over(node, now_ns))
			continue;
		live_conns_forget(live, node);
		event.node = node->id;
		if (node->announced)
			live_emit(live, &event);
		node_free(live, node);
	}
}

void live_nodes_wait(struct live *live)
{
	struct live_node *node;

	for (node = live->nodes; node; node = node->next)
		live_probes_wait(live, node);
}

void live_nodes_free(struct live *live)
{
	struct live_node *node;

	/* All at once: each takes its time. */
	for (node = live->nodes; node; node = node->next)
		live_probes_detach(node);
	while (live->nodes)
		node_free(live, live->nodes);
}
