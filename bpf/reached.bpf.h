/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What reached a socket, where a connection's own records do not tell it: SYNs at listeners and
 * their answers, STUN requests and theirs. Held against what reached the network card. Nothing of
 * it runs while no card is watched.
 */
#ifndef DT_REACHED_BPF_H
#define DT_REACHED_BPF_H

#include "wire.h"

/* By the connection, as the network card's program names it. Strangers choose the keys. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, ABI_HANDSHAKES);
	__type(key, struct abi_wire_key);
	__type(value, struct abi_handshake);
} handshakes __weak SEC(".maps");

/* UDP sockets that STUN is asked of, by cookie. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, ABI_STUN_SOCKETS);
	__type(key, __u64);
	__type(value, struct abi_stun);
} stun_sockets __weak SEC(".maps");

/* A bit for each local port of those sockets: all other UDP leaves here. */
__u64 stun_ports[1024] __weak = {};
/* A network card is watched; there are such sockets. */
__u32 handshakes_wanted __weak = 0;
__u32 stun_wanted __weak = 0;

/* A SYN at a listener, or its answer. */
static __always_inline void reached_handshake(struct __sk_buff *skb, const struct packet *p, __u8 dir)
{
	struct abi_wire_key key = {};
	struct abi_handshake *h, fresh = {};

	if (dir == ABI_IN) {
		packet_addresses(skb, p, key.saddr, key.daddr);
		key.sport = p->sport;
		key.dport = p->dport;
	} else {
		packet_addresses(skb, p, key.daddr, key.saddr);
		key.sport = p->dport;
		key.dport = p->sport;
	}
	h = bpf_map_lookup_elem(&handshakes, &key);
	if (!h) {
		bpf_map_update_elem(&handshakes, &key, &fresh, BPF_NOEXIST);
		h = bpf_map_lookup_elem(&handshakes, &key);
		if (!h)
			return;
	}
	if (dir == ABI_IN)
		h->syns++;
	else
		h->answers++;
	h->last_ns = bpf_ktime_get_ns();
}

/*
 * True where it is UDP, and so nothing of TCP's. A function of its own: within the caller the
 * compiler takes the two readings of the packet's bounds together, in a way that the verifier refuses.
 */
static __noinline int reached_stun(struct __sk_buff *skb, __u32 dir)
{
	const __u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end, *h;
	struct abi_stun *s;
	__u64 cookie;
	__u32 off;
	__u16 port;

	if (data + 40 + WIRE_UDP_LEN > end)
		return false;
	if (data[0] >> 4 == 4) {
		off = (data[0] & 15) * 4;
		if (data[9] != WIRE_UDP)
			return false;
	} else {
		off = 40;
		if (data[6] != WIRE_UDP)
			return false;
	}
	h = data + (off & 63);
	if (h + WIRE_UDP_LEN + 8 > end)
		return true;
	port = wire_be16(dir == ABI_IN ? h + 2 : h);
	if (!(stun_ports[port >> 6 & 1023] >> (port & 63) & 1))
		return true;
	cookie = bpf_get_socket_cookie(skb);
	s = bpf_map_lookup_elem(&stun_sockets, &cookie);
	if (!s)
		return true;
	if (dir == ABI_IN && wire_is_stun_request(h + WIRE_UDP_LEN, end))
		__sync_fetch_and_add(&s->requests, 1);
	else if (dir == ABI_OUT && wire_be16(h + WIRE_UDP_LEN) == WIRE_STUN_SUCCESS &&
		 wire_be32(h + WIRE_UDP_LEN + 4) == WIRE_STUN_COOKIE)
		__sync_fetch_and_add(&s->answers, 1);
	return true;
}

#endif
