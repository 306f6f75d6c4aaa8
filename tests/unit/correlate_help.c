/* SPDX-License-Identifier: BSD-2-Clause */
#include "correlate_help.h"

#include <arpa/inet.h>
#include <inttypes.h>

struct key peer_key(int n)
{
	struct key key = { { 0 } };

	if (n) {
		memset(key.b, n, sizeof(key.b));
		key.b[0] = 1;
	}
	return key;
}

struct key node_key(int n)
{
	struct key key = { { 0 } };

	if (n) {
		memset(key.b, n, sizeof(key.b));
		key.b[0] = 2;
	}
	return key;
}

struct addr addr_of(const char *ip, uint16_t port)
{
	struct addr addr = { 0 };
	uint8_t raw[16];

	if (inet_pton(AF_INET, ip, raw) == 1)
		addr_set(&addr, 4, raw, port);
	else if (inet_pton(AF_INET6, ip, raw) == 1)
		addr_set(&addr, 6, raw, port);
	return addr;
}

void script_free(struct script *s)
{
	size_t i;

	for (i = 0; i < s->mark_pair_count; i++)
		free(s->mark_pairs[i]);
	for (i = 0; i < s->pair_count; i++)
		free(s->pairs[i]);
	free(s->v);
	memset(s, 0, sizeof(*s));
}

void script_at(struct script *s, uint64_t agent, uint32_t node)
{
	s->agent = agent;
	s->node = node;
}

struct record *script_add(struct script *s, enum record_type type)
{
	struct record *r;

	if (s->count == s->cap) {
		s->cap = s->cap ? s->cap * 2 : 64;
		s->v = realloc(s->v, s->cap * sizeof(*s->v));
		assert_non_null(s->v);
	}
	r = &s->v[s->count++];
	memset(r, 0, sizeof(*r));
	r->type = type;
	r->agent = s->agent;
	r->node = s->node;
	return r;
}

struct record_node *script_node(struct script *s, int key, const char *ip, double since)
{
	struct record_node *n = &script_add(s, RECORD_NODE)->node_info;

	n->key = node_key(key);
	n->pid = 1000 + s->node;
	n->since_ns = n->started_ns = AT(since);
	strcpy(n->name, "derper");
	if (ip) {
		n->serves[0] = addr_of(ip, 443);
		n->serves_count = 1;
	}
	return n;
}

struct record_conn *script_client(struct script *s, uint64_t conn, int peer, const char *ip,
				  double opened)
{
	struct record_conn *c = &script_add(s, RECORD_CONN)->conn;

	c->conn = conn;
	c->kind = CONN_CLIENT;
	c->from_start = c->readable = true;
	c->local = addr_of("10.0.0.99", 443);
	c->remote = addr_of(ip, 40000 + conn);
	c->peer = peer_key(peer);
	c->steps = STEP_SYN | STEP_ESTABLISHED | STEP_CLIENT_HELLO | STEP_TLS_DONE |
		   STEP_HTTP_REQUEST | STEP_UPGRADED | STEP_SERVER_KEY | STEP_CLIENT_INFO |
		   STEP_SERVER_INFO;
	c->opened_ns = AT(opened);
	return c;
}

static const uint32_t mesh_steps = STEP_SYN | STEP_ESTABLISHED | STEP_CLIENT_HELLO | STEP_TLS_DONE |
				   STEP_HTTP_REQUEST | STEP_UPGRADED | STEP_SERVER_KEY |
				   STEP_CLIENT_INFO | STEP_SERVER_INFO | STEP_WATCH_CONNS |
				   STEP_PEER_PRESENT;

struct record_conn *script_mesh_out(struct script *s, uint64_t conn, const char *local, uint16_t port,
				    const char *remote, int server, double opened)
{
	struct record_conn *c = &script_add(s, RECORD_CONN)->conn;

	c->conn = conn;
	c->kind = CONN_MESH_OUT;
	c->dialled = c->from_start = c->readable = c->tls = true;
	c->local = addr_of(local, port);
	c->remote = addr_of(remote, 443);
	c->peer = node_key(server);
	c->steps = mesh_steps;
	c->opened_ns = AT(opened);
	return c;
}

struct record_conn *script_mesh_in(struct script *s, uint64_t conn, const char *local,
				   const char *remote, uint16_t port, int client, double opened)
{
	struct record_conn *c = script_mesh_out(s, conn, local, 443, remote, client, opened);

	c->kind = CONN_MESH_IN;
	c->dialled = false;
	c->remote.port = port;
	return c;
}

