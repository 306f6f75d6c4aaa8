/* SPDX-License-Identifier: BSD-2-Clause */
/* Between check.c and checkmap.c: how a check says what it found. */
#ifndef DERPMAP_CHECK_H
#define DERPMAP_CHECK_H

#include "derpmap/internal.h"

#include <stdarg.h>
#include <stdio.h>

/* In the order of the codes, DTM001 first: append only. */
enum check_rule {
	CHECK_MIXED,
	CHECK_FOREIGN,
	CHECK_NO_RELAY,
	CHECK_NO_HOST,
	CHECK_MESH,
	CHECK_PORT,
	CHECK_FORCE_HTTP,
	CHECK_DEFAULTS,
	CHECK_NO_STUN,
	CHECK_ID_MISSING,
	CHECK_ID_WRONG,
	CHECK_NODE_ID,
	CHECK_NODE_TWICE,
	CHECK_CODE_TWICE,
	CHECK_SAME_RELAY,
	CHECK_KEY_TWICE,
	CHECK_FIELD,
	CHECK_EMPTY,
	CHECK_UNKNOWN,
	CHECK_TEST,
	CHECK_ID_RANGE,
	CHECK_SCORE,
	CHECK_NULL,
	CHECK_RULES,
};

struct check {
	const struct derpmap *map;
	struct derpmap_findings *out;
	bool failed;		/* out of memory */
};

struct check_draft {
	struct derpmap_text text, evidence, fix;
};

/* Adds a finding about node, else region, else the map; takes the draft's texts and empties it. */
void check_put(struct check *check, enum check_rule rule, const struct derpmap_region *region,
	       const struct derpmap_node *node, struct check_draft *draft);
/* The same about a place that is neither. */
void check_put_at(struct check *check, enum check_rule rule, struct derpmap_place place,
		  struct check_draft *draft);

/* Appends: region 1 "us-west" */
void check_region_name(struct derpmap_text *text, const struct derpmap_region *region);
void check_region(struct check *check, const struct derpmap_region *region);

#endif
