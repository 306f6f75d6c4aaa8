// SPDX-License-Identifier: BSD-2-Clause
/* IP and TCP headers for segments whose own are not kept. */
#include <string.h>

#include "view/pcapng_private.h"

#define PROTO_TCP	6
#define TTL		64
/* Window scale 14 in the SYN and this: a window that no analysis takes for full. */
#define WINDOW		0xffff

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v);
}

static uint64_t sum(const uint8_t *p, size_t len)
{
	uint64_t total = 0;

	for (; len > 1; len -= 2, p += 2)
		total += (uint32_t)p[0] << 8 | p[1];
	return total + (len ? (uint32_t)p[0] << 8 : 0);
}

static uint16_t fold(uint64_t total)
{
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return (uint16_t)~total;
}

static size_t put_ipv4(uint8_t *to, const struct pcapng_tcp *tcp, size_t payload)
{
	memset(to, 0, 20);
	to[0] = 0x45;
	put16(to + 2, (uint32_t)(20 + payload));
	to[6] = 0x40;
	to[8] = TTL;
	to[9] = PROTO_TCP;
	memcpy(to + 12, tcp->src->ip, 4);
	memcpy(to + 16, tcp->dst->ip, 4);
	put16(to + 10, fold(sum(to, 20)));
	return 20;
}

static size_t put_ipv6(uint8_t *to, const struct pcapng_tcp *tcp, size_t payload)
{
	memset(to, 0, 8);
	to[0] = 0x60;
	put16(to + 4, (uint32_t)payload);
	to[6] = PROTO_TCP;
	to[7] = TTL;
	memcpy(to + 8, tcp->src->ip, 16);
	memcpy(to + 24, tcp->dst->ip, 16);
	return 40;
}

static size_t put_tcp(uint8_t *to, const struct pcapng_tcp *tcp)
{
	/* Maximum segment size 1460; no-operation; window scale 14. */
	static const uint8_t options[8] = { 2, 4, 1460 >> 8, 1460 & 0xff, 1, 3, 3, 14 };
	size_t len = tcp->flags & PCAPNG_TCP_SYN ? 28 : 20;

	memset(to, 0, len);
	put16(to, tcp->src->port);
	put16(to + 2, tcp->dst->port);
	put32(to + 4, tcp->seq);
	put32(to + 8, tcp->ack);
	to[12] = (uint8_t)(len / 4 << 4);
	to[13] = tcp->flags;
	put16(to + 14, WINDOW);
	if (len > 20)
		memcpy(to + 20, options, sizeof(options));
	return len;
}

size_t pcapng_headers(uint8_t to[static PCAPNG_HEADERS_MAX], const struct pcapng_tcp *tcp)
{
	size_t tcp_len = tcp->flags & PCAPNG_TCP_SYN ? 28 : 20;
	size_t payload = tcp_len + tcp->len, ip_len, addr_len;
	uint64_t total;
	uint8_t *t;

	if (tcp->src->family != tcp->dst->family ||
	    (tcp->src->family != 4 && tcp->src->family != 6))
		return 0;
	ip_len = tcp->src->family == 4 ? put_ipv4(to, tcp, payload) : put_ipv6(to, tcp, payload);
	addr_len = tcp->src->family == 4 ? 4 : 16;
	t = to + ip_len;
	put_tcp(t, tcp);
	/* Of bytes that are not there no sum can be made. */
	if (tcp->captured == tcp->len) {
		total = sum(tcp->src->ip, addr_len) + sum(tcp->dst->ip, addr_len) + PROTO_TCP +
			payload + sum(t, tcp_len) + sum(tcp->data, tcp->captured);
		put16(t + 16, fold(total));
	}
	return ip_len + tcp_len;
}
