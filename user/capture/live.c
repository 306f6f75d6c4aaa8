// SPDX-License-Identifier: BSD-2-Clause
/* Live capture: programs into the kernel, their records out of the ring, sockets asked. */
#include "capture/live.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <bpf/libbpf.h>

#include "base/clock.h"
#include "capture/live_load.h"
#include "capture/rights.h"
#include "capture/nic.h"

#include "derptrace.skel.h"

#define RING_DEFAULT	(4u << 20)
#define RING_MAX	(1u << 30)
/*
 * The ring is looked at so often without a wake-up: each look begins with what others have put out of the
 * caches, and more at one go costs less.
 */
#define POLL_NS		(50 * NSEC_PER_MSEC)
#define WARNINGS_MAX	(16u << 10)
#define ASK_SHARE	20u	/* one part of it goes into asking all sockets, while segments are lost */
#define ASK_PAUSE_NS	(500 * NSEC_PER_MSEC)	/* but so often they are asked */

void live_warn(struct live *live, const char *format, ...)
{
	size_t old = live->warnings ? strlen(live->warnings) : 0;
	char line[512], *longer;
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (!live->keep_warnings || old > WARNINGS_MAX)
		return;
	longer = realloc(live->warnings, old + strlen(line) + 2);
	if (!longer)
		return;
	live->warnings = longer;
	sprintf(longer + old, "%s%s", old ? "\n" : "", line);
}

void live_emit(struct live *live, struct capture_event *event)
{
	live->sink->event(live->sink->ctx, event);
}

void live_say(struct live *live, bool refused, const char *format, ...)
{
	struct capture_event event = {
		.type = CAPTURE_SAY, .time_ns = clock_now_ns(), .say.refused = refused,
	};
	char line[512];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	event.say.text = line;
	if (live->sink)
		live_emit(live, &event);
}

void live_reader_awake(struct live *live)
{
	__atomic_store_n(&live->skel->bss->reader_woken, 0, __ATOMIC_RELAXED);
}

/* --- open ------------------------------------------------------------------------------------ */

static int fail(struct capture_error *err, int code, const char *what, const char *fix)
{
	const char *few = rights_descriptors(code, fix);

	if (few) {
		code = -EMFILE;
		fix = few;
	}
	snprintf(err->text, sizeof(err->text), "%s: %s%s%s", what, strerror(-code),
		 *fix ? "; " : "", fix);
	return code;
}

static size_t ring_size(size_t wanted)
{
	size_t size = (size_t)sysconf(_SC_PAGESIZE);

	if (!wanted)
		wanted = RING_DEFAULT;
	while (size < wanted && size < RING_MAX)
		size *= 2;
	return size;
}

/* libbpf tells people; the room does not: its last complaint goes into the error. */
static __thread char libbpf_said[160];

static int keep_what_libbpf_says(enum libbpf_print_level level, const char *format, va_list args)
{
	char text[sizeof(libbpf_said)];

	if (level != LIBBPF_WARN || libbpf_said[0])
		return 0;
	vsnprintf(text, sizeof(text), format, args);
	text[strcspn(text, "\n")] = '\0';
	memcpy(libbpf_said, text, sizeof(text));
	return 0;
}

/* What cannot work is said before it is tried: the kernel's word for all of it is the same. */
static int check_rights(struct capture_error *err)
{
	const struct right *missing = rights_missing(rights_effective(), NULL);
	const char *foreign = rights_foreign();

	if (foreign) {
		snprintf(err->text, sizeof(err->text), "%s; run it outside", foreign);
		return -EPERM;
	}
	if (!missing || !missing->needed)
		return 0;
	snprintf(err->text, sizeof(err->text), "%s is missing: %s; " RIGHTS_FIX, missing->name,
		 missing->without);
	return -EPERM;
}

