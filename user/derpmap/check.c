/* SPDX-License-Identifier: BSD-2-Clause */
/* The checks of one region and of its nodes; the whole map's stand in checkmap.c. */
#include "derpmap/check.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LISTED	16u	/* nodes named one by one in a finding */

const char *derpmap_node_label(const struct derpmap_node *node)
{
	if (*node->name)
		return node->name;
	return *node->hostname ? node->hostname : "(unnamed)";
}

void check_region_name(struct derpmap_text *text, const struct derpmap_region *region)
{
	const char *label = *region->code ? region->code : region->name;

	derpmap_text_add(text, "region %" PRId64, region->id);
	if (*label)
		derpmap_text_add(text, " \"%s\"", label);
}

static void evidence_relays(struct derpmap_text *text, const struct derpmap_region *region)
{
	size_t listed = 0, more = 0, n;

	for (n = 0; n < region->nr_nodes; n++) {
		const struct derpmap_node *node = &region->nodes[n];

		if (node->stun_only)
			continue;
		if (listed++ >= MAX_LISTED) {
			more++;
			continue;
		}
		derpmap_text_add(text, "node \"%s\" %s:%" PRId64 " is %s: %s\n",
				 derpmap_node_label(node), node->hostname, node->derp_port,
				 derpmap_class_name(node->class), node->why);
	}
	if (more)
		derpmap_text_add(text, "and %zu more\n", more);
}

