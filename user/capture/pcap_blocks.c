// SPDX-License-Identifier: BSD-2-Clause
/*
 * Blocks of a pcapng file (draft-ietf-opsawg-pcapng), as far as packets, their interfaces and
 * TLS secrets are told. libpcap reads such files too, but neither interfaces of different link
 * types nor secrets.
 *
 *	 0                   1                   2                   3
 *	+---------------------------------------------------------------+
 *	|                          Block Type                           |
 *	|                      Block Total Length                       |
 *	|                  Block Body, padded to 32 bits                |
 *	|                      Block Total Length                       |
 *	+---------------------------------------------------------------+
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "capture/pcap.h"

#define BLOCK_SECTION		0x0a0d0d0a
#define BLOCK_INTERFACE		1
#define BLOCK_PACKET_OLD	2
#define BLOCK_PACKET_SIMPLE	3
#define BLOCK_PACKET		6
#define BLOCK_SECRETS		10

#define MAGIC			0x1a2b3c4d
#define MAGIC_SWAPPED		0x4d3c2b1a
#define SECRETS_TLS		0x544c534b

#define OPTION_END		0
#define OPTION_IF_NAME		2
#define OPTION_IF_DESCRIPTION	3
#define OPTION_IF_TSRESOL	9
#define OPTION_IF_TSOFFSET	14
#define OPTION_PACKET_FLAGS	2
#define OPTION_USERAPPL		4

#define BODY_MAX	(PCAP_MAX_CAPTURED + 65536)
#define SECRETS_MAX	(64 << 20)
#define HEADER_LEN	8
#define FRAME_LEN	12	/* type and both lengths */

struct pcap_blocks {
	FILE *in;
	struct pcap_file_sink sink;
	struct pcap_interface *interfaces;
	uint32_t count, capacity;
	uint32_t base;		/* of the current section's interfaces */
	uint32_t seen;		/* of this one */
	bool swapped, ours, in_section, again;
	uint8_t *body;
	size_t body_cap;
	uint64_t offset;	/* of the current block */
	uint64_t last_ns;	/* simple packets have no time of their own */
	char error[160];
};

struct span {
	const uint8_t *p;
	size_t len;
};

static uint16_t get16(const struct pcap_blocks *b, const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return b->swapped ? __builtin_bswap16(v) : v;
}

static uint32_t get32(const struct pcap_blocks *b, const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return b->swapped ? __builtin_bswap32(v) : v;
}

static int fail(struct pcap_blocks *b, const char *what)
{
	snprintf(b->error, sizeof(b->error), "%s", what);
	return -EBADMSG;
}

/* --- options ------------------------------------------------------------------------------ */

/* The next option of @rest: false at the end, or where the rest makes no sense. */
static bool option_next(const struct pcap_blocks *b, struct span *rest, uint16_t *code,
			struct span *value)
{
	size_t len, padded;

	if (rest->len < 4)
		return false;
	*code = get16(b, rest->p);
	len = get16(b, rest->p + 2);
	padded = (len + 3) & ~(size_t)3;
	if (*code == OPTION_END || padded > rest->len - 4)
		return false;
	*value = (struct span){ rest->p + 4, len };
	rest->p += 4 + padded;
	rest->len -= 4 + padded;
	return true;
}

static void copy_text(char *to, size_t size, struct span from)
{
	size_t i, n = 0;

	for (i = 0; i < from.len && n < size - 1 && from.p[i]; i++)
		to[n++] = from.p[i] >= 0x20 && from.p[i] < 0x7f ? (char)from.p[i] : '?';
	to[n] = '\0';
}

static void set_resolution(struct pcap_interface *i, uint8_t value)
{
	unsigned int n = value & 0x7f;

	i->units = 1;
	if (value & 0x80)
		i->units <<= n < 63 ? n : 63;
	else
		for (; n && i->units <= UINT64_MAX / 10; n--)
			i->units *= 10;
}

static int64_t get_signed64(const struct pcap_blocks *b, const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return (int64_t)(b->swapped ? __builtin_bswap64(v) : v);
}

/* --- the blocks --------------------------------------------------------------------------- */

