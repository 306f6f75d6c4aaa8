/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The door of capture: from running relays, or from capture files, to one stream of events about
 * the TCP connections of nodes. Capture knows processes, sockets, segments and Go's memory; it
 * knows nothing of TLS records or DERP.
 *
 * Events come in the order in which they happened, as far as one host can tell: a packet that
 * the relay sends on comes after the segment that brought it. All times are nanoseconds since the
 * epoch (the monotonic clock, moved once at start, so that a stepped clock moves nothing here).
 */
#ifndef DT_CAPTURE_H
#define DT_CAPTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/key.h"

enum capture_dir {
	CAPTURE_IN,		/* towards the node */
	CAPTURE_OUT,
};

enum capture_role {
	CAPTURE_ROLE_UNKNOWN,	/* offline, where no SYN was seen and the ports do not tell */
	CAPTURE_ACCEPTED,
	CAPTURE_DIALLED,
};

/*
 * What TCP itself says of a socket. Sequence numbers are those on the wire (32 bits, they wrap) and
 * hold where @has_seq is set; the byte counts hold always. From a file they are what the node's own
 * acknowledgements say, and @has_read is false.
 */
struct capture_facts {
	bool has_seq;
	bool has_read;		/* copied_seq and unread are known */
	bool has_queues;	/* notsent is known */
	uint32_t rcv_nxt;	/* all before it has arrived in order */
	uint32_t copied_seq;	/* all before it was read by the relay */
	uint32_t rcv_wnd;	/* what may lie beyond rcv_nxt */
	uint32_t snd_una;	/* all before it was acknowledged by the far end */
	uint32_t snd_nxt;	/* all before it was handed to IP */
	uint32_t write_seq;	/* all before it was written by the relay */
	uint32_t unread;	/* bytes, rcv_nxt - copied_seq */
	uint32_t notsent;	/* bytes, write_seq - snd_nxt */
	uint32_t unacked;	/* bytes, snd_nxt - snd_una */
	uint32_t rtt_us;	/* 0: not known */
	uint32_t retransmits;	/* segments, since the connection began */
	uint32_t rto_backoff;	/* retransmissions of the oldest segment so far */
	uint32_t snd_wnd;	/* the far end's window, bytes; UINT32_MAX: not known */
	uint8_t tcp_state;	/* TCP_ESTABLISHED ..., 0: not known */
};

enum capture_type {
	CAPTURE_NODE_UP,	/* a relay process was found and its sockets are claimed */
	CAPTURE_NODE_ENDED,	/* the process has ended, at that time; its sockets may still send */
	CAPTURE_NODE_DOWN,	/* and nothing more is told of it */
	CAPTURE_CONN_OPEN,	/* of a dial that was told before its answer once more, with that */
	CAPTURE_SEGMENT,
	CAPTURE_FRAME,		/* a DERP frame that was decrypted when the file was made; see @framed */
	CAPTURE_COUNTING,	/* a direction's frames are counted in the kernel from here on, or no longer */
	CAPTURE_COUNT,		/* what was counted there since the last such event */
	CAPTURE_FORWARD,	/* a frame that was counted there and named */
	CAPTURE_LATENCY,	/* how long some of them stayed inside */
	CAPTURE_FACTS,		/* a socket was asked */
	CAPTURE_CONN_CLOSE,
	CAPTURE_SECRET,		/* TLS secret of a handshake, bound by client random */
	CAPTURE_CANDIDATE,	/* what may be a traffic secret, from process memory */
	CAPTURE_PEER,		/* who is on a connection, from process memory */
	CAPTURE_SERVER_KEY,	/* a node's own key, from process memory */
	CAPTURE_DROP,		/* the relay's own drop path ran */
	CAPTURE_LOST,		/* the tracer could not keep up */
	CAPTURE_QUIET,		/* a connection's segments are not handed over from here on, or again */
	CAPTURE_STEP,		/* the governor changed how much is handed over */
	CAPTURE_COST,		/* what the programs in the kernel cost, a total; with every TICK */
	CAPTURE_NIC,		/* XDP's counters of a node, totals */
	CAPTURE_NIC_DROP,	/* packets of one connection reached the card and not the socket */
	CAPTURE_SAY,		/* a line for people: what was chosen, what has changed */
	CAPTURE_READY,		/* attached, claimed, searched: what enters from now on is in the books */
	/*
	 * Every socket was asked after all before this was handed over. Its time is how far that goes:
	 * what happened since is not known yet.
	 */
	CAPTURE_TICK,
};

