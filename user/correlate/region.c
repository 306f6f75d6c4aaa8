/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which nodes there are, what they are called and in which region they stand. A node is a life: one
 * process, as one tracer saw it. Nodes that nobody traces come from what others saw of them and from
 * the DERP map. Traced ones stand first, in an order that their facts alone decide.
 */
#include "correlate/analysis.h"
#include "derpmap/derpmap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct derpmap_node *map_by_address(const struct derpmap *map, const struct addr *addr)
{
	char ip[ADDR_TEXT_LEN];

	if (!map || !addr->family)
		return NULL;
	addr_format_ip(addr, ip);
	return derpmap_find_node_by_address(map, ip, addr->port);
}

static const struct derpmap_node *map_by_name(const struct derpmap *map, const char *name)
{
	return map && name && *name ? derpmap_find_node_by_host(map, name) : NULL;
}

/* The address by which it is known: health checks over loopback are not how clients reach it. */
static const struct addr *served(const struct record_node *info)
{
	uint32_t i, n = info->serves_count < 4 ? info->serves_count : 4;

	for (i = 0; i < n; i++) {
		if (!addr_is_loopback(&info->serves[i]))
			return &info->serves[i];
	}
	return n ? &info->serves[0] : NULL;
}

static void life_node(const struct analysis *a, uint32_t life_no, struct node *n)
{
	const struct life *life = a->c->lives[life_no];
	const struct record_node *info = &life->info;
	const struct addr *addr = served(info);
	uint32_t i;

	memset(n, 0, sizeof(*n));
	n->life = life;
	n->agent = life->agent;
	n->key = info->key;
	n->region = -1;
	n->ended = info->ended_ns != 0;
	for (i = 0; i < info->serves_count && i < 4 && !n->map; i++)
		n->map = map_by_address(a->c->map, &info->serves[i]);
	if (!n->map)
		n->map = map_by_name(a->c->map, info->tls_name);
	if (addr)
		n->addr = *addr;
	if (n->map) {
		n->region = n->map->region->id;
		text_copy(n->name, sizeof(n->name) - 8, n->map->hostname);
	} else if (addr) {
		addr_format(addr, n->name);
	} else if (info->tls_name[0]) {
		text_copy(n->name, sizeof(n->name) - 8, info->tls_name);
	} else {
		char host[64], comm[64];

		text_copy(host, sizeof(host), a->c->agents[life->agent].info.host);
		text_copy(comm, sizeof(comm), info->name);
		snprintf(n->name, sizeof(n->name) - 8, "%s:%s[%d]", host, comm, info->pid);
	}
}

#define CMP(x, y) do { if ((x) != (y)) return (x) < (y) ? -1 : 1; } while (0)

static int by_facts(const void *pa, const void *pb, void *ctx)
{
	const struct node *x = pa, *y = pb;
	const struct correlate *c = ctx;
	int cmp;

	CMP(x->region, y->region);
	cmp = strcmp(x->name, y->name);
	if (cmp)
		return cmp;
	CMP(x->life->info.since_ns, y->life->info.since_ns);
	cmp = key_compare(&x->key, &y->key);
	if (cmp)
		return cmp;
	CMP(x->life->info.pid, y->life->info.pid);
	CMP(c->agents[x->agent].id, c->agents[y->agent].id);
	CMP(x->life->node, y->life->node);
	return 0;
}

static uint64_t life_end(const struct analysis *a, const struct life *life)
{
	return life->info.ended_ns ? life->info.ended_ns : a->c->agents[life->agent].last_ns;
}

static uint64_t two_lives(uint32_t x, uint32_t y)
{
	return x < y ? (uint64_t)x << 32 | y : (uint64_t)y << 32 | x;
}

/*
 * What two tracers of one process know of a connection, and nobody of another one: the client random, and
 * which end it is; of a plain one its addresses, and whose server it is. 0: not enough.
 */
static uint64_t end_hash(const struct correlate *c, const struct life *life, const struct conn *conn)
{
	const struct addr *ends[] = { &conn->rec.local, &conn->rec.remote };
	uint64_t words[2], h = conn->rec.dialled;
	int i;

	if (conn->rec.tag)
		return hash_words(&c->seed, conn->rec.tag, h, 1) | 1;
	if (key_is_zero(&life->info.key) || !conn->rec.local.port || !conn->rec.remote.port)
		return 0;
	for (i = 0; i < 2; i++) {
		memcpy(words, ends[i]->ip, sizeof(words));
		h = hash_words(&c->seed, words[0], words[1], h << 16 | ends[i]->port);
	}
	return hash_words(&c->seed, h, hash_key(&c->seed, &life->info.key), 2) | 1;
}

/* Lives that are one process because they have a connection in common, though two agents tell of them. */
static int find_twice(struct analysis *a)
{
	struct table first = { 0 };
	size_t i, j;
	int err = 0;

	for (i = 0; !err && i < a->c->life_count; i++) {
		const struct life *life = a->c->lives[i];

		for (j = 0; !err && j < life->conn_count; j++) {
			uint64_t hash = end_hash(a->c, life, life->conns[j]);
			uint32_t *at = hash ? table_find(&first, hash) : NULL;

			if (!hash)
				continue;
			if (!at)
				err = table_put(&first, hash, i);
			else if (a->c->lives[*at]->agent != life->agent)
				err = table_put(&a->twice, two_lives(*at, i), 1);
		}
	}
	table_free(&first);
	return err;
}

