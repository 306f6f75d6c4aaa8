// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * XDP: what reached a network card for the nodes of one network namespace. Each namespace has a copy
 * of its own, maps included, so that equal addresses in two of them never meet. Passes everything,
 * always.
 */
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "wire.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The kernel takes programs that look at the first part of a packet alone. */
const volatile __u32 has_parts = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, ABI_WIRE_ENDPOINTS);
	__type(key, struct abi_wire_endpoint);
	__type(value, __u32);
} endpoints SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ABI_WIRE_NODES);
	__type(key, __u32);
	__type(value, struct abi_wire_totals);
} totals SEC(".maps");

/* Strangers choose the keys: the least recently used entry gives way. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, ABI_WIRE_FLOWS);
	__type(key, struct abi_wire_key);
	__type(value, struct abi_wire_flow);
} flows SEC(".maps");

static __always_inline void copy_address(__u8 to[16], const __u8 *from, __u8 ip)
{
	__builtin_memset(to, 0, 16);
	if (ip == 4)
		__builtin_memcpy(to, from, 4);
	else
		__builtin_memcpy(to, from, 16);
}

static __always_inline struct abi_wire_flow *find_flow(const struct abi_wire_key *key,
						       const struct wire_packet *p, __u32 node)
{
	struct abi_wire_flow *f = bpf_map_lookup_elem(&flows, key);
	struct abi_wire_flow fresh = { .node = node, .family = p->ip };

	if (f)
		return f;
	fresh.first_ns = bpf_ktime_get_ns();
	bpf_map_update_elem(&flows, key, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&flows, key);
}

/* A SYN with another number is another attempt from the same port: it begins anew. */
static __always_inline void take_syn(struct abi_wire_flow *f, const struct wire_packet *p, __u64 now)
{
	if (!f->syn || f->syn_seq != p->seq) {
		f->syn = 0;
		f->syn_ns = now;
		f->syn_seq = p->seq;
		f->first_ns = now;
		f->packets = f->bytes = 0;
		f->rst = f->fin = f->duplicates = 0;
		f->followed = 0;
	}
	/* Of use where nothing but SYNs came: so the last packet was one. */
	f->syn_before_ns = f->last_ns;
	f->syn++;
}

/*
 * A flow's packets come on one CPU, as cards deal them; where they do not, a count may be short by
 * one, and what has come without a hole is never more than what came.
 */
static __always_inline void count_flow(const struct abi_wire_key *key, const struct wire_packet *p,
				       __u32 node, struct abi_wire_totals *t)
{
	struct abi_wire_flow *f = find_flow(key, p, node);
	__u64 now = bpf_ktime_get_ns();
	__u32 seq = p->seq;

	if (!f)
		return;
	if (p->flags & ABI_TCP_SYN) {
		take_syn(f, p, now);
		seq++;
	}
	f->node = node;
	f->last_ns = now;
	f->packets++;
	f->bytes += p->payload_len;
	f->rst += !!(p->flags & ABI_TCP_RST);
	f->fin += !!(p->flags & ABI_TCP_FIN);
	if (p->partial)
		return;
	if (p->payload_len) {
		if (wire_follow(f, seq, seq + p->payload_len)) {
			f->duplicates++;
			t->duplicates++;
		}
	} else if (p->flags & ABI_TCP_SYN) {
		wire_follow(f, seq, seq);
	}
}

/* The start of xdp_md, which never changes: read so, no kernel has to tell its types for it. */
struct frame {
	__u32 data, data_end;
};

static __always_inline int count_packet(struct xdp_md *ctx, int ethernet)
{
	const struct frame *frame = (const void *)ctx;
	const __u8 *data = (void *)(long)frame->data, *end = (void *)(long)frame->data_end;
	struct abi_wire_endpoint to = {};
	struct abi_wire_key key = {};
	struct abi_wire_totals *t;
	struct wire_packet p;
	__u32 *node, len = end - data;

	if (has_parts)
		len = bpf_xdp_get_buff_len(ctx);
	if (!wire_parse(data, end, len, ethernet, &p))
		return XDP_PASS;
	copy_address(to.ip, p.daddr, p.ip);
	to.port = p.dport;
	to.proto = p.proto;
	to.family = p.ip;
	node = bpf_map_lookup_elem(&endpoints, &to);
	t = node ? bpf_map_lookup_elem(&totals, node) : NULL;
	if (!t)
		return XDP_PASS;
	if (p.proto == WIRE_UDP) {
		t->stun += p.stun;
		return XDP_PASS;
	}
	t->packets++;
	t->bytes += p.payload_len;
	t->syn += !!(p.flags & ABI_TCP_SYN);
	t->rst += !!(p.flags & ABI_TCP_RST);
	t->fin += !!(p.flags & ABI_TCP_FIN);
	t->partial += p.partial;
	copy_address(key.saddr, p.saddr, p.ip);
	copy_address(key.daddr, p.daddr, p.ip);
	key.sport = p.sport;
	key.dport = p.dport;
	count_flow(&key, &p, *node, t);
	return XDP_PASS;
}

SEC("xdp")
int wire_ethernet(struct xdp_md *ctx)
{
	return count_packet(ctx, 1);
}

/* Interfaces without a link header: tunnels. */
SEC("xdp")
int wire_bare(struct xdp_md *ctx)
{
	return count_packet(ctx, 0);
}
