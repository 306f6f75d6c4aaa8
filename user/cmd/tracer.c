// SPDX-License-Identifier: BSD-2-Clause
#include "cmd/tracer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"

/* Connections that were open at attach are given this long to be read, from the end of the search. */
#define OPENING_NS	NSEC_PER_SEC
/* An ended node's ledger is kept so long that its last losses are settled and told. */
#define LINGER_NS	(5 * NSEC_PER_SEC)

#define TOLD_STEPS	64

struct traced_node {
	struct ledger *ledger;
	uint64_t ended_ns;
	bool told;		/* whole, since it ended */
};

struct tracer {
	struct capture *capture;
	struct streams *streams;
	struct tracer_options options;
	struct traced_node *nodes;	/* by capture's number less one */
	uint32_t node_count;
	uint64_t agent;
	uint64_t start_ns, last_event_ns;
	uint64_t tick_ns;		/* all before it was told; 0: no tick so far */
	uint64_t searched_ns;		/* attached, and the first search of memory ended */
	uint64_t ready_ns;		/* and what it found was tried on what flows */
	uint64_t segments_lost, drops_lost, counted, uncounted;
	uint64_t cpu_ns, cpu_at_ns;	/* when the window began */
	uint64_t kernel_ns, kernel_at_ready_ns; /* CPU time of the programs */
	enum capture_level level;
	uint64_t step_count;
	struct record_step steps[TOLD_STEPS]; /* to be told; the newest where there are more */
	size_t step_used;
	bool from_file, told;
};

static struct ledger *find_ledger(struct tracer *t, uint32_t node)
{
	return node && node <= t->node_count ? t->nodes[node - 1].ledger : NULL;
}

static void on_frame(void *ctx, const struct stream_frame *f)
{
	struct tracer *t = ctx;
	struct ledger *l = find_ledger(t, f->node);

	t->counted += f->named;
	if (l)
		ledger_frame(l, f);
}

static void on_run(void *ctx, const struct stream_run *r)
{
	struct tracer *t = ctx;
	struct ledger *l = find_ledger(t, r->node);

	t->counted += r->frames;
	if (l)
		ledger_run(l, r);
}

/* Who is on it must be certain: what is counted shows nobody's name. */
static uint8_t on_agree(void *ctx, uint32_t node, uint64_t conn, enum capture_dir dir,
			uint32_t epoch)
{
	struct tracer *t = ctx;
	struct ledger *l = find_ledger(t, node);

	uint8_t type = l ? ledger_may_count(l, conn, dir) : 0;

	/* Of a mesh link every frame's place in the DERP stream is to be known. */
	if (type == DERP_FORWARD_PACKET && epoch & CAPTURE_EPOCH_WEB)
		type = 0;
	if (type)
		t->capture->ops->agree(t->capture, conn, dir, epoch, type);
	return type;
}

static bool on_foretell(void *ctx, uint32_t node, uint64_t conn, const struct capture_masks *masks)
{
	struct tracer *t = ctx;

	(void)node;
	return t->capture->ops->foretell(t->capture, conn, masks);
}

static void on_progress(void *ctx, const struct stream_progress *p)
{
	struct ledger *l = find_ledger(ctx, p->node);

	if (l)
		ledger_progress(l, p);
}

static void on_gap(void *ctx, const struct stream_gap *g)
{
	struct ledger *l = find_ledger(ctx, g->node);

	if (l)
		ledger_gap(l, g);
}

static void on_info(void *ctx, uint32_t node, uint64_t conn, const struct stream_info *info)
{
	struct ledger *l = find_ledger(ctx, node);

	if (l)
		ledger_info(l, conn, info);
}

static void on_whole(void *ctx, const struct stream_frame *f, const uint8_t *bytes, size_t len)
{
	struct tracer *t = ctx;

	t->options.taps->whole(t->options.taps->ctx, t->agent, f, bytes, len);
}

