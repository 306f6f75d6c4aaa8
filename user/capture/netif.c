// SPDX-License-Identifier: BSD-2-Clause
#include "capture/netif.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/ethtool.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECEIVE_BYTES	(64u << 10)

static struct mnl_socket *open_netlink(unsigned int groups)
{
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (nl && mnl_socket_bind(nl, groups, MNL_SOCKET_AUTOPID)) {
		mnl_socket_close(nl);
		return NULL;
	}
	return nl;
}

struct netifs *netifs_open(void)
{
	struct netifs *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->dirty = true;
	n->ioctl_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	/* First who listens, then who asks: no change comes between. */
	n->listen = open_netlink(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR);
	n->ask = open_netlink(0);
	if (n->ioctl_fd >= 0 && n->listen && n->ask)
		return n;
	netifs_close(n);
	return NULL;
}

void netifs_close(struct netifs *n)
{
	int saved = errno;

	if (!n)
		return;
	if (n->ioctl_fd >= 0)
		close(n->ioctl_fd);
	if (n->listen)
		mnl_socket_close(n->listen);
	if (n->ask)
		mnl_socket_close(n->ask);
	free(n->all);
	free(n->addrs);
	free(n);
	errno = saved;
}

/* Names go to people and into JSON, and the kernel takes nearly any byte in them. */
static void make_printable(char *text)
{
	for (; *text; text++) {
		if (*text <= ' ' || *text > '~')
			*text = '?';
	}
}

void netifs_driver(const struct netifs *n, const struct netif *of, char driver[static NETIF_DRIVER_LEN])
{
	struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
	struct ifreq request;

	memset(&request, 0, sizeof(request));
	/* By its index: it may have been renamed, and its name is only what can be printed of it. */
	request.ifr_ifindex = (int)of->index;
	if (ioctl(n->ioctl_fd, SIOCGIFNAME, &request))
		request.ifr_name[0] = '\0';
	request.ifr_data = (void *)&info;
	driver[0] = '\0';
	if (!ioctl(n->ioctl_fd, SIOCETHTOOL, &request))
		memcpy(driver, info.driver, NETIF_DRIVER_LEN - 1);
	driver[NETIF_DRIVER_LEN - 1] = '\0';
	make_printable(driver);
}

bool netifs_changed(struct netifs *n)
{
	char buffer[8192];
	ssize_t len;

	/* What it was does not matter, nor how much of it did not fit (ENOBUFS). */
	while ((len = mnl_socket_recvfrom(n->listen, buffer, sizeof(buffer))) > 0 ||
	       (len < 0 && (errno == ENOBUFS || errno == ENOSPC)))
		n->dirty = true;
	return n->dirty;
}

const struct netif *netifs_find(const struct netifs *n, uint32_t index)
{
	size_t i;

	for (i = 0; i < n->count; i++) {
		if (n->all[i].index == index)
			return &n->all[i];
	}
	return NULL;
}

/* --- answers --------------------------------------------------------------------------------- */

static void read_xdp(struct netif *to, const struct nlattr *nest)
{
	const struct nlattr *a;

	mnl_attr_for_each_nested(a, nest) {
		uint16_t type = mnl_attr_get_type(a);

		if (type == IFLA_XDP_ATTACHED && !mnl_attr_validate(a, MNL_TYPE_U8))
			to->xdp = mnl_attr_get_u8(a);
		/* With several modes at once it is the last that counts as there. */
		else if ((type == IFLA_XDP_PROG_ID || type == IFLA_XDP_DRV_PROG_ID ||
			  type == IFLA_XDP_SKB_PROG_ID || type == IFLA_XDP_HW_PROG_ID) &&
			 !mnl_attr_validate(a, MNL_TYPE_U32))
			to->xdp_prog = mnl_attr_get_u32(a);
	}
}

/* Ethernet frames, or IP packets as they are; other link headers are not read. */
static void read_kind(struct netif *to, uint16_t type)
{
	to->bare = type == ARPHRD_NONE || type == ARPHRD_TUNNEL || type == ARPHRD_TUNNEL6 ||
		   type == ARPHRD_SIT || type == ARPHRD_IPGRE || type == ARPHRD_IP6GRE ||
		   type == ARPHRD_PPP || type == ARPHRD_RAWIP;
	to->strange = !to->bare && type != ARPHRD_ETHER && type != ARPHRD_LOOPBACK;
}

