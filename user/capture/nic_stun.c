// SPDX-License-Identifier: BSD-2-Clause
/*
 * STUN: whose sockets are asked, and their answers. Requests are counted at the network card, and
 * once more at the socket; answers at the socket, where they leave. A port at which nobody answers is
 * watched for the first relay of the namespace: clients may have been told that it answers there.
 */
#include "capture/nic.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "derptrace.skel.h"

#define STUN_PORT	3478

/* What listens for UDP in a namespace. */
struct udp {
	struct sockdiag_socket *all;
	size_t count, room;
	uint64_t sum;
	int err;
};

static void found_udp(void *ctx, const struct sockdiag_socket *s)
{
	struct sockdiag_socket *bigger;
	struct udp *u = ctx;

	if (u->count == u->room) {
		u->room = u->room ? u->room * 2 : 16;
		bigger = realloc(u->all, u->room * sizeof(*bigger));
		if (!bigger) {
			u->room = u->count;
			u->err = -ENOMEM;
			return;
		}
		u->all = bigger;
	}
	u->all[u->count++] = *s;
	u->sum += s->cookie * 0x9e3779b97f4a7c15ull + s->inode;
}

static int stun_fd(const struct live *live)
{
	return bpf_map__fd(live->skel->maps.stun_sockets);
}

/* A port's bit is never taken back: it only says where a look is worth while. */
static bool watch(struct live *live, struct nic_space *space, const struct sockdiag_socket *s,
		  uint32_t number)
{
	const struct abi_stun zero = { 0 };
	struct nic_stun *stun;
	size_t i;

	for (i = 0; i < space->stun_count; i++) {
		if (space->stun[i].cookie == s->cookie) {
			space->stun[i].seen = true;
			return true;
		}
	}
	if (space->stun_count == NIC_STUN_MAX ||
	    bpf_map_update_elem(stun_fd(live), &s->cookie, &zero, BPF_ANY))
		return false;
	stun = &space->stun[space->stun_count++];
	*stun = (struct nic_stun){ .cookie = s->cookie, .at = s->local, .node = number, .seen = true };
	live->skel->bss->stun_ports[s->local.port / 64] |= 1ull << s->local.port % 64;
	live->skel->bss->stun_wanted = 1;
	return true;
}

static void read_one(struct live *live, struct nic_space *space, struct nic_stun *stun)
{
	struct nic_stun_sum *sum = &space->stun_sums[stun->node];
	struct abi_stun now;

	if (bpf_map_lookup_elem(stun_fd(live), &stun->cookie, &now))
		return;
	sum->requests += now.requests - stun->told.requests;
	sum->answers += now.answers - stun->told.answers;
	stun->told = now;
}

static void forget_unseen(struct live *live, struct nic_space *space, bool all)
{
	size_t i, kept = 0;

	for (i = 0; i < space->stun_count; i++) {
		struct nic_stun *stun = &space->stun[i];

		if (stun->seen && !all) {
			space->stun[kept++] = *stun;
			continue;
		}
		read_one(live, space, stun);
		bpf_map_delete_elem(stun_fd(live), &stun->cookie);
	}
	space->stun_count = kept;
}

/* Those of a relay's own, and who else has the port that STUN is asked at by default. */
static void pick(struct live *live, struct nic_space *space, const struct udp *u)
{
	bool taken = false;
	uint32_t *inodes, number;
	size_t i, count;

	for (number = 0; number < ABI_WIRE_NODES; number++) {
		if (!space->nodes[number] ||
		    relay_socket_inodes(space->nodes[number]->relay->pid, &inodes, &count))
			continue;
		for (i = 0; i < u->count; i++) {
			if (relay_holds_inode(inodes, count, u->all[i].inode))
				watch(live, space, &u->all[i], number);
		}
		free(inodes);
	}
	for (i = 0; i < u->count; i++)
		taken |= u->all[i].local.port == STUN_PORT;
	space->stun_free = !taken;
}

bool nic_stun_update(struct live *live, struct nic_space *space, bool anew)
{
	struct udp u = { .sum = 1 };
	int err = sockdiag_dump_udp(space->netns->sockdiag, found_udp, &u);
	bool changed = !err && !u.err && (anew || u.sum != space->udp_sum);
	size_t i;

	if (changed) {
		for (i = 0; i < space->stun_count; i++)
			space->stun[i].seen = false;
		pick(live, space, &u);
		forget_unseen(live, space, false);
		space->udp_sum = u.sum;
	}
	free(u.all);
	return changed;
}

void nic_stun_endpoints(const struct nic_space *space, nic_stun_at at, void *ctx)
{
	const struct addr any = { .family = 6, .port = STUN_PORT };
	uint32_t number;
	size_t i;

	for (i = 0; i < space->stun_count; i++)
		at(ctx, &space->stun[i].at, space->stun[i].node);
	for (number = 0; number < ABI_WIRE_NODES && !space->nodes[number]; number++)
		;
	if (space->stun_free && number < ABI_WIRE_NODES)
		at(ctx, &any, number);
}

void nic_stun_read(struct live *live, struct nic_space *space)
{
	size_t i;

	for (i = 0; i < space->stun_count; i++)
		read_one(live, space, &space->stun[i]);
}

bool nic_stun_listens(const struct nic_space *space, uint32_t node)
{
	size_t i;

	for (i = 0; i < space->stun_count; i++) {
		if (space->stun[i].node == node)
			return true;
	}
	return false;
}

void nic_stun_free(struct live *live, struct nic_space *space)
{
	forget_unseen(live, space, true);
}
