/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The door of stream: segments in, DERP frames out. It owns reassembly, TLS, the HTTP upgrade,
 * WebSocket and DERP framing of each connection; it knows nothing of peers, pairs or nodes but the
 * number that capture gave them.
 *
 * A file of ours may hold the frames of a connection that cannot be read in it: they come ready, and
 * its bytes say no more than how far TCP came.
 *
 * Inbound bytes are handed on only when TCP has accepted them (facts cover them: rcv_nxt), outbound
 * bytes when they first pass the hook. Both are trimmed of what came before.
 *
 * Positions are 64-bit TCP payload offsets of one direction. Their origin is the first payload byte
 * where the connection was seen from its start, else where TCP stood when it was first seen.
 */
#ifndef DT_STREAM_H
#define DT_STREAM_H

#include "capture/capture.h"
#include "derp.h"

/*
 * How far a connection came. Only ever goes forward; but one that spoke HTTP for other things
 * (OTHER) may be upgraded at last.
 */
enum stream_stage {
	STREAM_SILENT,		/* no payload yet */
	STREAM_TLS,		/* a ClientHello was seen, or TLS records mid-stream */
	STREAM_TLS_DONE,	/* application data both ways, or HTTP was read */
	STREAM_HTTP,		/* a request was seen */
	STREAM_UPGRADED,	/* 101, or DERP after a fast start */
	STREAM_DERP,		/* frames flow */
	STREAM_OTHER,		/* it is something else: HTTP without upgrade, or not HTTP */
};

/* What handshakes tell of the server; strings are empty where not known, cut where too long, and hold
 * printable ASCII only. */
struct stream_names {
	char sni[128];
	char alpn[16];		/* chosen */
	char host[128];		/* HTTP Host */
	char path[64];
	char ideal_node[64];
	char cert_name[128];	/* first DNS name or CN of the server's certificate (TLS 1.2, or decrypted) */
	struct key http_key;	/* Derp-Public-Key; zero: not seen */
	struct key cert_key;	/* derpkey certificate of a fast start; zero: not seen */
};

struct shared;

/* What is known of a connection. */
struct stream_info {
	enum stream_stage stage;
	bool tls;
	uint16_t tls_version;	/* 0x0304 ... */
	uint16_t tls_cipher;
	uint8_t tls_alert;	/* last alert that was readable; 0: none */
	enum capture_dir tls_alert_dir;
	bool tls_alert_hidden;	/* a record of an alert's size ended the handshake, encrypted */
	enum capture_dir tls_alert_hidden_dir;
	uint64_t tag;		/* of the client random: equal at both ends; 0: not known */
	bool secret_missing;	/* application data flowed and no record could be decrypted */
	bool decrypted;		/* at least one record was */
	bool unsynchronised;	/* bytes flow, no frame boundary was found yet */
	bool websocket;
	bool fast_start;
	uint16_t http_status;	/* of the upgrade's answer; 0: none seen */
	uint64_t bytes[2];	/* payload bytes by direction, new ones only */
	const struct stream_names *names; /* valid while it is told; NULL: none are known */
	struct shared *kept;	/* stream's own: where they are */
};

/* A frame, whole: its last byte has arrived (in), or was first handed to IP (out). */
struct stream_frame {
	uint32_t node;
	uint64_t conn;
	uint64_t time_ns;	/* when its last byte passed the hook */
	enum capture_dir dir;
	uint8_t type;		/* enum derp_type, or one that is not known */
	uint32_t len;		/* payload bytes */
	uint32_t head_len;	/* bytes at @head */
	const uint8_t *head;	/* start of the payload: min(len, 2 keys + DERP_DIGEST_LEN) at least,
				 * whole where the frame is no packet and shorter than 4 KiB; from a
				 * file's frames, what is there */
	uint64_t digest;	/* of a packet, where a file that lacks its bytes told it; 0: see @head */
	uint64_t tcp_end;	/* position behind the last TCP byte that it needs (its record's end) */
	uint64_t derp_off;	/* of its header in the DERP stream after the upgrade; see derp_from_start */
	bool derp_from_start;	/* derp_off counts from the stream's first frame; else from synchronisation */
	bool named;		/* the kernel counted it: of its packet, the class and @digest are known */
};

/*
 * Frames that the kernel counted: packets of one sender, or for one receiver, that were on one
 * connection since it was last read there. Frames of other pairs may have been among them.
 */
