/* SPDX-License-Identifier: BSD-2-Clause */
/* Links: where a dial stopped, what a dead or silent one lost, what one end alone can prove. */
#include "correlate_help.h"

#define A_IP	"10.0.0.1"
#define B_IP	"10.0.0.2"
#define A_NAME	"10.0.0.1:443"
#define B_NAME	"10.0.0.2:443"

#define UP_TO_TCP	(STEP_SYN | STEP_ESTABLISHED | STEP_CLIENT_HELLO)
#define UP_TO_TLS	(UP_TO_TCP | STEP_TLS_DONE | STEP_HTTP_REQUEST)
#define UP_TO_UPGRADE	(UP_TO_TLS | STEP_UPGRADED | STEP_SERVER_KEY | STEP_CLIENT_INFO)
#define UP_TO_INFO	(UP_TO_UPGRADE | STEP_SERVER_INFO | STEP_WATCH_CONNS)

/* Nodes A and B with a client each; B -> A is up, and @s stands at A. */
static void begin(struct script *s, int agent_a, int agent_b)
{
	script_at(s, agent_b, 2);
	script_node(s, 2, B_IP, 0);
	script_client(s, 1, 3, "10.1.0.3", 1)->local = addr_of(B_IP, 443);
	script_mesh_out(s, 11, B_IP, 5002, A_IP, 1, 0.5);
	script_at(s, agent_a, 1);
	script_node(s, 1, A_IP, 0);
	script_client(s, 1, 1, "10.1.0.1", 1)->local = addr_of(A_IP, 443);
	script_mesh_in(s, 11, A_IP, B_IP, 5002, 2, 0.5);
}

/* Dials of A that came so far and ended, every five seconds. */
static struct record_conn *dial(struct script *s, int n, uint32_t steps, uint8_t how, double age)
{
	struct record_conn *c = script_mesh_out(s, 20 + n, A_IP, 6000 + n, B_IP, 0, 1 + 5 * n);

	c->kind = steps & STEP_UPGRADED ? CONN_MESH_OUT : CONN_UNKNOWN;
	c->readable = steps & STEP_SERVER_KEY;
	c->steps = steps;
	c->how = how;
	c->closed_ns = c->opened_ns + (uint64_t)(age * 1e9);
	if (steps & STEP_SERVER_KEY)
		c->peer = node_key(2);
	return c;
}

/* What A lost by it: 50 packets of 1 for 3. */
static void lose(struct script *s)
{
	struct record_pair *p = script_pair(s, 1, 3, 50, 0, 0, 0);

	p->books.lost = 50;
	script_loss(s, 1, 3, REASON_UNKNOWN_DEST, 50, 3, 12);
}

static const struct report_verdict *judge(struct script *s, const char *reason, struct report *r)
{
	const struct report_verdict *v;

	script_report(s, NULL, r);
	v = verdict_of(r, VERDICT_LINK_DOWN, reason);
	if (!v || r->verdict_count != 1)
		report_print(r);
	assert_int_equal(r->verdict_count, 1);
	assert_non_null(v);
	assert_string_equal(r->nodes[v->link_from].name, A_NAME);
	assert_string_equal(r->nodes[v->link_to].name, B_NAME);
	assert_int_equal(link_of(r, A_NAME, B_NAME)->state, LINK_DOWN);
	assert_string_equal(link_of(r, A_NAME, B_NAME)->reason, reason);
	assert_int_equal(link_of(r, B_NAME, A_NAME)->state, LINK_UP);
	return v;
}

