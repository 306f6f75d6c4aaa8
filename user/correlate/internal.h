/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files of correlate share: the state that records leave behind. The analysis of it, which
 * lives as long as one report takes, is in analysis.h.
 *
 * Peers and pairs are interned: a peer is a number from 1 (0: its key is not known), a pair a number
 * from 1 (0: the row of all that has none of its own).
 */
#ifndef CORRELATE_INTERNAL_H
#define CORRELATE_INTERNAL_H

#include "base/hash.h"
#include "base/index.h"
#include "base/shared.h"
#include "base/slab.h"
#include "correlate/correlate.h"
#include "latency.h"

#define NONE		UINT32_MAX
#define OTHER_PAIR	0u
#define NSEC_PER_SEC	1000000000ull
#define NSEC_PER_MSEC	1000000ull

/* --- memory (mem.c) --- */

/* A hash table from numbers to numbers. All zero is an empty one. */
struct table {
	uint64_t *keys;
	uint32_t *values;
	size_t size, used;
};

/* NULL where @key is not there. */
uint32_t *table_find(const struct table *t, uint64_t key);
/* Sets or replaces. 0 or -ENOMEM. */
int table_put(struct table *t, uint64_t key, uint32_t value);
void table_free(struct table *t);

/*
 * Room for one more element of @size bytes behind @count. False without memory; nothing has changed
 * then.
 */
bool vec_reserve(void **data, size_t count, size_t *cap, size_t size);
#define VEC_ROOM(v, n, cap) vec_reserve((void **)&(v), (n), &(cap), sizeof(*(v)))

/* --- state (state.c) --- */

/* ForwardPacket frames of one pair on one mesh connection. */
struct row {
	uint32_t pair;
	uint64_t frames, bytes;
};

struct rows {
	struct row *v;
	size_t count, cap;
	struct table index;	/* of pairs, once there are many */
};

/* NULL: none, or, with @make, no memory. */
struct row *rows_get(struct rows *rows, uint32_t pair, bool make);
void rows_free(struct rows *rows);

struct mark_delta {
	uint32_t pair;
	uint64_t frames;	/* total at the mark */
};

struct mark {
	uint64_t digest, no, seen_ns;
	uint32_t len, pair;
	size_t first_delta, delta_count;
	/* The connection's gaps in the snapshot before the mark's: those told since may be behind it. */
	uint64_t gaps_before;
};

#define MARKS_KEPT	512	/* of a connection; older ones are folded into marks.base */

struct marks {
	struct mark *v;
	size_t count, cap;
	struct mark_delta *deltas;
	size_t delta_count, delta_cap;
	struct rows base;	/* totals before v[0] */
};

/* The worst that TCP's own word showed of a mesh connection, snapshot by snapshot. */
struct stall {
	uint64_t longest_ns;	/* that nothing of what stood unacknowledged was acknowledged */
	uint64_t first_ns, last_ns; /* when a stall was first and last seen */
	uint32_t unacked, notsent, max_segment, retransmits;
	uint32_t passed, stuck;	/* frames: the largest that was acknowledged before, the first that was not */
	uint64_t passed_count;
	bool before_end;	/* it stood so in the last snapshot before the connection ended */
};

/* What only a connection to another node has, or one that stood still. */
struct conn_mesh {
	struct record_conn_forwards rec;
	uint64_t gaps_before;	/* rec.gaps of the snapshot before the last */
	struct rows rows;
	struct marks marks;
	struct stall stall;
};

struct conn {
	struct record_conn_facts rec;
	const struct record_conn_names *names; /* kept once for all that have the same */
	uint32_t life, peer;
	uint64_t told_ns;	/* time of the last snapshot that told of it */
	uint64_t wedged_since_ns; /* client: unread in every snapshot since; 0: not so */
	uint64_t wedged_bytes;	/* in_bytes at wedged_since_ns */
	const struct conn_mesh *mesh; /* never NULL: most have none, and share an empty one */
};

/* What a node told of a pair last. Kept packed (counts.c); this is what it unpacks to. */
struct pair_row {
	uint64_t first_ns;
	struct record_pair;
	union {
		struct buckets latency_kept; /* what latency points to: a row is not copied */
		uint8_t room[sizeof(struct buckets) + LATENCY_BUCKETS * sizeof(uint32_t)];
	};
};

