/* SPDX-License-Identifier: BSD-2-Clause */
#include "loop.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "mem.h"

#define EVENTS_PER_ROUND 256

static int epoll_fd = -1;
static struct loop_fd alarm_fd;		/* the timerfd: epoll's own timeout is too coarse */
static uint64_t alarm_at;		/* what it is set to, 0 = off */
static uint64_t now_ns;
static struct loop_timer **heap;
static uint32_t heap_len, heap_cap;
static struct loop_task *task_head, **task_tail = &task_head;

uint64_t loop_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	now_ns = ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
	return now_ns;
}

uint64_t loop_now(void)
{
	return now_ns;
}

static void alarm_ready(struct loop_fd *w, uint32_t events)
{
	uint64_t n;

	(void)events;
	if (read(w->fd, &n, sizeof(n)) == sizeof(n))
		alarm_at = 0;
}

int loop_init(void)
{
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		return -errno;
	alarm_fd.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (alarm_fd.fd < 0)
		return -errno;
	alarm_fd.ready = alarm_ready;
	loop_clock();
	return loop_watch(&alarm_fd, EPOLLIN);
}

int loop_watch(struct loop_fd *w, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = w };

	if (w->added && w->events == events)
		return 0;
	if (epoll_ctl(epoll_fd, w->added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, w->fd, &ev))
		return -errno;
	w->added = true;
	w->events = events;
	return 0;
}

void loop_forget(struct loop_fd *w)
{
	if (w->added)
		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
	w->added = false;
	w->events = 0;
}

/* --- timers: a binary heap, the soonest first --- */

static void heap_put(uint32_t i, struct loop_timer *t)
{
	heap[i] = t;
	t->slot = i + 1;
}

static void heap_up(uint32_t i, struct loop_timer *t)
{
	for (; i; i = (i - 1) / 2) {
		struct loop_timer *above = heap[(i - 1) / 2];

		if (above->due_ns <= t->due_ns)
			break;
		heap_put(i, above);
	}
	heap_put(i, t);
}

static void heap_down(uint32_t i, struct loop_timer *t)
{
	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child >= heap_len)
			break;
		if (child + 1 < heap_len && heap[child + 1]->due_ns < heap[child]->due_ns)
			child++;
		if (t->due_ns <= heap[child]->due_ns)
			break;
		heap_put(i, heap[child]);
		i = child;
	}
	heap_put(i, t);
}

void loop_timer_clear(struct loop_timer *t)
{
	struct loop_timer *last;
	uint32_t i = t->slot - 1;

	if (!t->slot)
		return;
	t->slot = 0;
	last = heap[--heap_len];
	if (last == t)
		return;
	if (i && heap[(i - 1) / 2]->due_ns > last->due_ns)
		heap_up(i, last);
	else
		heap_down(i, last);
}

void loop_timer_set(struct loop_timer *t, uint64_t due_ns)
{
	loop_timer_clear(t);
	if (heap_len == heap_cap) {
		heap_cap = heap_cap ? 2 * heap_cap : 64;
		heap = mem_resize(heap, heap_cap, sizeof(*heap));
	}
	t->due_ns = due_ns ? due_ns : 1;
	heap_up(heap_len++, t);
}

static void set_alarm(void)
{
	uint64_t at = heap_len ? heap[0]->due_ns : 0;
	struct itimerspec its = { 0 };

	if (at == alarm_at)
		return;
	its.it_value.tv_sec = at / NSEC_PER_SEC;
	its.it_value.tv_nsec = at % NSEC_PER_SEC;
	timerfd_settime(alarm_fd.fd, TFD_TIMER_ABSTIME, &its, NULL);
	alarm_at = at;
}

static void fire_timers(void)
{
	uint64_t until = now_ns;

	/* A timer that sets itself anew in the past waits for the next round. */
	for (uint32_t n = heap_len; n && heap_len && heap[0]->due_ns <= until; n--) {
		struct loop_timer *t = heap[0];

		loop_timer_clear(t);
		t->fire(t);
	}
}

/* --- tasks --- */

void loop_soon(struct loop_task *t)
{
	if (t->queued)
		return;
	t->queued = true;
	t->next = NULL;
	*task_tail = t;
	task_tail = &t->next;
}

static void run_tasks(void)
{
	struct loop_task *t = task_head, *next;

	task_head = NULL;
	task_tail = &task_head;
	for (; t; t = next) {
		next = t->next;
		t->queued = false;
		t->run(t);
	}
}

int loop_round(void)
{
	struct epoll_event ev[EVENTS_PER_ROUND];
	int n;

	set_alarm();
	n = epoll_wait(epoll_fd, ev, EVENTS_PER_ROUND, task_head ? 0 : -1);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	loop_clock();
	fire_timers();
	for (int i = 0; i < n; i++) {
		struct loop_fd *w = ev[i].data.ptr;

		/* Whoever was taken out earlier in this round has nothing to hear. */
		if (w->added)
			w->ready(w, ev[i].events);
	}
	run_tasks();
	return 0;
}
