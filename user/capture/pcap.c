// SPDX-License-Identifier: BSD-2-Clause
/*
 * A capture file as a source of events: the first pass is made when it is opened, the second one as it
 * runs.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/frame_header.h"
#include "capture/pcap.h"

/* A file's packets may stand so far from where they belong. */
#define ORDER_SEGMENTS	4096
#define ORDER_BYTES	(16 << 20)
/* What one run() hands over: so much of the file's time, or so many segments. */
#define RUN_NS		500000000ULL
#define RUN_SEGMENTS	65536
#define COMPLAINTS_MAX	4096

struct pcap_capture {
	struct capture base;
	struct pcap_file *file;
	struct pcap_order *order;
	struct pcap_conns conns;
	struct pcap_macs macs;
	struct pcap_nodes nodes;
	struct pcap_keylog keylog;
	struct pcap_teller teller;
	struct pcap_complaints complaints;
	char *path;
	uint64_t packets;	/* that the first pass could read */
	uint64_t done;		/* of them, by the current pass */
	struct pcap_segment next; /* second pass: what is told next, with @ahead 1 */
	int ahead;		/* what next_segment() said; 1 before the first */
	uint64_t cut, fragments, unreadable, bad_frames;
	int unreadable_type;
	bool begun, damaged;
};

void pcap_complain(struct pcap_complaints *c, const char *format, ...)
{
	char line[512], *grown;
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (n < 0 || c->len + sizeof(line) > COMPLAINTS_MAX)
		return;
	grown = realloc(c->text, c->len + strlen(line) + 2);
	if (!grown)
		return;
	c->len += (size_t)sprintf(grown + c->len, "%s%s", c->len ? "\n" : "", line);
	c->text = grown;
}

/* --- both passes -------------------------------------------------------------------------- */

static void count_unread(struct pcap_capture *p, enum pcap_parse what, int linktype)
{
	p->cut += what == PCAP_IS_CUT;
	p->fragments += what == PCAP_IS_FRAGMENT;
	if (what == PCAP_IS_UNREADABLE) {
		p->unreadable++;
		p->unreadable_type = linktype;
	}
}

/* Puts one more packet's segment among those that are held. 1, 0 at the end, -errno. */
static int pull(struct pcap_capture *p, bool again)
{
	const struct pcap_interface *interface;
	struct pcap_packet packet;
	struct pcap_segment s;
	enum pcap_parse what;
	int n;

	/* A file that grows meanwhile: what the first pass did not see, the second does not tell. */
	if (again && p->done == p->packets)
		return 0;
	n = pcap_file_next(p->file, &packet);
	if (n != 1)
		return n;
	p->done++;
	interface = pcap_file_interface(p->file, packet.interface);
	if (!interface)
		return 1;
	if (interface->linktype == PCAP_LINK_USER0 && pcap_file_is_ours(p->file)) {
		if (pcap_frame_parse(&packet, p->file, &s))
			return pcap_order_put(p->order, &s) ? -ENOMEM : 1;
		p->bad_frames += !again;
		return 1;
	}
	what = pcap_packet_parse(&packet, interface->linktype, &s);
	if (what == PCAP_IS_TCP)
		return pcap_order_put(p->order, &s) ? -ENOMEM : 1;
	if (!again)
		count_unread(p, what, interface->linktype);
	return 1;
}

/* The next segment in order of time; 1, 0 at the end, -errno with nothing held any more. */
static int next_segment(struct pcap_capture *p, bool again, struct pcap_segment *s)
{
	int n;

	for (;;) {
		if (pcap_order_take(p->order, false, s))
			return 1;
		n = pull(p, again);
		if (n == 1)
			continue;
		if (pcap_order_take(p->order, true, s))
			return 1;
		return n;
	}
}

/* --- the first pass ----------------------------------------------------------------------- */

static void on_keylog(void *ctx, const char *text, size_t len, uint64_t offset)
{
	struct pcap_capture *p = ctx;
	char name[400];

	snprintf(name, sizeof(name), "%s: secrets at byte %llu", p->path,
		 (unsigned long long)offset);
	pcap_keylog_text(&p->keylog, text, len, name, &p->complaints);
}

