// SPDX-License-Identifier: BSD-2-Clause
/* A TCP that hands a dialog's bytes to streams, as the hooks of a kernel would see them pass. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "heads.h"
#include "stream_help.h"

/* --- TCP ---------------------------------------------------------------------------------- */

struct tcp {
	struct streams *s;
	const struct dialog *dialog;
	const struct replay_options *o;
	struct chance chance;
	uint64_t time_ns;
	uint64_t next[2];	/* in: rcv_nxt; out: snd_nxt; offsets into the wire bytes */
	bool *have;		/* inbound bytes that TCP holds, in order or not */
};

static struct capture_facts facts_of(const struct tcp *t)
{
	uint32_t in = t->o->isn[0] + (uint32_t)t->next[0], out = t->o->isn[1] + (uint32_t)t->next[1];

	return (struct capture_facts){
		.has_seq = true, .has_read = true, .has_queues = true, .rcv_nxt = in,
		.copied_seq = in, .rcv_wnd = 65535, .snd_una = out, .snd_nxt = out,
		.write_seq = out, .tcp_state = 1,
	};
}

static void send_event(struct tcp *t, enum capture_type type, struct capture_segment *seg)
{
	struct capture_facts facts = facts_of(t);
	struct capture_event e = { .type = type, .time_ns = t->time_ns += 1000, .node = HELP_NODE,
				   .conn = HELP_CONN, .facts = &facts };

	if (seg)
		e.segment = *seg;
	streams_event(t->s, &e);
}

static void take(struct tcp *t, enum capture_dir dir, size_t at, size_t len)
{
	if (dir == CAPTURE_OUT) {
		if (at + len > t->next[dir])
			t->next[dir] = at + len;
		return;
	}
	memset(t->have + at, true, len);
	while (t->next[dir] < t->dialog->wire[dir].len && t->have[t->next[dir]])
		t->next[dir]++;
}

/* The kernel's walk, as in bpf/heads.bpf.h. True: @seg goes by its start. */
static bool walk(struct foretold *f, const struct bytes *wire, enum capture_dir dir, size_t at,
		 size_t len, uint32_t *mark)
{
	uint64_t entry;
	size_t off = 0, record;
	bool fits = false;

	if (!f->dirs[dir].walking || f->dirs[dir].next != at) {
		if (f->dirs[dir].walking && at + len <= f->dirs[dir].next)
			return false;
		f->dirs[dir].walking = len > WALK_HEADER_LEN && heads_record(wire->p + at) == len;
		if (!f->dirs[dir].walking)
			return false;
		f->dirs[dir].left = 0;
		f->dirs[dir].mark = (f->dirs[dir].mark | (HEADS_EPOCH - 1)) + 1;
	}
	for (off = f->dirs[dir].left; off < len; off += record, f->dirs[dir].mark++) {
		record = off + HEADS_PEEK <= len ? heads_record(wire->p + at + off) : 0;
		if (!record) {
			f->dirs[dir].walking = false;
			return false;
		}
		if (off)
			continue;
		*mark = f->dirs[dir].mark;
		entry = f->entries[dir][*mark % CAPTURE_MASKS_AHEAD];
		if (record != len)
			continue;
		fits = f->any ? len >= HEADS_MIN && entry >> 40 == (*mark & 0xffffff) :
				heads_fits(entry, *mark, wire->p + at, (uint32_t)len);
	}
	f->dirs[dir].left = off - len;
	f->dirs[dir].next = at + len;
	return fits;
}

/* What the hook sees of a segment, in an allocation of its own, so that a read behind its end is found. */
static uint8_t *ship(struct tcp *t, struct capture_segment *seg, size_t at)
{
	const struct bytes *wire = &t->dialog->wire[seg->dir];
	uint8_t *exact;

	if (t->o->foretold && seg->captured == seg->len &&
	    walk(t->o->foretold, wire, seg->dir, at, seg->len, &seg->mark)) {
		seg->head = true;
		seg->captured = HEADS_CAPTURED;
		t->o->foretold->heads++;
	}
	exact = malloc(seg->captured + !seg->captured);
	memcpy(exact, wire->p + at, seg->captured);
	if (seg->head)
		exact[HEADS_START] = wire->p[at + seg->len - HEADS_BEHIND];
	return exact;
}

