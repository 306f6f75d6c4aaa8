// SPDX-License-Identifier: BSD-2-Clause
/*
 * Claims: sockets that were there before us are named by cookie, and marked when a packet passes
 * them, or at once where their addresses find them.
 */
#include <errno.h>
#include <net/ethernet.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>

#include "capture/live.h"

#include "derptrace.skel.h"

#define POKE_BATCH	4096

static int claims_fd(const struct live *live)
{
	return bpf_map__fd(live->skel->maps.claims);
}

static int claim(struct live *live, uint64_t cookie, const struct abi_mark *mark)
{
	/* Set first: a claim that is not looked for is none. */
	live->skel->bss->claims_pending = 1;
	return bpf_map_update_elem(claims_fd(live), &cookie, mark, BPF_ANY);
}

/* --- listeners ------------------------------------------------------------------------------- */

static struct live_listener *listener_find(struct live *live, uint64_t cookie)
{
	struct live_listener *l;

	for (l = live->listeners; l && l->cookie != cookie; l = l->next)
		;
	return l;
}

uint32_t live_claim_slot(struct live *live, const struct relay *relay)
{
	struct live_listener *l;
	struct live_node *owner;
	size_t i;

	for (i = 0; i < relay->listener_count; i++) {
		l = listener_find(live, relay->listeners[i].cookie);
		owner = l ? live_node_of_slot(live, l->slot) : NULL;
		if (l && (!owner || owner->ended))
			return l->slot;
	}
	return ++live->last_slot;
}

int live_claim_listeners(struct live *live, struct live_node *node)
{
	struct abi_mark mark = { .slot = node->slot, .role = ABI_LISTENER };
	const struct relay_listener *r;
	struct live_listener *l;
	bool any = false;
	size_t i;
	int err;

	for (i = 0; node->listeners_marked && i < node->relay->listener_count; i++) {
		r = &node->relay->listeners[i];
		if (listener_find(live, r->cookie))
			continue;
		l = malloc(sizeof(*l));
		if (!l)
			return -ENOMEM;
		*l = (struct live_listener){ live->listeners, r->cookie, node->slot };
		live->listeners = l;
		err = claim(live, r->cookie, &mark);
		if (err)
			return err;
		any = true;
	}
	if (any)
		live_claim_poke(live, node);
	return 0;
}

/* --- connections ----------------------------------------------------------------------------- */

void live_claim_conn(struct live *live, struct live_conn *conn)
{
	struct abi_mark mark = {
		.slot = conn->node->slot,
		.role = conn->role == CAPTURE_DIALLED ? ABI_DIALLED : ABI_ACCEPTED,
	};

	/* Where there is no room it is tried again with the next dump. */
	if (!claim(live, conn->cookie, &mark))
		conn->claimed = true;
}

void live_claim_drop(struct live *live, struct live_conn *conn)
{
	if (conn->claimed)
		bpf_map_delete_elem(claims_fd(live), &conn->cookie);
	conn->claimed = false;
}

/* --- marking without a packet ---------------------------------------------------------------- */

struct pokes {
	int prog_fd;
	size_t count;
	struct poke {
		struct ether_header link; /* as a test run wants it; the program sees what follows */
		struct abi_poke poke;
	} __attribute__((packed)) all[POKE_BATCH];
};

static void run_pokes(void *arg)
{
	struct pokes *pokes = arg;
	size_t i;

	for (i = 0; i < pokes->count; i++) {
		LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = &pokes->all[i],
			    .data_size_in = sizeof(pokes->all[i]), .repeat = 1);

		/* One that fails waits for its socket's next packet. */
		if (bpf_prog_test_run_opts(pokes->prog_fd, &opts))
			return;
	}
}

static void poke_flush(struct pokes *pokes, const struct live_node *node)
{
	if (pokes->count)
		relay_netns_run(node->relay->netns, run_pokes, pokes);
	pokes->count = 0;
}

static void poke_add(struct pokes *pokes, const struct live_node *node, uint64_t cookie,
		     const struct addr *local, const struct addr *remote)
{
	struct poke *to;
	struct abi_poke poke = {
		.cookie = cookie, .ip = local->family, .local_port = local->port,
	};

	memcpy(poke.local, local->ip, sizeof(poke.local));
	if (remote) {
		poke.remote_port = remote->port;
		memcpy(poke.remote, remote->ip, sizeof(poke.remote));
	}
	if (pokes->count == POKE_BATCH)
		poke_flush(pokes, node);
	to = &pokes->all[pokes->count++];
	memset(&to->link, 0, sizeof(to->link));
	memcpy(&to->poke, &poke, sizeof(poke));
}

void live_claim_poke(struct live *live, struct live_node *node)
{
	struct pokes *pokes = malloc(sizeof(*pokes));
	struct live_conn *conn;
	size_t i;

	if (!pokes)
		return;
	pokes->prog_fd = bpf_program__fd(live->skel->progs.socket_poke);
	pokes->count = 0;
	for (i = 0; node->listeners_marked && i < node->relay->listener_count; i++)
		poke_add(pokes, node, node->relay->listeners[i].cookie,
			 &node->relay->listeners[i].addr, NULL);
	LIVE_EACH_CONN(live, conn) {
		if (conn->node == node && conn->claimed && !conn->closed)
			poke_add(pokes, node, conn->cookie, &conn->local, &conn->remote);
	}
	poke_flush(pokes, node);
	free(pokes);
}

/* --- upkeep ---------------------------------------------------------------------------------- */

void live_claims_update(struct live *live)
{
	uint64_t cookie;

	if (live->skel->bss->claims_pending &&
	    bpf_map_get_next_key(claims_fd(live), NULL, &cookie) == -ENOENT)
		live->skel->bss->claims_pending = 0;
}

void live_claims_free(struct live *live)
{
	struct live_listener *l;

	while ((l = live->listeners)) {
		live->listeners = l->next;
		free(l);
	}
}