static void fix_command(struct derpmap_text *text, const struct derpmap *map)
{
	static const char safe[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-+";
	const char *name = map->priv->name;

	if (!*name || *name == '-' || name[strspn(name, safe)] != '\0')
		name = "FILE";
	/* What only the resolver told, a correction without it would not know. */
	derpmap_text_add(text, "derptrace map fix %s%s -o FIXED\n",
			 map->priv->resolved ? "--resolve " : "", name);
}

static void check_mixed(struct check *check, const struct derpmap_region *region,
			const struct derpmap_census *census)
{
	struct check_draft draft = { 0 };

	if (!census->own_private || !(census->tailscale + census->own_public))
		return;
	check_region_name(&draft.text, region);
	derpmap_text_add(&draft.text, " mixes publicly and privately routable relays: they cannot"
			 " reach each other, so packets between clients on different nodes are"
			 " lost");
	evidence_relays(&draft.evidence, region);
	if (census->tailscale)
		derpmap_text_add(&draft.evidence, "Tailscale's relays hold a mesh key of their own:"
				 " a route between the nodes would not mend it\n");
	derpmap_text_add(&draft.fix,
			 "give the private relays a region of their own, %" PRId64 ":\n",
			 derpmap_free_id(check->map, 0));
	fix_command(&draft.fix, check->map);
	derpmap_text_add(&draft.fix,
			 "or remove the public relays and set \"OmitDefaultRegions\": true,"
			 " where every client is inside\n");
	check_put(check, CHECK_MIXED, region, NULL, &draft);
}

static void check_foreign(struct check *check, const struct derpmap_region *region,
			  const struct derpmap_census *census)
{
	struct check_draft draft = { 0 };

	if (!census->tailscale || !(census->own_public + census->unknown))
		return;
	check_region_name(&draft.text, region);
	derpmap_text_add(&draft.text, " holds relays of Tailscale's and others: Tailscale's have a"
			 " mesh key of their own and forward nothing to yours");
	evidence_relays(&draft.evidence, region);
	derpmap_text_add(&draft.fix, "give your relays a region of their own:\n");
	fix_command(&draft.fix, check->map);
	check_put(check, CHECK_FOREIGN, region, NULL, &draft);
}

static void check_no_relay(struct check *check, const struct derpmap_region *region)
{
	struct check_draft draft = { 0 };

	/* Coder adds such regions itself, and its clients never take them as home. */
	if (strncmp(region->code, "coder_stun_", 11) == 0)
		return;
	check_region_name(&draft.text, region);
	if (region->nr_nodes) {
		derpmap_text_add(&draft.text, " has STUNOnly nodes and no relay: a client that"
				 " takes it as home cannot be reached");
		derpmap_text_add(&draft.fix, "add a relay to its Nodes, or move the STUNOnly nodes"
				 " to a region that has one\n");
	} else {
		derpmap_text_add(&draft.text, " has no nodes");
		derpmap_text_add(&draft.fix, "add a relay to its Nodes, or remove the region\n");
	}
	check_put(check, CHECK_NO_RELAY, region, NULL, &draft);
}

/* The relay as -mesh-with takes it: a port that is not 443, and an address where names repeat. */
static void mesh_target(struct derpmap_text *text, const struct derpmap_region *region,
			const struct derpmap_node *node)
{
	bool v6 = strchr(node->hostname, ':') != NULL;
	size_t same = 0, n;

	for (n = 0; n < region->nr_nodes; n++)
		same += !region->nodes[n].stun_only &&
			strcmp(region->nodes[n].hostname, node->hostname) == 0;
	derpmap_text_add(text, v6 ? "[%s]" : "%s", node->hostname);
	if (node->derp_port != DERPMAP_DERP_PORT)
		derpmap_text_add(text, ":%" PRId64, node->derp_port);
	if (same > 1 && !derpmap_address_none(node->ipv4))
		derpmap_text_add(text, "/%s", node->ipv4);
}

static bool can_mesh(const struct derpmap_node *node)
{
	struct in6_addr address;

	return !node->stun_only && derpmap_hostname_valid(node->hostname) &&
	       node->derp_port > 0 && node->derp_port <= UINT16_MAX &&
	       (derpmap_address_none(node->ipv4) || derpmap_address_parse(node->ipv4, &address));
}

static void fix_mesh(struct derpmap_text *text, const struct derpmap_region *region, size_t relays)
{
	size_t n, m;
	bool first;

	if (relays > MAX_LISTED) {
		derpmap_text_add(text,
				 "start each derper with -mesh-psk-file KEYFILE and -mesh-with"
				 " the names of all %zu others, joined by commas\n",
				 relays - 1);
		return;
	}
	derpmap_text_add(text, "start each relay with the same key file and all others:\n");
	for (n = 0; n < region->nr_nodes; n++) {
		if (!can_mesh(&region->nodes[n]))
			continue;
		derpmap_text_add(text, "derper -hostname %s -mesh-psk-file KEYFILE -mesh-with ",
				 region->nodes[n].hostname);
		first = true;
		for (m = 0; m < region->nr_nodes; m++) {
			if (m == n || !can_mesh(&region->nodes[m]))
				continue;
			derpmap_text_add(text, "%s", first ? "" : ",");
			mesh_target(text, region, &region->nodes[m]);
			first = false;
		}
		derpmap_text_add(text, "\n");
	}
	derpmap_text_add(text, "Coder's replicas mesh by CODER_DERP_SERVER_RELAY_URL instead\n");
}

static void check_mesh(struct check *check, const struct derpmap_region *region,
		       const struct derpmap_census *census)
{
	struct check_draft draft = { 0 };

	/* Mixed regions are to be split first; Tailscale meshes its own. */
	if (census->relays < 2 || census->tailscale ||
	    (census->own_private && census->own_public))
		return;
	check_region_name(&draft.text, region);
	derpmap_text_add(&draft.text, " has %zu relays: each must mesh with every other, in both"
			 " directions", census->relays);
	fix_mesh(&draft.fix, region, census->relays);
	check_put(check, CHECK_MESH, region, NULL, &draft);
}

static void check_unknown(struct check *check, const struct derpmap_region *region,
			  const struct derpmap_census *census)
{
	struct check_draft draft = { 0 };
	size_t listed = 0, n;

	if (census->relays < 2 || !census->unknown)
		return;
	check_region_name(&draft.text, region);
	derpmap_text_add(&draft.text, ": nothing tells whether %zu of its %zu relays are publicly"
			 " or privately routable", census->unknown, census->relays);
	for (n = 0; n < region->nr_nodes && listed < MAX_LISTED; n++) {
		const struct derpmap_node *node = &region->nodes[n];

		if (node->stun_only || node->class != DERPMAP_UNKNOWN)
			continue;
		listed++;
		derpmap_text_add(&draft.evidence, "node \"%s\" %s: %s\n", derpmap_node_label(node),
				 node->hostname, node->why);
	}
	derpmap_text_add(&draft.fix,
			 "ask the resolver with --resolve, or give the nodes an IPv4\n");
	check_put(check, CHECK_UNKNOWN, region, NULL, &draft);
}

static void check_ids(struct check *check, const struct derpmap_region *region)
{
	struct check_draft draft = { 0 };

	if (region->id <= 0) {
		check_region_name(&draft.text, region);
		derpmap_text_add(&draft.text,
				 ": a region id must be above 0, clients read 0 as none");
		derpmap_text_add(&draft.fix, "use a free id: %" PRId64 " to 998 are for your own\n",
				 derpmap_free_id(check->map, 0));
		check_put(check, CHECK_ID_RANGE, region, NULL, &draft);
	}
	if (!region->has_said_id) {
		check_region_name(&draft.text, region);
		derpmap_text_add(&draft.text, " has no RegionID: taken as %" PRId64 " from its key",
				 region->id);
		derpmap_text_add(&draft.fix, "add \"RegionID\": %" PRId64 "\n", region->id);
		check_put(check, CHECK_ID_MISSING, region, NULL, &draft);
	} else if (region->said_id != region->id) {
		check_region_name(&draft.text, region);
		derpmap_text_add(&draft.text, " says RegionID %" PRId64 " under the key \"%" PRId64
				 "\": clients look it up by the key", region->said_id, region->id);
		derpmap_text_add(&draft.fix,
				 "set \"RegionID\": %" PRId64 ", or the key to \"%" PRId64 "\"\n",
				 region->id, region->said_id);
		check_put(check, CHECK_ID_WRONG, region, NULL, &draft);
	}
}

__attribute__((format(printf, 5, 6)))
static void put_node(struct check *check, enum check_rule rule, const struct derpmap_node *node,
		     const char *fix, const char *format, ...)
{
	struct check_draft draft = { 0 };
	char *said = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&said, format, args) < 0) {
		said = NULL;
		check->failed = true;
	}
	va_end(args);
	derpmap_text_add(&draft.text, "node \"%s\" %s", derpmap_node_label(node), said ? said : "");
	derpmap_text_add(&draft.fix, "%s\n", fix);
	free(said);
	check_put(check, rule, node->region, node, &draft);
}

