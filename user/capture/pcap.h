/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Capture files, inside: blocks of a file -> packets -> TCP segments in order of time -> connections
 * -> nodes -> events. A file is read twice: who is a server, and how far each stream was
 * acknowledged in the end, is known only at its end.
 *
 * Everything in a file is a stranger's: lengths are checked where they are read, and what is kept
 * of it is bounded by the limits below, whatever its size.
 */
#ifndef DT_PCAP_H
#define DT_PCAP_H

#include <stdio.h>
#include <uthash.h>

#include "capture/capture.h"

#define PCAP_MAX_INTERFACES	4096
#define PCAP_MAX_CONNS		131072	/* 0.5 KiB each */
#define PCAP_MAX_SECRETS	524288	/* 0.1 KiB each */
#define PCAP_MAX_NODES		1024
#define PCAP_MAX_MACS		65536
#define PCAP_MAX_CAPTURED	(1 << 20) /* of one packet; more is no packet */

/* --- what went wrong ---------------------------------------------------------------------- */

/* Lines for the user. The first few of a kind are told one by one. */
struct pcap_complaints {
	char *text;		/* '\n' between; NULL: none */
	size_t len;
};

void pcap_complain(struct pcap_complaints *c, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* --- pcap_file.c, pcap_blocks.c: a file's packets ----------------------------------------- */

enum pcap_direction {
	PCAP_DIRECTION_UNKNOWN,
	PCAP_INBOUND,
	PCAP_OUTBOUND,
};

struct pcap_packet {
	uint64_t time_ns;
	uint32_t interface;	/* index into the file's interfaces */
	enum pcap_direction direction;
	uint32_t len;		/* on the wire */
	uint32_t captured;
	const uint8_t *data;	/* until the next packet */
};

struct pcap_interface {
	int linktype;		/* DLT_ of libpcap */
	uint32_t snaplen;	/* 0: none */
	uint64_t units;		/* of time per second; a power of two or of ten */
	int64_t offset_s;	/* to be added to every time */
	char name[64];		/* printable; empty: not told */
	char description[128];
};

struct pcap_file;

struct pcap_file_sink {
	void *ctx;
	/* TLS key log text of a decryption secrets block; not ended by a zero. */
	void (*keylog)(void *ctx, const char *text, size_t len, uint64_t offset);
};

/* NULL with *err set. @sink may be NULL. */
struct pcap_file *pcap_file_open(const char *path, const struct pcap_file_sink *sink,
				 struct capture_error *err);
void pcap_file_close(struct pcap_file *f);
/* 1: *p; 0: the file's end; -EBADMSG or -EIO: it cannot be read on, pcap_file_error() says where. */
int pcap_file_next(struct pcap_file *f, struct pcap_packet *p);
const char *pcap_file_error(const struct pcap_file *f);
/* To the first packet again; secrets are not told again. 0 or -errno. */
int pcap_file_rewind(struct pcap_file *f);
const struct pcap_interface *pcap_file_interface(const struct pcap_file *f, uint32_t index);
uint32_t pcap_file_interfaces(const struct pcap_file *f);
/* Written by derptrace: an interface per node, and a packet's direction is the node's. */
bool pcap_file_is_ours(const struct pcap_file *f);

struct pcap_blocks;

struct pcap_blocks *pcap_blocks_new(FILE *in, const struct pcap_file_sink *sink);
void pcap_blocks_free(struct pcap_blocks *b);
int pcap_blocks_next(struct pcap_blocks *b, struct pcap_packet *p);
/* What cannot be read, and at which byte; empty: nothing. */
const char *pcap_blocks_error(const struct pcap_blocks *b, uint64_t *offset);
int pcap_blocks_rewind(struct pcap_blocks *b);
const struct pcap_interface *pcap_blocks_interface(const struct pcap_blocks *b, uint32_t index);
uint32_t pcap_blocks_interfaces(const struct pcap_blocks *b);
bool pcap_blocks_are_ours(const struct pcap_blocks *b);

/* --- pcap_packet.c: a packet's TCP segment; pcap_frame.c: our own frames ---------------------- */

#define PCAP_TCP_FIN	0x01
#define PCAP_TCP_SYN	0x02
#define PCAP_TCP_RST	0x04
#define PCAP_TCP_ACK	0x10

struct pcap_segment {
	bool frame;		/* of our own file: @data is a frame's header, then the frame */
	bool drop;		/* the same of a packet that the relay dropped: of no connection */
	uint64_t time_ns;
	uint32_t interface;
	enum pcap_direction direction;
	uint64_t mac;		/* of the frame's sender; 0: not known */
	struct addr src, dst;
	uint32_t seq, ack;	/* as in its header */
	uint8_t flags;
	uint32_t len;		/* payload bytes on the wire */
	uint32_t captured;
	const uint8_t *data;
};

enum pcap_parse {
	PCAP_IS_TCP,
	PCAP_IS_OTHER,
	PCAP_IS_FRAGMENT,	/* TCP, in a part of an IP packet: not read */
	PCAP_IS_CUT,		/* too little was captured of its headers */
	PCAP_IS_UNREADABLE,	/* a link type that is not known here */
};

#define PCAP_LINK_USER0	147

/*
 * A decrypted frame of our own file (base/frame_header.h); @s->interface becomes the one of its node's
 * segments. False: it is none.
 */
bool pcap_frame_parse(const struct pcap_packet *p, const struct pcap_file *f,
		      struct pcap_segment *s);

/* @s->data points into @p->data. */
enum pcap_parse pcap_packet_parse(const struct pcap_packet *p, int linktype,
				  struct pcap_segment *s);

/* --- pcap_order.c: segments in order of time ---------------------------------------------- */

struct pcap_order;

/* So many segments are held back, to let one that was written late go first. */
struct pcap_order *pcap_order_new(size_t segments, size_t bytes);
void pcap_order_free(struct pcap_order *o);
void pcap_order_clear(struct pcap_order *o);
/* Takes a copy. 0 or -ENOMEM. */
int pcap_order_put(struct pcap_order *o, const struct pcap_segment *s);
/* The earliest; @all: also where more may be held back. Its data is valid until the next call. */
bool pcap_order_take(struct pcap_order *o, bool all, struct pcap_segment *s);

/* --- pcap_conn.c, pcap_hello.c: connections ---------------------------------------------- */

#define PCAP_RANGES	3

/*
 * Sequence numbers are kept in 64 bits; the lower 32 are those on the wire. 0: not known.
 */
struct pcap_stream {
	uint64_t first;		/* of its first payload byte; from SYN, or from the first acknowledgement */
	uint64_t next;		/* all before it, from where it was first seen, is in the file */
	uint64_t sent;		/* highest that was sent, FIN counted */
	uint64_t acked;		/* highest that the far end acknowledged */
	uint64_t fin;		/* behind its FIN */
	struct {
		uint64_t from, to;
	} ahead[PCAP_RANGES];	/* beyond next; empty ones last */
	uint32_t retransmits;
	bool has_syn;
};

enum pcap_talk {
	PCAP_TALK_NONE,		/* nothing said */
	PCAP_TALK_MIDDLE,	/* first seen in the middle of something */
	PCAP_TALK_CLIENT,	/* a ClientHello, or an HTTP request */
	PCAP_TALK_ANSWER,	/* what a TLS or HTTP server says first */
	PCAP_TALK_OTHER,	/* neither */
};

struct pcap_side {
	struct addr addr;
	struct pcap_stream stream; /* what it sends */
	enum pcap_talk talk;
};

/* @first: they are the first bytes of their direction. */
enum pcap_talk pcap_hello_talk(const uint8_t *p, size_t len, bool first);
bool pcap_hello_random(const uint8_t *p, size_t len, uint8_t random[static 32]);
/* A digest of the name in a ClientHello's SNI or a request's Host; 0: none. */
uint64_t pcap_hello_name(const uint8_t *p, size_t len);

/* What both passes follow alike. */
struct pcap_track {
	struct pcap_side sides[2];
	bool rst[2];		/* by the side that sent it */
	bool answered;		/* something other than RST answered the SYN, or none was seen */
	uint64_t syn_ns, last_ns; /* the last SYN; the last packet */
	uint64_t closed_ns;	/* by RST, or by the second FIN; 0: open */
};

#define PCAP_KEY_LEN	(4 + 2 * 19)

struct pcap_conn {
	uint8_t key[PCAP_KEY_LEN]; /* group, and both ends in order */
	uint32_t group;		/* 0, or interface + 1 where each interface is a node's */
	struct pcap_track track;
	uint32_t index;
	/* What the first pass leaves for the second. */
	uint64_t acked[2];	/* how far each side's stream was acknowledged in the end */
	uint64_t first[2];	/* 0: not known */
	uint8_t random[32];	/* of its ClientHello */
	bool has_random;
	uint64_t name;		/* digest of the server's name, as its client calls it; 0: none */
	bool started;		/* a SYN was seen */
	bool certain;		/* who is the server was seen, not guessed */
	bool foreign;		/* it speaks neither TLS nor HTTP */
	bool framed;		/* its frames stand in the file, and are its best account */
	bool talked;		/* payload passed */
	uint8_t server;		/* side */
	uint8_t local;		/* side of the node, where each interface is one */
	uint32_t node[2];	/* by side; 0: none */
	/* What the second pass has said. */
	bool opened[2], closed, named;
	uint32_t listed;	/* place among those that are about to end, from 1 */
	UT_hash_handle hh;	/* by key: the newest one of its addresses */
};

struct pcap_conns {
	struct pcap_conn **all;
	uint32_t count, capacity;
	uint32_t used;		/* second pass: so many have begun */
	bool again;		/* second pass */
	bool by_interface;
	struct pcap_conn *table;
	uint64_t over;		/* packets of connections that are more than there may be */
};

/*
 * The connection that @s belongs to; *side is its sender's. *replaced: the one of the same addresses
 * that it comes after, where it is new. NULL: it belongs to none (a lone RST; too many).
 */
struct pcap_conn *pcap_conns_find(struct pcap_conns *c, const struct pcap_segment *s, int *side,
				  struct pcap_conn **replaced);
/* The one that there is of its addresses; NULL: none. */
struct pcap_conn *pcap_conns_peek(const struct pcap_conns *c, const struct pcap_segment *s,
				  int *side);
/* Takes note of @s. */
void pcap_conn_follow(struct pcap_conn *conn, const struct pcap_segment *s, int side);
/* The 64-bit sequence number of the payload of @s, which @side sends. */
uint64_t pcap_conn_position(const struct pcap_conn *conn, const struct pcap_segment *s, int side);
/* Start over: connections come again in the same order. */
void pcap_conns_rewind(struct pcap_conns *c);
void pcap_conns_free(struct pcap_conns *c);

/* --- pcap_nodes.c, pcap_mac.c: who is a node -------------------------------------------------- */

struct pcap_node {
	char name[64];
	bool named;		/* second pass: its key was told */
	uint32_t interface;	/* of a file of our own, from 1; 0: none */
	struct addr *listeners;
	size_t listener_count;
};

struct pcap_nodes {
	struct pcap_node *nodes; /* number 1 first */
	uint32_t count;
};

/* A sender's link address, and the IP addresses it was seen with. */
struct pcap_mac {
	uint64_t mac;
	struct addr ip4, ip6;
	bool many;		/* of one family: it is a router's */
	UT_hash_handle hh;
};

struct pcap_macs {
	struct pcap_mac *table;
};

void pcap_macs_note(struct pcap_macs *m, const struct pcap_segment *s);
void pcap_macs_free(struct pcap_macs *m);

/* Finds the nodes, and sets server and node of each connection. 0 or -ENOMEM. */
int pcap_nodes_find(struct pcap_nodes *n, struct pcap_conns *c, const struct pcap_macs *m,
		    const struct pcap_file *f);
void pcap_nodes_free(struct pcap_nodes *n);

/* --- pcap_keylog.c: TLS secrets ----------------------------------------------------------- */

struct pcap_secret;

struct pcap_keylog {
	struct pcap_secret *secrets;
	size_t count, capacity;
	bool sorted;
	uint64_t over;
};

/* Lines that are no secrets are complained of, with @name and the first one's number; the rest is kept. */
void pcap_keylog_text(struct pcap_keylog *k, const char *text, size_t len, const char *name,
		      struct pcap_complaints *complaints);
void pcap_keylog_file(struct pcap_keylog *k, const char *path, struct pcap_complaints *complaints);
bool pcap_keylog_has(struct pcap_keylog *k, const uint8_t random[static 32]);
/* Tells @sink the secrets of @random. */
void pcap_keylog_tell(struct pcap_keylog *k, const uint8_t random[static 32], uint64_t time_ns,
		      const struct capture_sink *sink);
/* Tells those that are nobody's in @c (their ClientHello was not seen), so many at most. */
void pcap_keylog_tell_others(struct pcap_keylog *k, const struct pcap_conns *c, size_t most,
			     uint64_t time_ns, const struct capture_sink *sink);
/* Wipes and frees. */
void pcap_keylog_free(struct pcap_keylog *k);

/* --- pcap_tell.c: the second pass --------------------------------------------------------- */

struct pcap_teller {
	struct pcap_conns *conns;
	struct pcap_nodes *nodes;
	struct pcap_keylog *keylog;
	const char *file_name;
	uint64_t now_ns, tick_ns;
	struct pcap_conn **ending; /* dials without an answer, and connections whose FINs are out */
	uint32_t ending_count, ending_capacity;
};

void pcap_tell_begin(struct pcap_teller *t, uint64_t time_ns, const struct capture_sink *sink);
void pcap_tell_segment(struct pcap_teller *t, const struct pcap_segment *s,
		       const struct capture_sink *sink);
void pcap_tell_frame(struct pcap_teller *t, const struct pcap_segment *s,
		     const struct capture_sink *sink);
void pcap_tell_drop(struct pcap_teller *t, const struct pcap_segment *s,
		    const struct capture_sink *sink);
void pcap_tell_end(struct pcap_teller *t, const struct capture_sink *sink);

#endif
