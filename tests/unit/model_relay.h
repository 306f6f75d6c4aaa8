/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A relay as it works, with chance in command: queues per client and class whose heads are dropped,
 * writers that lag, sockets that stall, connections that end, duplicates, a mesh whose routes change;
 * it gets no processor for longer than anybody would think, is stopped, and gives up who takes nothing.
 * What it does is told to a ledger as the tracer would see it: inbound frames late, drops or none, at
 * once or late, with gaps or without.
 */
#ifndef MODEL_RELAY_H
#define MODEL_RELAY_H

#include "ledger_help.h"

#define PEERS	8	/* 1 to LOCAL are clients here, the others behind the mesh */
#define LOCAL	5
#define DEPTH	6	/* of a queue; derper's is 32 */
#define WRITER	3	/* frames that a client's writer buffers */
#define SOCKET	8	/* frames that a stalled socket takes */
#define CONNS	48
#define FRAMES	4096

struct config {
	const char *name;
	bool equal /* the bytes of all packets of a peer */, alike /* of all peers */;
	bool reports, gaps, ends, duplicates, mesh, stalls;
	bool naps;	/* readers and writers get no processor for up to three seconds */
	bool slow;	/* reports come up to two seconds late */
	bool stops;	/* the relay is stopped for some seconds */
	bool deadlines;	/* it closes who takes nothing for a second and a half; the socket lives on */
};

struct packet {
	struct lh_packet p;
	uint32_t src, dst;
};

struct fifo {
	struct packet v[32];
	int n;
};

struct rconn {
	int conn;
	uint32_t who;		/* 0: mesh */
	bool out;		/* mesh: ours */
	bool open, stalled, gap_out, hiding;
	bool left;		/* the relay has closed it */
	uint64_t stalled_ns, naps_until;
	struct fifo queue[2], writer, socket;
	struct packet in[FRAMES];
	uint64_t end[FRAMES];	/* position behind it */
	uint64_t at[FRAMES];	/* when it arrived */
	int arrived, read, told;
	uint64_t arrive_pos;
};

#define REPORTS 1024

struct late_report {
	const char *reason;
	bool names_source;
	struct packet p;
	uint64_t at, due;
};

struct sim {
	const struct config *cfg;
	struct lh *t;
	unsigned int rng;
	uint32_t no;
	struct rconn conns[CONNS];
	int next_conn;
	struct rconn *active[PEERS + 1];
	struct rconn *route[PEERS + 1];
	bool present[CONNS][PEERS + 1];
	uint64_t entered[PEERS + 1][PEERS + 1], left[PEERS + 1][PEERS + 1];
	uint64_t lost[PEERS + 1][PEERS + 1];
	struct late_report reports[REPORTS];
	int report_count;
	uint64_t stopped_until, redial_at;
};


/* A relay with its clients and, where it has one, its mesh. */
struct sim *model_new(const struct config *cfg, unsigned int seed);
void model_free(struct sim *s);
/* Some of what the configuration allows happens, for some seconds. */
void model_run(struct sim *s);
/* Everything flows until nothing is left. */
void model_quiesce(struct sim *s);

#endif
