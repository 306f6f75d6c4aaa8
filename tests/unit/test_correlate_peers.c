/* SPDX-License-Identifier: BSD-2-Clause */
/* Peers and nodes: gone, elsewhere, twice, silent, refused, restarted; and those that are fine. */
#include "correlate_help.h"
#include "derp.h"

#define A_IP	"10.0.0.1"
#define B_IP	"10.0.0.2"
#define A_NAME	"10.0.0.1:443"
#define B_NAME	"10.0.0.2:443"

/* A whole mesh of A and B; peer 1 on A. @s stands at B. */
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

static struct record_conn *closed(struct record_conn *c, double at, uint8_t how)
{
	c->closed_ns = AT(at);
	c->how = how;
	c->fin_in = how == CAPTURE_CLOSED_FIN;
	return c;
}

static const struct report_verdict *only(const struct report *r, enum verdict_class class)
{
	if (r->verdict_count != 1 || r->verdicts[0].class != class)
		report_print(r);
	assert_int_equal(r->verdict_count, 1);
	assert_int_equal(r->verdicts[0].class, class);
	return &r->verdicts[0];
}

/* 3 has moved from A to B without a word; A still has its old socket. */
static void test_stale_socket(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct record_pair *p;
	struct report r;

	(void)state;
	begin(&s);
	closed(script_client(&s, 2, 3, "10.1.0.3", 1), 18, CAPTURE_CLOSED_TIMEOUT);
	p = script_pair(&s, 1, 3, 80, 0, 0, 80);
	p->last_hop = 60;
	p->last_hop_first_ns = AT(5);
	p->last_hop_last_ns = AT(12);
	p = script_pair(&s, 2, 3, 10, 0, 0, 0);
	p->books.lost = 10;
	script_loss(&s, 2, 3, REASON_UNSENT, 10, 12, 13)->out_conn = 2;
	script_at(&s, 1, 2);
	script_client(&s, 2, 3, "10.1.0.3", 4);
	script_close(&s, 20, true);
	script_report(&s, NULL, &r);
	v = only(&r, VERDICT_STALE_ROUTE);
	assert_int_equal(v->count.min, 70);
	assert_int_equal(v->hop, HOP_CLIENT_OUT);
	assert_true(says(v, B_NAME));
	assert_int_equal(pair_of(&r, 1, 3)->delivered, 20);
	assert_int_equal(pair_of(&r, 1, 3)->lost_by[VERDICT_STALE_ROUTE].min, 60);
	assert_int_equal(r.nodes[0].left, 80);
	report_free(&r);
	script_free(&s);
}

static void test_last_hop(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct record_pair *p;
	struct report r;

	(void)state;
	begin(&s);
	closed(script_client(&s, 2, 3, "10.1.0.3", 1), 18, CAPTURE_CLOSED_TIMEOUT);
	p = script_pair(&s, 1, 3, 80, 0, 0, 80);
	p->last_hop = 60;
	p->last_hop_first_ns = AT(5);
	p->last_hop_last_ns = AT(12);
	script_close(&s, 20, true);
	script_report(&s, NULL, &r);
	v = only(&r, VERDICT_LAST_HOP);
	assert_int_equal(v->count.min, 60);
	assert_int_equal(v->hop, HOP_CLIENT_OUT);
	assert_true(key_equal(&v->dst, &(struct key[]){ peer_key(3) }[0]));
	report_free(&r);
	script_free(&s);
}

/* Forwards that reach B after 3 has left it: for A, for nowhere. */
static void test_forwarded_to_nobody(void **state)
{
	struct script s = { 0 };
	struct record_pair *p;
	struct report r;
	int moved;

	(void)state;
	for (moved = 0; moved < 2; moved++) {
		begin(&s);
		script_link(&s, 10, 1, 3, 100);
		script_pair(&s, 1, 3, 100, 0, 100, 0);
		if (moved)
			script_client(&s, 3, 3, "10.1.0.3", 9);
		script_at(&s, 1, 2);
		closed(script_client(&s, 2, 3, "10.1.0.3", 1), 8, CAPTURE_CLOSED_FIN);
		script_mesh_in(&s, 10, B_IP, A_IP, 5001, 1, 0.5);
		script_link(&s, 10, 1, 3, 100);
		p = script_pair(&s, 1, 3, 0, 100, 0, 80);
		p->books.lost = 20;
		*script_loss(&s, 1, 3, REASON_UNKNOWN_DEST_ON_FWD, 20, 8.1, 8.5) =
			(struct record_loss){ peer_key(1), peer_key(3), REASON_UNKNOWN_DEST_ON_FWD,
					      BASIS_RELAY, true, 10, 0, 20, 2000, AT(8.1), AT(8.5), 0 };
		script_close(&s, 20, true);
		script_report(&s, NULL, &r);
		only(&r, moved ? VERDICT_STALE_ROUTE : VERDICT_PEER_ABSENT);
		assert_int_equal(r.verdicts[0].count.min, 20);
		assert_int_equal(r.verdicts[0].hop, HOP_MESH_IN);
		assert_string_equal(r.nodes[r.verdicts[0].link_from].name, A_NAME);
		report_free(&r);
		script_free(&s);
	}
}

