// SPDX-License-Identifier: BSD-2-Clause
#include "capture/governor.h"

#include <string.h>

#include "base/clock.h"

#define REST_MIN_NS	(2 * NSEC_PER_SEC)
#define REST_MAX_NS	(300 * NSEC_PER_SEC)
/* A descent so soon after an ascent means that the ascent was a mistake. */
#define MISTAKE_NS	(30 * NSEC_PER_SEC)
/* Where the rung above is not expected to fit it is tried all the same. */
#define TRY_MIN_NS	(20 * NSEC_PER_SEC)
/* After a move things settle: the second in which it was made tells nothing. */
#define SETTLE_NS	(NSEC_PER_SEC + NSEC_PER_SEC / 2)
/* What is heard again has to be found again. */
#define RISE_NS		(3 * NSEC_PER_SEC)
/* What is expected must stay below this part of the budget. */
#define ROOM		0.7
/* This part of it is not worth a step. */
#define TRIFLE		0.1
/* Traffic below this says nothing of what a packet costs. */
#define PACKETS_MIN	50.0
/* A second with less than this of a packet's cost tells what none costs. */
#define IDLE_PACKETS	200.0

/* @weight: what a packet costs there against full, where it was not seen yet. */
static const struct {
	struct governor_rung rung;
	double weight;
} ladder[GOVERNOR_RUNGS] = {
	{ { CAPTURE_LEVEL_FULL, 1 }, 1.0 },
	{ { CAPTURE_LEVEL_SAMPLED, 4 }, 0.4 },
	{ { CAPTURE_LEVEL_SAMPLED, 16 }, 0.2 },
	{ { CAPTURE_LEVEL_COUNTS, 0 }, 0.12 },
	{ { CAPTURE_LEVEL_OFF, 0 }, 0.02 },
};

void governor_init(struct governor *g, double budget, uint64_t now_ns)
{
	memset(g, 0, sizeof(*g));
	g->budget = budget;
	g->since_ns = now_ns;
	g->rest_ns = REST_MIN_NS;
	g->try_ns = TRY_MIN_NS;
}

struct governor_rung governor_rung(const struct governor *g)
{
	return ladder[g->rung].rung;
}

/* What the second tells of the cost without packets and of a packet's. */
static void learn(struct governor *g, const struct governor_second *s)
{
	bool quiet = s->packets >= 0 && s->packets < IDLE_PACKETS;
	double packet;

	if (quiet || g->rung == GOVERNOR_RUNGS - 1) {
		/* The least, nearly: a second may hold other things as well. */
		if (!g->idle_known || s->cost < g->idle)
			g->idle = s->cost;
		else
			g->idle += (s->cost - g->idle) / 16;
		g->idle_known = true;
	}
	if (s->packets < PACKETS_MIN || quiet)
		return;
	packet = s->cost > g->idle ? (s->cost - g->idle) / s->packets : 0;
	g->packet[g->rung] = g->packet[g->rung] ? (g->packet[g->rung] + packet) / 2 : packet;
}

/* Of a packet on @rung: as it was seen there, or on another one. */
static double packet_cost(const struct governor *g, int rung)
{
	int away, other;

	for (away = 0; away < GOVERNOR_RUNGS; away++) {
		for (other = rung - away; other <= rung + away; other += away ? 2 * away : 1) {
			if (other >= 0 && other < GOVERNOR_RUNGS && g->packet[other] > 0)
				return g->packet[other] * ladder[rung].weight / ladder[other].weight;
		}
	}
	return 0;
}

/*
 * What packets would cost on @rung. By their number where that is known: the rest of a second's cost is
 * this machine's noise, which no rung changes.
 */
static double moving(const struct governor *g, const struct governor_second *s, int rung)
{
	double now = s->cost > g->idle ? s->cost - g->idle : 0;

	if (s->packets >= 0)
		return s->packets * packet_cost(g, rung);
	return now * ladder[rung].weight / ladder[g->rung].weight;
}

static bool does_fit(const struct governor *g, const struct governor_second *s, int rung)
{
	double packets = moving(g, s, rung);

	return packets <= g->budget * TRIFLE || g->idle + packets <= g->budget * ROOM;
}

/* The first rung below that is expected to fit; none that saves next to nothing. */
static int rung_below(const struct governor *g, const struct governor_second *s)
{
	double now = moving(g, s, g->rung);
	int rung = g->rung;

	while (rung + 1 < GOVERNOR_RUNGS) {
		rung++;
		if (does_fit(g, s, rung))
			break;
	}
	return now - moving(g, s, rung) > g->budget * TRIFLE ? rung : g->rung;
}

/* The highest rung that is expected to fit; where packets are not counted that cannot be said. */
static int rung_above(const struct governor *g, const struct governor_second *s)
{
	int rung;

	for (rung = 0; s->packets >= 0 && rung < g->rung; rung++) {
		if (does_fit(g, s, rung))
			return rung;
	}
	return g->rung;
}

static void lengthen(uint64_t *ns)
{
	*ns = *ns * 2 < REST_MAX_NS ? *ns * 2 : REST_MAX_NS;
}

static bool move(struct governor *g, int rung, uint64_t now_ns)
{
	if (rung == g->rung)
		return false;
	if (rung < g->rung) {
		g->rose_ns = now_ns;
	} else if (g->rose_ns && now_ns < g->rose_ns + MISTAKE_NS) {
		lengthen(g->tried ? &g->try_ns : &g->rest_ns);
	} else {
		g->rest_ns = REST_MIN_NS;
		g->try_ns = TRY_MIN_NS;
	}
	g->rung = rung;
	g->since_ns = now_ns;
	g->over = g->fits = false;
	return true;
}

bool governor_decide(struct governor *g, const struct governor_second *s)
{
	bool was_over = g->over, fitted = g->fits;
	int rung;

	if (s->now_ns < g->since_ns + (g->rose_ns == g->since_ns ? RISE_NS : SETTLE_NS))
		return false;
	learn(g, s);
	g->over = s->cost > g->budget;
	g->fits = false;
	rung = rung_below(g, s);
	if (g->over && rung != g->rung)
		return (was_over || s->cost > 2 * g->budget) && move(g, rung, s->now_ns);
	g->over = false;
	if (!g->rung)
		return false;
	rung = rung_above(g, s);
	g->fits = rung != g->rung;
	/* Twice in a row, and after a rest: a pause of the traffic is not its end. */
	if (fitted && g->fits && s->now_ns >= g->since_ns + g->rest_ns) {
		g->tried = false;
		return move(g, rung, s->now_ns);
	}
	if (s->now_ns < g->since_ns + g->try_ns)
		return false;
	g->tried = true;
	return move(g, g->rung - 1, s->now_ns);
}
