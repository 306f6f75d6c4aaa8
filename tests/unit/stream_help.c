// SPDX-License-Identifier: BSD-2-Clause
#include "heads.h"
#include "stream_help.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>


uint32_t chance_next(struct chance *c)
{
	c->state = c->state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(c->state >> 33);
}

uint32_t chance_between(struct chance *c, uint32_t low, uint32_t high)
{
	return low + chance_next(c) % (high - low + 1);
}

bool chance_percent(struct chance *c, unsigned int p)
{
	return p && chance_next(c) % 100 < p;
}

void bytes_add(struct bytes *b, const void *p, size_t len)
{
	if (b->len + len > b->cap) {
		b->cap = (b->len + len) * 2 + 256;
		b->p = realloc(b->p, b->cap);
		assert_non_null(b->p);
	}
	if (len)
		memcpy(b->p + b->len, p, len);
	b->len += len;
}

void bytes_free(struct bytes *b)
{
	free(b->p);
	*b = (struct bytes){ 0 };
}

static uint64_t digest(const uint8_t *p, size_t len)
{
	uint64_t h = 0xcbf29ce484222325ULL;
	size_t i, n = len < 128 ? len : 128;

	for (i = 0; i < n; i++)
		h = (h ^ p[i]) * 0x100000001b3ULL;
	return h;
}

static struct seen_frame *seen_new(struct seen *s)
{
	if (s->count == s->cap) {
		s->cap = s->cap * 2 + 64;
		s->frames = realloc(s->frames, s->cap * sizeof(*s->frames));
		assert_non_null(s->frames);
	}
	memset(&s->frames[s->count], 0, sizeof(s->frames[0]));
	return &s->frames[s->count++];
}

void seen_add(struct seen *s, enum capture_dir dir, uint8_t type, const uint8_t *payload,
	      uint32_t len)
{
	struct seen_frame *f = seen_new(s);

	f->dir = dir;
	f->type = type;
	f->len = len;
	f->digest = digest(payload, len);
}

void seen_free(struct seen *s)
{
	free(s->frames);
	s->frames = NULL;
	s->count = s->cap = 0;
}

size_t seen_count(const struct seen *s, enum capture_dir dir)
{
	size_t i, n = 0;

	for (i = 0; i < s->count; i++)
		n += s->frames[i].dir == dir;
	return n;
}

int seen_match(const struct seen *want, const struct seen *got, enum capture_dir dir)
{
	size_t w = 0, g;
	int n = 0;

	for (g = 0; g < got->count; g++) {
		const struct seen_frame *f = &got->frames[g];

		if (f->dir != dir)
			continue;
		for (; w < want->count; w++) {
			const struct seen_frame *e = &want->frames[w];

			if (e->dir == dir && e->type == f->type && e->len == f->len &&
			    e->digest == f->digest)
				break;
		}
		if (w++ == want->count)
			return -1;
		n++;
	}
	return n;
}

static void on_frame(void *ctx, const struct stream_frame *f)
{
	struct seen *s = ctx;
	struct seen_frame *n = seen_new(s);
	uint32_t least = f->len < 128 ? f->len : 128;
	uint8_t copy[128];

	assert_int_equal(f->conn, HELP_CONN);
	assert_int_equal(f->node, HELP_NODE);
	assert_true(f->head_len >= least && f->head_len <= f->len);
	assert_false(s->gap_open[f->dir]);
	memcpy(copy, f->head, least);
	n->dir = f->dir;
	n->type = f->type;
	n->len = f->len;
	n->head_len = f->head_len;
	n->digest = digest(copy, f->len);
	n->tcp_end = f->tcp_end;
	n->derp_off = f->derp_off;
	n->from_start = f->derp_from_start;
}

static void on_progress(void *ctx, const struct stream_progress *p)
{
	struct seen *s = ctx;

	assert_true(p->in_arrived >= s->in_arrived && p->out_sent >= s->out_sent);
	assert_true(p->in_read <= p->in_arrived && p->out_acked <= p->out_sent);
	s->in_arrived = p->in_arrived;
	if (p->in_read > s->in_read)
		s->in_read = p->in_read;
	if (p->out_acked > s->out_acked)
		s->out_acked = p->out_acked;
	s->out_sent = p->out_sent;
}

static void on_gap(void *ctx, const struct stream_gap *g)
{
	struct seen *s = ctx;

	assert_int_equal(s->gap_open[g->dir], !g->begins);
	s->gap_open[g->dir] = g->begins;
	if (s->gap_count < sizeof(s->gaps) / sizeof(s->gaps[0]))
		s->gaps[s->gap_count] = *g;
	s->gap_count++;
}

static void on_info(void *ctx, uint32_t node, uint64_t conn, const struct stream_info *info)
{
	struct seen *s = ctx;

	assert_int_equal(node, HELP_NODE);
	assert_int_equal(conn, HELP_CONN);
	s->info = *info;
	s->was_other |= info->stage == STREAM_OTHER;
	if (info->names)
		s->names = *info->names;
	s->info.names = &s->names;
}

static bool on_foretell(void *ctx, uint32_t node, uint64_t conn, const struct capture_masks *m)
{
	struct seen *s = ctx;
	uint32_t i;

	assert_int_equal(node, HELP_NODE);
	assert_int_equal(conn, HELP_CONN);
	for (i = 0; i < m->count; i++)
		s->foretold.entries[m->dir][(m->mark + i) % CAPTURE_MASKS_AHEAD] =
			heads_entry(m->mark + i, m->masks[i]);
	s->foretold.calls++;
	return true;
}

struct streams *seen_streams(struct seen *s, const struct stream_limits *limits)
{
	struct stream_sink sink = { .ctx = s, .frame = on_frame, .progress = on_progress,
				    .gap = on_gap, .info = on_info,
				    .foretell = on_foretell };
	struct streams *streams;

	memset(s, 0, sizeof(*s));
	streams = streams_new(&sink, limits);
	assert_non_null(streams);
	return streams;
}
