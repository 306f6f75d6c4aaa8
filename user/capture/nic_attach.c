// SPDX-License-Identifier: BSD-2-Clause
/*
 * Interfaces: those that carry an address at which a relay listens, loopback and dummies left out. What
 * comes in by one of them after it has come in by another is counted there: a VLAN's at the interface
 * below, a port's at its bridge.
 *
 * Attaching natively makes many drivers take their queues down and up again (ixgbe, i40e, ice, mlx5,
 * ena, bnxt), or do without what they had negotiated (virtio_net gives up its receive offloads), so
 * without being asked it is done only where it is known to be a change of a pointer: veth and tun. Those
 * that have no queues refuse it, and may be asked.
 */
#include "capture/nic.h"

#include <errno.h>
#include <linux/if_link.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "wire.skel.h"

#define INTERFACES_MAX	32	/* that are attached to, in one namespace */
#define NESTED_MAX	8	/* interfaces upon each other: the kernel's own bound */

/* In its own words: a namespace is named by a relay in it. */
#define OWNER(space)	nic_owner(space)->relay->comm, (int)nic_owner(space)->relay->pid

static const struct live_node *nic_owner(const struct nic_space *space)
{
	size_t i;

	for (i = 0; i < ABI_WIRE_NODES && !space->nodes[i]; i++)
		;
	return space->nodes[i % ABI_WIRE_NODES];
}

static bool attaches_quietly(const char *driver)
{
	static const char *const quiet[] = {
		"veth", "tun", "bridge", "802.1Q?VLAN?Support", "macvlan", "ipvlan", "wireguard",
		"vxlan",
	};
	size_t i;

	for (i = 0; i < sizeof(quiet) / sizeof(quiet[0]); i++) {
		if (!strcmp(driver, quiet[i]))
			return true;
	}
	return false;
}

/* --- one interface --------------------------------------------------------------------------- */

struct job {
	int prog_fd;
	uint32_t index, flags;
	int result;		/* a descriptor, or -errno */
};

/* In the namespace: the kernel looks the interface up in the caller's. */
static void link_create(void *arg)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts);
	struct job *job = arg;
	int fd;

	opts.flags = job->flags;
	fd = bpf_link_create(job->prog_fd, (int)job->index, BPF_XDP, &opts);
	job->result = fd < 0 ? -errno : fd;
}

static int link_interface(const struct nic_space *space, const struct netif *netif, bool native)
{
	const struct bpf_program *prog = netif->bare ? space->skel->progs.wire_bare :
						       space->skel->progs.wire_ethernet;
	struct job job = {
		.prog_fd = bpf_program__fd(prog), .index = netif->index,
		.flags = native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE,
	};
	int err = relay_netns_run(space->netns, link_create, &job);

	return err ? err : job.result;
}

static bool is_ours(const struct nic_space *space, uint32_t id)
{
	return id == space->prog_ids[0] || id == space->prog_ids[1];
}

static void refuse(struct live *live, const struct nic_space *space, struct nic_interface *i,
		   const struct netif *netif, int err)
{
	static const char *const modes[] = {
		[NETIF_XDP_NATIVE] = ", native", [NETIF_XDP_GENERIC] = ", generic",
		[NETIF_XDP_CARD] = ", in the card",
	};
	const char *mode = netif->xdp < sizeof(modes) / sizeof(modes[0]) ? modes[netif->xdp] : NULL;
	bool asked = live->options.xdp != CAPTURE_XDP_AUTO;

	if (i->refused)
		return;
	i->refused = true;
	i->occupied = netif->xdp_prog || err == -EBUSY || err == -EEXIST;
	if (netif->xdp_prog)
		live_say(live, asked, "%s (pid %d): %s is not watched: another XDP program is on it (id "
			 "%u%s) and stays; all else is traced", OWNER(space), netif->name,
			 netif->xdp_prog, mode ? mode : "");
	else if (i->occupied)
		live_say(live, asked, "%s (pid %d): %s is not watched: another XDP program is on it and "
			 "stays; all else is traced", OWNER(space), netif->name);
	else
		live_say(live, asked, "%s (pid %d): %s is not watched: %s; all else is traced",
			 OWNER(space), netif->name, strerror(-err));
}

