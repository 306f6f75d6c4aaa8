/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Links that come up while they are traced: what was lost before, and until the relay knows of it. And
 * those that were up before.
 */
#include "correlate_help.h"

#define A_IP	"10.0.0.1"
#define B_IP	"10.0.0.2"

/* Nodes A and B with a client each; B -> A is up, and @s stands at A. */
static void begin(struct script *s)
{
	script_at(s, 1, 2);
	script_node(s, 2, B_IP, 0);
	script_client(s, 1, 3, "10.1.0.3", 1);
	script_mesh_out(s, 11, B_IP, 5002, A_IP, 1, 0.5);
	script_at(s, 1, 1);
	script_node(s, 1, A_IP, 0);
	script_client(s, 1, 1, "10.1.0.1", 1);
	script_mesh_in(s, 11, A_IP, B_IP, 5002, 2, 0.5);
}

/* A had no route for 50 packets of 1 for 3; that is what the report is to say of it. */
static void judge(struct script *s, double first, double last, enum verdict_class class,
		  const char *reason, const char *says_so)
{
	const struct report_verdict *v;
	struct report r;

	script_pair(s, 1, 3, 50, 0, 0, 0)->books.lost = 50;
	script_loss(s, 1, 3, REASON_UNKNOWN_DEST, 50, first, last);
	script_close(s, 30, true);
	script_report(s, NULL, &r);
	v = verdict_of(&r, class, reason);
	if (!v || r.verdict_count != 1 || !says(v, says_so))
		report_print(&r);
	assert_non_null(v);
	assert_int_equal(r.verdict_count, 1);
	assert_int_equal(v->count.min, 50);
	assert_true(says(v, says_so));
	assert_int_equal(link_of(&r, A_IP ":443", B_IP ":443")->state, LINK_UP);
	report_free(&r);
	script_free(s);
}

/* A's last dial was before the trace: what is lost until the next is the end of no connection. */
static void test_dialled_later(void **state)
{
	struct script s = { 0 };

	(void)state;
	begin(&s);
	script_mesh_out(&s, 20, A_IP, 6000, B_IP, 2, 15);
	judge(&s, 3, 12, VERDICT_LINK_DOWN, "no-dial", "was not there at first");
}

/* A dials at once when its link ends, and has no routes until it asks for them; 3 never moved. */
static void test_back_without_routes(void **state)
{
	struct script s = { 0 };
	int late;

	(void)state;
	for (late = 0; late < 2; late++) {
		struct record_conn *c;

		memset(&s, 0, sizeof(s));
		begin(&s);
		c = script_mesh_out(&s, 20, A_IP, 6000, B_IP, 2, 0.5);
		c->closed_ns = AT(10);
		c->how = CAPTURE_CLOSED_RST_OUT;
		script_mesh_out(&s, 21, A_IP, 6001, B_IP, 2, 10.1);
		if (late)
			judge(&s, 18, 24, VERDICT_STALE_ROUTE, "unknown_dest", "stale");
		else
			judge(&s, 10.2, 14, VERDICT_LINK_DOWN, "closed", "is up again");
	}
}

/* B tells A of the peer, on A's connection 20; @gone: that it has left, then. */
static struct record_presence *present(struct script *s, int peer, double gone)
{
	struct record *r = script_add(s, RECORD_PRESENCE);

	r->presence.conn = 20;
	r->presence.peer = peer_key(peer);
	r->presence.present = !gone;
	if (gone)
		r->time_ns = AT(gone);
	return &r->presence;
}

/*
 * B's relay has closed a connection whose socket lives on until its client reads again, or TCP gives up:
 * 3 is nowhere, and A knows. B's socket says when that was, or B's word to A does.
 */
static void test_closed_by_its_relay(void **state)
{
	struct script s;
	int how;

	(void)state;
	for (how = 0; how < 2; how++) {
		struct record_conn *c = NULL;
		size_t i;

		memset(&s, 0, sizeof(s));
		begin(&s);
		script_mesh_out(&s, 20, A_IP, 6000, B_IP, 2, 0.5);
		for (i = 0; i < s.count; i++) {
			if (s.v[i].type == RECORD_CONN && s.v[i].node == 2 && s.v[i].conn.conn == 1)
				c = &s.v[i].conn;
		}
		c->closed_ns = AT(18);
		c->how = CAPTURE_CLOSED_TIMEOUT;
		if (!how)
			c->left_ns = AT(9);
		else
			present(&s, 3, 0);
		script_close(&s, 8, false);
		if (how)
			present(&s, 3, 9);
		judge(&s, 9.1, 17, VERDICT_PEER_ABSENT, "unknown_dest", "connected nowhere");
	}
}

