/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of this room share; nobody else includes it. */
#ifndef DERPMAP_INTERNAL_H
#define DERPMAP_INTERNAL_H

#include "derpmap/derpmap.h"

#include <jansson.h>
#include <netinet/in.h>

/* A key that stands twice in one object, in different letter case. */
struct derpmap_twice {
	struct derpmap_place place;
	const char *key;	/* in the spelling of our tables */
};

struct derpmap_score {
	struct derpmap_place place;
	int64_t region_id;
};

#define DERPMAP_MAX_TWICE	64u

struct derpmap_private {
	json_t *root;		/* the whole document */
	json_t *map;		/* the DERP map inside it, borrowed from root */
	const char *wrap_key;	/* under which map stands in root; NULL where map is root */
	json_t *regions;	/* its Regions, borrowed; NULL where null */
	char *name;		/* of the file, as it was given */
	unsigned int indent;	/* spaces a level, as the file has it */
	bool resolved;		/* names were looked up, and that told something */
	struct derpmap_place place;	/* of the map */
	struct derpmap_twice twice[DERPMAP_MAX_TWICE];
	size_t nr_twice;
	struct derpmap_place *nulls;	/* regions that are null */
	size_t nr_nulls;
	struct derpmap_score *scores;
	size_t nr_scores;
};

/*
 * A cursor over JSON text that jansson has accepted: tells where a value stands, which jansson does
 * not. Bounds are checked all the same.
 */
struct derpmap_walk {
	const char *at;
	const char *end;
	const char *line_start;
	unsigned int line;
};

void derpmap_walk_init(struct derpmap_walk *walk, const char *bytes, size_t len);
/* To the next token, over space, commas and colons. */
void derpmap_walk_next(struct derpmap_walk *walk);
/* Over one bracket or brace. */
void derpmap_walk_bracket(struct derpmap_walk *walk);
/* Over one whole value. */
void derpmap_walk_skip(struct derpmap_walk *walk);
struct derpmap_place derpmap_walk_place(const struct derpmap_walk *walk);
struct derpmap_place derpmap_place_of(const char *bytes, const char *at);
/* The spaces before the first key, which are the file's indent; 2 where it has none. */
unsigned int derpmap_indent(const char *bytes, size_t len);

/* Growing text; a failed append sticks, so one look at the end is enough. */
struct derpmap_text {
	char *bytes;
	size_t len;
	size_t room;
	bool failed;
};

void derpmap_text_add(struct derpmap_text *text, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* The string, owned by the caller; NULL where an append failed. */
char *derpmap_text_take(struct derpmap_text *text);

/* Grows *list by one zeroed element; NULL without memory. */
void *derpmap_grow(void **list, size_t *count, size_t element_bytes);

/* The value of key in object, whatever its letter case; the last one, as Go takes it. */
json_t *derpmap_member(json_t *object, const char *key, const char **spelt);

/* Both families as IPv6, IPv4 mapped. Brackets around IPv6 are accepted. */
bool derpmap_address_parse(const char *text, struct in6_addr *address);
enum derpmap_class derpmap_address_class(const struct in6_addr *address, const char **kind);
/* Whether nobody can be dialled there: unspecified, multicast, reserved. */
bool derpmap_address_unusable(const struct in6_addr *address);
bool derpmap_hostname_valid(const char *hostname);
bool derpmap_address_none(const char *text);

/* The first region id free for one's own relays: 900 or above, after the given one. */
int64_t derpmap_free_id(const struct derpmap *map, int64_t after);
/* What people call the node: its Name, else its HostName. */
const char *derpmap_node_label(const struct derpmap_node *node);

/* Sets class, why and tailscale from what the map says. -ENOMEM. */
int derpmap_classify(struct derpmap_node *node);

/* The relays of a region that must be able to reach each other, counted by what they are. */
struct derpmap_census {
	size_t relays;
	size_t tailscale;	/* public, and in Tailscale's hands */
	size_t own_public;
	size_t own_private;
	size_t unknown;
};

void derpmap_census(const struct derpmap_region *region, struct derpmap_census *census);

#endif
