// SPDX-License-Identifier: BSD-2-Clause
/* Buckets of latencies: where each time goes, and what the quantiles made of them are worth. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "correlate/analysis.h"

/* The bucket of @ns holds it, and those around it do not. */
static void check_bucket(uint64_t ns)
{
	unsigned int b = latency_bucket(ns);
	double units = (double)(ns / LATENCY_UNIT_NS);

	assert_true(b < LATENCY_BUCKETS);
	assert_true(units >= latency_begin(b));
	assert_true(b == LATENCY_BUCKETS - 1 || units < latency_begin(b + 1));
}

static void test_every_time_has_its_bucket(void **state)
{
	uint64_t ns;
	unsigned int b;

	(void)state;
	for (ns = 0; ns < 20000; ns++)
		check_bucket(ns);
	for (ns = 1; ns < 1ull << 63; ns += ns / 7 + 1) {
		check_bucket(ns);
		check_bucket(ns - 1);
	}
	check_bucket(UINT64_MAX);
	assert_int_equal(latency_begin(0), 0);
	for (b = 0; b < LATENCY_BUCKETS; b++) {
		check_bucket((uint64_t)latency_begin(b) * LATENCY_UNIT_NS);
		assert_int_equal(latency_bucket((uint64_t)latency_begin(b) * LATENCY_UNIT_NS), b);
		/* None is wider than a quarter of where it begins. */
		assert_true(b < 4 || (latency_begin(b + 1) - latency_begin(b)) * 4 <= latency_begin(b));
	}
	assert_int_equal(latency_begin(LATENCY_BUCKETS), 1u << 29);
}

static int by_size(const void *px, const void *py)
{
	const uint64_t *x = px, *y = py;

	return *x < *y ? -1 : *x > *y;
}

#define SAMPLES	5000

/* What is told of @count times is what sorting them tells, but for a quarter. */
static void check_quantiles(uint64_t *ns, size_t count)
{
	struct histogram twice = { .total = 0 };
	struct report_latency one, two;
	struct buckets *b = NULL;
	double p50, p99;
	size_t i;

	for (i = 0; i < count; i++)
		assert_true(buckets_add(&b, latency_bucket(ns[i]), 1));
	one = latency_told(b);
	histogram_add(&twice, b);
	histogram_add(&twice, b);
	two = histogram_told(&twice);
	qsort(ns, count, sizeof(*ns), by_size);
	p50 = ns[(size_t)ceil(count * 0.5) - 1] / 1e3;
	p99 = ns[(size_t)ceil(count * 0.99) - 1] / 1e3;
	assert_int_equal(one.samples, count);
	assert_int_equal(two.samples, 2 * count);
	assert_true(fabs(one.p50_us - p50) <= p50 / 4 + 0.125);
	assert_true(fabs(one.p99_us - p99) <= p99 / 4 + 0.125);
	assert_true(one.p50_us <= one.p99_us);
	assert_true(fabs(two.p50_us - one.p50_us) < 1e-6 && fabs(two.p99_us - one.p99_us) < 1e-6);
	free(b);
}

static void test_quantiles(void **state)
{
	uint64_t ns[SAMPLES], x = 1;
	size_t i, round;

	(void)state;
	for (round = 0; round < 40; round++) {
		for (i = 0; i < SAMPLES; i++) {
			x = x * 6364136223846793005ull + 1442695040888963407ull;
			/* From one magnitude, or from many. */
			ns[i] = (x >> 33) >> (round % 2 ? x >> 59 : round / 2);
		}
		check_quantiles(ns, round ? SAMPLES / round : SAMPLES);
	}
	ns[0] = 85000;
	check_quantiles(ns, 1);
}

static void test_no_sample(void **state)
{
	struct histogram none = { .total = 0 };

	(void)state;
	assert_int_equal(latency_told(NULL).samples, 0);
	assert_int_equal(histogram_told(&none).samples, 0);
}

/* One of 32, whatever it is that counts up: WireGuard's counter, its index, or a nonce. */
static void check_share(unsigned long long first, unsigned long long second, unsigned long long step)
{
	unsigned int i, timed = 0;

	for (i = 0; i < 320000; i++)
		timed += latency_sampled(first, second + i * step);
	assert_true(timed > 9000 && timed < 11000);
}

static void test_share(void **state)
{
	unsigned int i, timed = 0;

	(void)state;
	for (i = 0; i < 8; i++) {
		check_share(4 | (unsigned long long)(0x9e3779b9u * i) << 32, 1ull << 2 * i, 1);
		check_share(0xac929ff05354ull, i, 0x9e3779b97f4a7c15ull);
	}
	for (i = 0; i < 320000; i++)
		timed += latency_sampled(4 | (unsigned long long)i << 32, 7);
	assert_true(timed > 9000 && timed < 11000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_time_has_its_bucket),
		cmocka_unit_test(test_quantiles),
		cmocka_unit_test(test_no_sample),
		cmocka_unit_test(test_share),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
