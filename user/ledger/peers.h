/* SPDX-License-Identifier: BSD-2-Clause */
/* Peers, where they are, and the one exit that leads to each. */
#ifndef LEDGER_PEERS_H
#define LEDGER_PEERS_H

#include "base/chains.h"
#include "record/record.h"

struct conn;
struct ledger;
struct presence;

/* The one exit that leads to a peer, and since when; exit NULL: none, or more than one. */
struct route {
	struct conn *exit;
	uint64_t from_ns;
};

/* What only those have that were elsewhere before. */
struct peer_past {
	struct route route;	/* before the one of now */
	uint64_t to_ns;
	uint64_t unclean_ns;	/* before it an exit that has been let go may have been missed */
};

struct peer {
	struct chain chain;	/* by key; an unknown peer is in no table */
	struct key key;		/* zero: not known */
	uint32_t refs;
	uint32_t no;		/* by which it is told; 0: it was not yet */
	uint32_t group;		/* see ledger_group(); 0: it has met nobody */
	bool unknown;
	bool rests;		/* and so does its one connection, to which its route leads; see dormant.h */
	union {
		struct conn *conns; /* its connections here; ended ones too until they are let go */
		uint64_t resting;	/* with rests: that one's number */
	};
	struct presence *presences;
	struct route route;
	struct peer_past *past;	/* NULL: nothing */
};

/* What a mesh peer said of one of its clients, or what a forward to it showed. */
struct presence {
	struct chain chain;	/* by (conn, peer) */
	struct conn *conn;
	struct peer *peer;
	struct presence *next_of_conn, **at_conn, *next_of_peer;
	bool present, not_here;
	bool seen;		/* shown by a forward only: no frame told it */
	bool dirty;
	uint8_t flags;
	struct addr addr;
	uint64_t here_ns, gone_ns;	/* when either was told */
};

/* Of a key that a frame names, with a reference for the caller. Over the limit: nobody. */
struct peer *ledger_peer_get(struct ledger *l, const struct key *key);
struct peer *ledger_peer_unknown(struct ledger *l);
static inline struct peer *peer_ref(struct peer *p)
{
	p->refs++;
	return p;
}
void ledger_peer_put(struct ledger *l, struct peer *p);
/* Packets for its peer may leave on it since @since_ns, and no other change is known since @time_ns. */
void ledger_peer_register(struct ledger *l, struct conn *c, uint64_t since_ns, uint64_t time_ns);
void ledger_peer_unregister(struct ledger *l, struct conn *c);
/* Its connections or presences have changed: where do its packets leave now? */
void ledger_peer_reroute(struct ledger *l, struct peer *p, uint64_t time_ns);
/* A forward for it was seen leaving on @c. */
void ledger_peer_forwarded(struct ledger *l, struct peer *p, struct conn *c, uint64_t time_ns);
void ledger_presence_tell(struct ledger *l, struct conn *c, const struct record_presence *said,
			  uint64_t time_ns);
/* What a mesh peer says of its clients may be missed on @c. */
void ledger_conn_unsure(struct ledger *l, struct conn *c);
/* Lets go those that are gone and told. */
void ledger_presences_sweep(struct ledger *l);
void ledger_presences_end(struct ledger *l, struct conn *c, uint64_t time_ns);
void ledger_presences_free(struct ledger *l, struct conn *c);

#endif
