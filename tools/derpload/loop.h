/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The one event loop: descriptors (level triggered), timers (nanoseconds, CLOCK_MONOTONIC) and
 * tasks that still have work but let others go first. Sleeps whenever there is no task.
 */
#ifndef DERPLOAD_LOOP_H
#define DERPLOAD_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#define NSEC_PER_SEC 1000000000ull
#define NSEC_PER_MSEC 1000000ull

struct loop_fd {
	int fd;
	uint32_t events;	/* as armed; loop_watch() keeps it */
	bool added;
	void (*ready)(struct loop_fd *w, uint32_t events);
};

struct loop_timer {
	uint64_t due_ns;
	uint32_t slot;		/* place in the heap + 1, 0 = not armed */
	void (*fire)(struct loop_timer *t);
};

struct loop_task {
	struct loop_task *next;
	bool queued;
	void (*run)(struct loop_task *t);
};

/* 0 or -errno. */
int loop_init(void);

/* The clock as of the last wake-up; loop_clock() reads it afresh. */
uint64_t loop_now(void);
uint64_t loop_clock(void);

/* Arms the descriptor for exactly these events. -EPERM: a plain file, which is always ready. */
int loop_watch(struct loop_fd *w, uint32_t events);
/* Takes it out; to be called before close(). Harmless if it is not in. */
void loop_forget(struct loop_fd *w);

void loop_timer_set(struct loop_timer *t, uint64_t due_ns);
void loop_timer_clear(struct loop_timer *t);

/* Runs the task in the next round. */
void loop_soon(struct loop_task *t);

/* One round: waits, then timers, descriptors, tasks. 0 or -errno. */
int loop_round(void);

#endif