static struct record_conn *conn_told(struct script *s, uint64_t conn)
{
	size_t i;

	for (i = s->count; i-- > 0;) {
		if (s->v[i].type == RECORD_CONN && s->v[i].agent == s->agent &&
		    s->v[i].node == s->node && s->v[i].conn.conn == conn)
			return &s->v[i].conn;
	}
	fail_msg("no connection %" PRIu64, conn);
	return NULL;
}

void script_link(struct script *s, uint64_t conn, int src, int dst, uint64_t frames)
{
	struct record_link *l;

	conn_told(s, conn)->forwards += frames;
	l = &script_add(s, RECORD_LINK)->link;
	l->conn = conn;
	l->src = peer_key(src);
	l->dst = peer_key(dst);
	l->frames = frames;
	l->bytes = frames * 100;
}

void script_mark(struct script *s, uint64_t conn, uint64_t no, uint64_t digest, double seen, int src,
		 int dst, uint64_t frames)
{
	struct record_mark *m = &script_add(s, RECORD_MARK)->mark;
	struct record_mark_pair *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	assert_true(s->mark_pair_count < 64);
	s->mark_pairs[s->mark_pair_count++] = p;
	*p = (struct record_mark_pair){ peer_key(src), peer_key(dst), frames };
	*m = (struct record_mark){ .conn = conn, .no = no, .digest = digest, .len = 100,
				   .seen_ns = AT(seen), .src = p->src, .dst = p->dst, .pairs = p,
				   .pair_count = 1 };
}

struct record_pair *script_pair(struct script *s, int src, int dst, uint64_t client_in,
				uint64_t mesh_in, uint64_t mesh_out, uint64_t client_out)
{
	struct script_pair *t = calloc(1, sizeof(*t));
	struct record_pair *p = &t->counts;
	struct record_counts *c;
	int i;

	assert_non_null(t);
	assert_true(s->pair_count < sizeof(s->pairs) / sizeof(s->pairs[0]));
	s->pairs[s->pair_count++] = t;
	t->agent = s->agent;
	t->node = s->node;
	t->number = (uint32_t)(1 + src * 256 + dst);
	t->peers[0] = (struct record_peer){ (uint32_t)src, peer_key(src) };
	t->peers[1] = (struct record_peer){ (uint32_t)dst, peer_key(dst) };
	t->ends = (struct record_pair_ends){ t->number, (uint32_t)src, (uint32_t)dst, AT(1) };
	script_add(s, RECORD_PEERS)->peers = (struct record_peers){ t->peers, 2 };
	script_add(s, RECORD_PAIRS)->pairs = (struct record_pairs){ &t->ends, 1 };
	c = &script_add(s, RECORD_COUNTS)->counts;
	c->pair = &t->number;
	c->latency_first = &t->latency_first;
	c->latency_count = &t->latency_count;
	c->count = 1;
	for (i = 0; i < RECORD_PAIR_COLUMNS; i++)
		c->column[i] = (const uint64_t *)p + i;
	p->frames[HOP_CLIENT_IN] = client_in;
	p->frames[HOP_MESH_IN] = mesh_in;
	p->frames[HOP_MESH_OUT] = mesh_out;
	p->frames[HOP_CLIENT_OUT] = client_out;
	for (i = 0; i < HOP_COUNT; i++)
		p->bytes[i] = p->frames[i] * 100;
	p->books.entered = client_in + mesh_in;
	p->books.left = mesh_out + client_out;
	p->last_ns = AT(9);
	return p;
}

struct record_loss *script_loss(struct script *s, int src, int dst, enum record_reason reason,
				uint64_t count, double first, double last)
{
	struct record_loss *l = &script_add(s, RECORD_LOSS)->loss;

	l->src = peer_key(src);
	l->dst = peer_key(dst);
	l->reason = reason;
	l->basis = reason < REASON_NO_ROUTE ? BASIS_RELAY : BASIS_INFERRED;
	l->count = count;
	l->bytes = count * 100;
	l->first_ns = AT(first);
	l->last_ns = AT(last);
	return l;
}

/* The newest row of each pair, added up. */
static void sum_node(const struct script *s, struct record *node)
{
	struct record_books *sum = &node->node_info.books;
	size_t i, j;

	memset(sum, 0, sizeof(*sum));
	for (i = 0; i < s->pair_count; i++) {
		const struct script_pair *p = s->pairs[i];
		const struct record_books *b = &p->counts.books;
		bool newer = false;

		if (p->agent != node->agent || p->node != node->node)
			continue;
		for (j = i + 1; j < s->pair_count; j++)
			newer |= s->pairs[j]->agent == p->agent && s->pairs[j]->node == p->node &&
				 s->pairs[j]->number == p->number;
		if (newer)
			continue;
		assert_int_equal(b->entered, b->left + b->in_flight + b->lost + b->untraced);
		sum->entered += b->entered;
		sum->left += b->left;
		sum->in_flight += b->in_flight;
		sum->lost += b->lost;
		sum->untraced += b->untraced;
	}
}