static void attach(struct live *live, struct nic_space *space, struct nic_interface *i,
		   const struct netif *netif)
{
	enum capture_xdp asked = live->options.xdp;
	char driver[NETIF_DRIVER_LEN];
	int fd = -EOPNOTSUPP, native_err = 0;
	bool quiet;

	if (netif->xdp_prog && !is_ours(space, netif->xdp_prog)) {
		refuse(live, space, i, netif, -EBUSY);
		return;
	}
	netifs_driver(space->netifs, netif, driver);
	quiet = attaches_quietly(driver);
	i->native = asked == CAPTURE_XDP_NATIVE || (asked == CAPTURE_XDP_AUTO && quiet);
	if (i->native) {
		fd = link_interface(space, netif, true);
		native_err = fd < 0 ? fd : 0;
	}
	if (fd < 0 && asked != CAPTURE_XDP_NATIVE && native_err != -EBUSY && native_err != -EEXIST) {
		i->native = false;
		fd = link_interface(space, netif, false);
	}
	if (fd < 0) {
		refuse(live, space, i, netif, fd);
		return;
	}
	i->link_fd = fd;
	i->refused = false;
	if (asked != CAPTURE_XDP_AUTO)
		live_say(live, false, "%s (pid %d): %s is watched: XDP %s, as asked", OWNER(space),
			 netif->name, i->native ? "native" : "generic");
	else if (i->native)
		live_say(live, false, "%s (pid %d): %s is watched: XDP native (%s attaches without a "
			 "pause)", OWNER(space), netif->name, driver);
	else if (native_err)
		live_say(live, false, "%s (pid %d): %s is watched: XDP generic (native: %s)",
			 OWNER(space), netif->name, strerror(-native_err));
	else
		live_say(live, false, "%s (pid %d): %s is watched: XDP generic (%s%smay restart its queues "
			 "for native; --xdp native takes that)", OWNER(space), netif->name,
			 driver, driver[0] ? " " : "the driver ");
}

static void let_go(struct nic_interface *i)
{
	if (i->link_fd >= 0)
		close(i->link_fd);
	i->link_fd = -1;
}

/* --- all of them ----------------------------------------------------------------------------- */

/* Does it carry an address at which a relay listens? An address on loopback may be reached by all. */
static bool is_wanted(const struct nic_space *space, const struct netif *netif)
{
	const struct netifs *n = space->netifs;
	bool here = false, elsewhere = false;
	size_t i;

	if (netif->loopback || netif->strange)
		return false;
	for (i = 0; i < n->addr_count; i++) {
		const struct netif_addr *a = &n->addrs[i];
		const struct netif *on = a->reachable ? netifs_find(n, a->index) : NULL;

		if (!on || (on != netif && !on->loopback))
			continue;
		if (on == netif)
			here = true;
		if (nic_is_listened(space, &a->addr)) {
			if (on == netif)
				return true;
			elsewhere = true;
		}
	}
	return here && elsewhere;
}

static struct nic_interface *find(const struct nic_space *space, uint32_t index)
{
	struct nic_interface *i;

	for (i = space->interfaces; i && i->index != index; i = i->next)
		;
	return i;
}

static const struct netif *counted_at(const struct nic_space *space, const struct netif *netif,
				      unsigned int depth);

static bool is_watched(const struct nic_space *space, const struct netif *netif, unsigned int depth)
{
	const struct nic_interface *i = netif ? find(space, netif->index) : NULL;

	return netif && !(i && i->refused) && is_wanted(space, netif) && !counted_at(space, netif, depth);
}