/* One segment passes the hook, unless the ring loses it; then TCP gets it. */
static void pass(struct tcp *t, enum capture_dir dir, size_t at, size_t len, bool lossy)
{
	struct capture_segment seg = {
		.dir = dir, .seq = t->o->isn[dir] + (uint32_t)at, .len = (uint32_t)len,
		.captured = (uint32_t)len, .data = t->dialog->wire[dir].p + at,
	};
	uint8_t *exact;
	bool lost;
	size_t i;

	if (chance_percent(&t->chance, t->o->forge) && dir == CAPTURE_IN) {
		uint8_t *junk = malloc(len);

		for (i = 0; i < len; i++)
			junk[i] = (uint8_t)chance_next(&t->chance);
		seg.data = junk;
		send_event(t, CAPTURE_SEGMENT, &seg);
		seg.seq += 5000000;
		send_event(t, CAPTURE_SEGMENT, &seg);
		seg.seq = t->o->isn[dir] + (uint32_t)t->next[dir] - 1;
		seg.len = seg.captured = 1;
		send_event(t, CAPTURE_SEGMENT, &seg);
		seg = (struct capture_segment){ .dir = dir, .seq = t->o->isn[dir] + (uint32_t)at,
						.len = (uint32_t)len, .captured = (uint32_t)len };
		free(junk);
	}
	if (lossy && chance_percent(&t->chance, t->o->cut))
		seg.captured = chance_between(&t->chance, 0, seg.len);
	seg.data = exact = ship(t, &seg, at);
	lost = lossy && at >= t->o->calm && chance_percent(&t->chance, t->o->lose);
	if (dir == CAPTURE_IN && t->o->early)
		take(t, dir, at, len);
	if (at + len > t->o->skip[dir] && !lost)
		send_event(t, CAPTURE_SEGMENT, &seg);
	free(exact);
	take(t, dir, at, len);
}

static void fly(struct tcp *t, const struct flight *f)
{
	size_t at = f->at, end = f->at + f->len, late_at = 0, late_len = 0, from;

	while (at < end) {
		size_t n = t->o->max_segment ? t->o->max_segment : end - at;

		if (n > end - at)
			n = end - at;
		if (t->o->max_segment && !t->o->fixed)
			n = chance_between(&t->chance, 1, (uint32_t)n);
		if (f->dir == CAPTURE_IN && !late_len && chance_percent(&t->chance, t->o->reorder)) {
			late_at = at;
			late_len = n;
		} else {
			pass(t, f->dir, at, n, true);
			if (late_len && chance_percent(&t->chance, 50)) {
				pass(t, f->dir, late_at, late_len, true);
				late_len = 0;
			}
		}
		at += n;
		if (t->o->silence && chance_percent(&t->chance, t->o->silence))
			replay_tick(t->s, t->time_ns += 2000000000);
		if (chance_percent(&t->chance, t->o->repeat)) {
			from = at > 3000 ? at - 3000 : 0;
			from = chance_between(&t->chance, (uint32_t)from, (uint32_t)at - 1);
			pass(t, f->dir, from, chance_between(&t->chance, 1, (uint32_t)(at - from)),
			     true);
		}
	}
	if (late_len)
		pass(t, f->dir, late_at, late_len, true);
}

void replay_open(struct streams *s, const struct replay_options *o, const struct dialog *dialog)
{
	struct capture_event e = { .type = CAPTURE_CONN_OPEN, .time_ns = 1, .node = HELP_NODE,
				   .conn = HELP_CONN };

	e.open.role = dialog->dialled ? CAPTURE_DIALLED : CAPTURE_ACCEPTED;
	e.open.from_start = !o->midstream;
	e.open.in_isn = o->isn[0];
	e.open.out_isn = o->isn[1];
	streams_event(s, &e);
}

void replay_secrets(struct streams *s, const struct dialog *dialog, size_t from, size_t to)
{
	for (; from < to; from++) {
		struct capture_event e = { .type = CAPTURE_SECRET, .time_ns = 2,
					   .node = HELP_NODE, .secret = dialog->secrets[from] };

		streams_event(s, &e);
	}
}

