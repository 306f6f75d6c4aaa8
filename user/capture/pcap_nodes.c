// SPDX-License-Identifier: BSD-2-Clause
/*
 * Who in a capture file is a node. A relay is a server of connections that speak TLS or HTTP, and
 * what speaks to it are mostly no servers themselves: a server to whom only other servers speak is a
 * far mesh peer, of which a capture made on one host shows one connection. All endpoints of one
 * IP address are one node; what it dials comes from that address, too. So are those of an IPv4 and
 * an IPv6 address that clients call by the same name, or that alone stand behind one link address.
 * On loopback, where all share one address, the port tells.
 *
 * In a file that derptrace wrote all this is known: an interface is a node.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "capture/pcap.h"

/* An ip:port, or an IP address (port 0), of one group. */
struct place {
	uint8_t key[4 + 19];
	struct addr addr;
	uint32_t group;
	uint32_t conns;		/* that it is an end of */
	bool server;		/* of any connection */
	bool relay;		/* server of one that is neither foreign nor unanswered */
	bool visited;		/* by somebody who is no relay */
	uint32_t node;
	struct place *host;	/* IP addresses: the other one of the same host; NULL: none is known */
	UT_hash_handle hh;
};

/* A server's name, and the addresses that it leads to. */
struct name {
	uint64_t digest;
	struct place *ip4, *ip6;
	bool many;		/* of one family: several hosts share it */
	UT_hash_handle hh;
};

struct finder {
	struct pcap_conns *conns;
	struct pcap_nodes *nodes;
	const struct pcap_file *file;
	struct place *endpoints, *ips;
	struct name *names;
	bool failed;
};

static struct place *get_place(struct finder *f, struct place **table, uint32_t group,
			       const struct addr *addr, bool with_port)
{
	uint16_t port = with_port ? addr->port : 0;
	uint8_t key[4 + 19];
	struct place *p;

	memcpy(key, &group, sizeof(group));
	key[4] = addr->family;
	memcpy(key + 5, addr->ip, sizeof(addr->ip));
	memcpy(key + 21, &port, sizeof(port));
	HASH_FIND(hh, *table, key, sizeof(key), p);
	if (p)
		return p;
	p = calloc(1, sizeof(*p));
	if (!p) {
		f->failed = true;
		return NULL;
	}
	memcpy(p->key, key, sizeof(key));
	p->addr = *addr;
	p->addr.port = port;
	p->group = group;
	HASH_ADD(hh, *table, key, sizeof(p->key), p);
	return p;
}

static struct place *get_endpoint(struct finder *f, const struct pcap_conn *c, int side)
{
	return get_place(f, &f->endpoints, c->group, &c->track.sides[side].addr, true);
}

/* The host of an IP address. */
static struct place *get_host(struct finder *f, uint32_t group, const struct addr *addr)
{
	struct place *ip = get_place(f, &f->ips, group, addr, false);

	return ip && ip->host ? ip->host : ip;
}

static struct place *get_ip(struct finder *f, const struct pcap_conn *c, int side)
{
	return get_host(f, c->group, &c->track.sides[side].addr);
}

static void free_places(struct place **table)
{
	struct place *p, *next;

	HASH_ITER(hh, *table, p, next) {
		HASH_DEL(*table, p);
		free(p);
	}
}

/* --- who is the server -------------------------------------------------------------------- */

/* What was seen: a SYN (noted when the connection began), or who speaks first. */
static void find_certain(struct finder *f, struct pcap_conn *c)
{
	const struct pcap_side *sides = c->track.sides;
	struct place *p;
	int side;

	for (side = 0; side < 2; side++) {
		p = get_endpoint(f, c, side);
		if (p)
			p->conns++;
		if (c->certain || (sides[side].talk != PCAP_TALK_CLIENT &&
				   sides[!side].talk != PCAP_TALK_ANSWER))
			continue;
		c->certain = true;
		c->server = !side;
	}
	if (!c->certain)
		return;
	p = get_endpoint(f, c, c->server);
	if (p)
		p->server = true;
}

/* What is likely: an end that is a server elsewhere, has many peers, or a number that servers have. */
static void guess(struct finder *f, struct pcap_conn *c)
{
	struct place *a = get_endpoint(f, c, 0), *b = get_endpoint(f, c, 1);

	if (c->certain || !a || !b)
		return;
	if (a->server != b->server)
		c->server = b->server;
	else if (a->conns != b->conns)
		c->server = b->conns > a->conns;
	else
		c->server = b->addr.port < a->addr.port;
}

