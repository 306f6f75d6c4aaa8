/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TLS secrets by client random: those that were told, and the connections that wait for them, in
 * whatever order they come. A set is wiped with its last connection; one that no node told is a file's,
 * in which both ends of a connection may be seen: it is wiped with the second, or when all are.
 */
#ifndef DT_STREAM_SECRETS_H
#define DT_STREAM_SECRETS_H

#include <uthash.h>

#include "capture/capture.h"

enum secret_kind {
	SECRET_MASTER,			/* TLS 1.2 */
	SECRET_CLIENT_HANDSHAKE,
	SECRET_SERVER_HANDSHAKE,
	SECRET_CLIENT_TRAFFIC,
	SECRET_SERVER_TRAFFIC,
	SECRET_KINDS,
};

struct secret {
	uint8_t len;			/* 0: not known */
	uint8_t b[48];
};

/* A connection's stake in a set. */
struct secret_user {
	struct secret_user *next, *prev;
	struct secret_set *set;		/* NULL: none */
	void *owner;
};

struct secret_set {
	uint8_t random[32];
	uint32_t node;			/* that told it; 0: none did yet */
	uint64_t serial;		/* counts up, over all sets of a table, as secrets come */
	struct secret secrets[SECRET_KINDS];
	struct secret_user *users;
	struct secret_set *next, *prev;	/* while in secrets.unbound */
	bool listed;			/* it is */
	UT_hash_handle hh;
};

struct secrets {
	struct secret_set *sets;	/* oldest first */
	struct secret_set *unbound;	/* told, and may yet be somebody's: by serial number */
	uint64_t serial;
};

/* NULL where it is of no use (other labels, wrong lengths) or there is no memory. */
struct secret_set *secrets_add(struct secrets *t, uint32_t node, const struct capture_secret *s);

/* Joins @user to the set of @random, which may be empty so far. 0 or -ENOMEM. */
int secrets_join(struct secrets *t, const uint8_t random[static 32], struct secret_user *user);
void secrets_leave(struct secrets *t, struct secret_user *user);

/*
 * The oldest set of @node that came after serial number @after and that no connection has joined (a
 * file's: no second one); NULL: none.
 */
struct secret_set *secrets_unbound(struct secrets *t, uint32_t node, uint64_t after);
/* The same from the newest back: the one before @newer (NULL: the newest of all). */
struct secret_set *secrets_unbound_before(struct secrets *t, uint32_t node, uint64_t after,
					  const struct secret_set *newer);

/* Wipes and frees all. */
void secrets_clear(struct secrets *t);

#endif
