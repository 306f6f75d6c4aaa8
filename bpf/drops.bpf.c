// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The relay's own drop path: derpserver.(*Server).recordDrop(packetBytes []byte, srcKey, dstKey
 * key.NodePublic, reason dropReason). The keys are arrays and so on the stack; the reason is a
 * string, in older relays a small integer.
 */
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

#include "abi.h"
#include "maps.bpf.h"
#include "emit.bpf.h"
#include "relay.bpf.h"
#include "goregs.bpf.h"

#define DROPS_NO_POINTER	4096	/* below it nothing is mapped: an integer */

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static __always_inline void drops_reason(struct abi_drop *r, __u64 word, __u64 len)
{
	__u64 below = len - 1;

	r->reason_number = word;
	/* As in emit_class(): the length less one is what the verifier can follow. */
	asm volatile("" : "+r"(below));
	if (word < DROPS_NO_POINTER || below >= ABI_REASON_LEN ||
	    bpf_probe_read_user(r->reason, below + 1, (void *)word))
		return;
	r->reason_len = len;
}

static __always_inline void drops_packet(struct abi_drop *r, __u64 start, __u64 len)
{
	__u64 below = (len < ABI_PACKET_LEN ? len : ABI_PACKET_LEN) - 1;

	r->packet_len = len;
	asm volatile("" : "+r"(below));
	if (below >= ABI_PACKET_LEN)
		return;
	if (bpf_probe_read_user(r->packet, below + 1, (void *)start))
		r->packet_len = ~0ULL;
}

SEC("uprobe")
int drops_record(struct pt_regs *ctx)
{
	__u32 slot = relay_slot(false);
	struct abi_drop *r;

	if (!slot || slot_is_muted(slot))
		return 0;
	r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);
	if (!r) {
		__sync_fetch_and_add(&lost.drops, 1);
		return 0;
	}
	__builtin_memset(r, 0, sizeof(*r));
	r->type = ABI_DROP;
	r->slot = slot;
	r->time_ns = bpf_ktime_get_ns();
	drops_packet(r, GO_ARG1(ctx), GO_ARG2(ctx));
	drops_reason(r, GO_ARG4(ctx), GO_ARG5(ctx));
	if (!bpf_probe_read_user(r->src, 32, (void *)GO_STACK_ARGS(ctx)) &&
	    !bpf_probe_read_user(r->dst, 32, (void *)GO_STACK_ARGS(ctx) + 32))
		r->has_keys = 1;
	emit_submit(r);
	return 0;
}
