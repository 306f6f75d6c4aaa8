// SPDX-License-Identifier: BSD-2-Clause
/* What passed, as packets: nodes, connections, their segments. */
#include "view/pcapng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "view/pcapng_state.h"

/* Longer ones (segmentation offload) become several packets: an IP packet has no more. */
#define PIECE		61440
#define STATISTICS_EVERY_NS NSEC_PER_SEC
#define STATE_SYN_SENT	2	/* of <netinet/tcp.h> */
#define INVENTED	"not captured: made by derptrace from what the socket tells"

static bool after(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) > 0;
}

/* --- nodes -------------------------------------------------------------------------------- */

static struct pcapng_node *find_node(struct pcapng *p, uint64_t source, uint32_t number)
{
	const struct pcapng_id id = { source, number };
	struct pcapng_node *n;

	HASH_FIND(hh, p->nodes, &id, sizeof(id), n);
	return n;
}

static bool name_is_taken(const struct pcapng *p, const char *name)
{
	const struct pcapng_node *n;

	for (n = p->nodes; n; n = n->hh.next) {
		if (!strcmp(n->name, name))
			return true;
	}
	return false;
}

static void name_node(const struct pcapng *p, struct pcapng_node *n,
		      const struct capture_node_up *up)
{
	const char *name = up->name && up->name[0] ? up->name : "node";
	char listener[ADDR_TEXT_LEN] = "";
	unsigned int i;

	if (up->pid)
		snprintf(n->name, sizeof(n->name), "%.40s:%d", name, up->pid);
	else
		snprintf(n->name, sizeof(n->name), "%.60s", name);
	if (up->listener_count && name_is_taken(p, n->name)) {
		addr_format(&up->listeners[0], listener);
		snprintf(n->name, sizeof(n->name), "%.40s %s", name, listener);
	}
	for (i = 2; name_is_taken(p, n->name) && i < 10000; i++)
		snprintf(n->name, sizeof(n->name), "%.40s %u", name, i);
}

static void describe_node(struct pcapng_node *n, const struct capture_node_up *up)
{
	size_t used, i;
	char text[ADDR_TEXT_LEN];

	snprintf(n->description, sizeof(n->description), "%.120s%s",
		 up->software ? up->software : "DERP relay", up->listener_count ? " on" : "");
	for (i = 0; i < up->listener_count; i++) {
		used = strlen(n->description);
		addr_format(&up->listeners[i], text);
		if (used + strlen(text) + 2 > sizeof(n->description))
			return;
		sprintf(n->description + used, " %s", text);
	}
}

static struct pcapng_source *get_source(struct pcapng *p, uint64_t id)
{
	struct pcapng_source *s;

	HASH_FIND(hh, p->sources, &id, sizeof(id), s);
	if (s)
		return s;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->id = id;
	HASH_ADD(hh, p->sources, id, sizeof(s->id), s);
	return s;
}

static void node_up(struct pcapng *p, uint64_t source, const struct capture_event *e)
{
	struct pcapng_interface interface = { .linktype = PCAPNG_LINK_RAW };
	struct pcapng_source *from;
	struct pcapng_node *n;

	if (find_node(p, source, e->node))
		return;
	from = get_source(p, source);
	n = from ? calloc(1, sizeof(*n)) : NULL;
	if (!n)
		return;
	n->id = (struct pcapng_id){ source, e->node };
	n->source = from;
	n->serial = ++p->counts.nodes;
	n->frames_interface = PCAPNG_NO_INTERFACE;
	n->segments.first_ns = n->frames.first_ns = e->time_ns;
	name_node(p, n, &e->node_up);
	describe_node(n, &e->node_up);
	interface.name = n->name;
	interface.description = n->description;
	n->interface = pcapng_file_interface(p->file, &interface);
	HASH_ADD(hh, p->nodes, id, sizeof(n->id), n);
}

