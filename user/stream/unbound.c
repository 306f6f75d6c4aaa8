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
	if (secrets_join(&c->shared->secrets, set->random, &c->search->user))
		return;
	if (!c->info.tag)
		c->info.tag = handshake_tag(set->random);
	tls_bind(c->tls, set, time_ns);
}

void unbound_fit(struct connection *c, uint64_t time_ns)
{
	struct secrets *secrets = &c->shared->secrets;
	struct secret_set *set = NULL;
	uint64_t after;

	if (!c->tls || !c->search || c->framed || c->info.decrypted ||
	    secrets->serial <= c->search->fitted ||
	    (!tls_waiting_since(c->tls, TLS_CLIENT) && !tls_waiting_since(c->tls, TLS_SERVER)))
		return;
	/* The newest first: they came with the handshake. */
	after = c->search->fitted;
	c->search->fitted = secrets->serial;
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
	set = secrets_unbound(&c->shared->secrets, c->node, c->search->tried);
	if (!set)
		return false;
	c->search->tried = set->serial;
	tls_try_secrets(c->tls, set, time_ns);
	return true;
}

/* No secret comes later: all that there are, before anything is called missing. */
static void try_all(struct connection *c, uint64_t time_ns)
{
	struct secret_set *set;

	while (c->shared->trials && c->search->waiting_ns && !c->info.decrypted &&
	       (set = secrets_unbound(&c->shared->secrets, c->node, c->search->tried))) {
		c->search->tried = set->serial;
		tls_try_secrets_far(c->tls, set, time_ns, &c->shared->trials);
	}
}

/* What a trial of numbers far and wide has found is bound, too, so that it ends with @c. */
static void adopt(struct connection *c, uint64_t time_ns)
{
	struct secret_set *set;

	if (!c->info.decrypted || !c->search->tried)
		return;
	set = secrets_unbound(&c->shared->secrets, c->node, c->search->tried - 1);
	if (set && set->serial == c->search->tried && tls_uses(c->tls, set))
		bind_set(c, set, time_ns);
	c->search->tried = 0;
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
