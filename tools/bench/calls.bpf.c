// SPDX-License-Identifier: BSD-2-Clause
/*
 * What tracers of TLS in Go programs do today, for comparison: at each call of Read and Write of
 * crypto/tls.Conn, the start of the caller's buffer is copied and handed to user space.
 */
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "goregs.bpf.h"

#define COPY	4096

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
} ring SEC(".maps");

struct call {
	__u64 time_ns, len;
	__u8 data[COPY];
};

__u64 lost = 0;

static __always_inline int take(struct pt_regs *ctx)
{
	__u64 from = GO_ARG1(ctx), len = GO_ARG2(ctx), below;
	struct call *c = bpf_ringbuf_reserve(&ring, sizeof(*c), 0);

	if (!c) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	c->time_ns = bpf_ktime_get_ns();
	c->len = len;
	below = len - 1;
	asm volatile("" : "+r"(below));
	if (below >= COPY)
		below = COPY - 1;
	bpf_probe_read_user(c->data, (below & (COPY - 1)) + 1, (void *)from);
	bpf_ringbuf_submit(c, 0);
	return 0;
}

SEC("uprobe")
int call_write(struct pt_regs *ctx)
{
	return take(ctx);
}

SEC("uprobe")
int call_read(struct pt_regs *ctx)
{
	return take(ctx);
}
