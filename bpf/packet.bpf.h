/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From a packet's IP header to its TCP payload. Headers are read where they lie; a packet
 * whose headers do not lie in the linear part is none of TCP's making and is left alone.
 */
#ifndef DT_PACKET_BPF_H
#define DT_PACKET_BPF_H

#define PACKET_EXTENSIONS	6	/* IPv6 extension headers, more are not looked behind */

struct packet {
	__u8 ip;		/* 4, 6 */
	__u8 flags;		/* ABI_TCP_* and others */
	__u16 sport, dport;
	__u32 seq, ack;
	__u32 tcp_off;
	__u32 payload_off;
	__u32 payload_len;
};

#define PACKET_TCP		6
#define PACKET_HOP_BY_HOP	0
#define PACKET_ROUTING		43
#define PACKET_DESTINATION	60

/* Offset of the header behind the extension headers, its type in *next; 0: too many, cut off. */
static __always_inline __u32 packet_skip_extensions(void *data, void *end, __u8 *next)
{
	__u32 off = sizeof(struct ipv6hdr);
	__u8 *header;
	int i;

	for (i = 0; i < PACKET_EXTENSIONS; i++) {
		if (*next != PACKET_HOP_BY_HOP && *next != PACKET_ROUTING &&
		    *next != PACKET_DESTINATION)
			return off;
		header = data + (off & 0xfff);
		if ((void *)(header + 2) > end)
			return 0;
		*next = header[0];
		off += (header[1] + 1) * 8;
		if (off > 2048)
			return 0;
	}
	return 0;
}

/* False where it is not TCP, or not whole. The length is the skb's: BIG TCP's headers say 0. */
static __always_inline bool packet_parse(struct __sk_buff *skb, struct packet *p)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct tcphdr *tcp;
	struct ipv6hdr *ip6 = data;
	struct iphdr *ip4 = data;
	__u8 next;
	__u32 off;

	if ((void *)(ip4 + 1) > end)
		return false;
	if (ip4->version == 4) {
		if (ip4->protocol != PACKET_TCP)
			return false;
		p->ip = 4;
		off = ip4->ihl * 4;
	} else {
		if (ip4->version != 6 || (void *)(ip6 + 1) > end)
			return false;
		p->ip = 6;
		next = ip6->nexthdr;
		off = sizeof(*ip6);
		if (next != PACKET_TCP)
			off = packet_skip_extensions(data, end, &next);
		if (!off || next != PACKET_TCP)
			return false;
	}
	tcp = data + (off & 0xfff);
	if ((void *)(tcp + 1) > end)
		return false;
	p->flags = ((__u8 *)tcp)[13];
	p->sport = bpf_ntohs(tcp->source);
	p->dport = bpf_ntohs(tcp->dest);
	p->seq = bpf_ntohl(tcp->seq);
	p->ack = bpf_ntohl(tcp->ack_seq);
	p->tcp_off = off;
	p->payload_off = off + tcp->doff * 4;
	if (p->payload_off > skb->len)
		return false;
	p->payload_len = skb->len - p->payload_off;
	return true;
}

/* Addresses in a record's form; the packet was parsed. */
static __always_inline void packet_addresses(struct __sk_buff *skb, const struct packet *p,
					     __u8 saddr[16], __u8 daddr[16])
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct ipv6hdr *ip6 = data;
	struct iphdr *ip4 = data;

	if (p->ip == 4 && (void *)(ip4 + 1) <= end) {
		*(__u32 *)saddr = ip4->saddr;
		*(__u32 *)daddr = ip4->daddr;
	} else if (p->ip == 6 && (void *)(ip6 + 1) <= end) {
		__builtin_memcpy(saddr, &ip6->saddr, 16);
		__builtin_memcpy(daddr, &ip6->daddr, 16);
	}
}

#endif
