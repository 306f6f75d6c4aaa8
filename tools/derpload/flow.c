/* SPDX-License-Identifier: BSD-2-Clause */
#include "flow.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "frame.h"
#include "loop.h"
#include "mem.h"
#include "out.h"
#include "pair.h"

/* A rate that fell behind catches up by no more than this. */
#define CATCH_UP_NS (100 * NSEC_PER_MSEC)

struct flow_group {
	char *id;
	uint32_t open;
};

struct flow {
	struct flow *prev, *next;		/* in one of the peer's two lists */
	struct flow *all_prev, *all_next;
	struct peer *peer;
	struct pair *pair;
	struct flow_group *group;
	struct loop_timer timer;
	struct flow_options o;			/* id is ours */
	bool forward;
	bool ready;				/* which list */
	const char *why;			/* why it ends early */
	uint64_t made, sent, sent_bytes, requested;
	uint64_t due_ns, gap_ns;		/* of the next burst; between bursts */
};

static struct flow *flows;			/* all of them */
static uint32_t active;

uint32_t flow_active(void)
{
	return active;
}

struct flow_group *flow_group_begin(const char *id)
{
	struct flow_group *g = mem_zero(1, sizeof(*g));

	g->id = mem_string(id ? id : "");
	g->open = 1;
	return g;
}

void flow_group_end(struct flow_group *g)
{
	if (!g || --g->open)
		return;
	out_begin("sent_all");
	out_str("id", g->id);
	out_end();
	free(g->id);
	free(g);
}

static void move(struct flow *f, bool ready)
{
	if (f->ready)
		DL_DELETE(f->peer->ready, f);
	else
		DL_DELETE(f->peer->idle, f);
	f->ready = ready;
	if (ready)
		DL_APPEND(f->peer->ready, f);
	else
		DL_APPEND(f->peer->idle, f);
}

static void finish(struct flow *f)
{
	const struct peer *src = peer_find_key(f->pair->keys);
	const struct peer *dst = peer_find_key(f->pair->keys + 32);

	out_begin("sent");
	if (f->o.id)
		out_str("id", f->o.id);
	out_key("src", f->pair->keys);
	out_key("dst", f->pair->keys + 32);
	out_str("peer", f->peer->name);
	if (src)
		out_str("src_name", src->name);
	if (dst)
		out_str("dst_name", dst->name);
	out_u64("count", f->sent);
	out_u64("bytes", f->sent_bytes);
	if (f->sent < f->requested) {
		out_u64("requested", f->requested);
		out_str("why", f->why);
	}
	out_end();
	loop_timer_clear(&f->timer);
	if (f->ready)
		DL_DELETE(f->peer->ready, f);
	else
		DL_DELETE(f->peer->idle, f);
	DL_DELETE2(flows, f, all_prev, all_next);
	active--;
	flow_group_end(f->group);
	free((char *)f->o.id);
	free(f);
}

static void timer_fired(struct loop_timer *t)
{
	struct flow *f = (struct flow *)((char *)t - offsetof(struct flow, timer));

	move(f, true);
	io_wake(f->peer);
}

int flow_start(struct peer *p, const uint8_t src[static 32], const uint8_t dst[static 32],
	       bool forward, const struct flow_options *o, struct flow_group *group, char *err,
	       size_t err_len)
{
	struct pair *pair;
	struct flow *f;

	if (p->state == PEER_DOWN || p->state == PEER_CLOSING) {
		snprintf(err, err_len, "peer %s is down", p->name);
		return -ENOTCONN;
	}
	pair = pair_get(src, dst);
	if (!pair || pair->reserved + o->count > PAYLOAD_SEQ_MAX) {
		snprintf(err, err_len, pair ? "more than %llu packets for one pair"
					    : "more than %llu pairs",
			 pair ? PAYLOAD_SEQ_MAX : (unsigned long long)PAIR_MAX);
		return -ERANGE;
	}
	pair->sends = true;
	pair->reserved += o->count;
	f = mem_zero(1, sizeof(*f));
	f->o = *o;
	f->o.id = o->id ? mem_string(o->id) : NULL;
	f->requested = o->count;
	f->peer = p;
	f->pair = pair;
	f->forward = forward;
	f->group = group;
	if (group)
		group->open++;
	f->timer.fire = timer_fired;
	f->gap_ns = o->rate ? o->burst * NSEC_PER_SEC / o->rate : 0;
	f->ready = true;
	DL_APPEND(p->ready, f);
	DL_APPEND2(flows, f, all_prev, all_next);
	active++;
	io_wake(p);
	return 0;
}

