// SPDX-License-Identifier: BSD-2-Clause
#include "pcap_help.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define SYN 2
#define ACK 16
#define PSH 8

static void put(struct pcap_script *s, const void *data, size_t len)
{
	assert_true(s->len + len <= sizeof(s->bytes));
	if (len)
		memcpy(s->bytes + s->len, data, len);
	s->len += len;
}

static void put16(struct pcap_script *s, uint16_t v)
{
	v = s->swapped ? __builtin_bswap16(v) : v;
	put(s, &v, sizeof(v));
}

static void put32(struct pcap_script *s, uint32_t v)
{
	v = s->swapped ? __builtin_bswap32(v) : v;
	put(s, &v, sizeof(v));
}

static void put64(struct pcap_script *s, uint64_t v)
{
	v = s->swapped ? __builtin_bswap64(v) : v;
	put(s, &v, sizeof(v));
}

static void pad(struct pcap_script *s)
{
	while (s->len % 4)
		put(s, "", 1);
}

/* --- files -------------------------------------------------------------------------------- */

void pcap_script_begin(struct pcap_script *s, uint16_t linktype, bool swapped)
{
	s->len = 0;
	s->ng = false;
	s->swapped = swapped;
	s->linktype = linktype;
	s->now_ns = T0;
	put32(s, 0xa1b23c4d);
	put16(s, 2);
	put16(s, 4);
	put32(s, 0);
	put32(s, 0);
	put32(s, 262144);
	put32(s, linktype);
}

/* Where the block's first length stands. */
static size_t begin_block(struct pcap_script *s, uint32_t type)
{
	put32(s, type);
	put32(s, 0);
	return s->len - 4;
}

static void end_block(struct pcap_script *s, size_t at)
{
	uint32_t len;

	pad(s);
	len = (uint32_t)(s->len - at + 8);
	put32(s, len);
	memcpy(s->bytes + at, s->bytes + s->len - 4, 4);
}

static void put_option(struct pcap_script *s, uint16_t code, const void *data, size_t len)
{
	put16(s, code);
	put16(s, (uint16_t)len);
	put(s, data, len);
	pad(s);
}

void pcap_script_begin_ng(struct pcap_script *s, bool swapped, const char *application)
{
	size_t at;

	s->len = 0;
	s->ng = true;
	s->swapped = swapped;
	s->now_ns = T0;
	s->interface = s->flags = 0;
	at = begin_block(s, 0x0a0d0d0a);
	put32(s, 0x1a2b3c4d);
	put16(s, 1);
	put16(s, 0);
	put64(s, UINT64_MAX);
	if (application)
		put_option(s, 4, application, strlen(application));
	end_block(s, at);
}

void pcap_script_interface(struct pcap_script *s, uint16_t linktype, const char *name, int tsresol,
		      int64_t tsoffset)
{
	uint8_t resolution = (uint8_t)tsresol;
	size_t at = begin_block(s, 1);

	s->linktype = linktype;
	put16(s, linktype);
	put16(s, 0);
	put32(s, 0);
	if (name)
		put_option(s, 2, name, strlen(name));
	if (tsresol >= 0)
		put_option(s, 9, &resolution, 1);
	if (tsoffset) {
		put16(s, 14);
		put16(s, 8);
		put64(s, (uint64_t)tsoffset);
	}
	put_option(s, 0, NULL, 0);
	end_block(s, at);
}

void pcap_script_block(struct pcap_script *s, uint32_t type, const void *body, size_t len)
{
	size_t at = begin_block(s, type);

	put(s, body, len);
	end_block(s, at);
}

void pcap_script_secrets(struct pcap_script *s, const char *text)
{
	size_t at = begin_block(s, 10);

	put32(s, 0x544c534b);
	put32(s, (uint32_t)strlen(text));
	put(s, text, strlen(text));
	end_block(s, at);
}

