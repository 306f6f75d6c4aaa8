// SPDX-License-Identifier: BSD-2-Clause
#include "cmd/session.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/denied.h"
#include "cmd/cmd.h"
#include "cmd/said.h"
#include "cmd/signals.h"
#include "cmd/session_source.h"
#include "cmd/source.h"

#define TICK_NS		(100 * NSEC_PER_MSEC)
#define SNAPSHOT_NS	(500 * NSEC_PER_MSEC)
/* What was in flight at the end of a trace is given this long to leave, or to be known as lost. */
#define SETTLE_NS	(1500 * NSEC_PER_MSEC)
/* How long a pipe may take to bring what was before a live trace's end. */
#define PIPE_GRACE_NS	(2 * NSEC_PER_SEC)

struct session {
	const struct options *options;
	const struct session_hooks *hooks;
	struct session_source sources[OPTIONS_MAX_SOURCES];
	int source_count;
	int signal_fd, timer_fd;
	struct said *said;		/* of what files lack: each reads the key log anew */
	int status;			/* 0 or EXIT_CANNOT */
	bool end, ready;
	uint64_t end_ns;		/* of --duration, which begins when all is ready */
	uint64_t next_snapshot_ns, next_interval_ns;
};

static bool had_source, is_whole;

bool session_had_source(void)
{
	return had_source;
}

bool session_is_whole(void)
{
	return is_whole;
}

static void complain(struct session *s, const char *what)
{
	fprintf(stderr, "derptrace %s: %s\n", s->hooks->verb, what);
	s->status = EXIT_CANNOT;
}

static void say(void *ctx, const char *text, bool refused)
{
	struct session *s = ctx;

	if (refused)
		complain(s, text);
	else
		fprintf(stderr, "derptrace: %s\n", text);
}

/* Never silent: what is not taken in cannot be told. */
static void say_step(void *ctx, const struct capture_step *step)
{
	struct session *s = ctx;
	char what[64] = "all connections are traced again";

	switch (step->to) {
	case CAPTURE_LEVEL_FULL:
		break;
	case CAPTURE_LEVEL_SAMPLED:
		snprintf(what, sizeof(what), "one connection in %u is traced", step->share);
		break;
	case CAPTURE_LEVEL_COUNTS:
		strcpy(what, "only what the kernel counts is told");
		break;
	case CAPTURE_LEVEL_OFF:
		strcpy(what, "nothing is traced, until it costs less");
		break;
	}
	fprintf(stderr, "derptrace %s: cost %.3g %% of all CPUs' time, budget %g %%: %s\n",
		s->hooks->verb, step->cost_ppm / 1e4, step->budget_ppm / 1e4, what);
}

/*
 * Nodes choose their rows apart from each other, and a pair that has one at this node and none at the
 * next has none in the report. Where memory is no reason no node is kept so short: the report's own
 * bound is the user's, and is one for all nodes.
 */
static uint32_t at_least(uint32_t floor, uint32_t asked)
{
	return asked && asked < floor ? floor : asked;
}

static void open_tracer(struct session *s, struct session_source *source, struct capture *capture)
{
	struct tracer_options options = {
		.ledger = {
			.max_connections = at_least(1024, s->options->max_connections),
			.max_pairs = at_least(4096, s->options->max_pairs),
		},
		.taps = s->hooks->taps,
		.say = say, .step = say_step, .say_ctx = s,
	};

	source->tracer = tracer_new(capture, &options);
	if (!source->tracer)
		complain(s, "out of memory");
}

static void say_warnings(struct session *s, const char *warnings)
{
	char *copy = warnings ? strdup(warnings) : NULL, *line, *save = NULL;

	for (line = copy ? strtok_r(copy, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save)) {
		if (said_first(&s->said, line))
			complain(s, line);
	}
	free(copy);
}

static void open_live(struct session *s, struct session_source *source)
{
	struct capture_error err = { "" };
	struct capture *capture;
	char *warnings = NULL;

	capture = capture_live_open(&s->options->live, &warnings, &err);
	say_warnings(s, warnings);
	free(warnings);
	if (!capture)
		complain(s, err.text);
	else
		open_tracer(s, source, capture);
}

