// SPDX-License-Identifier: BSD-2-Clause
/* What a TLS connection needs as long as its keys, or record numbers, are looked for. */
#include <stdlib.h>
#include <utlist.h>

#include "stream/connection.h"

struct connection_search *search_get(struct connection *c)
{
	if (!c->search) {
		c->search = calloc(1, sizeof(*c->search));
		if (c->search)
			c->search->user.owner = c;
	}
	return c->search;
}

void search_wait(struct connection *c, uint64_t since_ns)
{
	struct connection_search *s = since_ns ? search_get(c) : c->search;

	if (!s)
		return;
	if (since_ns && !s->waiting_ns)
		DL_APPEND(c->shared->waiting, s);
	else if (!since_ns && s->waiting_ns)
		DL_DELETE(c->shared->waiting, s);
	s->waiting_ns = since_ns;
}

void search_end(struct connection *c)
{
	if (!c->search)
		return;
	search_wait(c, 0);
	secrets_leave(&c->shared->secrets, &c->search->user);
	free(c->search);
	c->search = NULL;
}