static int take_section(struct pcap_blocks *b, struct span body)
{
	static const char us[] = "derptrace";
	struct span rest, value;
	uint16_t code;

	if (body.len < 16)
		return fail(b, "a section header that is too short");
	if (get16(b, body.p + 4) != 1)
		return fail(b, "a section of a format version that is not known");
	b->in_section = true;
	b->base = b->seen;
	rest = (struct span){ body.p + 16, body.len - 16 };
	while (option_next(b, &rest, &code, &value))
		if (code == OPTION_USERAPPL && value.len >= sizeof(us) - 1 &&
		    !memcmp(value.p, us, sizeof(us) - 1))
			b->ours = true;
	return 0;
}

static int add_interface(struct pcap_blocks *b, const struct pcap_interface *add)
{
	struct pcap_interface *grown;
	uint32_t capacity;

	/* Read again, they are those that are there already. */
	if (b->seen++ < b->count)
		return 0;
	if (b->count == PCAP_MAX_INTERFACES)
		return fail(b, "more interfaces than any capture has");
	if (b->count == b->capacity) {
		capacity = b->capacity ? b->capacity * 2 : 8;
		grown = reallocarray(b->interfaces, capacity, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		b->interfaces = grown;
		b->capacity = capacity;
	}
	b->interfaces[b->count++] = *add;
	return 0;
}

static int take_interface(struct pcap_blocks *b, struct span body)
{
	struct pcap_interface i = { .units = 1000000 };
	struct span rest, value;
	uint16_t code;

	if (body.len < 8)
		return fail(b, "an interface description that is too short");
	i.linktype = get16(b, body.p);
	i.snaplen = get32(b, body.p + 4);
	rest = (struct span){ body.p + 8, body.len - 8 };
	while (option_next(b, &rest, &code, &value)) {
		if (code == OPTION_IF_NAME)
			copy_text(i.name, sizeof(i.name), value);
		else if (code == OPTION_IF_DESCRIPTION)
			copy_text(i.description, sizeof(i.description), value);
		else if (code == OPTION_IF_TSRESOL && value.len == 1)
			set_resolution(&i, value.p[0]);
		else if (code == OPTION_IF_TSOFFSET && value.len == 8)
			i.offset_s = get_signed64(b, value.p);
	}
	return add_interface(b, &i);
}

static uint64_t to_ns(const struct pcap_interface *i, uint64_t t)
{
	unsigned __int128 ns = (unsigned __int128)t * 1000000000 / i->units;
	__int128 moved = (__int128)ns + (__int128)i->offset_s * 1000000000;

	if (moved < 0)
		return 0;
	/* Half the range: sums of times cannot overflow. */
	return moved > INT64_MAX ? INT64_MAX : (uint64_t)moved;
}

static const struct pcap_interface *find_interface(struct pcap_blocks *b, uint32_t index)
{
	return index < b->seen - b->base ? &b->interfaces[b->base + index] : NULL;
}

static enum pcap_direction direction_of(const struct pcap_blocks *b, struct span options)
{
	struct span value;
	uint16_t code;

	while (option_next(b, &options, &code, &value)) {
		if (code != OPTION_PACKET_FLAGS || value.len != 4)
			continue;
		switch (get32(b, value.p) & 3) {
		case 1:
			return PCAP_INBOUND;
		case 2:
			return PCAP_OUTBOUND;
		default:
			return PCAP_DIRECTION_UNKNOWN;
		}
	}
	return PCAP_DIRECTION_UNKNOWN;
}

/* Enhanced packets, and the obsolete ones, which differ in one field. */
static int take_packet(struct pcap_blocks *b, struct span body, bool old, struct pcap_packet *p)
{
	const struct pcap_interface *i;
	uint32_t index;
	size_t padded;

	if (body.len < 20)
		return fail(b, "a packet block that is too short");
	index = old ? get16(b, body.p) : get32(b, body.p);
	i = find_interface(b, index);
	if (!i)
		return fail(b, "a packet of an interface that is not described");
	p->interface = b->base + index;
	p->time_ns = to_ns(i, (uint64_t)get32(b, body.p + 4) << 32 | get32(b, body.p + 8));
	p->captured = get32(b, body.p + 12);
	p->len = get32(b, body.p + 16);
	if (p->captured > body.len - 20)
		return fail(b, "a packet longer than its block");
	p->data = body.p + 20;
	padded = ((size_t)p->captured + 3) & ~(size_t)3;
	if (padded > body.len - 20)
		padded = body.len - 20;
	p->direction = direction_of(b, (struct span){ p->data + padded, body.len - 20 - padded });
	b->last_ns = p->time_ns;
	return 1;
}

static int take_simple(struct pcap_blocks *b, struct span body, struct pcap_packet *p)
{
	const struct pcap_interface *i = find_interface(b, 0);

	if (body.len < 4)
		return fail(b, "a packet block that is too short");
	if (!i)
		return fail(b, "a packet of an interface that is not described");
	p->interface = b->base;
	p->direction = PCAP_DIRECTION_UNKNOWN;
	p->time_ns = b->last_ns;
	p->len = get32(b, body.p);
	p->captured = p->len;
	if (i->snaplen && p->captured > i->snaplen)
		p->captured = i->snaplen;
	if (p->captured > body.len - 4)
		p->captured = (uint32_t)(body.len - 4);
	p->data = body.p + 4;
	return 1;
}

static int take_secrets(struct pcap_blocks *b, struct span body)
{
	uint32_t len;

	if (body.len < 8)
		return fail(b, "a secrets block that is too short");
	len = get32(b, body.p + 4);
	if (len > body.len - 8)
		return fail(b, "secrets longer than their block");
	if (get32(b, body.p) == SECRETS_TLS && !b->again && b->sink.keylog)
		b->sink.keylog(b->sink.ctx, (const char *)body.p + 8, len, b->offset);
	return 0;
}

/* --- reading ------------------------------------------------------------------------------ */

static int read_bytes(struct pcap_blocks *b, void *to, size_t len, bool may_end)
{
	size_t n = fread(to, 1, len, b->in);

	if (n == len)
		return 1;
	if (ferror(b->in)) {
		snprintf(b->error, sizeof(b->error), "%s", strerror(errno));
		return -EIO;
	}
	if (!n && may_end)
		return 0;
	return fail(b, "the file ends inside a block");
}

/* The byte order of a section stands behind the length of its first block. */
static int read_order(struct pcap_blocks *b, uint8_t magic[static 4])
{
	uint32_t v;
	int err = read_bytes(b, magic, 4, false);

	if (err < 0)
		return err;
	memcpy(&v, magic, sizeof(v));
	if (v != MAGIC && v != MAGIC_SWAPPED)
		return fail(b, "a section header without its magic number");
	b->swapped = v == MAGIC_SWAPPED;
	return 0;
}

static int skip(struct pcap_blocks *b, size_t len)
{
	uint8_t bytes[4096];
	size_t n;
	int err;

	for (; len; len -= n) {
		n = len < sizeof(bytes) ? len : sizeof(bytes);
		err = read_bytes(b, bytes, n, false);
		if (err < 0)
			return err;
	}
	return 0;
}

static int make_room(struct pcap_blocks *b, size_t len)
{
	uint8_t *grown;

	if (len <= b->body_cap)
		return 0;
	grown = realloc(b->body, len);
	if (!grown)
		return -ENOMEM;
	b->body = grown;
	b->body_cap = len;
	return 0;
}

static bool is_read(uint32_t type)
{
	return type == BLOCK_SECTION || type == BLOCK_INTERFACE || type == BLOCK_PACKET ||
	       type == BLOCK_PACKET_OLD || type == BLOCK_PACKET_SIMPLE || type == BLOCK_SECRETS;
}

/* Room grows with what is really there, not with what a length claims. */
static int read_body(struct pcap_blocks *b, size_t have, size_t len)
{
	size_t n;
	int err;

	while (have < len) {
		n = len - have < BODY_MAX ? len - have : BODY_MAX;
		err = make_room(b, have + n);
		if (!err)
			err = read_bytes(b, b->body + have, n, false);
		if (err < 0)
			return err;
		have += n;
	}
	return 0;
}

/* Reads the block whose type and length are known; 1 with *body, 0 where it was passed over. */
static int read_rest(struct pcap_blocks *b, uint32_t type, uint32_t total, const uint8_t *magic,
		     struct span *body)
{
	size_t len = total - FRAME_LEN, have = type == BLOCK_SECTION ? 4 : 0;
	size_t most = type == BLOCK_SECRETS ? SECRETS_MAX : BODY_MAX;
	uint8_t trailer[4];
	int err;

	if (is_read(type) && len > most)
		return fail(b, "a block longer than any that a capture has");
	if (is_read(type)) {
		err = make_room(b, have);
		if (err)
			return err;
		memcpy(b->body, magic, have);
		err = read_body(b, have, len);
	} else {
		err = skip(b, len);
	}
	if (err >= 0)
		err = read_bytes(b, trailer, sizeof(trailer), false);
	if (err < 0)
		return err;
	if (get32(b, trailer) != total)
		return fail(b, "a block whose two lengths differ");
	*body = (struct span){ b->body, len };
	return is_read(type);
}

static int read_block(struct pcap_blocks *b, uint32_t *type, struct span *body)
{
	uint8_t header[HEADER_LEN], magic[4] = { 0 };
	uint32_t total;
	int err;

	b->offset = (uint64_t)ftello(b->in);
	err = read_bytes(b, header, sizeof(header), true);
	if (err <= 0)
		return err ? err : -ENODATA;
	memcpy(type, header, sizeof(*type));
	if (*type == BLOCK_SECTION) {
		err = read_order(b, magic);
		if (err)
			return err;
	} else if (!b->in_section) {
		return fail(b, "no pcapng section header");
	}
	*type = get32(b, header);
	total = get32(b, header + 4);
	if (total < FRAME_LEN || total % 4 || (*type == BLOCK_SECTION && total < FRAME_LEN + 16))
		return fail(b, "a block of an impossible length");
	return read_rest(b, *type, total, magic, body);
}

int pcap_blocks_next(struct pcap_blocks *b, struct pcap_packet *p)
{
	struct span body;
	uint32_t type;
	int err;

	if (b->error[0])
		return -EBADMSG;
	for (;;) {
		err = read_block(b, &type, &body);
		if (err == -ENODATA)
			return 0;
		if (err == 1) {
			err = type == BLOCK_SECTION ? take_section(b, body) :
			      type == BLOCK_INTERFACE ? take_interface(b, body) :
			      type == BLOCK_SECRETS ? take_secrets(b, body) :
			      type == BLOCK_PACKET_SIMPLE ? take_simple(b, body, p) :
			      take_packet(b, body, type == BLOCK_PACKET_OLD, p);
		}
		if (err == -ENOMEM)
			fail(b, "no memory to read on");
		if (err)
			return err;
	}
}

struct pcap_blocks *pcap_blocks_new(FILE *in, const struct pcap_file_sink *sink)
{
	struct pcap_blocks *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->in = in;
	if (sink)
		b->sink = *sink;
	return b;
}

void pcap_blocks_free(struct pcap_blocks *b)
{
	if (!b)
		return;
	/* Secrets may have passed through it. */
	if (b->body)
		explicit_bzero(b->body, b->body_cap);
	free(b->body);
	free(b->interfaces);
	free(b);
}

int pcap_blocks_rewind(struct pcap_blocks *b)
{
	if (fseeko(b->in, 0, SEEK_SET))
		return -errno;
	b->again = true;
	b->error[0] = '\0';
	b->seen = b->base = 0;
	b->in_section = b->swapped = false;
	b->last_ns = 0;
	return 0;
}

const char *pcap_blocks_error(const struct pcap_blocks *b, uint64_t *offset)
{
	*offset = b->offset;
	return b->error;
}

const struct pcap_interface *pcap_blocks_interface(const struct pcap_blocks *b, uint32_t index)
{
	return index < b->count ? &b->interfaces[index] : NULL;
}

uint32_t pcap_blocks_interfaces(const struct pcap_blocks *b)
{
	return b->count;
}

bool pcap_blocks_are_ours(const struct pcap_blocks *b)
{
	return b->ours;
}
