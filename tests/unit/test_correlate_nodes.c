/* SPDX-License-Identifier: BSD-2-Clause */
/* Nodes as a whole: of which not all was seen, or which stood still. */
#include "correlate_help.h"

#define A_IP	"10.0.0.1"
#define B_IP	"10.0.0.2"

/* A whole mesh of A and B; peer 1 on A. @s stands at A. */
static void begin(struct script *s)
{
	script_at(s, 1, 2);
	script_node(s, 2, B_IP, 0);
	script_mesh_in(s, 10, B_IP, A_IP, 5001, 1, 0.5);
	script_mesh_out(s, 11, B_IP, 5002, A_IP, 1, 0.5);
	script_at(s, 1, 1);
	script_node(s, 1, A_IP, 0);
	script_client(s, 1, 1, "10.1.0.1", 1);
	script_mesh_out(s, 10, A_IP, 5001, B_IP, 2, 0.5);
	script_mesh_in(s, 11, A_IP, B_IP, 5002, 2, 0.5);
}

static void lose(struct script *s, int src, int dst, uint64_t lost, uint64_t untraced)
{
	struct record_pair *p = script_pair(s, src, dst, lost + untraced, 0, 0, 0);

	p->books.lost = lost;
	p->books.untraced = untraced;
	if (lost)
		script_loss(s, src, dst, REASON_UNKNOWN_DEST, lost, 5, 6)->in_conn = src;
}

/*
 * What the tracer lost may have been more of the same: all that is untraced of that destination, and
 * as many packets as there is room for in the bytes that it did not see.
 */
static void test_starved(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct report r;
	int starved;

	(void)state;
	for (starved = 0; starved < 2; starved++) {
		begin(&s);
		script_client(&s, 2, 2, "10.1.0.2", 1)->in_missed = 3800;
		script_client(&s, 4, 4, "10.1.0.4", 1);
		lose(&s, 1, 9, 5, 3);
		lose(&s, 2, 9, 1, 0);
		lose(&s, 4, 9, 0, 7);
		lose(&s, 4, 1, 0, 20);
		script_close(&s, 20, true)->segments_lost = starved ? 11 : 0;
		script_report(&s, NULL, &r);
		v = verdict_of(&r, VERDICT_PEER_ABSENT, NULL);
		assert_non_null(v);
		assert_int_equal(v->count.min, 6);
		assert_int_equal(v->count.max, starved ? 6 + 3 + 7 + 100 : 6 + 3);
		report_free(&r);
		script_free(&s);
	}
}

/* Losses of two classes: what is untraced of the pair may belong to either. */
static void test_two_classes(void **state)
{
	struct script s = { 0 };
	struct record_pair *p;
	struct report r;

	(void)state;
	begin(&s);
	script_client(&s, 3, 3, "10.1.0.3", 10);
	p = script_pair(&s, 1, 3, 100, 0, 0, 60);
	p->books.lost = 30;
	p->books.untraced = 10;
	script_loss(&s, 1, 3, REASON_UNKNOWN_DEST, 20, 5, 6)->in_conn = 1;
	script_loss(&s, 1, 3, REASON_QUEUE_HEAD, 10, 15, 16)->in_conn = 1;
	script_close(&s, 20, true);
	script_report(&s, NULL, &r);
	assert_int_equal(verdict_of(&r, VERDICT_PEER_ABSENT, NULL)->count.max, 30);
	assert_int_equal(verdict_of(&r, VERDICT_QUEUE_DROP, NULL)->count.max, 20);
	report_free(&r);
	script_free(&s);
}

/* With all nodes traced it is certain that nobody has it. */
static void test_zero_key(void **state)
{
	const struct report_verdict *v;
	char text[KEY_TEXT_LEN];
	struct script s = { 0 };
	struct record_pair *p;
	struct report r;

	(void)state;
	begin(&s);
	p = script_pair(&s, 1, 9, 30, 0, 0, 0);
	p->dst = key_zero_named;
	p->books.lost = 30;
	script_loss(&s, 1, 9, REASON_NO_ROUTE, 30, 5, 6)->dst = key_zero_named;
	script_close(&s, 20, true);
	script_report(&s, NULL, &r);
	v = verdict_of(&r, VERDICT_PEER_ABSENT, NULL);
	assert_non_null(v);
	assert_int_equal(v->basis, BASIS_INFERRED);
	assert_false(key_is_zero(&v->dst));
	key_format(&v->dst, text);
	assert_string_equal(text, "nodekey:00000000000000000000000000000000"
			    "00000000000000000000000000000000");
	assert_true(says(v, "[AAAAA]"));
	report_free(&r);
	script_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_starved),
		cmocka_unit_test(test_two_classes),
		cmocka_unit_test(test_zero_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