static void pair_latency(struct script *s, struct record_counts *c)
{
	const struct buckets *b;
	size_t i;

	for (i = 0; i < s->pair_count; i++) {
		b = s->pairs[i]->counts.latency;
		if (c->pair != &s->pairs[i]->number || !b)
			continue;
		s->pairs[i]->latency_first = b->first;
		s->pairs[i]->latency_count = b->count;
		c->latency = b->v;
	}
}

struct record_agent *script_close(struct script *s, double now, bool final)
{
	struct record *r;
	size_t i;

	for (i = 0; i < s->count; i++) {
		if (s->v[i].agent != s->agent || s->v[i].time_ns)
			continue;
		if (s->v[i].type == RECORD_COUNTS)
			pair_latency(s, &s->v[i].counts);
		if (s->v[i].type == RECORD_NODE)
			sum_node(s, &s->v[i]);
		s->v[i].time_ns = AT(now);
	}
	r = script_add(s, RECORD_AGENT);
	r->node = 0;
	r->time_ns = AT(now);
	snprintf(r->agent_info.host, sizeof(r->agent_info.host), "host%d", (int)s->agent);
	strcpy(r->agent_info.mode, "full");
	r->agent_info.start_ns = r->agent_info.ready_ns = AT(0);
	r->agent_info.final = final;
	r->agent_info.cpu_percent = -1;
	return &r->agent_info;
}

static void check_range(const struct report_range *r, uint64_t untraced)
{
	assert_true(r->min <= r->max);
	assert_true(r->max <= r->min + untraced);
	if (!untraced)
		assert_int_equal(r->min, r->max);
}

static void check_pairs(const struct report *r)
{
	uint64_t by_class[VERDICT_CLASSES] = { 0 };
	size_t i;
	int k;

	for (i = 0; i < r->pair_count; i++) {
		const struct report_pair *p = &r->pairs[i];
		struct report_range sum = { 0 };

		assert_int_equal(p->entered, p->delivered + p->in_flight + p->lost.min + p->untraced);
		check_range(&p->lost, p->untraced);
		for (k = 0; k < VERDICT_CLASSES; k++) {
			sum.min += p->lost_by[k].min;
			sum.max += p->lost_by[k].max;
			by_class[k] += p->lost_by[k].min;
		}
		assert_int_equal(sum.min, p->lost.min);
		assert_int_equal(sum.max, p->lost.max);
	}
	for (i = 0; i < r->verdict_count; i++)
		by_class[r->verdicts[i].class] -= r->verdicts[i].count.min;
	for (k = 0; k < VERDICT_CLASSES; k++)
		assert_int_equal(by_class[k], 0);
}

static void check_verdicts(const struct report *r)
{
	size_t i, j;

	for (i = 0; i < r->verdict_count; i++) {
		const struct report_verdict *v = &r->verdicts[i];

		assert_true(v->summary[0]);
		assert_true(v->fix[0]);
		assert_true(v->evidence_count > 0);
		assert_true(v->count.min <= v->count.max);
		assert_true(v->first_ns && v->first_ns <= v->last_ns);
		assert_true(v->node < (int)r->node_count);
		for (j = 0; j < i; j++)
			assert_false(v->class == r->verdicts[j].class &&
				     v->node == r->verdicts[j].node &&
				     v->link_from == r->verdicts[j].link_from &&
				     v->link_to == r->verdicts[j].link_to &&
				     !strcmp(v->reason, r->verdicts[j].reason) &&
				     key_equal(&v->src, &r->verdicts[j].src) &&
				     key_equal(&v->dst, &r->verdicts[j].dst));
	}
}

static void check(const struct report *r)
{
	size_t i, j;

	for (i = 0; i < r->node_count; i++) {
		const struct report_node *n = &r->nodes[i];

		assert_int_equal(n->entered, n->left + n->in_flight + n->lost.min + n->untraced);
		check_range(&n->lost, n->untraced);
		assert_true(n->name[0]);
		for (j = 0; j < i; j++)
			assert_string_not_equal(n->name, r->nodes[j].name);
	}
	for (i = 0; i < r->link_count; i++) {
		const struct report_link *l = &r->links[i];

		assert_int_equal(l->sent, l->arrived + l->in_flight + l->lost.min + l->untraced);
		check_range(&l->lost, l->untraced);
		assert_true(l->from != l->to);
		assert_true(l->state == LINK_UP || l->state == LINK_UNKNOWN || l->reason);
	}
	check_pairs(r);
	check_verdicts(r);
}