static void test_dials(void **state)
{
	static const struct {
		const char *reason, *says;
		uint32_t steps;
		uint8_t how;
		double age;
	} rows[] = {
		{ "no-answer", "nc -vz 10.0.0.2 443", STEP_SYN, CAPTURE_CLOSED_NO_ANSWER, 4 },
		{ "refused", "refused", STEP_SYN, CAPTURE_CLOSED_REFUSED, 0.001 },
		{ "tls", "-mesh-with=derp-b.right/10.0.0.2,", UP_TO_TCP, CAPTURE_CLOSED_FIN, 0.02 },
		{ "upgrade", "HTTP 502", UP_TO_TLS, CAPTURE_CLOSED_FIN, 0.02 },
		{ "mesh-key", "-mesh-psk-file", UP_TO_INFO, CAPTURE_CLOSED_FIN, 0.02 },
		{ "not-admitted", "-verify-clients", UP_TO_UPGRADE, CAPTURE_CLOSED_FIN, 0.02 },
	};
	const struct report_verdict *v;
	struct record_conn *c;
	struct report r;
	size_t i;
	int n, lossy;

	(void)state;
	for (i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		struct script s = { 0 };

		lossy = i % 2;
		begin(&s, 1, 1);
		for (n = 0; n < 3; n++) {
			c = dial(&s, n, rows[i / 2].steps, rows[i / 2].how, rows[i / 2].age);
			if (!strcmp(rows[i / 2].reason, "upgrade"))
				c->http_status = 502;
			if (!strcmp(rows[i / 2].reason, "tls")) {
				strcpy(c->sni, "derp-b.wrong");
				strcpy(c->cert_name, "derp-b.right");
				c->tls_alert_hidden = c->tls_alert_hidden_out = true;
			}
		}
		if (lossy)
			lose(&s);
		script_close(&s, 20, true);
		v = judge(&s, rows[i / 2].reason, &r);
		assert_int_equal(v->count.min, lossy ? 50 : 0);
		if (!says(v, rows[i / 2].says))
			report_print(&r);
		assert_true(says(v, rows[i / 2].says));
		assert_true(says(v, "3 such dials"));
		report_free(&r);
		script_free(&s);
	}
}

/* B's end of a refused mesh peer: an ordinary client that asked to watch. Only B is traced. */
static void test_mesh_key_from_far_end(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct record_conn *c;
	struct report r;
	int n;

	(void)state;
	script_at(&s, 1, 2);
	script_node(&s, 2, B_IP, 0);
	for (n = 0; n < 3; n++) {
		c = script_mesh_in(&s, 20 + n, B_IP, A_IP, 6000 + n, 1, 1 + 5 * n);
		c->steps = UP_TO_INFO;
		c->closed_ns = c->opened_ns + 20 * 1000000;
		c->fin_out = true;
	}
	script_close(&s, 16, true);
	script_report(&s, NULL, &r);
	assert_int_equal(r.node_count, 2);
	assert_false(r.nodes[1].traced);
	assert_string_equal(r.nodes[1].name, "10.0.0.1");
	assert_string_equal(link_of(&r, "10.0.0.1", B_NAME)->reason, "mesh-key");
	v = verdict_of(&r, VERDICT_LINK_DOWN, "mesh-key");
	assert_non_null(v);
	report_free(&r);
	script_free(&s);
}

static void test_self(void **state)
{
	struct script s = { 0 };
	struct record_conn *c;
	struct report r;

	(void)state;
	begin(&s, 1, 1);
	c = script_mesh_out(&s, 20, A_IP, 6000, A_IP, 1, 1);
	c->steps = UP_TO_UPGRADE | STEP_SERVER_INFO;
	c->closed_ns = AT(1.01);
	c = script_client(&s, 21, 0, A_IP, 1);
	c->local = addr_of(A_IP, 443);
	c->remote = addr_of(A_IP, 6000);
	c->peer = node_key(1);
	c->closed_ns = AT(1.01);
	lose(&s);
	script_close(&s, 20, true);
	judge(&s, "self", &r);
	report_free(&r);
	script_free(&s);
}

