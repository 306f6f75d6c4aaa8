/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A node in the hands of a test: connections, frames and TCP's progress are told to a ledger one by
 * one, the law is asserted after each, and what the ledger tells is kept as a reader would.
 */
#ifndef LEDGER_HELP_H
#define LEDGER_HELP_H

#include "ledger/ledger.h"

#define LH_CONNS	64
#define LH_PAIRS	4096
#define LH_PEERS	8192
#define LH_LOSSES	65536
#define LH_MARKS	4096
#define LH_LINKS	4096

struct lh_conn {
	uint64_t in_pos, out_pos;	/* told in frames */
	uint64_t in_read, out_acked;	/* what the next progress says; UINT64_MAX: all */
	uint64_t in_off, out_off;	/* DERP stream */
	uint32_t notsent;
	uint32_t unseen;		/* sent, not acknowledged, and told in no frame */
	uint8_t tcp_state;		/* as of <netinet/tcp.h>; 0: established */
	bool from_start, open, offline;
	struct record_conn rec;		/* as told last */
};

struct lh {
	struct ledger *l;
	uint64_t now;
	bool quiet;			/* do not assert the law after each event */
	struct lh_conn conns[LH_CONNS];	/* by number */
	struct record_node node;
	struct key peers[LH_PEERS];	/* by number */
	struct lh_pair {
		struct key src, dst;
		uint64_t first_ns;
		struct record_pair;
	} pairs[LH_PAIRS];		/* as told */
	struct buckets *latencies[LH_PAIRS]; /* theirs */
	int pair_count;
	struct lh_pair *numbered[LH_PAIRS]; /* by number */
	struct record_loss losses[LH_LOSSES];
	int loss_count;
	struct record_mark marks[LH_MARKS];
	struct record_mark_pair mark_pairs[LH_MARKS][16];
	int mark_count;
	struct record_link links[LH_LINKS];
	int link_count;
	int presences, presences_gone;
	int records;			/* in the last snapshot */
	struct record_presence presence; /* last */
};

/* A packet: its name is its number. */
struct lh_packet {
	uint32_t no, len;
	bool disco;
	uint8_t first;			/* first byte; 0: none in particular */
};

struct lh *lh_new(const struct ledger_limits *limits);
void lh_free(struct lh *t);
void lh_check(struct lh *t);

struct key lh_key(uint32_t who);
void lh_open(struct lh *t, int conn, enum capture_role role, bool from_start);
void lh_close(struct lh *t, int conn);
/* Opened from the start, by the peer of that number, and taken in. */
void lh_client(struct lh *t, int conn, uint32_t who);
/* A connection of ours to another node, with its upgrade; who is there is told by lh_present. */
void lh_mesh_out(struct lh *t, int conn);
void lh_mesh_in(struct lh *t, int conn);
void lh_frame(struct lh *t, int conn, enum capture_dir dir, uint8_t type, const void *bytes,
	      uint32_t len);
void lh_present(struct lh *t, int conn, uint32_t who, bool present);
void lh_send(struct lh *t, int conn, uint32_t dst, struct lh_packet p);
void lh_recv(struct lh *t, int conn, uint32_t src, struct lh_packet p);
void lh_forward(struct lh *t, int conn, enum capture_dir dir, uint32_t src, uint32_t dst,
		struct lh_packet p);
void lh_drop(struct lh *t, const char *reason, uint32_t src, uint32_t dst, struct lh_packet p);
/* The same with the key of whom the relay was serving, though the packet may be another's. */
void lh_tail_drop(struct lh *t, const char *reason, uint32_t serving, uint32_t dst, struct lh_packet p);
/* So many packets of 100 bytes were counted: from the connection's peer to @other, or the other way. */
void lh_run(struct lh *t, int conn, enum capture_dir dir, uint32_t other, uint32_t packets);
void lh_gap(struct lh *t, int conn, enum capture_dir dir, bool begins);
/* What TCP says of it now. */
void lh_progress(struct lh *t, int conn);
/* @ms later: every socket is asked, and a tick. */
void lh_tick(struct lh *t, uint32_t ms);
/* Ticks of 100 ms. */
void lh_wait(struct lh *t, uint32_t ms);
void lh_snapshot(struct lh *t, bool all);

/* As told; a pair that was never told is all zero. */
const struct lh_pair *lh_pair(struct lh *t, uint32_t src, uint32_t dst);
#define BOOKS(...) ((struct record_books){ __VA_ARGS__ })
/* Fails the test where a pair's books, as told, are others. */
void lh_check_books(struct lh *t, uint32_t src, uint32_t dst, struct record_books want);
/* Lost packets of a pair for a reason (0: any), as told. */
uint64_t lh_lost(const struct lh *t, uint32_t src, uint32_t dst, enum record_reason reason);
/* A sink's put that keeps nothing. */
int lh_ignore(void *ctx, const struct record *r);
uint64_t lh_digest(struct lh_packet p);

#endif
