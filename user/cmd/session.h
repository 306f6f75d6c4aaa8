/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The loop that every verb runs in: opens the sources, waits, ticks, takes snapshots, obeys signals
 * and --duration, and says on standard error what was chosen and what went wrong.
 */
#ifndef DT_SESSION_H
#define DT_SESSION_H

#include "cmd/options.h"
#include "cmd/tracer.h"

struct session_hooks {
	const char *verb;
	/* Every record of every source. The session ends when it takes one no more; the verb says why. */
	const struct record_sink *sink;
	const struct tracer_taps *taps;		/* may be NULL */
	/*
	 * After each interval's snapshots, once all live sources are attached; non-zero ends the
	 * session in order. May be NULL.
	 */
	int (*interval)(void *ctx, uint64_t now_ns);
	/* One more descriptor to wait for (a terminal, a web server); -1: none. */
	int fd;
	int (*ready)(void *ctx);		/* @fd is readable; non-zero ends the session */
	void *ctx;
	bool at_once;				/* the first interval ends when all is attached */
};

/*
 * Until a signal, --duration or the end of all sources. A last snapshot of everything is taken then.
 * 0, or EXIT_CANNOT where not all that was asked could be traced (said), or EXIT_USAGE.
 */
int session_run(const struct options *options, const struct session_hooks *hooks);

/* Are all sources attached, those too that others trace and send records of? */
bool session_is_whole(void);

/* Was any source opened by the last session? Without one there is nothing to report. */
bool session_had_source(void);

#endif
