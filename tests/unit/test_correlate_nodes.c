/* SPDX-License-Identifier: BSD-2-Clause */
/* Nodes as a whole: of which not all was seen, or which stood still. */
#include "correlate_help.h"

#include <math.h>

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

/* A mesh connection that was open and has been idle since looks like a client's; its key tells. */
static void test_idle_mesh_is_no_peer(void **state)
{
	struct script s = { 0 };
	struct report r;

	(void)state;
	script_at(&s, 1, 1);
	script_node(&s, 1, A_IP, 0)->peers = 3;
	script_client(&s, 1, 1, "10.1.0.1", 1);
	script_client(&s, 2, 2, "10.1.0.2", 1);
	script_client(&s, 3, 0, B_IP, 1)->peer = node_key(2);
	script_at(&s, 1, 2);
	script_node(&s, 2, B_IP, 0)->peers = 1;
	script_client(&s, 1, 3, "10.1.0.3", 1);
	script_close(&s, 20, true);
	script_report(&s, NULL, &r);
	assert_int_equal(r.nodes[0].peers, 2);
	assert_int_equal(r.nodes[1].peers, 1);
	report_free(&r);
	script_free(&s);
}

/* Nothing has passed on it yet: that it is a link, and up, its key tells at the end that was dialled. */
static void test_idle_mesh_is_up(void **state)
{
	const struct report_link *l;
	struct script s = { 0 };
	struct record_conn *c;
	struct report r;

	(void)state;
	script_at(&s, 1, 1);
	script_node(&s, 1, A_IP, 0);
	c = script_client(&s, 3, 0, B_IP, 1);
	c->peer = node_key(2);
	c->local = addr_of(A_IP, 443);
	c->remote = addr_of(B_IP, 5002);
	c->from_start = false;
	c->steps = STEP_ESTABLISHED;
	script_at(&s, 1, 2);
	script_node(&s, 2, B_IP, 0);
	c = script_mesh_out(&s, 4, B_IP, 5002, A_IP, 1, 1);
	memset(&c->peer, 0, sizeof(c->peer));
	c->kind = CONN_UNKNOWN;
	c->from_start = false;
	c->steps = STEP_ESTABLISHED;
	script_close(&s, 20, true);
	script_report(&s, NULL, &r);
	l = link_of(&r, B_IP ":443", A_IP ":443");
	assert_int_equal(l->state, LINK_UP);
	report_free(&r);
	script_free(&s);
}

