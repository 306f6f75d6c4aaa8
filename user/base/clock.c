// SPDX-License-Identifier: BSD-2-Clause
#include "base/clock.h"

#include <time.h>

static uint64_t read_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

uint64_t clock_from_monotonic_ns(uint64_t monotonic_ns)
{
	static uint64_t offset;

	if (!offset)
		offset = read_ns(CLOCK_REALTIME) - read_ns(CLOCK_MONOTONIC);
	return monotonic_ns + offset;
}

uint64_t clock_now_ns(void)
{
	return clock_from_monotonic_ns(read_ns(CLOCK_MONOTONIC));
}
