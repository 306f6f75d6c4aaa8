/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets on plaintext connections counted where they pass, per pair, without a copy. Those that cross
 * the mesh are named one by one, a record of a few words each instead of the frame.
 *
 * A walk begins where a segment begins with what may be a frame's header, and goes along while
 * segments are still shipped; each that begins with a frame says so (abi_segment.epoch). User space,
 * which has read the connection from its start or has synchronised, agrees with a walk that is right.
 * From the next segment on frames are counted. What is no such packet, bytes out of order, an
 * end: then the segment is shipped again, behind a record of how far the counting came, and counting
 * goes on by itself with the next one, as long as the walk holds.
 */
#ifndef DT_COUNT_BPF_H
#define DT_COUNT_BPF_H

#define COUNT_FRAMES	4	/* in one call */
#define COUNT_CALLS	64	/* for a segment; one that has more frames is shipped */
#define COUNT_RETRY_NS	200000000ull /* a walk that nobody agreed with gives way to another guess */

#include "count_peek.bpf.h"
#include "latency.bpf.h"

static __always_inline bool count_tell(struct count_dir *d, __u32 seq, bool begins)
{
	struct abi_counting *r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);

	if (!r)
		return false;
	r->type = ABI_COUNTING;
	r->dir = d->seen.dir;
	r->begins = begins;
	r->zero = 0;
	r->slot = d->seen.slot;
	r->time_ns = d->seen.time_ns;
	r->cookie = d->seen.cookie;
	r->seq = seq;
	r->generation = d->generation;
	r->left = d->walk.left;
	r->have = d->walk.have;
	__builtin_memset(r->gap, 0, sizeof(r->gap));
	__builtin_memcpy(r->head, d->walk.head, sizeof(r->head));
	r->web.left = d->web.stop - seq;
	r->web.mask = web_mask_at(d->web.mask, seq);
	r->web.on = d->web.on;
	r->web.passed = d->web.passed;
	r->web.have = d->web.have;
	r->web.zero = 0;
	__builtin_memcpy(r->web.head, d->web.head, sizeof(r->web.head));
	__builtin_memset(r->web.gap, 0, sizeof(r->web.gap));
	emit_submit(r);
	return true;
}

static __noinline int count_begin(struct count_dir *d)
{
	d->generation++;
	d->counting = count_tell(d, d->seq, true);
	return 0;
}

/*
 * Counted up to @seq, no further. Without room in the ring user space is not told: the segment is lost,
 * for what was counted of it would be read once more.
 */
static __noinline int count_end(struct count_dir *d, __u32 seq)
{
	d->counting = 0;
	if (count_tell(d, seq, false))
		return 0;
	__sync_fetch_and_add(&lost.segments, 1);
	d->seen.untold = 1;
	d->walking = 0;
	return 0;
}

/* A new row for @d's key; NULL: none is free. */
static __always_inline struct abi_count_row *count_row_new(struct count_dir *d)
{
	struct abi_count_row *row;
	__u32 no;

	if (bpf_map_pop_elem(&free_rows, &no))
		return NULL;
	row = bpf_map_lookup_elem(&rows, &no);
	if (!row || bpf_map_update_elem(&counts, &d->key, &no, BPF_NOEXIST)) {
		bpf_map_push_elem(&free_rows, &no, 0);
		return NULL;
	}
	row->count.first_ns = d->seen.time_ns;
	row->key.generation = d->key.generation;
	row->key.dir = d->key.dir;
	row->key.class = d->key.class;
	__builtin_memcpy(row->key.key, d->key.key, DERP_KEY_LEN);
	barrier();
	row->key.cookie = d->key.cookie;
	d->row = no;
	return row;
}

/* Most frames are of the same pair as the one before: its row is asked whether it is @d's key's. */
static __always_inline struct abi_count_row *count_row_last(struct count_dir *d)
{
	struct abi_count_row *row = bpf_map_lookup_elem(&rows, &d->row);
	const __u64 *a = (const __u64 *)&d->key, *b;
	__u64 differ = 0;
	__u32 i;

	if (!row)
		return NULL;
	b = (const __u64 *)&row->key;
	for (i = 0; i < sizeof(d->key) / sizeof(*a); i++)
		differ |= a[i] ^ b[i];
	return differ ? NULL : row;
}

static __always_inline struct abi_count_row *count_row(struct count_dir *d)
{
	struct abi_count_row *row = count_row_last(d);
	__u32 *no;

	if (row)
		return row;
	no = bpf_map_lookup_elem(&counts, &d->key);
	if (!no)
		return count_row_new(d);
	d->row = *no;
	return bpf_map_lookup_elem(&rows, &d->row);
}

