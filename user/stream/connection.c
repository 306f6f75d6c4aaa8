// SPDX-License-Identifier: BSD-2-Clause
#include "stream/connection.h"

#include <stdlib.h>
#include <string.h>

/* tcp_state of <netinet/tcp.h> in which one FIN counts among the sequence numbers. */
#define STATES_FIN_IN	(1 << 6 | 1 << 8 | 1 << 9 | 1 << 11)	/* TIME_WAIT CLOSE_WAIT LAST_ACK CLOSING */
#define STATES_FIN_ACKED (1 << 5 | 1 << 6)

static bool state_in(const struct capture_facts *f, unsigned int states)
{
	return f->tcp_state < 16 && states >> f->tcp_state & 1;
}

/* --- layers ------------------------------------------------------------------------------- */

static enum capture_dir dir_of(const struct connection *c, int side)
{
	enum capture_dir other = c->client == CAPTURE_IN ? CAPTURE_OUT : CAPTURE_IN;

	return side == TLS_CLIENT ? c->client : other;
}

static void on_plain(void *ctx, int side, uint64_t time_ns, uint64_t tcp_end, const uint8_t *data,
		     size_t len)
{
	struct connection *c = ctx;
	struct derp_chunk chunk = { .time_ns = time_ns, .tcp_end = tcp_end, .record = true,
				    .data = data, .len = len };

	application_raise(c, STREAM_TLS_DONE);
	if (len)
		application_feed(c, &chunk, dir_of(c, side));
}

static bool on_heads(void *ctx, int side, uint64_t time_ns, uint64_t tcp_end,
		     struct derp_parts *parts)
{
	struct connection *c = ctx;

	return application_feed_parts(c, parts, dir_of(c, side), time_ns, tcp_end);
}

static void on_records_lost(void *ctx, int side, uint64_t time_ns, uint64_t bytes)
{
	struct connection *c = ctx;

	/* A handshake that was never finished had no frames. */
	if (!c->framed && (!c->closing || c->info.stage >= STREAM_TLS_DONE))
		application_gap(c, dir_of(c, side), time_ns, 0, bytes, false);
}

static const struct secret_set *on_hello(void *ctx, const uint8_t random[static 32])
{
	struct connection *c = ctx;
	struct connection_search *s = search_get(c);

	return !s || secrets_join(&c->shared->secrets, random, &s->user) ? NULL : s->user.set;
}

static const struct tls_sink tls_sink = {
	.plain = on_plain, .heads = on_heads, .lost = on_records_lost, .hello = on_hello,
};

static bool start_tls(struct connection *c)
{
	c->tls = tls_new(c->midstream, c->client == CAPTURE_IN, &c->info, &c->budget,
			 &c->shared->tls, &tls_sink, c);
	if (!c->tls) {
		c->layer = LAYER_OTHER;
		return false;
	}
	c->layer = LAYER_TLS;
	c->info.tls = true;
	application_raise(c, STREAM_TLS);
	return true;
}

static void feed(struct connection *c, enum capture_dir dir, struct derp_chunk *chunk)
{
	if (c->layer == LAYER_TLS)
		tls_feed(c->tls, connection_side(c, dir), chunk->tcp_pos, chunk->time_ns, chunk->data,
			 chunk->len);
	else if (c->layer == LAYER_PLAIN)
		application_feed(c, chunk, dir);
}

/* What came before the layer was known. */
static void feed_kept(struct connection *c)
{
	struct derp_sync *kept[2] = { c->apps[0].derp.sync, c->apps[1].derp.sync };
	struct derp_chunk chunk;
	size_t n;
	int dir;

	c->apps[0].derp.sync = c->apps[1].derp.sync = NULL;
	for (dir = 0; dir < 2; dir++) {
		for (n = 0; kept[dir] && derp_sync_chunk(kept[dir], n, 0, &chunk); n++)
			feed(c, (enum capture_dir)dir, &chunk);
		derp_sync_free(kept[dir], &c->budget);
	}
}

static bool is_record(const uint8_t *p, size_t len, size_t at)
{
	return at + 3 <= len && p[at] >= TLS_CHANGE_CIPHER && p[at] <= TLS_APPLICATION &&
	       p[at + 1] == 3 && p[at + 2] <= 4;
}

