/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The governor: from what the tracer costs to how much it ships, once a second. Pure: no clock, no
 * kernel, no memory of its own but struct governor.
 *
 * The ladder: everything; a quarter of the connections; a sixteenth; none, only what the kernel
 * counts; nothing at all. It goes down, as far as it takes, when a second cost twice the budget or two in
 * a row cost more than it. It goes up when the rung above is expected to fit: what a packet cost on
 * each rung is remembered, and packets are counted on all of them. Where that says nothing, or says no
 * for long, one rung is tried now and then. An ascent that was followed by a descent makes the next
 * one wait twice as long.
 *
 * Cost is in millionths of the CPU time of all the machine's CPUs (ppm): 10,000 is 1 %.
 */
#ifndef DT_CAPTURE_GOVERNOR_H
#define DT_CAPTURE_GOVERNOR_H

#include <stdbool.h>
#include <stdint.h>

#include "capture/capture.h"

#define GOVERNOR_RUNGS	5

struct governor_rung {
	enum capture_level level;
	uint8_t share;		/* SAMPLED: one of so many connections is shipped */
};

struct governor {
	double budget;		/* ppm */
	int rung;		/* 0: everything */
	uint64_t since_ns;	/* when it came to be on it */
	uint64_t rest_ns;	/* so long it stays there before it goes up */
	uint64_t try_ns;	/* and so long where the rung above is not expected to fit */
	uint64_t rose_ns;	/* last ascent; 0: none */
	bool tried;		/* it was not expected to fit */
	bool over, fits;	/* so the second before */
	double idle;		/* ppm: what it costs without packets, the least seen of late */
	bool idle_known;
	double packet[GOVERNOR_RUNGS];	/* ppm for one packet a second, as last seen; 0: never */
};

struct governor_second {
	uint64_t now_ns;
	double cost;		/* ppm, since the last one */
	double packets;		/* a second; negative: not known */
};

/* @budget in ppm, over 0. */
void governor_init(struct governor *g, double budget, uint64_t now_ns);
/* True where the rung has changed. */
bool governor_decide(struct governor *g, const struct governor_second *s);
struct governor_rung governor_rung(const struct governor *g);

#endif
