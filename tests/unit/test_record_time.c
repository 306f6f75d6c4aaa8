// SPDX-License-Identifier: BSD-2-Clause
/* Records of several files in order of time: what a reader knows of its own. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "record/record.h"

static int put_time(void *ctx, const struct record *r)
{
	uint64_t **at = ctx;

	*(*at)++ = r->time_ns;
	return 0;
}

/* Of a file it is known when it goes on, and it goes no further than it is told to. */
static void test_by_time(void **state)
{
	const uint64_t times[] = { 10, 20, 20, UINT64_MAX };
	uint64_t seen[8] = { 0 }, *at = seen;
	const struct record_sink sink = { &at, put_time };
	struct record_reader *reader;
	struct record_writer *w;
	char error[256];
	struct record r = { .type = RECORD_AGENT, .agent = 9 };
	char path[32];
	size_t i;
	int fd = memfd_create("dtr", MFD_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	w = record_writer_open(path, error);
	assert_non_null(w);
	for (i = 0; i < 4; i++) {
		r.agent_info.final = i == 3;
		r.time_ns = times[i];
		assert_int_equal(record_writer_put(w, &r), 0);
	}
	assert_int_equal(record_writer_close(w), 0);
	reader = record_reader_open(path, error);
	assert_non_null(reader);
	assert_true(record_reader_is_file(reader));
	assert_int_equal(record_reader_next_ns(reader), 10);
	assert_int_equal(record_reader_run_until(reader, &sink, 10), 0);
	assert_ptr_equal(at, seen);
	assert_int_equal(record_reader_run_until(reader, &sink, 11), 0);
	assert_int_equal(at - seen, 1);
	assert_int_equal(record_reader_next_ns(reader), 20);
	assert_int_equal(record_reader_run_until(reader, &sink, 1000), 0);
	assert_int_equal(at - seen, 3);
	/* A time that nobody can wait for is no reason to wait. */
	assert_int_equal(record_reader_next_ns(reader), INT64_MAX);
	assert_int_equal(record_reader_run_until(reader, &sink, UINT64_MAX), -ENODATA);
	assert_int_equal(at - seen, 4);
	assert_int_equal(record_reader_next_ns(reader), 0);
	assert_int_equal(record_reader_run_until(reader, &sink, UINT64_MAX), -ENODATA);
	assert_memory_equal(seen, times, sizeof(times));
	record_reader_close(reader);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_by_time) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
