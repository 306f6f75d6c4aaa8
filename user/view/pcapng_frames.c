// SPDX-License-Identifier: BSD-2-Clause
/* Secrets of the connections that are in the file, and decrypted frames of those that have none. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/frame_header.h"
#include "base/packet.h"
#include "view/pcapng_state.h"

/* Secrets whose ClientHello has not passed yet. */
#define SECRETS_MOST	16384
#define SECRETS_EACH	8

#define TLS_HANDSHAKE	22
#define HELLO_RANDOM	11

#define HEAD_LEN	32	/* WireGuard's type, indices, counter; what follows is sealed */
#define HEAD_DISCO	62	/* magic, key, nonce */

#define LAYOUT	"Link type USER0: DERP frames, decrypted, behind 136 bytes (network order): version 2; " \
		"0 to the node, 1 from it; address family; 1 accepted, 2 dialled; node's port (2); " \
		"far port (2); node (4); connection (8); offset in the DERP stream (8); node's IP " \
		"(16); far IP (16); digest of the packet (8); bits: 1 offset from the stream's start, " \
		"2 far end is a relay; 0 (3); far end's key (32); node's key (32). A packet that the " \
		"relay dropped has 2 for its direction and the reason for the far end's key. " \
		"tools/wireshark/derp.lua shows them, derptrace report reads them."

struct pcapng_secrets {
	uint8_t random[32];
	uint8_t count;
	bool wanted;		/* its connection is in the file */
	bool complete;		/* written: all that application data needs */
	uint8_t written;	/* bits of traffic_bit() */
	char labels[SECRETS_EACH][48];
	struct capture_secret secrets[SECRETS_EACH];
	UT_hash_handle hh;
};

static void wipe(struct pcapng *p, struct pcapng_secrets *s)
{
	HASH_DEL(p->secrets, s);
	explicit_bzero(s, sizeof(*s));
	free(s);
}

void pcapng_secrets_free(struct pcapng *p)
{
	struct pcapng_secrets *s, *next;

	HASH_ITER(hh, p->secrets, s, next)
		wipe(p, s);
}

static struct pcapng_secrets *get_secrets(struct pcapng *p, const uint8_t random[static 32])
{
	struct pcapng_secrets *s;

	HASH_FIND(hh, p->secrets, random, sizeof(s->random), s);
	if (s)
		return s;
	if (HASH_COUNT(p->secrets) >= SECRETS_MOST)
		wipe(p, p->secrets);
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	memcpy(s->random, random, sizeof(s->random));
	HASH_ADD(hh, p->secrets, random, sizeof(s->random), s);
	return s;
}

static uint8_t traffic_bit(const char *label)
{
	if (!strcmp(label, "CLIENT_TRAFFIC_SECRET_0"))
		return 1;
	if (!strcmp(label, "SERVER_TRAFFIC_SECRET_0"))
		return 2;
	return strcmp(label, "CLIENT_RANDOM") ? 0 : 3;
}

/* What a connection of the file needs goes into the file, and out of memory. */
static void write_wanted(struct pcapng *p, struct pcapng_secrets *s)
{
	uint8_t i;

	if (!s->wanted)
		return;
	for (i = 0; i < s->count; i++) {
		pcapng_file_secret(p->file, &s->secrets[i]);
		s->written |= traffic_bit(s->labels[i]);
	}
	s->complete = s->written == 3;
	explicit_bzero(s->secrets, sizeof(s->secrets));
	s->count = 0;
}

static bool is_held(const struct pcapng_secrets *s, const struct capture_secret *secret)
{
	uint8_t i;

	for (i = 0; i < s->count; i++) {
		if (!strcmp(s->labels[i], secret->label))
			return true;
	}
	return (s->written & traffic_bit(secret->label)) && s->complete;
}

void pcapng_secret_take(struct pcapng *p, const struct capture_secret *secret)
{
	struct pcapng_secrets *s;

	if (!secret->label || strlen(secret->label) >= sizeof(s->labels[0]))
		return;
	s = get_secrets(p, secret->random);
	if (!s || s->count == SECRETS_EACH || is_held(s, secret))
		return;
	strcpy(s->labels[s->count], secret->label);
	s->secrets[s->count] = *secret;
	s->secrets[s->count].label = s->labels[s->count];
	s->count++;
	write_wanted(p, s);
}

void pcapng_conn_listen(struct pcapng *p, struct pcapng_conn *c, const struct capture_segment *s)
{
	bool client = s->dir == (c->open.role == CAPTURE_DIALLED ? CAPTURE_OUT : CAPTURE_IN);
	uint32_t isn = s->dir == CAPTURE_IN ? c->open.in_isn : c->open.out_isn;
	struct pcapng_secrets *secrets;

	if (!client || !c->open.from_start || s->seq != isn || c->has_random || c->plain ||
	    !s->captured)
		return;
	if (s->data[0] != TLS_HANDSHAKE) {
		c->plain = true;
		return;
	}
	if (s->captured < HELLO_RANDOM + sizeof(c->random))
		return;
	memcpy(c->random, s->data + HELLO_RANDOM, sizeof(c->random));
	c->has_random = true;
	secrets = p->options.secrets ? get_secrets(p, c->random) : NULL;
	if (!secrets)
		return;
	secrets->wanted = true;
	write_wanted(p, secrets);
}

bool pcapng_conn_is_readable(struct pcapng *p, struct pcapng_conn *c)
{
	struct pcapng_secrets *s;

	if (c->plain || c->decryptable)
		return true;
	if (!c->has_random)
		return false;
	HASH_FIND(hh, p->secrets, c->random, sizeof(s->random), s);
	c->decryptable = s && s->complete;
	return c->decryptable;
}