/* The frame in @d's head has ended at @seq. Without room for its row it does not fit. */
static __noinline int count_frame(struct count_dir *d, __u32 seq)
{
	__u32 len = walk_derp_len(d->walk.head) - DERP_KEY_LEN;
	struct abi_count_row *row;
	struct abi_count *c;

	/* Not on the stack: it is deep here. */
	d->key.cookie = d->seen.cookie;
	d->key.generation = d->generation;
	d->key.dir = d->seen.dir;
	d->key.class = count_class(d->walk.head + DERP_HEADER_LEN + DERP_KEY_LEN, len);
	__builtin_memcpy(d->key.key, d->walk.head + DERP_HEADER_LEN, DERP_KEY_LEN);
	row = count_row(d);
	if (!row) {
		__sync_fetch_and_add(&lost.uncounted, 1);
		d->fits = 0;
		return 0;
	}
	c = &row->count;
	c->bytes += len;
	c->last_ns = d->seen.time_ns;
	c->seq = seq;
	barrier();
	c->frames++;
	return 0;
}

/* The packet of the forward in @d's head, which has ended at @seq. Without room in the ring it does not fit. */
static __noinline int count_forward(struct count_dir *d, __u32 seq)
{
	struct abi_forward *r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);

	if (!r) {
		d->fits = 0;
		return 0;
	}
	r->type = ABI_FORWARD;
	r->dir = d->seen.dir;
	r->zero[0] = r->zero[1] = 0;
	r->slot = d->seen.slot;
	r->time_ns = d->seen.time_ns;
	r->cookie = d->seen.cookie;
	r->entered_ns = d->entered_ns;
	r->seq = seq;
	r->len = walk_derp_len(d->walk.head) - 2 * DERP_KEY_LEN;
	r->digest = d->digest;
	__builtin_memcpy(r->head, __builtin_assume_aligned(d->walk.head + DERP_HEADER_LEN, 8),
			 sizeof(r->head));
	emit_submit(r);
	return 0;
}

/* Does user space agree with the walk? */
static __always_inline void count_ask(struct count_dir *d, const struct count_seen *s)
{
	struct abi_agreed_key key = { .cookie = s->cookie, .dir = s->dir };
	struct abi_agreed *yes;
	__u32 now = agreements;

	if (d->agreed || d->asked == now)
		return;
	d->asked = now;
	yes = bpf_map_lookup_elem(&agreed, &key);
	d->agreed = yes && yes->epoch == d->epoch;
	if (d->agreed)
		d->type = yes->type;
}

/*
 * TCP is going to take all of it: its checksum is right, it begins where TCP stands, or behind what
 * waits for the socket's owner, and ends inside the window.
 */
static __always_inline bool count_is_taken(const struct count_seen *s)
{
	__u32 ahead = s->seq - s->rcv_nxt;

	return s->dir == ABI_OUT ||
	       (s->check == ABI_CHECK_HOLDS && s->has & ABI_ALL_FACTS && ahead < (1u << 30) &&
		s->len <= s->rcv_wnd && ahead <= s->rcv_wnd - s->len);
}

/* Does a frame begin with what is at @seq, and where it is a WebSocket one of its frames, too? */
static __always_inline bool count_is_between(const struct count_dir *d, __u32 seq)
{
	return !d->walk.have && (!d->web.on || count_web_between(&d->web, seq));
}

/* May counting begin with this segment? A frame under way must be one that is counted. */
static __always_inline bool count_may_begin(struct __sk_buff *skb, const struct count_dir *d,
					    const struct count_seen *s)
{
	__u8 type = d->type;

	if (d->counting || !d->agreed || !count_is_taken(s))
		return false;
	if (!d->walk.have)
		return count_is_between(d, s->seq) &&
		       count_peek(skb, s->len, s->payload_off, type) ==
			       (d->web.on ? COUNT_WEB : COUNT_PLAIN);
	return d->walk.have >= DERP_HEADER_LEN && count_counts(d->walk.head, type);
}

/* Is what was walked last one that is counted, as far as it is known? A frame that is one, is now. */
static __noinline int count_fits(struct __sk_buff *skb, struct count_dir *d)
{
	struct count_walk *w = &d->walk;

	d->fits = 0;
	if (w->step == COUNT_PART && w->have < DERP_HEADER_LEN)
		d->fits = 1;
	else if (w->step != COUNT_BROKEN)
		d->fits = count_counts(w->head, d->type);
	if (d->fits && w->step == COUNT_FRAME) {
		count_name(skb, d);
		if (d->type == DERP_FORWARD_PACKET)
			count_forward(d, d->base + w->off);
		else
			count_frame(d, d->base + w->off);
		if (d->type != DERP_FORWARD_PACKET && d->fits && d->entered_ns)
			latency_left(d);
	}
	return 0;
}

