// SPDX-License-Identifier: BSD-2-Clause
/*
 * Plaintext connections whose frames the kernel counts. Its walk says of segments that a frame begins
 * with them; where the stream, when it comes there, is at a frame's begin too, the walk is right, and
 * counting may begin. Where it ends the stream goes on with the frame that was under way, and in a
 * WebSocket with that one's frame, too.
 */
#include <string.h>

#include "stream/connection.h"

static bool is_plain_derp(const struct connection *c, enum capture_dir dir)
{
	return c->layer == LAYER_PLAIN && c->apps[dir].state == APP_DERP;
}

static bool is_websocket(const struct connection *c, enum capture_dir dir)
{
	return c->layer == LAYER_PLAIN && c->apps[dir].state == APP_WEBSOCKET &&
	       c->apps[dir].websocket;
}

/* Is the direction where the walk @epoch says that it is? */
static bool stands_there(const struct connection *c, enum capture_dir dir, uint32_t epoch)
{
	const struct connection_app *app = &c->apps[dir];

	if (!derp_at_boundary(&app->derp))
		return false;
	if (!(epoch & CAPTURE_EPOCH_WEB))
		return is_plain_derp(c, dir);
	return is_websocket(c, dir) && !app->websocket_lost && websocket_at_boundary(app->websocket);
}

void counted_claim(struct connection *c, const struct capture_segment *seg)
{
	const struct reassemble *r = &c->dirs[seg->dir];
	struct connection_claim *claim;
	uint32_t number = seg->epoch;

	if (c->layer == LAYER_TLS)
		number = foretold_may(c, seg->dir) ? seg->mark : 0;
	if (!number || !r->started)
		return;
	if (!c->claims)
		c->claims = calloc(2, sizeof(*c->claims));
	claim = c->claims ? &c->claims[seg->dir] : NULL;
	if (!claim || number == claim->agreed || claim->claim)
		return;
	claim->claim = number;
	claim->pos = reassemble_position(r, seg->seq);
}

void counted_reach(struct connection *c, enum capture_dir dir, uint64_t pos)
{
	const struct stream_sink *sink = c->shared->sink;
	struct connection_claim *claim = c->claims ? &c->claims[dir] : NULL;
	uint32_t epoch;

	if (!claim || !claim->claim || pos < claim->pos)
		return;
	epoch = claim->claim;
	claim->claim = 0;
	if (pos == claim->pos && c->layer == LAYER_TLS)
		foretold_reach(c, dir, epoch);
	else if (pos == claim->pos && stands_there(c, dir, epoch) && sink->agree &&
		 sink->agree(sink->ctx, c->node, c->id, dir, epoch))
		claim->agreed = epoch;
}

/* What was counted went over messages that nobody else saw: where the next one begins @at alone says. */
static void resume_websocket(struct connection *c, enum capture_dir dir, uint64_t time_ns,
			     const struct capture_counting *at)
{
	const struct derp_host host = application_derp(c, dir);
	struct connection_app *app = &c->apps[dir];

	app->websocket_away = !at || !at->web.on;
	if (app->websocket_away) {
		derp_clear(&app->derp, &c->budget);
		return;
	}
	app->websocket_lost = false;
	*app->websocket = (struct websocket){
		.have = at->web.have, .data = !at->web.control, .masked = at->web.mask != 0,
		.mask = at->web.mask, .left = at->web.left,
	};
	memcpy(app->websocket->head, at->web.head, sizeof(app->websocket->head));
	derp_resume(&app->derp, &host, time_ns, 0, at);
}

void counted_resume(void *ctx, enum capture_dir dir, uint64_t pos, uint64_t time_ns,
		    uint64_t bytes, const struct capture_counting *at)
{
	struct connection *c = ctx;
	const struct derp_host host = application_derp(c, dir);

	c->info.bytes[dir] += bytes;
	if (is_websocket(c, dir))
		resume_websocket(c, dir, time_ns, at);
	if (!is_plain_derp(c, dir))
		return;
	if (at)
		derp_resume(&c->apps[dir].derp, &host, time_ns, pos, at);
	else
		derp_pass(&c->apps[dir].derp, &host, pos);
}

static void tell(struct connection *c, const struct capture_event *event)
{
	const struct stream_sink *sink = c->shared->sink;
	const struct capture_count *n = &event->count;
	struct reassemble *r = &c->dirs[n->dir];
	struct stream_run run = {
		.node = c->node, .conn = c->id, .first_ns = n->first_ns, .time_ns = event->time_ns,
		.dir = n->dir, .type = n->dir == CAPTURE_IN ? DERP_SEND_PACKET : DERP_RECV_PACKET,
		.key = n->key, .disco = n->disco, .wg = n->wg, .frames = n->frames,
		.bytes = n->bytes, .tcp_end = reassemble_position(r, n->seq),
	};

	if (n->on)
		reassemble_counted(r, n->seq);
	if (sink->run)
		sink->run(sink->ctx, &run);
}

void counted_forward(void *ctx, enum capture_dir dir, uint64_t pos, uint64_t time_ns,
		     uint64_t bytes, const struct capture_forward *f)
{
	struct connection *c = ctx;
	const struct derp_host host = application_derp(c, dir);

	c->info.bytes[dir] += bytes;
	if (is_plain_derp(c, dir))
		derp_named(&c->apps[dir].derp, &host, time_ns, pos, f);
}

void counted_event(struct connection *c, const struct capture_event *event)
{
	if (event->type == CAPTURE_COUNT)
		tell(c, event);
	else if (event->type == CAPTURE_FORWARD)
		reassemble_forward(&c->dirs[event->forward.dir], &event->forward, event->time_ns);
	else
		reassemble_counting(&c->dirs[event->counting.dir], &event->counting,
				    event->time_ns);
}