/* Its header says which end the node is, and who dialled. */
static void note_frame(struct pcap_capture *p, const struct pcap_segment *s)
{
	struct frame_header h;
	struct pcap_conn *c;
	int side;

	c = pcap_conns_peek(&p->conns, s, &side);
	if (!c || !frame_header_get(s->data, s->captured, &h))
		return;
	c->framed = true;
	c->local = h.out ? side : !side;
	if (c->certain || !(h.accepted || h.dialled))
		return;
	c->certain = true;
	c->server = h.accepted ? c->local : !c->local;
}

/* What can be read from the segments is: they have all of it. */
static void choose_account(struct pcap_capture *p)
{
	struct pcap_conn *c;
	uint32_t i;

	for (i = 0; i < p->conns.count; i++) {
		c = p->conns.all[i];
		if (c->has_random ? pcap_keylog_has(&p->keylog, c->random) :
				    c->track.sides[!c->server].talk == PCAP_TALK_CLIENT)
			c->framed = false;
	}
}

/* Where each interface is a node's, a packet's direction says which end the node is. */
static void note_local(struct pcap_conn *c, const struct pcap_segment *s, int side)
{
	if (s->direction == PCAP_OUTBOUND)
		c->local = side;
	else if (s->direction == PCAP_INBOUND)
		c->local = !side;
}

static int learn(struct pcap_capture *p, uint64_t *first_ns)
{
	struct pcap_conn *c, *replaced;
	struct pcap_segment s;
	int side, n;

	*first_ns = 0;
	while ((n = next_segment(p, false, &s)) == 1) {
		/* Our own mark stands before the first packet. */
		p->conns.by_interface = pcap_file_is_ours(p->file);
		if (!*first_ns)
			*first_ns = s.time_ns;
		if (s.drop)
			continue;
		if (s.frame) {
			note_frame(p, &s);
			continue;
		}
		pcap_macs_note(&p->macs, &s);
		c = pcap_conns_find(&p->conns, &s, &side, &replaced);
		if (!c)
			continue;
		note_local(c, &s, side);
		pcap_conn_follow(c, &s, side);
	}
	return n;
}

static void complain_unread(struct pcap_capture *p)
{
	if (p->cut)
		pcap_complain(&p->complaints,
			      "%s: of %llu packets too little was captured; capture whole packets "
			      "(tcpdump -s 0)", p->path, (unsigned long long)p->cut);
	if (p->fragments)
		pcap_complain(&p->complaints,
			      "%s: %llu IP fragments are not put together; what was in them is missing",
			      p->path, (unsigned long long)p->fragments);
	if (p->unreadable)
		pcap_complain(&p->complaints, "%s: %llu packets of link type %d, which is not read",
			      p->path, (unsigned long long)p->unreadable, p->unreadable_type);
	if (p->bad_frames)
		pcap_complain(&p->complaints,
			      "%s: %llu decrypted frames have no header that is known here, or no node; "
			      "they are left out", p->path, (unsigned long long)p->bad_frames);
	if (p->conns.over)
		pcap_complain(&p->complaints,
			      "%s: more than %d connections; %llu packets of the rest were left out",
			      p->path, PCAP_MAX_CONNS, (unsigned long long)p->conns.over);
	if (!p->nodes.count && !p->damaged)
		pcap_complain(&p->complaints,
			      "%s: no connection that speaks TLS or HTTP: no relay was captured here",
			      p->path);
}

static int first_pass(struct pcap_capture *p, const char *keylog)
{
	uint64_t first_ns;
	int err = learn(p, &first_ns);

	if (err == -ENOMEM)
		return err;
	if (err) {
		p->damaged = true;
		pcap_complain(&p->complaints, "%s; %s", pcap_file_error(p->file),
			      p->done ? "what came before it is used" : "no packet stands before it");
	}
	p->packets = p->done;
	if (keylog)
		pcap_keylog_file(&p->keylog, keylog, &p->complaints);
	err = pcap_nodes_find(&p->nodes, &p->conns, &p->macs, p->file);
	if (err)
		return err;
	choose_account(p);
	complain_unread(p);
	pcap_macs_free(&p->macs);
	pcap_conns_rewind(&p->conns);
	pcap_order_clear(p->order);
	p->done = 0;
	p->teller.now_ns = first_ns;
	return pcap_file_rewind(p->file);
}