static const struct capture_secret *secret_named(const struct dialog *dialog, const char *label)
{
	size_t i;

	for (i = 0; i < dialog->secret_count; i++)
		if (!strcmp(dialog->secrets[i].label, label))
			return &dialog->secrets[i];
	return NULL;
}

uint64_t dialog_records(const struct dialog *s, int side, size_t len)
{
	const struct bytes *wire = &s->wire[dialog_dir(s, side)];
	size_t at = 0, first = 0, i;
	uint64_t sealed = 0;

	/* The client's first sealed record ends its handshake; so does the server's first flight. */
	for (i = 0; side && i < s->count && !first; i++)
		if (s->flights[i].dir == dialog_dir(s, 1))
			first = s->flights[i].at + s->flights[i].len;
	while (at + 5 <= wire->len && at + 5 + (wire->p[at + 3] << 8 | wire->p[at + 4]) <= len) {
		if (wire->p[at] == 23 && at >= first)
			sealed++;
		at += 5 + (size_t)(wire->p[at + 3] << 8 | wire->p[at + 4]);
	}
	return sealed - (!side && sealed);
}

static void tell_candidate(struct tcp *t, const uint8_t *secret, uint8_t len, uint64_t seq)
{
	struct capture_event e = { .type = CAPTURE_CANDIDATE, .time_ns = t->time_ns,
				   .node = HELP_NODE, .conn = HELP_CONN };

	memcpy(e.candidate.secret, secret, len);
	e.candidate.len = len;
	e.candidate.seq = seq;
	streams_event(t->s, &e);
}

/* As memory would show them: both sides', and something that only looks like one. */
static void tell_candidates(struct tcp *t)
{
	static const char *const labels[] = { "CLIENT_TRAFFIC_SECRET_0",
					      "SERVER_TRAFFIC_SECRET_0" };
	uint8_t junk[48];
	int side, i;

	for (i = 0; i < 48; i++)
		junk[i] = (uint8_t)chance_next(&t->chance);
	for (side = 0; side < 2; side++) {
		const struct capture_secret *s = secret_named(t->dialog, labels[side]);
		int64_t seq = (int64_t)dialog_records(t->dialog, side,
						      t->next[dialog_dir(t->dialog, side)]);

		seq += t->o->hint_error;
		tell_candidate(t, junk, s->len, 3);
		tell_candidate(t, s->secret, s->len, seq < 0 ? 0 : (uint64_t)seq);
	}
}

void replay_tick(struct streams *s, uint64_t time_ns)
{
	struct capture_event e = { .type = CAPTURE_TICK, .time_ns = time_ns };

	streams_event(s, &e);
}

void replay(struct streams *s, const struct dialog *dialog, const struct replay_options *o,
	    bool close)
{
	struct tcp t = { .s = s, .dialog = dialog, .o = o, .chance.state = o->seed,
			 .time_ns = 1000 };
	struct capture_segment none = { 0 };
	size_t i, told = 0, seen = 0;

	t.have = calloc(dialog->wire[0].len + 1, sizeof(bool));
	if (o->secrets == SECRETS_FIRST)
		replay_secrets(s, dialog, 0, told = dialog->secret_count);
	for (i = 0; i < dialog->count; i++) {
		const struct flight *f = &dialog->flights[i];

		if (o->secrets == SECRETS_IN_TIME && told < f->secrets) {
			replay_secrets(s, dialog, told, f->secrets);
			told = f->secrets;
		}
		if (f->at + f->len <= o->skip[f->dir]) {
			t.next[f->dir] = f->at + f->len;
			if (f->dir == CAPTURE_IN)
				memset(t.have + f->at, true, f->len);
			continue;
		}
		fly(&t, f);
		if (++seen == o->candidates_after)
			tell_candidates(&t);
	}
	send_event(&t, CAPTURE_FACTS, NULL);
	if (o->secrets == SECRETS_LAST)
		replay_secrets(s, dialog, 0, dialog->secret_count);
	replay_tick(s, t.time_ns += 1000);
	if (close)
		send_event(&t, CAPTURE_CONN_CLOSE, &none);
	free(t.have);
}
