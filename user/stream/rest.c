// SPDX-License-Identifier: BSD-2-Clause
/*
 * Connections on which nothing happens, as most of a relay's are most of the time: nothing is under way
 * on them, nothing waits. Of each the bytes are kept that its numbers and its secrets need.
 */
#include <openssl/crypto.h>
#include <stdlib.h>

#include "base/fold.h"
#include "stream/connection.h"

#define REST_NS		1000000000ULL	/* silent for so long */

/* What a connection may have of its own. */
static const struct part {
	size_t at, size;
} parts[] = {
	{ offsetof(struct connection, tls), sizeof(struct tls) },
	{ offsetof(struct connection, claims), 2 * sizeof(struct connection_claim) },
	{ offsetof(struct connection, apps[0].websocket), sizeof(struct websocket) },
	{ offsetof(struct connection, apps[1].websocket), sizeof(struct websocket) },
};

#define PARTS		(sizeof(parts) / sizeof(parts[0]))
#define FOLDED		(FOLD_BYTES(sizeof(struct connection)) + FOLD_BYTES(sizeof(struct tls)) + \
			 2 * FOLD_BYTES(sizeof(struct connection_claim)) +		     \
			 2 * FOLD_BYTES(sizeof(struct websocket)))

_Static_assert(sizeof(struct connection) % 8 == 0 && sizeof(struct tls) % 8 == 0 &&
	       sizeof(struct connection_claim) % 8 == 0 && sizeof(struct websocket) % 8 == 0,
	       "whole words are folded");

static void **part_of(struct connection *c, size_t i)
{
	return (void **)((char *)c + parts[i].at);
}

static void release(struct connection *c)
{
	size_t i;

	for (i = 0; i < PARTS; i++) {
		if (*part_of(c, i))
			OPENSSL_cleanse(*part_of(c, i), parts[i].size);
		free(*part_of(c, i));
	}
	free(c);
}

bool connection_may_rest(const struct connection *c, uint64_t now_ns)
{
	int dir;

	if (c->seen_ns + REST_NS > now_ns || c->search || c->http || c->budget.used ||
	    c->info.secret_missing || c->info.unsynchronised || (c->tls && c->tls->search))
		return false;
	for (dir = 0; dir < 2; dir++) {
		const struct derp *d = &c->apps[dir].derp;

		if (c->dirs[dir].head || c->dirs[dir].counting || d->part || d->sync ||
		    (c->tls && c->tls->sides[dir].records.part))
			return false;
	}
	return true;
}

bool connection_rest(struct connection *c, struct shelf *shelf)
{
	struct connection_shared *shared = c->shared;
	const uint64_t id = c->id;
	uint8_t bytes[FOLDED], *end;
	bool rests;
	size_t i;

	connection_tie(c, NULL);
	c->id = c->seen_ns = 0;
	end = fold(c, sizeof(*c), bytes);
	for (i = 0; i < PARTS; i++) {
		if (*part_of(c, i))
			end = fold(*part_of(c, i), parts[i].size, end);
	}
	rests = end - bytes <= SHELF_MAX && shelf_put(shelf, id, bytes, (size_t)(end - bytes));
	OPENSSL_cleanse(bytes, sizeof(bytes));
	if (rests) {
		release(c);
		return true;
	}
	c->id = id;
	connection_tie(c, shared);
	return false;
}

struct connection *connection_wake(struct connection_shared *shared, uint64_t id,
				   const uint8_t *bytes)
{
	struct connection *c = malloc(sizeof(*c));
	bool whole = true;
	size_t i;

	if (!c)
		return NULL;
	bytes = unfold(bytes, c, sizeof(*c));
	for (i = 0; i < PARTS; i++) {
		void **part = part_of(c, i);

		if (!*part)
			continue;
		*part = whole ? malloc(parts[i].size) : NULL;
		whole = *part;
		if (whole)
			bytes = unfold(bytes, *part, parts[i].size);
	}
	if (whole) {
		c->id = id;
		connection_tie(c, shared);
		return c;
	}
	release(c);
	return NULL;
}
