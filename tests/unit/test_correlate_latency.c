// SPDX-License-Identifier: BSD-2-Clause
/* How long packets are on their way from one node to the next. */
#include "correlate_help.h"

#define A_IP	"10.0.0.1"
#define B_IP	"10.0.0.2"
#define A_NAME	"10.0.0.1:443"
#define B_NAME	"10.0.0.2:443"

/* Quantiles are off by a quarter at most. */
static void check_hop(const struct report_link *link, uint64_t samples, double p50_us, double p99_us)
{
	assert_non_null(link);
	assert_int_equal(link->latency.samples, samples);
	assert_true(link->latency.p50_us > p50_us / 1.25 && link->latency.p50_us < p50_us * 1.25);
	assert_true(link->latency.p99_us > p99_us / 1.25 && link->latency.p99_us < p99_us * 1.25);
}

/*
 * Packets from A to B that need some milliseconds, as both ends mark them; the fastest needs two. A peer
 * repeats itself: which of its packets an end has marked says nothing of their way.
 */
static void marks_with_delay(struct script *s, bool at_b)
{
	static const int delay_ms[] = { 2, 7, 7, 7, 40 };
	int i;

	for (i = 0; i < 5; i++)
		script_mark(s, 10, 1 + i, 100 + 2 * i, 4 + i + (at_b ? 3600 + delay_ms[i] / 1e3 : 0), 1, 3,
			    1 + i);
	for (i = 0; i < 3; i++)
		script_mark(s, 10, 6 + i, 300, 9 + i + (at_b ? 3600 + delay_ms[0] / 1e3 : 0), 1, 3, 6 + i);
}

/* The clocks of two hosts are an hour apart: what a packet needs from one to the other is not. */
static void test_hop_latency(void **state)
{
	struct script s = { 0 };
	struct record_conn *c;
	struct report r;

	(void)state;
	script_at(&s, 1, 1);
	script_node(&s, 1, A_IP, 0);
	script_client(&s, 1, 1, "10.1.0.1", 1);
	c = script_mesh_out(&s, 10, A_IP, 5001, B_IP, 2, 0.5);
	c->tag = 42;
	script_link(&s, 10, 1, 3, 8);
	marks_with_delay(&s, false);
	c = script_mesh_in(&s, 11, A_IP, B_IP, 5002, 2, 0.5);
	c->tag = 43;
	script_link(&s, 11, 3, 1, 1);
	script_mark(&s, 11, 1, 78, 2.004, 3, 1, 1);
	script_pair(&s, 1, 3, 8, 0, 8, 0);
	script_pair(&s, 3, 1, 0, 1, 0, 1);
	script_close(&s, 20, true);
	script_at(&s, 2, 2);
	script_node(&s, 2, B_IP, 3600);
	script_client(&s, 1, 3, "10.1.0.3", 3601);
	c = script_mesh_in(&s, 10, B_IP, A_IP, 5001, 1, 3600.5);
	c->tag = 42;
	script_link(&s, 10, 1, 3, 8);
	marks_with_delay(&s, true);
	c = script_mesh_out(&s, 11, B_IP, 5002, A_IP, 1, 3600.5);
	c->tag = 43;
	script_link(&s, 11, 3, 1, 1);
	script_mark(&s, 11, 1, 78, 3602, 3, 1, 1);
	script_pair(&s, 1, 3, 0, 8, 0, 8);
	script_pair(&s, 3, 1, 1, 0, 1, 0);
	script_close(&s, 3620, true);
	script_report(&s, NULL, &r);
	/* Two there and four back: three each, so that all from A to B seem to need one more. */
	assert_int_equal(r.links[0].latency.samples + r.links[1].latency.samples, 6);
	check_hop(link_of(&r, A_NAME, B_NAME), 5, 8000, 41000);
	check_hop(link_of(&r, B_NAME, A_NAME), 1, 3000, 3000);
	report_free(&r);
	script_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_hop_latency) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
