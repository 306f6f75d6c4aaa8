/* SPDX-License-Identifier: BSD-2-Clause */
/* Where a relay can be reached from: told from its addresses, else from its name. */
#include "derpmap/internal.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_LOOKUPS	64u

/* IPv4 stands as ::ffff:a.b.c.d, so one table of prefixes serves both families. */
struct prefix {
	const char *prefix;
	unsigned int bits;
	const char *kind;
};

static const struct prefix private_prefixes[] = {
	{ "::ffff:10.0.0.0", 96 + 8, "RFC 1918" },
	{ "::ffff:172.16.0.0", 96 + 12, "RFC 1918" },
	{ "::ffff:192.168.0.0", 96 + 16, "RFC 1918" },
	{ "::ffff:100.64.0.0", 96 + 10, "carrier-grade NAT or tailnet" },
	{ "::ffff:127.0.0.0", 96 + 8, "loopback" },
	{ "::ffff:169.254.0.0", 96 + 16, "link-local" },
	{ "::ffff:198.18.0.0", 96 + 15, "benchmark network" },
	{ "::1", 128, "loopback" },
	{ "fc00::", 7, "unique local" },
	{ "fe80::", 10, "link-local" },
	{ "fec0::", 10, "site-local" },
};

static const struct prefix unusable_prefixes[] = {
	{ "::ffff:0.0.0.0", 96 + 8, "unspecified" },
	{ "::ffff:224.0.0.0", 96 + 3, "multicast or reserved" },
	{ "::", 128, "unspecified" },
	{ "ff00::", 8, "multicast" },
};

static const char *prefix_find(const struct in6_addr *address, const struct prefix *list, size_t nr)
{
	struct in6_addr prefix;
	unsigned int bytes, mask;
	size_t i;

	for (i = 0; i < nr; i++) {
		bytes = list[i].bits / 8;
		mask = 0xff00u >> list[i].bits % 8 & 0xff;
		if (inet_pton(AF_INET6, list[i].prefix, &prefix) == 1 &&
		    memcmp(address, &prefix, bytes) == 0 &&
		    (mask == 0 ||
		     (address->s6_addr[bytes] & mask) == (prefix.s6_addr[bytes] & mask)))
			return list[i].kind;
	}
	return NULL;
}

bool derpmap_address_parse(const char *text, struct in6_addr *address)
{
	char plain[INET6_ADDRSTRLEN + 2];
	size_t len = strlen(text);
	struct in_addr v4;

	if (inet_pton(AF_INET, text, &v4) == 1) {
		memset(address, 0, sizeof(*address));
		memset(&address->s6_addr[10], 0xff, 2);
		memcpy(&address->s6_addr[12], &v4, sizeof(v4));
		return true;
	}
	if (len > 2 && len < sizeof(plain) && text[0] == '[' && text[len - 1] == ']') {
		snprintf(plain, sizeof(plain), "%.*s", (int)len - 2, text + 1);
		text = plain;
	}
	return inet_pton(AF_INET6, text, address) == 1;
}

enum derpmap_class derpmap_address_class(const struct in6_addr *address, const char **kind)
{
	*kind = prefix_find(address, private_prefixes,
			    sizeof(private_prefixes) / sizeof(private_prefixes[0]));
	return *kind ? DERPMAP_PRIVATE : DERPMAP_PUBLIC;
}

bool derpmap_address_unusable(const struct in6_addr *address)
{
	return prefix_find(address, unusable_prefixes,
			   sizeof(unusable_prefixes) / sizeof(unusable_prefixes[0])) != NULL;
}

bool derpmap_address_none(const char *text)
{
	return !*text || strcasecmp(text, "none") == 0;
}

