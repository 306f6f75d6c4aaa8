// SPDX-License-Identifier: BSD-2-Clause
/* What a connection carries once TLS is off: HTTP until it is upgraded, then DERP. */
#include <stdlib.h>
#include <string.h>

#include "stream/connection.h"

/* After so many bytes without a frame a connection is something else. */
#define MAX_SEARCH	(1 << 20)

/* --- to the sink -------------------------------------------------------------------------- */

void application_raise(struct connection *c, enum stream_stage stage)
{
	/* A connection that is kept alive may be upgraded at last. */
	bool upgraded = c->info.stage == STREAM_OTHER &&
			(stage == STREAM_UPGRADED || stage == STREAM_DERP);

	if (stage > c->info.stage || upgraded)
		c->info.stage = stage;
}

void application_begin_gap(struct connection *c, enum capture_dir dir, uint64_t time_ns,
			   uint64_t bytes)
{
	struct connection_app *app = &c->apps[dir];
	struct stream_gap gap = { .node = c->node, .conn = c->id, .time_ns = time_ns,
				  .dir = dir, .begins = true };

	if (app->state == APP_IGNORED || c->layer == LAYER_OTHER)
		return;
	app->gap_bytes += bytes;
	c->shared->gone.gap_bytes += bytes;
	if (app->gap)
		return;
	app->gap = true;
	c->shared->gone.gaps++;
	c->shared->sink->gap(c->shared->sink->ctx, &gap);
}

void application_end_gap(struct connection *c, enum capture_dir dir, uint64_t time_ns)
{
	struct connection_app *app = &c->apps[dir];
	struct stream_gap gap = { .node = c->node, .conn = c->id, .time_ns = time_ns,
				  .dir = dir, .bytes = app->gap_bytes };

	if (!app->gap)
		return;
	app->gap = false;
	app->gap_bytes = 0;
	c->shared->sink->gap(c->shared->sink->ctx, &gap);
}

static void on_frame(void *ctx, enum capture_dir dir, struct stream_frame *f,
		     const uint8_t *whole, size_t whole_len)
{
	struct connection *c = ctx;
	const struct stream_sink *sink = c->shared->sink;

	application_end_gap(c, dir, f->time_ns);
	application_raise(c, STREAM_DERP);
	f->node = c->node;
	f->conn = c->id;
	sink->frame(sink->ctx, f);
	if (sink->whole)
		sink->whole(sink->ctx, f, whole, whole_len);
	/* It was on its way when the connection became quiet; of what comes behind it nothing is known. */
	if (c->quiet)
		application_begin_gap(c, dir, f->time_ns, 0);
}

static void on_skipped(void *ctx, enum capture_dir dir, uint64_t time_ns, uint64_t bytes)
{
	application_begin_gap(ctx, dir, time_ns, bytes);
}

static void on_resumed(void *ctx, enum capture_dir dir, uint64_t time_ns)
{
	struct connection *c = ctx;

	if (!c->quiet)
		application_end_gap(c, dir, time_ns);
	application_raise(c, STREAM_DERP);
}

/* --- DERP --------------------------------------------------------------------------------- */

uint8_t application_talker(const struct connection *c, enum capture_dir dir)
{
	return !c->has_client ? DERP_EITHER : c->client == dir ? DERP_CLIENT : DERP_SERVER;
}

struct derp_host application_derp(struct connection *c, enum capture_dir dir)
{
	static const struct derp_sink sink = { on_frame, on_skipped, on_resumed };

	return (struct derp_host){ .dir = dir, .talker = application_talker(c, dir),
				   .want_whole = c->shared->sink->whole != NULL,
				   .budget = &c->budget, .sink = &sink, .ctx = c };
}

static void end_derp(struct connection *c, enum capture_dir dir)
{
	struct connection_app *app = &c->apps[dir];

	derp_clear(&app->derp, &c->budget);
	free(app->websocket);
	app->websocket = NULL;
}

static void start_derp(struct connection *c, enum capture_dir dir, bool synced, bool websocket)
{
	struct connection_app *app = &c->apps[dir];

	end_derp(c, dir);
	derp_init(&app->derp, synced);
	app->state = websocket ? APP_WEBSOCKET : APP_DERP;
	app->websocket_lost = app->websocket_away = false;
	if (!websocket)
		return;
	c->info.websocket = true;
	app->websocket = calloc(1, sizeof(*app->websocket));
	app->websocket_lost = !app->websocket;
}

/* What follows was not told to follow what was counted. */
static void come_back(struct connection *c, enum capture_dir dir, uint64_t time_ns)
{
	const struct derp_host host = application_derp(c, dir);
	struct connection_app *app = &c->apps[dir];

	if (!app->websocket_away)
		return;
	app->websocket_away = false;
	app->websocket_lost = true;
	derp_gap(&app->derp, &host, time_ns, 0, 0, false);
}

