/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Things to happen later that somebody wants to be told of: quiet, a count of packets, all work
 * done. Each ends with one event; one that ran out of time carries "timeout":true.
 */
#ifndef DERPLOAD_WAIT_H
#define DERPLOAD_WAIT_H

#include <stdbool.h>
#include <stdint.h>

struct peer;

/* No peer received a packet for ms. timeout_ms 0: wait for ever (here and below). */
void wait_quiet(uint64_t ms, uint64_t timeout_ms);

/* The peer has received count packets since it was made. */
void wait_expect(struct peer *p, uint64_t count, uint64_t timeout_ms);

/*
 * Flows ended, peers up or down, quiets and expects over: then, or at the timeout, the event and
 * done(). One at a time.
 */
void wait_barrier(const char *id, uint64_t timeout_ms, void (*done)(void));

/* The peer's count reached what is waited for. */
void wait_received(struct peer *p);

/* To be called once per round: ends the barrier if its time has come. */
void wait_check(void);

#endif
