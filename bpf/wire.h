/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the wire delivered: from a frame, as a network card hands it over, to its TCP header or its
 * STUN request; and how far the bytes of a connection have come without a hole. Touches nothing but
 * the frame and its own state, and so compiles for kernel, user space and fuzzers alike.
 *
 * Ethernet with up to two VLAN tags, or bare IP (tunnels); IPv4, IPv6 with extension headers.
 *
 * Included after <linux/types.h> or vmlinux.h, and abi.h.
 */
#ifndef DT_WIRE_H
#define DT_WIRE_H

#define WIRE_INLINE		static inline __attribute__((always_inline))

#define WIRE_TAGS		2
#define WIRE_EXTENSIONS		6	/* IPv6 extension headers, more are not looked behind */
#define WIRE_OFF_MAX		2047	/* no header begins behind it */

#define WIRE_ETH_LEN		14
#define WIRE_TAG_LEN		4
#define WIRE_TCP_LEN		20
#define WIRE_UDP_LEN		8

#define WIRE_TYPE_IP4		0x0800
#define WIRE_TYPE_IP6		0x86dd
#define WIRE_TYPE_VLAN		0x8100
#define WIRE_TYPE_QINQ		0x88a8
#define WIRE_TYPE_QINQ_OLD	0x9100

#define WIRE_TCP		6
#define WIRE_UDP		17

#define WIRE_HOP_BY_HOP		0
#define WIRE_ROUTING		43
#define WIRE_FRAGMENT		44
#define WIRE_AUTHENTICATION	51
#define WIRE_DESTINATION	60

/* A binding request as clients of relays send it; relays answer no other. */
#define WIRE_STUN_LEN		40	/* header, SOFTWARE "tailnode", FINGERPRINT */
#define WIRE_STUN_COOKIE	0x2112a442u
#define WIRE_STUN_REQUEST	0x0001
#define WIRE_STUN_SUCCESS	0x0101

struct wire_packet {
	__u8 ip;		/* 4, 6 */
	__u8 proto;		/* WIRE_TCP, WIRE_UDP */
	__u8 flags;		/* of TCP: ABI_TCP_* and others */
	__u8 stun;		/* a request that a relay answers */
	__u8 partial;		/* a fragment, or cut off: its bytes are not followed */
	__u16 sport, dport;
	__u32 seq;
	__u32 payload_len;
	const __u8 *saddr, *daddr; /* in the frame; 4 or 16 bytes */
};

WIRE_INLINE __u16 wire_be16(const __u8 *p)
{
	return (__u16)(p[0] << 8 | p[1]);
}

WIRE_INLINE __u32 wire_be32(const __u8 *p)
{
	return (__u32)p[0] << 24 | (__u32)p[1] << 16 | (__u32)p[2] << 8 | p[3];
}

/* Is @a later than @b? Sequence numbers wrap. */
WIRE_INLINE int wire_after(__u32 a, __u32 b)
{
	return (__s32)(a - b) > 0;
}

/* The type of what the frame carries, its offset in *off; 0: cut off. */
WIRE_INLINE __u16 wire_ethernet_type(const __u8 *data, const __u8 *end, __u32 *off)
{
	__u16 type;
	int i;

	if (data + WIRE_ETH_LEN > end)
		return 0;
	type = wire_be16(data + 12);
	*off = WIRE_ETH_LEN;
	for (i = 0; i < WIRE_TAGS; i++) {
		if (type != WIRE_TYPE_VLAN && type != WIRE_TYPE_QINQ && type != WIRE_TYPE_QINQ_OLD)
			return type;
		if (data + *off + WIRE_TAG_LEN > end)
			return 0;
		type = wire_be16(data + *off + 2);
		*off += WIRE_TAG_LEN;
	}
	return type;
}

/* Behind the extension headers: the next header's type in *next, its offset, 0 where there is none. */
WIRE_INLINE __u32 wire_skip_extensions(const __u8 *data, const __u8 *end, __u32 off, __u8 *next,
				       __u8 *partial)
{
	const __u8 *h;
	int i;

	for (i = 0; i < WIRE_EXTENSIONS; i++) {
		if (*next != WIRE_HOP_BY_HOP && *next != WIRE_ROUTING && *next != WIRE_FRAGMENT &&
		    *next != WIRE_AUTHENTICATION && *next != WIRE_DESTINATION)
			return off;
		if (off > WIRE_OFF_MAX)
			return 0;
		h = data + off;
		if (h + 8 > end)
			return 0;
		if (*next == WIRE_FRAGMENT) {
			/* Only the first has what follows. */
			if (wire_be16(h + 2) & 0xfff8)
				return 0;
			*partial |= wire_be16(h + 2) & 1;
			off += 8;
		} else if (*next == WIRE_AUTHENTICATION) {
			off += (h[1] + 2) * 4;
		} else {
			off += (h[1] + 1) * 8;
		}
		*next = h[0];
	}
	return 0;
}