static void feed_websocket(struct connection *c, const struct derp_chunk *chunk,
			   enum capture_dir dir)
{
	const struct derp_host host = application_derp(c, dir);
	struct connection_app *app = &c->apps[dir];
	size_t done = 0, n, used, from, out;

	while (done < chunk->len) {
		uint8_t *copy = c->shared->unmasked;
		struct derp_chunk part = *chunk;

		n = chunk->len - done;
		if (n > sizeof(c->shared->unmasked))
			n = sizeof(c->shared->unmasked);
		memcpy(copy, chunk->data + done, n);
		if (!websocket_next(app->websocket, copy, n, &used, &from, &out)) {
			app->websocket_lost = true;
			derp_gap(&app->derp, &host, chunk->time_ns, 0, 0, false);
			application_begin_gap(c, dir, chunk->time_ns, chunk->len - done);
			return;
		}
		part.framed = true;
		part.inner = false;
		part.data = copy + from;
		part.len = out;
		part.tcp_pos += done + from;
		if (out)
			derp_feed(&app->derp, &host, &part);
		done += used;
	}
}

bool application_websocket(const struct connection *c, const struct derp_chunk *chunk,
			   enum capture_dir dir)
{
	uint8_t head[WEB_HEADER_MAX + WALK_HEADER_LEN];
	size_t used, from, out, len = chunk->len < sizeof(head) ? chunk->len : sizeof(head);
	struct websocket w = { 0 };

	/* A binary message; its first frame may not be its last. */
	if (chunk->inner || len < 2 || (chunk->data[0] & ~WEB_FIN) != WEB_BINARY)
		return false;
	memcpy(head, chunk->data, len);
	if (!websocket_next(&w, head, len, &used, &from, &out) || out < WALK_HEADER_LEN)
		return false;
	if (c->has_client && w.masked != (c->client == dir))
		return false;
	return derp_plausible(head + from, application_talker(c, dir));
}

/* --- HTTP --------------------------------------------------------------------------------- */

static bool start_http(struct connection *c)
{
	if (!c->http && budget_take(&c->budget, sizeof(*c->http))) {
		c->http = calloc(1, sizeof(*c->http));
		if (!c->http)
			budget_give(&c->budget, sizeof(*c->http));
	}
	return c->http;
}

static void end_http(struct connection *c)
{
	if (!c->http)
		return;
	http_clear(c->http, &c->budget);
	budget_give(&c->budget, sizeof(*c->http));
	free(c->http);
	c->http = NULL;
}

static bool in_http(const struct connection_app *app)
{
	return app->state == APP_NEW || app->state == APP_HTTP;
}

static bool is_derp(const struct connection *c)
{
	return c->info.stage == STREAM_UPGRADED || c->info.stage == STREAM_DERP;
}

/* It is something else, in both directions. */
static void ignore(struct connection *c)
{
	enum capture_dir dir;

	for (dir = CAPTURE_IN; dir <= CAPTURE_OUT; dir++) {
		struct connection_app *app = &c->apps[dir];

		application_end_gap(c, dir, c->shared->now_ns);
		end_derp(c, dir);
		app->state = APP_IGNORED;
	}
	application_raise(c, STREAM_OTHER);
}

static void advance(struct derp_chunk *chunk, size_t used)
{
	chunk->data += used;
	chunk->len -= used;
	chunk->tcp_pos += used;
	chunk->inner |= used > 0;
}

/* Takes HTTP off @chunk's front. */
static void feed_http(struct connection *c, struct derp_chunk *chunk, enum capture_dir dir)
{
	int side = c->has_client && c->client != dir;
	enum http_result result;
	size_t used;

	if (!start_http(c)) {
		application_begin_gap(c, dir, chunk->time_ns, chunk->len);
		c->apps[dir].state = APP_IGNORED;
		return;
	}
	result = http_feed(c->http, side, chunk->data, chunk->len, &c->budget, &c->info, &used);
	advance(chunk, used);
	if (result == HTTP_UPGRADED) {
		application_raise(c, STREAM_UPGRADED);
		start_derp(c, dir, true, c->info.websocket);
	} else if (result == HTTP_OTHER && is_derp(c)) {
		start_derp(c, dir, false, false);
	} else if (result == HTTP_OTHER) {
		ignore(c);
	}
	if (!in_http(&c->apps[0]) && !in_http(&c->apps[1]))
		end_http(c);
}

/* The first bytes of a direction, or the first after a loss. */
static void sniff(struct connection *c, struct derp_chunk *chunk, enum capture_dir dir)
{
	struct connection_app *app = &c->apps[dir];
	bool fresh = !c->midstream && !app->lost;

	if (!c->has_client && http_starts(0, chunk->data, chunk->len)) {
		c->has_client = true;
		c->client = dir;
	} else if (!c->has_client && http_starts(1, chunk->data, chunk->len)) {
		c->has_client = true;
		c->client = dir == CAPTURE_IN ? CAPTURE_OUT : CAPTURE_IN;
	}
	if (fresh)
		application_end_gap(c, dir, chunk->time_ns);
	if (fresh || (chunk->len >= 5 &&
		      http_starts(c->has_client && c->client != dir, chunk->data, chunk->len)))
		app->state = APP_HTTP;
	else if (c->info.stage == STREAM_OTHER) /* the rest of an answer, most likely */
		chunk->len = 0;
	else
		start_derp(c, dir, false, false);
}