/* Dialled at both of its addresses at once: the dial that was given up was for no third node. */
static void test_two_addresses(void **state)
{
	static const char map[] =
		"{\"Regions\":{\"1\":{\"RegionID\":1,\"RegionCode\":\"a\",\"Nodes\":["
		"{\"Name\":\"1a\",\"RegionID\":1,\"HostName\":\"a.example.com\",\"IPv4\":\"10.0.0.1\"},"
		"{\"Name\":\"1b\",\"RegionID\":1,\"HostName\":\"b.example.com\",\"IPv4\":\"10.0.0.2\","
		"\"IPv6\":\"fd77::2\"}]}}}";
	struct script s = { 0 };
	struct record_conn *c;
	struct report r;

	(void)state;
	script_at(&s, 1, 1);
	script_node(&s, 1, A_IP, 0);
	c = script_mesh_out(&s, 3, A_IP, 5003, B_IP, 2, 1);
	memset(&c->peer, 0, sizeof(c->peer));
	c->kind = CONN_UNKNOWN;
	c->steps = STEP_SYN;
	c->how = CAPTURE_CLOSED_NO_ANSWER;
	c->closed_ns = AT(1.9);
	script_mesh_out(&s, 4, "fd77::1", 5004, "fd77::2", 2, 1);
	script_mesh_in(&s, 5, A_IP, B_IP, 5005, 2, 1);
	script_at(&s, 1, 2);
	script_node(&s, 2, "fd77::2", 0);
	script_mesh_in(&s, 4, "fd77::2", "fd77::1", 5004, 1, 1);
	script_mesh_out(&s, 5, B_IP, 5005, A_IP, 1, 1);
	script_close(&s, 20, true);
	script_report(&s, map, &r);
	assert_int_equal(r.node_count, 2);
	assert_int_equal(r.verdict_count, 0);
	assert_int_equal(link_of(&r, "a.example.com", "b.example.com")->state, LINK_UP);
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
	s.pairs[s.pair_count - 1]->peers[1].key = key_zero_named;
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

static void stand_still(struct script *s, double from, double to)
{
	size_t i;

	for (i = 0; i < s->count; i++) {
		struct record_node *n = &s->v[i].node_info;

		if (s->v[i].type != RECORD_NODE || s->v[i].node != 1)
			continue;
		n->still_from_ns = AT(from);
		n->still_to_ns = to ? AT(to) : 0;
		n->still_conns = 7;
	}
}

/* A loss of 3's queue at @node, told in the second behind @at. */
static void overrun(struct script *s, uint32_t node, double at, enum record_reason reason)
{
	struct record_pair *p;

	script_at(s, 1, node);
	p = script_pair(s, 1, 3, 50, 0, 0, 40);
	p->books.lost = 10;
	script_loss(s, 1, 3, reason, 10, at, at + 0.2)->in_conn = 1;
}

/* A stands still from 8 to 11: whose queues are overrun then, and whose are at other times? */
static void test_still(void **state)
{
	static const struct {
		uint32_t node;
		double at, to;
		enum verdict_class class;
		double before;		/* the snapshot before it was told */
	} cases[] = {
		{ 1, 11.1, 11, VERDICT_NODE_SLOW, 0 },
		{ 1, 9, 11, VERDICT_NODE_SLOW, 0 },	/* when they entered */
		{ 1, 9, 0, VERDICT_NODE_SLOW, 0 },		/* it goes on */
		{ 2, 11.1, 11, VERDICT_NODE_SLOW, 0 },	/* of what A then forwarded */
		{ 1, 14.5, 11, VERDICT_QUEUE_DROP, 0 },
		{ 1, 4, 11, VERDICT_QUEUE_DROP, 0 },
		{ 2, 9, 11, VERDICT_QUEUE_DROP, 0 },
		/* It waited before B, which waited for A: it had entered before A went on. */
		{ 2, 10.6, 11, VERDICT_NODE_SLOW, 10.5 },
		{ 2, 10.6, 11, VERDICT_NODE_SLOW, 10.5 },
		{ 2, 10.3, 11, VERDICT_QUEUE_DROP, 10.2 },
		{ 2, 10.3, 11, VERDICT_QUEUE_DROP, 10.2 },
		/* It had entered while A stood still, and was dropped when A came to it, late. */
		{ 1, 10, 11, VERDICT_NODE_SLOW, 15 },
		{ 1, 10, 11, VERDICT_NODE_SLOW, 15 },
		/* Three seconds' worth is not through in one. */
		{ 2, 13.5, 11, VERDICT_NODE_SLOW, 0 },
	};
	const struct report_verdict *v;
	struct script s = { 0 };
	struct report r;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		begin(&s);
		script_at(&s, 1, cases[i].node);
		script_client(&s, 3, 3, "10.1.0.3", 1);
		if (cases[i].before)
			script_close(&s, cases[i].before, false);
		overrun(&s, cases[i].node, cases[i].at, i % 2 ? REASON_QUEUE : REASON_QUEUE_HEAD);
		stand_still(&s, 8, cases[i].to);
		script_close(&s, fmax(cases[i].at, cases[i].before) + 0.5, false);
		script_close(&s, 20, true);
		script_report(&s, NULL, &r);
		v = verdict_of(&r, cases[i].class, NULL);
		if (!v)
			v = verdict_of(&r, cases[i].class, "queue_head");
		if (!v || v->count.min != 10)
			report_print(&r);
		assert_non_null(v);
		assert_int_equal(v->count.min, 10);
		v = verdict_of(&r, VERDICT_NODE_SLOW, NULL);
		assert_non_null(v);
		assert_true(says(v, "7 connections"));
		assert_true(says(v, "stood still"));
		assert_int_equal(verdict_count(&r, VERDICT_NODE_SLOW), 1);
		assert_string_equal(r.nodes[v->node].name, A_IP ":443");
		report_free(&r);
		script_free(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_starved),
		cmocka_unit_test(test_two_classes),
		cmocka_unit_test(test_idle_mesh_is_no_peer),
		cmocka_unit_test(test_idle_mesh_is_up),
		cmocka_unit_test(test_two_addresses),
		cmocka_unit_test(test_zero_key),
		cmocka_unit_test(test_still),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
