// SPDX-License-Identifier: BSD-2-Clause
#include "stream/secrets.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

/* Sets of connections that were never seen: a key log of other programs, too. About 10 MiB. */
#define MAX_SETS	32768

static const struct {
	const char *label;
	enum secret_kind kind;
} labels[] = {
	{ "CLIENT_RANDOM", SECRET_MASTER },
	{ "CLIENT_HANDSHAKE_TRAFFIC_SECRET", SECRET_CLIENT_HANDSHAKE },
	{ "SERVER_HANDSHAKE_TRAFFIC_SECRET", SECRET_SERVER_HANDSHAKE },
	{ "CLIENT_TRAFFIC_SECRET_0", SECRET_CLIENT_TRAFFIC },
	{ "SERVER_TRAFFIC_SECRET_0", SECRET_SERVER_TRAFFIC },
};

static void unlist(struct secrets *t, struct secret_set *set)
{
	if (set->listed)
		DL_DELETE(t->unbound, set);
	set->listed = false;
}

static void remove_set(struct secrets *t, struct secret_set *set)
{
	unlist(t, set);
	HASH_DEL(t->sets, set);
	OPENSSL_cleanse(set, sizeof(*set));
	free(set);
}

static void make_room(struct secrets *t)
{
	struct secret_set *set, *next;

	if (HASH_COUNT(t->sets) < MAX_SETS)
		return;
	HASH_ITER(hh, t->sets, set, next) {
		if (!set->users) {
			remove_set(t, set);
			return;
		}
	}
}

static struct secret_set *get_set(struct secrets *t, const uint8_t random[static 32])
{
	struct secret_set *set;

	HASH_FIND(hh, t->sets, random, sizeof(set->random), set);
	if (set)
		return set;
	make_room(t);
	set = calloc(1, sizeof(*set));
	if (!set)
		return NULL;
	memcpy(set->random, random, sizeof(set->random));
	HASH_ADD(hh, t->sets, random, sizeof(set->random), set);
	return set;
}

struct secret_set *secrets_add(struct secrets *t, uint32_t node, const struct capture_secret *s)
{
	struct secret_set *set;
	struct secret *secret;
	size_t i;

	for (i = 0; i < sizeof(labels) / sizeof(labels[0]); i++)
		if (s->label && !strcmp(s->label, labels[i].label))
			break;
	if (i == sizeof(labels) / sizeof(labels[0]))
		return NULL;
	if (s->len != 48 && (s->len != 32 || labels[i].kind == SECRET_MASTER))
		return NULL;
	set = get_set(t, s->random);
	if (!set)
		return NULL;
	secret = &set->secrets[labels[i].kind];
	secret->len = s->len;
	memcpy(secret->b, s->secret, s->len);
	set->node = node;
	set->serial = ++t->serial;
	unlist(t, set);
	if (!set->users) {
		DL_APPEND(t->unbound, set);
		set->listed = true;
	}
	return set;
}

int secrets_join(struct secrets *t, const uint8_t random[static 32], struct secret_user *user)
{
	/* A second ClientHello, after a retry, has the same random. */
	if (user->set && !memcmp(user->set->random, random, sizeof(user->set->random)))
		return 0;
	secrets_leave(t, user);
	user->set = get_set(t, random);
	if (!user->set)
		return -ENOMEM;
	if (user->set->node || user->set->users)
		unlist(t, user->set);
	DL_APPEND(user->set->users, user);
	return 0;
}

void secrets_leave(struct secrets *t, struct secret_user *user)
{
	struct secret_set *set = user->set;

	if (!set)
		return;
	DL_DELETE(set->users, user);
	user->set = NULL;
	if (!set->users && !set->listed)
		remove_set(t, set);
}

static struct secret_set *older(const struct secrets *t, const struct secret_set *set)
{
	/* The head's previous one is the tail. */
	return set == t->unbound ? NULL : set->prev;
}

static bool is_of(const struct secret_set *set, uint32_t node)
{
	return !set->node || set->node == node;
}

struct secret_set *secrets_unbound_before(struct secrets *t, uint32_t node, uint64_t after,
					  const struct secret_set *newer)
{
	struct secret_set *set = newer ? older(t, newer) : t->unbound ? t->unbound->prev : NULL;

	while (set && set->serial > after && !is_of(set, node))
		set = older(t, set);
	return set && set->serial > after ? set : NULL;
}

struct secret_set *secrets_unbound(struct secrets *t, uint32_t node, uint64_t after)
{
	struct secret_set *set = NULL, *oldest = NULL;

	while ((set = secrets_unbound_before(t, node, after, set)))
		oldest = set;
	return oldest;
}

void secrets_clear(struct secrets *t)
{
	struct secret_set *set, *next;
	struct secret_user *user, *tmp;

	HASH_ITER(hh, t->sets, set, next) {
		DL_FOREACH_SAFE(set->users, user, tmp)
			user->set = NULL;
		remove_set(t, set);
	}
}
