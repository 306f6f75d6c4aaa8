/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which segments are one TLS record that need not be shipped whole; heads.h says why that is certain.
 *
 * A walk begins where a segment is one record of application data, as far as its header tells, and
 * goes from record to record, in order. It numbers them; a segment that begins with one says which
 * (abi_segment.mark). User space, which knows what TLS's own number is there, foretells by these
 * numbers. No lock: what two processors make of a walk at once fits nothing that was foretold.
 */
#ifndef DT_HEADS_BPF_H
#define DT_HEADS_BPF_H

#include "heads.h"

#define HEADS_RECORDS	16	/* in a segment; one that has more ends the walk */
#define HEADS_KNOWN	(1ull << 32)

/* One direction. */
struct heads_dir {
	__u32 seq;		/* of the next byte that is expected */
	__u32 left;		/* of them, so many belong to a record that has begun */
	__u32 mark;		/* number of the record behind that */
	__u32 asked;		/* foretellings when it was looked whether there is a window */
	__u32 window;		/* of abi_masks, from 1; 0: none */
	__u32 walking;
};

struct heads_state {
	struct heads_dir dirs[2];
};

/* Made when a connection's first record is met. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct heads_state);
} heads __weak SEC(".maps");

/* Written by user space, without a call. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, ABI_WINDOWS);
	__type(key, __u32);
	__type(value, struct abi_masks);
} masks __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, ABI_WINDOWS);
	__type(key, struct abi_agreed_key);
	__type(value, struct abi_foretold);
} foretold __weak SEC(".maps");

/* Moved on with every change in foretold. */
__u32 foretellings __weak = 0;

static __always_inline void heads_start(struct heads_dir *d, __u32 seq)
{
	d->walking = 1;
	d->seq = seq;
	d->left = 0;
	d->mark = (d->mark | (HEADS_EPOCH - 1)) + 1;
	d->asked = 0;
	d->window = 0;
}

static __always_inline void heads_ask(struct __sk_buff *skb, struct heads_dir *d, __u32 dir)
{
	struct abi_agreed_key key = { .dir = dir };
	__u32 now = foretellings, ahead;
	struct abi_foretold *f;

	if (d->asked == now)
		return;
	d->asked = now;
	d->window = 0;
	key.cookie = bpf_get_socket_cookie(skb);
	f = bpf_map_lookup_elem(&foretold, &key);
	if (!f)
		return;
	/* What is foretold may be of the next one already. */
	ahead = f->epoch - d->mark / HEADS_EPOCH;
	if (ahead <= 1)
		d->window = f->window + 1;
}

/* The segment is record number d->mark, of which @start is the start. */
static __always_inline bool heads_is_known(struct __sk_buff *skb, struct heads_dir *d, __u32 dir,
					   const __u8 *start, __u32 len)
{
	struct abi_masks *m;
	__u32 window;

	heads_ask(skb, d, dir);
	if (!d->window)
		return false;
	window = d->window - 1;
	m = bpf_map_lookup_elem(&masks, &window);
	return m && heads_fits(m->entries[d->mark % ABI_MASKS], d->mark, start, len);
}

/* The segment is the next one of its walk. Its number, and whether it is known. */
static __always_inline __u64 heads_walk(struct __sk_buff *skb, struct heads_dir *d, __u32 dir,
					__u32 total, __u32 payload_off)
{
	__u32 off = d->left, len, i;
	__u8 start[16] = {};
	__u64 told = 0;

	for (i = 0; i < HEADS_RECORDS && off < total; i++) {
		if (off + HEADS_PEEK > total ||
		    bpf_skb_load_bytes(skb, payload_off + off, start, HEADS_PEEK))
			break;
		len = heads_record(start);
		if (!len)
			break;
		if (!off)
			told = d->mark;
		if (!off && len == total && heads_is_known(skb, d, dir, start, len))
			told |= HEADS_KNOWN;
		d->mark++;
		off += len;
	}
	/* A header in two segments, what is no application data, too many: it begins anew elsewhere. */
	d->walking = off >= total;
	d->left = off - total;
	d->seq += total;
	return told;
}

/* May a walk begin with this segment? */
static __always_inline bool heads_begins(struct __sk_buff *skb, __u32 len, __u32 payload_off)
{
	__u8 start[8] = {};

	return len > WALK_HEADER_LEN &&
	       !bpf_skb_load_bytes(skb, payload_off, start, WALK_HEADER_LEN) &&
	       heads_record(start) == len;
}

/*
 * Payload of a relay's connection passes, @len bytes from @seq on: the number of the record that
 * begins with it, if one does, and HEADS_KNOWN where its start is all that is to be shipped. Not
 * static, so that the verifier walks it once, and not for every way that leads here.
 */
__noinline __u64 heads_segment(struct __sk_buff *skb, __u32 dir, __u32 seq, __u32 len,
			       __u32 payload_off)
{
	struct bpf_sock *sk = skb->sk;
	struct heads_state *state;
	struct heads_dir *d;

	if (!sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 0;
	state = bpf_sk_storage_get(&heads, sk, NULL, 0);
	if (!state) {
		if (!heads_begins(skb, len, payload_off))
			return 0;
		state = bpf_sk_storage_get(&heads, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		if (!state)
			return 0;
	}
	d = &state->dirs[dir & 1];
	if (!d->walking || seq != d->seq) {
		/* Sent again: the walk stands behind it. */
		if (d->walking && (__s32)(seq + len - d->seq) <= 0)
			return 0;
		d->walking = 0;
		if (!heads_begins(skb, len, payload_off))
			return 0;
		heads_start(d, seq);
	}
	return heads_walk(skb, d, dir & 1, len, payload_off);
}

struct heads_shipped {
	struct abi_segment head;
	__u8 data[(HEADS_CAPTURED + 7) / 8 * 8];
};

/* Of a segment that is one TLS record: its start, and its type. */
static __always_inline void heads_emit(struct __sk_buff *skb, const struct abi_segment *head,
				       __u32 payload_off)
{
	struct heads_shipped *r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);

	if (!r) {
		__sync_fetch_and_add(&lost.segments, 1);
		__sync_fetch_and_add(&lost.segment_bytes, head->len);
		return;
	}
	r->head = *head;
	r->head.captured = HEADS_CAPTURED;
	r->head.has |= ABI_HEAD;
	if (bpf_skb_load_bytes(skb, payload_off, r->data, HEADS_START) ||
	    bpf_skb_load_bytes(skb, payload_off + head->len - HEADS_BEHIND, r->data + HEADS_START, 1)) {
		r->head.has |= ABI_UNREADABLE;
		__sync_fetch_and_add(&lost.unreadable, 1);
	}
	emit_submit(r);
}

/*
 * A segment of a relay's connection. True where its start is all that is to be shipped of it, and
 * was. Not in the caller, whose stack counts for all that it calls.
 */
static __noinline int heads_packet(struct __sk_buff *skb, struct abi_segment *s, __u32 payload_off)
{
	__u64 told = heads_segment(skb, s->dir == ABI_OUT, s->seq, s->len, payload_off);

	if (told) {
		s->mark = told;
		s->has_mark = 1;
	}
	/* What may be thrown away for its checksum is to be summed up. */
	if (!(told & HEADS_KNOWN) || (s->dir == ABI_IN && s->check != ABI_CHECK_HOLDS))
		return false;
	heads_emit(skb, s, payload_off);
	return true;
}

#endif
