/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Times that packets took. Inside a node each tracer measures them itself; from one node to the next
 * they are the difference of a mark's times at both ends, once the clocks have been compared.
 */
#include "correlate/analysis.h"

void histogram_add(struct histogram *h, const struct buckets *b)
{
	unsigned int i;

	for (i = 0; b && i < b->count && b->first + i < LATENCY_BUCKETS; i++) {
		h->v[b->first + i] += b->v[i];
		h->total += b->v[i];
	}
}

/* Buckets from the one of number @first. Within a bucket they are taken to be spread evenly. */
static double quantile(const uint64_t *v, unsigned int first, unsigned int count, double want)
{
	double begin, end;
	uint64_t seen = 0;
	unsigned int i;

	for (i = 0; i < count; i++) {
		if (v[i] && seen + v[i] >= want)
			break;
		seen += v[i];
	}
	if (i == count)
		return 0;
	begin = latency_begin(first + i);
	end = latency_begin(first + i + 1);
	return (begin + (end - begin) * (want - seen) / v[i]) * LATENCY_UNIT_NS / 1e3;
}

static struct report_latency told(const uint64_t *v, unsigned int first, unsigned int count,
				  uint64_t total)
{
	return (struct report_latency){
		.samples = total,
		.p50_us = quantile(v, first, count, total * 0.5),
		.p99_us = quantile(v, first, count, total * 0.99),
	};
}

struct report_latency histogram_told(const struct histogram *h)
{
	return told(h->v, 0, LATENCY_BUCKETS, h->total);
}

struct report_latency latency_told(const struct buckets *b)
{
	uint64_t v[LATENCY_BUCKETS], total = 0;
	unsigned int i;

	for (i = 0; b && i < b->count && i < LATENCY_BUCKETS; i++)
		total += v[i] = b->v[i];
	return total ? told(v, b->first, i, total) : (struct report_latency){ 0 };
}

struct hop {
	const struct analysis *a;
	uint32_t from, to;		/* agents */
	struct histogram *h;
};

static void hop_add(void *ctx, const struct mark *sent, const struct mark *arrived)
{
	const struct hop *hop = ctx;
	uint64_t from_ns = ref_time(hop->a, hop->from, sent->seen_ns);
	uint64_t to_ns = ref_time(hop->a, hop->to, arrived->seen_ns);

	hop->h->v[latency_bucket(to_ns > from_ns ? to_ns - from_ns : 0)]++;
	hop->h->total++;
}

int latency_of_link(const struct analysis *a, const struct link *link, struct report_latency *told)
{
	struct histogram h = { .total = 0 };
	struct hop hop = { .a = a, .h = &h };
	size_t i;
	int err;

	for (i = 0; i < link->edge_count; i++) {
		const struct edge *e = &a->edges[link->edges[i]];

		if (!e->out || !e->in)
			continue;
		hop.from = a->c->lives[e->out->life]->agent;
		hop.to = a->c->lives[e->in->life]->agent;
		err = clock_each_mark(e, hop_add, &hop);
		if (err < 0)
			return err;
	}
	*told = histogram_told(&h);
	return 0;
}