void pcap_script_packet(struct pcap_script *s, const void *data, size_t captured, size_t len)
{
	size_t at;

	if (!s->ng) {
		put32(s, (uint32_t)(s->now_ns / 1000000000));
		put32(s, (uint32_t)(s->now_ns % 1000000000));
		put32(s, (uint32_t)captured);
		put32(s, (uint32_t)len);
		put(s, data, captured);
	} else {
		at = begin_block(s, 6);
		put32(s, s->interface);
		put32(s, (uint32_t)(s->now_ns >> 32));
		put32(s, (uint32_t)s->now_ns);
		put32(s, (uint32_t)captured);
		put32(s, (uint32_t)len);
		put(s, data, captured);
		pad(s);
		if (s->flags) {
			put16(s, 2);
			put16(s, 4);
			put32(s, s->flags);
		}
		end_block(s, at);
	}
	s->now_ns += MS;
}

/* --- packets ------------------------------------------------------------------------------ */

struct addr pcap_script_addr(const char *text, uint16_t port)
{
	uint8_t ip[16];
	struct addr a;

	if (inet_pton(AF_INET, text, ip) == 1) {
		addr_set(&a, 4, ip, port);
	} else {
		assert_int_equal(inet_pton(AF_INET6, text, ip), 1);
		addr_set(&a, 6, ip, port);
	}
	return a;
}

static void be16(uint8_t *to, uint32_t v)
{
	to[0] = (uint8_t)(v >> 8);
	to[1] = (uint8_t)v;
}

static void be32(uint8_t *to, uint32_t v)
{
	be16(to, v >> 16);
	be16(to + 2, v);
}

size_t pcap_script_ip(uint8_t *to, const struct script_tcp *tcp)
{
	size_t ip = tcp->src->family == 4 ? 20 : 40;

	memset(to, 0, ip + 20);
	if (ip == 20) {
		to[0] = 0x45;
		be16(to + 2, (uint32_t)(40 + tcp->len));
		to[8] = 64;
		to[9] = 6;
		memcpy(to + 12, tcp->src->ip, 4);
		memcpy(to + 16, tcp->dst->ip, 4);
	} else {
		to[0] = 0x60;
		be16(to + 4, (uint32_t)(20 + tcp->len));
		to[6] = 6;
		memcpy(to + 8, tcp->src->ip, 16);
		memcpy(to + 24, tcp->dst->ip, 16);
	}
	be16(to + ip, tcp->src->port);
	be16(to + ip + 2, tcp->dst->port);
	be32(to + ip + 4, tcp->seq);
	be32(to + ip + 8, tcp->ack);
	to[ip + 12] = 0x50;
	to[ip + 13] = tcp->flags;
	if (tcp->len)
		memcpy(to + ip + 20, tcp->data, tcp->len);
	return ip + 20 + tcp->len;
}

void pcap_script_tcp(struct pcap_script *s, const struct script_tcp *tcp)
{
	uint8_t frame[14 + 70000] = { 0 };
	size_t at = 0, len;

	if (s->linktype == 1) {
		be16(frame + 12, tcp->src->family == 4 ? 0x0800 : 0x86dd);
		/* Hosts whose addresses end alike are one; those above 6 share a router. */
		frame[6] = 2;
		frame[11] = tcp->src->ip[tcp->src->family == 4 ? 3 : 15];
		if (frame[11] > 6)
			frame[11] = 7;
		at = 14;
	}
	len = at + pcap_script_ip(frame + at, tcp);
	pcap_script_packet(s, frame, len, len);
}

static void send_tcp(struct pcap_script *s, struct script_end *from, struct script_end *to,
		     uint8_t flags, const void *data, size_t len)
{
	const struct script_tcp tcp = {
		&from->addr, &to->addr, from->seq, from->ack, flags, data, len,
	};

	pcap_script_tcp(s, &tcp);
}

void pcap_script_handshake(struct pcap_script *s, struct script_end *client, struct script_end *server)
{
	send_tcp(s, client, server, SYN, NULL, 0);
	server->ack = ++client->seq;
	send_tcp(s, server, client, SYN | ACK, NULL, 0);
	client->ack = ++server->seq;
	send_tcp(s, client, server, ACK, NULL, 0);
}

