/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The door of correlate: many nodes' records in; regions, links, clock offsets and verdicts out. Pure
 * and deterministic: the same records in the same order give the same report, whenever it is asked
 * for. It does no input or output and reads no clock.
 */
#ifndef DT_CORRELATE_H
#define DT_CORRELATE_H

#include "correlate/report.h"
#include "record/record.h"

struct derpmap;

struct correlate_limits {
	uint32_t max_pairs;	/* 0: 262,144; over it: the exact other row */
	uint32_t max_nodes;	/* 0: 1,024 node lives (restarts count); over it: left out, and counted */
};

struct correlate;

/* @map may be NULL; it must outlive what is returned. */
struct correlate *correlate_new(const struct derpmap *map, const struct correlate_limits *limits);
void correlate_free(struct correlate *c);

/* Takes a record; an agent's snapshot counts when its RECORD_AGENT comes. 0 or -ENOMEM. */
int correlate_put(struct correlate *c, const struct record *r);

/* What is known now. 0 or -errno. The caller frees with report_free. */
int correlate_report(struct correlate *c, struct report *out);

#endif