static void count_lost(struct pcapng *p, uint64_t source, const struct capture_event *e)
{
	struct pcapng_node *n;

	p->counts.lost += e->lost.segments;
	/* All nodes share what they were lost in: any of them may be meant. */
	for (n = p->nodes; n; n = n->hh.next) {
		if (n->id.source == source && (!e->node || e->node == n->id.number))
			n->segments.dropped += e->lost.segments;
	}
	p->statistics_due |= e->lost.segments;
}

static void write_statistics(struct pcapng *p)
{
	struct pcapng_node *n;

	for (n = p->nodes; n; n = n->hh.next) {
		n->segments.last_ns = p->now_ns;
		pcapng_file_statistics(p->file, n->interface, p->now_ns, &n->segments);
		n->frames.last_ns = p->now_ns;
		n->frames.dropped = n->segments.dropped;
		if (n->frames_interface != PCAPNG_NO_INTERFACE)
			pcapng_file_statistics(p->file, n->frames_interface, p->now_ns,
					       &n->frames);
	}
	p->statistics_due = false;
	p->statistics_ns = p->now_ns;
}

/* --- connections -------------------------------------------------------------------------- */

struct pcapng_conn *pcapng_conn_find(struct pcapng *p, uint64_t source, uint64_t number)
{
	const struct pcapng_id id = { source, number };
	struct pcapng_conn *c;

	HASH_FIND(hh, p->conns, &id, sizeof(id), c);
	return c;
}

static void conn_open(struct pcapng *p, uint64_t source, const struct capture_event *e)
{
	struct pcapng_node *n = find_node(p, source, e->node);
	struct pcapng_conn *c = pcapng_conn_find(p, source, e->conn);

	/* Once more: a dial, with its answer. */
	if (!n || (c && (c->open.from_start || !e->open.from_start)))
		return;
	if (!c) {
		c = calloc(1, sizeof(*c));
		if (!c)
			return;
		c->id = (struct pcapng_id){ source, e->conn };
		c->serial = ++p->last_conn;
		c->node = n;
		HASH_ADD(hh, p->conns, id, sizeof(c->id), c);
	}
	c->open = e->open;
	c->open_ns = e->time_ns;
	if (e->open.from_start) {
		c->ack[CAPTURE_OUT] = e->open.in_isn;
		c->ack[CAPTURE_IN] = e->open.out_isn;
		c->has_ack = true;
	}
}

static void conn_free(struct pcapng *p, struct pcapng_conn *c)
{
	if (c->talked) {
		p->counts.as_frames += c->has_frames;
		p->counts.readable += !c->has_frames && pcapng_conn_is_readable(p, c);
		p->counts.unread += !c->has_frames && !pcapng_conn_is_readable(p, c);
	}
	if (c->waits)
		DL_DELETE2(p->waiting, c, waits_prev, waits_next);
	HASH_DEL(p->conns, c);
	free(c);
}

/* What each end has acknowledged, as far as it is known: never more than it did. */
static void note_facts(struct pcapng *p, struct pcapng_conn *c, const struct capture_facts *f)
{
	/* Before the far end has answered, nothing of it is known. */
	if (!f || !f->has_seq || f->tcp_state == STATE_SYN_SENT)
		return;
	if (!c->has_ack || after(f->rcv_nxt, c->ack[CAPTURE_OUT]))
		c->ack[CAPTURE_OUT] = f->rcv_nxt;
	if (!c->has_ack || after(f->snd_una, c->ack[CAPTURE_IN]))
		c->ack[CAPTURE_IN] = f->snd_una;
	c->has_ack = true;
	if (!c->has_end[CAPTURE_OUT])
		c->end[CAPTURE_OUT] = f->snd_nxt;
	c->has_end[CAPTURE_OUT] = true;
	if (c->waits)
		return;
	c->waits = true;
	DL_APPEND2(p->waiting, c, waits_prev, waits_next);
}

/* --- segments ----------------------------------------------------------------------------- */

