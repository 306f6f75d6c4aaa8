// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The relays' sockets: which they are, and every segment with payload that passes them.
 *
 * Attached to a cgroup's ingress and egress, where it runs for every socket below: strangers'
 * packets, and those that only acknowledge, leave first. All programs return 1, always: a relay's
 * packet or connect() is never refused.
 */
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_core_read.h>

#include "abi.h"
#include "maps.bpf.h"
#include "packet.bpf.h"
#include "emit.bpf.h"
#include "reached.bpf.h"
#include "check.bpf.h"
#include "count.bpf.h"
#include "heads.bpf.h"
#include "relay.bpf.h"

#define SOCK_STREAM_TYPE	1
#define TCP_STATE_LISTEN	10

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The mark of a socket that was open before we came, made now; NULL where it is not claimed. */
static __always_inline struct abi_mark *socket_claim(__u64 cookie, struct bpf_sock *sk)
{
	struct abi_mark *claim = bpf_map_lookup_elem(&claims, &cookie);
	struct abi_mark *mark, value;

	if (!claim)
		return NULL;
	value = *claim;
	mark = bpf_sk_storage_get(&marks, sk, &value, BPF_SK_STORAGE_GET_F_CREATE);
	if (!mark) {
		__sync_fetch_and_add(&lost.marks, 1);
		return NULL;
	}
	bpf_map_delete_elem(&claims, &cookie);
	return mark;
}

static __always_inline struct bpf_sock *socket_lookup(struct __sk_buff *skb,
						      const struct abi_poke *poke)
{
	struct bpf_sock_tuple tuple = {};

	if (poke->ip == 4) {
		__builtin_memcpy(&tuple.ipv4.saddr, poke->remote, 4);
		__builtin_memcpy(&tuple.ipv4.daddr, poke->local, 4);
		tuple.ipv4.sport = bpf_htons(poke->remote_port);
		tuple.ipv4.dport = bpf_htons(poke->local_port);
		return bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	__builtin_memcpy(tuple.ipv6.saddr, poke->remote, 16);
	__builtin_memcpy(tuple.ipv6.daddr, poke->local, 16);
	tuple.ipv6.sport = bpf_htons(poke->remote_port);
	tuple.ipv6.dport = bpf_htons(poke->local_port);
	return bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
}

/*
 * Never attached: user space runs it, in the socket's network namespace, to mark what is claimed
 * without waiting for a packet. Sockets that their addresses do not find (bound to a device,
 * one of several that share a port) wait for theirs.
 */
SEC("cgroup_skb/ingress")
int socket_poke(struct __sk_buff *skb)
{
	const struct abi_poke *poke = (void *)(long)skb->data;
	struct tcp_sock *tp;
	struct bpf_sock *sk;
	__u64 cookie;

	if (!kernel_types || (void *)(poke + 1) > (void *)(long)skb->data_end)
		return 1;
	cookie = poke->cookie;
	sk = socket_lookup(skb, poke);
	if (!sk)
		return 1;
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp && (__u64)tp->inet_conn.icsk_inet.sk.__sk_common.skc_cookie.counter == cookie)
		socket_claim(cookie, sk);
	bpf_sk_release(sk);
	return 1;
}

/*
 * What TCP says of the socket. Ingress runs without the socket's lock: each pair is read in the
 * order in which it cannot seem to shrink (copied before received, acknowledged before sent),
 * and rcv_nxt before bytes_received, so that where the latter is 0 the former is the first byte's.
 */
static __always_inline void socket_counts(struct abi_segment *s, __u64 received, __u64 acked)
{
	s->bytes_received = received;
	s->bytes_acked = acked;
	s->has |= ABI_HAS_FACTS;
	if (s->dir == ABI_OUT)
		s->has |= ABI_LOCKED;
	if (!received)
		s->has |= ABI_NOTHING_IN;
	/* A dialled socket's SYN counts as acknowledged. */
	if (acked <= (s->role == ABI_DIALLED) && s->snd_nxt == s->snd_una)
		s->has |= ABI_NOTHING_OUT;
}

static __always_inline void socket_facts(struct bpf_sock *sk, struct abi_segment *s)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	__u64 received, acked;
	__s32 window;

	if (!tp)
		return;
	s->copied_seq = tp->copied_seq;
	barrier();
	s->rcv_nxt = tp->rcv_nxt;
	barrier();
	received = tp->bytes_received;
	window = tp->rcv_wup + tp->rcv_wnd - s->rcv_nxt;
	s->rcv_wnd = window > 0 ? window : 0;
	s->snd_una = tp->snd_una;
	barrier();
	acked = tp->bytes_acked;
	s->snd_nxt = tp->snd_nxt;
	barrier();
	s->write_seq = tp->write_seq;
	s->snd_wnd = tp->snd_wnd;
	s->has |= ABI_ALL_FACTS;
	socket_counts(s, received, acked);
}