/*
 * 3 came to B a moment before, and A is told of it later than the packets came, or not yet: A could not
 * know. One that A had been told of by then was left without a route in earnest.
 */
static void test_not_told_yet(void **state)
{
	struct script s;
	static const double said[] = { 1.05, 9.05, 0 };
	int i;

	(void)state;
	for (i = 0; i < 3; i++) {
		memset(&s, 0, sizeof(s));
		begin(&s);
		script_mesh_out(&s, 20, A_IP, 6000, B_IP, 2, 0.5);
		if (said[i])
			present(&s, 3, 0)->said_ns = AT(said[i]);
		judge(&s, 1.01, 1.04, VERDICT_PEER_ABSENT, "unknown_dest", "before it had been told");
	}
	memset(&s, 0, sizeof(s));
	begin(&s);
	script_mesh_out(&s, 20, A_IP, 6000, B_IP, 2, 0.5);
	judge(&s, 8, 9, VERDICT_STALE_ROUTE, "unknown_dest", "stale");
	memset(&s, 0, sizeof(s));
	begin(&s);
	script_mesh_out(&s, 20, A_IP, 6000, B_IP, 2, 0.5);
	present(&s, 3, 0)->said_ns = AT(1.05);
	judge(&s, 1.2, 1.4, VERDICT_STALE_ROUTE, "unknown_dest", "stale");
}

/* A port goes with the certificate's name, and derper dials it at the host behind the slash. */
static void test_dials_a_port(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct record_conn *c;
	struct report r;
	int n;

	(void)state;
	begin(&s);
	s.v[0].node_info.serves[0].port = 8443;
	for (n = 0; n < 3; n++) {
		c = script_mesh_out(&s, 20 + n, A_IP, 6000 + n, B_IP, 0, 1 + 5 * n);
		c->remote.port = 8443;
		c->kind = CONN_UNKNOWN;
		c->steps = STEP_SYN | STEP_ESTABLISHED | STEP_CLIENT_HELLO;
		c->how = CAPTURE_CLOSED_FIN;
		c->closed_ns = c->opened_ns + 20000000;
		c->tls_alert_hidden = c->tls_alert_hidden_out = true;
		strcpy(c->cert_name, "$(halt)");
	}
	script_close(&s, 20, true);
	script_report(&s, NULL, &r);
	v = verdict_of(&r, VERDICT_LINK_DOWN, "tls");
	if (!v || !says(v, "-mesh-with=CERTNAME:8443/10.0.0.2,"))
		report_print(&r);
	assert_true(v && says(v, "-mesh-with=CERTNAME:8443/10.0.0.2,"));
	report_free(&r);
	script_free(&s);
}

/* Open before the trace began, and not a frame on it for 20 s: nothing is wrong with such a link. */
static void test_idle_since_before(void **state)
{
	struct script s = { 0 };
	struct record_conn *c;
	struct report r;

	(void)state;
	begin(&s);
	c = script_mesh_out(&s, 10, A_IP, 5001, B_IP, 2, 0.5);
	c->from_start = c->readable = false;
	c->steps = STEP_SYN | STEP_ESTABLISHED | STEP_CLIENT_HELLO;
	c->kind = CONN_UNKNOWN;
	script_at(&s, 1, 2);
	c = script_mesh_in(&s, 10, B_IP, A_IP, 5001, 1, 0.5);
	c->from_start = c->readable = false;
	c->steps = STEP_SYN | STEP_ESTABLISHED | STEP_CLIENT_HELLO;
	c->kind = CONN_UNKNOWN;
	script_close(&s, 20, true);
	script_report(&s, NULL, &r);
	if (r.verdict_count)
		report_print(&r);
	assert_int_equal(r.verdict_count, 0);
	assert_int_not_equal(link_of(&r, A_IP ":443", B_IP ":443")->state, LINK_DOWN);
	report_free(&r);
	script_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_idle_since_before),
		cmocka_unit_test(test_dialled_later),
		cmocka_unit_test(test_back_without_routes),
		cmocka_unit_test(test_closed_by_its_relay),
		cmocka_unit_test(test_not_told_yet),
		cmocka_unit_test(test_dials_a_port),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
