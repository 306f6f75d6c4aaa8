// SPDX-License-Identifier: BSD-2-Clause
#include "cmd/findings.h"

#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"

static int put(void *ctx, const struct record *r)
{
	struct findings *f = ctx;

	return correlate_put(f->correlate, r);
}

int findings_open(struct findings *f, const struct options *o, const char *verb)
{
	const struct correlate_limits limits = { .max_pairs = o->max_pairs };
	struct derpmap_error err;

	memset(f, 0, sizeof(*f));
	f->sink = (struct record_sink){ f, put };
	if (o->map && derpmap_load(o->map, &f->map, &err)) {
		fprintf(stderr, "derptrace %s: %s\n", verb, err.message);
		return EXIT_CANNOT;
	}
	f->correlate = correlate_new(f->map, &limits);
	if (!f->correlate) {
		fprintf(stderr, "derptrace %s: out of memory\n", verb);
		findings_close(f);
		return EXIT_CANNOT;
	}
	return 0;
}

void findings_close(struct findings *f)
{
	correlate_free(f->correlate);
	derpmap_free(f->map);
}

int findings_status(const struct report *r)
{
	size_t i;

	if (r->verdict_count)
		return EXIT_FOUND;
	/* What was not seen may be lost: that is no finding. */
	for (i = 0; i < r->pair_count; i++) {
		if (r->pairs[i].lost.min)
			return EXIT_FOUND;
	}
	return EXIT_NOTHING_FOUND;
}