static void node_up(struct tracer *t, const struct capture_event *e)
{
	struct traced_node *grown;

	if (!e->node || e->node > UINT16_MAX * 16)
		return;
	if (e->node > t->node_count) {
		grown = reallocarray(t->nodes, e->node, sizeof(*grown));
		if (!grown)
			return;
		memset(grown + t->node_count, 0, (e->node - t->node_count) * sizeof(*grown));
		t->nodes = grown;
		t->node_count = e->node;
	}
	if (!t->nodes[e->node - 1].ledger)
		t->nodes[e->node - 1].ledger = ledger_new(e->node, t->agent, &e->node_up,
							  e->time_ns, &t->options.ledger);
}

static void count_lost(struct tracer *t, const struct capture_lost *lost)
{
	t->segments_lost += lost->segments;
	t->drops_lost += lost->drops;
	t->uncounted += lost->uncounted;
}

static void take_step(struct tracer *t, const struct capture_event *e)
{
	const struct capture_step *s = &e->step;

	if (t->step_used == TOLD_STEPS)
		memmove(t->steps, t->steps + 1, --t->step_used * sizeof(*t->steps));
	t->steps[t->step_used++] = (struct record_step){
		.time_ns = e->time_ns, .from = (enum record_level)s->from,
		.to = (enum record_level)s->to, .share = s->share,
		.cost_ppm = s->cost_ppm, .budget_ppm = s->budget_ppm,
	};
	t->step_count++;
	t->level = s->to;
	if (t->options.step)
		t->options.step(t->options.say_ctx, s);
}

/* Losses and steps of the tracer concern every node; all else goes to the node it names. */
static void tell_ledgers(struct tracer *t, const struct capture_event *e)
{
	struct ledger *l;
	uint32_t i;

	if (e->node) {
		l = find_ledger(t, e->node);
		if (l)
			ledger_event(l, e);
		return;
	}
	if (e->type != CAPTURE_LOST && e->type != CAPTURE_STEP)
		return;
	for (i = 0; i < t->node_count; i++) {
		if (t->nodes[i].ledger)
			ledger_event(t->nodes[i].ledger, e);
	}
}

static void tick_ledgers(struct tracer *t, uint64_t now_ns)
{
	uint32_t i;

	for (i = 0; i < t->node_count; i++) {
		if (t->nodes[i].ledger)
			ledger_tick(t->nodes[i].ledger, now_ns);
	}
}

