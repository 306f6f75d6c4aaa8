/* SPDX-License-Identifier: BSD-2-Clause */
/* Two nodes of one region, whole and broken: which link is missing, and who lost what by it. */
#include "correlate_help.h"

#define A_IP	"10.0.0.1"
#define B_IP	"10.0.0.2"
#define A_NAME	"10.0.0.1:443"
#define B_NAME	"10.0.0.2:443"

enum { A_TO_B = 1, B_TO_A = 2 };

/*
 * Peers 1, 2 on A (key 1), 3, 4 on B (key 2). 1 sends 100 to 2 (same node), 200 to 3 (across);
 * 3 sends 300 to 1. Links that are not in @mesh lose what needs them.
 */
static void region(struct script *s, int mesh)
{
	struct record_pair *p;

	script_at(s, 1, 1);
	script_node(s, 1, A_IP, 0);
	script_client(s, 1, 1, "10.1.0.1", 1);
	script_client(s, 2, 2, "10.1.0.2", 1);
	if (mesh & A_TO_B) {
		script_mesh_out(s, 10, A_IP, 5001, B_IP, 2, 0.5);
		script_link(s, 10, 1, 3, 200);
	}
	if (mesh & B_TO_A) {
		script_mesh_in(s, 11, A_IP, B_IP, 5002, 2, 0.5);
		script_link(s, 11, 3, 1, 300);
	}
	script_pair(s, 1, 2, 100, 0, 0, 100);
	p = script_pair(s, 1, 3, 200, 0, mesh & A_TO_B ? 200 : 0, 0);
	if (!(mesh & A_TO_B)) {
		p->books.lost = 200;
		script_loss(s, 1, 3, REASON_UNKNOWN_DEST, 200, 2, 9);
	}
	if (mesh & B_TO_A)
		script_pair(s, 3, 1, 0, 300, 0, 300);

	script_at(s, 1, 2);
	script_node(s, 2, B_IP, 0);
	script_client(s, 1, 3, "10.1.0.3", 1);
	script_client(s, 2, 4, "10.1.0.4", 1);
	if (mesh & A_TO_B) {
		script_mesh_in(s, 10, B_IP, A_IP, 5001, 1, 0.5);
		script_link(s, 10, 1, 3, 200);
		script_pair(s, 1, 3, 0, 200, 0, 200);
	}
	p = script_pair(s, 3, 1, 300, 0, mesh & B_TO_A ? 300 : 0, 0);
	if (mesh & B_TO_A) {
		script_mesh_out(s, 11, B_IP, 5002, A_IP, 1, 0.5);
		script_link(s, 11, 3, 1, 300);
	} else {
		p->books.lost = 300;
		script_loss(s, 3, 1, REASON_UNKNOWN_DEST, 300, 2, 9);
	}
	script_close(s, 20, true);
}

static void test_healthy(void **state)
{
	struct script s = { 0 };
	struct report r;

	(void)state;
	region(&s, A_TO_B | B_TO_A);
	script_report(&s, NULL, &r);
	if (r.verdict_count)
		report_print(&r);
	assert_int_equal(r.verdict_count, 0);
	assert_int_equal(r.node_count, 2);
	assert_string_equal(r.nodes[0].name, A_NAME);
	assert_int_equal(r.nodes[0].region, -1);
	assert_int_equal(r.link_count, 2);
	assert_int_equal(link_of(&r, A_NAME, B_NAME)->state, LINK_UP);
	assert_int_equal(link_of(&r, A_NAME, B_NAME)->arrived, 200);
	assert_int_equal(link_of(&r, B_NAME, A_NAME)->sent, 300);
	assert_int_equal(pair_of(&r, 1, 3)->entered, 200);
	assert_int_equal(pair_of(&r, 1, 3)->delivered, 200);
	assert_int_equal(pair_of(&r, 1, 3)->path_count, 4);
	assert_int_equal(pair_of(&r, 1, 3)->path[3].hop, HOP_CLIENT_OUT);
	assert_int_equal(r.same_node.sent, 100);
	assert_int_equal(r.across.sent, 500);
	assert_int_equal(r.across.delivered, 500);
	report_free(&r);
	script_free(&s);
}