static void open_records(struct session *s, struct session_source *source)
{
	char err[256];

	source->sink = s->hooks->sink;
	source->reader = record_reader_open(source->name, err);
	if (!source->reader)
		complain(s, err);
}

static void open_source(struct session *s, const char *name)
{
	struct session_source *source = &s->sources[s->source_count];
	struct capture_error err = { "" };
	struct capture *capture;

	source->name = name;
	switch (source_kind(name)) {
	case SOURCE_LIVE:
		open_live(s, source);
		break;
	case SOURCE_CAPTURE:
		signals_mask(SIG_UNBLOCK);
		capture = capture_file_open(name, s->options->keylog, &err);
		signals_mask(SIG_BLOCK);
		if (!capture)
			complain(s, err.text);
		else
			open_tracer(s, source, capture);
		break;
	case SOURCE_RECORDS:
		signals_mask(SIG_UNBLOCK);
		open_records(s, source);
		signals_mask(SIG_BLOCK);
		break;
	}
	if (source->tracer || source->reader)
		s->source_count++;
}

static void touch_ready_file(struct session *s)
{
	const char *path = s->options->ready_file;
	char text[512];
	int fd;

	if (!path)
		return;
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0) {
		snprintf(text, sizeof(text), "%s: cannot write the ready file: %s%s", path, strerror(errno),
			 denied_advice(errno));
		complain(s, text);
	} else {
		close(fd);
	}
}

static void say_attached(struct session *s)
{
	uint32_t nodes = 0;
	int i;

	for (i = 0; i < s->source_count; i++) {
		if (session_source_is_live(&s->sources[i]))
			nodes += tracer_node_count(s->sources[i].tracer);
	}
	if (nodes)
		fprintf(stderr, "derptrace: attached to %u relay node%s; nothing was restarted\n", nodes,
			nodes == 1 ? "" : "s");
}

/* Ready when every live source is. */
static void check_ready(struct session *s)
{
	int i;

	if (s->ready)
		return;
	for (i = 0; i < s->source_count; i++) {
		if (session_source_is_live(&s->sources[i]) && !tracer_is_ready(s->sources[i].tracer))
			return;
	}
	s->ready = true;
	/* Who follows sees at once what is there; who waits for one table is to see something in it. */
	if (s->hooks->at_once)
		s->next_interval_ns = 0;
	if (s->options->duration_ns)
		s->end_ns = clock_now_ns() + s->options->duration_ns;
	touch_ready_file(s);
	say_attached(s);
}

/* No fault of the file; but who named it will want to know. */
static void say_secrets(const struct session *s, const struct session_source *source)
{
	uint64_t count = source->tracer && !s->options->keylog ?
				 tracer_without_secret(source->tracer) : 0;

	if (count)
		fprintf(stderr, "derptrace %s: %s: %llu TLS connection%s no secret in it; name the key log with "
			"--keylog\n", s->hooks->verb, source->name, (unsigned long long)count,
			count == 1 ? " has" : "s have");
}

/* Why it cannot write its verb will say. */
static void sink_failed(struct session *s, int err)
{
	if (err == -ENOMEM)
		complain(s, "out of memory");
	s->end = true;
}

static void source_ended(struct session *s, struct session_source *source, int err)
{
	char text[512];

	source->ended = true;
	if (source->tracer && !session_source_is_live(source))
		say_secrets(s, source);
	if (source->tracer && tracer_complaints(source->tracer)) {
		say_warnings(s, tracer_complaints(source->tracer));
		return;
	}
	if (err == -ENODATA)
		return;
	if (source->reader && *record_reader_error(source->reader)) {
		complain(s, record_reader_error(source->reader));
		return;
	}
	if (source->reader) {
		sink_failed(s, err);
		return;
	}
	snprintf(text, sizeof(text), "%s: %s", source->name, strerror(-err));
	complain(s, text);
}

static void run_source(struct session *s, struct session_source *source)
{
	int err = source->ended ? 0 : session_source_run(source);

	if (err)
		source_ended(s, source, err);
}

