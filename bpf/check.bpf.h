/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Will TCP take an inbound segment's checksum for right? The hook is before it looks. Where it
 * need not look any more (the card did, GRO did, the packet never left this machine) the segment is
 * right; else the headers are summed up here, and user space adds the payload.
 */
#ifndef DT_CHECK_BPF_H
#define DT_CHECK_BPF_H

/* sk_buff.ip_summed */
#define CHECK_UNNECESSARY	1
#define CHECK_PARTIAL		3

#define CHECK_HEADER_MAX	60	/* a TCP header with all its options */
#define CHECK_HEADER_MIN	20
#define CHECK_FIELD		8	/* the checksum, in 16-bit words from the header's start */

/* As skb_csum_unnecessary() of the kernel: TCP asks the same, and computes where it is false. */
static __always_inline bool check_is_done(struct __sk_buff *skb)
{
	struct sk_buff *kernel = (struct sk_buff *)skb;
	__u8 summed = BPF_CORE_READ_BITFIELD_PROBED(kernel, ip_summed);

	if (summed == CHECK_UNNECESSARY)
		return true;
	if (summed == CHECK_PARTIAL)
		return BPF_CORE_READ(kernel, csum_start) >= BPF_CORE_READ(kernel, transport_header);
	return BPF_CORE_READ_BITFIELD_PROBED(kernel, csum_valid);
}

static __always_inline __u16 check_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

#define CHECK_WHOLE		0x100

/*
 * enum abi_check, CHECK_WHOLE, and the sum in the upper half. Not static, so that the verifier walks
 * it once and takes what it returns for any number. @pseudo: sum of the pseudo-header.
 */
__noinline int check_sum(struct __sk_buff *skb, __u32 tcp_off, __u32 payload_off, __u64 pseudo)
{
	__u32 header[CHECK_HEADER_MAX / 4] = {};
	__u64 len = payload_off - tcp_off, sum = pseudo;
	__u32 payload = skb->len - payload_off, check;
	int i;

	if (kernel_reads && check_is_done(skb))
		return ABI_CHECK_HOLDS;
	asm volatile("" : "+r"(len));
	if (len < CHECK_HEADER_MIN || len > CHECK_HEADER_MAX ||
	    bpf_skb_load_bytes(skb, tcp_off, header, len))
		return ABI_CHECK_NONE;
	for (i = 0; i < CHECK_HEADER_MAX / 4; i++)
		sum += header[i];
	/*
	 * Without the kernel's word: a sum of the pseudo-header alone is one that was never finished.
	 * Where TCP will look it is as wrong as any other.
	 */
	if (!kernel_reads && ((__u16 *)header)[CHECK_FIELD] == check_fold(pseudo))
		return ABI_CHECK_NONE;
	check = kernel_reads ? ABI_CHECK_PENDING : ABI_CHECK_UNTOLD;
	if (payload > EMIT_CHUNK && payload <= EMIT_WHOLE)
		check |= CHECK_WHOLE;
	return check | check_fold(sum) << 16;
}

/* Is it to be shipped in one piece? The sum tells nothing of less. */
static __always_inline __u32 check_segment(struct __sk_buff *skb, const struct packet *p,
					  struct abi_segment *s)
{
	const __u32 *from = (const __u32 *)s->saddr, *to = (const __u32 *)s->daddr;
	__u64 pseudo = bpf_htonl(PACKET_TCP) + (__u64)bpf_htonl(skb->len - p->tcp_off);
	__u32 check;
	int i;

	for (i = 0; i < 4; i++)
		pseudo += (__u64)from[i] + to[i];
	check = check_sum(skb, p->tcp_off, p->payload_off, pseudo);
	s->check = check;
	s->sum = check >> 16;
	return check & CHECK_WHOLE;
}

#endif
