// SPDX-License-Identifier: BSD-2-Clause
/*
 * How much is handed over: the governor's rung, made so. Connections that are not chosen are told to
 * be quiet, so that nobody takes what was not seen for what was not there.
 */
#include <bpf/bpf.h>

#include "base/clock.h"
#include "capture/live.h"
#include "derp.h"

#include "derptrace.skel.h"

#define CHOOSE_NS	NSEC_PER_SEC		/* new connections are chosen so often */
#define YOUNG_NS	(3 * NSEC_PER_SEC)	/* one this young is shipped: how it begins tells what it is */
/* While it is sampled by so few, links are not among them. */
#define SHARE_WITHOUT_LINKS 16

static uint32_t mix(uint64_t x)
{
	x = (x ^ x >> 33) * 0xff51afd7ed558ccdULL;
	x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53ULL;
	return (uint32_t)(x ^ x >> 33);
}

/* A larger share holds every smaller one. */
static bool is_chosen(struct live *live, struct live_conn *conn, unsigned int share)
{
	/* Once it is known it stays: who changes sides all the time is never seen whole. */
	if (!conn->group && live->sink->group)
		conn->group = live->sink->group(live->sink->ctx, conn->node->id, conn->cookie,
						&conn->is_link);
	if (conn->is_link && share < SHARE_WITHOUT_LINKS)
		return true;
	return mix(conn->group ? conn->group : conn->cookie) % share == 0;
}

static bool is_counted(const struct live_conn *conn, enum abi_dir dir)
{
	const struct live_walk walk = live_conn_walk(conn, dir);

	return walk.generation && walk.type != DERP_FORWARD_PACKET;
}

static bool is_wanted(struct live *live, struct live_conn *conn, struct governor_rung rung,
		      uint64_t now_ns)
{
	if (rung.level == CAPTURE_LEVEL_FULL || rung.level == CAPTURE_LEVEL_OFF)
		return rung.level == CAPTURE_LEVEL_FULL;
	/* What the kernel counts, and does not name, costs nobody anything. */
	if (now_ns < conn->first_ns + YOUNG_NS || is_counted(conn, ABI_IN) ||
	    is_counted(conn, ABI_OUT))
		return true;
	return rung.level == CAPTURE_LEVEL_SAMPLED && is_chosen(live, conn, rung.share);
}

static void tell_quiet(struct live *live, struct live_conn *conn, bool quiet, uint64_t time_ns)
{
	struct capture_event event;

	conn->quiet = quiet;
	conn->ask = true;
	if (!conn->announced || conn->closed)
		return;
	event = live_conn_event(conn, CAPTURE_QUIET, time_ns);
	event.facts = NULL;
	event.quiet = quiet;
	live_emit(live, &event);
}

void live_govern_opened(struct live *live, struct live_conn *conn, uint64_t time_ns)
{
	if (live->level == CAPTURE_LEVEL_OFF || conn->quiet)
		tell_quiet(live, conn, true, time_ns);
}

/* Where the kernel's map is full it stays shipped, which costs and harms nobody. */
static bool map_set(struct live *live, struct live_conn *conn, bool quiet)
{
	int fd = bpf_map__fd(live->skel->maps.quiet);
	uint8_t one = 1;

	if (quiet == conn->in_quiet)
		return true;
	if (quiet && bpf_map_update_elem(fd, &conn->cookie, &one, BPF_ANY))
		return false;
	if (!quiet)
		bpf_map_delete_elem(fd, &conn->cookie);
	conn->in_quiet = quiet;
	return true;
}

void live_govern_closed(struct live *live, struct live_conn *conn)
{
	map_set(live, conn, false);
}

static uint32_t kernel_level(enum capture_level level)
{
	switch (level) {
	case CAPTURE_LEVEL_FULL:
		return ABI_LEVEL_FULL;
	case CAPTURE_LEVEL_OFF:
		return ABI_LEVEL_OFF;
	default:
		return ABI_LEVEL_SAMPLED;	/* by what is in the map */
	}
}

/*
 * First those that are heard again: what comes of them then is of use. Then the kernel; and once the
 * ring holds nothing more from before, those that are not.
 */
static void apply(struct live *live, struct governor_rung rung, uint64_t now_ns)
{
	struct live_conn *conn;
	bool wanted;

	live->level = rung.level;
	LIVE_EACH_CONN(live, conn) {
		if (conn->closed)
			continue;
		wanted = is_wanted(live, conn, rung, now_ns);
		if (rung.level != CAPTURE_LEVEL_OFF && !map_set(live, conn, !wanted))
			wanted = true;
		if (wanted && conn->quiet)
			tell_quiet(live, conn, false, now_ns);
		conn->hush = !wanted && !conn->quiet;
	}
	__atomic_store_n(&live->skel->bss->level, kernel_level(rung.level), __ATOMIC_SEQ_CST);
	live_drain(live);
	LIVE_EACH_CONN(live, conn) {
		if (conn->hush)
			tell_quiet(live, conn, true, clock_now_ns());
		conn->hush = false;
	}
}

static void step(struct live *live, struct governor_rung from, const struct governor_second *s)
{
	struct governor_rung to = governor_rung(&live->governor);
	struct capture_event event = {
		.type = CAPTURE_STEP,
		.step = {
			.from = from.level, .to = to.level, .share = to.share ? to.share : 1,
			.cost_ppm = (uint32_t)s->cost, .budget_ppm = live->options.budget_ppm,
		},
	};
	bool rose = to.level < from.level || (to.level == from.level && to.share < from.share);
	struct live_node *node;

	apply(live, to, s->now_ns);
	/* What opened meanwhile was not told by a packet, and the others' record numbers ran on. */
	for (node = live->nodes; node && rose; node = node->next) {
		node->dump = true;
		live_search_start(live, node);
	}
	event.time_ns = clock_now_ns();
	live->chosen_ns = event.time_ns;
	live_emit(live, &event);
}

void live_govern(struct live *live)
{
	uint64_t now_ns = clock_now_ns();
	struct governor_rung from;
	struct governor_second s;

	if (!live_cost_watch(&live->cost, live->skel, now_ns, &s) || !live->options.budget_ppm ||
	    !live->ready)
		return;
	if (!live->governed) {
		live->governed = true;
		governor_init(&live->governor, live->options.budget_ppm, now_ns);
		return;
	}
	from = governor_rung(&live->governor);
	if (governor_decide(&live->governor, &s))
		step(live, from, &s);
}

void live_govern_tick(struct live *live, uint64_t now_ns)
{
	struct capture_event event = {
		.type = CAPTURE_COST, .time_ns = now_ns, .cost_ns = live->cost.total_ns,
	};

	bool chosen = live->level == CAPTURE_LEVEL_SAMPLED || live->level == CAPTURE_LEVEL_COUNTS;

	if (chosen && now_ns > live->chosen_ns + CHOOSE_NS) {
		live->chosen_ns = now_ns;
		apply(live, governor_rung(&live->governor), now_ns);
	}
	if (live->cost.sampled)
		live_emit(live, &event);
}
