// SPDX-License-Identifier: BSD-2-Clause
/* What is known of each connection, from its opening until it is closed, told and let go. */
#include "ledger/internal.h"

#include <stdio.h>
#include <stdlib.h>

uint64_t ledger_conn_hash(const struct ledger *l, uint64_t id)
{
	return hash_words(&l->seed, id, 0, 0);
}

static struct conn *conn_find(struct ledger *l, uint64_t id, uint64_t hash)
{
	struct chain *at = chains_find(&l->conns, hash);

	for (; at; at = chains_again(at)) {
		if (ITEM_OF(at, struct conn, chain)->id == id)
			return ITEM_OF(at, struct conn, chain);
	}
	return ledger_dormant_wake(l, id);
}

/* Over the limit all are one, of which only frames are known. NULL without any memory. */
static struct conn *overflow(struct ledger *l)
{
	if (!l->overflow) {
		l->overflow = calloc(1, sizeof(*l->overflow));
		if (l->overflow)
			l->overflow->shared = true;
	}
	return l->overflow;
}

struct conn *ledger_conn_known(struct ledger *l, uint64_t id)
{
	return conn_find(l, id, ledger_conn_hash(l, id));
}

struct conn *ledger_conn_get(struct ledger *l, uint64_t id, uint64_t time_ns)
{
	uint64_t hash = ledger_conn_hash(l, id);
	struct conn *c = conn_find(l, id, hash);

	if (c)
		return c;
	if (l->conns.count + shelf_count(&l->dormant) >= l->limits.max_connections)
		return overflow(l);
	c = calloc(1, sizeof(*c));
	if (!c || !chains_add(&l->conns, &c->chain, hash)) {
		free(c);
		return overflow(l);
	}
	c->id = id;
	c->opened_ns = time_ns;
	c->dirty = true;
	return c;
}

void ledger_conn_open(struct ledger *l, const struct capture_event *e)
{
	struct conn *c = ledger_conn_get(l, e->conn, e->time_ns);

	if (!c || c->shared)
		return;
	c->opened_ns = e->time_ns;
	c->from_start = e->open.from_start;
	/* What left on it before it was found was not seen. */
	if (!c->from_start && e->time_ns > c->out_from_ns)
		c->out_from_ns = e->time_ns;
	c->local = e->open.local;
	c->remote = e->open.remote;
	c->steps |= STEP_SYN;
	/* A dial that is told without its start may have had no answer: facts or bytes will say. */
	if (!c->from_start && e->open.role != CAPTURE_DIALLED)
		c->steps |= STEP_ESTABLISHED;
	c->dirty = true;
	if (e->open.role != CAPTURE_ROLE_UNKNOWN)
		c->role = e->open.role;
	if (e->facts)
		ledger_conn_facts(c, e->facts, e->time_ns);
}

void ledger_conn_role(struct conn *c, enum capture_role role)
{
	if (c->role == CAPTURE_ROLE_UNKNOWN && !c->shared)
		c->role = role;
}

static void note_served(struct ledger *l, const struct conn *c)
{
	struct serves *least = &l->serves[0];
	size_t i;

	if (!c->local.family)
		return;
	for (i = 0; i < sizeof(l->serves) / sizeof(l->serves[0]); i++) {
		struct serves *s = &l->serves[i];

		if (s->conns && addr_equal(&s->addr, &c->local)) {
			s->conns++;
			return;
		}
		if (s->conns < least->conns)
			least = s;
	}
	*least = (struct serves){ c->local, least->conns + 1 };
	l->node_dirty = true;
}