/* Counting ends where it was before this frame's bytes in here. */
static __noinline int count_end_before(struct count_dir *d)
{
	struct count_before *at = (struct count_before *)&d->walk.off;

	d->after = *at;
	*at = d->before;
	count_end(d, d->base + d->walk.off);
	*at = d->after;
	return 0;
}

static __noinline int count_step(struct __sk_buff *skb, struct count_dir *d)
{
	const struct count_from from = { .bytes = skb };

	d->before = *(struct count_before *)&d->walk.off;
	count_next(&d->walk, &from);
	return 0;
}

/* What came of the step. Where counting does not hold the walk alone goes on. */
static __always_inline void count_stepped(struct __sk_buff *skb, struct count_dir *d)
{
	if (d->walk.step == COUNT_BROKEN)
		d->walking = 0;
	if (!d->counting)
		return;
	count_fits(skb, d);
	if (!d->fits)
		count_end_before(d);
}

/* dirs[@dir] of the packet's socket, for what finds all it needs itself; NULL: nothing is to be walked. */
static __always_inline struct count_dir *count_dir_of(struct __sk_buff *skb, __u32 dir)
{
	struct bpf_sock *sk = skb->sk;
	struct count_state *state;

	if (!count_frames || !sk)
		return NULL;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return NULL;
	state = bpf_sk_storage_get(&walks, sk, NULL, 0);
	return state ? &state->dirs[dir & 1] : NULL;
}

/*
 * The next frames of the packet, where dirs[@dir] says that they are to be walked; 1 where it may hold
 * more of them. Not static: it is verified once, not for every way that leads here, and finds what it
 * needs itself.
 */
__noinline int count_some(struct __sk_buff *skb, __u32 dir)
{
	struct count_dir *d = count_dir_of(skb, dir);
	__u32 i;

	if (!d)
		return 0;
	for (i = 0; i < COUNT_FRAMES; i++) {
		if (d->walk.off >= d->walk.end)
			return 0;
		count_step(skb, d);
		count_stepped(skb, d);
		if (d->walk.step != COUNT_FRAME)
			return 0;
	}
	return 1;
}

/* --- through a WebSocket --- */

/* The next piece, up to the end of the frame in it; there may be nothing in it. */
static __noinline int count_web_step(struct __sk_buff *skb, struct count_dir *d)
{
	const struct count_from from = { .bytes = skb, .base = d->base, .web = &d->web };

	count_web_next(&d->walk, &d->web, &from);
	d->before = *(struct count_before *)&d->walk.off;
	if (d->walk.step == COUNT_PART && d->walk.off < d->walk.end)
		count_next(&d->walk, &from);
	return 0;
}

/* As count_some(), of a walk that goes through a WebSocket. */
__noinline int count_web_some(struct __sk_buff *skb, __u32 dir)
{
	struct count_dir *d = count_dir_of(skb, dir);
	__u32 i;

	if (!d)
		return 0;
	for (i = 0; i < COUNT_FRAMES; i++) {
		if (d->walk.off >= d->web.end)
			return 0;
		count_web_step(skb, d);
		count_stepped(skb, d);
		if (d->walk.step == COUNT_BROKEN)
			return 0;
	}
	return 1;
}

static __always_inline void count_walk_frames(struct __sk_buff *skb, struct count_dir *d, __u32 dir)
{
	__u32 i;

	for (i = 0; i < COUNT_CALLS; i++) {
		if (!(d->web.on ? count_web_some(skb, dir) : count_some(skb, dir)))
			return;
	}
	if (d->walk.off >= d->web.end)
		return;
	if (d->counting)
		count_end(d, d->base + d->walk.off);
	d->walking = 0;
}

static __always_inline void count_start(struct count_dir *d, const struct count_seen *s, bool web)
{
	d->walking = 1;
	d->agreed = 0;
	d->epoch = (d->epoch | ABI_EPOCH_WEB) + (web ? 1 + ABI_EPOCH_WEB : 1);
	d->asked = 0;
	d->began_ns = s->time_ns;
	d->seq = s->seq;
	d->walk.have = 0;
	d->walk.left = 0;
	d->web.on = web;
	count_web_begin(&d->web, s->seq);
}

static __always_inline void count_stop(struct count_dir *d)
{
	if (d->counting)
		count_end(d, d->seq);
	d->walking = 0;
}

/* Is it of bytes that were walked before, all of it? What was counted of them is not told again. */
static __always_inline bool count_is_old(struct count_dir *d, struct count_seen *s)
{
	if ((__s32)(s->seq + s->len - d->seq) > 0)
		return false;
	/* TCP has not taken what was counted, and another may stand in its place. */
	if (s->dir == ABI_IN && (__s32)(s->seq + s->len - s->rcv_nxt) > 0)
		count_stop(d);
	s->counted = d->counting;
	return true;
}

