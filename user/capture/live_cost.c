// SPDX-License-Identifier: BSD-2-Clause
#include "capture/live_cost.h"

#include <linux/types.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "abi.h"
#include "base/clock.h"
#include "derptrace.skel.h"

#define WINDOW_NS	(40 * NSEC_PER_MSEC)
#define REST		19			/* windows, between two of them */
#define PERIOD_NS	(NSEC_PER_SEC - 2 * WINDOW_NS)
#define MINUTE_NS	(60 * NSEC_PER_SEC)

/* Run time of all programs; runs of those that see packets. */
static void read_runs(const struct live_cost *c, const struct derptrace_bpf *skel, uint64_t *run_ns,
		      uint64_t *runs)
{
	struct bpf_program *prog;
	struct bpf_prog_info info;
	uint32_t len;

	*run_ns = *runs = 0;
	bpf_object__for_each_program(prog, skel->obj) {
		info = (struct bpf_prog_info){ 0 };
		len = sizeof(info);
		if (bpf_program__fd(prog) < 0 ||
		    bpf_obj_get_info_by_fd(bpf_program__fd(prog), &info, &len))
			continue;
		*run_ns += info.run_time_ns;
		if (prog == skel->progs.socket_ingress || prog == skel->progs.socket_egress)
			*runs += info.run_cnt;
	}
	if (c->besides)
		*run_ns += c->besides(c->ctx);
}

static void window_open(struct live_cost *c, const struct derptrace_bpf *skel, uint64_t now_ns)
{
	c->opened_ns = now_ns;
	c->stats_fd = bpf_enable_stats(BPF_STATS_RUN_TIME);
	if (c->stats_fd >= 0)
		read_runs(c, skel, &c->run_ns, &c->runs);
}

static void window_close(struct live_cost *c, const struct derptrace_bpf *skel, uint64_t now_ns)
{
	uint64_t length = now_ns - c->opened_ns, run_ns, runs;

	read_runs(c, skel, &run_ns, &runs);
	close(c->stats_fd);
	c->stats_fd = -1;
	c->rate = run_ns > c->run_ns ? (double)(run_ns - c->run_ns) / length : 0;
	c->packets = (double)(runs - c->runs) / length * NSEC_PER_SEC;
	if (c->total_at_ns)
		c->total_ns += c->rate * (now_ns - c->total_at_ns);
	c->total_at_ns = now_ns;
	c->sampled = true;
	c->next_ns = now_ns + (REST * length > PERIOD_NS ? REST * length : PERIOD_NS);
}

static uint64_t cpu_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

/*
 * This thread's time is of this second. Other threads search memory now and then, for a moment and
 * for a long time to come: theirs is spread.
 */
static bool second_end(struct live_cost *c, uint64_t now_ns, struct governor_second *second)
{
	uint64_t thread_ns = cpu_ns(CLOCK_THREAD_CPUTIME_ID);
	uint64_t process_ns = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
	double span = now_ns - c->second_ns, part = span < MINUTE_NS ? span / MINUTE_NS : 1;
	double mine = (thread_ns - c->thread_ns) / span;
	double all = (process_ns - c->process_ns) / span;
	bool first = !c->second_ns;

	if (!first) {
		c->others += ((all > mine ? all - mine : 0) - c->others) * part;
		second->now_ns = now_ns;
		second->cost = (mine + c->others + c->rate) * 1e6 / sysconf(_SC_NPROCESSORS_ONLN);
		second->packets = c->sampled ? c->packets : -1;
	}
	c->second_ns = now_ns;
	c->thread_ns = thread_ns;
	c->process_ns = process_ns;
	return !first;
}

bool live_cost_watch(struct live_cost *c, const struct derptrace_bpf *skel, uint64_t now_ns,
		     struct governor_second *second)
{
	if (c->stats_fd >= 0) {
		if (now_ns < c->opened_ns + WINDOW_NS)
			return false;
		window_close(c, skel, now_ns);
		return second_end(c, now_ns, second);
	}
	if (now_ns < c->next_ns)
		return false;
	window_open(c, skel, now_ns);
	if (c->stats_fd >= 0)
		return false;
	/* The kernel does not count for us: what remains is our own time. */
	c->next_ns = now_ns + NSEC_PER_SEC;
	return second_end(c, now_ns, second);
}

void live_cost_restart(struct live_cost *c, uint64_t now_ns)
{
	c->second_ns = now_ns;
	c->thread_ns = cpu_ns(CLOCK_THREAD_CPUTIME_ID);
	c->process_ns = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
	c->others = 0;
}

void live_cost_end(struct live_cost *c)
{
	if (c->stats_fd >= 0)
		close(c->stats_fd);
	c->stats_fd = -1;
}
