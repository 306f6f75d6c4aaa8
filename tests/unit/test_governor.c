// SPDX-License-Identifier: BSD-2-Clause
/* The governor on made-up machines: what each rung costs is given, what it does is watched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "capture/governor.h"

#define BUDGET	10000.0		/* ppm: 1 % */

/* A machine: what it costs to do nothing, and for a packet a second on each rung. */
struct machine {
	double idle, packet[GOVERNOR_RUNGS];
	bool blind;		/* the kernel does not count */
};

static const struct machine usual = { 500, { 2, 0.8, 0.4, 0.2, 0.02 }, false };

struct run {
	struct governor g;
	const struct machine *m;
	uint64_t now_ns, changed_ns;
	unsigned int changes;
};

static void begin(struct run *r, const struct machine *m)
{
	*r = (struct run){ .m = m, .now_ns = 1000 * NSEC_PER_SEC };
	governor_init(&r->g, BUDGET, r->now_ns);
}

static void seconds(struct run *r, unsigned int n, double packets, double noise)
{
	struct governor_second s;

	while (n--) {
		r->now_ns += NSEC_PER_SEC;
		s.now_ns = r->now_ns;
		s.cost = (r->m->idle + packets * r->m->packet[r->g.rung]) *
			 (1 + (n % 2 ? noise : -noise));
		s.packets = r->m->blind ? -1 : packets;
		if (!governor_decide(&r->g, &s))
			continue;
		r->changes++;
		r->changed_ns = r->now_ns;
	}
}

static enum capture_level level(const struct run *r)
{
	return governor_rung(&r->g).level;
}

static void test_within_budget_nothing_happens(void **state)
{
	struct run r;

	(void)state;
	begin(&r, &usual);
	seconds(&r, 3600, 3000, 0.1);
	assert_int_equal(r.changes, 0);
	assert_int_equal(level(&r), CAPTURE_LEVEL_FULL);
}

static void test_down_within_two_seconds(void **state)
{
	struct run r;

	(void)state;
	begin(&r, &usual);
	seconds(&r, 60, 1000, 0);
	seconds(&r, 2, 6000, 0);	/* 1.25 times the budget: two in a row */
	assert_int_equal(level(&r), CAPTURE_LEVEL_SAMPLED);
	begin(&r, &usual);
	seconds(&r, 60, 1000, 0);
	seconds(&r, 1, 12000, 0);	/* 2.45 times: at once */
	assert_true(level(&r) > CAPTURE_LEVEL_FULL);
	/* One second alone, a little over, is none. */
	begin(&r, &usual);
	seconds(&r, 60, 1000, 0);
	seconds(&r, 1, 6000, 0);
	seconds(&r, 60, 1000, 0);
	assert_int_equal(r.changes, 0);
}

static void test_as_far_as_it_takes(void **state)
{
	static const struct {
		double packets;
		enum capture_level level;
	} cases[] = {
		{ 7000, CAPTURE_LEVEL_SAMPLED }, { 25000, CAPTURE_LEVEL_COUNTS },
		{ 300000, CAPTURE_LEVEL_OFF },
	};
	struct run r;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		begin(&r, &usual);
		seconds(&r, 20, 1000, 0);
		seconds(&r, 8, cases[i].packets, 0);
		assert_int_equal(level(&r), cases[i].level);
		assert_true(r.m->idle + cases[i].packets * r.m->packet[r.g.rung] <= BUDGET);
	}
}

static void test_back_when_it_is_quiet(void **state)
{
	struct run r;

	(void)state;
	begin(&r, &usual);
	seconds(&r, 20, 1000, 0);
	seconds(&r, 60, 200000, 0);
	assert_int_equal(level(&r), CAPTURE_LEVEL_OFF);
	seconds(&r, 4, 1000, 0);
	assert_int_equal(level(&r), CAPTURE_LEVEL_FULL);
}

/* Traffic that stays: it is tried now and then whether more fits, ever more rarely. */
static void test_no_flapping(void **state)
{
	struct run r;
	unsigned int first;

	(void)state;
	begin(&r, &usual);
	seconds(&r, 600, 40000, 0.2);
	first = r.changes;
	assert_true(first < 20);
	seconds(&r, 3600, 40000, 0.2);
	assert_true(r.changes - first < 3600 / 300 * 2 + 4);
	/* Just at the edge of a rung. */
	begin(&r, &usual);
	seconds(&r, 3600, 4700, 0.2);
	assert_true(r.changes < 60);
}

/* Bursts of three seconds in every ten do not make it change twice in every ten. */
static void test_bursts(void **state)
{
	struct run r;
	int i;

	(void)state;
	begin(&r, &usual);
	for (i = 0; i < 360; i++) {
		seconds(&r, 3, 20000, 0);
		seconds(&r, 7, 500, 0);
	}
	assert_true(r.changes < 80);
}

/* It costs more than the budget to do nothing at all: nothing is gained by seeing less. */
static void test_idle_over_the_budget(void **state)
{
	static const struct machine heavy = { 15000, { 2, 0.8, 0.4, 0.2, 0.02 }, false };
	struct run r;

	(void)state;
	begin(&r, &heavy);
	seconds(&r, 600, 100, 0);
	assert_int_equal(r.changes, 0);
	/* A flood is worth a step, and is over some day. */
	seconds(&r, 5, 50000, 0);
	assert_int_equal(level(&r), CAPTURE_LEVEL_OFF);
	seconds(&r, 10, 100, 0);
	assert_int_equal(level(&r), CAPTURE_LEVEL_FULL);
}

/* Where packets are not counted it comes back by trying. */
static void test_blind(void **state)
{
	static const struct machine blind = { 500, { 2, 0.8, 0.4, 0.2, 0.02 }, true };
	struct run r;

	(void)state;
	begin(&r, &blind);
	seconds(&r, 20, 1000, 0);
	seconds(&r, 5, 50000, 0);
	assert_true(level(&r) >= CAPTURE_LEVEL_COUNTS);
	seconds(&r, 150, 1000, 0);
	assert_int_equal(level(&r), CAPTURE_LEVEL_FULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_within_budget_nothing_happens),
		cmocka_unit_test(test_down_within_two_seconds),
		cmocka_unit_test(test_as_far_as_it_takes),
		cmocka_unit_test(test_back_when_it_is_quiet),
		cmocka_unit_test(test_no_flapping),
		cmocka_unit_test(test_bursts),
		cmocka_unit_test(test_idle_over_the_budget),
		cmocka_unit_test(test_blind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
