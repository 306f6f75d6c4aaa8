/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What must hold whatever comes: the law for random records, the same report in whatever order agents
 * and nodes were told, bounds with an exact other row, hundreds of restarts.
 */
#include "correlate_help.h"
#include "view/view.h"

#define NODES	3

static uint64_t seed;

static uint64_t below(uint64_t n)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return n ? (seed >> 33) % n : 0;
}

static const char *ip_of(int node)
{
	static const char *const ips[] = { "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4" };

	return ips[node];
}

/* A pair's books at one node: they balance, and say nothing that the other nodes say. */
static void random_pair(struct script *s, int src, int dst)
{
	struct record_pair *p = script_pair(s, src, dst, below(50), below(50), below(30), below(30));
	uint64_t left = p->books.left, more;

	p->first_seen = below(10);
	p->books.entered += p->first_seen;
	if (p->books.entered < left) {
		p->first_seen += left - p->books.entered;
		p->books.entered = left;
	}
	more = p->books.entered - left;
	p->books.in_flight = below(more + 1);
	more -= p->books.in_flight;
	p->books.lost = below(more + 1);
	p->books.untraced = more - p->books.lost;
	p->last_hop = below(p->frames[HOP_CLIENT_OUT] + 1);
	p->last_hop_first_ns = AT(3);
	p->last_hop_last_ns = AT(5);
	more = below(p->books.lost + 1);
	if (more)
		script_loss(s, src, dst, 1 + below(REASON_COUNT - 1), more, 2, 2 + below(7))->in_conn =
			below(2) ? 1 : 0;
}

static void random_conn(struct script *s, struct record_conn *c)
{
	uint64_t conn = c->conn;
	int src, dst;

	c->from_start = below(2);
	c->gaps = below(3) == 0;
	if (below(2))
		c->closed_ns = AT(5 + below(5));
	if (below(3) == 0) {
		c->unacked = 100;
		c->unacked_since_ns = AT(2 + below(8));
	}
	for (src = 1; src < 4; src++) {
		for (dst = 4; dst < 7; dst++) {
			if (below(3))
				script_link(s, conn, src, dst, below(60));
		}
	}
	if (below(2))
		script_mark(s, conn, 1 + below(40), 77 + below(2), 2, 1, 4, below(20));
}

static void random_node(struct script *s, int node, double now)
{
	int other, src, dst;

	script_node(s, node + 1, ip_of(node), 0)->ended_ns = below(6) ? 0 : AT(now - 1);
	for (src = 1; src < 7; src++) {
		if (below(NODES) == (uint64_t)node)
			script_client(s, src, src, "10.1.0.1", 1)->closed_ns = below(2) ? AT(6) : 0;
	}
	for (other = 0; other < NODES; other++) {
		if (other == node)
			continue;
		if (below(4))
			random_conn(s, script_mesh_out(s, 100 + other, ip_of(node), 5000 + other,
						       ip_of(other), other + 1, 0.5));
		if (below(4))
			random_conn(s, script_mesh_in(s, 200 + other, ip_of(node), ip_of(other),
						      5000 + node, other + 1, 0.5));
	}
	for (src = 1; src < 4; src++) {
		for (dst = 4; dst < 7; dst++)
			random_pair(s, src, dst);
	}
}

/* check() asserts the law in each. */
static void test_random(void **state)
{
	struct report r;
	int run, node;

	(void)state;
	for (run = 1; run < 300; run++) {
		struct script s = { 0 };
		bool hosts = run % 2;

		seed = run;
		for (node = 0; node < NODES; node++) {
			script_at(&s, hosts ? node + 1 : 1, node + 1);
			random_node(&s, node, 10);
			if (hosts)
				script_close(&s, 10 + below(10), below(2));
			if (hosts && below(4) == 0)
				script_add(&s, RECORD_CUT)->node = 0;
		}
		if (!hosts)
			script_close(&s, 10, true);
		script_report(&s, NULL, &r);
		report_free(&r);
		script_free(&s);
	}
}

static void same_report(const struct report *x, const struct report *y)
{
	size_t i, j;

	assert_int_equal(x->node_count, y->node_count);
	assert_int_equal(x->link_count, y->link_count);
	assert_int_equal(x->pair_count, y->pair_count);
	assert_int_equal(x->verdict_count, y->verdict_count);
	assert_memory_equal(x->nodes, y->nodes, x->node_count * sizeof(*x->nodes));
	assert_memory_equal(x->links, y->links, x->link_count * sizeof(*x->links));
	assert_memory_equal(&x->across, &y->across, sizeof(x->across));
	for (i = 0; i < x->pair_count; i++) {
		const struct report_pair *p = &x->pairs[i], *q = &y->pairs[i];

		assert_memory_equal(p, q, offsetof(struct report_pair, path));
		assert_int_equal(p->path_count, q->path_count);
		assert_memory_equal(p->path, q->path, p->path_count * sizeof(*p->path));
	}
	for (i = 0; i < x->verdict_count; i++) {
		const struct report_verdict *v = &x->verdicts[i], *w = &y->verdicts[i];

		assert_string_equal(v->summary, w->summary);
		assert_string_equal(v->fix, w->fix);
		assert_int_equal(v->first_ns, w->first_ns);
		assert_int_equal(v->evidence_count, w->evidence_count);
		for (j = 0; j < v->evidence_count; j++)
			assert_string_equal(v->evidence[j], w->evidence[j]);
	}
}

