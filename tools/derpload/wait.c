/* SPDX-License-Identifier: BSD-2-Clause */
#include "wait.h"

#include <stdlib.h>
#include <utlist.h>

#include "flow.h"
#include "loop.h"
#include "mem.h"
#include "out.h"
#include "peer.h"

struct wait {
	struct wait *prev, *next;
	struct loop_timer timer;
	struct peer *peer;		/* whose packets; NULL: a quiet */
	uint64_t count;			/* packets, or milliseconds of quiet */
	uint64_t begun_ns;
	uint64_t until_ns;		/* 0: for ever */
};

static struct wait *waits;

static struct {
	char *id;			/* NULL: none is set */
	struct loop_timer timer;
	void (*done)(void);
} barrier;

/* --- quiet and expect --- */

static void set_expect(struct peer *p)
{
	struct wait *w;

	p->expect_at = 0;
	DL_FOREACH(waits, w)
		if (w->peer == p && (!p->expect_at || w->count < p->expect_at))
			p->expect_at = w->count;
}

static void end(struct wait *w, bool timeout)
{
	struct peer *p = w->peer;

	out_begin(p ? "expect" : "quiet");
	if (p) {
		out_str("peer", p->name);
		out_u64("count", w->count);
		out_u64("received", p->received);
	} else {
		out_u64("ms", w->count);
		out_u64("received", session_received);
	}
	if (timeout)
		out_bool("timeout", true);
	out_end();
	loop_timer_clear(&w->timer);
	DL_DELETE(waits, w);
	free(w);
	if (p)
		set_expect(p);
}

/* When a quiet would be over if nothing came any more. */
static uint64_t quiet_at(const struct wait *w)
{
	uint64_t from = session_last_received_ns;

	return (from > w->begun_ns ? from : w->begun_ns) + w->count * NSEC_PER_MSEC;
}

static void timer_fired(struct loop_timer *t)
{
	struct wait *w = (struct wait *)((char *)t - offsetof(struct wait, timer));
	uint64_t at;

	if (w->peer) {
		end(w, true);
		return;
	}
	at = quiet_at(w);
	if (at <= loop_now()) {
		end(w, false);
		return;
	}
	if (w->until_ns && w->until_ns <= loop_now()) {
		end(w, true);
		return;
	}
	loop_timer_set(t, w->until_ns && w->until_ns < at ? w->until_ns : at);
}

static struct wait *begin(struct peer *p, uint64_t count, uint64_t timeout_ms)
{
	struct wait *w = mem_zero(1, sizeof(*w));

	w->peer = p;
	w->count = count;
	w->begun_ns = loop_clock();
	w->until_ns = timeout_ms ? w->begun_ns + timeout_ms * NSEC_PER_MSEC : 0;
	w->timer.fire = timer_fired;
	DL_APPEND(waits, w);
	return w;
}

void wait_quiet(uint64_t ms, uint64_t timeout_ms)
{
	struct wait *w = begin(NULL, ms, timeout_ms);
	uint64_t at = w->begun_ns + ms * NSEC_PER_MSEC;

	loop_timer_set(&w->timer, w->until_ns && w->until_ns < at ? w->until_ns : at);
}

void wait_expect(struct peer *p, uint64_t count, uint64_t timeout_ms)
{
	struct wait *w = begin(p, count, timeout_ms);

	if (p->received >= count) {
		end(w, false);
		return;
	}
	if (w->until_ns)
		loop_timer_set(&w->timer, w->until_ns);
	set_expect(p);
}

void wait_received(struct peer *p)
{
	struct wait *w, *next;

	DL_FOREACH_SAFE(waits, w, next)
		if (w->peer == p && p->received >= w->count)
			end(w, false);
}

/* --- barrier --- */

static void end_barrier(bool timeout)
{
	out_begin("barrier");
	out_str("id", barrier.id);
	if (timeout)
		out_bool("timeout", true);
	out_end();
	loop_timer_clear(&barrier.timer);
	free(barrier.id);
	barrier.id = NULL;
	barrier.done();
}

static void barrier_timeout(struct loop_timer *t)
{
	(void)t;
	end_barrier(true);
}

void wait_barrier(const char *id, uint64_t timeout_ms, void (*done)(void))
{
	barrier.id = mem_string(id);
	barrier.done = done;
	barrier.timer.fire = barrier_timeout;
	if (timeout_ms)
		loop_timer_set(&barrier.timer, loop_clock() + timeout_ms * NSEC_PER_MSEC);
}

void wait_check(void)
{
	if (barrier.id && !waits && !flow_active() && !peer_busy())
		end_barrier(false);
}