void pcap_script_say(struct pcap_script *s, struct script_end *from, struct script_end *to,
		const void *data, size_t len)
{
	send_tcp(s, from, to, ACK | PSH, data, len);
	from->seq += (uint32_t)len;
	to->ack = from->seq;
	send_tcp(s, to, from, ACK, NULL, 0);
}

size_t pcap_script_hello(uint8_t *to, uint8_t random, const char *name)
{
	size_t n = name ? strlen(name) : 0, extensions = name ? 9 + n : 0;
	size_t body = 2 + 32 + 1 + 2 + 2 + 2 + 2 + extensions;
	uint8_t *p = to + 9;

	memset(to, 0, 9 + body);
	to[0] = 22;
	to[1] = 3;
	to[2] = 1;
	be16(to + 3, (uint32_t)(4 + body));
	to[5] = 1;
	be16(to + 7, (uint32_t)body);
	be16(p, 0x0303);
	memset(p + 2, random, 32);
	p += 2 + 32 + 1;
	be16(p, 2);
	be16(p + 2, 0x1301);
	p[4] = 1;
	p += 6;
	be16(p, (uint32_t)extensions);
	p += 2;
	if (name) {
		be16(p + 2, (uint32_t)(5 + n));
		be16(p + 4, (uint32_t)(3 + n));
		be16(p + 7, (uint32_t)n);
		memcpy(p + 9, name, n);
	}
	return 9 + body;
}

/* --- events ------------------------------------------------------------------------------- */

static void on_event(void *ctx, const struct capture_event *e)
{
	struct pcap_seen *seen = ctx;
	struct pcap_seen_event *to;

	assert_true(seen->count < MAX_EVENTS);
	to = &seen->all[seen->count++];
	memset(to, 0, sizeof(*to));
	to->event = *e;
	to->has_facts = e->facts;
	if (e->facts)
		to->facts = *e->facts;
	if (e->type == CAPTURE_NODE_UP)
		snprintf(to->text, sizeof(to->text), "%s", e->node_up.name);
	if (e->type == CAPTURE_SECRET)
		snprintf(to->text, sizeof(to->text), "%s", e->secret.label);
	if (e->type == CAPTURE_SEGMENT && e->segment.captured)
		memcpy(to->data, e->segment.data,
		       e->segment.captured < sizeof(to->data) ? e->segment.captured : sizeof(to->data));
}

static int memory_file(const void *data, size_t len, char path[static 32])
{
	int fd = memfd_create("pcap", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	snprintf(path, 32, "/proc/self/fd/%d", fd);
	return fd;
}

void pcap_script_run(const struct pcap_script *s, const char *keylog, struct pcap_seen *seen)
{
	const struct capture_sink sink = { .ctx = seen, .event = on_event };
	struct capture_error err = { "" };
	char path[32], keys[32];
	struct capture *c;
	int fd, key_fd = -1;

	memset(seen, 0, sizeof(*seen));
	fd = memory_file(s->bytes, s->len, path);
	if (keylog)
		key_fd = memory_file(keylog, strlen(keylog), keys);
	c = capture_file_open(path, keylog ? keys : NULL, &err);
	if (c) {
		assert_int_equal(c->ops->fd(c), -1);
		while (!(seen->result = c->ops->run(c, &sink)))
			;
		snprintf(seen->complaints, sizeof(seen->complaints), "%s",
			 c->ops->complaints(c) ? c->ops->complaints(c) : "");
		c->ops->close(c);
	} else {
		snprintf(seen->error, sizeof(seen->error), "%s", err.text);
	}
	close(fd);
	if (key_fd >= 0)
		close(key_fd);
}

const struct pcap_seen_event *pcap_seen_find(const struct pcap_seen *seen, enum capture_type type, size_t n)
{
	size_t i;

	for (i = 0; i < seen->count; i++) {
		if (seen->all[i].event.type == type && !n--)
			return &seen->all[i];
	}
	return NULL;
}

size_t pcap_seen_count(const struct pcap_seen *seen, enum capture_type type)
{
	size_t i, n = 0;

	for (i = 0; i < seen->count; i++)
		n += seen->all[i].event.type == type;
	return n;
}