void ledger_conn_kind(struct ledger *l, struct conn *c, enum record_conn_kind kind)
{
	bool first = c->kind == CONN_UNKNOWN || c->kind == CONN_OTHER;

	/* It was taken for something else: its frames are not read, though it has some. */
	if (kind != CONN_OTHER && c->misread && !c->out_seen && !c->shared)
		c->out_late = true;
	if (c->kind == kind || c->shared || (c->kind == CONN_MESH_IN && kind == CONN_CLIENT))
		return;
	c->kind = kind;
	c->dirty = true;
	if (kind == CONN_OTHER)
		return;
	if ((kind == CONN_MESH_IN || kind == CONN_MESH_OUT) && !c->mesh)
		c->mesh = calloc(1, sizeof(*c->mesh));
	if (c->mesh)
		c->mesh->head_left = LEDGER_HEAD_MARKS;
	if (kind == CONN_MESH_OUT) {
		if (!c->from_start || c->gaps[CAPTURE_IN])
			ledger_conn_unsure(l, c);
	} else if (first) {
		note_served(l, c);
		l->node_dirty = true;
	}
}

bool ledger_conn_may_exit(const struct conn *c)
{
	if (c->closed_ns || c->shared || c->registered || c->kind == CONN_OTHER)
		return false;
	if (c->out_late)
		return true;
	/* As long as no frame was seen that says otherwise, what was missed may have been DERP. */
	if (c->role == CAPTURE_DIALLED)
		return c->kind == CONN_MESH_OUT ? c->unsure : c->gaps[0] || c->gaps[1];
	return true;
}

void ledger_conn_close(struct ledger *l, const struct capture_event *e)
{
	struct conn *c = ledger_conn_get(l, e->conn, e->time_ns);

	if (!c || c->shared || c->closed_ns)
		return;
	if (e->facts)
		ledger_conn_facts(c, e->facts, e->time_ns);
	if (c->blocked_from_ns && e->time_ns > c->blocked_from_ns)
		c->blocked_ns += e->time_ns - c->blocked_from_ns;
	c->how = e->close.how;
	c->fin_in = e->close.fin_in;
	c->fin_out = e->close.fin_out;
	c->notsent_budget = c->has_queues ? c->notsent : 0;
	c->buffer_budget = LEDGER_BUFFER_BYTES;
	c->closed_ns = e->time_ns ? e->time_ns : 1;
	c->dirty = true;
	l->node_dirty = true;
	ledger_conn_unacked(l, c);
	if (c->unsure) {
		c->unsure = false;
		l->unsure--;
	}
	if (c->registered)
		ledger_peer_reroute(l, c->peer, c->closed_ns);
	ledger_presences_end(l, c, c->closed_ns);
}

void ledger_conn_free(struct ledger *l, struct conn *c)
{
	if (!c)
		return;
	ledger_conn_unacked(l, c);
	ledger_presences_free(l, c);
	ledger_mesh_free(l, c);
	ledger_conn_disown(l, c);
	if (!c->shared)
		chains_del(&l->conns, &c->chain);
	shared_drop(&l->names, c->names);
	free(c->server);
	free(c);
}

void ledger_conns_sweep(struct ledger *l)
{
	struct chain *at, *next;
	struct conn *c;

	for (at = chains_first(&l->conns); at; at = next) {
		next = chains_next(&l->conns, at);
		c = ITEM_OF(at, struct conn, chain);
		if (c->told_closed && !c->items && c->closed_ns + KEEP_NS < l->now_ns)
			ledger_conn_free(l, c);
	}
}

void ledger_conn_server(struct conn *c, const struct key *key)
{
	if (!c->server)
		c->server = malloc(sizeof(*c->server));
	if (c->server)
		*c->server = *key;
}

void ledger_gap(struct ledger *l, const struct stream_gap *g)
{
	struct conn *c = ledger_conn_get(l, g->conn, g->time_ns);

	if (!c || c->shared)
		return;
	if (g->begins) {
		c->gaps[g->dir]++;
		c->dirty = true;
		ledger_mesh_gap(c, g->dir);
		if (g->dir == CAPTURE_IN && c->kind == CONN_MESH_OUT)
			ledger_conn_unsure(l, c);
	}
	if (g->dir == CAPTURE_IN) {
		c->in_gap = g->begins;
		c->in_missed += g->begins ? 0 : g->bytes;
		return;
	}
	c->out_gap = g->begins;
	if (!g->begins && g->time_ns > c->out_from_ns)
		c->out_from_ns = g->time_ns;
}

