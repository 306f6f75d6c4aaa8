/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nic: what reaches the network cards, by XDP. For each network namespace that relays live in, a
 * copy of the program, attached to the interfaces that carry their listening addresses. It holds on
 * to them by links: whatever ends the tracer takes it off. A program of somebody else's stays.
 *
 * nic.c		namespaces, nodes, counters
 * nic_attach.c		which interfaces, in which mode; interfaces come, go and change
 * nic_endpoints.c	which addresses and ports are whose
 * nic_stun.c		STUN sockets
 * nic_flows.c		what reached the card and not the socket
 */
#ifndef DT_CAPTURE_NIC_H
#define DT_CAPTURE_NIC_H

#include "capture/live.h"
#include "capture/netif.h"

struct wire_bpf;

struct nic_interface {
	struct nic_interface *next;
	uint32_t index;
	char name[IF_NAMESIZE];
	bool up, native;
	int link_fd;		/* -1: not attached */
	bool refused;		/* and why was said */
	bool occupied;		/* that is: another program is on it */
	bool seen;		/* in the running look */
};

/* An address and port of a node's, as the program knows it. */
struct nic_endpoint {
	UT_hash_handle hh;
	struct abi_wire_endpoint key;
	uint32_t node;
	unsigned int dials;	/* connections of the relay's own making that use it */
	bool listening, seen;
};

/* A UDP socket of a relay's. */
struct nic_stun {
	uint64_t cookie;
	struct addr at;
	uint32_t node;
	bool seen;
	struct abi_stun told;		/* counted so far */
};

#define NIC_STUN_MAX	64

struct nic_stun_sum {
	uint64_t requests, answers;
};

/* Of one connection what reached the card and not the socket, or what may turn out to be so. */
struct nic_drop {
	UT_hash_handle hh;
	struct abi_wire_key key;
	uint64_t packets, first_ns, last_ns; /* as told */
	uint64_t stuck_ns;		/* data: since when TCP stands at @rcv_nxt */
	uint32_t rcv_nxt, duplicates;	/* then */
};

struct nic_space {
	struct nic_space *next;
	const struct relay_netns *netns;	/* as long as there are nodes */
	struct wire_bpf *skel;
	uint32_t prog_ids[2];
	struct netifs *netifs;
	struct nic_interface *interfaces;
	struct nic_endpoint *endpoints;
	bool endpoints_full;			/* and it was said */
	struct live_node *nodes[ABI_WIRE_NODES];
	struct abi_wire_totals base[ABI_WIRE_NODES]; /* when the number was given out */
	uint64_t listening_sum;			/* as the endpoints were made for it */
	uint64_t looked_ns;
	struct nic_stun stun[NIC_STUN_MAX];
	size_t stun_count;
	struct nic_stun_sum stun_sums[ABI_WIRE_NODES]; /* since the number was given out */
	bool stun_free;				/* nobody has the port that STUN is asked at */
	uint64_t udp_sum, udp_ns;
	struct nic_drop *drops;
	uint64_t drop_counts[ABI_WIRE_NODES];
	uint64_t flows_ns;
	uint64_t blind_ns;			/* until then handshakes were not counted at sockets */
};

/* A node is announced: look at its cards. It stays as it is where they cannot be looked at. */
void nic_node_up(struct live *live, struct live_node *node);
/* Before the node is freed. Accepts one that was never up. */
void nic_node_gone(struct live *live, struct live_node *node);
/* A connection that a relay dialled is there, is gone. */
void nic_dial(struct live *live, struct live_conn *conn);
void nic_undial(struct live_conn *conn);
/* Follow what changes, tell the counters: NIC, SAY. */
void nic_tick(struct live *live, uint64_t now_ns);

/* Run time of the programs so far, where it is counted. @ctx: struct live. */
uint64_t nic_run_ns(const void *ctx);

/* --- nic_attach.c ---------------------------------------------------------------------------- */

/* Look at the interfaces anew: attach to those that are wanted, say what has changed. */
void nic_attach(struct live *live, struct nic_space *space);
void nic_detach(struct nic_space *space);

/* --- nic_endpoints.c ------------------------------------------------------------------------- */

/* Does one of its nodes accept connections at this address? */
bool nic_is_listened(const struct nic_space *space, const struct addr *addr);
/* Bring the program's list in line with listeners and addresses. */
void nic_endpoints_update(struct live *live, struct nic_space *space);
void nic_endpoints_free(struct nic_space *space);

/* --- nic_stun.c ------------------------------------------------------------------------------ */

/* Look for the relays' UDP sockets. True where they have changed; @anew: the relays have. */
bool nic_stun_update(struct live *live, struct nic_space *space, bool anew);
/* Each address and port that STUN is asked at, and by whom it is to be answered. */
typedef void (*nic_stun_at)(void *ctx, const struct addr *at, uint32_t node);
void nic_stun_endpoints(const struct nic_space *space, nic_stun_at at, void *ctx);
/* Bring the sums up to date. */
void nic_stun_read(struct live *live, struct nic_space *space);
bool nic_stun_listens(const struct nic_space *space, uint32_t node);
void nic_stun_free(struct live *live, struct nic_space *space);

/* --- nic_flows.c ----------------------------------------------------------------------------- */

/* Once a second: NIC_DROP. */
void nic_flows_look(struct live *live, struct nic_space *space, uint64_t now_ns);
void nic_flows_free(struct nic_space *space);

#endif