/* The IP header at @off: offset of what it carries, 0: nothing of ours. Its end in *ip_end. */
WIRE_INLINE __u32 wire_ip(const __u8 *data, const __u8 *end, __u32 off, __u32 frame_len,
			  struct wire_packet *p, __u32 *ip_end)
{
	const __u8 *h = data + off;
	__u32 len;
	__u8 next;

	if (p->ip == 4) {
		if (h + 20 > end || h[0] >> 4 != 4 || (h[0] & 15) < 5)
			return 0;
		if (wire_be16(h + 6) & 0x1fff)
			return 0;
		p->partial = wire_be16(h + 6) >> 13 & 1;
		p->saddr = h + 12;
		p->daddr = h + 16;
		p->proto = h[9];
		len = wire_be16(h + 2);
		/* Packets of more than 64 KiB (BIG TCP) say 0. */
		*ip_end = len ? off + len : frame_len;
		return off + (h[0] & 15) * 4;
	}
	if (h + 40 > end || h[0] >> 4 != 6)
		return 0;
	p->saddr = h + 8;
	p->daddr = h + 24;
	next = h[6];
	len = wire_be16(h + 4);
	*ip_end = len ? off + 40 + len : frame_len;
	off = wire_skip_extensions(data, end, off + 40, &next, &p->partial);
	p->proto = next;
	return off;
}

/* SOFTWARE "tailnode" stands first: so all clients of relays write it, and no scanner. */
WIRE_INLINE int wire_is_stun_request(const __u8 *h, const __u8 *end)
{
	if (h + WIRE_STUN_LEN > end)
		return 0;
	return wire_be16(h) == WIRE_STUN_REQUEST && wire_be32(h + 4) == WIRE_STUN_COOKIE &&
	       wire_be32(h + 20) == 0x80220008u && wire_be32(h + 24) == 0x7461696cu &&
	       wire_be32(h + 28) == 0x6e6f6465u;
}

/*
 * False where it is neither TCP nor UDP, or cut off before it says so. @ethernet: it begins with an
 * Ethernet header, else with IP's. @frame_len may go beyond @end: what is there is not looked at.
 */
WIRE_INLINE int wire_parse(const __u8 *data, const __u8 *end, __u32 frame_len, int ethernet,
			   struct wire_packet *p)
{
	__u32 off = 0, ip_end = 0, header;
	const __u8 *h;
	__u16 type;

	__builtin_memset(p, 0, sizeof(*p));
	if (ethernet) {
		type = wire_ethernet_type(data, end, &off);
		p->ip = type == WIRE_TYPE_IP4 ? 4 : type == WIRE_TYPE_IP6 ? 6 : 0;
	} else if (data + 1 <= end) {
		p->ip = data[0] >> 4;
	}
	if (p->ip != 4 && p->ip != 6)
		return 0;
	off = wire_ip(data, end, off, frame_len, p, &ip_end);
	if (!off || off > WIRE_OFF_MAX)
		return 0;
	h = data + off;
	if (h + WIRE_UDP_LEN > end)
		return 0;
	p->sport = wire_be16(h);
	p->dport = wire_be16(h + 2);
	if (p->proto == WIRE_UDP) {
		p->stun = wire_is_stun_request(h + WIRE_UDP_LEN, end);
		return 1;
	}
	if (p->proto != WIRE_TCP || h + WIRE_TCP_LEN > end)
		return 0;
	header = (h[12] >> 4) * 4;
	p->seq = wire_be32(h + 4);
	p->flags = h[13];
	if (header < WIRE_TCP_LEN || ip_end > frame_len || off + header > ip_end)
		p->partial = 1;
	else
		p->payload_len = ip_end - off - header;
	return 1;
}

/*
 * How far its bytes have come. @next grows over what arrived without a hole since the first segment
 * that was seen, and over one island beyond the hole: it may stay behind the truth, never run ahead
 * of it. True where nothing of it is new.
 */
WIRE_INLINE int wire_follow(struct abi_wire_flow *f, __u32 seq, __u32 end)
{
	int old;

	if (!f->followed) {
		f->followed = 1;
		f->base = f->island = f->island_end = seq;
		f->next = f->highest = end;
		return 0;
	}
	old = !wire_after(end, f->highest);
	if (!old)
		f->highest = end;
	if (!wire_after(seq, f->next)) {
		if (wire_after(end, f->next))
			f->next = end;
		if (f->island != f->island_end && !wire_after(f->island, f->next)) {
			if (wire_after(f->island_end, f->next))
				f->next = f->island_end;
			f->island = f->island_end;
		}
		/* What was once one stretch is not compared over half of all numbers. */
		if (f->next - f->base > 1u << 30)
			f->base = f->next - (1u << 29);
	} else if (f->island == f->island_end) {
		f->island = seq;
		f->island_end = end;
	} else if (!wire_after(f->island, end) && !wire_after(seq, f->island_end)) {
		if (wire_after(f->island, seq))
			f->island = seq;
		if (wire_after(end, f->island_end))
			f->island_end = end;
	}
	return old;
}

#endif