/* One node, no map: where else the peer may be nobody knows. */
static void test_absent_alone(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct record_pair *p;
	struct report r;

	(void)state;
	script_at(&s, 1, 1);
	script_node(&s, 1, A_IP, 0);
	script_client(&s, 1, 1, "10.1.0.1", 1);
	p = script_pair(&s, 1, 3, 10, 0, 0, 0);
	p->books.lost = 10;
	script_loss(&s, 1, 3, REASON_UNKNOWN_DEST, 10, 2, 3);
	script_close(&s, 20, true);
	script_report(&s, NULL, &r);
	v = only(&r, VERDICT_PEER_ABSENT);
	assert_int_equal(v->basis, BASIS_UNKNOWN);
	assert_true(says(v, "no other node is known: it may be on one"));
	report_free(&r);
	script_free(&s);
}

static const char two_regions[] =
	"{\"Regions\":{\"1\":{\"RegionID\":1,\"RegionCode\":\"a\",\"Nodes\":["
	"{\"Name\":\"1a\",\"RegionID\":1,\"HostName\":\"a.example.com\",\"IPv4\":\"10.0.0.1\"}]},"
	"\"2\":{\"RegionID\":2,\"RegionCode\":\"b\",\"Nodes\":["
	"{\"Name\":\"2a\",\"RegionID\":2,\"HostName\":\"b.example.com\",\"IPv4\":\"10.0.0.2\"}]}}}";

static void test_absent_abroad(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct record_pair *p;
	struct report r;

	(void)state;
	script_at(&s, 1, 1);
	script_node(&s, 1, A_IP, 0);
	script_client(&s, 1, 1, "10.1.0.1", 1);
	p = script_pair(&s, 1, 3, 10, 0, 0, 0);
	p->books.lost = 10;
	script_loss(&s, 1, 3, REASON_UNKNOWN_DEST, 10, 2, 3);
	script_at(&s, 1, 2);
	script_node(&s, 2, B_IP, 0);
	script_client(&s, 1, 3, "10.1.0.3", 1);
	script_close(&s, 60, true);
	script_report(&s, two_regions, &r);
	v = only(&r, VERDICT_PEER_ABSENT);
	assert_int_equal(v->basis, BASIS_RELAY);
	assert_true(says(v, "is connected to b.example.com of region 2"));
	assert_int_equal(r.link_count, 0);
	report_free(&r);
	script_free(&s);
}

/* The second of the map's relays is not traced and was never dialled: said without a loss. */
static const char one_region[] =
	"{\"Regions\":{\"1\":{\"RegionID\":1,\"RegionCode\":\"a\",\"Nodes\":["
	"{\"Name\":\"1a\",\"RegionID\":1,\"HostName\":\"a.example.com\",\"IPv4\":\"10.0.0.1\"},"
	"{\"Name\":\"1s\",\"RegionID\":1,\"HostName\":\"stun.example.com\",\"STUNOnly\":true},"
	"{\"Name\":\"1b\",\"RegionID\":1,\"HostName\":\"b.example.com\",\"IPv4\":\"10.0.0.2\"}]}}}";

static void test_map_names_a_node(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct report r;

	(void)state;
	script_at(&s, 1, 1);
	script_node(&s, 1, A_IP, 0);
	script_client(&s, 1, 1, "10.1.0.1", 1);
	script_close(&s, 60, true);
	script_report(&s, one_region, &r);
	assert_int_equal(r.node_count, 2);
	assert_false(r.nodes[1].traced);
	assert_string_equal(r.nodes[1].name, "b.example.com");
	v = only(&r, VERDICT_NO_MESH_ROUTE);
	assert_int_equal(v->count.max, 0);
	assert_int_equal(link_of(&r, "b.example.com", "a.example.com")->state, LINK_UNKNOWN);
	report_free(&r);
	script_free(&s);
}