/* One process, told by two tracers at once: the one that saw more of it speaks. */
static bool told_by_pid(const struct analysis *a, const struct life *x, const struct life *y)
{
	if (x->agent == y->agent || !x->info.pid || x->info.pid != y->info.pid ||
	    x->info.started_ns / NSEC_PER_SEC != y->info.started_ns / NSEC_PER_SEC ||
	    strcmp(a->c->agents[x->agent].info.host, a->c->agents[y->agent].info.host) ||
	    !key_equal(&x->info.key, &y->info.key))
		return false;
	return true;
}

static bool overlap(const struct analysis *a, const struct life *x, const struct life *y)
{
	return x->info.since_ns < life_end(a, y) && y->info.since_ns < life_end(a, x);
}

static bool is_shadow(const struct analysis *a, uint32_t life_no)
{
	const struct life *life = a->c->lives[life_no], *o;
	size_t i;

	for (i = 0; i < a->c->life_count; i++) {
		o = a->c->lives[i];
		if (o == life || !overlap(a, life, o))
			continue;
		if (!told_by_pid(a, life, o)) {
			if (!table_find(&a->twice, two_lives(life_no, i)))
				continue;
			if (o->info.books.entered != life->info.books.entered) {
				if (o->info.books.entered > life->info.books.entered)
					return true;
				continue;
			}
		}
		if (o->info.since_ns != life->info.since_ns) {
			if (o->info.since_ns < life->info.since_ns)
				return true;
		} else if (a->c->agents[o->agent].id < a->c->agents[life->agent].id) {
			return true;
		}
	}
	return false;
}

/* The same relay: its process was followed by another, or its tracer was. */
static bool same_relay(const struct node *x, const struct node *y)
{
	if (!key_is_zero(&x->key) && key_equal(&x->key, &y->key))
		return true;
	/* Coder's relays make a new key at each start; an address of one host stays with its node. */
	return x->addr.family && x->agent == y->agent && addr_equal(&x->addr, &y->addr);
}

static void identities(struct analysis *a)
{
	size_t i, j, best;

	for (i = 0; i < a->node_count; i++) {
		struct node *n = &a->nodes[i];

		best = i;
		n->identity = i;
		for (j = 0; j < a->node_count; j++) {
			const struct node *o = &a->nodes[j];

			if (j == i || !same_relay(n, o) ||
			    life_end(a, o->life) > n->life->info.since_ns +
						   (o->ended ? NOTICE_NS : NSEC_PER_SEC) ||
			    o->life->info.since_ns >= n->life->info.since_ns)
				continue;
			if (best == i ||
			    o->life->info.since_ns > a->nodes[best].life->info.since_ns)
				best = j;
		}
		if (best != i)
			n->identity = best;
	}
	for (i = 0; i < a->node_count; i++) {
		for (j = a->nodes[i].identity; a->nodes[j].identity != j;)
			j = a->nodes[j].identity;
		a->nodes[i].identity = j;
	}
}

/* Relays of the map that stand in a traced node's region and that nobody traces. */
static int map_nodes(struct analysis *a)
{
	const struct derpmap_node *m;
	struct node *n;
	size_t i;

	for (m = a->c->map ? derpmap_next_node(a->c->map, NULL) : NULL; m;
	     m = derpmap_next_node(a->c->map, m)) {
		bool wanted = false, there = false;

		if (m->stun_only)
			continue;
		for (i = 0; i < a->node_count; i++) {
			wanted |= a->nodes[i].map && a->nodes[i].map->region == m->region;
			there |= a->nodes[i].map == m;
		}
		if (!wanted || there)
			continue;
		if (!VEC_ROOM(a->nodes, a->node_count, a->node_cap))
			return -ENOMEM;
		n = &a->nodes[a->node_count];
		memset(n, 0, sizeof(*n));
		n->agent = NONE;
		n->map = m;
		n->region = m->region->id;
		n->to_ns = FOREVER;
		n->identity = a->node_count++;
		text_copy(n->name, sizeof(n->name) - 8, m->hostname);
	}
	return 0;
}

int region_nodes(struct analysis *a)
{
	size_t i;

	a->node_of_life = malloc((a->c->life_count + 1) * sizeof(*a->node_of_life));
	if (!a->node_of_life || find_twice(a) < 0)
		return -ENOMEM;
	for (i = 0; i < a->c->life_count; i++) {
		a->node_of_life[i] = NONE;
		if (!a->c->agents[a->c->lives[i]->agent].known)
			continue;
		if (is_shadow(a, i)) {
			a->told_twice++;
			continue;
		}
		if (!VEC_ROOM(a->nodes, a->node_count, a->node_cap))
			return -ENOMEM;
		life_node(a, i, &a->nodes[a->node_count]);
		a->has_map |= a->nodes[a->node_count].map != NULL;
		a->node_count++;
	}
	if (a->node_count)
		qsort_r(a->nodes, a->node_count, sizeof(*a->nodes), by_facts, a->c);
	a->traced_count = a->node_count;
	for (i = 0; i < a->node_count; i++) {
		const struct life *life = a->nodes[i].life;
		uint32_t *no = table_find(&a->c->life_index, (uint64_t)life->agent << 32 | life->node);

		a->node_of_life[*no] = i;
	}
	identities(a);
	return map_nodes(a);
}