/* --- frames ------------------------------------------------------------------------------- */

static const uint8_t *packet_in(const struct stream_frame *f, size_t *have, uint32_t *len)
{
	uint32_t keys = f->type == DERP_FORWARD_PACKET ? 2 * DERP_KEY_LEN : DERP_KEY_LEN;

	if ((f->type != DERP_SEND_PACKET && f->type != DERP_RECV_PACKET &&
	     f->type != DERP_FORWARD_PACKET) || f->head_len < keys)
		return NULL;
	*have = f->head_len - keys;
	*len = f->len - keys;
	return f->head + keys;
}

static void put_header(uint8_t to[static FRAME_HEADER_LEN], const struct pcapng_conn *c,
		       const struct stream_frame *f)
{
	struct frame_header h = {
		.out = f->dir == CAPTURE_OUT, .accepted = c->open.role == CAPTURE_ACCEPTED,
		.dialled = c->open.role == CAPTURE_DIALLED,
		.local = c->open.local, .remote = c->open.remote,
		.node = c->node->serial, .conn = c->serial,
		.offset = f->derp_off, .from_start = f->derp_from_start, .digest = f->digest,
		.peer = c->peer.key, .peer_is_server = c->peer.is_server, .server = c->node->key,
	};
	const uint8_t *packet;
	uint32_t len;
	size_t have;

	packet = packet_in(f, &have, &len);
	if (packet && !h.digest)
		h.digest = packet_digest(packet, have, len);
	frame_header_put(to, &h);
}

/* How much of a frame tells who and what, and nothing of what peers say to each other. */
static size_t clear_len(const struct stream_frame *f, const uint8_t *bytes, size_t len)
{
	static const uint8_t disco[] = { 'T', 'S', 0xf0, 0x9f, 0x92, 0xac };
	size_t keys = DERP_HEADER_LEN + DERP_KEY_LEN, most;

	if (f->type == DERP_FORWARD_PACKET)
		keys += DERP_KEY_LEN;
	else if (f->type != DERP_SEND_PACKET && f->type != DERP_RECV_PACKET)
		return len;
	most = keys + HEAD_LEN;
	if (len >= keys + HEAD_DISCO && !memcmp(bytes + keys, disco, sizeof(disco)))
		most = keys + HEAD_DISCO;
	return len < most ? len : most;
}

static void need_interface(struct pcapng *p, struct pcapng_node *n)
{
	char name[sizeof(n->name) + 8];
	const struct pcapng_interface interface = {
		.linktype = PCAPNG_LINK_USER0, .name = name, .comment = LAYOUT,
		.description = "DERP frames, decrypted by derptrace",
	};

	if (n->frames_interface != PCAPNG_NO_INTERFACE)
		return;
	snprintf(name, sizeof(name), "%s frames", n->name);
	n->frames_interface = pcapng_file_interface(p->file, &interface);
}

void pcapng_frame(struct pcapng *p, uint64_t source, const struct stream_frame *f,
		  const uint8_t *bytes, size_t len)
{
	struct pcapng_conn *c = pcapng_conn_find(p, source, f->conn);
	uint8_t header[FRAME_HEADER_LEN];
	struct pcapng_packet packet = {
		.time_ns = f->time_ns, .dir = f->dir, .head = header, .head_len = FRAME_HEADER_LEN,
		.body = bytes, .len = FRAME_HEADER_LEN + DERP_HEADER_LEN + f->len,
	};

	if (!c || (p->options.secrets && pcapng_conn_is_readable(p, c)))
		return;
	need_interface(p, c->node);
	put_header(header, c, f);
	packet.interface = c->node->frames_interface;
	packet.body_len = p->options.payload ? len : clear_len(f, bytes, len);
	pcapng_file_packet(p->file, &packet);
	c->has_frames = true;
	c->node->frames.packets++;
	p->counts.frames++;
}

void pcapng_drop(struct pcapng *p, struct pcapng_node *n, const struct capture_event *e)
{
	const struct capture_drop *d = &e->drop;
	struct frame_header h = {
		.dropped = true, .node = n->serial, .digest = d->digest, .has_src = d->has_src,
		.disco = d->disco,
	};
	uint8_t header[FRAME_HEADER_LEN], body[DERP_HEADER_LEN + 2 * DERP_KEY_LEN];
	uint32_t len = 2 * DERP_KEY_LEN + d->len;
	struct pcapng_packet packet = {
		.time_ns = e->time_ns, .dir = CAPTURE_IN, .head = header, .head_len = sizeof(header),
		.body = body, .body_len = sizeof(body), .len = sizeof(header) + DERP_HEADER_LEN + len,
	};

	snprintf(h.reason, sizeof(h.reason), "%s", d->reason ? d->reason : "");
	frame_header_put(header, &h);
	body[0] = DERP_FORWARD_PACKET;
	body[1] = (uint8_t)(len >> 24);
	body[2] = (uint8_t)(len >> 16);
	body[3] = (uint8_t)(len >> 8);
	body[4] = (uint8_t)len;
	memcpy(body + DERP_HEADER_LEN, d->src.b, DERP_KEY_LEN);
	memcpy(body + DERP_HEADER_LEN + DERP_KEY_LEN, d->dst.b, DERP_KEY_LEN);
	need_interface(p, n);
	packet.interface = n->frames_interface;
	pcapng_file_packet(p->file, &packet);
	n->frames.packets++;
	p->counts.drops++;
}