/* Mid-stream: are there TLS records in it, one after the other? */
static bool holds_records(const uint8_t *p, size_t len)
{
	size_t i, end;

	for (i = 0; i + WALK_HEADER_LEN <= len; i++) {
		if (p[i] != TLS_APPLICATION || !walk_tls_valid(p + i))
			continue;
		end = i + WALK_HEADER_LEN + ((size_t)p[i + 3] << 8 | p[i + 4]);
		if (end == len || (end < len && is_record(p, len, end)))
			return true;
	}
	return false;
}

static void sniff_midstream(struct connection *c, enum capture_dir dir, struct derp_chunk *chunk)
{
	struct connection_app *app = &c->apps[dir];
	bool tls = is_record(chunk->data, chunk->len, 0), plain;
	int side = c->has_client && c->client != dir;
	uint64_t dropped, start;
	const uint8_t *bytes;
	size_t len;

	plain = derp_sync_feed(&app->derp.sync, chunk, application_talker(c, dir), &c->budget,
			       &dropped, &start);
	if (dropped)
		application_begin_gap(c, dir, chunk->time_ns, dropped);
	if (chunk->len >= 5 && http_starts(side, chunk->data, chunk->len))
		plain = true;
	plain |= application_websocket(c, chunk, dir);
	if (!plain && !tls && app->derp.sync) {
		bytes = derp_sync_bytes(app->derp.sync, &len);
		tls = holds_records(bytes, len);
	}
	if (tls && !start_tls(c))
		return;
	if (!tls && plain)
		c->layer = LAYER_PLAIN;
	if (tls || plain)
		feed_kept(c);
}

static void sniff_start(struct connection *c, enum capture_dir dir, struct derp_chunk *chunk)
{
	uint8_t first = chunk->data[0];

	if (!c->has_client) {
		c->has_client = true;
		c->client = dir;
	}
	if (first == TLS_HANDSHAKE && dir == c->client) {
		if (!start_tls(c))
			return;
	} else if (first >= 'A' && first <= 'Z') {
		c->layer = LAYER_PLAIN;
	} else {
		c->layer = LAYER_OTHER;
		application_raise(c, STREAM_OTHER);
	}
	feed(c, dir, chunk);
}

static void on_bytes(void *ctx, enum capture_dir dir, uint64_t pos, uint64_t time_ns,
		     const uint8_t *data, size_t len)
{
	struct connection *c = ctx;
	struct derp_chunk chunk = { .time_ns = time_ns, .tcp_pos = pos, .data = data, .len = len };

	c->info.bytes[dir] += len;
	counted_reach(c, dir, pos);
	if (c->layer != LAYER_NEW)
		feed(c, dir, &chunk);
	else if (c->midstream && c->framed)
		c->layer = LAYER_FRAMES;
	else if (c->midstream)
		sniff_midstream(c, dir, &chunk);
	else
		sniff_start(c, dir, &chunk);
}

void connection_gap(void *ctx, enum capture_dir dir, uint64_t pos, uint64_t time_ns, uint64_t bytes)
{
	struct connection *c = ctx;
	struct connection_app *app = &c->apps[dir];
	size_t kept = 0;

	c->info.bytes[dir] += bytes;
	if (c->framed)
		return;
	switch (c->layer) {
	case LAYER_NEW:
		c->midstream = true;
		if (app->derp.sync)
			derp_sync_bytes(app->derp.sync, &kept);
		derp_clear(&app->derp, &c->budget);
		application_begin_gap(c, dir, time_ns, bytes + kept);
		break;
	case LAYER_TLS:
		tls_gap(c->tls, connection_side(c, dir), time_ns, bytes);
		break;
	case LAYER_PLAIN:
		application_gap(c, dir, time_ns, pos, bytes, true);
		break;
	default:
		break;
	}
}

/* --- facts -------------------------------------------------------------------------------- */

static void settle(struct connection *c, const struct capture_facts *f, uint64_t time_ns)
{
	struct reassemble *in = &c->dirs[CAPTURE_IN], *out = &c->dirs[CAPTURE_OUT];

	if (!f || !f->has_seq)
		return;
	/* Attached mid-stream: where it stands now is where it begins for us. */
	if (f->has_read && !in->started)
		reassemble_start(in, f->rcv_nxt);
	if (f->has_read && !out->started)
		reassemble_start(out, f->snd_nxt);
	reassemble_settle(in, f->rcv_nxt, state_in(f, STATES_FIN_IN), time_ns);
	reassemble_settle(out, f->snd_una, state_in(f, STATES_FIN_ACKED), time_ns);
}

