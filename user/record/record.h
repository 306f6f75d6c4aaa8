/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The door of record: what one tracer tells the world about the nodes of its host, and how that is
 * kept in files and sent through pipes. Records say what was seen; what it means is correlate's.
 *
 * A tracer (agent) tells a snapshot some times a second: whatever has changed, in this order: nodes,
 * connections, links, marks, peers, pairs, counts, losses, presences, steps; and last the agent itself,
 * which closes the snapshot: a reader applies a snapshot when it is closed and forgets one that was
 * cut. All counts are totals since the agent began, so that what is cut off costs time, not truth;
 * losses and steps are told once each. Records carry no payload byte and no secret.
 */
#ifndef DT_RECORD_H
#define DT_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/buckets.h"
#include "base/key.h"

enum record_type {
	RECORD_NODE = 1,
	RECORD_CONN,
	RECORD_LINK,
	RECORD_MARK,
	RECORD_PEERS,
	RECORD_PAIRS,
	RECORD_COUNTS,
	RECORD_LOSS,
	RECORD_PRESENCE,
	RECORD_NIC,
	RECORD_NIC_DROP,
	RECORD_AGENT,
	RECORD_STEP,
	RECORD_CUT,	/* made by a reader: the agent's records ended without its last one */
};

enum record_hop {
	HOP_CLIENT_IN,
	HOP_MESH_OUT,
	HOP_MESH_IN,
	HOP_CLIENT_OUT,
	HOP_COUNT,
};

/* The terms of the law, in frames. entered = left + in_flight + lost + untraced, always. */
struct record_books {
	uint64_t entered, left, in_flight, lost, untraced;
};

struct record_node {
	struct key key;			/* server key; zero: not learnt */
	int32_t pid;			/* 0: from a file */
	uint64_t since_ns;		/* when tracing of it began */
	uint64_t started_ns;		/* when the process began; 0: not known */
	uint64_t ended_ns;		/* 0: alive */
	char name[64];			/* comm, or the file's name */
	char software[128];		/* "" where not known */
	struct addr serves[4];		/* local addresses that clients reached, most used first */
	uint32_t serves_count;
	char tls_name[128];		/* SNI by which clients reach it, or its certificate's name */
	uint32_t peers;			/* connected now */
	struct record_books books;
	uint64_t unflushed;
	uint64_t other_frames;		/* of entered: in the row of zero keys, for bounds */
	/*
	 * The last time that it read nothing while what had come waited, as far as that was seen: from
	 * 0: never, to 0: it goes on
	 */
	uint64_t still_from_ns, still_to_ns;
	uint32_t still_conns;		/* connections that waited then, at most */
};

enum record_conn_kind {
	CONN_UNKNOWN,		/* nothing said yet, or cannot be read */
	CONN_CLIENT,		/* a peer's */
	CONN_MESH_OUT,		/* ours, to another node: carries our ForwardPackets */
	CONN_MESH_IN,		/* another node's, to us */
	CONN_OTHER,		/* no DERP */
};

/* How far a connection came, and the handshake's steps as they were seen. */
enum record_conn_step {
	STEP_SYN = 1 << 0,
	STEP_ESTABLISHED = 1 << 1,
	STEP_CLIENT_HELLO = 1 << 2,
	STEP_TLS_DONE = 1 << 3,
	STEP_HTTP_REQUEST = 1 << 4,
	STEP_UPGRADED = 1 << 5,
	STEP_SERVER_KEY = 1 << 6,
	STEP_CLIENT_INFO = 1 << 7,
	STEP_SERVER_INFO = 1 << 8,
	STEP_WATCH_CONNS = 1 << 9,
	STEP_PEER_PRESENT = 1 << 10,	/* mesh: the acceptor told at least one */
	STEP_PACKET = 1 << 11,		/* SendPacket, ForwardPacket or RecvPacket was seen */
};