struct stream_run {
	uint32_t node;
	uint64_t conn;
	uint64_t first_ns, time_ns; /* of the first, at the earliest; of the last */
	enum capture_dir dir;
	uint8_t type;		/* DERP_SEND_PACKET in, DERP_RECV_PACKET out */
	struct key key;		/* in them: the other end */
	bool disco;
	uint8_t wg;		/* clear WireGuard type of each of them; 0: none, or mixed */
	uint64_t frames;
	uint64_t bytes;		/* of their packets, without keys */
	uint64_t tcp_end;	/* position behind the last one */
};

/*
 * Where both directions of a connection stand. Told whenever capture's facts are; what was read and
 * acknowledged may be told less exactly than before, and so as less.
 */
struct stream_progress {
	uint32_t node;
	uint64_t conn;
	uint64_t time_ns;
	const struct capture_facts *facts;
	bool has_read;
	uint64_t in_arrived;	/* position: accepted by TCP */
	uint64_t in_read;	/* position: read by the relay */
	uint64_t out_sent;	/* position: passed the hook */
	uint64_t out_acked;
	bool has_acked;
};

/*
 * Frames of one direction may be missing between two frames. Begins where bytes were passed over
 * (lost by capture, over a limit, before the first frame was found), where capture says that it hands
 * nothing over (QUIET; a frame that was on its way then is told between two gaps), or have waited for a secret
 * for two seconds; in the latter case the frames may come yet, and then @bytes is 0 at the end. Each
 * gap ends, at the connection's close if not before; its frames are told after that.
 */
struct stream_gap {
	uint32_t node;
	uint64_t conn;
	uint64_t time_ns;
	enum capture_dir dir;
	bool begins;		/* true: from here frames may pass unseen; false: seen again */
	uint64_t bytes;		/* TCP payload bytes that were not read, where begins is false */
};

struct stream_sink {
	void *ctx;
	void (*frame)(void *ctx, const struct stream_frame *f);
	/* Frames that were counted, not seen. May be NULL where capture does not count. */
	void (*run)(void *ctx, const struct stream_run *r);
	/*
	 * The kernel's walk @epoch of a plaintext connection is right: which frames are counted there
	 * (capture_ops.agree)? 0: all are to be seen one by one; it is asked again. NULL: 0.
	 */
	uint8_t (*agree)(void *ctx, uint32_t node, uint64_t conn, enum capture_dir dir,
			 uint32_t epoch);
	/*
	 * What is known of a direction's coming TLS records (capture_ops.foretell). False where nobody
	 * wants to know; it is told again. NULL: all segments come whole.
	 */
	bool (*foretell)(void *ctx, uint32_t node, uint64_t conn, const struct capture_masks *masks);
	void (*progress)(void *ctx, const struct stream_progress *p);
	void (*gap)(void *ctx, const struct stream_gap *g);
	/* What is known has changed. May be NULL. */
	void (*info)(void *ctx, uint32_t node, uint64_t conn, const struct stream_info *info);
	/*
	 * Right after frame(), the same frame's bytes, header first, for pcap export; fewer than
	 * the frame has where memory was short or a part was lost. NULL: not wanted.
	 */
	void (*whole)(void *ctx, const struct stream_frame *f, const uint8_t *bytes, size_t len);
};

struct stream_limits {
	size_t connection_bytes; /* buffered out of order, unconfirmed or undecrypted; 0: 256 KiB */
	size_t total_bytes;	/* over all connections; 0: 32 MiB */
	bool secrets_first;	/* a secret never comes later than what it decrypts (a file) */
};

struct stream_stats {
	uint64_t connections;	/* that carried data */
	uint64_t without_secret, unsynchronised;
	uint64_t waiting;	/* now: what came on them waits for a secret, a record number, a boundary */
	uint64_t gaps, gap_bytes;
	uint64_t records, records_failed; /* opened; given up */
	uint64_t records_by_heads; /* of those opened: in part only, their tags not looked at */
};

struct streams;

struct streams *streams_new(const struct stream_sink *sink, const struct stream_limits *limits);
void streams_free(struct streams *s);

/*
 * Takes every event of capture; those that are not about connections or secrets are ignored. A
 * connection that is closed is told to the sink whole (its last frames, its gap, its progress)
 * before this returns. Secrets are wiped when their connection ends.
 */
void streams_event(struct streams *s, const struct capture_event *event);

/* Is there a connection of @node with data and without a secret for so long that its memory is worth
 * a search? At most one true per node and second, and fewer and fewer where the searches are vain. */
bool streams_want_search(struct streams *s, uint32_t node, uint64_t now_ns);

/* NULL where there is no such connection. */
const struct stream_info *streams_info(struct streams *s, uint64_t conn);
void streams_stats(const struct streams *s, struct stream_stats *stats);

#endif
