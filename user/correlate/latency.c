/* SPDX-License-Identifier: BSD-2-Clause */
/* Histograms of the time that packets spent inside a relay. */
#include "correlate/analysis.h"

double latency_quantile(const uint64_t *latency, uint64_t total, double part)
{
	double want = total * part, low;
	uint64_t seen = 0;
	int i;

	for (i = 0; i < RECORD_LATENCY_BUCKETS; i++) {
		if (latency[i] && seen + latency[i] >= want)
			break;
		seen += latency[i];
	}
	if (i == RECORD_LATENCY_BUCKETS)
		return 0;
	low = (double)(1u << i) / 8;
	return low + low * (want - seen) / latency[i];
}