/* Is it a protocol that no relay speaks: not TLS, not HTTP, or the server has the first word? */
static bool is_foreign(const struct pcap_conn *c)
{
	return c->track.sides[c->server].talk == PCAP_TALK_OTHER ||
	       c->track.sides[!c->server].talk == PCAP_TALK_OTHER;
}

static void note_server(struct finder *f, struct pcap_conn *c)
{
	struct place *server = get_endpoint(f, c, c->server), *ip = get_ip(f, c, c->server);

	c->foreign = is_foreign(c);
	if (!server || !ip)
		return;
	server->server = true;
	if (c->talked && !c->foreign)
		server->relay = ip->relay = true;
}

/* --- one host, two addresses ------------------------------------------------------------------ */

static void note_name(struct finder *f, const struct pcap_conn *c)
{
	struct place *ip = get_ip(f, c, c->server), **slot;
	struct name *n;

	if (!ip || !c->name || c->foreign || !c->talked || addr_is_loopback(&ip->addr))
		return;
	HASH_FIND(hh, f->names, &c->name, sizeof(c->name), n);
	if (!n) {
		n = calloc(1, sizeof(*n));
		if (!n) {
			f->failed = true;
			return;
		}
		n->digest = c->name;
		HASH_ADD(hh, f->names, digest, sizeof(n->digest), n);
	}
	slot = ip->addr.family == 4 ? &n->ip4 : &n->ip6;
	if (*slot && *slot != ip)
		n->many = true;
	*slot = ip;
}

static void join_hosts(struct place *ip4, struct place *ip6)
{
	if (!ip4 || !ip6 || ip6->host || ip4->host)
		return;
	ip6->host = ip4;
	ip4->relay |= ip6->relay;
}

/* One link address, with one IPv4 and one IPv6 address, is one host's. */
static void join_macs(struct finder *f, const struct pcap_macs *macs)
{
	const struct pcap_mac *m;

	for (m = macs->table; m; m = m->hh.next) {
		if (!m->many && m->ip4.family && m->ip6.family)
			join_hosts(get_place(f, &f->ips, 0, &m->ip4, false),
				   get_place(f, &f->ips, 0, &m->ip6, false));
	}
}

/* One IPv4 and one IPv6 address to which the same name leads are one host's. */
static void join_families(struct finder *f)
{
	struct name *n, *next;

	HASH_ITER(hh, f->names, n, next) {
		if (!n->many)
			join_hosts(n->ip4, n->ip6);
		HASH_DEL(f->names, n);
		free(n);
	}
}

static void note_visitor(struct finder *f, const struct pcap_conn *c)
{
	struct place *server = get_endpoint(f, c, c->server), *client = get_ip(f, c, !c->server);

	if (server && client && server->relay && c->talked && !c->foreign &&
	    (!client->relay || addr_is_loopback(&client->addr)))
		server->visited = true;
}

/* --- nodes -------------------------------------------------------------------------------- */

static uint32_t add_node(struct finder *f, const char *name)
{
	struct pcap_nodes *n = f->nodes;
	struct pcap_node *grown;

	if (n->count == PCAP_MAX_NODES)
		return 0;
	grown = reallocarray(n->nodes, n->count + 1, sizeof(*grown));
	if (!grown) {
		f->failed = true;
		return 0;
	}
	n->nodes = grown;
	grown[n->count] = (struct pcap_node){ .name = "" };
	snprintf(grown[n->count].name, sizeof(grown->name), "%s", name);
	return ++n->count;
}

static void add_listener(struct finder *f, uint32_t node, const struct addr *addr)
{
	struct pcap_node *n = &f->nodes->nodes[node - 1];
	struct addr *grown = reallocarray(n->listeners, n->listener_count + 1, sizeof(*grown));

	if (!grown) {
		f->failed = true;
		return;
	}
	n->listeners = grown;
	grown[n->listener_count++] = *addr;
}

static bool none_visited(const struct finder *f)
{
	const struct place *p;

	for (p = f->endpoints; p; p = p->hh.next) {
		if (p->visited && !addr_is_loopback(&p->addr))
			return false;
	}
	return true;
}

static void add_endpoint(struct finder *f, struct place *p, uint32_t node)
{
	p->node = node;
	if (node)
		add_listener(f, node, &p->addr);
}