static void check_address(struct check *check, const struct derpmap_node *node, const char *field,
			  const char *text, bool v6)
{
	struct in6_addr address;
	const char *fix = v6 ? "give an IPv6 address, or \"none\" to use no IPv6" :
			       "give an IPv4 address, or \"none\" to use no IPv4";

	if (derpmap_address_none(text))
		return;
	if (!derpmap_address_parse(text, &address) || v6 != (strchr(text, ':') != NULL) ||
	    text[0] == '[')
		put_node(check, CHECK_FIELD, node, fix, "has the %s \"%s\", which is no address of"
			 " that family: clients do not use the family then", field, text);
	else if (derpmap_address_unusable(&address))
		put_node(check, CHECK_FIELD, node, fix, "has the %s %s, at which nothing can be"
			 " dialled", field, text);
}

static void check_hostname(struct check *check, const struct derpmap_node *node)
{
	const char *host = node->hostname, *fix = "give a DNS name or an address";
	struct in6_addr address;

	if (!*host) {
		if (!node->stun_only)
			put_node(check, CHECK_NO_HOST, node,
				 "add \"HostName\": the name in its certificate",
				 "has no HostName: clients cannot dial it and cannot check"
				 " its certificate");
		else if (derpmap_address_none(node->ipv4) && derpmap_address_none(node->ipv6))
			put_node(check, CHECK_NO_HOST, node, "add a HostName or an IPv4",
				 "has no HostName and no address");
		return;
	}
	if (derpmap_hostname_valid(host)) {
		if (derpmap_address_parse(host, &address) && derpmap_address_unusable(&address))
			put_node(check, CHECK_FIELD, node, fix,
				 "has the HostName %s, at which nothing can be dialled", host);
		return;
	}
	if (strstr(host, "://"))
		fix = "give the name alone, without scheme and path";
	else if (host[0] == '[')
		fix = "give the address without brackets, a port in \"DERPPort\"";
	else if (strchr(host, ':'))
		fix = "give the name alone, the port in \"DERPPort\"";
	put_node(check, CHECK_FIELD, node, fix, "has the HostName \"%s\", which is no host name",
		 host);
}

