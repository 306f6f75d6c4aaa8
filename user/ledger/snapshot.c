// SPDX-License-Identifier: BSD-2-Clause
/* What has changed since it was last told, as records. */
#include "ledger/tell.h"

#include <errno.h>
#include <stdlib.h>

static void fill_serves(const struct ledger *l, struct record_node *n)
{
	struct serves left[sizeof(l->serves) / sizeof(l->serves[0])];
	size_t i, best;

	memcpy(left, l->serves, sizeof(left));
	for (n->serves_count = 0; n->serves_count < 4; n->serves_count++) {
		best = 0;
		for (i = 1; i < sizeof(left) / sizeof(left[0]); i++) {
			if (left[i].conns > left[best].conns)
				best = i;
		}
		if (!left[best].conns)
			return;
		n->serves[n->serves_count] = left[best].addr;
		left[best].conns = 0;
	}
}

/* Peers with a connection here; those whose key is not known count one each. */
static uint32_t count_peers(struct ledger *l)
{
	/* Who rests has one, and no other. */
	uint32_t peers = (uint32_t)shelf_count(&l->dormant);
	struct conn *c, *o;

	EACH_CONN(l, c) {
		if (c->kind != CONN_CLIENT || c->closed_ns)
			continue;
		/* Of several of one peer the first that is open counts. */
		for (o = c->registered ? c->peer->conns : c; o != c; o = o->next_of_peer) {
			if (!o->closed_ns && o->kind == CONN_CLIENT)
				break;
		}
		peers += o == c;
	}
	return peers;
}

uint64_t ledger_count_in_flight(struct ledger *l)
{
	uint64_t n = 0;
	uint32_t i;

	l->count_id++;
	for (i = l->entries.head; i; i = l->items[i].link[LINK_ALL].next) {
		struct pair *p = l->items[i].pair;

		if (p->count_id != l->count_id)
			p->walked = 0;
		p->count_id = l->count_id;
		p->walked += item_packets(&l->items[i]);
		n += item_packets(&l->items[i]);
	}
	return n;
}

static int tell_node(struct ledger *l, struct record *r, const struct record_sink *sink)
{
	struct record_node *n = &r->node_info;

	r->type = RECORD_NODE;
	*n = l->info;
	fill_serves(l, n);
	n->peers = count_peers(l);
	n->books = l->books;
	n->books.in_flight = ledger_count_in_flight(l);
	n->unflushed = l->unflushed;
	l->node_dirty = false;
	l->still_told = n->still_to_ns;
	return sink->put(sink->ctx, r);
}

static void copy_text(char *to, size_t size, const char *from)
{
	size_t len = from ? strnlen(from, size - 1) : 0;

	if (len)
		memcpy(to, from, len);
	to[len] = '\0';
}

static void fill_tcp(const struct conn *c, struct record_conn *t)
{
	t->unread = c->unread;
	t->notsent = c->notsent;
	t->unacked = c->unacked;
	t->rtt_us = c->rtt_us;
	t->retransmits = c->retransmits;
	t->snd_wnd = c->snd_wnd;
	t->unacked_since_ns = c->unacked_since_ns;
	t->blocked_ns = c->blocked_ns;
	t->max_unacked_segment = c->max_unacked_segment;
	t->in_bytes = c->in_arrived;
	t->out_bytes = c->out_sent;
	t->in_missed = c->in_missed;
	if (c->in_gap && c->in_arrived > c->in_told)
		t->in_missed += c->in_arrived - c->in_told;
	t->last_in_ns = c->last_in_ns;
	t->last_out_ns = c->last_out_ns;
}

static void fill_mesh(const struct conn *c, struct record_conn *t)
{
	if (!c->mesh)
		return;
	t->forwards = c->mesh->forwards;
	t->forward_bytes = c->mesh->bytes;
	t->forwards_acked = c->mesh->acked;
	if (c->kind == CONN_MESH_OUT) {
		t->max_acked_forward = c->mesh->max_acked;
		t->stuck_forward = ledger_conn_stuck(c);
	}
	t->derp_off = c->mesh->derp_off;
	t->gaps = c->gaps[c->kind == CONN_MESH_OUT ? CAPTURE_OUT : CAPTURE_IN];
}

