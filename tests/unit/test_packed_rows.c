// SPDX-License-Identifier: BSD-2-Clause
/* base: rows of counters in few bytes, blocks without headers, tables of numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/buckets.h"
#include "base/fold.h"
#include "base/index.h"
#include "base/shelf.h"
#include "base/slab.h"
#include "base/tally.h"

#define COUNTERS	24

static void test_tally(void **state)
{
	uint64_t v[COUNTERS] = { [0] = 1, [3] = 127, [4] = 128, [23] = UINT64_MAX }, back[COUNTERS];
	uint8_t bytes[TALLY_BYTES(COUNTERS)];
	size_t len = (size_t)(tally_pack(v, COUNTERS, bytes) - bytes);
	int i;

	(void)state;
	assert_int_equal(len, 4 + 1 + 1 + 2 + 10);
	assert_ptr_equal(tally_unpack(bytes, back, COUNTERS), bytes + len);
	assert_memory_equal(back, v, sizeof(v));
	for (i = 0; i < COUNTERS; i++)
		v[i] = UINT64_MAX;
	assert_true(tally_pack(v, COUNTERS, bytes) <= bytes + sizeof(bytes));
	tally_unpack(bytes, back, COUNTERS);
	assert_memory_equal(back, v, sizeof(v));
}

static void test_tally_buckets(void **state)
{
	const uint32_t v[] = { 7, 0, 0, 0, UINT32_MAX, 1, 0, 2 };
	struct buckets *back = calloc(1, sizeof(*back) + sizeof(v));
	uint8_t bytes[TALLY_BUCKETS_BYTES(8)], *end = tally_pack_buckets(40, v, 8, bytes);

	(void)state;
	assert_non_null(back);
	assert_ptr_equal(tally_unpack_buckets(bytes, back), end);
	assert_int_equal(back->first, 40);
	assert_int_equal(back->count, 8);
	assert_memory_equal(back->v, v, sizeof(v));
	assert_int_equal(tally_pack_buckets(0, NULL, 0, bytes) - bytes, 1);
	tally_unpack_buckets(bytes, back);
	assert_int_equal(back->count, 0);
	free(back);
}

/* Blocks of all sizes keep what was written, and what is dropped is used again. */
static void test_slab(void **state)
{
	static uint32_t blocks[3000];
	struct slab s = { 0 };
	size_t i, k, len, chunks = 0;
	int round;

	(void)state;
	for (round = 0; round < 3; round++) {
		for (i = 0; i < 3000; i++) {
			len = 1 + i * 7 % SLAB_MAX;
			blocks[i] = slab_take(&s, len);
			assert_int_not_equal(blocks[i], 0);
			assert_true(slab_room(blocks[i]) >= len);
			memset(slab_at(&s, blocks[i]), (int)i, len);
		}
		for (i = 0; i < 3000; i++) {
			for (k = 0; k < 1 + i * 7 % SLAB_MAX; k++)
				assert_int_equal(slab_at(&s, blocks[i])[k], (uint8_t)i);
			slab_drop(&s, blocks[i]);
		}
		for (i = k = 0; i < SLAB_SIZES; i++)
			k += s.size[i].chunk_count;
		if (round)
			assert_int_equal(k, chunks);
		chunks = k;
	}
	slab_free(&s);
}

/* Everything has the same hash, or nearly: it is slow and right. */
static uint64_t bad_hash(const void *ctx, uint32_t number)
{
	(void)ctx;
	return number % 3 ? UINT64_MAX : 5;
}

static bool is(const void *ctx, uint32_t number, const void *key)
{
	(void)ctx;
	return number == *(const uint32_t *)key;
}

static void test_index(void **state)
{
	const struct index_of of = { bad_hash, is, NULL };
	struct index x = { 0 };
	uint32_t n;

	(void)state;
	for (n = 1; n <= 200; n++)
		assert_true(index_insert(&x, &of, bad_hash(NULL, n), n));
	for (n = 1; n <= 200; n += 2)
		index_remove(&x, &of, n);
	assert_int_equal(x.used, 100);
	for (n = 1; n <= 201; n++)
		assert_int_equal(index_find(&x, &of, bad_hash(NULL, n), &n), n % 2 ? 0 : n);
	index_free(&x);
}

/* Words of all kinds come back as they were: nothing, ones, small ones, and such as differ a little. */
static void test_fold(void **state)
{
	uint64_t words[64], back[64], x = 88172645463325252ull, w = 0;
	uint8_t bytes[FOLD_BYTES(sizeof(words))];
	const uint8_t *end;
	size_t i, n, round;

	(void)state;
	for (round = 0; round < 20000; round++) {
		n = round % 65;
		for (i = 0; i < n; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			w = x % 5 == 0 ? 0 : x % 5 == 1 ? UINT64_MAX : x % 5 == 2 ? w : x % 5 == 3 ?
			    x >> x % 64 : w ^ x >> x % 64;
			words[i] = w;
		}
		end = fold(words, n * sizeof(*words), bytes);
		assert_in_range(end - bytes, 0, FOLD_BYTES(n * sizeof(*words)));
		memset(back, 0x5a, sizeof(back));
		assert_ptr_equal(unfold(bytes, back, n * sizeof(*words)), end);
		assert_memory_equal(back, words, n * sizeof(*words));
	}
	memset(words, 0, sizeof(words));
	assert_int_equal(fold(words, sizeof(words), bytes) - bytes, 32);
}

/* What was laid down is found by its number, until it is dropped; all of them are, in between. */
static void test_shelf(void **state)
{
	struct shelf s = { 0 };
	uint64_t n, number, sum = 0;
	const uint8_t *at;
	size_t i = 0;

	(void)state;
	assert_ptr_equal(shelf_find(&s, 1), NULL);
	for (n = 1; n <= 1000; n++) {
		uint8_t bytes[100];

		memset(bytes, (int)n, sizeof(bytes));
		assert_true(shelf_put(&s, n << 40, bytes, 1 + n % 100));
	}
	for (n = 1; n <= 1000; n += 2)
		shelf_drop(&s, n << 40);
	for (n = 1; n <= 1000; n++) {
		at = shelf_find(&s, n << 40);
		assert_int_equal(at != NULL, n % 2 == 0);
		if (at)
			assert_int_equal(at[n % 100], (uint8_t)n);
	}
	assert_int_equal(shelf_count(&s), 500);
	while (shelf_next(&s, &i, &number))
		sum += number >> 40;
	assert_int_equal(sum, 250500);
	shelf_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tally), cmocka_unit_test(test_tally_buckets),
		cmocka_unit_test(test_slab), cmocka_unit_test(test_index),
		cmocka_unit_test(test_fold), cmocka_unit_test(test_shelf),
	};

	return cmocka_run_group_tests_name("packed_rows", tests, NULL, NULL);
}