static void write_packet(struct pcapng *p, struct pcapng_conn *c, enum capture_dir dir,
			 uint64_t time_ns, struct pcapng_tcp *tcp, const char *comment)
{
	struct pcapng_source *from = c->node->source;
	uint8_t headers[PCAPNG_HEADERS_MAX];
	struct pcapng_packet packet = {
		.interface = c->node->interface, .time_ns = time_ns, .dir = dir,
		.head = headers, .body = tcp->data, .body_len = tcp->captured, .comment = comment,
	};
	uint32_t end;

	tcp->src = dir == CAPTURE_IN ? &c->open.remote : &c->open.local;
	tcp->dst = dir == CAPTURE_IN ? &c->open.local : &c->open.remote;
	packet.head_len = pcapng_headers(headers, tcp);
	if (!packet.head_len)
		return;
	if (packet.time_ns < from->last_ns)
		packet.time_ns = from->last_ns;
	from->last_ns = packet.time_ns;
	packet.len = packet.head_len + tcp->len;
	pcapng_file_packet(p->file, &packet);
	c->node->segments.packets++;
	p->counts.packets++;
	if (tcp->flags & PCAPNG_TCP_ACK) {
		c->told[dir] = tcp->ack;
		c->has_told[dir] = true;
	}
	end = tcp->seq + (uint32_t)tcp->len + !!(tcp->flags & PCAPNG_TCP_SYN) +
	      !!(tcp->flags & PCAPNG_TCP_FIN);
	if (!c->has_end[dir] || after(end, c->end[dir]))
		c->end[dir] = end;
	c->has_end[dir] = true;
}

/*
 * Packets that only acknowledge are not captured. What was acknowledged by the next tick is said once,
 * or a reader would not know what arrived.
 */
static void write_ack(struct pcapng *p, struct pcapng_conn *c, enum capture_dir dir)
{
	struct pcapng_tcp tcp = {
		.seq = c->end[dir], .ack = c->ack[dir], .flags = PCAPNG_TCP_ACK,
	};

	uint64_t last_ns = c->node->source->last_ns;

	/* No later than the last packet: those that are still on their way here must not seem later. */
	if (c->has_end[dir] && c->has_ack && c->has_end[!dir] &&
	    (c->has_told[dir] ? after(c->ack[dir], c->told[dir]) : c->ack[dir] == c->end[!dir]))
		write_packet(p, c, dir, last_ns ? last_ns : p->now_ns, &tcp, INVENTED);
}

static void write_acks(struct pcapng *p)
{
	struct pcapng_conn *c, *next;

	DL_FOREACH_SAFE2(p->waiting, c, next, waits_next) {
		DL_DELETE2(p->waiting, c, waits_prev, waits_next);
		c->waits = false;
		write_ack(p, c, CAPTURE_IN);
		write_ack(p, c, CAPTURE_OUT);
	}
}

static void write_syn(struct pcapng *p, struct pcapng_conn *c, enum capture_dir dir, bool answer)
{
	struct pcapng_tcp tcp = {
		.seq = (dir == CAPTURE_IN ? c->open.in_isn : c->open.out_isn) - 1,
		.ack = answer ? (dir == CAPTURE_IN ? c->open.out_isn : c->open.in_isn) : 0,
		.flags = PCAPNG_TCP_SYN | (answer ? PCAPNG_TCP_ACK : 0),
	};

	if (c->syn[dir])
		return;
	c->syn[dir] = true;
	write_packet(p, c, dir, c->open_ns, &tcp, INVENTED);
}

static enum capture_dir dialler(const struct pcapng_conn *c)
{
	return c->open.role == CAPTURE_DIALLED ? CAPTURE_OUT : CAPTURE_IN;
}