static void test_order_of_agents(void **state)
{
	struct report x, y;
	int run, node;

	(void)state;
	for (run = 1; run < 60; run++) {
		struct script s = { 0 };

		seed = 1000 + run;
		for (node = 0; node < NODES; node++) {
			script_at(&s, node + 1, 1);
			random_node(&s, node, 10);
			script_close(&s, 10, true);
		}
		script_report(&s, NULL, &x);
		script_report_first(&s, 3, &y);
		same_report(&x, &y);
		report_free(&y);
		script_report_first(&s, 2, &y);
		same_report(&x, &y);
		report_free(&y);
		report_free(&x);
		script_free(&s);
	}
}

/* The same nodes, told by one agent under other numbers. */
static void test_order_of_nodes(void **state)
{
	struct report x, y;
	int run, node;

	(void)state;
	for (run = 1; run < 60; run++) {
		struct script s = { 0 }, t = { 0 };

		for (node = 0; node < NODES; node++) {
			seed = 2000 + 10 * run + node;
			script_at(&s, 1, node + 1);
			random_node(&s, node, 10);
			seed = 2000 + 10 * run + NODES - 1 - node;
			script_at(&t, 1, NODES - node);
			random_node(&t, NODES - 1 - node, 10);
		}
		script_close(&s, 10, true);
		script_close(&t, 10, true);
		script_report(&s, NULL, &x);
		script_report(&t, NULL, &y);
		same_report(&x, &y);
		report_free(&x);
		report_free(&y);
		script_free(&s);
		script_free(&t);
	}
}

/* Four rows, and the rest in one that is exact, across two nodes. */
static void test_other_row(void **state)
{
	const struct correlate_limits limits = { .max_pairs = 4 };
	const struct report_pair *other;
	struct script s = { 0 };
	struct record_pair *p;
	struct correlate *c;
	struct report r;
	uint64_t entered = 0;
	size_t i;
	int peer;

	(void)state;
	script_at(&s, 1, 1);
	script_node(&s, 1, ip_of(0), 0);
	script_mesh_out(&s, 10, ip_of(0), 5001, ip_of(1), 2, 0.5);
	for (peer = 2; peer < 12; peer++) {
		p = script_pair(&s, 1, peer, 10, 0, 8, 0);
		p->books.lost = 2;
		script_loss(&s, 1, peer, REASON_QUEUE, 2, 2, 3);
		script_link(&s, 10, 1, peer, 8);
	}
	script_at(&s, 1, 2);
	script_node(&s, 2, ip_of(1), 0);
	script_mesh_in(&s, 10, ip_of(1), ip_of(0), 5001, 1, 0.5);
	for (peer = 2; peer < 12; peer++) {
		script_pair(&s, 1, peer, 0, 8, 0, 8);
		script_link(&s, 10, 1, peer, 8);
	}
	script_close(&s, 10, true);
	c = correlate_new(NULL, &limits);
	for (i = 0; i < s.count; i++)
		assert_int_equal(correlate_put(c, &s.v[i]), 0);
	assert_int_equal(correlate_report(c, &r), 0);
	assert_int_equal(r.pair_count, 5);
	other = &r.pairs[4];
	assert_true(other->is_other);
	for (i = 0; i < 4; i++)
		entered += r.pairs[i].entered;
	assert_int_equal(entered, 40);
	assert_int_equal(other->entered, 60);
	assert_int_equal(other->delivered, 48);
	assert_int_equal(other->lost.min, 12);
	assert_int_equal(other->lost_by[VERDICT_QUEUE_DROP].max, 12);
	assert_int_equal(link_of(&r, "10.0.0.1:443", "10.0.0.2:443")->arrived, 80);
	report_free(&r);
	correlate_free(c);
	script_free(&s);
}