/* A pair by the number that the node has given it. */
struct pair_slot {
	uint32_t pair;		/* OTHER_PAIR: none, or without a row of its own */
	uint32_t row;		/* a block of c->rows; 0: nothing was told yet */
};

/* A mesh peer's word on one of its clients: the last time it came, and whether it is there. */
struct presence {
	uint64_t conn;
	uint32_t peer;
	uint64_t from_ns, gone_ns; /* gone 0: there */
	struct addr addr;
};

#define STILLS_KEPT	16	/* of a life; the last one takes in those that follow */

/* A time in which the process read nothing of what had come for it. */
struct still {
	uint64_t from_ns, to_ns;	/* to 0: it goes on */
	uint32_t conns;
};

/* One process of a relay, as one tracer saw it. */
/* A connection that is held back. */
struct held_one {
	uint64_t conn, since_ns, held_ns, rate; /* rate: bytes a second */
	uint32_t peer;
};

/* Of a life; held.c. */
struct held {
	/* of the snapshot that is being applied */
	uint64_t now_ns;
	uint32_t count, flowing; /* clients that are held back; of which all was read */
	struct held_one one;	/* of those held the one that is so for longest */
	bool blocked;		/* a mesh connection does not drain */
	/* that which may be a throttle, and when that was first seen */
	struct held_one first;
	uint64_t judged_ns;
	/* what was one; last_ns 0: none. Times of the agent */
	uint64_t first_ns, last_ns;
	struct held_one worst;
	bool several;		/* senders */
};

struct life {
	uint32_t agent, node;	/* index of the agent; the node's number there */
	struct record_node info;
	bool has_nic;
	struct record_nic nic;
	struct still stills[STILLS_KEPT];
	uint32_t still_count;
	struct record_nic_drop *nic_drops; /* one per connection, the newest */
	size_t nic_drop_count, nic_drop_cap;
	uint64_t told_ns;
	uint32_t number;	/* place in c->lives */
	uint32_t *kept;		/* its connections: blocks of c->rows; conns.c */
	size_t conn_count, conn_cap;
	size_t closed, failed_dials; /* of them, without those at hand */
	struct index conn_index; /* by number, of places in kept, from 1 */
	struct conn **conns;	/* while a report is made: the same, in the same order */
	uint64_t failed_dials_gone; /* let go: closed dials that carried nothing */
	uint32_t *peers;	/* by the node's number */
	size_t peer_count;
	struct pair_slot *pairs; /* by the node's number */
	size_t pair_count;
	struct presence *presence;
	size_t presence_count, presence_cap;
	struct table presence_index;
	struct held held;
};

struct loss {
	uint32_t life, pair, dst;	/* dst: the pair's, and known where there is no pair */
	uint8_t reason, basis;
	bool from_mesh;
	uint64_t in_conn, out_conn;
	uint64_t count, bytes, first_ns, last_ns;
	uint64_t from_ns, to_ns;	/* when they were dropped, as far as that is known */
};

struct agent {
	uint64_t id;
	struct record_agent info;
	bool known;		/* a snapshot was closed */
	bool cut;
	uint64_t first_ns, last_ns; /* snapshots */
	uint64_t base_ns;	/* of the times in its packed rows */
	struct record_step *steps; /* the newest */
	size_t step_count, step_cap;
	uint8_t *stage;		/* records of the snapshot that is not closed yet */
	size_t stage_len, stage_cap;
};

#define HANDS		64	/* connections that are not folded */

struct correlate {
	const struct derpmap *map;
	struct correlate_limits limits;
	struct seed seed;
	struct agent *agents;
	size_t agent_count, agent_cap;
	struct life **lives;
	size_t life_count, life_cap;
	struct table life_index;
	struct shared names;	/* of connections */
	struct key *peers;	/* [0]: zero */
	size_t peer_count, peer_cap;
	struct index peer_index;
	struct pair_ends {
		uint32_t src, dst : 31;
		uint32_t folded : 1;	/* a node has put what it knew of it into its other row */
	} *pairs;		/* [0]: the other row's */
	size_t pair_count, pair_cap;
	struct index pair_index;
	struct slab rows;	/* packed, of pairs and of connections */
	struct hand {
		struct life *life; /* NULL: empty */
		size_t place;
		struct conn conn;
	} hands[HANDS];		/* those told of last, by number */
	struct loss *losses;
	size_t loss_count, loss_cap, loss_limit;
	struct table left_out;	/* (agent, node): lives over limits.max_nodes */
};

