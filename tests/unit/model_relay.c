// SPDX-License-Identifier: BSD-2-Clause
#include "model_relay.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static unsigned int rnd(struct sim *s, unsigned int n)
{
	s->rng = s->rng * 1664525u + 1013904223u;
	return (s->rng >> 8) % n;
}

static struct packet take(struct fifo *f)
{
	struct packet p = f->v[0];

	memmove(f->v, f->v + 1, --f->n * sizeof(p));
	return p;
}

static void add(struct fifo *f, struct packet p)
{
	assert_true(f->n < 32);
	f->v[f->n++] = p;
}

static void report(struct sim *s, const struct late_report *r)
{
	uint64_t now = s->t->now;

	s->t->now = r->at;
	lh_drop(s->t, r->reason, r->names_source ? r->p.src : 0, r->p.dst, r->p.p);
	s->t->now = now;
}

static void lose(struct sim *s, struct packet p, const char *reason, bool names_source)
{
	struct late_report r = { reason, names_source, p, s->t->now, s->t->now };

	s->lost[p.src][p.dst]++;
	if (!reason || !s->cfg->reports)
		return;
	if (s->cfg->slow && s->report_count < REPORTS) {
		r.due += rnd(s, 2000) * 1000000ull;
		s->reports[s->report_count++] = r;
		return;
	}
	report(s, &r);
}

static void report_due(struct sim *s, uint64_t until)
{
	int i, n = 0;

	for (i = 0; i < s->report_count; i++) {
		if (s->reports[i].due <= until)
			report(s, &s->reports[i]);
		else
			s->reports[n++] = s->reports[i];
	}
	s->report_count = n;
}

static bool has_processor(const struct sim *s, const struct rconn *c)
{
	return s->t->now >= s->stopped_until && s->t->now >= c->naps_until;
}

/* What leaves is seen at once, unless the tracer looks away. */
static void emit(struct sim *s, struct rconn *c, struct packet p)
{
	s->left[p.src][p.dst]++;
	if (c->hiding) {
		s->t->conns[c->conn].out_pos += 500;
		return;
	}
	if (c->gap_out) {
		c->gap_out = false;
		lh_gap(s->t, c->conn, CAPTURE_OUT, false);
	}
	if (c->out)
		lh_forward(s->t, c->conn, CAPTURE_OUT, p.src, p.dst, p.p);
	else
		lh_recv(s->t, c->conn, p.src, p.p);
}

static void socket_put(struct sim *s, struct rconn *c, struct packet p)
{
	if (c->stalled)
		add(&c->socket, p);
	else
		emit(s, c, p);
	s->t->conns[c->conn].notsent = c->socket.n * 200;
}

static void flush_writer(struct sim *s, struct rconn *c)
{
	while (c->writer.n && (!c->stalled || c->socket.n < SOCKET))
		socket_put(s, c, take(&c->writer));
}

/* The client's writer: some from either queue at random, then a flush. */
static void write_some(struct sim *s, struct rconn *c)
{
	int class;

	if (!has_processor(s, c))
		return;
	while (c->writer.n < WRITER && (c->queue[0].n || c->queue[1].n)) {
		class = rnd(s, 2);
		if (!c->queue[class].n)
			class = !class;
		add(&c->writer, take(&c->queue[class]));
		if (!rnd(s, 3))
			break;
	}
	if (rnd(s, 4) || c->writer.n == WRITER)
		flush_writer(s, c);
}

static void enqueue(struct sim *s, struct rconn *c, struct packet p)
{
	struct fifo *q = &c->queue[p.p.disco];

	if (q->n == DEPTH)
		lose(s, take(q), "queue_head", false);
	add(q, p);
}

/* One frame of a connection; false: its reader waits for the mesh. */
static bool handle(struct sim *s, struct rconn *c, struct packet p)
{
	struct rconn *to = s->active[p.dst];

	if (to) {
		enqueue(s, to, p);
		return true;
	}
	to = c->who ? s->route[p.dst] : NULL;
	if (!to) {
		lose(s, p, c->who ? "unknown_dest" : "unknown_dest_on_fwd", true);
		return true;
	}
	if (to->stalled && to->socket.n >= SOCKET)
		return false;
	socket_put(s, to, p);
	return true;
}