/* The handshake that was not seen: a reader needs it to know that this is a beginning. */
static void write_handshake(struct pcapng *p, struct pcapng_conn *c)
{
	enum capture_dir client = dialler(c), server = client == CAPTURE_IN ? CAPTURE_OUT : CAPTURE_IN;
	struct pcapng_tcp tcp = {
		.seq = client == CAPTURE_IN ? c->open.in_isn : c->open.out_isn,
		.ack = client == CAPTURE_IN ? c->open.out_isn : c->open.in_isn,
		.flags = PCAPNG_TCP_ACK,
	};

	if (c->handshake || !c->open.from_start)
		return;
	c->handshake = true;
	write_syn(p, c, client, false);
	write_syn(p, c, server, true);
	write_packet(p, c, client, c->open_ns, &tcp, INVENTED);
}

static uint8_t tcp_flags(const struct pcapng_conn *c, const struct capture_segment *s)
{
	bool first = s->flags & CAPTURE_SYN && s->dir == dialler(c);

	return (s->flags & CAPTURE_SYN ? PCAPNG_TCP_SYN : 0) |
	       (s->flags & CAPTURE_RST ? PCAPNG_TCP_RST : 0) |
	       (c->has_ack && !first ? PCAPNG_TCP_ACK : 0);
}

static void write_segment(struct pcapng *p, struct pcapng_conn *c, uint64_t time_ns,
			  const struct capture_segment *s)
{
	struct pcapng_tcp tcp;
	uint32_t at = 0, left;

	do {
		left = s->len - at;
		tcp = (struct pcapng_tcp){
			.seq = s->seq - !!(s->flags & CAPTURE_SYN) + at, .ack = c->ack[s->dir],
			.flags = tcp_flags(c, s), .len = left < PIECE ? left : PIECE,
		};
		if (s->captured > at) {
			tcp.data = s->data + at;
			tcp.captured = s->captured - at < tcp.len ? s->captured - at : tcp.len;
		}
		if (tcp.len)
			tcp.flags |= PCAPNG_TCP_PSH;
		if (s->flags & CAPTURE_FIN && left <= PIECE)
			tcp.flags |= PCAPNG_TCP_FIN;
		write_packet(p, c, s->dir, time_ns, &tcp, NULL);
		at += (uint32_t)tcp.len;
	} while (at < s->len);
}

/* A dial that was told before it was answered: the answer says where both directions begin. */
static void note_answer(struct pcapng *p, struct pcapng_conn *c, const struct capture_event *e)
{
	const struct capture_segment *s = &e->segment;

	if (c->open.from_start || c->talked || c->open.role != CAPTURE_DIALLED ||
	    s->dir != CAPTURE_IN)
		return;
	if (!c->open.out_isn && e->facts && e->facts->has_seq)
		c->open.out_isn = e->facts->snd_nxt;
	if (!c->open.out_isn)
		return;
	c->open.from_start = true;
	c->open.in_isn = s->seq;
	c->ack[CAPTURE_OUT] = s->seq;
	c->ack[CAPTURE_IN] = c->open.out_isn;
	c->has_ack = true;
	write_syn(p, c, CAPTURE_OUT, false);
}

static void segment(struct pcapng *p, uint64_t source, const struct capture_event *e)
{
	struct pcapng_conn *c = pcapng_conn_find(p, source, e->conn);
	const struct capture_segment *s = &e->segment;

	if (!c)
		return;
	if (s->flags & CAPTURE_SYN && !c->handshake)
		note_answer(p, c, e);
	note_facts(p, c, e->facts);
	if (s->flags & CAPTURE_SYN) {
		/* It was seen, or stands there already, made up: it was answered by then. */
		if (c->handshake)
			return;
		c->syn[s->dir] = true;
	} else if (!(s->flags & CAPTURE_RST) || s->len) {
		write_handshake(p, c);
	}
	if (s->len) {
		c->talked = true;
		pcapng_conn_listen(p, c, s);
	}
	write_segment(p, c, e->time_ns, s);
}