static int load_programs(struct live *live, struct capture_error *err)
{
	size_t size = ring_size(live->options.ring_bytes);
	const char *fix = "";
	int code;

	libbpf_said[0] = '\0';
	libbpf_set_print(keep_what_libbpf_says);
	live->skel = live_load_open(&live->types_fd);
	if (!live->skel)
		return fail(err, -errno, "the programs for the kernel cannot be opened", libbpf_said);
	live->skel->rodata->wake_bytes = size / 4;
	live->skel->rodata->count_frames = live->options.count;
	code = bpf_map__set_max_entries(live->skel->maps.ring, (uint32_t)size);
	if (!code && !live->options.count)
		code = live_count_none(live);
	if (!code && !live->options.count)
		code = live_latency_none(live);
	if (!code)
		code = derptrace_bpf__load(live->skel);
	if (code == -EPERM || code == -EACCES)
		fix = "what forbids bpf() may be a seccomp filter, as of a container, or a security "
		      "module: dmesg tells";
	else if (code == -ENOMEM)
		fix = "a smaller --ring needs less memory";
	else if (code)
		fix = libbpf_said;
	if (code)
		return fail(err, code, "the kernel does not take the programs", fix);
	code = live_ring_open(&live->ring, bpf_map__fd(live->skel->maps.ring), size);
	if (code)
		return fail(err, code, "the ring cannot be mapped", "");
	code = live_heads_open(live);
	if (!code && live->options.count)
		code = live_count_open(live);
	return code ? fail(err, code, "what is shared with the kernel cannot be mapped", "") : 0;
}

static int attach_programs(struct live *live, struct capture_error *err)
{
	/* Dials first: no connection of a relay may come between. */
	struct bpf_program *const programs[] = {
		live->skel->progs.socket_connect4, live->skel->progs.socket_connect6,
		live->skel->progs.socket_ingress, live->skel->progs.socket_egress,
	};
	size_t i;

	live->cgroup_fd = live_cgroup_open();
	if (live->cgroup_fd < 0)
		return fail(err, live->cgroup_fd, "no cgroup v2 hierarchy",
			    "mount one, where does not matter: mount -t cgroup2 none /mnt");
	for (i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
		live->links[i] = bpf_program__attach_cgroup(programs[i], live->cgroup_fd);
		if (!live->links[i])
			return fail(err, -errno, "a program cannot be attached to the cgroup",
				    "is another one attached there without leave for more "
				    "(bpftool cgroup tree)?");
	}
	return 0;
}

