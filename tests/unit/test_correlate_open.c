/* SPDX-License-Identifier: BSD-2-Clause */
/* Connections that were open before the trace: what crossed them unseen is counted once. */
#include "correlate_help.h"

#define A_IP	"10.0.0.1"
#define B_IP	"10.0.0.2"

/* Of 48 packets from A's client to B's: what A sent into the mesh, seen to, and B had from it. */
struct late {
	uint64_t sent, arrived;
	bool from_start;	/* B has read its end from there */
	bool unread;		/* neither end is read yet */
	bool in_flight;		/* at A, what it has not seen leave */
};

/* A mesh connection was there before the trace, and read at each end some time after that. */
static const struct report_pair *read_late(const struct late *t, struct script *s, struct report *r)
{
	struct record_conn *c;
	struct record_pair *p;

	script_at(s, 1, 1);
	script_node(s, 1, A_IP, 0);
	script_client(s, 1, 1, "10.1.0.1", 1)->local = addr_of(A_IP, 443);
	c = script_mesh_out(s, 10, A_IP, 5001, B_IP, 2, 0.5);
	c->from_start = false;
	c->in_bytes = c->out_bytes = 9000;
	c->last_type_out = t->unread ? 0 : 10;
	if (t->sent)
		script_link(s, 10, 1, 3, t->sent);
	p = script_pair(s, 1, 3, 48, 0, t->sent, 0);
	*(t->in_flight ? &p->books.in_flight : &p->books.untraced) = 48 - t->sent;
	script_at(s, 1, 2);
	script_node(s, 2, B_IP, 0);
	script_client(s, 1, 3, "10.1.0.3", 1)->local = addr_of(B_IP, 443);
	c = script_mesh_in(s, 10, B_IP, A_IP, 5001, 1, 0.5);
	c->from_start = t->from_start;
	c->in_bytes = c->out_bytes = 9000;
	c->last_type_in = t->unread ? 0 : 10;
	if (t->arrived)
		script_link(s, 10, 1, 3, t->arrived);
	p = script_pair(s, 1, 3, 0, t->arrived, 0, 48);
	p->books.entered = 48;
	p->first_seen = 48 - t->arrived;
	script_close(s, 9.5, !t->in_flight);
	script_report(s, NULL, r);
	return pair_of(r, 1, 3);
}

static void test_read_late(void **state)
{
	static const struct {
		struct late t;
		uint64_t entered, untraced, in_flight;
	} cases[] = {
		/* Six crossed unseen at both ends, eight more at B's. */
		{ { .sent = 42, .arrived = 34 }, 48, 0, 0 },
		/* The other way round: what B saw, A's six are among. */
		{ { .sent = 34, .arrived = 42 }, 48, 0, 0 },
		{ { .sent = 42, .arrived = 42 }, 48, 0, 0 },
		/* None crossed without B's seeing it: the six came to B otherwise. */
		{ { .sent = 42, .arrived = 42, .from_start = true }, 54, 6, 0 },
		/* Inside A yet, where what leaves is seen. */
		{ { .sent = 42, .arrived = 42, .in_flight = true }, 54, 0, 6 },
		{ { .unread = true }, 48, 0, 0 },
		{ { .unread = true, .in_flight = true }, 48, 0, 0 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct report_pair *p;
		struct script s = { 0 };
		struct report r;

		p = read_late(&cases[i].t, &s, &r);
		assert_int_equal(p->entered, cases[i].entered);
		assert_int_equal(p->delivered, 48);
		assert_int_equal(p->untraced, cases[i].untraced);
		assert_int_equal(p->in_flight, cases[i].in_flight);
		assert_int_equal(p->lost.max, cases[i].untraced);
		report_free(&r);
		script_free(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
