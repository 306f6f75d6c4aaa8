// SPDX-License-Identifier: BSD-2-Clause
/*
 * From a captured frame to its TCP segment. Link headers, VLAN tags, IP options and extension headers
 * are passed over; tunnels are not looked into. Lengths come from IP, or, where the packet is too
 * big to have one there (segmentation offload, BIG TCP), from the capture.
 */
#include <string.h>

#include "capture/pcap.h"

#define LINK_NULL	0
#define LINK_ETHERNET	1
#define LINK_RAW_DLT	12	/* DLT_RAW here, and on OpenBSD */
#define LINK_RAW_DLT_2	14
#define LINK_RAW	101
#define LINK_LOOP	108
#define LINK_SLL	113
#define LINK_IPV4	228
#define LINK_IPV6	229
#define LINK_SLL2	276

#define ETHER_IPV4	0x0800
#define ETHER_IPV6	0x86dd
#define ETHER_VLAN	0x8100
#define ETHER_QINQ	0x88a8
#define ETHER_QINQ_OLD	0x9100

#define PROTO_HOPOPTS	0
#define PROTO_TCP	6
#define PROTO_ROUTING	43
#define PROTO_FRAGMENT	44
#define PROTO_AUTH	51
#define PROTO_DSTOPTS	60

#define MAX_TAGS	4
#define MAX_EXTENSIONS	8

/* What is left of a packet: captured bytes at @p, of @wire bytes in all. */
struct cursor {
	const uint8_t *p;
	size_t len;
	size_t wire;
};

static uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)be16(p) << 16 | be16(p + 2);
}

static bool advance(struct cursor *c, size_t n)
{
	if (n > c->len)
		return false;
	c->p += n;
	c->len -= n;
	c->wire = c->wire > n ? c->wire - n : 0;
	return true;
}

/* --- link headers: *type becomes an Ethernet type, 0 where the IP version tells --------------- */

static bool parse_ethernet(struct cursor *c, uint64_t *mac, uint16_t *type)
{
	int tags;

	if (c->len < 14)
		return false;
	*mac = (uint64_t)be16(c->p + 6) << 32 | be32(c->p + 8);
	*type = be16(c->p + 12);
	advance(c, 14);
	for (tags = 0; tags < MAX_TAGS; tags++) {
		if (*type != ETHER_VLAN && *type != ETHER_QINQ && *type != ETHER_QINQ_OLD)
			return true;
		if (c->len < 4)
			return false;
		*type = be16(c->p + 2);
		advance(c, 4);
	}
	return true;
}

static bool parse_tagged(struct cursor *c, uint16_t *type)
{
	while (*type == ETHER_VLAN || *type == ETHER_QINQ) {
		if (c->len < 4)
			return false;
		*type = be16(c->p + 2);
		advance(c, 4);
	}
	return true;
}

static bool parse_link(struct cursor *c, int linktype, struct pcap_segment *s, uint16_t *type,
		       bool *known)
{
	*known = true;
	*type = 0;
	switch (linktype) {
	case LINK_ETHERNET:
		return parse_ethernet(c, &s->mac, type);
	case LINK_RAW_DLT:
	case LINK_RAW_DLT_2:
	case LINK_RAW:
	case LINK_IPV4:
	case LINK_IPV6:
		return true;
	case LINK_NULL:
	case LINK_LOOP:
		return advance(c, 4);
	case LINK_SLL:
		if (c->len < 16)
			return false;
		*type = be16(c->p + 14);
		if (s->direction == PCAP_DIRECTION_UNKNOWN)
			s->direction = be16(c->p) == 4 ? PCAP_OUTBOUND : PCAP_INBOUND;
		return advance(c, 16) && parse_tagged(c, type);
	case LINK_SLL2:
		if (c->len < 20)
			return false;
		*type = be16(c->p);
		if (s->direction == PCAP_DIRECTION_UNKNOWN)
			s->direction = c->p[10] == 4 ? PCAP_OUTBOUND : PCAP_INBOUND;
		return advance(c, 20) && parse_tagged(c, type);
	default:
		*known = false;
		return false;
	}
}

/* --- IP --------------------------------------------------------------------------------------- */

/* Padding behind the packet is no part of it. */
static void cut_to(struct cursor *c, size_t wire)
{
	c->wire = wire;
	if (c->len > wire)
		c->len = wire;
}

static enum pcap_parse parse_ipv4(struct cursor *c, struct pcap_segment *s)
{
	size_t header, total;
	uint16_t fragment;