static void test_no_mesh(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct report r;

	(void)state;
	region(&s, 0);
	script_report(&s, NULL, &r);
	assert_int_equal(r.verdict_count, 2);
	v = verdict_of(&r, VERDICT_NO_MESH_ROUTE, "no-dial");
	assert_non_null(v);
	assert_int_equal(v->count.min, 300);
	assert_int_equal(v->count.max, 300);
	assert_int_equal(v->basis, BASIS_RELAY);
	assert_string_equal(r.nodes[v->link_from].name, B_NAME);
	assert_string_equal(r.nodes[v->link_to].name, A_NAME);
	assert_int_equal(v->node, v->link_from);
	assert_int_equal(v->hop, HOP_CLIENT_IN);
	assert_true(says(v, "coder ping -v"));
	assert_true(says(v, "-mesh-with=10.0.0.1"));
	assert_int_equal(link_of(&r, A_NAME, B_NAME)->state, LINK_DOWN);
	assert_string_equal(link_of(&r, A_NAME, B_NAME)->reason, "no-dial");
	assert_int_equal(r.same_node.sent, 100);
	assert_int_equal(r.same_node.delivered, 100);
	assert_int_equal(r.across.sent, 500);
	assert_int_equal(r.across.delivered, 0);
	assert_int_equal(r.across.lost.min, 500);
	report_free(&r);
	script_free(&s);
}

/* A derper behind a proxy that ends TLS: its mesh is dialled with TLS all the same. */
static void test_no_mesh_plain(void **state)
{
	struct script s = { 0 };
	struct report r;
	int tls;
	size_t i;

	(void)state;
	for (tls = 0; tls < 2; tls++) {
		region(&s, 0);
		for (i = 0; i < s.count; i++) {
			if (s.v[i].type == RECORD_NODE)
				strcpy(s.v[i].node_info.software, "tailscale.com/cmd/derper v1.102.5");
			else if (s.v[i].type == RECORD_CONN)
				s.v[i].conn.tls = tls;
		}
		script_report(&s, NULL, &r);
		assert_int_equal(says(verdict_of(&r, VERDICT_NO_MESH_ROUTE, "no-dial"), "the TLS proxy"), !tls);
		report_free(&r);
		script_free(&s);
	}
}

/* All was open before, and B was attached to after A: what A dropped meanwhile is no other finding. */
static void test_attached_to_one_by_one(void **state)
{
	struct script s = { 0 };
	struct report r;
	int mesh;
	size_t i;

	(void)state;
	for (mesh = 0; mesh <= B_TO_A; mesh += B_TO_A) {
		region(&s, mesh);
		for (i = 0; i < s.count; i++) {
			if (s.v[i].type == RECORD_CONN) {
				s.v[i].conn.from_start = false;
				if (s.v[i].node == 2)
					s.v[i].conn.opened_ns = AT(9.5);
			} else if (s.v[i].type == RECORD_NODE && s.v[i].node == 2) {
				s.v[i].node_info.since_ns = AT(9.5);
			}
		}
		script_report(&s, NULL, &r);
		assert_int_equal(pair_of(&r, 1, 3)->lost_by[mesh ? VERDICT_LINK_ONE_WAY :
							     VERDICT_NO_MESH_ROUTE].min, 200);
		report_free(&r);
		script_free(&s);
	}
}