/* One packet into the peer's queue; returns its bytes there. */
static size_t make_packet(struct flow *f)
{
	uint32_t head = FRAME_HEAD + (f->forward ? 2 * FRAME_KEY : FRAME_KEY);
	struct pair *pair = f->pair;
	struct payload_plan plan;
	uint64_t seq;
	uint8_t *p;

	plan = payload_plan(f->o.kind, f->o.size[0], f->o.size[1], peer_settings.seed, &pair->mark,
			    pair->planned++);
	seq = plan.numbered ? pair->next_seq++ : pair->next_short++;
	p = outq_put(&f->peer->out, head + plan.len);
	frame_head(p, f->forward ? FRAME_FORWARD_PACKET : FRAME_SEND_PACKET,
		   head - FRAME_HEAD + plan.len);
	if (f->forward)
		memcpy(p + FRAME_HEAD, pair->keys, 64);
	else
		memcpy(p + FRAME_HEAD, pair->keys + 32, 32);
	payload_write(p + head, &plan, peer_settings.seed, &pair->mark, seq,
		      loop_clock());
	if (plan.numbered)
		pair->pending++;
	outq_record(&f->peer->out, f, plan.numbered ? seq : PAIR_NONE, plan.len);
	f->made++;
	return head + plan.len;
}

/* When the flow writes next: at once, at its time, or never again. */
static void plan_next(struct flow *f)
{
	uint64_t now;

	if (f->made == f->o.count) {
		move(f, false);
		return;
	}
	if (!f->gap_ns) {
		move(f, true);
		return;
	}
	now = loop_clock();
	f->due_ns += f->gap_ns;
	/* The time before the first packet, while the peer connected, is not made up for. */
	if (f->made <= f->o.burst)
		f->due_ns = now + f->gap_ns;
	else if (f->due_ns + CATCH_UP_NS < now)
		f->due_ns = now - CATCH_UP_NS;
	move(f, f->due_ns <= now);
	if (!f->ready)
		loop_timer_set(&f->timer, f->due_ns);
}

bool flow_fill(struct peer *p)
{
	struct flow *f = p->ready;
	size_t bytes = 0, last = 0, keep = 0;

	if (!f)
		return false;
	for (uint64_t n = 0; n < f->o.burst && f->made < f->o.count && bytes < FLOW_BURST_BYTES;
	     n++) {
		last = make_packet(f);
		bytes += last;
	}
	/* The part of the last packet that travels with the next write. */
	if (f->o.coalesce && f->made < f->o.count)
		keep = 1 + payload_mix(f->pair->mark.salt, f->made) % (last - 1);
	outq_close_unit(&p->out, keep);
	plan_next(f);
	return true;
}

uint32_t flow_stop(const char *id)
{
	struct flow *f, *next;
	uint32_t n = 0;

	DL_FOREACH_SAFE2(flows, f, next, all_next) {
		struct peer *p = f->peer;

		if (id && (!f->o.id || strcmp(id, f->o.id)))
			continue;
		n++;
		f->o.count = f->made;
		f->why = "stopped";
		if (p->state >= PEER_UP)
			outq_close_unit(&p->out, 0);
		loop_timer_clear(&f->timer);
		if (f->sent == f->made) {
			finish(f);
			continue;
		}
		move(f, false);
		io_wake(p);
	}
	return n;
}

void flow_sent(const struct outq_record *r)
{
	struct flow *f = r->flow;

	pair_sent(f->pair, r->seq, r->payload_len);
	f->peer->sent++;
	if (f->forward)
		f->peer->forwarded++;
	f->sent++;
	f->sent_bytes += r->payload_len;
	if (f->sent == f->o.count)
		finish(f);
}

void flow_unsent(const struct outq_record *r)
{
	pair_unsent(r->flow->pair, r->seq);
}

void flow_fail(struct peer *p, const char *why)
{
	while (p->ready || p->idle) {
		struct flow *f = p->ready ? p->ready : p->idle;

		f->why = why;
		finish(f);
	}
}