static void read_some(struct sim *s, struct rconn *c, int max)
{
	struct lh_conn *h = &s->t->conns[c->conn];

	if (c->left || s->t->now < s->stopped_until)
		return;
	/* What stands in its buffer is read. */
	if (!has_processor(s, c)) {
		if (c->read < c->arrived)
			h->in_read = c->end[c->arrived - c->read > 4 ? c->read + 3 : c->arrived - 1];
		return;
	}
	for (; c->read < c->arrived && max; max--) {
		/* It is read, and only then the reader may have to wait. */
		h->in_read = c->end[c->read];
		if (c->who && s->active[c->who])
			s->active[c->who] = c;
		if (!handle(s, c, c->in[c->read]))
			break;
		c->read++;
	}
}

static void tell(struct sim *s, struct rconn *c, int max)
{
	uint64_t now = s->t->now;

	for (; c->told < c->arrived && max; c->told++, max--) {
		struct packet *p = &c->in[c->told];

		s->t->now = c->at[c->told];
		if (c->who)
			lh_send(s->t, c->conn, p->dst, p->p);
		else
			lh_forward(s->t, c->conn, CAPTURE_IN, p->src, p->dst, p->p);
		assert_int_equal(s->t->conns[c->conn].in_pos, c->end[c->told]);
	}
	s->t->now = now;
}

static void arrive(struct sim *s, struct rconn *c, uint32_t src, uint32_t dst)
{
	struct packet p = { .src = src, .dst = dst };

	if (c->arrived == FRAMES)
		return;
	p.p.no = s->cfg->alike ? 1 : s->cfg->equal ? src : ++s->no;
	p.p.len = s->cfg->equal || s->cfg->alike ? 80 : 70 + rnd(s, 60);
	p.p.disco = !rnd(s, 4);
	c->in[c->arrived] = p;
	c->at[c->arrived] = s->t->now;
	c->arrive_pos += DERP_HEADER_LEN + DERP_KEY_LEN + p.p.len + (c->who ? 0 : DERP_KEY_LEN);
	c->end[c->arrived++] = c->arrive_pos;
	s->entered[src][dst]++;
}

static struct rconn *new_conn(struct sim *s)
{
	struct rconn *c;

	if (s->next_conn == CONNS)
		return NULL;
	c = &s->conns[s->next_conn];
	memset(c, 0, sizeof(*c));
	c->conn = s->next_conn++;
	c->open = true;
	return c;
}

static void client_up(struct sim *s, uint32_t who)
{
	struct rconn *c = s->t->now < s->stopped_until ? NULL : new_conn(s);

	if (!c)
		return;
	c->who = who;
	lh_client(s->t, c->conn, who);
	c->arrive_pos = s->t->conns[c->conn].in_pos;
	s->active[who] = c;
}

static void reroute(struct sim *s, uint32_t who)
{
	int i;

	if (s->route[who] && s->route[who]->open && !s->route[who]->left && s->present[s->route[who]->conn][who])
		return;
	s->route[who] = NULL;
	for (i = 1; i < s->next_conn; i++) {
		if (s->conns[i].open && !s->conns[i].left && s->conns[i].out && s->present[i][who])
			s->route[who] = &s->conns[i];
	}
}

static void set_present(struct sim *s, struct rconn *m, uint32_t who, bool present)
{
	s->present[m->conn][who] = present;
	lh_present(s->t, m->conn, who, present);
	reroute(s, who);
}

static void mesh_up(struct sim *s, bool out)
{
	struct rconn *c = new_conn(s);
	uint32_t who;

	if (!c)
		return;
	c->out = out;
	if (out)
		lh_mesh_out(s->t, c->conn);
	else
		lh_mesh_in(s->t, c->conn);
	c->arrive_pos = s->t->conns[c->conn].in_pos;
	for (who = LOCAL + 1; out && who <= PEERS; who++)
		set_present(s, c, who, true);
}

static void mesh_down(struct sim *s, struct rconn *c)
{
	uint32_t who;
	int i;

	/* Who waits to write fails without a word. */
	for (i = 1; i < s->next_conn; i++) {
		struct rconn *r = &s->conns[i];
		struct packet *p = &r->in[r->read];

		if (r->open && !r->left && r->who && r->read < r->arrived && !s->active[p->dst] &&
		    s->route[p->dst] == c && s->t->conns[r->conn].in_read >= r->end[r->read]) {
			lose(s, *p, NULL, false);
			r->read++;
		}
	}
	for (who = 1; who <= PEERS; who++) {
		s->present[c->conn][who] = false;
		reroute(s, who);
	}
}

