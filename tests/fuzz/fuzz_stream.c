// SPDX-License-Identifier: BSD-2-Clause
/*
 * A whole connection, event by event: segments in (calls 0) and out (1), each with six bytes ahead:
 * sequence number, bytes of it that were not captured, flags (8: it is a record's start; above: the
 * kernel's number of the record); facts (2), a secret (3: label, random,
 * secret), a candidate (4), a tick (5), close (6), a frame that is told (7: direction, offset). The first
 * byte says how it was opened.
 */
#include "ops.h"
#include "stream/stream.h"
#include "walk.h"

struct seen {
	bool gap[2];
	uint64_t in_arrived;
	bool closed, framed;
};

static void on_frame(void *ctx, const struct stream_frame *f)
{
	struct seen *s = ctx;
	uint32_t least = f->len < 128 ? f->len : 128;

	must(!s->closed && !s->gap[f->dir] && f->conn == 1 && f->node == 1);
	must((f->head_len >= least || s->framed) && f->head_len <= f->len);
	op_read(f->head, f->head_len);
}

static void on_progress(void *ctx, const struct stream_progress *p)
{
	struct seen *s = ctx;

	must(p->in_arrived >= s->in_arrived && p->in_read <= p->in_arrived &&
	     p->out_acked <= p->out_sent);
	s->in_arrived = p->in_arrived;
}

static void on_gap(void *ctx, const struct stream_gap *g)
{
	struct seen *s = ctx;

	must(s->gap[g->dir] != g->begins);
	s->gap[g->dir] = g->begins;
}

static bool on_foretell(void *ctx, uint32_t node, uint64_t conn, const struct capture_masks *m)
{
	(void)ctx;
	must(node == 1 && conn == 1 && m->count && m->count <= CAPTURE_MASKS_AHEAD);
	op_read(m->masks[0], m->count * sizeof(*m->masks));
	return true;
}

static void on_info(void *ctx, uint32_t node, uint64_t conn, const struct stream_info *info)
{
	(void)ctx;
	must(node == 1 && conn == 1 && info->stage <= STREAM_OTHER);
}

static void on_whole(void *ctx, const struct stream_frame *f, const uint8_t *bytes, size_t len)
{
	(void)ctx;
	must(len >= WALK_HEADER_LEN && len <= WALK_HEADER_LEN + (size_t)f->len &&
	     bytes[0] == f->type);
}

static void segment(struct capture_event *e, const struct op *op, enum capture_dir dir)
{
	size_t len = op->len - 6;

	e->type = CAPTURE_SEGMENT;
	e->segment = (struct capture_segment){ .dir = dir, .seq = (uint32_t)op_number(op, 4),
					       .flags = op->arg[5] & 7, .captured = (uint32_t)len,
					       .len = (uint32_t)len + op->arg[4],
					       .data = op->arg + 6 };
	e->segment.mark = op->arg[5] >> 4;
	e->segment.head = op->arg[5] & 8;
	if (e->segment.head)
		e->segment.len += op->arg[4] * 15;
}

static void secret(struct capture_event *e, const struct op *op)
{
	static const char *const labels[] = {
		"CLIENT_RANDOM", "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
		"SERVER_HANDSHAKE_TRAFFIC_SECRET", "CLIENT_TRAFFIC_SECRET_0",
		"SERVER_TRAFFIC_SECRET_0",
	};
	size_t len = op->len - 33;

	e->type = CAPTURE_SECRET;
	e->secret.label = labels[op->arg[0] % 5];
	memcpy(e->secret.random, op->arg + 1, 32);
	e->secret.len = (uint8_t)(len < 48 ? len : 48);
	memcpy(e->secret.secret, op->arg + 33, e->secret.len);
}

static void candidate(struct capture_event *e, const struct op *op)
{
	size_t len = op->len - 3;

	e->type = CAPTURE_CANDIDATE;
	e->candidate.is_master = op->arg[0] & 1;
	e->candidate.len = op->arg[0] & 2 ? 48 : 32;
	e->candidate.seq = op->arg[1] | (uint64_t)op->arg[2] << 8;
	memcpy(e->candidate.secret, op->arg + 3, len < 48 ? len : 48);
}

/* False: it makes no event. */
static bool make_event(struct capture_event *e, struct capture_facts *f, const struct op *op)
{
	static const size_t least[] = { 6, 6, 13, 33, 3, 4, 1, 2 };
	uint8_t code = op->code % 8;

	if (op->len < least[code])
		return false;
	switch (code) {
	case 0:
	case 1:
		segment(e, op, code ? CAPTURE_OUT : CAPTURE_IN);
		break;
	case 2:
		e->type = CAPTURE_FACTS;
		f->has_seq = op->arg[12] & 1;
		f->has_read = op->arg[12] & 2;
		f->has_queues = op->arg[12] & 4;
		f->tcp_state = op->arg[12] >> 4;
		memcpy(&f->rcv_nxt, op->arg, 4);
		memcpy(&f->snd_una, op->arg + 4, 4);
		f->copied_seq = f->rcv_nxt - op->arg[8];
		f->snd_nxt = f->snd_una + op->arg[9];
		f->write_seq = f->snd_nxt + op->arg[10];
		f->rcv_wnd = (uint32_t)op->arg[11] << 8;
		break;
	case 3:
		secret(e, op);
		break;
	case 4:
		candidate(e, op);
		break;
	case 5:
		e->type = CAPTURE_TICK;
		e->time_ns += op_number(op, 4);
		break;
	case 6:
		e->type = CAPTURE_CONN_CLOSE;
		break;
	default:
		e->type = CAPTURE_FRAME;
		e->frame = (struct capture_frame){
			.dir = op->arg[0] & 1, .from_start = op->arg[0] & 2, .offset = op->arg[1],
			.captured = (uint32_t)op->len - 2, .data = op->arg + 2 };
	}
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct stream_limits limits = { .connection_bytes = 1 << 16, .total_bytes = 1 << 16 };
	struct seen seen = { 0 };
	struct stream_sink sink = { .ctx = &seen, .frame = on_frame, .progress = on_progress,
				    .gap = on_gap, .info = on_info, .foretell = on_foretell };
	struct capture_event e = { .type = CAPTURE_CONN_OPEN, .time_ns = 1, .node = 1, .conn = 1 };
	struct capture_facts facts = { 0 };
	struct stream_stats stats;
	struct streams *s;
	struct op op;

	if (!size)
		return 0;
	if (data[0] & 8)
		sink.whole = on_whole;
	s = streams_new(&sink, &limits);
	must(s);
	e.open.from_start = data[0] & 1;
	e.open.framed = seen.framed = data[0] & 16;
	e.open.role = (data[0] >> 1 & 3) % 3;
	streams_event(s, &e);
	data++;
	size--;
	while (op_next(&data, &size, &op)) {
		e.time_ns += 1000;
		if (make_event(&e, &facts, &op)) {
			e.facts = facts.has_seq || facts.has_queues ? &facts : NULL;
			streams_event(s, &e);
			seen.closed |= e.type == CAPTURE_CONN_CLOSE;
			must(!seen.closed || (!seen.gap[0] && !seen.gap[1]));
		}
		op_free(&op);
	}
	streams_want_search(s, 1, e.time_ns);
	streams_stats(s, &stats);
	must(stats.connections <= 1 && stats.without_secret <= 1);
	streams_free(s);
	return 0;
}
