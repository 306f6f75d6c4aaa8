/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Nodes that stood still for a time. What came meanwhile is read at once when they go on, and is more
 * than a queue holds: at the node itself, and at those that it forwards to.
 */
#include "correlate/analysis.h"

/* Until what waited is through: with half of its time to spare a node takes as long as it stood still. */
#define BURST_MIN_NS	NSEC_PER_SEC
#define BURST_MAX_NS	(3 * NSEC_PER_SEC)

static uint64_t end_of(const struct analysis *a, uint32_t node, const struct still *s)
{
	return s->to_ns ? ref_time(a, a->nodes[node].agent, s->to_ns) : a->end_ns;
}

uint64_t still_length(const struct analysis *a, uint32_t node, const struct still *s)
{
	uint64_t from_ns = ref_time(a, a->nodes[node].agent, s->from_ns), to_ns = end_of(a, node, s);

	return to_ns > from_ns ? to_ns - from_ns : 0;
}

static uint64_t burst_end(const struct analysis *a, uint32_t node, const struct still *s)
{
	uint64_t length_ns = still_length(a, node, s);

	if (length_ns < BURST_MIN_NS)
		length_ns = BURST_MIN_NS;
	else if (length_ns > BURST_MAX_NS)
		length_ns = BURST_MAX_NS;
	return end_of(a, node, s) + length_ns;
}

const struct still *still_at(const struct analysis *a, uint32_t node, uint64_t from_ns, uint64_t to_ns)
{
	const struct node *n = &a->nodes[node];
	uint32_t i;

	for (i = 0; n->life && i < n->life->still_count; i++) {
		const struct still *s = &n->life->stills[i];

		if (ref_time(a, n->agent, s->from_ns) <= to_ns && from_ns <= burst_end(a, node, s))
			return s;
	}
	return NULL;
}

/* Has @node gone on then? */
static bool went_on(const struct analysis *a, uint32_t node, uint64_t from_ns, uint64_t to_ns)
{
	const struct still *s = still_at(a, node, from_ns, to_ns);

	return s && s->to_ns && to_ns >= end_of(a, node, s);
}

uint32_t still_behind(const struct analysis *a, uint32_t node, uint64_t from_ns, uint64_t to_ns)
{
	uint32_t i;

	if (still_at(a, node, from_ns, to_ns))
		return node;
	for (i = 0; i < a->traced_count; i++) {
		if (i != node && region_same(a, node, i) && went_on(a, i, from_ns, to_ns))
			return i;
	}
	return NONE;
}