/* What it is (IFLA_INFO_KIND), or whose port (IFLA_INFO_SLAVE_KIND); empty where it does not say. */
static const char *kind_of(const struct nlattr *nest, uint16_t type)
{
	const struct nlattr *a;

	mnl_attr_for_each_nested(a, nest) {
		if (mnl_attr_get_type(a) == type && !mnl_attr_validate(a, MNL_TYPE_NUL_STRING))
			return mnl_attr_get_str(a);
	}
	return "";
}

static bool is_one_of(const char *kind, const char *const *kinds)
{
	for (; *kinds; kinds++) {
		if (!strcmp(kind, *kinds))
			return true;
	}
	return false;
}

static void read_place(struct netif *to, const struct nlmsghdr *h)
{
	/* What comes in by these has come in by the one below first, as it is. */
	static const char *const above[] = { "vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", NULL };
	/* What comes in by a port of these goes in by them. Not so of a VRF. */
	static const char *const masters[] = { "bridge", "bond", "team", NULL };
	const struct nlattr *a;
	const char *kind = "", *port_of = "";
	bool elsewhere = false;		/* the one below is in another namespace */

	mnl_attr_for_each(a, h, sizeof(struct ifinfomsg)) {
		switch (mnl_attr_get_type(a)) {
		case IFLA_LINK:
			if (!mnl_attr_validate(a, MNL_TYPE_U32))
				to->lower = mnl_attr_get_u32(a);
			break;
		case IFLA_MASTER:
			if (!mnl_attr_validate(a, MNL_TYPE_U32))
				to->master = mnl_attr_get_u32(a);
			break;
		case IFLA_LINK_NETNSID:
			elsewhere = true;
			break;
		case IFLA_LINKINFO:
			if (mnl_attr_validate(a, MNL_TYPE_NESTED))
				break;
			kind = kind_of(a, IFLA_INFO_KIND);
			port_of = kind_of(a, IFLA_INFO_SLAVE_KIND);
			break;
		}
	}
	to->loopback |= !strcmp(kind, "dummy");
	/* A veth names its other end so, a tunnel what it goes through. */
	if (elsewhere || !is_one_of(kind, above))
		to->lower = 0;
	if (!is_one_of(port_of, masters))
		to->master = 0;
}

static int on_link(const struct nlmsghdr *h, void *ctx)
{
	const struct ifinfomsg *m = mnl_nlmsg_get_payload(h);
	struct netifs *n = ctx;
	struct netif *to, *bigger;
	const struct nlattr *a;

	if (h->nlmsg_type != RTM_NEWLINK || mnl_nlmsg_get_payload_len(h) < sizeof(*m) ||
	    n->count == NETIF_MAX)
		return MNL_CB_OK;
	if (n->count == n->room) {
		n->room = n->room ? n->room * 2 : 16;
		bigger = realloc(n->all, n->room * sizeof(*bigger));
		if (!bigger) {
			n->room = n->count;
			n->err = -ENOMEM;
			return MNL_CB_OK;
		}
		n->all = bigger;
	}
	to = &n->all[n->count];
	memset(to, 0, sizeof(*to));
	to->index = (uint32_t)m->ifi_index;
	to->up = m->ifi_flags & IFF_UP;
	to->loopback = m->ifi_flags & IFF_LOOPBACK;
	read_kind(to, m->ifi_type);
	mnl_attr_for_each(a, h, sizeof(*m)) {
		if (mnl_attr_get_type(a) == IFLA_IFNAME &&
		    !mnl_attr_validate(a, MNL_TYPE_NUL_STRING) &&
		    mnl_attr_get_payload_len(a) <= sizeof(to->name))
			memcpy(to->name, mnl_attr_get_str(a), mnl_attr_get_payload_len(a));
		else if (mnl_attr_get_type(a) == IFLA_XDP &&
			 !mnl_attr_validate(a, MNL_TYPE_NESTED))
			read_xdp(to, a);
	}
	if (!to->name[0])
		return MNL_CB_OK;
	read_place(to, h);
	make_printable(to->name);
	n->count++;
	return MNL_CB_OK;
}

