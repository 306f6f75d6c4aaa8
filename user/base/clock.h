/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef DT_CLOCK_H
#define DT_CLOCK_H

#include <stdint.h>

#define NSEC_PER_SEC	1000000000ULL
#define NSEC_PER_MSEC	1000000ULL

/* The monotonic clock, moved once to the epoch: a stepped clock moves nothing in a trace. */
uint64_t clock_now_ns(void);
/* The same for a time of the kernel's monotonic clock (bpf_ktime_get_ns). */
uint64_t clock_from_monotonic_ns(uint64_t monotonic_ns);

#endif