/* The same, but nothing says that the peer had been there: it may have left B before B was looked at. */
static void test_absent_before_anybody_looked(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct report r;
	size_t i;

	(void)state;
	region(&s, 0);
	for (i = 0; i < s.count; i++) {
		if (s.v[i].type == RECORD_CONN && s.v[i].node == 2)
			s.v[i].conn.opened_ns = AT(12);
		else if (s.v[i].type == RECORD_NODE && s.v[i].node == 2)
			s.v[i].node_info.since_ns = AT(11);
	}
	script_report(&s, NULL, &r);
	v = verdict_of(&r, VERDICT_PEER_ABSENT, NULL);
	assert_non_null(v);
	assert_int_equal(v->count.min, 200);
	assert_int_equal(v->basis, BASIS_UNKNOWN);
	report_free(&r);
	script_free(&s);
}

static const char mixed_map[] =
	"{\"Regions\":{\"1\":{\"RegionID\":1,\"RegionCode\":\"us\",\"Nodes\":["
	"{\"Name\":\"1a\",\"RegionID\":1,\"HostName\":\"derp.example.com\",\"IPv4\":\"203.0.113.7\"},"
	"{\"Name\":\"1b\",\"RegionID\":1,\"HostName\":\"derp.corp.internal\",\"IPv4\":\"10.0.0.2\"}]}}}";

static void test_no_mesh_mixed_map(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct report r;
	size_t i;

	(void)state;
	region(&s, 0);
	for (i = 0; i < s.count; i++) {
		if (s.v[i].type == RECORD_NODE && s.v[i].node == 1)
			s.v[i].node_info.serves[0] = addr_of("203.0.113.7", 443);
	}
	script_report(&s, mixed_map, &r);
	assert_true(r.has_map);
	assert_int_equal(verdict_count(&r, VERDICT_NO_MESH_ROUTE), 2);
	v = verdict_of(&r, VERDICT_NO_MESH_ROUTE, NULL);
	assert_string_equal(r.nodes[v->node].name, "derp.corp.internal");
	assert_int_equal(r.nodes[v->node].region, 1);
	assert_true(says(v, "derptrace map fix"));
	assert_true(says(v, "omitDefaultRegions"));
	assert_true(says(v, "region 1"));
	report_free(&r);
	script_free(&s);
}

static void test_one_way(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct report r;

	(void)state;
	region(&s, A_TO_B);
	script_report(&s, NULL, &r);
	assert_int_equal(r.verdict_count, 1);
	v = verdict_of(&r, VERDICT_LINK_ONE_WAY, "no-dial");
	assert_non_null(v);
	assert_int_equal(v->count.min, 300);
	assert_string_equal(r.nodes[v->link_from].name, B_NAME);
	assert_string_equal(r.nodes[v->link_to].name, A_NAME);
	assert_true(says(v, "derper on 10.0.0.2:443: add -mesh-with=10.0.0.1"));
	report_free(&r);
	script_free(&s);
}

/* Without a loss, and without a map, relays that never meet owe each other nothing. */
static void test_strangers(void **state)
{
	struct script s = { 0 };
	struct report r;

	(void)state;
	script_at(&s, 1, 1);
	script_node(&s, 1, A_IP, 0);
	script_client(&s, 1, 1, "10.1.0.1", 1);
	script_client(&s, 2, 2, "10.1.0.2", 1);
	script_pair(&s, 1, 2, 100, 0, 0, 100);
	script_at(&s, 1, 2);
	script_node(&s, 2, B_IP, 0);
	script_client(&s, 1, 3, "10.1.0.3", 1);
	script_close(&s, 60, true);
	script_report(&s, NULL, &r);
	assert_int_equal(r.verdict_count, 0);
	report_free(&r);
	script_free(&s);
}

