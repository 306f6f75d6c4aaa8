/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A report: what correlate found and view shows. Its fields are those of doc/report.schema.json,
 * which says what each means. Strings and arrays belong to the report; strings that came from
 * outside hold printable ASCII only.
 */
#ifndef DT_REPORT_H
#define DT_REPORT_H

#include "base/addr.h"
#include "base/key.h"
#include "latency.h"
#include "record/record.h"

struct report_range {
	uint64_t min, max;
};

/* Of packets that were timed. */
struct report_latency {
	uint64_t samples;		/* 0: null */
	double p50_us, p99_us;		/* either is off by a quarter at most */
};

struct report_node {
	struct key key;			/* zero: null */
	char name[160];
	int region;			/* -1: null */
	bool traced;
	int pid;			/* 0: null */
	uint64_t since_ns, ended_ns;
	char software[128];
	uint32_t peers;
	uint64_t entered, left, in_flight;
	struct report_range lost;
	uint64_t untraced, unflushed;
	struct report_latency latency;	/* from entering to leaving, of all pairs */
	uint64_t latency_buckets[LATENCY_BUCKETS]; /* latency.h */
	bool has_nic;
	struct record_nic nic;
};

enum report_link_state { LINK_UP, LINK_DOWN, LINK_STALLED, LINK_UNKNOWN };

struct report_link {
	uint32_t from, to;		/* nodes' indices */
	enum report_link_state state;
	uint64_t sent;
	bool has_arrived;
	uint64_t arrived, in_flight;
	struct report_range lost;
	uint64_t untraced;
	const char *reason;		/* one of the schema's words, or NULL */
	struct report_latency latency;	/* of the newest marks */
};

/* In the schema's order. */
enum verdict_class {
	VERDICT_NO_MESH_ROUTE, VERDICT_LINK_DOWN, VERDICT_LINK_ONE_WAY, VERDICT_LINK_STALLED,
	VERDICT_STALE_ROUTE, VERDICT_HOST_DROP, VERDICT_PEER_ABSENT, VERDICT_QUEUE_DROP,
	VERDICT_DUPLICATE_PEER, VERDICT_RATE_LIMITED, VERDICT_NOT_ADMITTED, VERDICT_LAST_HOP,
	VERDICT_HANDSHAKE_UNANSWERED, VERDICT_FLAPPING, VERDICT_NODE_SLOW, VERDICT_NODE_RESTARTED,
	VERDICT_STUN_UNANSWERED, VERDICT_UNTRACED_NODE,
	VERDICT_CLASSES,
};

const char *verdict_class_name(enum verdict_class class);
const char *verdict_class_code(enum verdict_class class);	/* "DT001" ... */

struct report_hop {
	uint32_t node;			/* index */
	enum record_hop hop;
	uint64_t frames, bytes;
	struct report_latency latency;	/* since the hop before it; at mesh-in of all the link's packets */
};

struct report_pair {
	struct key src, dst;		/* zero: null */
	bool is_other;			/* the row of all that has no row of its own */
	uint64_t entered, delivered, in_flight;
	struct report_range lost, lost_by[VERDICT_CLASSES];
	uint64_t untraced;
	struct report_latency latency;	/* inside the relays */
	bool same_node, across;		/* how it went: the 2x2 of landings; both where it moved */
	struct report_hop *path;
	size_t path_count;
};

struct report_verdict {
	enum verdict_class class;
	enum record_basis basis;
	int node;			/* index; -1: null */
	int link_from, link_to;		/* indices; -1: null */
	int hop;			/* enum record_hop; -1: null */
	char reason[64];		/* "": null */
	struct key src, dst;		/* zero: null */
	struct report_range count;
	uint64_t first_ns, last_ns;
	char *summary;			/* a sentence a tired person understands */
	char **evidence;
	size_t evidence_count;
	char *fix;
};

struct report_landing {
	uint64_t sent, delivered;
	struct report_range lost;
	uint64_t pairs;
};

/* The governor of a host's tracer changed how much is taken in. */
struct report_step {
	char host[64];
	struct record_step step;	/* its time: of the report's reference host */
};

struct report {
	uint64_t start_ns, end_ns;
	bool has_map;			/* else all nodes are taken as one region */
	struct report_node *nodes;
	size_t node_count;
	struct report_link *links;
	size_t link_count;
	struct report_pair *pairs;	/* most lost first, then most entered */
	size_t pair_count;
	struct report_verdict *verdicts; /* worst first */
	size_t verdict_count;
	struct report_landing same_node, across;
	uint64_t segments_lost, connections, without_secret, unsynchronised;
	uint64_t counted, uncounted;	/* frames counted in the kernel; segments it had no room for */
	uint64_t agents, agents_cut;
	uint64_t nodes_twice;		/* told by two sources: counted once, as the one that saw more tells it */
	uint64_t nodes_left_out;	/* over the limit of nodes: nothing of theirs is in here */
	double cpu_percent;		/* negative: null */
	char mode[16];			/* the poorest of all */
	struct report_step *steps_list;	/* in order of time */
	size_t step_count;
	uint64_t steps;			/* all that were made; so many are not in the list */
};

void report_free(struct report *r);	/* what it points to */

#endif
