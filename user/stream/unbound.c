// SPDX-License-Identifier: BSD-2-Clause
/*
 * Secrets that no ClientHello asked for, and connections whose ClientHello was not seen, or had
 * another random inside (ECH): which belongs to which.
 */
#include <string.h>

#include "stream/connection.h"

/* So many are tried when a connection ends unread. */
#define LAST_TRIES	8

static void bind_set(struct connection *c, struct secret_set *set, uint64_t time_ns)
{
	if (secrets_join(&c->shared->secrets, set->random, &c->user))
		return;
	if (!c->info.tag)
		c->info.tag = handshake_tag(set->random);
	tls_bind(c->tls, set, time_ns);
}

void unbound_fit(struct connection *c, uint64_t time_ns)
{
	struct secrets *secrets = &c->shared->secrets;
	uint64_t after = c->fitted;
	struct secret_set *set = NULL;

	if (!c->tls || c->framed || c->info.decrypted || secrets->serial <= after ||
	    (!tls_waiting_since(c->tls, TLS_CLIENT) && !tls_waiting_since(c->tls, TLS_SERVER)))
		return;
	/* The newest first: they came with the handshake. */
	c->fitted = secrets->serial;
	while ((set = secrets_unbound_before(secrets, c->node, after, set))) {
		if (tls_fits(c->tls, set)) {
			bind_set(c, set, time_ns);
			return;
		}
	}
}

static bool try_next(struct connection *c, uint64_t time_ns)
{
	struct secret_set *set;

	if (c->info.decrypted || !tls_stuck(c->tls))
		return false;
	set = secrets_unbound(&c->shared->secrets, c->node, c->tried);
	if (!set)
		return false;
	c->tried = set->serial;
	tls_try_secrets(c->tls, set, time_ns);
	return true;
}

/* No secret comes later: all that there are, before anything is called missing. */
static void try_all(struct connection *c, uint64_t time_ns)
{
	struct secret_set *set;

	while (c->shared->trials && c->waiting_ns && !c->info.decrypted &&
	       (set = secrets_unbound(&c->shared->secrets, c->node, c->tried))) {
		c->tried = set->serial;
		tls_try_secrets_far(c->tls, set, time_ns, &c->shared->trials);
	}
}

/* What a trial of numbers far and wide has found is bound, too, so that it ends with @c. */
static void adopt(struct connection *c, uint64_t time_ns)
{
	struct secret_set *set;

	if (!c->info.decrypted || !c->tried)
		return;
	set = secrets_unbound(&c->shared->secrets, c->node, c->tried - 1);
	if (set && set->serial == c->tried && tls_uses(c->tls, set))
		bind_set(c, set, time_ns);
	c->tried = 0;
}

void unbound_try(struct connection *c, uint64_t time_ns)
{
	try_all(c, time_ns);
	try_next(c, time_ns);
	adopt(c, time_ns);
}

void unbound_try_last(struct connection *c, uint64_t time_ns)
{
	unsigned int tries = LAST_TRIES;

	unbound_fit(c, time_ns);
	try_all(c, time_ns);
	while (tries-- && try_next(c, time_ns))
		;
}
