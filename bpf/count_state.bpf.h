/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is kept of a plaintext connection whose frames are walked. */
#ifndef DT_COUNT_STATE_BPF_H
#define DT_COUNT_STATE_BPF_H

/* The walk's bytes are a packet's, and offsets count from its start. */
static __always_inline int count_load(void *bytes, unsigned int off, unsigned char *to,
				      unsigned int n, const unsigned int most);

#include "count_web.h"

static __always_inline int count_load(void *bytes, unsigned int off, unsigned char *to,
				      unsigned int n, const unsigned int most)
{
	__u64 below = (__u64)n - 1;

	WALK_HIDE(below);
	return below >= most || bpf_skb_load_bytes(bytes, off, to, below + 1);
}

/* Of a walk: off, end, left, have. */
struct count_before {
	__u32 v[4];
};

/* A segment, as in struct abi_segment. */
struct count_seen {
	__u64 time_ns, cookie;
	__u32 slot;
	__u32 seq, len, rcv_nxt, rcv_wnd;
	__u32 payload_off;	/* in the packet */
	__u32 epoch;		/* what came of it, as the next */
	__u8 dir, flags, has, check;
	__u8 counted;
	__u8 untold;		/* where its counting ended could not be told */
	__u8 zero[6];
};

/* One direction. */
struct count_dir {
	__u64 began_ns;		/* when this walk began */
	__u32 seq;		/* of the next byte that it expects */
	__u32 epoch;		/* number of the walk */
	__u32 generation;	/* of the counts */
	__u32 base;		/* sequence number of the packet's offset 0 */
	__u32 asked;		/* agreements when it was looked whether user space agrees */
	__u8 walking;
	__u8 agreed;
	__u8 counting;
	__u8 fits;		/* what was walked last may be counted */
	__u32 type;		/* with agreed: of the frames that are */
	__u32 row;		/* of the last frame */
	__u64 entered_ns;	/* it leaves now, and is timed; 0: not so */
	__u64 digest;		/* of the last packet that was named */
	struct count_seen seen;
	union {			/* not on the stack */
		struct abi_count_key key;
		struct abi_latency_flight flight;
	};
	struct count_before before, after;
	struct count_walk walk;
	struct count_web web;
};

struct count_state {
	struct bpf_spin_lock lock; /* of what follows; ingress may run on two processors at once */
	__u8 busy;
	__u8 missed;		/* a segment passed meanwhile */
	__u8 zero[2];
	struct count_dir dirs[2];
};

#endif
