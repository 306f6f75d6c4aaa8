/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The books as JSON.
 */
#ifndef DERPLOAD_STATS_H
#define DERPLOAD_STATS_H

#include <stdbool.h>
#include <stdint.h>

/* How many ranges of missing numbers a pair's line lists before it only counts them. */
#define STATS_RANGES 64

/* One "stats" event; pairs and peers may be left out. */
void stats_print(bool pairs, bool peers);

/* A "rate" event every so many seconds, from now on. */
void stats_report_rates(uint64_t seconds);

#endif
