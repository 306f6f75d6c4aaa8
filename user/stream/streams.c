// SPDX-License-Identifier: BSD-2-Clause
/* All connections: capture's events to the one that they are about. */
#include <openssl/crypto.h>
#include <stdlib.h>
#include <sys/random.h>
#include <utlist.h>

#include "stream/connection.h"

/* What waits longer than this is called missing, until it is read after all. */
#define PATIENCE_NS	2000000000ULL
#define CONNECTION_BYTES (256 << 10)
#define TOTAL_BYTES	(32 << 20)
/* With a file's key log, over all its connections whose beginning is not in the file: some seconds. */
#define FILE_TRIALS	(8 << 20)
/*
 * Who is told a secret has it with its first records. Without one for so long, memory is worth a
 * search; in vain, it is worth one again after twice the time. A node is searched so often at most.
 */
#define SEARCH_AFTER_NS	300000000ULL
#define SEARCH_AGAIN_NS	60000000000ULL
#define SEARCH_EVERY_NS	1000000000ULL

#define RECENT		256
#define REST_EVERY_NS	1000000000ULL

struct search {
	uint32_t node;
	uint64_t last_ns;
	UT_hash_handle hh;
};

struct streams {
	struct stream_sink sink;
	struct connection_shared shared;
	struct chains connections; /* by id, which is given by ourselves: it is its own hash */
	struct shelf resting;	/* the others: they carry nothing, and wait for nothing */
	uint64_t silent;	/* of them, those that never carried data */
	uint64_t rested_ns;	/* connections were laid down last */
	struct connection *recent[RECENT]; /* found last, by id; or NULL */
	struct search *searches;	/* by node */
	uint64_t now_ns;		/* of the last event */
};

struct streams *streams_new(const struct stream_sink *sink, const struct stream_limits *limits)
{
	struct streams *s = calloc(1, sizeof(*s));
	uint64_t seed;

	if (!s)
		return NULL;
	s->shared.tls.pool = cipher_pool_new();
	if (!s->shared.tls.pool) {
		free(s);
		return NULL;
	}
	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = (uintptr_t)s;
	shared_init(&s->shared.names, sizeof(struct stream_names), seed);
	s->sink = *sink;
	s->shared.sink = &s->sink;
	s->shared.connection_bytes = limits && limits->connection_bytes ?
					     limits->connection_bytes : CONNECTION_BYTES;
	s->shared.patience_ns = limits && limits->secrets_first ? 0 : PATIENCE_NS;
	s->shared.trials = limits && limits->secrets_first ? FILE_TRIALS : 0;
	s->shared.budget.limit = limits && limits->total_bytes ? limits->total_bytes : TOTAL_BYTES;
	return s;
}

static struct connection *connection_of(const struct chain *at)
{
	return ITEM_OF(at, struct connection, chain);
}

static void remove_connection(struct streams *s, struct connection *c)
{
	chains_del(&s->connections, &c->chain);
	if (s->recent[c->id % RECENT] == c)
		s->recent[c->id % RECENT] = NULL;
	connection_free(c);
}

void streams_free(struct streams *s)
{
	struct chain *at, *next;
	struct search *search, *tmp;

	if (!s)
		return;
	for (at = chains_first(&s->connections); at; at = next) {
		next = chains_next(&s->connections, at);
		remove_connection(s, connection_of(at));
	}
	chains_free(&s->connections);
	shelf_free(&s->resting);
	HASH_ITER(hh, s->searches, search, tmp) {
		HASH_DEL(s->searches, search);
		free(search);
	}
	secrets_clear(&s->shared.secrets);
	shared_clear(&s->shared.names);
	cipher_pool_free(s->shared.tls.pool);
	OPENSSL_cleanse(&s->shared, sizeof(s->shared));
	free(s);
}

static bool is_silent(const struct connection *c)
{
	return !c->info.bytes[0] && !c->info.bytes[1];
}

/* NULL without memory: it rests on. */
static struct connection *wake(struct streams *s, uint64_t id, const uint8_t *bytes)
{
	struct connection *c = connection_wake(&s->shared, id, bytes);

	if (!c)
		return NULL;
	/* The table is there: it was in it. */
	chains_add(&s->connections, &c->chain, id);
	s->silent -= is_silent(c);
	shelf_drop(&s->resting, id);
	return c;
}

static struct connection *find(struct streams *s, uint64_t id)
{
	struct chain *at = chains_find(&s->connections, id);
	const uint8_t *resting = at ? NULL : shelf_find(&s->resting, id);

	if (resting)
		return wake(s, id, resting);
	return at ? connection_of(at) : NULL;
}

static void lay_down(struct streams *s, struct connection *c)
{
	uint64_t id = c->id;
	bool silent = is_silent(c);

	chains_del(&s->connections, &c->chain);
	c->chain = (struct chain){ 0 };
	if (!connection_rest(c, &s->resting)) {
		chains_add(&s->connections, &c->chain, id);
		return;
	}
	s->silent += silent;
	if (s->recent[id % RECENT] == c)
		s->recent[id % RECENT] = NULL;
}

static void lay_down_all(struct streams *s, uint64_t now_ns)
{
	struct chain *at, *next;

	if (now_ns < s->rested_ns + REST_EVERY_NS)
		return;
	s->rested_ns = now_ns;
	for (at = chains_first(&s->connections); at; at = next) {
		next = chains_next(&s->connections, at);
		if (connection_may_rest(connection_of(at), now_ns))
			lay_down(s, connection_of(at));
	}
}