static uint64_t own_cpu_ns(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * NSEC_PER_SEC +
	       (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000ULL;
}

/* Ready when every connection that carries data is read, or a second after the search for its secret. */
static void check_ready(struct tracer *t, uint64_t now_ns)
{
	struct stream_stats stats;

	if (t->ready_ns || !t->searched_ns)
		return;
	streams_stats(t->streams, &stats);
	if (stats.waiting && !t->from_file && now_ns < t->searched_ns + OPENING_NS)
		return;
	t->ready_ns = now_ns;
	t->cpu_at_ns = clock_now_ns();
	t->cpu_ns = own_cpu_ns();
	t->kernel_at_ready_ns = t->kernel_ns;
}

/*
 * A connection is opened in the ledger before stream makes frames of its segments, and closed there
 * after stream has handed over its last ones.
 */
static void on_event(void *ctx, const struct capture_event *e)
{
	struct tracer *t = ctx;
	bool ledger_first = e->type == CAPTURE_CONN_OPEN || e->type == CAPTURE_PEER;

	if (e->time_ns > t->last_event_ns)
		t->last_event_ns = e->time_ns;
	if (t->options.taps && t->options.taps->event)
		t->options.taps->event(t->options.taps->ctx, t->agent, e);
	if (e->type == CAPTURE_NODE_UP)
		node_up(t, e);
	if (e->type == CAPTURE_LOST)
		count_lost(t, &e->lost);
	if (e->type == CAPTURE_SAY && t->options.say)
		t->options.say(t->options.say_ctx, e->say.text, e->say.refused);
	if (e->type == CAPTURE_STEP)
		take_step(t, e);
	if (e->type == CAPTURE_COST)
		t->kernel_ns = e->cost_ns;
	if (e->type == CAPTURE_READY)
		t->searched_ns = e->time_ns;
	if (ledger_first)
		tell_ledgers(t, e);
	streams_event(t->streams, e);
	if (!ledger_first)
		tell_ledgers(t, e);
	if (e->type == CAPTURE_NODE_DOWN && find_ledger(t, e->node))
		t->nodes[e->node - 1].ended_ns = e->time_ns;
	if (e->type == CAPTURE_TICK) {
		t->tick_ns = e->time_ns;
		tick_ledgers(t, e->time_ns);
	}
	if (e->type == CAPTURE_TICK || e->type == CAPTURE_READY)
		check_ready(t, e->time_ns);
}

struct tracer *tracer_new(struct capture *capture, const struct tracer_options *options)
{
	struct tracer *t = calloc(1, sizeof(*t));
	struct stream_sink sink = {
		.ctx = t,
		.frame = on_frame,
		.progress = on_progress,
		.gap = on_gap,
		.info = on_info,
		.run = on_run,
	};

	if (!t)
		goto fail;
	t->options = *options;
	t->start_ns = clock_now_ns();
	if (getrandom(&t->agent, sizeof(t->agent), 0) != sizeof(t->agent))
		goto fail;
	if (options->taps && options->taps->whole)
		sink.whole = on_whole;
	if (capture->ops->agree && !sink.whole)
		sink.agree = on_agree;
	/* Who looks at segments wants them whole. */
	if (capture->ops->foretell && !options->taps)
		sink.foretell = on_foretell;
	t->from_file = capture->ops->fd(capture) < 0;
	t->options.stream.secrets_first = t->from_file;
	t->streams = streams_new(&sink, &t->options.stream);
	if (!t->streams)
		goto fail;
	t->capture = capture;
	return t;
fail:
	free(t);
	capture->ops->close(capture);
	return NULL;
}

void tracer_free(struct tracer *t)
{
	uint32_t i;

	if (!t)
		return;
	t->capture->ops->close(t->capture);
	for (i = 0; i < t->node_count; i++)
		ledger_free(t->nodes[i].ledger);
	streams_free(t->streams);
	free(t->nodes);
	free(t);
}

static uint32_t on_group(void *ctx, uint32_t node, uint64_t conn, bool *link)
{
	struct ledger *l = find_ledger(ctx, node);

	return l ? ledger_group(l, conn, link) : 0;
}

static struct capture_sink sink_of(struct tracer *t)
{
	return (struct capture_sink){ .ctx = t, .event = on_event, .group = on_group };
}

int tracer_fd(struct tracer *t)
{
	return t->capture->ops->fd(t->capture);
}

int tracer_run(struct tracer *t)
{
	const struct capture_sink sink = sink_of(t);

	return t->capture->ops->run(t->capture, &sink);
}

uint64_t tracer_without_secret(const struct tracer *t)
{
	struct stream_stats stats;

	streams_stats(t->streams, &stats);
	return stats.without_secret;
}

uint64_t tracer_next_ns(struct tracer *t)
{
	return t->capture->ops->next_ns(t->capture);
}

int tracer_run_until(struct tracer *t, uint64_t until_ns)
{
	const struct capture_sink sink = { .ctx = t, .event = on_event };

	return t->capture->ops->run_until(t->capture, &sink, until_ns);
}

const char *tracer_complaints(struct tracer *t)
{
	return t->capture->ops->complaints ? t->capture->ops->complaints(t->capture) : NULL;
}

int tracer_tick(struct tracer *t)
{
	const struct capture_sink sink = sink_of(t);
	uint64_t now_ns = clock_now_ns();
	uint32_t i;
	int err;

	err = t->capture->ops->tick(t->capture, &sink);
	for (i = 0; t->capture->ops->search && i < t->node_count; i++) {
		if (t->nodes[i].ledger && !t->nodes[i].ended_ns &&
		    streams_want_search(t->streams, i + 1, now_ns))
			t->capture->ops->search(t->capture, i + 1, &sink);
	}
	return err;
}

bool tracer_is_ready(const struct tracer *t)
{
	return t->ready_ns;
}

uint64_t tracer_ready_ns(const struct tracer *t)
{
	return t->ready_ns;
}

uint32_t tracer_node_count(const struct tracer *t)
{
	uint32_t i, nodes = 0;

	for (i = 0; i < t->node_count; i++)
		nodes += t->nodes[i].ledger && !t->nodes[i].ended_ns;
	return nodes;
}

bool tracer_has_older(const struct tracer *t, uint64_t before_ns)
{
	uint32_t i;

	for (i = 0; i < t->node_count; i++) {
		if (t->nodes[i].ledger && ledger_oldest_ns(t->nodes[i].ledger) < before_ns)
			return true;
	}
	return false;
}

/* Of one core, since the window began; negative: not known. */
static double cpu_percent(const struct tracer *t, uint64_t now_ns)
{
	if (t->from_file || !t->cpu_at_ns || now_ns <= t->cpu_at_ns)
		return -1;
	return 100.0 * (own_cpu_ns() - t->cpu_ns + t->kernel_ns - t->kernel_at_ready_ns) / (now_ns - t->cpu_at_ns);
}

static int tell_agent(struct tracer *t, uint64_t now_ns, bool final, const struct record_sink *sink)
{
	struct record r = { .type = RECORD_AGENT, .agent = t->agent, .time_ns = now_ns };
	struct record_agent *a = &r.agent_info;
	struct stream_stats stats;

	streams_stats(t->streams, &stats);
	if (gethostname(a->host, sizeof(a->host) - 1))
		a->host[0] = '\0';
	a->start_ns = t->start_ns;
	a->ready_ns = t->ready_ns;
	a->final = final;
	a->segments_lost = t->segments_lost;
	a->drops_lost = t->drops_lost;
	a->counted = t->counted;
	a->uncounted = t->uncounted;
	a->connections = stats.connections;
	a->without_secret = stats.without_secret;
	a->unsynchronised = stats.unsynchronised;
	a->cpu_percent = cpu_percent(t, now_ns);
	a->steps = t->step_count;
	strcpy(a->mode, record_level_name((enum record_level)t->level));
	return sink->put(sink->ctx, &r);
}

static int tell_steps(struct tracer *t, uint64_t now_ns, const struct record_sink *sink)
{
	struct record r = { .type = RECORD_STEP, .agent = t->agent, .time_ns = now_ns };
	size_t i;
	int err = 0;

	for (i = 0; i < t->step_used && !err; i++) {
		r.step = t->steps[i];
		err = sink->put(sink->ctx, &r);
	}
	t->step_used = 0;
	return err;
}

/* What an ended node had to say has been told: let it go. */
static void let_go(struct traced_node *n, uint64_t now_ns)
{
	if (!n->ledger || !n->ended_ns || now_ns < n->ended_ns + LINGER_NS)
		return;
	if (!n->told) {
		n->told = true;
		return;
	}
	ledger_free(n->ledger);
	n->ledger = NULL;
}

int tracer_snapshot(struct tracer *t, bool final, const struct record_sink *sink)
{
	/* Live, a trace that lags behind knows nothing of now. */
	uint64_t now_ns = t->from_file ? t->last_event_ns : t->tick_ns ? t->tick_ns : clock_now_ns();
	bool all = final || !t->told;
	struct traced_node *n;
	uint32_t i;
	int err;

	for (i = 0; i < t->node_count; i++) {
		n = &t->nodes[i];
		if (!n->ledger)
			continue;
		if (final)
			ledger_end(n->ledger, now_ns);
		err = ledger_snapshot(n->ledger, now_ns, all, sink);
		if (err)
			return err;
		let_go(n, now_ns);
	}
	t->told = true;
	err = tell_steps(t, now_ns, sink);
	if (err)
		return err;
	return tell_agent(t, now_ns, final, sink);
}
