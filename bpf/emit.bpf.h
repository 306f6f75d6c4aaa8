/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Records into the ring. The only place where one can be lost, and it is counted here.
 *
 * The ring reserves constant sizes only: a segment goes in blocks and chunks, which are full, and
 * what is left in the smallest class that holds it. The reader is woken when a quarter of the ring
 * waits and comes by itself every few milliseconds, so that a record costs no wake-up.
 */
#ifndef DT_EMIT_BPF_H
#define DT_EMIT_BPF_H

#define EMIT_CHUNK	4096
#define EMIT_WHOLE	16384	/* in one piece, so that its checksum can be told: a jumbo frame's */
#define EMIT_BLOCK	32768
#define EMIT_BLOCKS	20	/* of a segment: 640 KiB, more than BIG TCP makes */

static __always_inline void emit_submit(void *record)
{
	__u64 flags = BPF_RB_NO_WAKEUP;

	if (!reader_woken && bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) > wake_bytes) {
		reader_woken = 1;
		flags = BPF_RB_FORCE_WAKEUP;
	}
	bpf_ringbuf_submit(record, flags);
}

struct emit_record {
	struct abi_segment head;
	__u8 data[];
};

/*
 * @n bytes of the segment from @offset on; they fit @class, a constant once this is inlined. The
 * payload begins at @payload_off.
 */
static __always_inline int emit_class(struct __sk_buff *skb, const struct abi_segment *head,
				      __u32 payload_off, __u32 offset, __u32 n, const __u32 class)
{
	struct emit_record *r = bpf_ringbuf_reserve(&ring, sizeof(*r) + class, 0);
	__u64 below;

	if (!r) {
		__sync_fetch_and_add(&lost.segments, 1);
		__sync_fetch_and_add(&lost.segment_bytes, n);
		return 0;
	}
	r->head = *head;
	r->head.offset = offset;
	r->head.captured = n;
	/*
	 * One less than the length, checked and then used in one register: 5.10's verifier learns
	 * nothing from "not 0", and the compiler may not fold the check into what it knows.
	 */
	below = (__u64)n - 1;
	asm volatile("" : "+r"(below));
	if (below >= class || bpf_skb_load_bytes(skb, payload_off + offset, r->data, below + 1)) {
		r->head.has |= ABI_UNREADABLE;
		__sync_fetch_and_add(&lost.unreadable, 1);
	}
	emit_submit(r);
	return 0;
}

/*
 * The @i-th of a segment's blocks, of the chunks behind them. The number is an argument for 5.10's
 * verifier: it sees an endless loop where a function is called twice with arguments that it cannot
 * tell apart.
 */
static __noinline int emit_block(struct __sk_buff *skb, const struct abi_segment *head,
				 __u32 payload_off, __u32 i)
{
	return emit_class(skb, head, payload_off, i * EMIT_BLOCK, EMIT_BLOCK, EMIT_BLOCK);
}

static __noinline int emit_chunk(struct __sk_buff *skb, const struct abi_segment *head,
				 __u32 payload_off, __u32 i)
{
	__u32 offset = head->len / EMIT_BLOCK * EMIT_BLOCK + i * EMIT_CHUNK;

	return emit_class(skb, head, payload_off, offset, EMIT_CHUNK, EMIT_CHUNK);
}

static __noinline int emit_rest(struct __sk_buff *skb, const struct abi_segment *head,
				__u32 payload_off)
{
	__u32 n = head->len % EMIT_CHUNK, offset = head->len - n;

	if (n <= 256)
		return emit_class(skb, head, payload_off, offset, n, 256);
	if (n <= 512)
		return emit_class(skb, head, payload_off, offset, n, 512);
	if (n <= 1024)
		return emit_class(skb, head, payload_off, offset, n, 1024);
	if (n <= 1536)
		return emit_class(skb, head, payload_off, offset, n, 1536);
	if (n <= 2048)
		return emit_class(skb, head, payload_off, offset, n, 2048);
	return emit_class(skb, head, payload_off, offset, n, EMIT_CHUNK);
}

static __noinline int emit_whole(struct __sk_buff *skb, const struct abi_segment *head,
				 __u32 payload_off)
{
	return emit_class(skb, head, payload_off, 0, head->len, EMIT_WHOLE);
}

/* A segment without payload. */
static __always_inline void emit_bare(const struct abi_segment *head)
{
	struct abi_segment *r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);

	if (!r) {
		__sync_fetch_and_add(&lost.segments, 1);
		return;
	}
	*r = *head;
	emit_submit(r);
}

/* All payload of a segment; head->len is set. @whole: in one piece, it fits EMIT_WHOLE. */
static __always_inline void emit_segment(struct __sk_buff *skb, const struct abi_segment *head,
					 __u32 payload_off, __u32 whole)
{
	__u32 blocks = head->len / EMIT_BLOCK, chunks = head->len % EMIT_BLOCK / EMIT_CHUNK;
	__u32 i;

	if (!head->len) {
		emit_bare(head);
		return;
	}
	if (whole) {
		emit_whole(skb, head, payload_off);
		return;
	}
	for (i = 0; i < EMIT_BLOCKS && i < blocks; i++)
		emit_block(skb, head, payload_off, i);
	if (i < blocks) {
		__sync_fetch_and_add(&lost.segments, 1);
		__sync_fetch_and_add(&lost.segment_bytes, head->len - i * EMIT_BLOCK);
		return;
	}
	for (i = 0; i < EMIT_BLOCK / EMIT_CHUNK && i < chunks; i++)
		emit_chunk(skb, head, payload_off, i);
	if (head->len % EMIT_CHUNK)
		emit_rest(skb, head, payload_off);
}

#endif
