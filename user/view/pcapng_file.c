// SPDX-License-Identifier: BSD-2-Clause
/* The blocks of a pcapng file (draft-ietf-opsawg-pcapng), written in this host's byte order. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "view/pcapng_private.h"

#define BLOCK_SECTION		0x0a0d0d0a
#define BLOCK_INTERFACE		1
#define BLOCK_STATISTICS	5
#define BLOCK_PACKET		6
#define BLOCK_SECRETS		10
#define SECRETS_TLS		0x544c534b

#define OPTION_END		0
#define OPTION_COMMENT		1
#define OPTION_USERAPPL		4
#define OPTION_IF_NAME		2
#define OPTION_IF_DESCRIPTION	3
#define OPTION_IF_TSRESOL	9
#define OPTION_PACKET_FLAGS	2
#define OPTION_STAT_START	2
#define OPTION_STAT_END		3
#define OPTION_STAT_RECEIVED	4
#define OPTION_STAT_DROPPED	5

#define TEXT_MAX	1024
#define BUFFER_BYTES	(256 << 10)
/* A secret is told within milliseconds of the packets that need it. */
#define HOLD_NS		(200 * NSEC_PER_MSEC)
#define HOLD_BYTES	(16 << 20)

struct pcapng_held {
	struct pcapng_held *next, *prev;
	uint64_t time_ns;
	size_t len;
	uint8_t block[];
};

struct pcapng_file {
	int fd;
	int error;
	uint32_t interfaces;
	struct pcapng_held *head, *tail; /* in order of time */
	size_t held_bytes;
	size_t used;
	uint8_t buffer[BUFFER_BYTES];
};

/* A block that is being put together. @room is known to be enough. */
struct builder {
	uint8_t *to;
	size_t len;
};

static size_t padded(size_t len)
{
	return (len + 3) & ~(size_t)3;
}

static void put(struct builder *b, const void *data, size_t len)
{
	if (len)
		memcpy(b->to + b->len, data, len);
	memset(b->to + b->len + len, 0, padded(len) - len);
	b->len += padded(len);
}

static void put32(struct builder *b, uint32_t v)
{
	put(b, &v, sizeof(v));
}

static void put_time(struct builder *b, uint64_t ns)
{
	put32(b, (uint32_t)(ns >> 32));
	put32(b, (uint32_t)ns);
}

static void put_option(struct builder *b, uint16_t code, const void *data, size_t len)
{
	const uint16_t head[2] = { code, (uint16_t)len };

	put(b, head, sizeof(head));
	put(b, data, len);
}

static void put_text(struct builder *b, uint16_t code, const char *text)
{
	if (text && text[0])
		put_option(b, code, text, strnlen(text, TEXT_MAX));
}

static void put_option_time(struct builder *b, uint16_t code, uint64_t ns)
{
	const uint32_t halves[2] = { (uint32_t)(ns >> 32), (uint32_t)ns };

	put_option(b, code, halves, sizeof(halves));
}

static void begin(struct builder *b, uint8_t *to, uint32_t type)
{
	b->to = to;
	b->len = 0;
	put32(b, type);
	put32(b, 0);
}

/* Both lengths. */
static void end(struct builder *b)
{
	uint32_t total = (uint32_t)b->len + 4;

	put32(b, total);
	memcpy(b->to + 4, &total, sizeof(total));
}

/* --- out ---------------------------------------------------------------------------------- */

/* Of a run of blocks of which @written bytes were: those of its whole ones. */
static size_t whole_blocks(const uint8_t *blocks, size_t written)
{
	size_t at = 0;
	uint32_t len;

	while (at + 8 <= written) {
		memcpy(&len, blocks + at + 4, sizeof(len));
		if (len > written - at)
			break;
		at += len;
	}
	return at;
}