static int watch_fd(struct live *live, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.fd = fd };

	return epoll_ctl(live->poll_fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

/* The ring's descriptor is ready as long as anything is in it: only its wake-ups are of use. */
static int open_poll(struct live *live, struct capture_error *err)
{
	const struct itimerspec every = {
		.it_interval.tv_nsec = POLL_NS, .it_value.tv_nsec = POLL_NS,
	};
	int code = 0;

	live->poll_fd = epoll_create1(EPOLL_CLOEXEC);
	live->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	live->search_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (live->poll_fd < 0 || live->timer_fd < 0 || live->search_fd < 0 ||
	    timerfd_settime(live->timer_fd, 0, &every, NULL))
		code = -errno;
	if (!code)
		code = watch_fd(live, live->ring.fd, EPOLLIN | EPOLLET);
	if (!code)
		code = watch_fd(live, live->timer_fd, EPOLLIN);
	if (!code)
		code = watch_fd(live, live->search_fd, EPOLLIN);
	return code ? fail(err, code, "no descriptors to wait on", "") : 0;
}

static bool is_filtered(const struct capture_filter *f)
{
	return f->pid_count || f->unit || f->comm || f->cgroup || f->port;
}

static int find_relays(struct live *live, struct capture_error *err)
{
	const struct right *missing = rights_missing(rights_effective(), NULL);
	const struct live_node *node;
	char why[256];
	int code = live_nodes_find(live);

	if (code)
		return fail(err, code, "/proc cannot be read", "");
	for (node = live->nodes; node; node = node->next) {
		if (!node->provisional)
			return 0;
	}
	if (live->options.wait || live_search_proves(live))
		return 0;
	relay_finder_explain(live->finder, why, sizeof(why));
	if (!*why && !missing && !live->warnings && !is_filtered(&live->options.filter))
		strcpy(why, "start one; of one that runs, --pid PID tells why it is not taken for one");
	snprintf(err->text, sizeof(err->text), "no DERP relay %s%s%s%s%s%s%s%s%s%s",
		 is_filtered(&live->options.filter) ? "on this host is what was asked for" :
						      "runs on this host",
		 live->warnings ? " that can be traced: " : "",
		 live->warnings ? live->warnings : "",
		 *why ? ": " : "", why,
		 missing ? "; " : "", missing ? missing->name : "",
		 missing ? " is missing: " : "", missing ? missing->without : "",
		 missing ? "; " RIGHTS_FIX : "");
	return -ESRCH;
}

/* A process that was asked for and is none is said, where others were found. */
static void explain_missing(struct live *live)
{
	char why[256];

	if (!live->options.filter.pid_count)
		return;
	relay_finder_explain(live->finder, why, sizeof(why));
	if (*why)
		live_warn(live, "%s", why);
}

static void live_close(struct capture *capture);
static const struct capture_ops live_ops;

struct capture *capture_live_open(const struct capture_live_options *options, char **warnings,
				  struct capture_error *err)
{
	struct live *live = calloc(1, sizeof(*live));
	int code;

	if (warnings)
		*warnings = NULL;
	if (!live) {
		fail(err, -ENOMEM, "live capture", "");
		return NULL;
	}
	live->capture.ops = &live_ops;
	live->options = *options;
	live->read_ns = clock_now_ns();
	live->cost.besides = nic_run_ns;
	live->cost.ctx = live;
	live->cgroup_fd = live->poll_fd = live->timer_fd = live->search_fd = -1;
	live->types_fd = live->cost.stats_fd = -1;
	live->keep_warnings = true;
	live->finder = relay_finder_new(&live->options.filter);
	code = live->finder ? 0 : fail(err, -ENOMEM, "live capture", "");
	if (!code)
		code = check_rights(err);
	if (!code)
		code = load_programs(live, err);
	if (!code)
		code = attach_programs(live, err);
	if (!code)
		code = open_poll(live, err);
	if (!code)
		code = find_relays(live, err);
	if (code) {
		live_close(&live->capture);
		return NULL;
	}
	live_nodes_wait(live);
	explain_missing(live);
	live->keep_warnings = false;
	if (warnings) {
		*warnings = live->warnings;
		live->warnings = NULL;
	}
	return &live->capture;
}

/* --- operations ------------------------------------------------------------------------------ */

static struct live *of(struct capture *capture)
{
	return (struct live *)((char *)capture - offsetof(struct live, capture));
}

static int live_fd(struct capture *capture)
{
	return of(capture)->poll_fd;
}

static void clear_wakeups(struct live *live)
{
	struct epoll_event events[3];
	uint64_t count;

	if (epoll_wait(live->poll_fd, events, 3, 0) < 0)
		return;
	if (read(live->timer_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return;
	if (read(live->search_fd, &count, sizeof(count)) < 0)
		return;
}

static void tell_ready(struct live *live)
{
	struct capture_event event = { .type = CAPTURE_READY, .time_ns = live->read_ns };
	const struct live_node *node;

	for (node = live->nodes; node; node = node->next) {
		if (!node->searched && !node->ended)
			return;
	}
	if (live->ready)
		return;
	live->ready = true;
	if (!live->skel->rodata->kernel_types && live_load_is_nested())
		live_say(live, false, "in a pid namespace, on a kernel without types (BTF): what a relay dials "
			 "is found a moment late, and relays of namespaces below have no probes; "
			 "run it in the host's pid namespace");
	live_cost_restart(&live->cost, event.time_ns);
	live_emit(live, &event);
}

static int live_run(struct capture *capture, const struct capture_sink *sink)
{
	struct live *live = of(capture);

	live->sink = sink;
	clear_wakeups(live);
	live_nodes_announce(live);
	live_drain(live);
	live_ask_tell(live);
	live_search_finish(live);
	tell_ready(live);
	live_govern(live);
	live->sink = NULL;
	return !live->nodes && live->options.filter.pid_count ? -ENODATA : 0;
}

static uint64_t segments_lost(const struct live *live)
{
	const struct abi_lost *lost = &live->skel->bss->lost;

	return lost->segments + lost->unreadable + lost->marks;
}

/*
 * Whose segments were lost nobody knows. Their sockets do: where one stands shows what of it was not
 * seen, though nothing more ever passes on it; and some may not be known at all.
 */
static bool ask_after_loss(struct live *live, uint64_t now_ns)
{
	uint64_t segments = segments_lost(live);
	struct live_node *node;

	if (segments == live->asked_segments || now_ns < live->asked_loss_ns)
		return false;
	live->asked_segments = segments;
	for (node = live->nodes; node; node = node->next)
		node->dump = true;
	return true;
}

/* Asking all of many sockets takes its time: not all of ours. */
static void note_asked(struct live *live, uint64_t began_ns)
{
	uint64_t now_ns = clock_now_ns(), pause_ns = ASK_SHARE * (now_ns - began_ns);

	live->asked_loss_ns = now_ns + (pause_ns < ASK_PAUSE_NS ? pause_ns : ASK_PAUSE_NS);
}

static void tell_lost(struct live *live)
{
	const struct abi_lost *lost = &live->skel->bss->lost;
	uint64_t segments = segments_lost(live);
	uint64_t drops = lost->drops + live->unread_drops;
	struct capture_event event = {
		.type = CAPTURE_LOST, .time_ns = clock_now_ns(),
		.lost = { .segments = segments - live->lost_segments,
			  .drops = drops - live->lost_drops,
			  .uncounted = lost->uncounted - live->uncounted },
	};

	if (event.lost.segments || event.lost.drops || event.lost.uncounted)
		live_emit(live, &event);
	if (event.lost.uncounted && !live->uncounted)
		live_say(live, false, "more pairs talk on plain connections than the kernel has rows to count "
			 "them: the others' packets are copied, and in the books like all others");
	live->lost_segments = segments;
	live->lost_drops = drops;
	live->uncounted += event.lost.uncounted;
}

static int live_tick(struct capture *capture, const struct capture_sink *sink)
{
	struct capture_event event = { .type = CAPTURE_TICK };
	struct live *live = of(capture);
	uint64_t now_ns;
	bool asks;

	live->sink = sink;
	live_nodes_announce(live);
	live_drain(live);
	now_ns = clock_now_ns();
	asks = ask_after_loss(live, now_ns);
	live_nodes_watch(live, now_ns);
	if (asks)
		note_asked(live, now_ns);
	live_nodes_announce(live);
	live_ask_changing(live, now_ns);
	/* What the answers cover is in the ring by now, or counted. */
	live_latency_read(live);
	live_count_read(live);
	live_drain(live);
	live_count_flush(live);
	live_ask_tell(live);
	tell_lost(live);
	live_conns_expire(live, now_ns);
	live_nodes_expire(live, now_ns);
	live_early_expire(live, now_ns);
	live_claims_update(live);
	nic_tick(live, now_ns);
	live_search_finish(live);
	tell_ready(live);
	live_govern(live);
	live_govern_tick(live, now_ns);
	event.time_ns = live->read_ns;
	live_emit(live, &event);
	live->sink = NULL;
	return 0;
}

static void live_search(struct capture *capture, uint32_t node_id, const struct capture_sink *sink)
{
	struct live *live = of(capture);
	struct live_node *node;

	live->sink = sink;
	for (node = live->nodes; node; node = node->next) {
		if (node->id == node_id && node->announced)
			live_search_start(live, node);
	}
	live->sink = NULL;
}

static void live_agree(struct capture *capture, uint64_t conn, enum capture_dir dir, uint32_t epoch,
		       uint8_t type)
{
	live_count_agree(of(capture), conn, dir, epoch, type);
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void live_close(struct capture *capture)
{
	struct live *live = of(capture);
	size_t i;

	for (i = 0; i < sizeof(live->links) / sizeof(live->links[0]); i++)
		bpf_link__destroy(live->links[i]);
	if (live->skel) {
		live_conns_forget(live, NULL);
		live_nodes_free(live);
	}
	live_count_free(live);
	live_claims_free(live);
	live_early_expire(live, 0);
	relay_finder_free(live->finder);
	live_cost_end(&live->cost);
	live_heads_close(live);
	live_ring_close(&live->ring);
	close_fd(live->timer_fd);
	close_fd(live->search_fd);
	close_fd(live->poll_fd);
	close_fd(live->cgroup_fd);
	close_fd(live->types_fd);
	derptrace_bpf__destroy(live->skel);
	free(live->pending);
	free(live->answers);
	free(live->warnings);
	free(live);
}

static bool live_foretell(struct capture *capture, uint64_t conn, const struct capture_masks *masks)
{
	return live_heads_foretell(of(capture), conn, masks);
}

static const struct capture_ops live_ops = {
	.fd = live_fd, .run = live_run, .tick = live_tick, .agree = live_agree,
	.foretell = live_foretell,
	.search = live_search,
	.close = live_close,
};
