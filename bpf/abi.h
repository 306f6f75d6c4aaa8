/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the programs in the kernel and user space say to each other: the records of the ring, the
 * marks of sockets, the counters. Host byte order but for addresses. Every byte of a record is
 * written.
 *
 * Included after <linux/types.h> or vmlinux.h.
 */
#ifndef DT_ABI_H
#define DT_ABI_H

enum abi_type {
	ABI_SEGMENT = 1,
	ABI_SECRET,
	ABI_DROP,
	ABI_COUNTING,
	ABI_FORWARD,
};

/* Relays that can be muted one by one; slots beyond are heard always. */
#define ABI_SLOTS	4096

/* How much of what passes is shipped; each less than the one before it. */
enum abi_level {
	ABI_LEVEL_FULL,
	ABI_LEVEL_SAMPLED,	/* nothing of the connections in the map quiet but SYN, FIN, RST */
	ABI_LEVEL_OFF,		/* nothing */
};

enum abi_role {
	ABI_LISTENER = 1,	/* also on the connections it accepts: the mark is cloned as it is */
	ABI_ACCEPTED,		/* accepted before its listener was marked */
	ABI_DIALLED,
};

/*
 * The mark of a socket. Children inherit it when a handshake ends, and a mark that cannot be
 * allocated then would make the kernel refuse the relay's connection: it stays this small.
 */
struct abi_mark {
	__u32 slot;		/* of the relay; user space knows which node that is */
	__u8 role;		/* enum abi_role */
	__u8 tls;		/* its records were foretold: it is not plaintext that may be counted */
	__u8 zero[2];
};

/* Marks one socket that is claimed: the packet of a test run. Network order but for the ports. */
struct abi_poke {
	__u64 cookie;
	__u8 ip;		/* 4, 6 */
	__u8 zero[3];
	__u16 local_port, remote_port;
	__u8 local[16], remote[16];
};
_Static_assert(sizeof(struct abi_poke) == 48, "abi_poke");

enum abi_dir {
	ABI_IN,
	ABI_OUT,
};

/* abi_segment.flags: as on the wire */
#define ABI_TCP_FIN	0x01
#define ABI_TCP_SYN	0x02
#define ABI_TCP_RST	0x04
#define ABI_TCP_ACK	0x10

/* abi_segment.has */
#define ABI_HAS_FACTS	0x01	/* rcv_nxt ... bytes_acked were read from the socket */
#define ABI_LOCKED	0x02	/* by the owner of the socket's lock: they are of one moment */
#define ABI_NOTHING_IN	0x04	/* no payload byte had arrived */
#define ABI_NOTHING_OUT	0x08	/* none had been sent: snd_nxt is the first byte's number */
#define ABI_LISTENING	0x10	/* the socket is a listener: the packet completes a handshake */

#define ABI_ALL_FACTS	0x40	/* copied_seq, rcv_wnd, write_seq and snd_wnd too */
#define ABI_HEAD	0x80	/* HEADS_CAPTURED bytes of a segment that is one TLS record: heads.h */
#define ABI_UNREADABLE	0x20	/* the bytes that follow could not be copied and are none of its */

/*
 * What is known of an inbound segment's TCP checksum. It passes the hook before TCP has looked at
 * the payload; with a wrong sum it is thrown away after that.
 */
enum abi_check {
	ABI_CHECK_NONE,		/* nothing: it goes out, has no payload, was never summed up */
	ABI_CHECK_HOLDS,	/* the kernel, or the card, has looked: TCP will not */
	ABI_CHECK_PENDING,	/* TCP will look: abi_segment.sum and the payload say what it finds */
	ABI_CHECK_UNTOLD,	/* as above, but the kernel does not tell whether TCP will look */
};

/* A segment, or a piece of it; @captured payload bytes follow. The last piece ends at @len. */
struct abi_segment {
	__u8 type;		/* ABI_SEGMENT */
	__u8 dir;		/* enum abi_dir */
	__u8 flags;		/* of the whole segment */
	__u8 has;
	__u8 ip;		/* 4, 6 */
	__u8 role;		/* enum abi_role */
	__u8 tcp_state;
	__u8 check;		/* enum abi_check */
	__u64 time_ns;		/* CLOCK_MONOTONIC */
	__u64 cookie;		/* of the socket; with ABI_LISTENING the listener's */
	__u32 slot;
	__u16 sport, dport;	/* of the packet */
	__u8 saddr[16], daddr[16]; /* network order; IPv4 in the first four, the rest zero */
	__u32 seq;		/* of the segment's first payload byte */
	__u32 len;		/* payload bytes of the segment */
	__u32 offset;		/* of this piece in the segment */
	__u32 captured;		/* bytes in this record */
	__u32 rcv_nxt, copied_seq, rcv_wnd;
	__u32 snd_una, snd_nxt, write_seq, snd_wnd;
	__u32 bytes_received, bytes_acked; /* low halves: rcv_nxt and snd_una count with them */
	__u32 ack;		/* of the packet */
	/*
	 * One's complement sum of the pseudo-header and the TCP header, as 16-bit words of memory; with
	 * the payload's added it is 0xffff where the checksum is right.
	 */
	__u16 sum;
	__u8 counted;		/* all of it was counted when it passed first */
	__u8 has_mark;		/* @mark is there, not @epoch */
	union {			/* 0: says nothing */
		__u32 epoch;	/* the walk of this number says that a frame begins here */
		__u32 mark;	/* the TLS record that begins here has this number in its walk */
	};
};
_Static_assert(sizeof(struct abi_segment) == 128, "abi_segment");