static void test_duplicate(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct record_conn *c;
	struct report r;
	int kind;

	(void)state;
	for (kind = 0; kind < 3; kind++) {
		begin(&s);
		c = script_client(&s, 2, 3, "10.1.0.3", 2);
		c->in_bytes = 1;
		c->last_in_ns = AT(kind == 2 ? 4.5 : 15);
		if (kind == 2) {	/* it died without a word, and the client came back */
			c->last_out_ns = AT(10);
			c->unacked = 300;
			closed(c, 19, CAPTURE_CLOSED_TIMEOUT);
		}
		if (kind == 1)
			script_at(&s, 1, 2);
		c = script_client(&s, 3, 3, "10.1.7.7", 5);
		c->in_bytes = 2000;
		c->last_in_ns = AT(16);
		script_close(&s, 20, true);
		script_report(&s, NULL, &r);
		if (kind < 2) {
			v = only(&r, VERDICT_DUPLICATE_PEER);
			assert_true(says(v, "(1 byte and 2,000 bytes)"));
			assert_true(says(v, "10.1.0.3:40002 on " A_NAME));
			assert_true(says(v, kind ? "10.1.7.7:40003 on " B_NAME :
					 "10.1.7.7:40003 on " A_NAME));
		} else {
			assert_int_equal(r.verdict_count, 0);
		}
		report_free(&r);
		script_free(&s);
	}
}

static void test_handshake(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct record_pair *p;
	struct report r;
	int kind;

	(void)state;
	for (kind = 0; kind < 4; kind++) {
		begin(&s);
		script_client(&s, 2, 3, "10.1.0.3", 1);
		p = script_pair(&s, 1, 3, 4, 0, 0, 4);
		p->wg_initiations = 4;
		p->wg_initiation_first_ns = AT(2);
		p->wg_initiation_last_ns = AT(17);
		p = script_pair(&s, 3, 1, 5, 0, 0, 5);
		if (kind == 1) {	/* answered */
			p->wg_responses = 1;
			p->wg_response_last_ns = AT(2.1);
		}
		if (kind == 2) {	/* the answer may have been lost here */
			p->books.left--;
			p->frames[HOP_CLIENT_OUT]--;
			p->books.untraced++;
		}
		if (kind == 3) {	/* an answer to an older one */
			p->wg_responses = 1;
			p->wg_response_last_ns = AT(1);
		}
		script_close(&s, 20, true);
		script_report(&s, NULL, &r);
		if (kind == 0 || kind == 3) {
			v = only(&r, VERDICT_HANDSHAKE_UNANSWERED);
			assert_int_equal(v->hop, HOP_CLIENT_OUT);
			assert_int_equal(v->count.max, 0);
			assert_true(key_equal(&v->src, &(struct key[]){ peer_key(1) }[0]));
			assert_true(says(v, "4 WireGuard initiations"));
		} else {
			assert_int_equal(r.verdict_count, 0);
		}
		report_free(&r);
		script_free(&s);
	}
}

/* Peers that come and go in order, again and again, are nobody's fault. */
static void test_coming_and_going(void **state)
{
	struct script s = { 0 };
	struct record_conn *c;
	struct report r;
	int i, broken;

	(void)state;
	for (broken = 0; broken < 3; broken++) {
		begin(&s);
		for (i = 0; i < 6; i++) {
			c = script_client(&s, 20 + i, 3, "10.1.0.3", 2 + 2 * i);
			c->in_bytes = 100;
			/* An end may be noticed when the client is back already. */
			closed(c, (broken == 2 ? 4.1 : 3.9) + 2 * i,
			       broken ? CAPTURE_CLOSED_RST_IN : CAPTURE_CLOSED_FIN);
			c->last_in_ns = AT(3.5 + 2 * i);
		}
		script_close(&s, 20, true);
		script_report(&s, NULL, &r);
		if (broken)
			assert_true(says(only(&r, VERDICT_FLAPPING), "5 times"));
		else
			assert_int_equal(r.verdict_count, 0);
		report_free(&r);
		script_free(&s);
	}
}