/* What every connection has. */
struct record_conn_facts {
	uint64_t conn;			/* unique in (agent, node) */
	struct addr local, remote;
	uint64_t opened_ns;		/* or when it was first seen */
	uint64_t closed_ns;		/* 0: open */
	uint64_t left_ns;		/* the node closed its end; 0: not, or not seen */
	uint64_t tag;			/* of the client random: equal at both ends; 0: not known */
	uint64_t last_in_ns, last_out_ns; /* last payload byte accepted / first sent */
	uint64_t preferred_ns;		/* last NotePreferred(true); 0: none, or since revoked */
	enum record_conn_kind kind;
	uint32_t steps;			/* STEP_... */
	uint32_t info_len;		/* ClientInfo's length; 0: not seen */
	uint16_t http_status;
	bool dialled;			/* by the node */
	bool from_start;
	bool readable;			/* its frames are seen (plain, or decrypted and synchronised) */
	bool secret_missing, unsynchronised, websocket, tls;
	bool peer_claimed;		/* read from memory only, no frame has confirmed it */
	uint8_t last_type_in, last_type_out; /* last DERP frame types; 0: none */
	uint8_t how;			/* enum capture_how, valid when closed */
	bool fin_in, fin_out;
	uint8_t tls_alert;		/* see struct stream_info */
	bool tls_alert_out, tls_alert_hidden, tls_alert_hidden_out;
	/* TCP's own word, at the snapshot (or the last one before the end) */
	uint32_t unread, notsent, unacked, rtt_us, retransmits, snd_wnd;
	uint32_t max_unacked_segment;	/* bytes of the segment that is being retransmitted; 0: none */
	uint64_t unacked_since_ns;	/* since when nothing of what stands unacknowledged was acknowledged */
	uint64_t blocked_ns;		/* time, in all, during which notsent > 0 */
	uint64_t in_bytes, out_bytes;	/* TCP payload */
	uint64_t in_missed;		/* of in_bytes: passed unread, since it was first seen */
};

/* ForwardPacket frames on a mesh connection: sent (MESH_OUT), arrived (MESH_IN). */
struct record_conn_forwards {
	uint64_t forwards, forward_bytes;
	uint64_t forwards_acked;	/* MESH_OUT: of them, acknowledged by TCP */
	uint32_t max_acked_forward;	/* MESH_OUT: bytes of the largest of those, with its header */
	uint32_t stuck_forward;		/* MESH_OUT: of the first that is not; 0: none, or not known */
	uint64_t derp_off;		/* position behind the last of them, from the stream's start */
	uint64_t gaps;			/* times that its forwards may have been missed */
};

/* What thousands of connections have in common. */
struct record_conn_names {
	char sni[128], host[128], cert_name[128], ideal_node[64];
};

struct record_conn {
	struct record_conn_facts;
	struct record_conn_forwards;
	struct key peer;		/* client: the peer; mesh: the other node's server key; zero: not known */
	struct record_conn_names;
};

/* ForwardPacket frames of one pair on one mesh connection. Both ends tell this. */
struct record_link {
	uint64_t conn;
	struct key src, dst;
	uint64_t frames, bytes;
};

/*
 * The counts of a mesh connection at one certain frame, which both ends know by its digest: what
 * was counted behind a common mark can be compared, whatever either end missed before it.
 */
struct record_mark_pair {
	struct key src, dst;
	uint64_t frames;
};

struct record_mark {
	uint64_t conn;
	uint64_t no;			/* of that frame on this connection, from 1 */
	uint64_t seen_ns;		/* when its last byte passed this end's hook */
	uint64_t digest;
	uint32_t len;			/* of the packet */
	struct key src, dst;
	const struct record_mark_pair *pairs; /* those counted since the mark before it, with totals */
	size_t pair_count;
};

/*
 * What is told of pairs again and again is told by number. A number is one node's, from 1 on; it stands
 * for what it was last told to stand for, before it is used. New ones are given in order, those that
 * are free again first: none is more than one above the greatest so far.
 */
struct record_peer {
	uint32_t no;
	struct key key;
};

struct record_peers {
	const struct record_peer *v;
	size_t count;
};

/* Where a number stands for another pair from here on, the one before has been told as all zeros. */
struct record_pair_ends {
	uint32_t no;
	uint32_t src, dst;		/* peers; 0: not known */
	uint64_t first_ns;		/* told again where it has changed */
};

struct record_pairs {
	const struct record_pair_ends *v;
	size_t count;
};

/* Totals of one pair at this node. First numbers of 64 bits: their order is that of the columns. */
struct record_pair {
	struct record_books books;
	uint64_t frames[HOP_COUNT], bytes[HOP_COUNT];
	uint64_t last_ns;
	uint64_t first_seen;		/* of entered: first seen on the way out, or when it was dropped */
	uint64_t disco;			/* of entered */
	uint64_t last_hop;		/* left on client-out, unacknowledged when that connection ended */
	uint64_t last_hop_first_ns, last_hop_last_ns;
	/* WireGuard, by the packets' clear type: delivered here on client-out; initiations since the
	 * last data, which is sent in a session only */
	uint64_t wg_initiations, wg_responses;
	uint64_t wg_initiation_first_ns, wg_initiation_last_ns, wg_response_last_ns;
	const struct buckets *latency;	/* in -> out inside this node, latency.h; NULL: no sample */
};

