/* SPDX-License-Identifier: BSD-2-Clause */
/* Senders that a relay throttles. */
#include "correlate_help.h"

/* Peer 1 on A. */
static void begin(struct script *s)
{
	script_at(s, 1, 1);
	script_node(s, 1, "10.0.0.1", 0);
	script_client(s, 1, 1, "10.1.0.1", 1);
}

/* Second after second up to @to: the sender's bytes stand unread, others' are read at once. */
static void hold(struct script *s, int from, int to, bool others)
{
	struct record_conn *c;
	int t;

	for (t = from; t <= to; t++) {
		begin(s);
		c = script_client(s, 2, 3, "10.1.0.3", 1);
		c->in_bytes = 100000 * t;
		c->unread = 60000;
		c = script_client(s, 3, 4, "10.1.0.4", 1);
		c->in_bytes = 500 * t;
		c->last_in_ns = AT(t);
		c->unread = others ? 0 : 500;
		script_close(s, t, false);
	}
}

/* That lasts until the trace's end, or ended long before: it was seen all the same. */
static void test_rate_limited(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct record_conn *c;
	struct report r;
	int ended;

	(void)state;
	for (ended = 0; ended < 2; ended++) {
		hold(&s, 2, 12, true);
		begin(&s);
		c = script_client(&s, 2, 3, "10.1.0.3", 1);
		c->in_bytes = 1200000;
		c->unread = ended ? 0 : 60000;
		script_close(&s, ended ? 30 : 12.1, true);
		script_report(&s, NULL, &r);
		assert_int_equal(r.verdict_count, 1);
		v = verdict_of(&r, VERDICT_RATE_LIMITED, "");
		assert_non_null(v);
		assert_true(says(v, "about 100 kB/s"));
		assert_true(says(v, "unread for 10.0 s"));
		assert_int_equal(says(v, "throttled"), ended);
		assert_int_equal(says(v, "18.0 s before the end"), ended);
		assert_true(key_equal(&v->src, &(struct key[]){ peer_key(3) }[0]));
		assert_int_equal(v->basis, BASIS_INFERRED);
		assert_int_equal(v->first_ns, AT(2));
		assert_int_equal(v->last_ns, AT(12));
		report_free(&r);
		script_free(&s);
	}
}

/* A node that reads nobody is slow; and when it reads again it is at one client before another. */
static void test_slow_for_all(void **state)
{
	struct script s = { 0 };
	struct record_conn *c;
	struct report r;

	(void)state;
	hold(&s, 2, 12, false);
	hold(&s, 13, 13, true);
	begin(&s);
	c = script_client(&s, 2, 3, "10.1.0.3", 1);
	c->in_bytes = 1300000;
	script_close(&s, 14, true);
	script_report(&s, NULL, &r);
	assert_int_equal(r.verdict_count, 0);
	report_free(&r);
	script_free(&s);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rate_limited),
		cmocka_unit_test(test_slow_for_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