bool derpmap_hostname_valid(const char *hostname)
{
	struct in6_addr address;
	size_t len = strlen(hostname), label = 0, i;

	if (strchr(hostname, ':'))
		return hostname[0] != '[' && derpmap_address_parse(hostname, &address);
	if (len > 1 && hostname[len - 1] == '.')
		len--;
	if (len == 0 || len > 253)
		return false;
	for (i = 0; i < len; i++) {
		if (hostname[i] == '.') {
			if (label == 0)
				return false;
			label = 0;
			continue;
		}
		if (!isalnum((unsigned char)hostname[i]) && hostname[i] != '_' &&
		    (hostname[i] != '-' || label == 0))
			return false;
		if (++label > 63)
			return false;
	}
	return label > 0;
}

/* derp1.tailscale.com, derp1f.tailscale.com: the relays of the default map. */
static bool is_tailscale(const char *host)
{
	static const char tail[] = ".tailscale.com";
	const char *label_end = strchr(host, '.');

	return label_end && strncasecmp(host, "derp", 4) == 0 && isdigit((unsigned char)host[4]) &&
	       (strcasecmp(label_end, tail) == 0 || strcasecmp(label_end, ".tailscale.com.") == 0);
}

static const char *private_suffix(const char *host)
{
	static const char *const suffixes[] = {
		".internal", ".local", ".lan", ".corp", ".home.arpa", ".cluster.local", ".svc",
	};
	size_t len = strlen(host), tail, i;

	if (len && host[len - 1] == '.')
		len--;
	for (i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		tail = strlen(suffixes[i]);
		if (len > tail && strncasecmp(host + len - tail, suffixes[i], tail) == 0)
			return suffixes[i];
	}
	return NULL;
}

/*
 * The first label that says private: a word of it, between hyphens, without digits at its end, is
 * in the list. The last two labels are the owner's domain and say nothing: corp.com is a company.
 */
static const char *private_label(const char *host, int *label_len)
{
	static const char *const words[] = {
		"internal", "private", "intranet", "corp", "vpc", "local",
	};
	size_t len, word, digits, i;
	const char *dot, *at;

	for (; (dot = strchr(host, '.')); host = dot + 1) {
		if (!strchr(dot + 1, '.'))
			return NULL;
		len = (size_t)(dot - host);
		for (at = host; at < dot; at += word + 1) {
			word = strcspn(at, "-_.");
			for (digits = 0;
			     digits < word && isdigit((unsigned char)at[word - 1 - digits]);)
				digits++;
			for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
				if (strlen(words[i]) != word - digits ||
				    strncasecmp(at, words[i], word - digits) != 0)
					continue;
				*label_len = (int)len;
				return host;
			}
		}
	}
	return NULL;
}

static int set_class(struct derpmap_node *node, enum derpmap_class class, struct derpmap_text *why)
{
	char *text = derpmap_text_take(why);

	if (!text)
		return -ENOMEM;
	free(node->why);
	node->why = text;
	node->class = class;
	return 0;
}

static int class_from_address(struct derpmap_node *node, const char *source, const char *text,
			      const struct in6_addr *address)
{
	struct derpmap_text why = { 0 };
	enum derpmap_class class;
	const char *kind;

	class = derpmap_address_class(address, &kind);
	derpmap_text_add(&why, "%s %s%s%s", source, text, kind ? ", " : "", kind ? kind : "");
	return set_class(node, class, &why);
}

static int class_from_name(struct derpmap_node *node)
{
	struct derpmap_text why = { 0 };
	const char *host = node->hostname, *found;
	int len = 0;

	if (!derpmap_hostname_valid(host)) {
		derpmap_text_add(&why, "no usable HostName and no address");
		return set_class(node, DERPMAP_UNKNOWN, &why);
	}
	if (node->tailscale) {
		derpmap_text_add(&why, "a relay of Tailscale's");
		return set_class(node, DERPMAP_PUBLIC, &why);
	}
	found = private_suffix(host);
	if (found) {
		derpmap_text_add(&why, "by its name, which ends in %s", found);
		return set_class(node, DERPMAP_PRIVATE, &why);
	}
	if (!strchr(host, '.') || strchr(host, '.')[1] == '\0') {
		derpmap_text_add(&why, "by its name, a single label");
		return set_class(node, DERPMAP_PRIVATE, &why);
	}
	found = private_label(host, &len);
	if (found) {
		derpmap_text_add(&why, "by its name, the label %.*s", len, found);
		return set_class(node, DERPMAP_PRIVATE, &why);
	}
	derpmap_text_add(&why, "no address in the map, and its name does not say");
	return set_class(node, DERPMAP_UNKNOWN, &why);
}