#define RECORD_PAIR_COLUMNS	24
_Static_assert(offsetof(struct record_pair, latency) == RECORD_PAIR_COLUMNS * sizeof(uint64_t),
	       "a column for each number");

/* Of many pairs: one array for each number, with a place for each pair. */
struct record_counts {
	const uint32_t *pair;		/* their numbers */
	const uint64_t *column[RECORD_PAIR_COLUMNS]; /* NULL: zero for all of them */
	/* Buckets of each, the first one's number and how many: one pair's behind another's */
	const uint32_t *latency_first, *latency_count, *latency;
	size_t count;
};

enum record_reason {
	/* the relay's own words */
	REASON_UNKNOWN_DEST = 1,
	REASON_UNKNOWN_DEST_ON_FWD,
	REASON_GONE_DISCONNECTED,
	REASON_QUEUE_HEAD,
	REASON_QUEUE_TAIL,
	REASON_WRITE_ERROR,
	REASON_DUP_CLIENT,
	/* ours */
	REASON_NO_ROUTE,	/* no connection of this node could carry it */
	REASON_QUEUE,		/* a later packet of its queue left, or the queue ran empty without it */
	REASON_UNREAD,		/* arrived, and its connection ended before the relay read it */
	REASON_UNSENT,		/* written, and the exit's connection ended before it was sent */
	REASON_UNFLUSHED,	/* the exit's connection ended; the relay dropped nothing and wrote nothing */
	REASON_OTHER,		/* the relay gave a word we do not know */
	REASON_COUNT,
};

const char *record_reason_name(enum record_reason reason);

enum record_basis { BASIS_RELAY, BASIS_WIRE, BASIS_INFERRED, BASIS_UNKNOWN };

/* Packets of one pair that this node lost for one reason, since the last snapshot. */
struct record_loss {
	struct key src, dst;		/* of the other row: dst alone, where it is known */
	enum record_reason reason;
	enum record_basis basis;
	bool from_mesh;			/* they had entered on mesh-in */
	uint64_t in_conn;		/* where they entered; 0: unknown or several */
	uint64_t out_conn;		/* whose end or queue lost them; 0: none */
	uint64_t count, bytes;
	uint64_t first_ns, last_ns;	/* when they entered */
	uint64_t back;			/* so many that were told before were no loss after all */
};

/* What a mesh peer told: a peer is, or is no longer, connected over there. */
struct record_presence {
	uint64_t conn;			/* MESH_OUT */
	struct key peer;
	bool present;
	bool not_here;			/* PeerGone with reason 01 */
	struct addr addr;		/* family 0: not told */
	uint8_t flags;
	uint64_t said_ns;		/* when it began to be so; 0: not told */
};

struct record_nic {
	char mode[16];			/* "native", "generic", "mixed", "off" */
	char interfaces[128];		/* "eth0, eth1" */
	uint64_t packets, bytes;	/* TCP towards the node; bytes of payload */
	uint64_t syn, rst, fin, duplicates;
	uint64_t stun_in, stun_heard, stun_out; /* at the card, at the relay's socket, answered */
	bool stun_listens;
	uint64_t drops;			/* connections of which a NIC_DROP was told */
};

/* Of one connection what reached the network card and not the socket; the newest count, see capture.h. */
struct record_nic_drop {
	uint8_t kind;			/* enum capture_nic_drop_kind */
	uint64_t conn;			/* the open connection, or the dial; 0: none came about */
	struct addr local, remote;
	uint64_t packets, bytes;
	uint64_t first_ns, last_ns;
};

/* How much a tracer takes in, each less than the one before it; see capture.h. */
enum record_level { LEVEL_FULL, LEVEL_SAMPLED, LEVEL_COUNTS, LEVEL_OFF, LEVEL_COUNT };

const char *record_level_name(enum record_level level);

/* The tracer's governor changed it. Told once. Costs: millionths of all CPUs' time of the host. */
struct record_step {
	uint64_t time_ns;
	enum record_level from, to;
	uint32_t share;			/* SAMPLED: one connection of so many is taken in; else 1 */
	uint32_t cost_ppm, budget_ppm;
};