static void conn_close(struct pcapng *p, uint64_t source, const struct capture_event *e)
{
	struct pcapng_conn *c = pcapng_conn_find(p, source, e->conn);

	if (!c)
		return;
	note_facts(p, c, e->facts);
	if ((e->close.how == CAPTURE_CLOSED_REFUSED || e->close.how == CAPTURE_CLOSED_NO_ANSWER) &&
	    c->open.out_isn)
		write_syn(p, c, CAPTURE_OUT, false);
	if (c->handshake || !c->open.from_start) {
		write_ack(p, c, CAPTURE_IN);
		write_ack(p, c, CAPTURE_OUT);
	}
	/* Its last frames are told behind this. */
	c->closed = true;
	c->next_closed = p->closed;
	p->closed = c;
}

static void forget_closed(struct pcapng *p)
{
	struct pcapng_conn *c;

	while ((c = p->closed)) {
		p->closed = c->next_closed;
		conn_free(p, c);
	}
}

/* --- the door ----------------------------------------------------------------------------- */

static void pass_time(struct pcapng *p, const struct capture_event *e)
{
	if (e->time_ns > p->now_ns)
		p->now_ns = e->time_ns;
	pcapng_file_pass(p->file, p->now_ns);
	if (e->type != CAPTURE_TICK)
		return;
	write_acks(p);
	if (p->statistics_due && p->now_ns >= p->statistics_ns + STATISTICS_EVERY_NS)
		write_statistics(p);
	pcapng_file_flush(p->file);
}

void pcapng_event(struct pcapng *p, uint64_t source, const struct capture_event *e)
{
	struct pcapng_conn *c;
	struct pcapng_node *n;

	forget_closed(p);
	switch (e->type) {
	case CAPTURE_NODE_UP:
		node_up(p, source, e);
		break;
	case CAPTURE_CONN_OPEN:
		conn_open(p, source, e);
		break;
	case CAPTURE_SEGMENT:
		segment(p, source, e);
		break;
	case CAPTURE_FACTS:
		c = pcapng_conn_find(p, source, e->conn);
		if (c)
			note_facts(p, c, e->facts);
		break;
	case CAPTURE_CONN_CLOSE:
		conn_close(p, source, e);
		break;
	case CAPTURE_PEER:
		c = pcapng_conn_find(p, source, e->conn);
		if (c)
			c->peer = e->peer;
		break;
	case CAPTURE_SERVER_KEY:
		n = find_node(p, source, e->node);
		if (n)
			n->key = e->server_key;
		break;
	case CAPTURE_SECRET:
		if (p->options.secrets)
			pcapng_secret_take(p, &e->secret);
		break;
	case CAPTURE_DROP:
		n = find_node(p, source, e->node);
		if (n)
			pcapng_drop(p, n, e);
		break;
	case CAPTURE_LOST:
		count_lost(p, source, e);
		break;
	default:
		break;
	}
	pass_time(p, e);
}

struct pcapng *pcapng_new(int fd, const struct pcapng_options *options)
{
	struct pcapng *p = calloc(1, sizeof(*p));

	if (p) {
		p->options = *options;
		p->file = pcapng_file_new(fd);
	}
	if (!p || !p->file) {
		close(fd);
		free(p);
		return NULL;
	}
	return p;
}

int pcapng_error(const struct pcapng *p)
{
	return pcapng_file_error(p->file);
}

int pcapng_close(struct pcapng *p, struct pcapng_counts *counts)
{
	struct pcapng_conn *c, *next;
	struct pcapng_node *n, *next_node;
	struct pcapng_source *s, *next_source;
	int err;

	write_acks(p);
	write_statistics(p);
	HASH_ITER(hh, p->conns, c, next)
		conn_free(p, c);
	HASH_ITER(hh, p->nodes, n, next_node) {
		HASH_DEL(p->nodes, n);
		free(n);
	}
	HASH_ITER(hh, p->sources, s, next_source) {
		HASH_DEL(p->sources, s);
		free(s);
	}
	pcapng_secrets_free(p);
	*counts = p->counts;
	err = pcapng_file_close(p->file);
	free(p);
	return err;
}
