/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The DERP map: the JSON by which clients know the relays (Tailscale's default map, the derpMap of
 * a tailnet policy file, Coder's --derp-config-path and --derp-config-url). Read, look up, check,
 * correct. Knows nothing of tracing and prints nothing.
 *
 * A map is hostile input. Every string in these structs, in findings and in errors is escaped for a
 * terminal: control, bidirectional and invisible characters, quotes and backslashes stand as
 * \uXXXX,
 * \" and \\. A valid host name or address is never changed by that.
 * Errors are 0 or -errno; every free accepts NULL.
 */
#ifndef DERPMAP_DERPMAP_H
#define DERPMAP_DERPMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DERPMAP_MAX_BYTES	(64u << 20)	/* of JSON text */
#define DERPMAP_MAX_VALUES	1000000u	/* JSON values in the text, known to us or not */
#define DERPMAP_MAX_REGIONS	10000u
#define DERPMAP_MAX_NODES	10000u
#define DERPMAP_MAX_STRING	1024u		/* bytes of a string that we use */

#define DERPMAP_DERP_PORT	443	/* what DERPPort 0 or missing means */
#define DERPMAP_STUN_PORT	3478	/* what STUNPort 0 or missing means */

struct derpmap_private;		/* the JSON tree and what only check and fix need */

enum derpmap_class {
	DERPMAP_UNKNOWN,	/* nothing in the map tells */
	DERPMAP_PUBLIC,		/* reachable from the internet */
	DERPMAP_PRIVATE,	/* RFC 1918, ULA, CGNAT, loopback, link-local, or a private name */
};

struct derpmap_place {
	unsigned int line;	/* 1 = first line of the file */
	unsigned int column;	/* 1 = first byte of the line */
};

struct derpmap_node {
	const struct derpmap_region *region;	/* the region whose Nodes list it stands in */
	char *name;		/* strings are never NULL, "" where missing */
	char *hostname;
	char *ipv4;		/* "none" where the map says so */
	char *ipv6;
	char *cert_name;
	char *stun_test_ip;
	int64_t region_id;	/* what the node itself says; 0 where missing */
	int64_t derp_port;	/* 443 where missing; outside 1..65535 where the map is wrong */
	int64_t stun_port;	/* 3478 where missing; -1 = no STUN */
	bool stun_only;		/* no relay */
	bool force_http;	/* Coder's */
	bool insecure;		/* InsecureForTests */
	bool can_port80;
	bool tailscale;		/* one of Tailscale's own public relays */
	enum derpmap_class class;
	char *why;		/* of the class, ends a sentence: "address 10.0.0.1, RFC 1918" */
	struct derpmap_place place;
	size_t index;		/* in Nodes, 0 = first */
};

struct derpmap_region {
	int64_t id;		/* the key in Regions: what clients look up */
	int64_t said_id;	/* RegionID inside; 0 where missing */
	bool has_said_id;
	char *code;
	char *name;
	bool avoid;
	bool embedded;		/* Coder's built-in relay */
	struct derpmap_node *nodes;	/* in the map's order */
	size_t nr_nodes;
	struct derpmap_place place;
};

struct derpmap {
	struct derpmap_region *regions;	/* in the file's order, not by id */
	size_t nr_regions;
	size_t nr_nodes;	/* of all regions */
	bool omit_default;	/* clients use these regions only, not Tailscale's */
	struct derpmap_private *priv;
};

struct derpmap_error {
	char message[768];	/* one line: "FILE:LINE:COLUMN: what is wrong; what to do" */
	struct derpmap_place place;	/* 0:0 where no place in the text is meant */
};

/*
 * Reads the map at path, "-" is standard input. *map is set on success only and belongs to the
 * caller. -errno of the file, -E2BIG over a bound, -EINVAL where it is no DERP map; err tells then.
 */
int derpmap_load(const char *path, struct derpmap **map, struct derpmap_error *err);

/* The same from memory; name stands in messages where derpmap_load has the path. */
int derpmap_parse(const char *bytes, size_t len, const char *name, struct derpmap **map,
		  struct derpmap_error *err);

void derpmap_free(struct derpmap *map);

/*
 * The first relay node (STUNOnly nodes are none) of that HostName: letter case and one final dot do
 * not matter, a literal address matches however it is written. NULL where none is.
 */
const struct derpmap_node *derpmap_find_node_by_host(const struct derpmap *map,
						     const char *hostname);

/*
 * The first relay node at that address: IPv4 or IPv6 text (in brackets too), compared with IPv4,
 * IPv6 and a literal HostName; any other text is taken as a host name. port in host order, 0 = any.
 */
const struct derpmap_node *derpmap_find_node_by_address(const struct derpmap *map,
							const char *address, uint16_t port);

/* The region with that id (its key), NULL where none is. */
const struct derpmap_region *derpmap_find_region(const struct derpmap *map, int64_t id);

/* All nodes in the file's order: start with NULL, ends with NULL. */
const struct derpmap_node *derpmap_next_node(const struct derpmap *map,
					     const struct derpmap_node *node);

/*
 * Asks the resolver for the names of relay nodes whose class is unknown and matters (regions of
 * several relays; 64 names at most) and sets class and why. Blocks as long as the resolver does.
 * A name that does not resolve stays unknown. Returns how many became known, or -errno.
 */
int derpmap_resolve(struct derpmap *map);

enum derpmap_level {
	DERPMAP_NOTE,		/* worth knowing; the map may be right as it is */
	DERPMAP_WARNING,	/* not what was meant, or not what clients will do */
	DERPMAP_FAULT,		/* clients lose packets, or refuse the map */
};

/* One row per check: the codes are stable, new ones are appended. */
struct derpmap_rule {
	const char *code;	/* "DTM001" */
	enum derpmap_level level;
	const char *summary;
};

const struct derpmap_rule *derpmap_rules(size_t *count);
const char *derpmap_level_name(enum derpmap_level level);
const char *derpmap_class_name(enum derpmap_class class);

struct derpmap_finding {
	const char *code;
	enum derpmap_level level;
	char *text;		/* one sentence */
	char *evidence;		/* lines, each ended by \n; "" where none */
	char *fix;		/* lines, each ended by \n; never empty */
	char *path;		/* Regions["1"].Nodes[0] */
	struct derpmap_place place;
	int64_t region_id;	/* where has_region */
	bool has_region;
};

struct derpmap_findings {
	struct derpmap_finding *list;	/* worst first, then in the file's order */
	size_t count;
	size_t by_level[DERPMAP_FAULT + 1];
};

/* All findings about map. -ENOMEM leaves *out empty. */
int derpmap_check(const struct derpmap *map, struct derpmap_findings *out);
void derpmap_findings_free(struct derpmap_findings *findings);

struct derpmap_fixed {
	char *json;		/* the corrected map, ends with \n */
	size_t json_len;
	char **changes;		/* a sentence each, in the order made */
	size_t nr_changes;
};

/*
 * The corrected map: relays that cannot mesh with the rest of their region get a region of their
 * own (900 or the next free id above), region and node ids that are missing or wrong are set to the
 * region's key; omit_default sets OmitDefaultRegions. Unknown keys, the order of keys and every
 * other value stay. map is not changed. -errno leaves *out empty.
 */
int derpmap_fix(const struct derpmap *map, bool omit_default, struct derpmap_fixed *out);
void derpmap_fixed_free(struct derpmap_fixed *fixed);

/* A copy of text, escaped as the strings of this door are; NULL without memory. */
char *derpmap_escape(const char *text);

#endif