/* Where it dials from has no port of its own: there the host must do. */
static bool same_place(const struct addr *x, const struct addr *y)
{
	if (!x->family || !y->family || addr_is_loopback(x))
		return false;
	return x->port && y->port ? addr_equal(x, y) : addr_equal_ip(x, y);
}

/* Which of the untraced nodes is it? The key tells for certain, then the map, then the address. */
static uint32_t untraced_find(const struct analysis *a, const struct key *key,
			      const struct addr *addr, const struct derpmap_node *map)
{
	size_t i;

	for (i = a->traced_count; !key_is_zero(key) && i < a->node_count; i++) {
		if (key_equal(&a->nodes[i].key, key))
			return i;
	}
	for (i = a->traced_count; i < a->node_count; i++) {
		const struct node *n = &a->nodes[i];

		if (!key_is_zero(key) && !key_is_zero(&n->key))
			continue;
		if ((map && n->map == map) || same_place(&n->addr, addr))
			return i;
	}
	return NONE;
}

/* The relay whose place an untraced one has taken: same key, or same address, and ended. */
static uint32_t predecessor(const struct analysis *a, uint32_t node)
{
	const struct node *n = &a->nodes[node];
	uint32_t i;

	for (i = 0; i < a->traced_count; i++) {
		const struct node *o = &a->nodes[i];

		if (o->ended && ((!key_is_zero(&n->key) && key_equal(&n->key, &o->key)) ||
				 (n->addr.port && addr_equal(&n->addr, &o->addr))))
			return o->identity;
	}
	return node;
}

uint32_t region_untraced(struct analysis *a, const struct key *key, const struct addr *addr,
			 const char *tls_name)
{
	const struct derpmap_node *map = map_by_address(a->c->map, addr);
	uint32_t at;
	struct node *n;

	if (!map)
		map = map_by_name(a->c->map, tls_name);
	at = untraced_find(a, key, addr, map);
	if (at == NONE) {
		if (!VEC_ROOM(a->nodes, a->node_count, a->node_cap))
			return NONE;
		n = &a->nodes[a->node_count];
		memset(n, 0, sizeof(*n));
		n->agent = NONE;
		n->to_ns = FOREVER;
		n->region = map ? (int)map->region->id : -1;
		n->map = map;
		n->identity = at = a->node_count++;
	}
	n = &a->nodes[at];
	if (key_is_zero(&n->key))
		n->key = *key;
	/* Where it listens tells more than the port from which it dialled. */
	if (addr->family && (!n->addr.family || (!n->addr.port && addr->port)))
		n->addr = *addr;
	if (n->identity == at)
		n->identity = predecessor(a, at);
	if (n->map)
		text_copy(n->name, sizeof(n->name) - 8, n->map->hostname);
	else if (n->addr.port)
		addr_format(&n->addr, n->name);
	else if (n->addr.family)
		addr_format_ip(&n->addr, n->name);
	else
		key_format_short(&n->key, n->name);
	return at;
}

void region_names(struct analysis *a)
{
	size_t i, j, same, len;

	for (i = a->node_count; i-- > 0;) {
		for (j = same = 0; j < i; j++)
			same += !strcmp(a->nodes[j].name, a->nodes[i].name);
		len = strlen(a->nodes[i].name);
		if (same)
			snprintf(a->nodes[i].name + len, sizeof(a->nodes[i].name) - len, "#%zu",
				 same + 1);
	}
}

void region_times(struct analysis *a)
{
	size_t i;

	for (i = 0; i < a->traced_count; i++) {
		struct node *n = &a->nodes[i];

		n->from_ns = ref_time(a, n->agent, n->life->info.since_ns);
		n->to_ns = ref_time(a, n->agent, life_end(a, n->life));
	}
}

bool region_same(const struct analysis *a, uint32_t x, uint32_t y)
{
	return a->nodes[x].identity != a->nodes[y].identity &&
	       (!a->has_map || a->nodes[x].region == a->nodes[y].region);
}

bool region_overlap(const struct analysis *a, uint32_t x, uint32_t y)
{
	return a->nodes[x].from_ns < a->nodes[y].to_ns && a->nodes[y].from_ns < a->nodes[x].to_ns;
}

uint32_t region_successor(const struct analysis *a, uint32_t node)
{
	const struct node *n = &a->nodes[node];
	uint32_t i;

	for (i = 0; n->ended && i < a->node_count; i++) {
		const struct node *o = &a->nodes[i];

		if (i != node && o->identity == n->identity && o->from_ns > n->from_ns &&
		    o->from_ns + NOTICE_NS >= n->to_ns)
			return i;
	}
	return NONE;
}