static void play(const struct script *s, const struct derpmap *map, const uint64_t *first,
		 struct report *out)
{
	struct correlate *c = correlate_new(map, NULL);
	struct report early;
	int round;
	size_t i;

	assert_non_null(c);
	for (round = first ? 0 : 1; round < 2; round++) {
		for (i = 0; i < s->count; i++) {
			if (first && (s->v[i].agent == *first) != (round == 0))
				continue;
			assert_int_equal(correlate_put(c, &s->v[i]), 0);
			if (s->v[i].type != RECORD_AGENT && s->v[i].type != RECORD_CUT)
				continue;
			/* Whoever asks in between must find the law held as well. */
			assert_int_equal(correlate_report(c, &early), 0);
			check(&early);
			report_free(&early);
		}
	}
	assert_int_equal(correlate_report(c, out), 0);
	check(out);
	if (getenv("SHOW_REPORTS"))
		report_print(out);
	correlate_free(c);
}

void script_report(const struct script *s, const char *json, struct report *out)
{
	struct derpmap_error err;
	struct derpmap *map = NULL;

	if (json)
		assert_int_equal(derpmap_parse(json, strlen(json), "map", &map, &err), 0);
	play(s, map, NULL, out);
	derpmap_free(map);
}

void script_report_first(const struct script *s, uint64_t first, struct report *out)
{
	play(s, NULL, &first, out);
}

const struct report_verdict *verdict_of(const struct report *r, enum verdict_class class,
					const char *reason)
{
	size_t i;

	for (i = 0; i < r->verdict_count; i++) {
		if (r->verdicts[i].class == class &&
		    (!reason || !strcmp(r->verdicts[i].reason, reason)))
			return &r->verdicts[i];
	}
	return NULL;
}

size_t verdict_count(const struct report *r, enum verdict_class class)
{
	size_t i, n = 0;

	for (i = 0; i < r->verdict_count; i++)
		n += r->verdicts[i].class == class;
	return n;
}

const struct report_pair *pair_of(const struct report *r, int src, int dst)
{
	struct key s = peer_key(src), d = peer_key(dst);
	size_t i;

	for (i = 0; i < r->pair_count; i++) {
		if (key_equal(&r->pairs[i].src, &s) && key_equal(&r->pairs[i].dst, &d))
			return &r->pairs[i];
	}
	fail_msg("no pair %d to %d", src, dst);
	return NULL;
}

const struct report_link *link_of(const struct report *r, const char *from, const char *to)
{
	size_t i;

	for (i = 0; i < r->link_count; i++) {
		if (!strcmp(r->nodes[r->links[i].from].name, from) &&
		    !strcmp(r->nodes[r->links[i].to].name, to))
			return &r->links[i];
	}
	return NULL;
}

bool says(const struct report_verdict *v, const char *text)
{
	size_t i;

	for (i = 0; i < v->evidence_count; i++) {
		if (strstr(v->evidence[i], text))
			return true;
	}
	return strstr(v->summary, text) || strstr(v->fix, text);
}

void report_print(const struct report *r)
{
	size_t i, j;

	for (i = 0; i < r->link_count; i++)
		printf("  link %s -> %s: state %d reason %s sent %" PRIu64 " arrived %" PRIu64
		       " lost %" PRIu64 " untraced %" PRIu64 "\n",
		       r->nodes[r->links[i].from].name, r->nodes[r->links[i].to].name,
		       r->links[i].state, r->links[i].reason ? r->links[i].reason : "-",
		       r->links[i].sent, r->links[i].arrived, r->links[i].lost.min,
		       r->links[i].untraced);
	for (i = 0; i < r->verdict_count; i++) {
		const struct report_verdict *v = &r->verdicts[i];

		printf("  %s %s (%" PRIu64 "..%" PRIu64 ", basis %d): %s\n", verdict_class_code(v->class),
		       verdict_class_name(v->class), v->count.min, v->count.max, v->basis, v->summary);
		for (j = 0; j < v->evidence_count; j++)
			printf("      - %s\n", v->evidence[j]);
		printf("      fix: %s\n", v->fix);
	}
}