static void check_port(struct check *check, const struct derpmap_node *node)
{
	struct check_draft draft = { 0 };

	if (node->stun_port < -1 || node->stun_port > UINT16_MAX)
		put_node(check, CHECK_FIELD, node, "use 1 to 65535, or -1 for no STUN",
			 "has the STUNPort %" PRId64, node->stun_port);
	if (node->stun_only)
		return;
	if (node->derp_port < 1 || node->derp_port > UINT16_MAX) {
		put_node(check, CHECK_FIELD, node, "use 1 to 65535", "has the DERPPort %" PRId64,
			 node->derp_port);
		return;
	}
	if (node->force_http) {
		put_node(
			check, CHECK_FORCE_HTTP, node, "remove ForceHTTP once the relay has TLS",
			"sets ForceHTTP: Coder's clients reach it in plain HTTP, Tailscale's ignore"
			" the key and try TLS");
		return;
	}
	if (node->derp_port == DERPMAP_DERP_PORT)
		return;
	derpmap_text_add(&draft.text,
			 "node \"%s\" is dialled at port %" PRId64 ": with its defaults"
			 " derper has TLS on port 443 only, and plain HTTP on any other",
			 derpmap_node_label(node), node->derp_port);
	if (derpmap_hostname_valid(node->hostname))
		derpmap_text_add(&draft.fix,
				 "if it is derper:\nderper -a :%" PRId64 " -hostname %s"
				 " -certmode manual -certdir DIR\n",
				 node->derp_port, node->hostname);
	else
		derpmap_text_add(&draft.fix, "start derper with -certmode manual -certdir DIR\n");
	check_put(check, CHECK_PORT, node->region, node, &draft);
}

static void check_node(struct check *check, const struct derpmap_node *node)
{
	const struct derpmap_region *region = node->region;
	struct check_draft draft = { 0 };

	check_hostname(check, node);
	check_address(check, node, "IPv4", node->ipv4, false);
	check_address(check, node, "IPv6", node->ipv6, true);
	check_port(check, node);
	if (node->region_id != region->id) {
		derpmap_text_add(&draft.text, "node \"%s\" ", derpmap_node_label(node));
		if (node->region_id)
			derpmap_text_add(&draft.text, "says RegionID %" PRId64, node->region_id);
		else
			derpmap_text_add(&draft.text, "has no RegionID");
		derpmap_text_add(&draft.text, " but stands in region %" PRId64, region->id);
		derpmap_text_add(&draft.fix, "set its \"RegionID\": %" PRId64 "\n", region->id);
		check_put(check, CHECK_NODE_ID, region, node, &draft);
	}
	if (node->insecure)
		put_node(check, CHECK_TEST, node, "remove InsecureForTests",
			 "sets InsecureForTests: clients do not check its certificate");
	if (*node->stun_test_ip)
		put_node(check, CHECK_TEST, node, "remove STUNTestIP",
			 "sets STUNTestIP, which is for tests: STUN goes to %s",
			 node->stun_test_ip);
}

void check_region(struct check *check, const struct derpmap_region *region)
{
	struct derpmap_census census;
	size_t n;

	derpmap_census(region, &census);
	check_ids(check, region);
	check_mixed(check, region, &census);
	check_foreign(check, region, &census);
	check_mesh(check, region, &census);
	check_unknown(check, region, &census);
	if (!census.relays)
		check_no_relay(check, region);
	for (n = 0; n < region->nr_nodes; n++)
		check_node(check, &region->nodes[n]);
}