static __always_inline void count_seen_one(struct __sk_buff *skb, struct count_dir *d,
					   struct count_seen *s)
{
	enum count_guess guess;
	__u32 skip = 0;

	if (!s->len || s->flags) {
		if (d->walking)
			count_stop(d);
		return;
	}
	if (d->walking && (__s32)(s->seq - d->seq) < 0) {
		if (count_is_old(d, s))
			return;
		if (d->counting)
			count_end(d, d->seq);
		if (s->dir == ABI_IN)
			d->walking = 0;
		else
			skip = d->seq - s->seq;
	} else if (d->walking && s->seq != d->seq) {
		count_stop(d);
	}
	if (!d->walking || (!d->agreed && !count_is_between(d, s->seq) &&
			    s->time_ns - d->began_ns > COUNT_RETRY_NS)) {
		guess = count_peek(skb, s->len, s->payload_off, 0);
		if (guess != COUNT_NOTHING)
			count_start(d, s, guess == COUNT_WEB);
		else if (!d->walking)
			return;
		/* The old guess, if there is one, is as good as any. */
	}
	count_ask(d, s);
	if (!skip && !d->agreed && count_is_between(d, s->seq))
		s->epoch = d->epoch;
	if (d->counting && !count_is_taken(s))
		count_end(d, d->seq);
	if (!skip && count_may_begin(skb, d, s))
		count_begin(d);
	if (skip >= s->len)
		return;
	d->seq = s->seq + s->len;
	d->base = s->seq - s->payload_off;
	d->walk.off = s->payload_off + skip;
	d->walk.end = d->web.end = s->payload_off + s->len;
	count_walk_frames(skb, d, s->dir == ABI_OUT);
}

/* What dirs[@dir] has seen last, with its frames. Not static, see count_some(). */
__noinline int count_segment(struct __sk_buff *skb, __u32 dir)
{
	struct count_dir *d = count_dir_of(skb, dir);

	if (!d)
		return 0;
	count_seen_one(skb, d, &d->seen);
	return 0;
}

/* Ingress may run on two processors at once: one walks, and the other ends its walk. */
static __always_inline bool count_enter(struct count_state *state)
{
	bool mine;

	bpf_spin_lock(&state->lock);
	mine = !state->busy;
	state->busy = 1;
	state->missed |= !mine;
	bpf_spin_unlock(&state->lock);
	return mine;
}

static __always_inline void count_leave(struct count_state *state, struct count_dir *d)
{
	__u8 missed;

	bpf_spin_lock(&state->lock);
	missed = state->missed;
	if (!missed)
		state->busy = 0;
	bpf_spin_unlock(&state->lock);
	if (!missed)
		return;
	count_stop(d);
	bpf_spin_lock(&state->lock);
	state->missed = 0;
	state->busy = 0;
	bpf_spin_unlock(&state->lock);
}

static __always_inline void count_see(struct count_dir *d, const struct abi_segment *s,
				      __u32 payload_off)
{
	d->seen.time_ns = s->time_ns;
	d->seen.cookie = s->cookie;
	d->seen.slot = s->slot;
	d->seen.seq = s->seq;
	d->seen.len = s->len;
	d->seen.rcv_nxt = s->rcv_nxt;
	d->seen.rcv_wnd = s->rcv_wnd;
	d->seen.payload_off = payload_off;
	d->seen.epoch = 0;
	d->seen.dir = s->dir;
	d->seen.flags = s->flags;
	d->seen.has = s->has;
	d->seen.check = s->check;
	d->seen.counted = 0;
	d->seen.untold = 0;
}

/* A segment of a relay's connection passes. True where its frames were counted: it is not to be shipped. */
static __always_inline bool count_packet(struct __sk_buff *skb, struct bpf_sock *sk,
					 struct abi_segment *s, __u32 payload_off)
{
	struct count_state *state = bpf_sk_storage_get(&walks, sk, NULL, 0);
	struct count_dir *d;
	bool counted;

	if (!state) {
		if (!count_peek(skb, s->len, payload_off, 0))
			return false;
		state = bpf_sk_storage_get(&walks, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		if (!state)
			return false;
	}
	d = &state->dirs[s->dir == ABI_OUT];
	if (s->dir == ABI_IN && !count_enter(state))
		return false;
	count_see(d, s, payload_off);
	count_segment(skb, s->dir == ABI_OUT);
	s->epoch = d->seen.epoch;
	s->counted = d->seen.counted;
	counted = d->seen.untold || (d->counting && !d->seen.counted);
	if (s->dir == ABI_IN)
		count_leave(state, d);
	return counted;
}

#endif