/* The relay is through with it: nobody reads it, and nothing is put into its socket any more. */
static void leave(struct sim *s, struct rconn *c)
{
	int i, class;

	/* A reader that waits for the mesh, or has no processor, ends with what it has read. */
	while (c->read < c->arrived && s->t->conns[c->conn].in_read >= c->end[c->read])
		lose(s, c->in[c->read++], NULL, false);
	c->left = true;
	if (c->out)
		mesh_down(s, c);
	if (c->who && s->active[c->who] == c) {
		s->active[c->who] = NULL;
		for (i = 1; i < s->next_conn; i++) {
			if (s->conns[i].open && !s->conns[i].left && s->conns[i].who == c->who)
				s->active[c->who] = &s->conns[i];
		}
	}
	for (class = 0; class < 2; class++) {
		while (c->queue[class].n)
			lose(s, take(&c->queue[class]), "gone_disconnected", false);
	}
	while (c->writer.n)
		lose(s, take(&c->writer), NULL, false);
}

static void end_conn(struct sim *s, struct rconn *c)
{
	int i;

	if (!c->left)
		leave(s, c);
	tell(s, c, FRAMES);
	for (i = c->read; i < c->arrived; i++)
		lose(s, c->in[i], NULL, false);
	c->open = false;
	while (c->socket.n)
		lose(s, take(&c->socket), NULL, false);
	lh_close(s->t, c->conn);
}

/* A write has failed at its deadline: what stands in the socket may leave for as long as that lives. */
static void give_up(struct sim *s, struct rconn *c)
{
	if (!s->cfg->deadlines || c->left || !c->open || !c->stalled || c->socket.n < SOCKET ||
	    (!c->out && !c->writer.n) || s->t->now < c->stalled_ns + 1500000000ull ||
	    !has_processor(s, c))
		return;
	leave(s, c);
	s->t->conns[c->conn].tcp_state = 4;
	if (c->out)
		s->redial_at = s->t->now + rnd(s, 1500) * 1000000ull;
}

static void set_stalled(struct sim *s, struct rconn *c, bool stalled)
{
	if (stalled && !c->stalled)
		c->stalled_ns = s->t->now;
	c->stalled = stalled;
	s->t->conns[c->conn].out_acked = stalled ? s->t->conns[c->conn].out_pos : UINT64_MAX;
	while (!stalled && c->socket.n)
		emit(s, c, take(&c->socket));
	s->t->conns[c->conn].notsent = c->socket.n * 200;
}

static void set_hiding(struct sim *s, struct rconn *c, bool hiding)
{
	if (hiding && !c->hiding && !c->gap_out) {
		lh_gap(s->t, c->conn, CAPTURE_OUT, true);
		c->gap_out = true;
	}
	c->hiding = hiding;
}

static struct rconn *any_conn(struct sim *s)
{
	struct rconn *c = &s->conns[1 + rnd(s, s->next_conn - 1)];

	return c->open ? c : NULL;
}

static uint32_t any_peer(struct sim *s)
{
	return 1 + rnd(s, s->cfg->mesh ? PEERS : LOCAL);
}

static void rare(struct sim *s, struct rconn *c)
{
	const struct config *cfg = s->cfg;
	uint32_t who = 1 + rnd(s, LOCAL);

	switch (rnd(s, cfg->naps || cfg->stops ? 7 : 6)) {
	case 0:
		if ((cfg->ends && !rnd(s, 4) && s->t->now >= s->stopped_until) || (c->left && !rnd(s, 4)))
			end_conn(s, c);
		break;
	case 1:
		if (!s->active[who] || (cfg->duplicates && !rnd(s, 8)))
			client_up(s, who);
		break;
	case 2:
		if (cfg->stalls)
			set_stalled(s, c, !c->stalled && !rnd(s, 2));
		break;
	case 3:
		if (cfg->gaps && (c->who || c->out))
			set_hiding(s, c, !c->hiding && !rnd(s, 3));
		break;
	case 4:
		if (cfg->mesh && c->out)
			set_present(s, c, any_peer(s), rnd(s, 2));
		break;
	case 6:
		if (cfg->naps && !rnd(s, 4))
			c->naps_until = s->t->now + rnd(s, 3000) * 1000000ull;
		if (cfg->stops && !rnd(s, 24) && s->t->now > s->stopped_until + 2000000000ull)
			s->stopped_until = s->t->now + rnd(s, 4000) * 1000000ull;
		break;
	default:
		if (cfg->mesh && cfg->ends && !rnd(s, 8))
			mesh_up(s, rnd(s, 2));
		break;
	}
}