static uint32_t stage_steps(enum stream_stage stage)
{
	static const uint32_t steps[] = {
		[STREAM_TLS] = STEP_CLIENT_HELLO,
		[STREAM_TLS_DONE] = STEP_CLIENT_HELLO | STEP_TLS_DONE,
		[STREAM_HTTP] = STEP_HTTP_REQUEST,
		[STREAM_UPGRADED] = STEP_HTTP_REQUEST | STEP_UPGRADED,
		[STREAM_DERP] = STEP_HTTP_REQUEST | STEP_UPGRADED,
	};

	return (size_t)stage < sizeof(steps) / sizeof(steps[0]) ? steps[stage] : 0;
}

/* Data that is not understood yet: its frames come later, or never. */
static bool is_late(const struct conn *c, const struct stream_info *info)
{
	if (c->out_seen)
		return false;
	if (info->stage == STREAM_OTHER)
		return c->kind != CONN_UNKNOWN && c->kind != CONN_OTHER;
	if (info->secret_missing || info->unsynchronised)
		return true;
	if (!info->bytes[CAPTURE_OUT])
		return false;
	/* DERP by what the other direction says, or by the upgrade. */
	if (info->stage >= STREAM_UPGRADED)
		return true;
	if (!info->tls || info->decrypted)
		return false;
	return info->stage >= STREAM_TLS_DONE || (info->stage == STREAM_TLS && !c->from_start);
}

static void note_names(struct ledger *l, struct conn *c, const struct stream_info *info)
{
	const struct stream_names *names = info->names ? shared_keep(&l->names, info->names) : NULL;

	if (!names)
		return;
	c->dirty |= names != c->names;
	shared_drop(&l->names, c->names);
	c->names = names;
	if (c->role == CAPTURE_DIALLED) {
		if (!key_is_zero(&names->http_key))
			ledger_conn_server(c, &names->http_key);
		else if (!key_is_zero(&names->cert_key))
			ledger_conn_server(c, &names->cert_key);
		return;
	}
	if (c->role != CAPTURE_ACCEPTED || info->stage < STREAM_UPGRADED ||
	    info->stage == STREAM_OTHER)
		return;
	if (!key_is_zero(&names->http_key))
		ledger_server_key(l, &names->http_key);
	else if (!key_is_zero(&names->cert_key))
		ledger_server_key(l, &names->cert_key);
	if (!l->info.tls_name[0] && (names->sni[0] || names->cert_name[0])) {
		snprintf(l->info.tls_name, sizeof(l->info.tls_name), "%s",
			 names->sni[0] ? names->sni : names->cert_name);
		l->node_dirty = true;
	}
}

void ledger_info(struct ledger *l, uint64_t conn, const struct stream_info *info)
{
	struct conn *c = ledger_conn_get(l, conn, l->now_ns);

	if (!c || c->shared)
		return;
	c->dirty = true;
	c->steps |= stage_steps(info->stage);
	if (info->tls && info->stage > STREAM_TLS && info->stage != STREAM_OTHER)
		c->steps |= STEP_CLIENT_HELLO | STEP_TLS_DONE;
	c->tls = info->tls;
	c->websocket = info->websocket;
	c->secret_missing = info->secret_missing;
	c->unsynchronised = info->unsynchronised;
	c->decrypted = info->decrypted;
	c->misread = info->stage == STREAM_OTHER;
	c->http_status = info->http_status;
	c->tls_alert = info->tls_alert;
	c->tls_alert_out = info->tls_alert && info->tls_alert_dir == CAPTURE_OUT;
	c->tls_alert_hidden = info->tls_alert_hidden;
	c->tls_alert_hidden_out = info->tls_alert_hidden &&
				  info->tls_alert_hidden_dir == CAPTURE_OUT;
	if (info->tag)
		c->tag = info->tag;
	if (info->stage == STREAM_OTHER && c->kind == CONN_UNKNOWN)
		ledger_conn_kind(l, c, CONN_OTHER);
	if (is_late(c, info))
		c->out_late = true;
	else if ((c->from_start && !c->out_seen) || info->stage == STREAM_OTHER)
		c->out_late = false;
	note_names(l, c, info);
}