/* On a kernel that does not tell its types: what it promises to programs. */
static __always_inline void socket_few_facts(struct bpf_sock *sk, struct abi_segment *s)
{
	struct bpf_tcp_sock *tp = bpf_tcp_sock(sk);
	__u64 received, acked;

	if (!tp)
		return;
	s->rcv_nxt = tp->rcv_nxt;
	barrier();
	received = tp->bytes_received;
	s->snd_una = tp->snd_una;
	barrier();
	acked = tp->bytes_acked;
	s->snd_nxt = tp->snd_nxt;
	socket_counts(s, received, acked);
}

static __always_inline int socket_packet(struct __sk_buff *skb, __u8 dir)
{
	struct abi_segment s = { .type = ABI_SEGMENT, .dir = dir };
	struct bpf_sock *sk = skb->sk;
	struct abi_mark *mark;
	struct packet p;
	__u32 whole = 0;
	bool bare, untold, counts;

	if (!sk || (stun_wanted && reached_stun(skb, dir)) ||
	    (level == ABI_LEVEL_OFF && !claims_pending) || !packet_parse(skb, &p))
		return 1;
	bare = !p.payload_len && !(p.flags & (ABI_TCP_SYN | ABI_TCP_FIN | ABI_TCP_RST));
	if (bare && !claims_pending)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	mark = bpf_sk_storage_get(&marks, sk, NULL, 0);
	if (!mark) {
		if (!claims_pending)
			return 1;
		mark = socket_claim(bpf_get_socket_cookie(skb), sk);
		if (!mark)
			return 1;
	}
	if (bare || slot_is_muted(mark->slot) || level == ABI_LEVEL_OFF)
		return 1;
	untold = conn_is_quiet(skb);
	if (untold && !(p.flags & (ABI_TCP_SYN | ABI_TCP_FIN | ABI_TCP_RST)))
		return 1;
	if (sk->state == TCP_STATE_LISTEN) {
		if (handshakes_wanted && (p.flags & ABI_TCP_SYN))
			reached_handshake(skb, &p, dir);
		/* Handshakes that carry no data tell nothing else that the child does not. */
		if (!p.payload_len || untold)
			return 1;
		s.has = ABI_LISTENING;
	}
	s.time_ns = bpf_ktime_get_ns();
	s.cookie = bpf_get_socket_cookie(skb);
	s.slot = mark->slot;
	s.role = mark->role;
	s.flags = p.flags & (ABI_TCP_SYN | ABI_TCP_FIN | ABI_TCP_RST);
	s.ip = p.ip;
	s.tcp_state = sk->state;
	s.sport = p.sport;
	s.dport = p.dport;
	s.seq = p.seq + (p.flags & ABI_TCP_SYN ? 1 : 0);
	s.ack = p.ack;
	s.len = p.payload_len;
	counts = count_frames && kernel_types && !mark->tls && !untold && !(s.has & ABI_LISTENING);
	/* What leaves needs nothing more to be counted; of what comes TCP must be sure to take it. */
	if (dir == ABI_OUT && counts && count_packet(skb, sk, &s, p.payload_off))
		return 1;
	packet_addresses(skb, &p, s.saddr, s.daddr);
	if (dir == ABI_IN)
		whole = check_segment(skb, &p, &s);
	if (!(s.has & ABI_LISTENING)) {
		if (kernel_types)
			socket_facts(sk, &s);
		else
			socket_few_facts(sk, &s);
	}
	if (dir == ABI_IN && counts && s.role != ABI_DIALLED &&
	    count_packet(skb, sk, &s, p.payload_off))
		return 1;
	if (s.len && !s.flags && !untold && !(s.has & ABI_LISTENING) &&
	    heads_packet(skb, &s, p.payload_off)) {
		if (!mark->tls)
			mark->tls = 1;
		return 1;
	}
	if (untold) {
		/* That it begins or ends is told all the same, without what it brings. */
		s.seq += s.len;
		s.len = 0;
	}
	emit_segment(skb, &s, p.payload_off, whole);
	return 1;
}

SEC("cgroup_skb/ingress")
int socket_ingress(struct __sk_buff *skb)
{
	return socket_packet(skb, ABI_IN);
}

SEC("cgroup_skb/egress")
int socket_egress(struct __sk_buff *skb)
{
	return socket_packet(skb, ABI_OUT);
}

/* What a relay dials: its connections to other nodes. */
static __always_inline int socket_dial(struct bpf_sock_addr *ctx)
{
	struct abi_mark mark = { .role = ABI_DIALLED };
	struct bpf_sock *sk;

	if (ctx->type != SOCK_STREAM_TYPE)
		return 1;
	mark.slot = relay_slot(true);
	if (!mark.slot)
		return 1;
	sk = ctx->sk;
	if (sk && !bpf_sk_storage_get(&marks, sk, &mark, BPF_SK_STORAGE_GET_F_CREATE))
		__sync_fetch_and_add(&lost.marks, 1);
	return 1;
}

SEC("cgroup/connect4")
int socket_connect4(struct bpf_sock_addr *ctx)
{
	return socket_dial(ctx);
}

SEC("cgroup/connect6")
int socket_connect6(struct bpf_sock_addr *ctx)
{
	return socket_dial(ctx);
}