static void snapshot_one(struct session *s, struct session_source *source, bool final)
{
	int err = tracer_snapshot(source->tracer, final, s->hooks->sink);

	if (err)
		sink_failed(s, err);
}

static void snapshot(struct session *s, bool final)
{
	int i;

	for (i = 0; i < s->source_count; i++) {
		if (s->sources[i].tracer)
			snapshot_one(s, &s->sources[i], final);
	}
}

static void check_whole(struct session *s)
{
	int i;

	for (i = 0; i < s->source_count; i++) {
		if (s->sources[i].reader && !s->sources[i].told && !s->sources[i].ended)
			return;
	}
	is_whole = s->ready;
}

static void tick(struct session *s)
{
	uint64_t now_ns = clock_now_ns();
	bool interval;
	int i, err;

	for (i = 0; i < s->source_count; i++) {
		if (!session_source_is_live(&s->sources[i]) || s->sources[i].ended)
			continue;
		err = tracer_tick(s->sources[i].tracer);
		if (err)
			source_ended(s, &s->sources[i], err);
	}
	check_ready(s);
	check_whole(s);
	/* What is shown is of now: the first time it is the first that knows when the window began. */
	interval = s->ready && now_ns >= s->next_interval_ns;
	if (interval || now_ns >= s->next_snapshot_ns) {
		snapshot(s, false);
		s->next_snapshot_ns = now_ns + SNAPSHOT_NS;
	}
	if (interval) {
		s->next_interval_ns += s->options->interval_ns;
		if (s->next_interval_ns < now_ns)
			s->next_interval_ns = now_ns + s->options->interval_ns;
		if (s->hooks->interval && s->hooks->interval(s->hooks->ctx, now_ns))
			s->end = true;
	}
	if (s->end_ns && now_ns >= s->end_ns)
		s->end = true;
}