static const struct key *key_of(const struct conn *c)
{
	static const struct key none;

	if (c->role == CAPTURE_DIALLED)
		return c->server ? c->server : &none;
	return c->peer ? &c->peer->key : &none;
}

static void fill_conn(const struct conn *c, struct record_conn *t)
{
	*t = (struct record_conn){
		.conn = c->id,
		.kind = c->kind,
		.dialled = c->role == CAPTURE_DIALLED,
		.from_start = c->from_start,
		.readable = (c->last_type_in || c->last_type_out) && !c->out_late,
		.secret_missing = c->secret_missing,
		.unsynchronised = c->unsynchronised,
		.websocket = c->websocket,
		.tls = c->tls,
		.local = c->local,
		.remote = c->remote,
		.peer = *key_of(c),
		.peer_claimed = c->claimed,
		.steps = c->steps,
		.opened_ns = c->opened_ns,
		.closed_ns = c->closed_ns,
		.left_ns = c->left_ns,
		.how = c->how,
		.fin_in = c->fin_in,
		.fin_out = c->fin_out,
		.last_type_in = c->last_type_in,
		.last_type_out = c->last_type_out,
		.info_len = c->info_len,
		.http_status = c->http_status,
		.tls_alert = c->tls_alert,
		.tls_alert_out = c->tls_alert_out,
		.tls_alert_hidden = c->tls_alert_hidden,
		.tls_alert_hidden_out = c->tls_alert_hidden_out,
		.tag = c->tag,
		.preferred_ns = c->preferred_ns,
	};
	if (c->names) {
		copy_text(t->sni, sizeof(t->sni), c->names->sni);
		copy_text(t->host, sizeof(t->host), c->names->host);
		copy_text(t->cert_name, sizeof(t->cert_name), c->names->cert_name);
		copy_text(t->ideal_node, sizeof(t->ideal_node), c->names->ideal_node);
	}
	fill_tcp(c, t);
	fill_mesh(c, t);
}

static int tell_conns(struct ledger *l, struct record *r, bool all, const struct record_sink *sink)
{
	struct conn *c, resting;
	size_t at = 0;
	int err = 0;

	r->type = RECORD_CONN;
	EACH_CONN(l, c) {
		if ((!c->dirty && !all) || err)
			continue;
		fill_conn(c, &r->conn);
		err = sink->put(sink->ctx, r);
		c->dirty = false;
		c->told_closed = c->closed_ns;
	}
	while (all && !err && ledger_dormant_next(l, &at, &resting)) {
		fill_conn(&resting, &r->conn);
		err = sink->put(sink->ctx, r);
	}
	return err;
}

static int tell_presences(struct ledger *l, struct record *r, bool all,
			  const struct record_sink *sink)
{
	struct presence *pr;
	struct chain *at;
	int err = 0;

	r->type = RECORD_PRESENCE;
	for (at = chains_first(&l->presences); at && !err;
	     at = chains_next(&l->presences, at)) {
		pr = ITEM_OF(at, struct presence, chain);
		if (pr->seen || (!pr->dirty && !all))
			continue;
		pr->dirty = false;
		r->presence = (struct record_presence){
			.conn = pr->conn->id,
			.peer = pr->peer->key,
			.present = pr->present,
			.not_here = pr->not_here,
			.addr = pr->addr,
			.flags = pr->flags,
			.said_ns = pr->present ? pr->here_ns : pr->gone_ns,
		};
		err = sink->put(sink->ctx, r);
	}
	return err;
}

int ledger_snapshot(struct ledger *l, uint64_t now_ns, bool all, const struct record_sink *sink)
{
	struct record *r = calloc(1, sizeof(*r));
	int err;

	if (!r)
		return -ENOMEM;
	r->agent = l->agent;
	r->node = l->node;
	r->time_ns = now_ns;
	err = l->node_dirty || all ? tell_node(l, r, sink) : 0;
	if (!err)
		err = tell_conns(l, r, all, sink);
	if (!err)
		err = ledger_links_tell(l, r, all, sink);
	if (!err)
		err = ledger_marks_tell(l, r, sink);
	if (!err)
		err = ledger_pairs_tell(l, r, all, sink);
	if (!err)
		err = ledger_losses_tell(l, r, sink);
	if (!err)
		err = tell_presences(l, r, all, sink);
	if (!err)
		err = ledger_nic_tell(l, r, all, sink);
	free(r);
	return err;
}