/* --- frames that are told ----------------------------------------------------------------- */

void application_frame(struct connection *c, const struct capture_frame *f)
{
	struct connection_app *app = &c->apps[f->dir];
	struct stream_frame frame = {
		.time_ns = c->shared->now_ns, .dir = f->dir, .type = f->data[0],
		.len = walk_derp_len(f->data), .head = f->data + WALK_HEADER_LEN,
		.digest = f->digest, .tcp_end = c->dirs[f->dir].next, .derp_off = f->offset,
		.derp_from_start = f->from_start,
	};
	size_t captured = f->captured - WALK_HEADER_LEN;
	uint64_t due = app->told ? app->derp.off : 0;

	frame.head_len = captured < frame.len ? (uint32_t)captured : frame.len;
	/* Whoever made the file missed something, or the file did. */
	if ((app->told || f->from_start) && f->offset != due)
		application_begin_gap(c, f->dir, c->shared->now_ns, f->offset > due ? f->offset - due : 0);
	app->told = true;
	app->derp.off = f->offset + WALK_HEADER_LEN + frame.len;
	on_frame(c, f->dir, &frame, f->data, WALK_HEADER_LEN + frame.head_len);
}

/* --- the door ----------------------------------------------------------------------------- */

void application_feed(struct connection *c, struct derp_chunk *chunk, enum capture_dir dir)
{
	struct connection_app *app = &c->apps[dir];
	struct derp_host host;

	while (chunk->len) {
		switch (app->state) {
		case APP_NEW:
			sniff(c, chunk, dir);
			break;
		case APP_HTTP:
			feed_http(c, chunk, dir);
			break;
		case APP_WEBSOCKET:
			come_back(c, dir, chunk->time_ns);
			if (app->websocket && app->websocket_lost && application_websocket(c, chunk, dir)) {
				app->websocket_lost = false;
				*app->websocket = (struct websocket){ 0 };
			}
			if (app->websocket_lost)
				application_begin_gap(c, dir, chunk->time_ns, chunk->len);
			else
				feed_websocket(c, chunk, dir);
			return;
		case APP_DERP:
			if (!app->derp.synced && application_websocket(c, chunk, dir)) {
				start_derp(c, dir, false, true);
				break;
			}
			host = application_derp(c, dir);
			derp_feed(&app->derp, &host, chunk);
			/* Whatever it is, it has no frames. */
			if (!app->derp.synced && c->info.stage < STREAM_UPGRADED) {
				app->searched += chunk->len;
				if (app->searched > MAX_SEARCH)
					ignore(c);
			}
			return;
		default:
			return;
		}
	}
}

bool application_feed_parts(struct connection *c, struct derp_parts *parts, enum capture_dir dir,
			    uint64_t time_ns, uint64_t tcp_end)
{
	const struct derp_chunk chunk = { .time_ns = time_ns, .tcp_end = tcp_end, .record = true,
					  .parts = true, .data = parts->data, .len = parts->len };
	const struct derp_host host = application_derp(c, dir);
	struct connection_app *app = &c->apps[dir];

	if (app->state == APP_DERP && parts->begins && !app->derp.synced)
		derp_begin(&app->derp, &host, time_ns);
	if (app->state != APP_DERP || !derp_plan(&app->derp, &host, parts))
		return false;
	derp_feed(&app->derp, &host, &chunk);
	return true;
}

void application_gap(struct connection *c, enum capture_dir dir, uint64_t time_ns, uint64_t pos,
		     uint64_t bytes, bool exact)
{
	const struct derp_host host = application_derp(c, dir);
	struct connection_app *app = &c->apps[dir];

	app->lost = true;
	switch (app->state) {
	case APP_DERP:
		derp_gap(&app->derp, &host, time_ns, pos, bytes, exact);
		return;
	case APP_WEBSOCKET:
		come_back(c, dir, time_ns);
		derp_gap(&app->derp, &host, time_ns, pos, 0, false);
		if (!exact || !app->websocket || !websocket_skip(app->websocket, bytes))
			app->websocket_lost = true;
		break;
	case APP_HTTP:
		/* The upgrade may be in it. */
		app->state = APP_NEW;
		break;
	default:
		break;
	}
	application_begin_gap(c, dir, time_ns, bytes);
}

void application_clear(struct connection *c)
{
	int dir;

	for (dir = 0; dir < 2; dir++)
		end_derp(c, (enum capture_dir)dir);
	end_http(c);
}