/* The same for what comes often. */
static struct connection *find_recent(struct streams *s, uint64_t id)
{
	struct connection **recent = &s->recent[id % RECENT];

	if (!*recent || (*recent)->id != id)
		*recent = find(s, id);
	return *recent;
}

static void open_connection(struct streams *s, const struct capture_event *event)
{
	struct connection *c = event->conn ? find(s, event->conn) : NULL;

	if (!event->conn || (c && !connection_begins(c, event)))
		return;
	/* A dial that is answered only now: nothing has been said on it. */
	if (c)
		remove_connection(s, c);
	c = connection_new(&s->shared, event);
	if (!c)
		return;
	if (!chains_add(&s->connections, &c->chain, c->id)) {
		connection_free(c);
		return;
	}
	connection_event(c, event);
}

static void close_connection(struct streams *s, struct connection *c,
			     const struct capture_event *event)
{
	connection_event(c, event);
	connection_close(c, event->time_ns);
	/* Closed is closed: what is missing now is not going to be found. */
	connection_stats(c, UINT64_MAX, &s->shared.gone);
	s->shared.gone.waiting = 0;
	remove_connection(s, c);
}

static void take_secret(struct streams *s, const struct capture_event *event)
{
	struct secret_set *set = secrets_add(&s->shared.secrets, event->node, &event->secret);
	struct secret_user *user, *next;

	if (!set)
		return;
	DL_FOREACH_SAFE(set->users, user, next)
		connection_secrets(user->owner, event->time_ns);
}

static void tick(struct streams *s, uint64_t time_ns)
{
	struct connection_search *search, *next;

	DL_FOREACH_SAFE(s->shared.waiting, search, next)
		connection_tick(search->user.owner, time_ns);
	lay_down_all(s, time_ns);
}

void streams_event(struct streams *s, const struct capture_event *event)
{
	struct connection *c;

	if (event->time_ns > s->now_ns)
		s->now_ns = event->time_ns;
	switch (event->type) {
	case CAPTURE_CONN_OPEN:
		open_connection(s, event);
		break;
	case CAPTURE_SEGMENT:
	case CAPTURE_FRAME:
	case CAPTURE_COUNTING:
	case CAPTURE_COUNT:
	case CAPTURE_FORWARD:
	case CAPTURE_FACTS:
	case CAPTURE_CANDIDATE:
	case CAPTURE_QUIET:
		c = find_recent(s, event->conn);
		if (!c)
			break;
		connection_event(c, event);
		break;
	case CAPTURE_CONN_CLOSE:
		c = find(s, event->conn);
		if (c)
			close_connection(s, c, event);
		break;
	case CAPTURE_SECRET:
		take_secret(s, event);
		break;
	case CAPTURE_TICK:
		tick(s, event->time_ns);
		break;
	default:
		break;
	}
}

static bool wants_search(const struct connection_search *s, uint32_t node, uint64_t now_ns)
{
	const struct connection *c = s->user.owner;

	return c->node == node && c->tls && tls_lacks_keys(c->tls) &&
	       now_ns > (s->search_ns ? s->search_ns : s->waiting_ns + SEARCH_AFTER_NS);
}

static void note_search(struct connection_search *s, uint64_t now_ns)
{
	s->search_wait_ns = s->search_wait_ns ? 2 * s->search_wait_ns : SEARCH_AFTER_NS;
	if (s->search_wait_ns > SEARCH_AGAIN_NS)
		s->search_wait_ns = SEARCH_AGAIN_NS;
	s->search_ns = now_ns + s->search_wait_ns;
}

bool streams_want_search(struct streams *s, uint32_t node, uint64_t now_ns)
{
	struct connection_search *c;
	struct search *search;
	bool wanted = false;

	DL_FOREACH(s->shared.waiting, c)
		wanted = wanted || wants_search(c, node, now_ns);
	if (!wanted)
		return false;
	HASH_FIND(hh, s->searches, &node, sizeof(node), search);
	if (search && now_ns < search->last_ns + SEARCH_EVERY_NS)
		return false;
	if (!search) {
		search = calloc(1, sizeof(*search));
		if (!search)
			return false;
		search->node = node;
		HASH_ADD(hh, s->searches, node, sizeof(search->node), search);
	}
	search->last_ns = now_ns;
	DL_FOREACH(s->shared.waiting, c)
		if (wants_search(c, node, now_ns))
			note_search(c, now_ns);
	return true;
}

const struct stream_info *streams_info(struct streams *s, uint64_t conn)
{
	const struct connection *c = find(s, conn);

	return c ? &c->info : NULL;
}

void streams_stats(const struct streams *s, struct stream_stats *stats)
{
	const struct chain *at;

	*stats = s->shared.gone;
	stats->connections += shelf_count(&s->resting) - s->silent;
	stats->records = s->shared.tls.opened;
	stats->records_failed = s->shared.tls.failed;
	stats->records_by_heads = s->shared.tls.by_heads;
	for (at = chains_first(&s->connections); at; at = chains_next(&s->connections, at))
		connection_stats(connection_of(at), s->now_ns, stats);
}