/* The two nodes present one key: A takes B for itself and never dials again. */
static void test_same_key(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct record_conn *c;
	struct report r;

	(void)state;
	script_at(&s, 1, 2);
	script_node(&s, 1, B_IP, 0);
	script_client(&s, 1, 3, "10.1.0.3", 1)->local = addr_of(B_IP, 443);
	c = script_mesh_in(&s, 20, B_IP, A_IP, 6000, 1, 1);
	c->kind = CONN_CLIENT;
	c->steps = UP_TO_UPGRADE | STEP_SERVER_INFO;
	c->closed_ns = AT(1.01);
	script_at(&s, 1, 1);
	script_node(&s, 1, A_IP, 0);
	script_client(&s, 1, 1, "10.1.0.1", 1)->local = addr_of(A_IP, 443);
	c = script_mesh_out(&s, 20, A_IP, 6000, B_IP, 1, 1);
	c->steps = UP_TO_UPGRADE | STEP_SERVER_INFO;
	c->closed_ns = AT(1.01);
	lose(&s);
	script_close(&s, 20, true);
	script_report(&s, NULL, &r);
	v = verdict_of(&r, VERDICT_LINK_DOWN, "same-key");
	assert_non_null(v);
	assert_int_equal(v->count.min, 50);
	assert_string_equal(link_of(&r, A_NAME, B_NAME)->reason, "same-key");
	assert_null(verdict_of(&r, VERDICT_NODE_RESTARTED, NULL));
	assert_null(verdict_of(&r, VERDICT_DUPLICATE_PEER, NULL));
	report_free(&r);
	script_free(&s);
}

/* @lost of 200 never arrive; the connection ends at both ends, @stalled before. */
static void tail(struct script *s, uint64_t lost, bool stalled, bool ended)
{
	struct record_conn *c;

	begin(s, 1, 1);
	c = script_mesh_out(s, 10, A_IP, 5001, B_IP, 2, 0.5);
	c->unacked = 20000;
	c->retransmits = stalled ? 4 : 0;
	c->max_unacked_segment = 1100;
	c->snd_wnd = 65536;
	c->unacked_since_ns = stalled ? AT(4) : AT(8.9);
	if (ended) {
		c->closed_ns = AT(9);
		c->how = stalled ? CAPTURE_CLOSED_RST_OUT : CAPTURE_CLOSED_RST_IN;
	}
	script_link(s, 10, 1, 3, 200);
	script_pair(s, 1, 3, 200, 0, 200, 0);
	script_at(s, 1, 2);
	c = script_mesh_in(s, 10, B_IP, A_IP, 5001, 1, 0.5);
	c->closed_ns = ended ? AT(9) : 0;
	script_link(s, 10, 1, 3, 200 - lost);
	script_pair(s, 1, 3, 0, 200 - lost, 0, 200 - lost);
	script_close(s, 9.5, true);
}

/* The link stands at a frame: has one as large ever passed, and how many have? */
static void test_mtu(void **state)
{
	static const struct {
		uint32_t passed, stuck, segment;
		uint64_t count;
		const char *reason;
	} cases[] = {
		{ 469, 1373, 1395, 400, "mtu" },
		{ 1390, 1373, 1395, 400, "blackhole" },	/* larger ones had */
		{ 1340, 1373, 1395, 400, "blackhole" },	/* nearly as large */
		{ 469, 1373, 1395, 50, "blackhole" },	/* too few to tell */
		{ 469, 300, 1395, 400, "blackhole" },	/* it stands at a small one */
		{ 469, 1373, 400, 400, "blackhole" },	/* a small part of it is sent again */
	};
	struct script s = { 0 };
	struct report r;
	size_t i, j;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		tail(&s, 30, true, true);
		for (j = 0; j < s.count; j++) {
			struct record_conn *c = &s.v[j].conn;

			if (s.v[j].type != RECORD_CONN || c->kind != CONN_MESH_OUT || !c->unacked)
				continue;
			c->max_acked_forward = cases[i].passed;
			c->stuck_forward = cases[i].stuck;
			c->max_unacked_segment = cases[i].segment;
			c->forwards_acked = cases[i].count;
		}
		script_report(&s, NULL, &r);
		assert_non_null(verdict_of(&r, VERDICT_LINK_STALLED, cases[i].reason));
		assert_int_equal(says(verdict_of(&r, VERDICT_LINK_STALLED, cases[i].reason),
				      "400 forwards of up to 469 bytes had passed; it stands at the first one "
				      "of 1,373 bytes"), !i);
		report_free(&r);
		script_free(&s);
	}
}

