// SPDX-License-Identifier: BSD-2-Clause
/* Which addresses and ports are whose: listeners times addresses, STUN, and what relays dial from. */
#include "capture/nic.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "wire.skel.h"

static bool is_any(const struct addr *a)
{
	static const uint8_t zero[16];

	return !memcmp(a->ip, zero, sizeof(zero));
}

/* One that listens on [::] may take IPv4 as well. */
static bool accepts(const struct addr *listener, const struct addr *a)
{
	if (is_any(listener))
		return listener->family == a->family || listener->family == 6;
	return addr_equal_ip(listener, a);
}

bool nic_is_listened(const struct nic_space *space, const struct addr *addr)
{
	size_t i, j;

	for (i = 0; i < ABI_WIRE_NODES; i++) {
		const struct relay *relay = space->nodes[i] ? space->nodes[i]->relay : NULL;

		for (j = 0; relay && j < relay->listener_count; j++) {
			if (accepts(&relay->listeners[j].addr, addr))
				return true;
		}
	}
	return false;
}

/* --- the program's list ---------------------------------------------------------------------- */

static struct nic_endpoint *get(struct live *live, struct nic_space *space, const struct addr *addr,
				uint16_t port, uint8_t proto, uint32_t node)
{
	struct abi_wire_endpoint key = { .port = port, .proto = proto, .family = addr->family };
	struct nic_endpoint *e;

	memcpy(key.ip, addr->ip, sizeof(key.ip));
	HASH_FIND(hh, space->endpoints, &key, sizeof(key), e);
	if (e && e->node == node)
		return e;
	if (bpf_map_update_elem(bpf_map__fd(space->skel->maps.endpoints), &key, &node, BPF_ANY)) {
		if (!space->endpoints_full)
			live_say(live, false, "more addresses and ports to watch than %d: the rest is not "
				 "counted at the network card", ABI_WIRE_ENDPOINTS);
		space->endpoints_full = true;
		return NULL;
	}
	if (e) {
		e->node = node;
		return e;
	}
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->key = key;
	e->node = node;
	HASH_ADD(hh, space->endpoints, key, sizeof(e->key), e);
	return e;
}

static void put(struct nic_space *space, struct nic_endpoint *e)
{
	if (e->listening || e->dials)
		return;
	bpf_map_delete_elem(bpf_map__fd(space->skel->maps.endpoints), &e->key);
	HASH_DEL(space->endpoints, e);
	free(e);
}

static void listen_at(struct live *live, struct nic_space *space, const struct addr *addr,
		      uint16_t port, uint8_t proto, uint32_t node)
{
	struct nic_endpoint *e = get(live, space, addr, port, proto, node);

	if (e)
		e->listening = e->seen = true;
}

static void add_node(struct live *live, struct nic_space *space, uint32_t number)
{
	const struct relay *relay = space->nodes[number]->relay;
	size_t i, j;

	for (i = 0; i < space->netifs->addr_count; i++) {
		const struct netif_addr *a = &space->netifs->addrs[i];

		for (j = 0; a->reachable && j < relay->listener_count; j++) {
			if (accepts(&relay->listeners[j].addr, &a->addr))
				listen_at(live, space, &a->addr, relay->listeners[j].addr.port,
					  IPPROTO_TCP, number);
		}
	}
}

struct stun_place {
	struct live *live;
	struct nic_space *space;
};

static void add_stun(void *ctx, const struct addr *at, uint32_t node)
{
	const struct stun_place *place = ctx;
	const struct netifs *n = place->space->netifs;
	size_t i;

	for (i = 0; i < n->addr_count; i++) {
		if (n->addrs[i].reachable && accepts(at, &n->addrs[i].addr))
			listen_at(place->live, place->space, &n->addrs[i].addr, at->port, IPPROTO_UDP,
				  node);
	}
}

void nic_endpoints_update(struct live *live, struct nic_space *space)
{
	struct stun_place place = { live, space };
	struct nic_endpoint *e, *next;
	uint32_t number;

	for (e = space->endpoints; e; e = e->hh.next)
		e->seen = false;
	for (number = 0; number < ABI_WIRE_NODES; number++) {
		if (space->nodes[number])
			add_node(live, space, number);
	}
	nic_stun_endpoints(space, add_stun, &place);
	HASH_ITER(hh, space->endpoints, e, next) {
		e->listening = e->seen;
		put(space, e);
	}
}

void nic_endpoints_free(struct nic_space *space)
{
	struct nic_endpoint *e, *next;

	HASH_ITER(hh, space->endpoints, e, next) {
		HASH_DEL(space->endpoints, e);
		free(e);
	}
}

/* --- what relays dial ------------------------------------------------------------------------ */

void nic_dial(struct live *live, struct live_conn *conn)
{
	struct nic_space *space = conn->node->nic;
	struct nic_endpoint *e;

	if (!space || conn->role != CAPTURE_DIALLED || conn->watched)
		return;
	e = get(live, space, &conn->local, conn->local.port, IPPROTO_TCP, conn->node->nic_number);
	if (!e)
		return;
	e->dials++;
	conn->watched = true;
}

void nic_undial(struct live_conn *conn)
{
	struct nic_space *space = conn->node->nic;
	struct abi_wire_endpoint key = {
		.port = conn->local.port, .proto = IPPROTO_TCP, .family = conn->local.family,
	};
	struct nic_endpoint *e;

	if (!space || !conn->watched)
		return;
	conn->watched = false;
	memcpy(key.ip, conn->local.ip, sizeof(key.ip));
	HASH_FIND(hh, space->endpoints, &key, sizeof(key), e);
	if (!e || !e->dials)
		return;
	e->dials--;
	put(space, e);
}