static void test_many_restarts(void **state)
{
	struct correlate *c = correlate_new(NULL, NULL);
	struct record_node *n;
	struct report r;
	size_t i;
	int life;

	(void)state;
	for (life = 0; life < 300; life++) {
		struct script s = { 0 };

		script_at(&s, 1, life + 1);
		n = script_node(&s, 1, ip_of(0), 10 * life);
		script_pair(&s, 1, 2, 10, 0, 0, 10);
		script_close(&s, 10 * life + 8, false);
		n = script_node(&s, 1, ip_of(0), 10 * life);
		n->ended_ns = AT(10 * life + 8);
		script_close(&s, 10 * life + 9, life == 299);
		for (i = 0; i < s.count; i++)
			assert_int_equal(correlate_put(c, &s.v[i]), 0);
		script_free(&s);
	}
	assert_int_equal(correlate_report(c, &r), 0);
	assert_int_equal(r.node_count, 300);
	assert_string_equal(r.nodes[299].name, "10.0.0.1:443#300");
	assert_int_equal(r.link_count, 0);
	assert_int_equal(pair_of(&r, 1, 2)->delivered, 3000);
	assert_int_equal(verdict_count(&r, VERDICT_NODE_RESTARTED), 299);
	report_free(&r);
	correlate_free(c);
}

/* More nodes than the limit: the first stay, the rest is counted. */
static void test_too_many_nodes(void **state)
{
	const struct correlate_limits limits = { .max_nodes = 2 };
	struct correlate *c = correlate_new(NULL, &limits);
	const struct view_text_options options = { 0 };
	struct script s = { 0 };
	char *text = NULL;
	struct report r;
	size_t i, len;
	int node;
	FILE *out;

	(void)state;
	for (node = 0; node < 4; node++) {
		script_at(&s, 1, node + 1);
		script_node(&s, node + 1, ip_of(node), 0);
		script_pair(&s, 1, 2, 10, 0, 0, 10);
	}
	script_close(&s, 10, true);
	for (i = 0; i < s.count; i++)
		assert_int_equal(correlate_put(c, &s.v[i]), 0);
	assert_int_equal(correlate_report(c, &r), 0);
	assert_int_equal(r.node_count, 2);
	assert_int_equal(r.nodes_left_out, 2);
	out = open_memstream(&text, &len);
	assert_non_null(out);
	assert_int_equal(view_text(&r, out, &options), 0);
	fclose(out);
	assert_non_null(strstr(text, "2 more nodes are over the limit"));
	free(text);
	assert_int_equal(pair_of(&r, 1, 2)->delivered, 20);
	report_free(&r);
	correlate_free(c);
	script_free(&s);
}

/* Losses of a long trace are taken together; none is forgotten. */
static void test_many_losses(void **state)
{
	struct correlate *c = correlate_new(NULL, NULL);
	struct script s = { 0 };
	struct record_pair *p;
	struct report r;
	size_t i;
	int t, rounds = 150000;

	(void)state;
	script_at(&s, 1, 1);
	script_node(&s, 1, ip_of(0), 0);
	script_client(&s, 2, 2, "10.1.0.2", 1);
	p = script_pair(&s, 1, 2, rounds + 5, 0, 0, 5);
	p->books.lost = rounds;
	script_close(&s, 1, false);
	for (i = 0; i < s.count; i++)
		assert_int_equal(correlate_put(c, &s.v[i]), 0);
	s.count = 0;
	for (t = 0; t < rounds; t++) {
		script_loss(&s, 1, 2, t % 2 ? REASON_QUEUE_HEAD : REASON_QUEUE_TAIL, 1, t, t);
		script_close(&s, t + 1, false);
		for (i = 0; i < s.count; i++)
			assert_int_equal(correlate_put(c, &s.v[i]), 0);
		s.count = 0;
	}
	assert_int_equal(correlate_report(c, &r), 0);
	assert_int_equal(verdict_of(&r, VERDICT_QUEUE_DROP, "queue_head")->count.min, rounds / 2);
	assert_int_equal(verdict_of(&r, VERDICT_QUEUE_DROP, "queue_tail")->count.max, rounds / 2);
	report_free(&r);
	correlate_free(c);
	script_free(&s);
}

/* Nothing yet; a snapshot that was never closed; text that wants to be more than text. */
static void test_edges_of_input(void **state)
{
	struct script s = { 0 };
	struct record_node *n;
	struct report r;
	const char *c;

	(void)state;
	script_report(&s, NULL, &r);
	assert_int_equal(r.node_count, 0);
	report_free(&r);
	script_at(&s, 1, 1);
	n = script_node(&s, 1, NULL, 0);
	strcpy(n->tls_name, "ev\033[31mil\n\xff");
	strcpy(n->software, "x\x07y");
	script_report(&s, NULL, &r);
	assert_int_equal(r.node_count, 0);
	report_free(&r);
	script_close(&s, 1, true);
	script_report(&s, NULL, &r);
	assert_int_equal(r.node_count, 1);
	for (c = r.nodes[0].name; *c; c++)
		assert_in_range(*c, ' ', '~');
	assert_string_equal(r.nodes[0].software, "x?y");
	report_free(&r);
	script_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_order_of_agents),
		cmocka_unit_test(test_order_of_nodes),
		cmocka_unit_test(test_other_row),
		cmocka_unit_test(test_many_restarts),
		cmocka_unit_test(test_too_many_nodes),
		cmocka_unit_test(test_many_losses),
		cmocka_unit_test(test_edges_of_input),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