/* Blocks, all whole. What a full disk has cut in two is taken back, where that can be done. */
static void write_blocks(struct pcapng_file *f, const uint8_t *blocks, size_t len)
{
	size_t written = 0, cut;
	off_t end;
	ssize_t n;

	while (written < len && !f->error) {
		n = write(f->fd, blocks + written, len - written);
		if (n >= 0)
			written += (size_t)n;
		else if (errno != EINTR)
			f->error = -errno;
	}
	if (!f->error)
		return;
	cut = written - whole_blocks(blocks, written);
	end = lseek(f->fd, 0, SEEK_CUR);
	if (cut && end >= (off_t)cut && ftruncate(f->fd, end - (off_t)cut))
		f->error = -errno;
}

void pcapng_file_flush(struct pcapng_file *f)
{
	if (f->used && !f->error)
		write_blocks(f, f->buffer, f->used);
	/* Secrets pass through it. */
	explicit_bzero(f->buffer, f->used);
	f->used = 0;
}

static void emit(struct pcapng_file *f, const uint8_t *block, size_t len)
{
	if (len > sizeof(f->buffer) - f->used)
		pcapng_file_flush(f);
	if (len > sizeof(f->buffer)) {
		if (!f->error)
			write_blocks(f, block, len);
		return;
	}
	memcpy(f->buffer + f->used, block, len);
	f->used += len;
}

static void write_section(struct pcapng_file *f)
{
	const uint16_t version[2] = { 1, 0 };
	const int64_t length = -1;
	uint8_t block[256];
	struct builder b;

	begin(&b, block, BLOCK_SECTION);
	put32(&b, 0x1a2b3c4d);
	put(&b, version, sizeof(version));
	put(&b, &length, sizeof(length));
	put_text(&b, OPTION_USERAPPL, "derptrace " DERPTRACE_VERSION);
	put_option(&b, OPTION_END, NULL, 0);
	end(&b);
	emit(f, block, b.len);
}

uint32_t pcapng_file_interface(struct pcapng_file *f, const struct pcapng_interface *i)
{
	const uint8_t nanoseconds = 9;
	uint8_t block[4 * TEXT_MAX];
	struct builder b;

	begin(&b, block, BLOCK_INTERFACE);
	put32(&b, i->linktype);
	put32(&b, 0);
	put_text(&b, OPTION_COMMENT, i->comment);
	put_text(&b, OPTION_IF_NAME, i->name);
	put_text(&b, OPTION_IF_DESCRIPTION, i->description);
	put_option(&b, OPTION_IF_TSRESOL, &nanoseconds, sizeof(nanoseconds));
	put_option(&b, OPTION_END, NULL, 0);
	end(&b);
	emit(f, block, b.len);
	return f->interfaces++;
}

static size_t put_hex(char *to, const uint8_t *from, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	size_t i;

	for (i = 0; i < len; i++) {
		to[2 * i] = digits[from[i] >> 4];
		to[2 * i + 1] = digits[from[i] & 15];
	}
	return 2 * len;
}

void pcapng_file_secret(struct pcapng_file *f, const struct capture_secret *s)
{
	size_t n = strnlen(s->label, 64), secret_len = s->len < 48 ? s->len : 48;
	char line[64 + 1 + 64 + 1 + 96 + 1];
	uint8_t block[64 + sizeof(line)];
	struct builder b;

	memcpy(line, s->label, n);
	line[n++] = ' ';
	n += put_hex(line + n, s->random, sizeof(s->random));
	line[n++] = ' ';
	n += put_hex(line + n, s->secret, secret_len);
	line[n++] = '\n';
	begin(&b, block, BLOCK_SECRETS);
	put32(&b, SECRETS_TLS);
	put32(&b, (uint32_t)n);
	put(&b, line, n);
	end(&b);
	emit(f, block, b.len);
	explicit_bzero(line, sizeof(line));
	explicit_bzero(block, sizeof(block));
}