	if (c->len < 20)
		return PCAP_IS_CUT;
	header = (c->p[0] & 15) * 4u;
	total = be16(c->p + 2);
	if (!total)
		total = c->wire;
	if (header < 20 || total < header)
		return PCAP_IS_OTHER;
	if (c->p[9] != PROTO_TCP)
		return PCAP_IS_OTHER;
	fragment = be16(c->p + 6);
	if (fragment & 0x3fff)
		return PCAP_IS_FRAGMENT;
	addr_set(&s->src, 4, c->p + 12, 0);
	addr_set(&s->dst, 4, c->p + 16, 0);
	cut_to(c, total);
	return advance(c, header) ? PCAP_IS_TCP : PCAP_IS_CUT;
}

static enum pcap_parse skip_extensions(struct cursor *c, uint8_t next)
{
	size_t len;
	int i;

	for (i = 0; i < MAX_EXTENSIONS && next != PROTO_TCP; i++) {
		if (next != PROTO_HOPOPTS && next != PROTO_ROUTING && next != PROTO_FRAGMENT &&
		    next != PROTO_AUTH && next != PROTO_DSTOPTS)
			return PCAP_IS_OTHER;
		if (c->len < 8)
			return PCAP_IS_CUT;
		if (next == PROTO_FRAGMENT && be16(c->p + 2) & 0xfff9)
			return c->p[0] == PROTO_TCP ? PCAP_IS_FRAGMENT : PCAP_IS_OTHER;
		len = next == PROTO_FRAGMENT ? 8 :
		      next == PROTO_AUTH ? (c->p[1] + 2u) * 4 : (c->p[1] + 1u) * 8;
		next = c->p[0];
		if (!advance(c, len))
			return PCAP_IS_CUT;
	}
	return next == PROTO_TCP ? PCAP_IS_TCP : PCAP_IS_OTHER;
}

static enum pcap_parse parse_ipv6(struct cursor *c, struct pcap_segment *s)
{
	uint16_t payload;
	uint8_t next;

	if (c->len < 40)
		return PCAP_IS_CUT;
	addr_set(&s->src, 6, c->p + 8, 0);
	addr_set(&s->dst, 6, c->p + 24, 0);
	payload = be16(c->p + 4);
	next = c->p[6];
	/* A jumbogram's length is 0 here, and in an option that says no more than the capture. */
	if (payload)
		cut_to(c, 40u + payload);
	advance(c, 40);
	return skip_extensions(c, next);
}

static enum pcap_parse parse_ip(struct cursor *c, uint16_t type, struct pcap_segment *s)
{
	if (type && type != ETHER_IPV4 && type != ETHER_IPV6)
		return PCAP_IS_OTHER;
	if (!c->len)
		return PCAP_IS_CUT;
	if (c->p[0] >> 4 == 4 && type != ETHER_IPV6)
		return parse_ipv4(c, s);
	if (c->p[0] >> 4 == 6 && type != ETHER_IPV4)
		return parse_ipv6(c, s);
	return PCAP_IS_OTHER;
}

/* --- TCP -------------------------------------------------------------------------------------- */

static enum pcap_parse parse_tcp(struct cursor *c, struct pcap_segment *s)
{
	size_t header;

	if (c->len < 20)
		return PCAP_IS_CUT;
	header = (c->p[12] >> 4) * 4u;
	if (header < 20 || header > c->wire)
		return PCAP_IS_OTHER;
	s->src.port = be16(c->p);
	s->dst.port = be16(c->p + 2);
	s->seq = be32(c->p + 4);
	s->ack = be32(c->p + 8);
	s->flags = c->p[13];
	s->len = (uint32_t)(c->wire - header);
	s->captured = 0;
	s->data = c->p;
	/* Its options may be cut off; they tell nothing that is needed. */
	if (advance(c, header)) {
		s->captured = (uint32_t)(c->len < s->len ? c->len : s->len);
		s->data = c->p;
	}
	return PCAP_IS_TCP;
}

enum pcap_parse pcap_packet_parse(const struct pcap_packet *p, int linktype,
				  struct pcap_segment *s)
{
	struct cursor c = { p->data, p->captured, p->len };
	enum pcap_parse result;
	uint16_t type;
	bool known;

	*s = (struct pcap_segment){ .time_ns = p->time_ns, .interface = p->interface,
				    .direction = p->direction };
	/* No file says so, and means it. */
	if (c.wire < c.len)
		c.wire = c.len;
	if (!parse_link(&c, linktype, s, &type, &known))
		return known ? PCAP_IS_CUT : PCAP_IS_UNREADABLE;
	result = parse_ip(&c, type, s);
	if (result == PCAP_IS_TCP)
		result = parse_tcp(&c, s);
	/* No TCP segment of any host is longer. */
	if (result == PCAP_IS_TCP && s->len > PCAP_MAX_CAPTURED)
		return PCAP_IS_OTHER;
	return result;
}