/* All but loopback: the node is the IP address. */
static void name_hosts(struct finder *f)
{
	/* Only servers speak to servers: then each of them is as good as any other. */
	bool all = none_visited(f);
	struct place *p, *host;

	for (p = f->endpoints; p; p = p->hh.next) {
		host = get_host(f, p->group, &p->addr);
		if (host && p->relay && (p->visited || all) && !host->node &&
		    !addr_is_loopback(&p->addr))
			host->node = add_node(f, "");
	}
	for (p = f->endpoints; p; p = p->hh.next) {
		host = get_host(f, p->group, &p->addr);
		if (host && p->relay && !addr_is_loopback(&p->addr))
			add_endpoint(f, p, host->node);
	}
}

#define MANY UINT32_MAX

/*
 * Loopback: the port tells which node of the host it is. Where no node is known by another address,
 * each port is one; where some are, a port of its own is no relay's that serves anyone.
 */
static void name_loopback(struct finder *f)
{
	uint32_t *by_port = calloc(65536, sizeof(*by_port)), *at;
	bool alone = !f->nodes->count;
	struct place *p;

	if (!by_port) {
		f->failed = true;
		return;
	}
	for (p = f->endpoints; p; p = p->hh.next) {
		at = &by_port[p->addr.port];
		if (p->node)
			*at = *at && *at != p->node ? MANY : p->node;
	}
	for (p = f->endpoints; p; p = p->hh.next) {
		if (!p->relay || !addr_is_loopback(&p->addr))
			continue;
		at = &by_port[p->addr.port];
		if (alone)
			add_endpoint(f, p, add_node(f, ""));
		else if (*at != MANY)
			add_endpoint(f, p, *at);
	}
	free(by_port);
}

static void set_nodes(struct finder *f, struct pcap_conn *c)
{
	struct place *server = get_endpoint(f, c, c->server), *client = get_ip(f, c, !c->server);

	if (!server || !client)
		return;
	c->node[c->server] = server->node;
	if (addr_is_loopback(&client->addr))
		return;
	if (!server->node)
		c->node[c->server] = get_ip(f, c, c->server)->node;
	c->node[!c->server] = client->node;
}

/* --- our own files ------------------------------------------------------------------------ */

static void nodes_from_interfaces(struct finder *f)
{
	uint32_t count = pcap_file_interfaces(f->file), i;
	const struct pcap_interface *it;
	uint32_t *numbers = calloc(count + 1, sizeof(*numbers));
	struct pcap_conn *c;
	struct place *p;

	if (!numbers) {
		f->failed = true;
		return;
	}
	for (i = 0; i < f->conns->count; i++) {
		c = f->conns->all[i];
		if (!c->group || c->group > count)
			continue;
		it = pcap_file_interface(f->file, c->group - 1);
		if (!numbers[c->group - 1]) {
			numbers[c->group - 1] = add_node(f, it ? it->name : "");
			if (numbers[c->group - 1])
				f->nodes->nodes[numbers[c->group - 1] - 1].interface = c->group;
		}
		c->node[c->local] = numbers[c->group - 1];
	}
	for (p = f->endpoints; p; p = p->hh.next) {
		if (p->relay && p->group && p->group <= count && numbers[p->group - 1])
			p->node = numbers[p->group - 1];
	}
	for (i = 0; i < f->conns->count; i++) {
		c = f->conns->all[i];
		p = get_endpoint(f, c, c->local);
		if (p && p->node && c->server == c->local) {
			add_listener(f, p->node, &p->addr);
			p->node = 0;
		}
	}
	free(numbers);
}

int pcap_nodes_find(struct pcap_nodes *n, struct pcap_conns *c, const struct pcap_macs *macs,
		    const struct pcap_file *file)
{
	struct finder f = { .conns = c, .nodes = n, .file = file };
	uint32_t i;

	for (i = 0; i < c->count; i++)
		find_certain(&f, c->all[i]);
	for (i = 0; i < c->count; i++)
		guess(&f, c->all[i]);
	for (i = 0; i < c->count; i++)
		note_server(&f, c->all[i]);
	for (i = 0; i < c->count && !c->by_interface; i++)
		note_name(&f, c->all[i]);
	join_families(&f);
	if (!c->by_interface)
		join_macs(&f, macs);
	for (i = 0; i < c->count; i++)
		note_visitor(&f, c->all[i]);
	if (c->by_interface) {
		nodes_from_interfaces(&f);
	} else {
		name_hosts(&f);
		name_loopback(&f);
		for (i = 0; i < c->count; i++)
			set_nodes(&f, c->all[i]);
	}
	free_places(&f.endpoints);
	free_places(&f.ips);
	return f.failed ? -ENOMEM : 0;
}

void pcap_nodes_free(struct pcap_nodes *n)
{
	while (n->count)
		free(n->nodes[--n->count].listeners);
	free(n->nodes);
	*n = (struct pcap_nodes){ 0 };
}
