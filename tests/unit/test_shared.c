// SPDX-License-Identifier: BSD-2-Clause
/* Equal blocks are kept once, for as long as somebody holds them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/shared.h"

#define BLOCKS	1000

static void test_shared(void **state)
{
	const void *kept[BLOCKS][2];
	struct shared s;
	char block[13];
	uint32_t i;

	(void)state;
	shared_init(&s, sizeof(block), 42);
	memset(block, 'x', sizeof(block));
	for (i = 0; i < BLOCKS; i++) {
		memcpy(block + 9, &i, sizeof(i));
		kept[i][0] = shared_keep(&s, block);
		kept[i][1] = shared_keep(&s, block);
		assert_non_null(kept[i][0]);
		assert_ptr_equal(kept[i][0], kept[i][1]);
	}
	assert_int_equal(s.count, BLOCKS);
	for (i = 0; i < BLOCKS; i++)
		shared_drop(&s, kept[i][0]);
	assert_int_equal(s.count, BLOCKS);
	for (i = 0; i < BLOCKS; i++) {
		memcpy(block + 9, &i, sizeof(i));
		assert_memory_equal(kept[i][1], block, sizeof(block));
		shared_drop(&s, kept[i][1]);
		assert_int_equal(s.count, BLOCKS - 1 - i);
	}
	shared_drop(&s, NULL);
	assert_non_null(shared_keep(&s, block));
	shared_clear(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_shared) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