static void step(struct sim *s)
{
	struct rconn *c = any_conn(s);
	int burst = 1 + rnd(s, 6);
	uint32_t dst = any_peer(s);

	s->t->now += 1000 + rnd(s, 2000000);
	if (!c)
		return;
	switch (rnd(s, 8)) {
	case 0:
	case 1:
	case 2:
		for (; burst && !c->left && (c->who || !c->out); burst--)
			arrive(s, c, c->who ? c->who : any_peer(s), dst);
		break;
	case 3:
		tell(s, c, burst);
		break;
	case 4:
	case 5:
		read_some(s, c, burst * 3);
		break;
	case 6:
		if (c->who && !c->left)
			write_some(s, c);
		break;
	default:
		if (!rnd(s, 4))
			rare(s, c);
		break;
	}
}

static void tick(struct sim *s, uint32_t ms)
{
	int i;

	report_due(s, s->t->now);
	for (i = 1; i < s->next_conn; i++)
		give_up(s, &s->conns[i]);
	if (s->redial_at && s->t->now >= s->redial_at && s->t->now >= s->stopped_until) {
		s->redial_at = 0;
		mesh_up(s, true);
	}
	for (i = 1; i < s->next_conn; i++) {
		if (s->conns[i].open)
			tell(s, &s->conns[i], FRAMES);
	}
	lh_tick(s->t, ms);
	lh_check(s->t);
}

/* A relay is never slower than a second where nothing holds it up. */
static void work(struct sim *s)
{
	int i, n;

	for (i = 1; i < s->next_conn; i++) {
		struct rconn *c = &s->conns[i];

		if (!c->open)
			continue;
		read_some(s, c, FRAMES);
		for (n = 0; c->who && has_processor(s, c) && n < 2 * DEPTH; n++) {
			write_some(s, c);
			flush_writer(s, c);
		}
	}
}

void model_quiesce(struct sim *s)
{
	int i, n;

	for (i = 1; i < s->next_conn; i++) {
		if (s->conns[i].open) {
			s->conns[i].naps_until = 0;
			set_hiding(s, &s->conns[i], false);
			set_stalled(s, &s->conns[i], false);
		}
	}
	s->stopped_until = 0;
	report_due(s, UINT64_MAX);
	for (n = 0; n < 200; n++) {
		s->t->now += 1000000;
		work(s);
		if (n % 100 == 99)
			tick(s, 1);
		/* What the relay had closed: its sockets have sent what was in them. */
		for (i = 1; n == 150 && i < s->next_conn; i++) {
			if (s->conns[i].open && s->conns[i].left)
				end_conn(s, &s->conns[i]);
		}
	}
	for (n = 0; n < 80; n++)
		tick(s, 100);
}

struct sim *model_new(const struct config *cfg, unsigned int seed)
{
	struct sim *s = calloc(1, sizeof(*s));
	uint32_t i;

	assert_non_null(s);
	s->cfg = cfg;
	s->rng = seed * 2654435761u + 1;
	s->t = lh_new(NULL);
	s->t->quiet = true;
	s->next_conn = 1;
	for (i = 1; i <= LOCAL; i++)
		client_up(s, i);
	if (cfg->mesh) {
		mesh_up(s, true);
		mesh_up(s, false);
	}
	return s;
}

void model_free(struct sim *s)
{
	lh_free(s->t);
	free(s);
}

void model_run(struct sim *s)
{
	uint32_t i;

	for (i = 1; i <= 6000; i++) {
		step(s);
		if (i % 300 == 0)
			work(s);
		if (i % 100 == 0)
			tick(s, 1);
		if (i % 1500 == 0)
			lh_snapshot(s->t, false);
	}
}