/* Queues alone tell the same, less exactly: what passed since makes them too low, never too high. */
static uint64_t less(uint64_t pos, uint64_t bytes)
{
	return pos > bytes ? pos - bytes : 0;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void tell_progress(struct connection *c, const struct capture_facts *f, uint64_t time_ns)
{
	const struct reassemble *in = &c->dirs[CAPTURE_IN], *out = &c->dirs[CAPTURE_OUT];
	uint64_t sent = reassemble_passed(out, f);
	const struct stream_progress p = {
		.node = c->node, .conn = c->id, .time_ns = time_ns, .facts = f,
		.in_arrived = in->settled,
		.has_read = f->has_read,
		.in_read = f->has_seq ? least(reassemble_position(in, f->copied_seq), in->settled) :
					less(in->settled, f->unread),
		.out_sent = sent,
		.has_acked = f->has_seq || f->has_queues,
		.out_acked = f->has_seq ? least(out->settled, sent) : less(sent, f->unacked),
	};

	c->shared->sink->progress(c->shared->sink->ctx, &p);
}

/* --- what is known ------------------------------------------------------------------------ */

static bool has_data(const struct connection *c)
{
	return c->info.bytes[0] || c->info.bytes[1];
}

static bool unsynchronised(const struct connection *c, enum capture_dir dir)
{
	const struct connection_app *app = &c->apps[dir];

	if (c->layer == LAYER_NEW)
		return app->derp.sync != NULL;
	return (app->state == APP_DERP && !app->derp.synced) ||
	       (app->state == APP_WEBSOCKET && (!app->derp.synced || app->websocket_lost));
}

static void note_stage(struct connection *c)
{
	const struct tls_side *sides = c->tls ? c->tls->sides : NULL;

	/* The first sealed record of each side belongs to the handshake, if that was seen. */
	if (sides && c->info.stage == STREAM_TLS &&
	    (c->midstream ? sides[0].sealed || sides[1].sealed :
			    sides[0].sealed > 1 && sides[1].sealed > 1))
		application_raise(c, STREAM_TLS_DONE);
	c->info.secret_missing = c->tls && c->info.stage >= STREAM_TLS_DONE && !c->info.decrypted;
	c->info.unsynchronised = unsynchronised(c, CAPTURE_IN) || unsynchronised(c, CAPTURE_OUT);
}

/* Changes whenever something does that is worth telling; never 0. */
static uint32_t sign(const struct stream_info *i)
{
	const uint64_t bits = i->tls | i->tls_alert_hidden << 1 | (i->tag != 0) << 2 |
			      i->secret_missing << 3 | i->decrypted << 4 | i->unsynchronised << 5 |
			      i->websocket << 6 | i->fast_start << 7 | i->stage << 8;
	const uint64_t codes = (uint64_t)i->tls_version << 48 | (uint64_t)i->tls_cipher << 32 |
			       i->http_status;
	const uint64_t prime = 0x100000001b3ULL;
	uint64_t h = 0xcbf29ce484222325ULL ^ (uintptr_t)i->names;

	h = (h ^ (bits << 8 | i->tls_alert)) * prime;
	h = (h ^ codes) * prime;
	h ^= h >> 32;
	return (uint32_t)h ? (uint32_t)h : 1;
}

static void tell_info(struct connection *c)
{
	const struct stream_sink *sink = c->shared->sink;
	uint32_t signature;

	note_stage(c);
	signature = sign(&c->info);
	if (signature == c->signature)
		return;
	c->signature = signature;
	if (sink->info)
		sink->info(sink->ctx, c->node, c->id, &c->info);
}

/* Since when the oldest bytes of @dir wait to be read; 0: none do. */
static uint64_t waits_since(const struct connection *c, enum capture_dir dir)
{
	return c->tls ? tls_waiting_since(c->tls, connection_side(c, dir)) : 0;
}

static void note_waiting(struct connection *c)
{
	uint64_t in = waits_since(c, CAPTURE_IN), out = waits_since(c, CAPTURE_OUT);
	uint64_t since = !in || (out && out < in) ? out : in;

	uint64_t before = connection_waiting_since(c);

	/* The oldest may have been shed since; it waits all the same. */
	if (!since || !before || since < before)
		search_wait(c, since);
}

/* Nothing of it is to be read any more: its secrets and buffers go. */
static void stop_reading(struct connection *c, enum connection_layer layer)
{
	c->layer = layer;
	tls_free(c->tls);
	c->tls = NULL;
	search_end(c);
	application_clear(c);
}

static void let_go(struct connection *c)
{
	if (c->layer != LAYER_OTHER && c->apps[0].state == APP_IGNORED &&
	    c->apps[1].state == APP_IGNORED)
		stop_reading(c, LAYER_OTHER);
}

/* Its secrets have done what they were for. Of a file another end may come for them yet. */
static void rest(struct connection *c)
{
	if (c->tls && tls_rest(c->tls) && c->shared->patience_ns)
		search_end(c);
}

/* --- the door ----------------------------------------------------------------------------- */

void connection_tie(struct connection *c, struct connection_shared *shared)
{
	static const struct reassemble_sink sink = { on_bytes, foretold_head, connection_gap,
						     counted_resume, counted_forward };
	struct reassemble *r;

	c->shared = shared;
	c->info.kept = shared ? &shared->names : NULL;
	c->budget.limit = shared ? shared->connection_bytes : 0;
	c->budget.parent = shared ? &shared->budget : NULL;
	for (r = c->dirs; r < c->dirs + 2; r++) {
		r->budget = shared ? &c->budget : NULL;
		r->sink = shared ? &sink : NULL;
		r->ctx = shared ? c : NULL;
	}
	if (c->tls && shared)
		tls_tie(c->tls, &c->info, &c->budget, &shared->tls, &tls_sink, c);
	else if (c->tls)
		tls_tie(c->tls, NULL, NULL, NULL, NULL, NULL);
}

struct connection *connection_new(struct connection_shared *shared,
				  const struct capture_event *event)
{
	const struct capture_conn_open *open = &event->open;
	struct connection *c = calloc(1, sizeof(*c));
	int dir;

	if (!c)
		return NULL;
	c->id = event->conn;
	c->node = event->node;
	c->midstream = !open->from_start;
	c->framed = open->framed;
	c->has_client = open->role != CAPTURE_ROLE_UNKNOWN;
	c->client = open->role == CAPTURE_DIALLED ? CAPTURE_OUT : CAPTURE_IN;
	for (dir = 0; dir < 2; dir++)
		reassemble_init(&c->dirs[dir], (enum capture_dir)dir, NULL, NULL, NULL);
	connection_tie(c, shared);
	if (open->from_start) {
		reassemble_start(&c->dirs[CAPTURE_IN], open->in_isn);
		reassemble_start(&c->dirs[CAPTURE_OUT], open->out_isn);
	}
	return c;
}

bool connection_begins(const struct connection *c, const struct capture_event *event)
{
	return c->midstream && event->open.from_start && c->layer == LAYER_NEW &&
	       reassemble_is_untouched(&c->dirs[0]) && reassemble_is_untouched(&c->dirs[1]);
}

void connection_free(struct connection *c)
{
	if (!c)
		return;
	tls_free(c->tls);
	application_clear(c);
	reassemble_clear(&c->dirs[0]);
	reassemble_clear(&c->dirs[1]);
	search_end(c);
	free(c->claims);
	names_clear(&c->info);
	free(c);
}

static void take_candidate(struct connection *c, const struct capture_event *event)
{
	if (c->layer == LAYER_NEW) {
		if (!start_tls(c))
			return;
		feed_kept(c);
	}
	if (c->layer == LAYER_TLS)
		tls_candidate(c->tls, &event->candidate, event->time_ns);
}

static void take_frame(struct connection *c, const struct capture_frame *f)
{
	if (!c->framed || f->captured < WALK_HEADER_LEN || f->dir > CAPTURE_OUT)
		return;
	if (c->layer != LAYER_FRAMES || c->tls) {
		stop_reading(c, LAYER_FRAMES);
		c->info.decrypted = c->info.tls;
	}
	application_frame(c, f);
}

static void finish(struct connection *c, const struct capture_event *event)
{
	let_go(c);
	note_waiting(c);
	rest(c);
	if (event->facts)
		tell_progress(c, event->facts, event->time_ns);
	tell_info(c);
}

static void take_quiet(struct connection *c, bool quiet, uint64_t time_ns)
{
	c->quiet = quiet;
	if (!quiet) {
		if (c->tls)
			tls_expect_hint(c->tls);
		return;
	}
	application_begin_gap(c, CAPTURE_IN, time_ns, 0);
	application_begin_gap(c, CAPTURE_OUT, time_ns, 0);
}

void connection_event(struct connection *c, const struct capture_event *event)
{
	const struct capture_segment *seg = event->type == CAPTURE_SEGMENT ? &event->segment : NULL;
	struct reassemble *r = seg ? &c->dirs[seg->dir] : NULL;

	c->shared->now_ns = c->seen_ns = event->time_ns;
	if (!seg || !reassemble_covered(r, seg, event->facts))
		settle(c, event->facts, event->time_ns);
	if (seg && !seg->counted) {
		counted_claim(c, seg);
		reassemble_segment(r, seg, event->time_ns, event->facts);
	} else if (event->type == CAPTURE_COUNTING || event->type == CAPTURE_COUNT ||
		   event->type == CAPTURE_FORWARD) {
		counted_event(c, event);
	} else if (event->type == CAPTURE_CANDIDATE) {
		take_candidate(c, event);
	} else if (event->type == CAPTURE_FRAME) {
		take_frame(c, &event->frame);
	} else if (event->type == CAPTURE_QUIET) {
		take_quiet(c, event->quiet, event->time_ns);
	}
	if (seg)
		settle(c, event->facts, event->time_ns);
	if (seg && c->search && !c->search->user.set)
		unbound_fit(c, event->time_ns);
	finish(c, event);
}

void connection_secrets(struct connection *c, uint64_t time_ns)
{
	if (c->layer != LAYER_TLS)
		return;
	c->shared->now_ns = time_ns;
	tls_secrets(c->tls, c->search->user.set, time_ns);
	let_go(c);
	note_waiting(c);
	tell_info(c);
}

void connection_tick(struct connection *c, uint64_t time_ns)
{
	const struct connection_search *s = c->search;
	bool late;
	int dir;

	if (!c->tls || !s || !s->waiting_ns || c->framed)
		return;
	c->shared->now_ns = time_ns;
	tls_drain(c->tls, time_ns);
	late = time_ns >= s->waiting_ns + c->shared->patience_ns / 2;
	if (!s->user.set || late)
		unbound_fit(c, time_ns);
	if (late)
		unbound_try(c, time_ns);
	for (dir = 0; dir < 2; dir++) {
		uint64_t since = waits_since(c, (enum capture_dir)dir);

		if (since && time_ns >= s->waiting_ns + c->shared->patience_ns &&
		    c->info.stage >= STREAM_TLS_DONE)
			application_begin_gap(c, (enum capture_dir)dir, time_ns, 0);
	}
	let_go(c);
	note_waiting(c);
	tell_info(c);
}

void connection_close(struct connection *c, uint64_t time_ns)
{
	size_t kept;
	int dir;

	c->closing = true;
	for (dir = 0; dir < 2; dir++)
		reassemble_end(&c->dirs[dir], time_ns);
	if (c->tls && !c->framed) {
		if (connection_waiting_since(c))
			unbound_try_last(c, time_ns);
		tls_end(c->tls, time_ns);
	}
	for (dir = 0; dir < 2; dir++) {
		struct derp_sync *sync = c->apps[dir].derp.sync;

		kept = 0;
		if (sync)
			derp_sync_bytes(sync, &kept);
		if (kept)
			application_begin_gap(c, (enum capture_dir)dir, time_ns, kept);
		application_end_gap(c, (enum capture_dir)dir, time_ns);
	}
	note_waiting(c);
	tell_info(c);
}

static bool is_waiting(const struct connection *c)
{
	return c->info.unsynchronised ||
	       (c->tls && (tls_waiting_since(c->tls, TLS_CLIENT) || tls_waiting_since(c->tls, TLS_SERVER)));
}

void connection_stats(const struct connection *c, uint64_t time_ns, struct stream_stats *stats)
{
	bool waited = time_ns >= connection_waiting_since(c) + c->shared->patience_ns;

	stats->connections += has_data(c);
	stats->without_secret += c->info.secret_missing && waited;
	stats->unsynchronised += c->info.unsynchronised && !c->info.secret_missing;
	stats->waiting += is_waiting(c);
}