struct record_agent {
	char host[64];
	uint64_t start_ns, ready_ns;	/* ready: the window's start; 0: not yet */
	bool final;			/* the last snapshot: the trace ended in order */
	uint64_t segments_lost;
	uint64_t drops_lost;
	uint64_t connections, without_secret, unsynchronised;
	double cpu_percent;		/* of one core, its programs in the kernel too; negative: not known */
	char mode[16];			/* "full", "sampled", "counts", "off" */
	uint64_t counted;		/* frames: in the kernel, none of their bytes was copied */
	uint64_t uncounted;		/* segments that were copied since the counts had no more room */
	uint64_t steps;			/* times that it changed: then not all was seen */
};

struct record {
	enum record_type type;
	uint64_t agent;			/* random, of this run of the tracer */
	uint32_t node;			/* 0 in RECORD_AGENT, RECORD_STEP, RECORD_CUT */
	uint64_t time_ns;		/* of the snapshot */
	union {
		struct record_node node_info;
		struct record_conn conn;
		struct record_link link;
		struct record_mark mark;
		struct record_peers peers;
		struct record_pairs pairs;
		struct record_counts counts;
		struct record_loss loss;
		struct record_presence presence;
		struct record_nic nic;
		struct record_nic_drop nic_drop;
		struct record_agent agent_info;
		struct record_step step;
	};
};

/* Takes a record; what it points to is valid during the call. 0 or -errno. */
struct record_sink {
	void *ctx;
	int (*put)(void *ctx, const struct record *r);
};

/*
 * Peers, pairs and their counts, collected into records of many. Each of the three is told before what
 * is told behind it, whatever the order in which they were given.
 */
struct record_batch;

/* @head: agent, node and time of what is told. NULL without memory. */
struct record_batch *record_batch_new(const struct record *head, const struct record_sink *sink);
/* What the sink returned sticks: after it nothing more is told. */
int record_batch_peer(struct record_batch *b, const struct record_peer *peer);
int record_batch_pair(struct record_batch *b, const struct record_pair_ends *ends);
int record_batch_counts(struct record_batch *b, uint32_t pair, const struct record_pair *counts);
/* Tells what was collected. 0 or what the sink returned. */
int record_batch_flush(struct record_batch *b);
void record_batch_free(struct record_batch *b);

/*
 * Files (.dtr) and pipes: an 8-byte magic, then blocks. A block is a 16-byte header of four
 * little-endian words (magic, bytes that follow, their CRC-32, bytes when inflated) and a
 * zlib-deflated run of protobuf records (record.proto), each behind its length as a little-endian
 * word. The magic's last byte is the format, and a reader reads its own only. A block ends with each
 * snapshot, so that a pipe's reader is never behind.
 */
struct record_writer;

/*
 * @path "-": standard output. A file that is no .dtr is refused; one that is, is appended to (what
 * stands behind its last whole block, after a crash, is cut off first).
 */
struct record_writer *record_writer_open(const char *path, char err[static 256]);
/* -errno sticks: after a failed write nothing more is written. */
int record_writer_put(struct record_writer *w, const struct record *r);
int record_writer_close(struct record_writer *w);

struct record_reader;

/* @path "-": standard input. */
struct record_reader *record_reader_open(const char *path, char err[static 256]);
int record_reader_fd(const struct record_reader *r);
/*
 * Hands over the whole blocks that can be read without waiting (@wait false) or until the end
 * (@wait true). 0: more may come; -ENODATA: the end, in order; -EBADMSG: damaged, or cut before its
 * last snapshot: record_reader_error says what and at which byte; what was whole before it has been
 * handed over, and a CUT record for each agent that had not ended. Else what the sink returned.
 */
int record_reader_run(struct record_reader *r, const struct record_sink *sink, bool wait);
/*
 * A file: of when the snapshot is that run_until() hands over next (0: its end is, or what is wrong
 * with it); and a run() that stops before one of @until_ns, if not earlier. So several are told in
 * order of time.
 */
bool record_reader_is_file(const struct record_reader *r);
uint64_t record_reader_next_ns(struct record_reader *r);
int record_reader_run_until(struct record_reader *r, const struct record_sink *sink, uint64_t until_ns);
const char *record_reader_error(const struct record_reader *r);
void record_reader_close(struct record_reader *r);

/* One record to and from its wire form. Pack returns the length, or 0 with @len too small. */
size_t record_pack(const struct record *r, uint8_t *buf, size_t len);
/* @scratch holds what *r points to. False: no record. A kind of a later version has type 0. */
struct record_scratch;
bool record_unpack(const uint8_t *buf, size_t len, struct record *r, struct record_scratch **scratch);
void record_scratch_free(struct record_scratch *scratch);

#endif
