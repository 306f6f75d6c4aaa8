/* SPDX-License-Identifier: BSD-2-Clause */
/* What report, top and serve share: sources into the correlator, a report out. */
#ifndef DT_FINDINGS_H
#define DT_FINDINGS_H

#include "cmd/options.h"
#include "correlate/correlate.h"
#include "derpmap/derpmap.h"

struct findings {
	struct derpmap *map;
	struct correlate *correlate;
	struct record_sink sink;	/* into the correlator */
};

/* 0, or an exit status that was said (a map that cannot be read: EXIT_CANNOT). */
int findings_open(struct findings *f, const struct options *o, const char *verb);
void findings_close(struct findings *f);
/* EXIT_FOUND or EXIT_NOTHING_FOUND. */
int findings_status(const struct report *r);

#endif
