/* SPDX-License-Identifier: BSD-2-Clause */
/* What the network cards saw: dropped by the host, or lost before it; STUN without answers. */
#include "correlate_help.h"

#define A_IP	"10.0.0.1"
#define B_IP	"10.0.0.2"
#define A_NAME	"10.0.0.1:443"
#define B_NAME	"10.0.0.2:443"

static struct record_nic *card(struct script *s)
{
	struct record_nic *nic = &script_add(s, RECORD_NIC)->nic;

	strcpy(nic->mode, "native");
	strcpy(nic->interfaces, "eth0");
	nic->packets = 1000;
	return nic;
}

static struct record_nic_drop *drop(struct script *s, uint8_t kind, const char *remote, uint16_t port,
				    uint64_t packets)
{
	struct record_nic_drop *d = &script_add(s, RECORD_NIC_DROP)->nic_drop;

	d->kind = kind;
	d->local = addr_of(B_IP, 443);
	d->remote = addr_of(remote, port);
	d->packets = packets;
	d->first_ns = AT(2);
	d->last_ns = AT(5);
	return d;
}

/* B with its card, and B -> A up; @s stands at A, whose two dials to B were not answered. */
static void begin(struct script *s, int kind)
{
	struct record_conn *c;
	int n;

	script_at(s, 2, 2);
	script_node(s, 2, B_IP, 0);
	script_client(s, 1, 3, "10.1.0.3", 1)->local = addr_of(B_IP, 443);
	script_mesh_out(s, 11, B_IP, 5002, A_IP, 1, 0.5);
	card(s);
	for (n = 0; kind >= 0 && n < 2; n++)
		drop(s, kind, A_IP, 6000 + n, 3);
	script_close(s, 20, true);
	script_at(s, 1, 1);
	script_node(s, 1, A_IP, 0);
	script_client(s, 1, 1, "10.1.0.1", 1)->local = addr_of(A_IP, 443);
	script_mesh_in(s, 11, A_IP, B_IP, 5002, 2, 0.5);
	for (n = 0; n < 2; n++) {
		c = script_mesh_out(s, 20 + n, A_IP, 6000 + n, B_IP, 0, 2 + 5 * n);
		c->kind = CONN_UNKNOWN;
		c->readable = false;
		c->steps = STEP_SYN;
		c->how = CAPTURE_CLOSED_NO_ANSWER;
		c->closed_ns = c->opened_ns + 4000000000ull;
	}
}

static void lose(struct script *s)
{
	struct record_pair *p = script_pair(s, 1, 3, 50, 0, 0, 0);

	p->books.lost = 50;
	script_loss(s, 1, 3, REASON_UNKNOWN_DEST, 50, 3, 12);
}

static const struct report_verdict *only(const struct report *r, enum verdict_class class,
					 const char *reason)
{
	const struct report_verdict *v = verdict_of(r, class, reason);

	if (!v || r->verdict_count != 1)
		report_print(r);
	assert_int_equal(r->verdict_count, 1);
	assert_non_null(v);
	return v;
}

/* Dials that reached the far card and no socket: not link-down, and the losses are charged to it. */
static void test_dial_dropped(void **state)
{
	static const struct {
		uint8_t kind;
		const char *says, *fix;
	} rows[] = {
		{ CAPTURE_NIC_DROP_BEFORE, "reached no socket", "nft list ruleset" },
		{ CAPTURE_NIC_DROP_BACKLOG, "wait to be accepted", "somaxconn" },
		{ CAPTURE_NIC_DROP_LISTENER, "no answer left the host", "ss -ltn" },
	};
	const struct report_verdict *v;
	struct report r;
	size_t i;

	(void)state;
	for (i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		struct script s = { 0 };
		bool lossy = i % 2;

		begin(&s, rows[i / 2].kind);
		if (lossy)
			lose(&s);
		script_close(&s, 20, true);
		script_report(&s, NULL, &r);
		v = only(&r, VERDICT_HOST_DROP, "host-drop");
		assert_int_equal(v->count.min, lossy ? 50 : 0);
		assert_true(v->link_from >= 0 && v->link_to >= 0);
		assert_string_equal(r.nodes[v->link_to].name, B_NAME);
		assert_true(says(v, rows[i / 2].says));
		assert_true(says(v, rows[i / 2].fix));
		assert_true(says(v, "6 ") && says(v, "eth0"));
		assert_string_equal(link_of(&r, A_NAME, B_NAME)->reason, "host-drop");
		report_free(&r);
		script_free(&s);
	}
}

/* The card had nothing of it; or it was answered, and the answer did not come. */
static void test_dial_lost(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct report r;

	(void)state;
	begin(&s, -1);
	script_close(&s, 20, true);
	script_report(&s, NULL, &r);
	v = only(&r, VERDICT_LINK_DOWN, "no-answer");
	assert_true(says(v, "never reached the network card of " B_NAME " (eth0)"));
	report_free(&r);
	script_free(&s);

	memset(&s, 0, sizeof(s));
	begin(&s, CAPTURE_NIC_ANSWERED);
	script_close(&s, 20, true);
	script_report(&s, NULL, &r);
	v = only(&r, VERDICT_LINK_DOWN, "no-answer");
	assert_true(says(v, "lost on their way back"));
	assert_false(says(v, "never reached"));
	report_free(&r);
	script_free(&s);
}

/* Attached when the dial was nearly over: that the card had nothing of it proves nothing. */
static void test_end_of_a_dial(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct report r;
	size_t i;

	(void)state;
	begin(&s, -1);
	for (i = 0; i < s.count; i++) {
		if (s.v[i].type == RECORD_NODE && s.v[i].node == 1)
			s.v[i].node_info.since_ns = AT(6.5);
	}
	script_close(&s, 20, true);
	script_report(&s, NULL, &r);
	v = only(&r, VERDICT_LINK_DOWN, "no-answer");
	assert_false(says(v, "never reached"));
	report_free(&r);
	script_free(&s);
}