struct capture_node_up {
	int pid;		/* 0: from a file */
	const char *name;	/* comm, or the file's name */
	const char *software;	/* "tailscale.com/cmd/derper v1.102.5"; NULL: not known */
	const char *hostname;	/* of its own -hostname option; NULL: not given */
	const struct addr *listeners;
	size_t listener_count;
};

struct capture_conn_open {
	enum capture_role role;
	struct addr local, remote;
	bool from_start;	/* its first byte in either direction will be seen; false for a dial
				 * that is told before its answer */
	uint32_t in_isn, out_isn; /* sequence numbers of the first payload bytes; valid with from_start */
	bool framed;		/* its frames are told: its segments are not to be read */
};

enum capture_how {
	CAPTURE_CLOSED_FIN,	/* in order, by either side */
	CAPTURE_CLOSED_RST_IN,	/* the far end reset it */
	CAPTURE_CLOSED_RST_OUT,	/* the node reset it (unread data, or an aborted socket) */
	CAPTURE_CLOSED_TIMEOUT,	/* it vanished without a packet: user timeout, or retries used up */
	CAPTURE_CLOSED_REFUSED,	/* dialled: RST answered the SYN */
	CAPTURE_CLOSED_NO_ANSWER, /* dialled: nothing answered the SYN */
	CAPTURE_CLOSED_UNKNOWN,
};

struct capture_conn_close {
	enum capture_how how;
	bool fin_in, fin_out;	/* who said FIN */
};

#define CAPTURE_SYN	1
#define CAPTURE_FIN	2
#define CAPTURE_RST	4

/*
 * What an inbound segment's TCP checksum is, the better the greater. Of two that contradict each
 * other the worse is none of the stream's.
 */
enum capture_sum {
	CAPTURE_SUM_WRONG = -1,	/* TCP throws it away, unless a card had said otherwise */
	CAPTURE_SUM_UNKNOWN,
	CAPTURE_SUM_RIGHT,
};

/*
 * A TCP segment as it passed the hook: retransmissions, overlaps and forgeries included, but for
 * those that TCP is known to throw away for their checksum.
 */
struct capture_segment {
	enum capture_dir dir;
	enum capture_sum sum;
	uint8_t flags;		/* CAPTURE_SYN ... */
	uint32_t seq;		/* of the first payload byte */
	uint32_t len;		/* payload bytes on the wire */
	uint32_t captured;	/* bytes at @data: all, or the start; the rest is a gap */
	uint32_t mark;		/* in the kernel's walk the TLS record that begins at @data has this
				 * number, see capture_ops.foretell; 0: it says nothing */
	bool head;		/* the segment is one TLS record, as foretold, and no gap: @data holds
				 * its start and, last, the byte before its tag */
	uint32_t epoch;		/* the kernel's walk of this number says that a frame begins at @data,
				 * see capture_ops.agree; with CAPTURE_EPOCH_WEB that one of a
				 * WebSocket's does, and the DERP frame in it; 0: it says nothing */
	bool counted;		/* sent again, and counted when it first passed: its bytes are not to be read */
	const uint8_t *data;	/* valid during the call only */
};

#define CAPTURE_EPOCH_WEB	1u

#define CAPTURE_MASK_LEN	5
#define CAPTURE_MASKS_AHEAD	512	/* more of a direction than so many are not kept */

/* With what the content of coming TLS records is masked, at its start. */
struct capture_masks {
	enum capture_dir dir;
	uint32_t mark;		/* of the first of them in the kernel's walk */
	uint32_t count;		/* of successive records */
	const uint8_t (*masks)[CAPTURE_MASK_LEN];
};

/* Told behind the segment that its last byte was in. */
struct capture_frame {
	enum capture_dir dir;
	uint64_t offset;	/* in the DERP stream */
	bool from_start;	/* @offset counts from the stream's first frame */
	uint64_t digest;	/* of the packet in it; 0: not told */
	uint32_t captured;	/* bytes at @data, header first: all, or the start */
	const uint8_t *data;	/* valid during the call only */
};

