/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What live capture costs, second by second: the run time of its programs in the kernel, and the CPU
 * time of this process.
 *
 * The kernel counts run time only while it is asked to, and that slows every program a little: it is
 * asked to for a twentieth of the time, and what it counts then stands for the whole.
 */
#ifndef DT_CAPTURE_LIVE_COST_H
#define DT_CAPTURE_LIVE_COST_H

#include <stdbool.h>
#include <stdint.h>

#include "capture/governor.h"

struct derptrace_bpf;

/* Zeroed is ready; stats_fd: -1. */
struct live_cost {
	/* Run time so far of programs that are loaded besides, NULL: there are none. It may shrink. */
	uint64_t (*besides)(const void *ctx);
	const void *ctx;
	int stats_fd;			/* while it is open, run time is counted */
	uint64_t opened_ns, next_ns;
	uint64_t run_ns, runs;		/* at opened_ns */
	double rate, packets;		/* last sample: run time per time; packets per second */
	uint64_t total_ns, total_at_ns;	/* run time since open, scaled */
	bool sampled;			/* at least once */

	uint64_t second_ns;		/* the running second began */
	uint64_t thread_ns, process_ns;	/* CPU time then */
	double others;			/* CPU time of other threads per time, over a minute */
};

/*
 * To be called often, 50 times a second. True about once a second: *second is filled then, from the
 * second call on.
 */
bool live_cost_watch(struct live_cost *c, const struct derptrace_bpf *skel, uint64_t now_ns,
		     struct governor_second *second);
/* Forget what was so far: attaching costs, and is over. */
void live_cost_restart(struct live_cost *c, uint64_t now_ns);
void live_cost_end(struct live_cost *c);

#endif