/* A walk has this bit in its number where it goes through a WebSocket. */
#define ABI_EPOCH_WEB	1u

/* Where a byte is in a WebSocket. */
struct abi_web {
	__u32 left;		/* of the current frame's payload, from the byte on */
	__u32 mask;		/* of the byte and what follows, lowest byte first; 0: none */
	__u8 on;		/* it is in one */
	__u8 passed;		/* the current frame is a control frame */
	__u8 have;		/* so much of the next one's header is before it, in @head */
	__u8 zero;
	__u8 head[14];		/* WEB_HEADER_MAX */
	__u8 gap[6];
};
_Static_assert(sizeof(struct abi_web) == 32, "abi_web");

/*
 * Frames of a direction are counted from here on, and its segments not shipped; or no longer, and
 * the segment that is shipped next, of which the start may have been counted, is told whole.
 */
struct abi_counting {
	__u8 type;		/* ABI_COUNTING */
	__u8 dir;		/* enum abi_dir */
	__u8 begins;
	__u8 zero;
	__u32 slot;
	__u64 time_ns;
	__u64 cookie;
	__u32 seq;		/* of the first byte that is, or is not, counted */
	__u32 generation;	/* of the counts in between */
	__u32 left, have;	/* of the frame at @seq, as in struct count_walk ... */
	__u8 gap[3];
	__u8 head[133];		/* ... whose start this is: DERP_HEAD_LEN */
	struct abi_web web;
};
_Static_assert(sizeof(struct abi_counting) == 208, "abi_counting");

/* A row of the counts: packets of one pair and class, in one direction of one connection. */
struct abi_count_key {
	__u64 cookie;
	__u32 generation;
	__u8 dir;
	__u8 class;		/* enum count_class */
	__u8 zero[2];
	__u8 key[32];		/* the peer in the frames */
};
_Static_assert(sizeof(struct abi_count_key) == 48, "abi_count_key");

struct abi_count {
	__u64 frames;
	__u64 bytes;		/* of packets, without keys */
	__u64 first_ns, last_ns; /* CLOCK_MONOTONIC */
	__u32 seq;		/* behind the last frame */
	__u32 zero;
};

#define ABI_COUNT_ROWS	(1 << 16)

/* Written by the kernel alone while the key's cookie is set, zeroed by user space when it is free again. */
struct abi_count_row {
	struct abi_count_key key;
	struct abi_count count;
};
_Static_assert(sizeof(struct abi_count_row) == 88, "abi_count_row");

/* User space agrees with a walk: a frame does begin there. */
struct abi_agreed_key {
	__u64 cookie;
	__u32 dir;
	__u32 zero;
};

#define ABI_WINDOWS	1024	/* directions of connections whose records are foretold at once */
#define ABI_MASKS	512	/* records that each of them is ahead */

/* What was foretold of the records with these numbers, modulo ABI_MASKS: heads_entry(). */
struct abi_masks {
	__u64 entries[ABI_MASKS];
};

/* Which of the windows is a direction's, while its walk counts HEADS_EPOCH times @epoch and more. */
struct abi_foretold {
	__u32 window;
	__u32 epoch;
};

struct abi_agreed {
	__u32 epoch;		/* the walk's number */
	__u32 type;		/* of the frames that are counted: SEND_PACKET, RECV_PACKET, FORWARD_PACKET */
};

#define ABI_LATENCY_FLIGHTS	(1 << 14)	/* packets that are timed and inside; the oldest give way */

struct abi_latency_flight {
	__u64 digest;
	__u32 slot;		/* of the relay that it is in */
	__u32 zero;
};

/* More than enough between two ticks; user space goes through all of it each time. */
#define ABI_LATENCY_ROWS	(1 << 12)

/* To how many packets of a row of the counts stayed inside so long, since user space took them. */
struct abi_latency_key {
	__u64 cookie;		/* of the connection on which they left, as in the row */
	__u32 row, generation;
	__u32 bucket;		/* latency.h */
	__u32 zero;
};
_Static_assert(sizeof(struct abi_latency_key) == 24, "abi_latency_key");

#define ABI_FORWARD_HEAD	72	/* two keys, and what tells a packet's class */