static void test_restart(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct record_node *n;
	struct record_pair *p;
	struct report r;

	(void)state;
	script_at(&s, 1, 1);
	n = script_node(&s, 1, A_IP, 0);
	n->ended_ns = AT(10);
	closed(script_client(&s, 1, 1, "10.1.0.1", 1), 10, CAPTURE_CLOSED_RST_OUT);
	closed(script_client(&s, 2, 2, "10.1.0.2", 1), 10, CAPTURE_CLOSED_RST_OUT);
	p = script_pair(&s, 1, 2, 100, 0, 0, 90);
	p->books.lost = 10;
	script_loss(&s, 1, 2, REASON_UNREAD, 10, 9.9, 10)->in_conn = 1;
	script_at(&s, 1, 2);
	n = script_node(&s, 1, A_IP, 12);
	n->started_ns = AT(12);
	script_client(&s, 1, 1, "10.1.0.1", 13);
	script_client(&s, 2, 2, "10.1.0.2", 13);
	script_pair(&s, 1, 2, 50, 0, 0, 50);
	script_close(&s, 20, true);
	script_report(&s, NULL, &r);
	assert_int_equal(r.node_count, 2);
	assert_string_equal(r.nodes[0].name, A_NAME);
	assert_string_equal(r.nodes[1].name, A_NAME "#2");
	assert_int_equal(r.nodes[1].entered, 50);
	assert_int_equal(r.link_count, 0);
	v = only(&r, VERDICT_NODE_RESTARTED);
	assert_int_equal(v->count.min, 10);
	assert_int_equal(v->node, 0);
	assert_int_equal(pair_of(&r, 1, 2)->entered, 150);
	report_free(&r);
	script_free(&s);
}

/*
 * B is killed at 10 s and runs again at 12 s, traced or not. What A gets for B's peer until it is back
 * is the restart's, and so is the tail of the link.
 */
static void test_restart_seen_from_the_mesh(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct record_conn *c;
	struct record_pair *p;
	struct record_node *n;
	struct report r;
	int traced;

	(void)state;
	for (traced = 0; traced < 2; traced++) {
		script_at(&s, 1, 1);
		script_node(&s, 1, A_IP, 0);
		script_client(&s, 1, 1, "10.1.0.1", 1);
		closed(script_mesh_out(&s, 10, A_IP, 5001, B_IP, 2, 0.5), 10, CAPTURE_CLOSED_RST_IN);
		script_link(&s, 10, 1, 3, 100);
		closed(script_mesh_in(&s, 11, A_IP, B_IP, 5002, 2, 0.5), 10, CAPTURE_CLOSED_RST_IN);
		script_mesh_out(&s, 12, A_IP, 5003, B_IP, 2, 14);
		script_mesh_in(&s, 13, A_IP, B_IP, 5004, 2, 12.2);
		p = script_pair(&s, 1, 3, 140, 0, 100, 0);
		p->books.lost = 40;
		script_loss(&s, 1, 3, REASON_UNKNOWN_DEST, 40, 10.1, 13);
		script_at(&s, 1, 2);
		n = script_node(&s, 2, B_IP, 0);
		n->ended_ns = AT(10.5);
		closed(script_client(&s, 1, 3, "10.1.0.3", 1), 10.5, CAPTURE_CLOSED_RST_OUT);
		c = closed(script_mesh_in(&s, 10, B_IP, A_IP, 5001, 1, 0.5), 10.5,
			   CAPTURE_CLOSED_UNKNOWN);
		c->from_start = true;
		script_link(&s, 10, 1, 3, 93);
		script_pair(&s, 1, 3, 0, 93, 0, 93);
		if (traced) {
			script_at(&s, 1, 3);
			script_node(&s, 2, B_IP, 12);
			script_client(&s, 1, 3, "10.1.0.3", 15);
			script_mesh_in(&s, 12, B_IP, A_IP, 5003, 1, 14);
			script_mesh_out(&s, 13, B_IP, 5004, A_IP, 1, 12.2);
		}
		script_close(&s, 20, true);
		script_report(&s, NULL, &r);
		v = only(&r, VERDICT_NODE_RESTARTED);
		assert_int_equal(v->count.min, 47);
		assert_string_equal(r.nodes[v->node].name, B_NAME);
		assert_true(says(v, "was started again"));
		assert_int_equal(r.node_count, 3);
		assert_int_equal(link_of(&r, A_NAME, B_NAME)->state, LINK_DOWN);
		assert_int_equal(link_of(&r, A_NAME, B_NAME "#2")->state, LINK_UP);
		assert_int_equal(link_of(&r, B_NAME "#2", A_NAME)->state, LINK_UP);
		assert_int_equal(r.nodes[2].traced, traced);
		report_free(&r);
		script_free(&s);
	}
}

