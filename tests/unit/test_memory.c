// SPDX-License-Identifier: BSD-2-Clause
/* What is said of memory holds: bytes do not depend on how busy the machine is. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../tools/bench/rooms.h"

#define SAID	1024	/* bytes of a connection: derptrace --help */

static void test_connection(void **state)
{
	double bytes;

	(void)state;
	/* Where another allocator stands in, it does not tell. */
	if (!mallinfo2().uordblks)
		skip();
	bytes = bench_connection_bytes();
	if (bytes > SAID)
		fail_msg("a connection takes %.0f bytes, %d are said", bytes, SAID);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_connection) };

	return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
