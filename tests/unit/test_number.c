/* SPDX-License-Identifier: BSD-2-Clause */
/* How a count is written, everywhere. */
#include "base/number.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

static void test_grouped(void **state)
{
	(void)state;
	assert_string_equal(number_grouped(0).s, "0");
	assert_string_equal(number_grouped(999).s, "999");
	assert_string_equal(number_grouped(1000).s, "1,000");
	assert_string_equal(number_grouped(12345).s, "12,345");
	assert_string_equal(number_grouped(100000).s, "100,000");
	assert_string_equal(number_grouped(UINT64_MAX).s, "18,446,744,073,709,551,615");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grouped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
