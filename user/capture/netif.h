/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * netif: the interfaces of a network namespace and their addresses, as rtnetlink tells them, and
 * that something about them has changed.
 */
#ifndef DT_CAPTURE_NETIF_H
#define DT_CAPTURE_NETIF_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"

#define NETIF_MAX	1024	/* interfaces that are looked at; addresses four times as many */

#define NETIF_DRIVER_LEN 32

enum netif_xdp { NETIF_XDP_NONE, NETIF_XDP_NATIVE, NETIF_XDP_GENERIC, NETIF_XDP_CARD, NETIF_XDP_SEVERAL };

struct netif {
	uint32_t index;
	char name[IF_NAMESIZE];
	bool up;
	bool loopback;		/* or a dummy: its addresses are reached through others */
	uint32_t lower;		/* the one that it is a VLAN, or another address of; 0: none in sight */
	uint32_t master;	/* the bridge or bond whose port it is, 0: none */
	bool bare;		/* its packets have no link header */
	bool strange;		/* neither Ethernet nor bare: its packets cannot be read */
	enum netif_xdp xdp;
	uint32_t xdp_prog;	/* id of a program that is attached, 0: none */
};

struct netif_addr {
	uint32_t index;		/* of the interface */
	bool reachable;		/* from outside its own link: neither loopback nor link-local */
	struct addr addr;	/* port 0 */
};

struct netifs {
	struct netif *all;	/* by index, ascending */
	size_t count, room;
	struct netif_addr *addrs;
	size_t addr_count, addr_room;
	/* private */
	struct mnl_socket *ask, *listen;
	int ioctl_fd;
	uint32_t seq;
	bool dirty;
	int err;
};

/* Of the calling thread's network namespace, whatever it enters later. NULL with errno set. */
struct netifs *netifs_open(void);
/* Accepts NULL. */
void netifs_close(struct netifs *n);
/* Has anything changed since the last look? Cheap. */
bool netifs_changed(struct netifs *n);
/* Read all of it anew. 0, or -errno: what was there is kept. */
int netifs_look(struct netifs *n);
/* "veth", "virtio_net"; empty: it does not say. */
void netifs_driver(const struct netifs *n, const struct netif *of, char driver[static NETIF_DRIVER_LEN]);
/* NULL where there is none. */
const struct netif *netifs_find(const struct netifs *n, uint32_t index);

#endif