static bool is_link_local(const struct addr *a)
{
	return a->family == 4 ? a->ip[0] == 169 && a->ip[1] == 254 :
				a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80;
}

static int on_addr(const struct nlmsghdr *h, void *ctx)
{
	const struct ifaddrmsg *m = mnl_nlmsg_get_payload(h);
	struct netifs *n = ctx;
	struct netif_addr *to, *bigger;
	const struct nlattr *a, *local = NULL;
	size_t len;

	if (h->nlmsg_type != RTM_NEWADDR || mnl_nlmsg_get_payload_len(h) < sizeof(*m) ||
	    (m->ifa_family != AF_INET && m->ifa_family != AF_INET6) ||
	    n->addr_count == NETIF_MAX * 4)
		return MNL_CB_OK;
	len = m->ifa_family == AF_INET ? 4 : 16;
	/* Of a point-to-point interface the address is the far end's, the local one its own. */
	mnl_attr_for_each(a, h, sizeof(*m)) {
		if (mnl_attr_get_payload_len(a) == len &&
		    (mnl_attr_get_type(a) == IFA_LOCAL ||
		     (mnl_attr_get_type(a) == IFA_ADDRESS && !local)))
			local = a;
	}
	if (!local)
		return MNL_CB_OK;
	if (n->addr_count == n->addr_room) {
		n->addr_room = n->addr_room ? n->addr_room * 2 : 16;
		bigger = realloc(n->addrs, n->addr_room * sizeof(*bigger));
		if (!bigger) {
			n->addr_room = n->addr_count;
			n->err = -ENOMEM;
			return MNL_CB_OK;
		}
		n->addrs = bigger;
	}
	to = &n->addrs[n->addr_count++];
	memset(to, 0, sizeof(*to));
	to->index = m->ifa_index;
	addr_set(&to->addr, len == 4 ? 4 : 6, mnl_attr_get_payload(local), 0);
	to->reachable = !addr_is_loopback(&to->addr) && !is_link_local(&to->addr);
	return MNL_CB_OK;
}

/* --- questions ------------------------------------------------------------------------------- */

static int dump(struct netifs *n, uint16_t type, mnl_cb_t take)
{
	char buffer[RECEIVE_BYTES];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buffer);
	struct rtgenmsg *m;
	ssize_t len;
	int more = MNL_CB_OK;

	h->nlmsg_type = type;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	h->nlmsg_seq = ++n->seq;
	/* As long as the kernel wants it to be strict; what follows the family is zero. */
	m = mnl_nlmsg_put_extra_header(h, type == RTM_GETLINK ? sizeof(struct ifinfomsg) :
								sizeof(struct ifaddrmsg));
	m->rtgen_family = AF_UNSPEC;
	if (mnl_socket_sendto(n->ask, h, h->nlmsg_len) < 0)
		return -errno;
	while (more > MNL_CB_STOP) {
		/* The kernel has filled in the first part by now, each read makes it fill in the next. */
		len = mnl_socket_recvfrom(n->ask, buffer, sizeof(buffer));
		if (len < 0)
			return -errno;
		more = mnl_cb_run(buffer, (size_t)len, n->seq, mnl_socket_get_portid(n->ask), take, n);
		if (more < 0)
			return -errno;
	}
	return n->err;
}

static int by_index(const void *a, const void *b)
{
	const struct netif *x = a, *y = b;

	return x->index < y->index ? -1 : x->index > y->index;
}

int netifs_look(struct netifs *n)
{
	struct netifs before = *n;
	int err;

	n->all = NULL;
	n->addrs = NULL;
	n->count = n->room = n->addr_count = n->addr_room = 0;
	n->err = 0;
	n->dirty = false;
	err = dump(n, RTM_GETLINK, on_link);
	if (!err)
		err = dump(n, RTM_GETADDR, on_addr);
	if (err) {
		free(n->all);
		free(n->addrs);
		n->all = before.all;
		n->count = before.count;
		n->room = before.room;
		n->addrs = before.addrs;
		n->addr_count = before.addr_count;
		n->addr_room = before.addr_room;
		n->dirty = true;
		return err;
	}
	free(before.all);
	free(before.addrs);
	if (n->count)
		qsort(n->all, n->count, sizeof(*n->all), by_index);
	return 0;
}
