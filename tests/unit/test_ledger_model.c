// SPDX-License-Identifier: BSD-2-Clause
/*
 * A model of a relay (model_relay.h) against the ledger, which must know what the relay lost, pair by
 * pair. LEDGER_SEEDS and LEDGER_SEED: how many seeds, from which on; LEDGER_KIND: of one kind only.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model_relay.h"

static void compare(struct sim *s, unsigned int seed)
{
	uint64_t lost_all = 0;
	uint32_t src, dst;

	lh_snapshot(s->t, true);
	for (src = 1; src <= PEERS; src++) {
		for (dst = 1; dst <= PEERS; dst++) {
			const struct record_books *b = &lh_pair(s->t, src, dst)->books;
			uint64_t lost = s->lost[src][dst];
			bool fits = s->cfg->gaps ? b->lost <= lost && lost <= b->lost + b->untraced :
				    b->lost == lost && b->entered == s->entered[src][dst] &&
				    b->left == s->left[src][dst] && !b->untraced;

			if (!fits || b->in_flight)
				fail_msg("%s, seed %u, %u to %u: entered %lu left %lu in flight %lu "
					 "lost %lu untraced %lu; the relay: entered %lu left %lu lost %lu",
					 s->cfg->name, seed, src, dst, (long)b->entered,
					 (long)b->left, (long)b->in_flight, (long)b->lost,
					 (long)b->untraced, (long)s->entered[src][dst],
					 (long)s->left[src][dst], (long)lost);
			lost_all += lost;
		}
	}
	if (!s->cfg->gaps)
		assert_int_equal(s->t->node.books.lost, lost_all);
	else
		assert_in_range(lost_all, s->t->node.books.lost,
				s->t->node.books.lost + s->t->node.books.untraced);
}

static uint64_t run(const struct config *cfg, unsigned int seed, uint64_t *untraced)
{
	struct sim *s = model_new(cfg, seed);
	uint64_t lost;

	model_run(s);
	model_quiesce(s);
	compare(s, seed);
	lost = s->t->node.books.lost;
	*untraced += s->t->node.books.untraced;
	model_free(s);
	return lost;
}

#define STALLS	.stalls = true
#define MESH	.mesh = true, STALLS
#define ALL	.ends = true, .duplicates = true, MESH
#define TOLD	.reports = true
#define LATE	.slow = true, TOLD
#define EQUAL	.equal = true
#define NAPS	.naps = true
#define GAPS	.gaps = true
#define WORST	.naps = true, .stops = true, .deadlines = true

static const struct config configs[] = {
	{ "plain, reports", TOLD }, { .name = "plain, no reports" },
	{ "equal payloads, reports", TOLD, EQUAL }, { "equal payloads", EQUAL },
	{ "alike, reports", TOLD, .alike = true },
	{ "alike, stalls, reports", TOLD, .alike = true, STALLS },
	{ "alike, ends, reports", TOLD, .alike = true, STALLS, .ends = true },
	{ "alike, mesh, reports", TOLD, .alike = true, MESH },
	{ "stalls, reports", TOLD, STALLS }, { "stalls", STALLS },
	{ "ends, reports", TOLD, .ends = true, STALLS }, { "ends", .ends = true, STALLS },
	{ "duplicates, reports", TOLD, .ends = true, .duplicates = true, STALLS },
	{ "duplicates", .ends = true, .duplicates = true, STALLS },
	{ "mesh, reports", TOLD, MESH }, { "mesh", MESH },
	{ "mesh, equal, reports", TOLD, EQUAL, MESH }, { "mesh, equal", EQUAL, MESH },
	{ "all, reports", TOLD, ALL }, { "all", ALL },
	{ "all, equal, reports", TOLD, EQUAL, ALL }, { "all, equal", EQUAL, ALL },
	{ "gaps, reports", TOLD, GAPS, STALLS }, { "gaps", GAPS, STALLS },
	{ "alike, gaps, reports", TOLD, GAPS, .alike = true, STALLS },
	{ "gaps, equal, reports", TOLD, GAPS, EQUAL, STALLS }, { "gaps, equal", GAPS, EQUAL, STALLS },
	{ "gaps and all", GAPS, ALL }, { "gaps and all, reports", TOLD, GAPS, ALL },
	{ "naps, reports", TOLD, NAPS }, { "naps", NAPS },
	{ "naps, stalls", NAPS, STALLS }, { "naps, equal, reports late", LATE, NAPS, EQUAL },
	{ "reports late", LATE, STALLS }, { "naps, reports late", LATE, NAPS, STALLS },
	{ "naps, mesh", NAPS, MESH }, { "naps, mesh, reports late", LATE, NAPS, MESH },
	{ "stops", .stops = true, STALLS }, { "stops, reports late", LATE, .stops = true, STALLS },
	{ "deadlines", .deadlines = true, STALLS },
	{ "deadlines, reports", TOLD, .deadlines = true, STALLS },
	{ "deadlines, mesh", .deadlines = true, MESH },
	{ "deadlines, mesh, reports", TOLD, .deadlines = true, MESH },
	{ "worst, mesh", WORST, MESH }, { "worst, mesh, reports late", LATE, WORST, MESH },
	{ "worst, all", WORST, ALL }, { "worst, all, reports late", LATE, WORST, ALL },
	{ "deadlines, all, gaps", .deadlines = true, GAPS, ALL },
	{ "deadlines, all, gaps, reports", TOLD, .deadlines = true, GAPS, ALL },
	{ "stops, gaps, reports late", LATE, .stops = true, GAPS, STALLS },
	{ "worst, all, equal", WORST, EQUAL, ALL },
	{ "worst, all, equal, reports late", LATE, WORST, EQUAL, ALL },
};

static void model(void **state)
{
	unsigned int seeds = getenv("LEDGER_SEEDS") ? atoi(getenv("LEDGER_SEEDS")) : 3, seed;
	unsigned int from = getenv("LEDGER_SEED") ? atoi(getenv("LEDGER_SEED")) : 1;
	uint64_t lost = 0, untraced = 0, before;
	const char *only = getenv("LEDGER_KIND");
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(configs) / sizeof(configs[0]); i++) {
		if (only && strcmp(configs[i].name, only))
			continue;
		before = lost;
		for (seed = from; seed < from + seeds; seed++)
			lost += run(&configs[i], seed, &untraced);
		assert_true(lost > before);
	}
	printf("measured: %zu kinds of relays, %lu packets lost and known as lost, %lu untraced\n", i,
	       (long)lost, (long)untraced);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(model) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