/* The answers to a dial are dropped by the host that dialled. */
static void test_answers_dropped(void **state)
{
	const struct report_verdict *v;
	struct record_nic_drop *d;
	struct script s = { 0 };
	struct report r;

	(void)state;
	begin(&s, CAPTURE_NIC_ANSWERED);
	card(&s);
	d = drop(&s, CAPTURE_NIC_DROP_BEFORE, B_IP, 443, 4);
	d->local = addr_of(A_IP, 6001);
	d->conn = 21;
	script_close(&s, 20, true);
	script_report(&s, NULL, &r);
	v = only(&r, VERDICT_HOST_DROP, "host-drop");
	assert_true(says(v, "it is the answers that are dropped"));
	assert_true(says(v, "what reaches " A_NAME " is dropped"));
	report_free(&r);
	script_free(&s);
}

/* Clients that no mesh peer is among: one finding for the node, whoever they are. */
static void test_clients_dropped(void **state)
{
	const struct report_verdict *v;
	struct script s = { 0 };
	struct report r;
	int i;

	(void)state;
	script_at(&s, 1, 1);
	script_node(&s, 1, B_IP, 0);
	script_client(&s, 1, 1, "10.1.0.1", 1)->local = addr_of(B_IP, 443);
	card(&s)->drops = 5;
	for (i = 0; i < 4; i++)
		drop(&s, CAPTURE_NIC_DROP_BEFORE, "192.0.2.7", 1000 + i, 2);
	drop(&s, CAPTURE_NIC_DROP_DATA, "10.1.0.1", 4000, 5)->bytes = 777;
	/* Told again, it is the same. */
	drop(&s, CAPTURE_NIC_DROP_BEFORE, "192.0.2.7", 1000, 3);
	drop(&s, CAPTURE_NIC_ANSWERED, "192.0.2.8", 1000, 3);
	script_close(&s, 20, true);
	script_report(&s, NULL, &r);
	v = only(&r, VERDICT_HOST_DROP, "host-drop");
	assert_int_equal(v->link_from, -1);
	assert_string_equal(r.nodes[v->node].name, B_NAME);
	assert_true(says(v, "packets of 5 connections"));
	assert_true(says(v, "9 SYNs of 4 connections"));
	assert_true(says(v, "777 bytes"));
	assert_true(says(v, "and 2 connections more"));
	assert_false(says(v, "192.0.2.8"));
	assert_int_equal(v->count.max, 0);
	report_free(&r);
	script_free(&s);
}

/* However many there are, no more is kept than is bounded. */
static void test_many_drops(void **state)
{
	struct script s = { 0 };
	struct report r;
	int i;

	(void)state;
	script_at(&s, 1, 1);
	script_node(&s, 1, B_IP, 0);
	script_client(&s, 1, 1, "10.1.0.1", 1)->local = addr_of(B_IP, 443);
	card(&s);
	for (i = 0; i < 1000; i++)
		drop(&s, CAPTURE_NIC_DROP_BEFORE, "192.0.2.7", i + 1, 2)->last_ns += i;
	script_close(&s, 20, true);
	script_report(&s, NULL, &r);
	assert_true(says(only(&r, VERDICT_HOST_DROP, "host-drop"), "packets of 128 connections"));
	report_free(&r);
	script_free(&s);
}

static const struct report_verdict *stun(struct script *s, bool listens, uint64_t heard,
					 uint64_t answered, const char *map, struct report *r)
{
	struct record_nic *nic;

	memset(s, 0, sizeof(*s));
	script_at(s, 1, 1);
	script_node(s, 1, B_IP, 0);
	script_client(s, 1, 1, "10.1.0.1", 1)->local = addr_of(B_IP, 443);
	nic = card(s);
	nic->stun_in = 40;
	nic->stun_heard = heard;
	nic->stun_out = answered;
	nic->stun_listens = listens;
	script_close(s, 20, true);
	script_report(s, map, r);
	return r->verdict_count ? only(r, VERDICT_STUN_UNANSWERED, NULL) : NULL;
}

static void test_stun(void **state)
{
	static const char no_stun[] =
		"{\"Regions\":{\"900\":{\"RegionID\":900,\"RegionCode\":\"x\",\"Nodes\":[{\"Name\":\"1\","
		"\"RegionID\":900,\"HostName\":\"10.0.0.2\",\"IPv4\":\"10.0.0.2\",\"STUNPort\":-1}]}}}";
	struct script s;
	struct report r;

	(void)state;
	assert_true(says(stun(&s, true, 40, 0, NULL, &r), "let answers out"));
	report_free(&r);
	script_free(&s);
	assert_true(says(stun(&s, true, 0, 0, NULL, &r), "on their way in"));
	report_free(&r);
	script_free(&s);
	assert_true(says(stun(&s, false, 0, 0, NULL, &r), "-stun must not be false"));
	report_free(&r);
	script_free(&s);
	assert_null(stun(&s, true, 40, 1, NULL, &r));
	report_free(&r);
	script_free(&s);
	/* Clients are told not to ask. */
	assert_null(stun(&s, false, 0, 0, no_stun, &r));
	report_free(&r);
	script_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dial_dropped),
		cmocka_unit_test(test_dial_lost),
		cmocka_unit_test(test_end_of_a_dial),
		cmocka_unit_test(test_answers_dropped),
		cmocka_unit_test(test_clients_dropped),
		cmocka_unit_test(test_many_drops),
		cmocka_unit_test(test_stun),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