int derpmap_classify(struct derpmap_node *node)
{
	const struct { const char *text, *source; } given[] = {
		{ node->ipv4, "IPv4" }, { node->ipv6, "IPv6" }, { node->hostname, "address" },
	};
	struct in6_addr address;
	const char *kind;
	int ret, known = -1;
	size_t i;

	/* A public address of any family makes it public; a dialled field goes before the name. */
	for (i = 0; i < sizeof(given) / sizeof(given[0]); i++) {
		if (i == 2 && known >= 0)
			break;
		if (!derpmap_address_parse(given[i].text, &address) ||
		    derpmap_address_unusable(&address))
			continue;
		if (known < 0 || derpmap_address_class(&address, &kind) == DERPMAP_PUBLIC)
			known = (int)i;
	}
	node->tailscale = is_tailscale(node->hostname);
	if (known < 0)
		return class_from_name(node);
	derpmap_address_parse(given[known].text, &address);
	ret = class_from_address(node, given[known].source, given[known].text, &address);
	node->tailscale = node->tailscale && node->class == DERPMAP_PUBLIC;
	return ret;
}

static int resolve_node(struct derpmap_node *node)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL, *at;
	char text[INET6_ADDRSTRLEN];
	struct in6_addr address;
	const char *kind;
	int ret = 0;

	if (getaddrinfo(node->hostname, NULL, &hints, &list) != 0)
		return 0;
	for (at = list; at && !ret && node->class != DERPMAP_PUBLIC; at = at->ai_next) {
		if (getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof(text), NULL, 0,
				NI_NUMERICHOST) != 0 ||
		    !derpmap_address_parse(text, &address) || derpmap_address_unusable(&address))
			continue;
		if (node->class == DERPMAP_UNKNOWN ||
		    derpmap_address_class(&address, &kind) == DERPMAP_PUBLIC)
			ret = class_from_address(node, "resolves to", text, &address);
	}
	freeaddrinfo(list);
	return ret;
}

int derpmap_resolve(struct derpmap *map)
{
	unsigned int lookups = 0;
	struct derpmap_census census;
	struct derpmap_region *region;
	struct derpmap_node *node;
	int known = 0, ret;
	size_t r, n;

	for (r = 0; r < map->nr_regions; r++) {
		region = &map->regions[r];
		derpmap_census(region, &census);
		if (census.relays < 2)
			continue;
		for (n = 0; n < region->nr_nodes && lookups < MAX_LOOKUPS; n++) {
			node = &region->nodes[n];
			if (node->stun_only || node->class != DERPMAP_UNKNOWN ||
			    !derpmap_hostname_valid(node->hostname))
				continue;
			lookups++;
			ret = resolve_node(node);
			if (ret)
				return ret;
			known += node->class != DERPMAP_UNKNOWN;
		}
	}
	map->priv->resolved |= known > 0;
	return known;
}

void derpmap_census(const struct derpmap_region *region, struct derpmap_census *census)
{
	size_t n;

	memset(census, 0, sizeof(*census));
	for (n = 0; n < region->nr_nodes; n++) {
		const struct derpmap_node *node = &region->nodes[n];

		if (node->stun_only)
			continue;
		census->relays++;
		if (node->tailscale)
			census->tailscale++;
		else if (node->class == DERPMAP_PUBLIC)
			census->own_public++;
		else if (node->class == DERPMAP_PRIVATE)
			census->own_private++;
		else
			census->unknown++;
	}
}

const char *derpmap_class_name(enum derpmap_class class)
{
	static const char *const names[] = { "unknown", "public", "private" };

	return names[class];
}