/* What is counted on a mesh connection is named one by one: its losses are told by that. */
struct abi_forward {
	__u8 type;		/* ABI_FORWARD */
	__u8 dir;		/* enum abi_dir */
	__u8 zero[2];
	__u32 slot;
	__u64 time_ns;
	__u64 cookie;
	__u64 digest;		/* of the packet */
	__u64 entered_ns;	/* it leaves, and was timed: when it entered; else 0 */
	__u32 seq;		/* behind the frame */
	__u32 len;		/* of the packet */
	__u8 head[ABI_FORWARD_HEAD]; /* the frame's payload; of a shorter one some bytes are none of it */
};
_Static_assert(sizeof(struct abi_forward) == 120, "abi_forward");

#define ABI_LABEL_LEN	40
#define ABI_SECRET_LEN	48

/* A secret that Go's TLS offers to a key log. */
struct abi_secret {
	__u8 type;		/* ABI_SECRET */
	__u8 label_len, random_len, secret_len;
	__u32 slot;
	__u64 time_ns;
	__u8 label[ABI_LABEL_LEN];
	__u8 random[32];
	__u8 secret[ABI_SECRET_LEN];
};
_Static_assert(sizeof(struct abi_secret) == 136, "abi_secret");

#define ABI_REASON_LEN	24
#define ABI_PACKET_LEN	64	/* DERP_DIGEST_LEN */

/* The relay's own drop path ran. */
struct abi_drop {
	__u8 type;		/* ABI_DROP */
	__u8 has_keys;		/* they could be read */
	__u8 reason_len;	/* 0: the reason is @reason_number */
	__u8 zero;
	__u32 slot;
	__u64 time_ns;
	__u64 reason_number;
	__u64 packet_len;
	__u8 reason[ABI_REASON_LEN];
	__u8 src[32], dst[32];
	__u8 packet[ABI_PACKET_LEN]; /* its start, zero-padded */
};
_Static_assert(sizeof(struct abi_drop) == 184, "abi_drop");

/* What could not be handed over, since load. */
struct abi_lost {
	__u64 segments;		/* pieces of segments: the ring was full */
	__u64 segment_bytes;	/* payload bytes of those */
	__u64 unreadable;	/* pieces whose bytes the kernel could not copy */
	__u64 secrets;
	__u64 drops;
	__u64 uncounted;	/* segments that were shipped because the counts had no more room */
	__u64 marks;		/* packets that had no memory for their socket's mark */
};

/* --- XDP: what reached a network card --------------------------------------------------------- */

#define ABI_WIRE_NODES		64	/* in one network namespace */
#define ABI_WIRE_ENDPOINTS	4096	/* their addresses and ports */
#define ABI_WIRE_FLOWS		65536	/* the least recently heard ones give way */

/* One of a node's own addresses and ports: the key; its value is the node's number there. */
struct abi_wire_endpoint {
	__u8 ip[16];		/* network order; IPv4 in the first four, the rest zero */
	__u16 port;
	__u8 proto;		/* 6 TCP, 17 UDP */
	__u8 family;		/* 4, 6 */
};
_Static_assert(sizeof(struct abi_wire_endpoint) == 20, "abi_wire_endpoint");

/* Of one node, since load. Packets as the card hands them over: several may have been made one. */
struct abi_wire_totals {
	__u64 packets;		/* TCP */
	__u64 bytes;		/* of their payload, those that came again included */
	__u64 syn, rst, fin;
	__u64 duplicates;	/* packets with payload, none of it above what had been seen */
	__u64 stun;		/* requests that a relay answers */
	__u64 partial;		/* packets whose payload could not be measured */
};

struct abi_wire_key {
	__u8 saddr[16], daddr[16];
	__u16 sport, dport;
};
_Static_assert(sizeof(struct abi_wire_key) == 36, "abi_wire_key");

/* What came of a connection's SYNs at the listener; see reached.bpf.h. */
#define ABI_HANDSHAKES		16384

struct abi_handshake {
	__u64 last_ns;
	__u32 syns, answers;
};

/* A UDP socket's, since it was entered. */
#define ABI_STUN_SOCKETS	256

struct abi_stun {
	__u64 requests, answers;
};

/* One TCP connection, towards the node. */
struct abi_wire_flow {
	__u64 first_ns, last_ns; /* CLOCK_MONOTONIC */
	__u64 syn_ns;		/* of the first SYN of this attempt */
	__u64 syn_before_ns;	/* of the last but one */
	__u64 packets, bytes;
	__u32 syn, rst, fin, duplicates; /* SYN: of this attempt */
	__u32 syn_seq;
	/* Bytes [base, next) have all arrived; so have [island, island_end). */
	__u32 base, next, island, island_end;
	__u32 highest;
	__u32 node;
	__u8 followed;
	__u8 family;
	__u8 zero[2];
};
_Static_assert(sizeof(struct abi_wire_flow) == 96, "abi_wire_flow");

#endif
