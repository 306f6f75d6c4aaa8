/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How long packets that are counted stay in a relay: one of LATENCY_ONE_OF is timed, which its own bytes
 * decide. When it enters, its name is remembered; when it leaves, the time since then goes into the
 * histogram of its row in the counts, or along with its name where it leaves for the mesh.
 */
#ifndef DT_LATENCY_BPF_H
#define DT_LATENCY_BPF_H

#include "latency.h"

/*
 * Is the packet at @p, whose frame is in @d's head, one that is timed? Behind disco's magic is the sender's
 * key: the nonce tells its packets apart; those that came in parts are not timed.
 */
static __always_inline bool latency_is_timed(struct __sk_buff *skb, struct count_dir *d,
					     const unsigned char *p, __u32 keys, __u32 len)
{
	const __u64 *words = __builtin_assume_aligned(p, 8);
	__u32 nonce = d->before.v[0] + DERP_HEADER_LEN + keys + LATENCY_NONCE;

	if (len < 2 * sizeof(*words))
		return false;
	if (count_class(p, len) != COUNT_DISCO)
		return latency_sampled(words[0], words[1]);
	if (d->before.v[3] || bpf_skb_load_bytes(skb, nonce, &d->digest, sizeof(d->digest)))
		return false;
	count_unmask(&d->web, d->base + nonce, (unsigned char *)&d->digest, 1);
	return latency_sampled(words[0], d->digest);
}

/* All of the frame's start that its packet's name needs; what came in parts was kept as it came. */
static __always_inline bool latency_load(struct __sk_buff *skb, struct count_dir *d, __u32 len)
{
	const struct count_from from = { .bytes = skb, .base = d->base, .web = &d->web };
	__u32 n = DERP_HEADER_LEN + DERP_KEY_LEN + (len < DERP_DIGEST_LEN ? len : DERP_DIGEST_LEN);

	return d->before.v[3] ||
	       !count_read(&from, d->before.v[0], d->walk.head, n, DERP_HEAD_LEN);
}

/*
 * The packet of @d's name enters, or leaves. Of two that are named the same which one leaves first is not
 * known: neither is timed.
 */
static __always_inline void latency_flight(struct count_dir *d)
{
	__u64 *at;

	d->flight.digest = d->digest;
	d->flight.slot = d->seen.slot;
	d->flight.zero = 0;
	at = bpf_map_lookup_elem(&flights, &d->flight);
	if (d->seen.dir == ABI_IN) {
		if (at)
			*at = 0;
		else
			bpf_map_update_elem(&flights, &d->flight, &d->seen.time_ns, BPF_ANY);
		return;
	}
	if (!at)
		return;
	if (*at < d->seen.time_ns)
		d->entered_ns = *at;
	bpf_map_delete_elem(&flights, &d->flight);
}

/*
 * The frame in @d's head is one that is counted: its packet's name, of one with a single key only where it
 * is timed, and when it entered, where it leaves.
 */
static __noinline int count_name(struct __sk_buff *skb, struct count_dir *d)
{
	const unsigned char *p = d->walk.head + DERP_HEADER_LEN + DERP_KEY_LEN;
	__u32 len = walk_derp_len(d->walk.head) - DERP_KEY_LEN;
	bool timed;

	d->entered_ns = 0;
	if (d->type == DERP_FORWARD_PACKET) {
		p += DERP_KEY_LEN;
		len -= DERP_KEY_LEN;
		timed = latency_is_timed(skb, d, p, 2 * DERP_KEY_LEN, len);
		d->digest = count_digest(p, len);
	} else {
		timed = latency_is_timed(skb, d, p, DERP_KEY_LEN, len) && latency_load(skb, d, len);
		if (timed)
			d->digest = count_digest(p, len);
	}
	if (timed)
		latency_flight(d);
	return 0;
}

/* It has left, and is in the counts' row of that number. */
static __noinline int latency_left(struct count_dir *d)
{
	struct abi_latency_key key = {
		.cookie = d->seen.cookie, .row = d->row, .generation = d->generation,
		.bucket = latency_bucket(d->seen.time_ns - d->entered_ns),
	};
	__u32 *count = bpf_map_lookup_elem(&latencies, &key), one = 1;

	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&latencies, &key, &one, BPF_NOEXIST);
	return 0;
}

#endif