static void test_absent_and_queue(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct record_pair *p;
	struct report r;

	(void)state;
	region(&s, A_TO_B | B_TO_A);
	script_free(&s);
	script_at(&s, 1, 1);
	script_node(&s, 1, A_IP, 0);
	script_client(&s, 1, 1, "10.1.0.1", 1);
	script_client(&s, 2, 2, "10.1.0.2", 1);
	script_mesh_out(&s, 10, A_IP, 5001, B_IP, 2, 0.5);
	script_mesh_in(&s, 11, A_IP, B_IP, 5002, 2, 0.5);
	p = script_pair(&s, 1, 9, 10, 0, 0, 0);
	p->books.lost = 10;
	script_loss(&s, 1, 9, REASON_UNKNOWN_DEST, 10, 2, 3);
	p = script_pair(&s, 1, 2, 100, 0, 0, 60);
	p->books.lost = 40;
	script_loss(&s, 1, 2, REASON_QUEUE_HEAD, 30, 2, 3);
	script_loss(&s, 1, 2, REASON_QUEUE_TAIL, 10, 2, 3);
	script_at(&s, 1, 2);
	script_node(&s, 2, B_IP, 0);
	script_mesh_in(&s, 10, B_IP, A_IP, 5001, 1, 0.5);
	script_mesh_out(&s, 11, B_IP, 5002, A_IP, 1, 0.5);
	script_close(&s, 20, true);
	script_report(&s, NULL, &r);
	assert_int_equal(r.verdict_count, 3);
	v = verdict_of(&r, VERDICT_QUEUE_DROP, "queue_head");
	assert_int_equal(v->count.min, 30);
	v = verdict_of(&r, VERDICT_QUEUE_DROP, "queue_tail");
	assert_int_equal(v->count.min, 10);
	v = verdict_of(&r, VERDICT_PEER_ABSENT, "unknown_dest");
	assert_int_equal(v->count.min, 10);
	assert_int_equal(v->basis, BASIS_RELAY);
	assert_int_equal(pair_of(&r, 1, 2)->lost_by[VERDICT_QUEUE_DROP].min, 40);
	report_free(&r);
	script_free(&s);
}

/* What was told to be lost and left after all comes off the class that it was charged to. */
static void test_taken_back(void **state)
{
	struct script s = { 0 };
	struct record_loss *l;
	struct record_pair *p;
	struct report r;
	int told;

	(void)state;
	for (told = 0; told < 2; told++) {
		script_at(&s, 1, 1);
		script_node(&s, 1, A_IP, 0);
		script_client(&s, 1, 1, "10.1.0.1", 1);
		script_client(&s, 2, 2, "10.1.0.2", 1);
		p = script_pair(&s, 1, 2, 100, 0, 0, told ? 70 : 60);
		p->books.lost = told ? 30 : 40;
		if (!told) {
			script_loss(&s, 1, 2, REASON_QUEUE, 12, 2, 3);
			script_loss(&s, 1, 2, REASON_QUEUE_HEAD, 28, 2, 3);
		} else {
			l = script_loss(&s, 1, 2, REASON_QUEUE, 0, 2.5, 0);
			l->back = 12;
			script_loss(&s, 1, 2, REASON_QUEUE_HEAD, 2, 2, 3);
		}
		script_close(&s, 4 + told * 16, told);
	}
	script_report(&s, NULL, &r);
	assert_int_equal(r.verdict_count, 1);
	assert_int_equal(verdict_of(&r, VERDICT_QUEUE_DROP, "queue_head")->count.min, 30);
	assert_int_equal(pair_of(&r, 1, 2)->lost.min, 30);
	assert_int_equal(pair_of(&r, 1, 2)->lost_by[VERDICT_QUEUE_DROP].min, 30);
	report_free(&r);
	script_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_healthy),
		cmocka_unit_test(test_no_mesh),
		cmocka_unit_test(test_no_mesh_plain),
		cmocka_unit_test(test_attached_to_one_by_one),
		cmocka_unit_test(test_absent_before_anybody_looked),
		cmocka_unit_test(test_no_mesh_mixed_map),
		cmocka_unit_test(test_one_way),
		cmocka_unit_test(test_strangers),
		cmocka_unit_test(test_absent_and_queue),
		cmocka_unit_test(test_taken_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