/* The peer's number; NONE without memory. @make false: 0 where it is not known. */
uint32_t peer_get(struct correlate *c, const struct key *key, bool make);
/* OTHER_PAIR over the limit or for two unknown ends; NONE without memory. */
uint32_t pair_get(struct correlate *c, const struct key *src, const struct key *dst);
/* The same by the peers' numbers. */
uint32_t pair_of_peers(struct correlate *c, uint32_t src, uint32_t dst);
/* 0: it is not known. */
uint32_t pair_find(const struct correlate *c, uint32_t src, uint32_t dst);

void life_free(struct correlate *c, struct life *life);

/* Applies one record of a closed snapshot. 0 or -ENOMEM. */
int state_apply(struct correlate *c, uint32_t agent, const struct record *r);
/* Counts, as they were packed. 0 or -ENOMEM. */
int state_apply_counts(struct correlate *c, uint32_t agent, const struct record *r,
		       const uint8_t *bytes, size_t len);
/* After a snapshot: judges what was so in it, lets go what the limits do not keep. 0 or -ENOMEM. */
int state_closed(struct correlate *c, uint32_t agent);

/* --- connections (conns.c) --- */

/*
 * Takes the connection of that number in hand: *conn is as it was told last, and may be changed, until
 * the next one is. It is made where @made is no NULL pointer; else it is NULL where it is not known.
 * 0 or -ENOMEM.
 */
int conns_hand(struct correlate *c, struct life *life, uint64_t number, bool *made,
	       struct conn **conn);
/* Keeps those that are in hand. 0 or -ENOMEM. */
int conns_put_back(struct correlate *c);
/* Its place among those of its life, from 1 on, until conns_trim() moves them; 0: it is not known. */
uint32_t conns_place(const struct correlate *c, const struct life *life, uint64_t number);
/* Lets go what the limits do not keep. 0 or -ENOMEM. */
int conns_trim(struct correlate *c, struct life *life, bool *moved);
void conns_free(struct correlate *c, struct life *life);

/* For a report: life->conns, all of them, until conns_forget(). 0 or -ENOMEM. */
int conns_unfold(struct correlate *c);
void conns_forget(struct correlate *c);
/* Then: that of such a number; NULL: it is not known. */
const struct conn *life_conn(const struct correlate *c, const struct life *life, uint64_t number);

bool conn_has_mesh(const struct conn *conn);
/* Its own from here on. NULL without memory. */
struct conn_mesh *conn_mesh_get(struct conn *conn);

/* --- counts (counts.c) --- */

/* Keys and pairs by the life's numbers from now on. 0 or -ENOMEM. */
int counts_peers(struct correlate *c, struct life *life, const struct record_peers *rec);
int counts_pairs(struct correlate *c, struct life *life, const struct record_pairs *rec);
/*
 * Counts as they wait in a stage and are kept. counts_pack: of the pairs from place @from on, as many as
 * @room bytes hold; returns the bytes, and in *to the place behind the last one.
 */
size_t counts_pack(const struct record_counts *rec, uint64_t base_ns, size_t from, size_t *to,
		   uint8_t *bytes, size_t room);
/* 0 or -ENOMEM. */
int counts_apply(struct correlate *c, struct life *life, const uint8_t *bytes, size_t len);
/* What is known of the pair at that place in life->pairs. False: nothing; it is all zeros then. */
bool counts_get(const struct correlate *c, const struct life *life, size_t number,
		struct pair_row *row);
void counts_drop(struct correlate *c, struct life *life);

/* --- senders that are held back (held.c) --- */

/* A connection as the snapshot at @now_ns tells it. */
void held_note(struct held *h, const struct conn *conn, uint64_t now_ns);
/* The snapshot is closed. */
void held_judge(struct held *h);

/* --- losses (losses.c) --- */

/* 0 or -ENOMEM. */
int losses_add(struct correlate *c, uint32_t life, const struct record *r);

/* Over the limit, takes neighbours in time together. */
void losses_trim(struct correlate *c);

#endif