static void test_tail(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct report r;

	(void)state;
	tail(&s, 30, true, true);
	script_report(&s, NULL, &r);
	v = verdict_of(&r, VERDICT_LINK_STALLED, "blackhole");
	assert_non_null(v);
	assert_int_equal(v->count.min, 30);
	assert_int_equal(v->hop, HOP_MESH_OUT);
	assert_int_equal(v->basis, BASIS_WIRE);
	assert_true(says(v, "only this direction is broken"));
	assert_true(says(v, "20,000 bytes towards"));
	assert_int_equal(link_of(&r, A_NAME, B_NAME)->lost.min, 30);
	assert_int_equal(pair_of(&r, 1, 3)->lost.min, 30);
	assert_int_equal(pair_of(&r, 1, 3)->delivered, 170);
	report_free(&r);
	script_free(&s);

	tail(&s, 30, false, true);
	script_report(&s, NULL, &r);
	v = verdict_of(&r, VERDICT_LINK_DOWN, "closed");
	assert_non_null(v);
	assert_int_equal(v->count.min, 30);
	report_free(&r);
	script_free(&s);

	/* Still open: in flight, and that is no loss. */
	tail(&s, 30, false, false);
	script_report(&s, NULL, &r);
	assert_int_equal(r.verdict_count, 0);
	assert_int_equal(pair_of(&r, 1, 3)->in_flight, 30);
	report_free(&r);
	script_free(&s);

	/* Open and silent: the link is stalled, nothing is lost yet. */
	tail(&s, 30, true, false);
	script_report(&s, NULL, &r);
	assert_int_equal(link_of(&r, A_NAME, B_NAME)->state, LINK_STALLED);
	assert_string_equal(link_of(&r, A_NAME, B_NAME)->reason, "blackhole");
	v = verdict_of(&r, VERDICT_LINK_STALLED, "blackhole");
	assert_non_null(v);
	assert_int_equal(v->count.max, 0);
	report_free(&r);
	script_free(&s);
}

/*
 * Attached mid-stream: A began to count 7 frames before B did, or B 5 before A. At the mark, digest
 * 77, that shows; behind it 50 more were sent and 48 arrived.
 */
static void mid_stream(struct script *s, uint64_t at_a, uint64_t at_b, bool marked)
{
	struct record_conn *c;
	struct record_pair *p;

	begin(s, 1, 1);
	c = script_mesh_out(s, 10, A_IP, 5001, B_IP, 2, 0.5);
	c->from_start = false;
	c->closed_ns = AT(9);
	script_link(s, 10, 1, 3, at_a + 50);
	if (marked)
		script_mark(s, 10, at_a, 77, 3, 1, 3, at_a);
	script_pair(s, 1, 3, at_a + 50, 0, at_a + 50, 0);
	script_at(s, 1, 2);
	c = script_mesh_in(s, 10, B_IP, A_IP, 5001, 1, 0.5);
	c->from_start = false;
	c->closed_ns = AT(9);
	script_link(s, 10, 1, 3, at_b + 48);
	if (marked)
		script_mark(s, 10, at_b, 77, 3.001, 1, 3, at_b);
	p = script_pair(s, 1, 3, 0, at_b + 48, 0, at_b + 48);
	/* Seven left B unseen on the way in, and were seen on the way out. */
	if (at_a > at_b) {
		p->first_seen = at_a - at_b;
		p->books.entered += p->first_seen;
		p->frames[HOP_CLIENT_OUT] += p->first_seen;
		p->books.left += p->first_seen;
	}
	script_close(s, 9.5, true);
}

/* Nothing was lost; that the link is down at the end is said all the same. */
static void only_closed(const struct report *r)
{
	assert_int_equal(r->verdict_count, 1);
	assert_non_null(verdict_of(r, VERDICT_LINK_DOWN, "closed"));
	assert_int_equal(r->verdicts[0].count.max, 0);
}