static void test_not_admitted(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct record_conn *c;
	struct report r;
	int i;

	(void)state;
	begin(&s);
	for (i = 0; i < 4; i++) {
		c = closed(script_client(&s, 20 + i, 5 + i / 2, "10.1.0.9", 2 + i), 2.1 + i,
			   CAPTURE_CLOSED_FIN);
		c->fin_out = true;
		c->steps &= ~STEP_SERVER_INFO;
		c->last_type_in = DERP_CLIENT_INFO;
		c->last_type_out = DERP_SERVER_KEY;
	}
	/* A scanner: no ClientInfo. */
	c = closed(script_client(&s, 30, 0, "192.0.2.1", 2), 12, CAPTURE_CLOSED_FIN);
	c->kind = CONN_UNKNOWN;
	c->steps &= ~(STEP_SERVER_INFO | STEP_CLIENT_INFO);
	c->fin_out = true;
	script_close(&s, 20, true);
	script_report(&s, NULL, &r);
	v = only(&r, VERDICT_NOT_ADMITTED);
	assert_true(says(v, "4 connections"));
	assert_true(says(v, "2 keys"));
	report_free(&r);
	script_free(&s);
}

/* The sender's connection was reset with packets unread; a row nobody explained; a duplicate's drop. */
static void test_rest(void **state)
{
	struct script s = { 0 };
	struct record_pair *p;
	struct report r;

	(void)state;
	begin(&s);
	script_client(&s, 2, 3, "10.1.0.3", 1);
	closed(script_client(&s, 3, 4, "10.1.0.4", 1), 9, CAPTURE_CLOSED_RST_IN);
	p = script_pair(&s, 4, 3, 20, 0, 0, 15);
	p->books.lost = 5;
	script_loss(&s, 4, 3, REASON_UNREAD, 5, 8.9, 8.9)->in_conn = 3;
	p = script_pair(&s, 1, 3, 20, 0, 0, 10);
	p->books.lost = 10;
	script_loss(&s, 1, 3, REASON_DUP_CLIENT, 4, 3, 3);
	/* Six more were told of when the source was not known yet. */
	script_loss(&s, 0, 3, REASON_QUEUE, 6, 2, 3);
	script_close(&s, 20, true);
	script_report(&s, NULL, &r);
	assert_int_equal(r.verdict_count, 3);
	assert_int_equal(verdict_of(&r, VERDICT_HOST_DROP, "")->count.min, 5);
	assert_int_equal(verdict_of(&r, VERDICT_DUPLICATE_PEER, "dup_client")->count.min, 4);
	assert_int_equal(verdict_of(&r, VERDICT_QUEUE_DROP, "")->count.min, 6);
	report_free(&r);
	script_free(&s);
}

static void test_slow_and_deaf(void **state)
{
	struct script s = { 0 };
	struct record_pair *p;
	struct record *nic;
	struct report r;
	struct buckets *slow = NULL;
	int i;

	(void)state;
	assert_true(buckets_add(&slow, latency_bucket(100000000), 900));
	assert_true(buckets_add(&slow, latency_bucket(200000000), 100));
	begin(&s);
	for (i = 3; i < 7; i++) {
		script_client(&s, i, i, "10.1.0.3", 1);
		p = script_pair(&s, 1, i, 1000, 0, 0, 1000);
		p->latency = slow;
	}
	nic = script_add(&s, RECORD_NIC);
	nic->nic.stun_in = 40;
	script_close(&s, 20, true);
	script_report(&s, NULL, &r);
	assert_int_equal(r.verdict_count, 2);
	assert_non_null(verdict_of(&r, VERDICT_NODE_SLOW, NULL));
	assert_non_null(verdict_of(&r, VERDICT_STUN_UNANSWERED, NULL));
	assert_int_equal(pair_of(&r, 1, 3)->latency.samples, 1000);
	assert_true(pair_of(&r, 1, 3)->latency.p50_us > 80000 &&
		    pair_of(&r, 1, 3)->latency.p50_us < 120000);
	assert_true(pair_of(&r, 1, 3)->latency.p99_us > 160000 &&
		    pair_of(&r, 1, 3)->latency.p99_us < 240000);
	free(slow);
	report_free(&r);
	script_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stale_socket),
		cmocka_unit_test(test_last_hop),
		cmocka_unit_test(test_forwarded_to_nobody),
		cmocka_unit_test(test_absent_alone),
		cmocka_unit_test(test_absent_abroad),
		cmocka_unit_test(test_map_names_a_node),
		cmocka_unit_test(test_duplicate),
		cmocka_unit_test(test_handshake),
		cmocka_unit_test(test_coming_and_going),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_restart_seen_from_the_mesh),
		cmocka_unit_test(test_not_admitted),
		cmocka_unit_test(test_rest),
		cmocka_unit_test(test_slow_and_deaf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
