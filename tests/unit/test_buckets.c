// SPDX-License-Identifier: BSD-2-Clause
/* A histogram that grows at both ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/buckets.h"

static void test_buckets(void **state)
{
	static const unsigned int order[] = { 9, 9, 12, 3, 27, 0, 4, 27, 255, 9 };
	uint32_t want[256] = { 0 };
	struct buckets *b = NULL;
	unsigned int i, n;

	(void)state;
	assert_true(buckets_add(&b, 5, 0));
	assert_null(b);
	for (n = 0; n < sizeof(order) / sizeof(order[0]); n++) {
		assert_true(buckets_add(&b, order[n], n + 1));
		want[order[n]] += n + 1;
		for (i = 0; i < 256; i++)
			assert_int_equal(buckets_get(b, i), want[i]);
		if (n == 2)
			assert_int_equal(b->count, 4);
	}
	assert_int_equal(buckets_get(NULL, 3), 0);
	free(b);
}

static void test_sums(void **state)
{
	struct buckets *a = NULL, *b = NULL;

	(void)state;
	assert_true(buckets_add(&a, 7, 2) && buckets_add(&a, 9, 5));
	assert_true(buckets_sum(&b, NULL));
	assert_null(b);
	assert_true(buckets_sum(&b, a) && buckets_add(&b, 200, 1) && buckets_sum(&b, a));
	assert_int_equal(buckets_get(b, 7), 4);
	assert_int_equal(buckets_get(b, 9), 10);
	assert_int_equal(buckets_get(b, 200), 1);
	assert_true(buckets_set(&b, a));
	assert_int_equal(buckets_size(b), buckets_size(a));
	assert_memory_equal(a, b, buckets_size(a));
	assert_true(buckets_set(&b, NULL));
	assert_null(b);
	/* One that is full keeps its shape. */
	assert_true(buckets_add(&a, 7, UINT32_MAX));
	assert_int_equal(buckets_get(a, 7), 1u + UINT32_MAX / 2);
	assert_int_equal(buckets_get(a, 9), 2);
	free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buckets),
		cmocka_unit_test(test_sums),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
