/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The door of view: a report in the forms that people and programs read. Nothing here knows how
 * anything was found. Nothing that came from the network reaches a terminal unescaped.
 */
#ifndef DT_VIEW_H
#define DT_VIEW_H

#include <stdbool.h>
#include <stdio.h>

#include "correlate/report.h"

struct view_text_options {
	bool colour;
	int columns;		/* 0: 80 */
	int rows;		/* pairs shown before the 'other' row; 0: 10 */
	bool clear;		/* a terminal that is followed: begin at its top */
};

/* 0 or -errno where writing failed. */
int view_text(const struct report *r, FILE *out, const struct view_text_options *options);
/* One object; @one_line: without line breaks, for following. doc/report.schema.json. */
int view_json(const struct report *r, FILE *out, bool one_line);
int view_html(const struct report *r, FILE *out);
/* OpenMetrics text: nodes, links, pairs (at most @max_pairs rows, then an 'other' row). */
int view_metrics(const struct report *r, FILE *out, unsigned int max_pairs);

#endif