/* Who is watched, and has had what comes in by this one, or has it next; NULL: nobody. */
static const struct netif *counted_at(const struct nic_space *space, const struct netif *netif,
				      unsigned int depth)
{
	const struct netifs *n = space->netifs;
	const struct netif *other = netif->master ? netifs_find(n, netif->master) : NULL;

	if (!depth)
		return NULL;
	if (is_watched(space, other, depth - 1))
		return other;
	for (other = netif; depth && other && other->lower; depth--) {
		other = netifs_find(n, other->lower);
		if (is_watched(space, other, depth - 1))
			return other;
	}
	return NULL;
}

static struct nic_interface *add(struct nic_space *space, const struct netif *netif)
{
	struct nic_interface *i, **at = &space->interfaces;
	size_t count = 0;

	for (; *at; at = &(*at)->next)
		count++;
	i = count < INTERFACES_MAX ? calloc(1, sizeof(*i)) : NULL;
	if (!i)
		return NULL;
	i->index = netif->index;
	memcpy(i->name, netif->name, sizeof(i->name));
	i->up = netif->up;
	i->link_fd = -1;
	*at = i;
	return i;
}

static void follow(struct live *live, const struct nic_space *space, struct nic_interface *i,
		   const struct netif *netif)
{
	if (strcmp(i->name, netif->name))
		live_say(live, false, "%s (pid %d): %s is called %s now", OWNER(space), i->name,
			 netif->name);
	if (i->up != netif->up)
		live_say(live, false, "%s (pid %d): %s is %s", OWNER(space), netif->name,
			 netif->up ? "up again" : "down");
	/* Who was in the way may have left, and what it could not may have been set right. */
	if (i->occupied ? !netif->xdp_prog : netif->up && !i->up)
		i->refused = false;
	memcpy(i->name, netif->name, sizeof(i->name));
	i->up = netif->up;
}

static void say_unseen(struct live *live, const struct nic_space *space, const struct nic_interface *i)
{
	const struct netif *netif = netifs_find(space->netifs, i->index);
	const struct netif *other = netif && is_wanted(space, netif) ?
				    counted_at(space, netif, NESTED_MAX) : NULL;

	if (other)
		live_say(live, false, "%s (pid %d): %s is watched at %s now", OWNER(space), i->name,
			 other->name);
	else
		live_say(live, false, "%s (pid %d): %s %s", OWNER(space), i->name,
			 netif ? "carries no listening address any more: it is not watched" : "is gone");
}

static void drop_unseen(struct live *live, struct nic_space *space)
{
	struct nic_interface *i, **at = &space->interfaces;

	while ((i = *at)) {
		if (i->seen) {
			at = &i->next;
			continue;
		}
		say_unseen(live, space, i);
		*at = i->next;
		let_go(i);
		free(i);
	}
}

void nic_attach(struct live *live, struct nic_space *space)
{
	const struct netif *netif;
	struct nic_interface *i;
	size_t n;

	for (i = space->interfaces; i; i = i->next)
		i->seen = false;
	for (n = 0; n < space->netifs->count; n++) {
		netif = &space->netifs->all[n];
		i = find(space, netif->index);
		if (i)
			follow(live, space, i, netif);
		if (!is_wanted(space, netif) || counted_at(space, netif, NESTED_MAX)) {
			/* Addresses of IPv6 go when it goes down, and come back with it. */
			if (i && !netif->up)
				i->seen = true;
			continue;
		}
		if (!i)
			i = add(space, netif);
		if (!i)
			continue;
		i->seen = true;
		if (i->link_fd < 0 && !i->refused)
			attach(live, space, i, netif);
	}
	drop_unseen(live, space);
}

void nic_detach(struct nic_space *space)
{
	struct nic_interface *i;

	while ((i = space->interfaces)) {
		space->interfaces = i->next;
		let_go(i);
		free(i);
	}
}