/* Where a direction is in a WebSocket. */
struct capture_web {
	bool on;		/* it is one */
	bool control;		/* the current frame is no data */
	uint32_t left;		/* of its payload */
	uint32_t mask;		/* of that, lowest byte first; 0: none */
	uint8_t have;		/* bytes of the next frame's header, at @head */
	uint8_t head[14];
};

/* With @begins no segment of the direction is told before the event that ends it. */
struct capture_counting {
	enum capture_dir dir;
	bool begins;
	uint32_t seq;		/* of the first byte that is counted, or that is not any more */
	/* At the end: the frame that @seq lies in. */
	uint32_t have;		/* bytes of it at @head, header first; 0: it begins at @seq */
	uint32_t left;		/* bytes of it from @seq on, where have >= DERP_HEADER_LEN */
	const uint8_t *head;
	struct capture_web web;	/* where @seq is in a WebSocket */
};

/* Packets between one pair, of one class; in the direction of their sender, or receiver. */
struct capture_count {
	enum capture_dir dir;
	struct key key;		/* the peer that the frames name */
	bool disco;
	uint8_t wg;		/* clear WireGuard type of each; 0: none, or it is not known */
	uint64_t frames, bytes;	/* bytes of packets, without keys */
	uint64_t first_ns;	/* event.time_ns is of the last */
	uint32_t seq;		/* behind the last of them */
	bool on;		/* they are of the COUNTING that was told last, and has not ended */
};

/* A ForwardPacket frame. Its event is told between those of the COUNTING that it belongs to, in order. */
struct capture_forward {
	enum capture_dir dir;
	uint32_t seq;		/* behind it */
	uint32_t len;		/* payload bytes: keys and packet */
	uint64_t digest;	/* of the packet, bpf/digest.h */
	uint32_t head_len;	/* bytes at @head, the payload's start: both keys at least */
	const uint8_t *head;	/* valid during the call only */
};

/* Of packets that left on the event's connection, those that were timed and are not told yet. */
struct capture_latency {
	struct key src, dst;	/* dst zero: the connection's own peer */
	uint32_t bucket, count;	/* of bpf/latency.h */
};

struct capture_secret {
	const char *label;	/* as in SSLKEYLOGFILE */
	uint8_t random[32];	/* client random */
	uint8_t secret[48];
	uint8_t len;		/* 32 or 48 */
};

/*
 * What may be a traffic secret of an open connection. The tag of a captured record decides. A
 * connection has several; each is tried for both directions.
 */
struct capture_candidate {
	uint8_t secret[48];
	uint8_t len;		/* 32 or 48; TLS 1.2 master secret: 48 and @is_master */
	bool is_master;
	uint8_t randoms[64];	/* with is_master: client random, server random */
	uint16_t version, cipher; /* 0: not known */
	uint64_t seq;		/* records done when it was read: near, not exact */
};

struct capture_peer {
	struct key key;
	bool is_server;		/* we dialled: it is the key of the server over there */
};

struct capture_drop {
	const char *reason;	/* the relay's word: "queue_head", "unknown_dest", ... */
	struct key dst;
	struct key src;		/* of the connection whose frame arrived; see has_src */
	bool has_src;		/* the dropped packet is known to come from src */
	uint32_t len;		/* of the dropped packet */
	uint64_t digest;	/* of the dropped packet, bpf/digest.h */
	bool disco;
};

struct capture_lost {
	uint64_t segments;	/* since the last such event: not handed over, data or whole segments */
	uint64_t drops;		/* drop reports of the relay that were lost */
	uint64_t uncounted;	/* not lost: handed over where they would have been counted, had there been room */
	bool drops_detached;	/* from here on drops are not reported (flood); again when false */
};

/*
 * How much a live source hands over, each less than the one before it. Budgets and costs are in
 * millionths (ppm) of the CPU time of all the machine's CPUs: 10,000 is 1 %.
 */
enum capture_level {
	CAPTURE_LEVEL_FULL,
	CAPTURE_LEVEL_SAMPLED,	/* a share of the connections */
	CAPTURE_LEVEL_COUNTS,	/* what the kernel counts, how connections begin, drops, facts */
	CAPTURE_LEVEL_OFF,	/* nothing but what a socket says when it is asked, drops, secrets */
};

