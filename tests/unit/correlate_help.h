/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Records written by hand, and a report of them that is checked for the law before a test sees it.
 * Times are seconds since a certain moment; peers and nodes have small numbers, from which their keys
 * are made.
 */
#ifndef TESTS_UNIT_CORRELATE_HELP_H
#define TESTS_UNIT_CORRELATE_HELP_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "capture/capture.h"
#include "correlate/correlate.h"
#include "derpmap/derpmap.h"

#define T0	1700000000ull
#define AT(s)	((uint64_t)((T0 + (double)(s)) * 1e9))

/* What is told of a pair: its ends, and counts that are the test's to change until they are read. */
struct script_pair {
	uint64_t agent;
	uint32_t node, number;
	struct record_peer peers[2];
	struct record_pair_ends ends;
	struct record_pair counts;
	uint32_t latency_first, latency_count; /* set when the snapshot is closed */
};

struct script {
	struct record *v;
	size_t count, cap;
	struct record_mark_pair *mark_pairs[64];
	size_t mark_pair_count;
	struct script_pair *pairs[1024];
	size_t pair_count;
	uint64_t agent;		/* of what follows */
	uint32_t node;
	double now;
};

struct key peer_key(int n);
struct key node_key(int n);
struct addr addr_of(const char *ip, uint16_t port);

void script_free(struct script *s);
/* From here on records are this node's. */
void script_at(struct script *s, uint64_t agent, uint32_t node);
struct record *script_add(struct script *s, enum record_type type);
/* A node that serves on @ip:443. */
struct record_node *script_node(struct script *s, int key, const char *ip, double since);
/* A client of the node, open. */
struct record_conn *script_client(struct script *s, uint64_t conn, int peer, const char *ip,
				  double opened);
/* An established mesh connection: the end that dialled, and the one that accepted. */
struct record_conn *script_mesh_out(struct script *s, uint64_t conn, const char *local, uint16_t port,
				    const char *remote, int server, double opened);
struct record_conn *script_mesh_in(struct script *s, uint64_t conn, const char *local,
				   const char *remote, uint16_t port, int client, double opened);
void script_link(struct script *s, uint64_t conn, int src, int dst, uint64_t frames);
void script_mark(struct script *s, uint64_t conn, uint64_t no, uint64_t digest, double seen, int src,
		 int dst, uint64_t frames);
/* Books by hop; the law's other terms are the caller's. entered and left are filled in. */
struct record_pair *script_pair(struct script *s, int src, int dst, uint64_t client_in,
				uint64_t mesh_in, uint64_t mesh_out, uint64_t client_out);
struct record_loss *script_loss(struct script *s, int src, int dst, enum record_reason reason,
				uint64_t count, double first, double last);
/* Adds up what the node's pairs say into its RECORD_NODE, and closes the snapshot. */
struct record_agent *script_close(struct script *s, double now, bool final);

/* Plays the records and checks the law. @map: JSON or NULL. */
void script_report(const struct script *s, const char *map, struct report *out);
/* The records of @first before all others. */
void script_report_first(const struct script *s, uint64_t first, struct report *out);

/* NULL: none. */
const struct report_verdict *verdict_of(const struct report *r, enum verdict_class class,
					const char *reason);
size_t verdict_count(const struct report *r, enum verdict_class class);
const struct report_pair *pair_of(const struct report *r, int src, int dst);
const struct report_link *link_of(const struct report *r, const char *from, const char *to);
bool says(const struct report_verdict *v, const char *text);	/* in sentence, evidence or fix */
void report_print(const struct report *r);

#endif