static void test_marks(void **state)
{
	const struct report_pair *p;
	struct script s = { 0 };
	struct report r;

	(void)state;
	mid_stream(&s, 17, 10, true);
	script_report(&s, NULL, &r);
	p = pair_of(&r, 1, 3);
	assert_int_equal(link_of(&r, A_NAME, B_NAME)->untraced, 7);
	assert_int_equal(link_of(&r, A_NAME, B_NAME)->lost.min, 2);
	assert_int_equal(p->entered, 67);
	assert_int_equal(p->delivered, 65);
	assert_int_equal(p->untraced, 0);
	assert_int_equal(p->lost.max, 2);
	report_free(&r);
	script_free(&s);

	mid_stream(&s, 10, 15, true);
	script_report(&s, NULL, &r);
	p = pair_of(&r, 1, 3);
	assert_int_equal(link_of(&r, A_NAME, B_NAME)->sent, 65);
	assert_int_equal(link_of(&r, A_NAME, B_NAME)->lost.min, 2);
	assert_int_equal(p->entered, 65);
	assert_int_equal(p->delivered, 63);
	assert_int_equal(p->lost.min, 2);
	report_free(&r);
	script_free(&s);

	/* Nothing in common: what differs is not called lost. */
	mid_stream(&s, 17, 10, false);
	script_report(&s, NULL, &r);
	assert_int_equal(link_of(&r, A_NAME, B_NAME)->lost.min, 0);
	assert_int_equal(link_of(&r, A_NAME, B_NAME)->untraced, 9);
	only_closed(&r);
	report_free(&r);
	script_free(&s);
}

/* A gap at B since the last common mark: what is missing there may have come. */
static void test_gap(void **state)
{
	struct script s = { 0 };
	struct report r;
	size_t i;

	(void)state;
	mid_stream(&s, 10, 10, true);
	for (i = 0; i < s.count; i++) {
		if (s.v[i].type == RECORD_CONN && s.v[i].node == 2 && s.v[i].conn.conn == 10)
			break;
	}
	/* Told of first without the gap, then with it. */
	script_at(&s, 1, 2);
	s.count--;
	script_close(&s, 9.5, false);
	*script_add(&s, RECORD_CONN) = s.v[i];
	s.v[s.count - 1].time_ns = 0;
	s.v[s.count - 1].conn.gaps = 1;
	script_close(&s, 9.8, true);
	script_report(&s, NULL, &r);
	assert_int_equal(link_of(&r, A_NAME, B_NAME)->lost.min, 0);
	assert_int_equal(link_of(&r, A_NAME, B_NAME)->untraced, 2);
	only_closed(&r);
	report_free(&r);
	script_free(&s);
}

/* Only A is traced: what left for B is not known to be lost, nor to have arrived. */
static void test_untraced(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct report r;

	(void)state;
	script_at(&s, 1, 1);
	script_node(&s, 1, A_IP, 0);
	script_client(&s, 1, 1, "10.1.0.1", 1);
	script_mesh_out(&s, 10, A_IP, 5001, B_IP, 2, 0.5);
	script_link(&s, 10, 1, 3, 200);
	script_mesh_in(&s, 11, A_IP, B_IP, 5002, 2, 0.5);
	script_link(&s, 11, 3, 1, 300);
	script_pair(&s, 1, 3, 200, 0, 200, 0);
	script_pair(&s, 3, 1, 0, 300, 0, 300);
	script_close(&s, 20, true);
	script_report(&s, NULL, &r);
	assert_int_equal(r.node_count, 2);
	assert_string_equal(r.nodes[1].name, B_NAME);
	assert_false(r.nodes[1].traced);
	assert_int_equal(r.verdict_count, 1);
	v = verdict_of(&r, VERDICT_UNTRACED_NODE, NULL);
	assert_non_null(v);
	assert_int_equal(v->count.min, 0);
	assert_int_equal(v->count.max, 200);
	assert_int_equal(v->basis, BASIS_UNKNOWN);
	assert_false(link_of(&r, A_NAME, B_NAME)->has_arrived);
	assert_int_equal(link_of(&r, A_NAME, B_NAME)->state, LINK_UP);
	assert_int_equal(link_of(&r, B_NAME, A_NAME)->state, LINK_UP);
	assert_int_equal(link_of(&r, B_NAME, A_NAME)->sent, 300);
	assert_int_equal(pair_of(&r, 3, 1)->entered, 300);
	assert_int_equal(pair_of(&r, 3, 1)->delivered, 300);
	assert_int_equal(pair_of(&r, 1, 3)->lost_by[VERDICT_UNTRACED_NODE].max, 200);
	report_free(&r);
	script_free(&s);
}