struct capture_step {
	enum capture_level from, to;
	uint32_t share;		/* SAMPLED: one connection of so many */
	uint32_t cost_ppm, budget_ppm; /* of the second before it */
};

/* What reached the interfaces that carry the node's listening addresses, since it was found. */
struct capture_nic {
	const char *mode;	/* "native", "generic", "mixed"; "off": on none any more */
	const char *interfaces;	/* "eth0, eth1" */
	uint64_t packets;	/* TCP; what the card or the kernel had made one counts one */
	uint64_t bytes;		/* TCP payload, what came again included */
	uint64_t syn, rst, fin;
	uint64_t duplicates;	/* packets with payload, none of it new */
	uint64_t stun_in;	/* requests that a relay answers */
	uint64_t stun_heard;	/* of them, those that reached its socket */
	uint64_t stun_out;	/* answers that left */
	bool stun_listens;	/* it has a socket for them */
	uint64_t drops;		/* connections of which NIC_DROP was told */
};

enum capture_nic_drop_kind {
	CAPTURE_NIC_DROP_BEFORE, /* SYNs, before any listener: firewall, routes, checksums */
	CAPTURE_NIC_DROP_BACKLOG, /* at the listener: too many wait to be accepted */
	CAPTURE_NIC_DROP_LISTENER, /* SYNs, at the listener, though few wait */
	CAPTURE_NIC_DROP_DATA,	/* segments of an open connection */
	CAPTURE_NIC_ANSWERED,	/* no drop: SYNs that were answered, and came again all the same */
	CAPTURE_NIC_DROP_KINDS,
};

/* Told again when more of it comes. @conn of the event: the open connection, or the dial; else 0. */
struct capture_nic_drop {
	enum capture_nic_drop_kind kind;
	struct addr local, remote;
	uint64_t packets;	/* SYNs; else packets that came again */
	uint64_t bytes;		/* that arrived, and that TCP has not accepted; 0: not known */
	uint64_t first_ns, last_ns;
};

struct capture_say {
	const char *text;	/* one line */
	bool refused;		/* what was asked for could not be done */
};

struct capture_event {
	enum capture_type type;
	uint64_t time_ns;
	uint32_t node;		/* unique in a source, from 1; 0: the source as a whole */
	uint64_t conn;		/* unique in a source, from 1; 0: none */
	/*
	 * Of conn at that moment, or NULL. With a SEGMENT they are those before TCP has taken it, and
	 * what it made of it is told by later ones; or they tell that it has taken all of it already.
	 */
	const struct capture_facts *facts;
	union {
		struct capture_node_up node_up;
		struct capture_conn_open open;
		struct capture_segment segment;
		struct capture_frame frame;
		struct capture_counting counting;
		struct capture_count count;
		struct capture_forward forward;
		struct capture_latency latency;
		struct capture_conn_close close;
		struct capture_secret secret;
		struct capture_candidate candidate;
		struct capture_peer peer;
		struct key server_key;
		struct capture_drop drop;
		struct capture_lost lost;
		bool quiet;		/* true: from here on */
		struct capture_step step;
		uint64_t cost_ns;	/* run time of the programs since open, scaled from samples */
		struct capture_nic nic;
		struct capture_nic_drop nic_drop;
		struct capture_say say;
	};
};

/* Everything an event points to is the source's and valid during the call only. */
struct capture_sink {
	void *ctx;
	void (*event)(void *ctx, const struct capture_event *event);
	/*
	 * Asked where only some connections are handed over: those of one group go together, on every
	 * host; *link where it joins two nodes. 0: not known. May be NULL.
	 */
	uint32_t (*group)(void *ctx, uint32_t node, uint64_t conn, bool *link);
};

/*
 * A source of events: live relays, or a file. One thread; nothing is called but from run() and
 * close().
 */
struct capture {
	const struct capture_ops *ops;
};