/* --- the source --------------------------------------------------------------------------- */

static int file_fd(struct capture *c)
{
	(void)c;
	return -1;
}

static void tell_next(struct pcap_capture *p, const struct capture_sink *sink)
{
	if (p->next.drop)
		pcap_tell_drop(&p->teller, &p->next, sink);
	else if (p->next.frame)
		pcap_tell_frame(&p->teller, &p->next, sink);
	else
		pcap_tell_segment(&p->teller, &p->next, sink);
	p->ahead = next_segment(p, true, &p->next);
}

static void begin(struct pcap_capture *p, const struct capture_sink *sink)
{
	pcap_tell_begin(&p->teller, p->teller.now_ns, sink);
	p->ahead = next_segment(p, true, &p->next);
	p->begun = true;
}

static uint64_t file_next_ns(struct capture *c)
{
	struct pcap_capture *p = (struct pcap_capture *)c;

	return p->begun && p->ahead == 1 ? p->next.time_ns : p->teller.now_ns;
}

static int file_run_until(struct capture *c, const struct capture_sink *sink, uint64_t until_ns)
{
	struct pcap_capture *p = (struct pcap_capture *)c;
	uint64_t run_ns = p->teller.now_ns + RUN_NS;
	int i;

	if (!p->begun)
		begin(p, sink);
	for (i = 0; i < RUN_SEGMENTS && p->ahead == 1 && p->next.time_ns < until_ns &&
		    p->teller.now_ns < run_ns; i++)
		tell_next(p, sink);
	if (p->ahead == 1)
		return 0;
	pcap_tell_end(&p->teller, sink);
	if (p->ahead)
		pcap_complain(&p->complaints, "%s: it has changed while it was read", p->path);
	return p->complaints.text ? -EBADMSG : -ENODATA;
}

static int file_run(struct capture *c, const struct capture_sink *sink)
{
	return file_run_until(c, sink, UINT64_MAX);
}

static int file_tick(struct capture *c, const struct capture_sink *sink)
{
	(void)c;
	(void)sink;
	return 0;
}

static const char *file_complaints(struct capture *c)
{
	return ((struct pcap_capture *)c)->complaints.text;
}

static void file_close(struct capture *c)
{
	struct pcap_capture *p = (struct pcap_capture *)c;

	pcap_file_close(p->file);
	pcap_order_free(p->order);
	pcap_conns_free(&p->conns);
	pcap_macs_free(&p->macs);
	pcap_nodes_free(&p->nodes);
	pcap_keylog_free(&p->keylog);
	free(p->teller.ending);
	free(p->complaints.text);
	free(p->path);
	free(p);
}

struct capture *capture_file_open(const char *path, const char *keylog, struct capture_error *err)
{
	static const struct capture_ops ops = {
		.fd = file_fd, .run = file_run, .tick = file_tick,
		.next_ns = file_next_ns, .run_until = file_run_until,
		.complaints = file_complaints, .close = file_close,
	};
	struct pcap_capture *p = calloc(1, sizeof(*p));
	const struct pcap_file_sink sink = { p, on_keylog };
	const char *slash = strrchr(path, '/');

	snprintf(err->text, sizeof(err->text), "%s: out of memory", path);
	if (!p)
		return NULL;
	p->base.ops = &ops;
	p->path = strdup(path);
	p->order = pcap_order_new(ORDER_SEGMENTS, ORDER_BYTES);
	if (!p->path || !p->order)
		goto fail;
	p->teller = (struct pcap_teller){
		.conns = &p->conns, .nodes = &p->nodes, .keylog = &p->keylog,
		.file_name = slash ? p->path + (slash + 1 - path) : p->path,
	};
	p->file = pcap_file_open(path, &sink, err);
	if (!p->file || first_pass(p, keylog))
		goto fail;
	return &p->base;
fail:
	file_close(&p->base);
	return NULL;
}