static void take_signal(struct session *s)
{
	struct signalfd_siginfo info;

	if (read(s->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	/* The second one is no longer caught here: it ends the process at once. */
	signals_mask(SIG_UNBLOCK);
	s->end = true;
}

static int open_loop(struct session *s)
{
	struct itimerspec every = {
		.it_interval.tv_nsec = TICK_NS,
		.it_value.tv_nsec = TICK_NS,
	};
	sigset_t set = signals_mask(SIG_BLOCK);

	signal(SIGPIPE, SIG_IGN);
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	s->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (s->signal_fd < 0 || s->timer_fd < 0 || timerfd_settime(s->timer_fd, 0, &every, NULL))
		return -errno;
	return 0;
}

static int gather_fds(struct session *s, struct pollfd *fds)
{
	int i, n = 0;

	fds[n++] = (struct pollfd){ .fd = s->signal_fd, .events = POLLIN };
	fds[n++] = (struct pollfd){ .fd = s->timer_fd, .events = POLLIN };
	fds[n++] = (struct pollfd){ .fd = s->hooks->ready ? s->hooks->fd : -1, .events = POLLIN };
	for (i = 0; i < s->source_count; i++) {
		fds[n].fd = s->sources[i].ended ? -1 :
			    s->sources[i].tracer ? tracer_fd(s->sources[i].tracer) :
						   record_reader_fd(s->sources[i].reader);
		fds[n++].events = POLLIN;
	}
	return n;
}

static bool all_ended(const struct session *s)
{
	int i;

	for (i = 0; i < s->source_count; i++) {
		if (!s->sources[i].ended)
			return false;
	}
	return true;
}

static void snapshot_files(struct session *s)
{
	int i;

	for (i = 0; i < s->source_count; i++) {
		if (s->sources[i].tracer && !session_source_is_live(&s->sources[i]) && !s->sources[i].ended)
			snapshot_one(s, &s->sources[i], false);
	}
}

/*
 * Files are read to their ends, or until a signal, before anything else is waited for: all at once,
 * in order of time. They are told as they go, so that what is kept meanwhile stays small.
 */
static void run_files(struct session *s)
{
	uint64_t until_ns, now_ns, told_ns = 0;
	struct session_source *source;
	int err;

	while (!s->end && (source = session_source_earliest(s->sources, s->source_count, &until_ns))) {
		err = session_source_run_until(source, until_ns);
		if (err)
			source_ended(s, source, err);
		now_ns = err ? told_ns : session_source_next_ns(source);
		if (now_ns >= told_ns + SNAPSHOT_NS) {
			told_ns = now_ns;
			snapshot_files(s);
		}
		take_signal(s);
	}
}

static void loop(struct session *s)
{
	struct pollfd fds[OPTIONS_MAX_SOURCES + 3];
	uint64_t expirations;
	int i, n;

	run_files(s);
	while (!s->end && !all_ended(s)) {
		n = gather_fds(s, fds);
		if (poll(fds, n, 1000) < 0 && errno != EINTR)
			break;
		if (fds[0].revents)
			take_signal(s);
		for (i = 0; i < s->source_count; i++) {
			if (fds[3 + i].revents)
				run_source(s, &s->sources[i]);
		}
		if (fds[1].revents && read(s->timer_fd, &expirations, sizeof(expirations)) > 0)
			tick(s);
		if (fds[2].revents && s->hooks->ready(s->hooks->ctx))
			s->end = true;
	}
}

/* Records that other hosts sent before our end are still on their way. */
static void wait_for_pipes(struct session *s)
{
	uint64_t until_ns = clock_now_ns() + PIPE_GRACE_NS;
	struct pollfd fd;
	int i;

	for (i = 0; i < s->source_count; i++) {
		while (s->sources[i].reader && !s->sources[i].ended && clock_now_ns() < until_ns) {
			fd = (struct pollfd){ record_reader_fd(s->sources[i].reader), POLLIN, 0 };
			if (poll(&fd, 1, 100) > 0)
				run_source(s, &s->sources[i]);
		}
	}
}

static bool has_older(const struct session *s, uint64_t before_ns)
{
	int i;

	for (i = 0; i < s->source_count; i++) {
		if (session_source_is_live(&s->sources[i]) && tracer_has_older(s->sources[i].tracer, before_ns))
			return true;
	}
	return false;
}

static void tick_live(struct session *s)
{
	int i;

	for (i = 0; i < s->source_count; i++) {
		if (session_source_is_live(&s->sources[i]) && !s->sources[i].ended)
			tracer_tick(s->sources[i].tracer);
	}
}

/*
 * What stands in rings and sockets is told, and joined, before the last snapshot; and the trace goes
 * on for the moment that it takes until the fate of what was in flight at its end is known.
 */
static void finish(struct session *s)
{
	uint64_t end_ns = clock_now_ns();

	tick_live(s);
	while (has_older(s, end_ns) && clock_now_ns() < end_ns + SETTLE_NS) {
		poll(NULL, 0, TICK_NS / NSEC_PER_MSEC);
		tick_live(s);
	}
	snapshot(s, true);
	wait_for_pipes(s);
}

static void close_all(struct session *s)
{
	int i;

	for (i = 0; i < s->source_count; i++) {
		tracer_free(s->sources[i].tracer);
		record_reader_close(s->sources[i].reader);
	}
	said_free(&s->said);
	if (s->signal_fd >= 0)
		close(s->signal_fd);
	if (s->timer_fd >= 0)
		close(s->timer_fd);
}

int session_run(const struct options *options, const struct session_hooks *hooks)
{
	struct session s = { .options = options, .hooks = hooks, .signal_fd = -1, .timer_fd = -1 };
	uint64_t now_ns;
	int i;

	if (options->ready_file)
		unlink(options->ready_file);
	if (open_loop(&s)) {
		complain(&s, strerror(errno));
		goto cleanup;
	}
	for (i = 0; i < options->source_count; i++)
		open_source(&s, options->sources[i]);
	had_source = s.source_count;
	if (!had_source)
		goto cleanup;
	now_ns = clock_now_ns();
	s.next_interval_ns = now_ns + options->interval_ns;
	check_ready(&s);
	loop(&s);
	finish(&s);
cleanup:
	close_all(&s);
	return s.status;
}