struct capture_ops {
	/* A descriptor that becomes readable when run() has work; -1: always (a file). */
	int (*fd)(struct capture *c);
	/*
	 * Hand over all that is there. 0; -ENODATA when the source has ended (a file's end, or every
	 * relay that was asked for by pid is gone); -errno when it cannot go on.
	 */
	int (*run)(struct capture *c, const struct capture_sink *sink);
	/*
	 * A file: when that happened which run() hands over next (its end comes with the last packet);
	 * and a run() that stops before @until_ns, if not earlier. So several files are told in order of
	 * time. NULL where it is no file.
	 */
	uint64_t (*next_ns)(struct capture *c);
	int (*run_until)(struct capture *c, const struct capture_sink *sink, uint64_t until_ns);
	/* Ask every socket, look for new and ended relays; call 10 times a second. Ends in TICK. */
	int (*tick)(struct capture *c, const struct capture_sink *sink);
	/*
	 * The walk @epoch of a connection's direction is right: its frames of @type may be counted in the
	 * kernel (SendPacket in, RecvPacket out, ForwardPacket either way). NULL where nothing is counted.
	 */
	void (*agree)(struct capture *c, uint64_t conn, enum capture_dir dir, uint32_t epoch,
		      uint8_t type);
	/*
	 * What is known of a direction's coming TLS records: those that turn out to be one packet's
	 * frame and no more are handed over by their start alone (capture_segment.head). False where
	 * there is no room for it. NULL where all segments come whole.
	 */
	bool (*foretell)(struct capture *c, uint64_t conn, const struct capture_masks *masks);
	/* Search the node's memory again: secrets and peers of connections that lack them. */
	void (*search)(struct capture *c, uint32_t node, const struct capture_sink *sink);
	/*
	 * What could not be read of a file, or not used, a line each ('\n' between); NULL: nothing. To be
	 * asked when run() has ended; valid until close(). The operation is NULL where it is no file.
	 */
	const char *(*complaints)(struct capture *c);
	/* Drain, detach, free. */
	void (*close)(struct capture *c);
};

/*
 * Which relays; NULL or 0: not asked for. All that are given must hold. What it points to stays the
 * caller's, and as it is until close.
 */
struct capture_filter {
	const int *pids;
	size_t pid_count;
	const char *unit;	/* systemd unit, matched in the cgroup path */
	const char *comm;
	const char *cgroup;	/* path below the cgroup mount */
	uint16_t port;		/* one of its listeners */
};

/* Whether and how to look at network cards (XDP). */
enum capture_xdp {
	CAPTURE_XDP_OFF,
	CAPTURE_XDP_AUTO,	/* natively where no driver is known to pause for it, else generic */
	CAPTURE_XDP_NATIVE,
	CAPTURE_XDP_GENERIC,
};

struct capture_live_options {
	struct capture_filter filter;
	enum capture_xdp xdp;
	size_t ring_bytes;	/* rounded up to a power of two of pages; 0: 4 MiB */
	bool wait;		/* no relay yet is fine (serve): wait for one */
	uint32_t budget_ppm;	/* what this process may cost; 0: whatever it takes */
	bool count;		/* packets on plaintext connections are counted in the kernel */
};

struct capture_error {
	char text[512];		/* one line: what, where, what to do */
};

/*
 * Attach to the relays of this host. NULL with *err set where nothing could be traced. Relays that
 * were found but could not be attached are named in a line of @warnings each ('\n' between; caller
 * frees; NULL where there are none).
 */
struct capture *capture_live_open(const struct capture_live_options *options, char **warnings,
				  struct capture_error *err);

/*
 * The same events from a .pcap or .pcapng file: its nodes are the servers of its connections
 * that speak DERP (told by port, by SYN, or by who sends a ClientHello). Secrets: @keylog (path, may
 * be NULL) and the file's own decryption secrets blocks.
 */
struct capture *capture_file_open(const char *path, const char *keylog, struct capture_error *err);

/* One thing that live capture needs, or would like. */
struct capture_check {
	const char *what;
	enum { CAPTURE_CHECK_OK, CAPTURE_CHECK_POOR, CAPTURE_CHECK_FAIL } result;
	char found[160];	/* what was seen here */
	const char *fix;	/* where it is not OK */
};

/* Looks at this host and changes nothing. Fills at most @max; returns how many. */
size_t capture_live_check(struct capture_check *checks, size_t max);

#endif