void pcapng_file_statistics(struct pcapng_file *f, uint32_t interface, uint64_t time_ns,
			    const struct pcapng_statistics *s)
{
	uint8_t block[128];
	struct builder b;

	begin(&b, block, BLOCK_STATISTICS);
	put32(&b, interface);
	put_time(&b, time_ns);
	put_option_time(&b, OPTION_STAT_START, s->first_ns);
	put_option_time(&b, OPTION_STAT_END, s->last_ns);
	put_option(&b, OPTION_STAT_RECEIVED, &s->packets, sizeof(s->packets));
	put_option(&b, OPTION_STAT_DROPPED, &s->dropped, sizeof(s->dropped));
	put_option(&b, OPTION_END, NULL, 0);
	end(&b);
	emit(f, block, b.len);
}

/* --- packets ------------------------------------------------------------------------------ */

static void write_first(struct pcapng_file *f)
{
	struct pcapng_held *h = f->head;

	f->head = h->next;
	*(h->next ? &h->next->prev : &f->tail) = NULL;
	f->held_bytes -= h->len;
	emit(f, h->block, h->len);
	free(h);
}

static void hold(struct pcapng_file *f, struct pcapng_held *h)
{
	struct pcapng_held *before = f->tail;

	/* Of another file, perhaps: then all that is held is later. */
	if (f->head && f->head->time_ns > h->time_ns)
		before = NULL;
	while (before && before->time_ns > h->time_ns)
		before = before->prev;
	h->prev = before;
	h->next = before ? before->next : f->head;
	*(before ? &before->next : &f->head) = h;
	*(h->next ? &h->next->prev : &f->tail) = h;
	f->held_bytes += h->len;
}

void pcapng_file_packet(struct pcapng_file *f, const struct pcapng_packet *p)
{
	/* Whole, as far as it was captured: inbound is 1, outbound 2. */
	const uint32_t flags = p->dir == CAPTURE_IN ? 1 : 2;
	size_t captured = p->head_len + p->body_len, comment = p->comment ? strlen(p->comment) : 0;
	size_t room = 32 + padded(captured) + 8 + 4 + padded(comment) + 4 + 4;
	struct pcapng_held *h;
	struct builder b;

	if (f->error)
		return;
	h = malloc(sizeof(*h) + room + 8);
	if (!h) {
		f->error = -ENOMEM;
		return;
	}
	begin(&b, h->block, BLOCK_PACKET);
	put32(&b, p->interface);
	put_time(&b, p->time_ns);
	put32(&b, (uint32_t)captured);
	put32(&b, (uint32_t)p->len);
	memcpy(b.to + b.len, p->head, p->head_len);
	if (p->body_len)
		memcpy(b.to + b.len + p->head_len, p->body, p->body_len);
	memset(b.to + b.len + captured, 0, padded(captured) - captured);
	b.len += padded(captured);
	put_option(&b, OPTION_PACKET_FLAGS, &flags, sizeof(flags));
	put_text(&b, OPTION_COMMENT, p->comment);
	put_option(&b, OPTION_END, NULL, 0);
	end(&b);
	h->time_ns = p->time_ns;
	h->len = b.len;
	hold(f, h);
	while (f->held_bytes > HOLD_BYTES)
		write_first(f);
}

void pcapng_file_pass(struct pcapng_file *f, uint64_t now_ns)
{
	while (f->head && f->head->time_ns + HOLD_NS <= now_ns)
		write_first(f);
}

/* --- beginning and end -------------------------------------------------------------------- */

struct pcapng_file *pcapng_file_new(int fd)
{
	struct pcapng_file *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->fd = fd;
	write_section(f);
	pcapng_file_flush(f);
	return f;
}

int pcapng_file_error(const struct pcapng_file *f)
{
	return f->error;
}

int pcapng_file_close(struct pcapng_file *f)
{
	int err;

	while (f->head)
		write_first(f);
	pcapng_file_flush(f);
	if (close(f->fd) && !f->error)
		f->error = -errno;
	err = f->error;
	free(f);
	return err;
}