/* Two hosts; B's tracer is cut at 5 s, A's goes on. */
static void test_cut(void **state)
{
	const struct report_pair *p;
	struct script s = { 0 };
	struct report r;

	(void)state;
	begin(&s, 1, 2);
	script_mesh_out(&s, 10, A_IP, 5001, B_IP, 2, 0.5);
	script_link(&s, 10, 1, 3, 90);
	script_pair(&s, 1, 3, 90, 0, 90, 0);
	script_close(&s, 4, false);
	script_at(&s, 2, 2);
	script_mesh_in(&s, 10, B_IP, A_IP, 5001, 1, 0.5);
	script_link(&s, 10, 1, 3, 100);
	script_pair(&s, 1, 3, 0, 100, 0, 100);
	script_close(&s, 5, false);
	script_report(&s, NULL, &r);
	/* B's snapshot is newer: what arrived has been sent. */
	assert_int_equal(link_of(&r, A_NAME, B_NAME)->sent, 100);
	assert_int_equal(pair_of(&r, 1, 3)->entered, 100);
	report_free(&r);

	script_pair(&s, 1, 3, 0, 1000, 0, 1000);	/* of a snapshot that was never closed */
	script_add(&s, RECORD_CUT)->node = 0;
	script_at(&s, 1, 1);
	script_mesh_out(&s, 10, A_IP, 5001, B_IP, 2, 0.5);
	script_link(&s, 10, 1, 3, 500);
	script_pair(&s, 1, 3, 500, 0, 500, 0);
	script_close(&s, 20, true);
	script_report(&s, NULL, &r);
	p = pair_of(&r, 1, 3);
	assert_int_equal(r.agents_cut, 1);
	assert_int_equal(p->entered, 500);
	assert_int_equal(p->delivered, 100);
	assert_int_equal(p->untraced, 400);
	assert_int_equal(p->lost.min, 0);
	assert_int_equal(r.verdict_count, 0);
	report_free(&r);
	script_free(&s);
}

/* B's clock is an hour ahead: marks show it, and B's client was there when A asked for it. */
static void test_clocks(void **state)
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
	script_link(&s, 10, 1, 4, 10);
	script_mark(&s, 10, 10, 77, 2, 1, 4, 10);
	c = script_mesh_in(&s, 11, A_IP, B_IP, 5002, 2, 0.5);
	c->tag = 43;
	script_link(&s, 11, 4, 1, 10);
	script_mark(&s, 11, 10, 78, 2.010, 4, 1, 10);
	script_pair(&s, 1, 4, 10, 0, 10, 0);
	script_pair(&s, 4, 1, 0, 10, 0, 10);
	lose(&s);
	script_close(&s, 20, true);
	script_at(&s, 2, 2);
	script_node(&s, 2, B_IP, 3600);
	script_client(&s, 1, 3, "10.1.0.3", 3602)->closed_ns = AT(3612.5);
	script_client(&s, 2, 4, "10.1.0.4", 3601);
	c = script_mesh_in(&s, 10, B_IP, A_IP, 5001, 1, 3600.5);
	c->tag = 42;
	script_link(&s, 10, 1, 4, 10);
	script_mark(&s, 10, 10, 77, 3602.010, 1, 4, 10);
	c = script_mesh_out(&s, 11, B_IP, 5002, A_IP, 1, 3600.5);
	c->tag = 43;
	script_link(&s, 11, 4, 1, 10);
	script_mark(&s, 11, 10, 78, 3602, 4, 1, 10);
	script_pair(&s, 1, 4, 0, 10, 0, 10);
	script_pair(&s, 4, 1, 10, 0, 10, 0);
	script_close(&s, 3620, true);
	script_report(&s, NULL, &r);
	assert_int_equal(r.verdict_count, 1);
	assert_non_null(verdict_of(&r, VERDICT_STALE_ROUTE, "unknown_dest"));
	assert_true(r.end_ns < AT(21));
	report_free(&r);
	script_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dials),
		cmocka_unit_test(test_mesh_key_from_far_end),
		cmocka_unit_test(test_self),
		cmocka_unit_test(test_same_key),
		cmocka_unit_test(test_mtu),
		cmocka_unit_test(test_tail),
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_gap),
		cmocka_unit_test(test_untraced),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_clocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
