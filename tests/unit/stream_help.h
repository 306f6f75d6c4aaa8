/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Connections for tests of stream: a DERP conversation, under real TLS where asked for, as a dialog
 * of what each side put on the wire; and a TCP that hands the dialog's bytes to streams in any
 * pieces and order, with the facts that a kernel would tell.
 */
#ifndef DT_TEST_STREAM_HELP_H
#define DT_TEST_STREAM_HELP_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

#include "stream/stream.h"

#define HELP_CONN	7
#define HELP_NODE	1

/* --- reproducible chance ------------------------------------------------------------------ */
struct chance {
	uint64_t state;
};
uint32_t chance_next(struct chance *c);
/* low .. high, both included */
uint32_t chance_between(struct chance *c, uint32_t low, uint32_t high);
bool chance_percent(struct chance *c, unsigned int p);

/* --- bytes that grow ---------------------------------------------------------------------- */
struct bytes {
	uint8_t *p;
	size_t len, cap;
};
void bytes_add(struct bytes *b, const void *p, size_t len);
void bytes_free(struct bytes *b);

/* --- what is expected, and what came ------------------------------------------------------ */
struct seen_frame {
	enum capture_dir dir;
	uint8_t type;
	uint32_t len, head_len;
	uint64_t digest;	/* of the first min(len, 128) payload bytes */
	uint64_t tcp_end, derp_off;
	bool from_start;
};

/* What a kernel makes of TLS records that were foretold to it: bpf/heads.h. */
struct foretold {
	uint64_t entries[2][CAPTURE_MASKS_AHEAD];
	struct {
		size_t next, left;	/* the walk, by wire bytes */
		uint32_t mark;
		bool walking;
	} dirs[2];
	bool any;		/* what was foretold goes by its start whether that will do or not */
	unsigned int heads, calls;
};

struct seen {
	struct foretold foretold;
	struct seen_frame *frames;
	size_t count, cap;
	struct stream_gap gaps[4096];
	size_t gap_count;
	bool gap_open[2];
	uint64_t in_arrived, in_read, out_acked, out_sent;
	struct stream_info info;
	struct stream_names names;	/* of info */
	bool was_other;			/* it was said to be something else, at some moment */
	size_t whole_count;
};

void seen_add(struct seen *s, enum capture_dir dir, uint8_t type, const uint8_t *payload,
	      uint32_t len);
void seen_free(struct seen *s);
/* How many of @got are in @want, in order, by direction; -1 where one is not. */
int seen_match(const struct seen *want, const struct seen *got, enum capture_dir dir);
size_t seen_count(const struct seen *s, enum capture_dir dir);
struct streams *seen_streams(struct seen *s, const struct stream_limits *limits);

/* --- the dialog --------------------------------------------------------------------------- */
struct flight {
	enum capture_dir dir;
	size_t at, len;		/* in the bytes of its direction */
	size_t secrets;		/* so many secrets were logged before it */
};

struct dialog {
	struct bytes wire[2];
	struct flight *flights;
	size_t count, cap;
	struct seen want;
	struct capture_secret secrets[64];
	char labels[64][48];
	size_t secret_count;
	SSL_CTX *contexts[2];
	SSL *ssl[2];		/* client, server; NULL: plain */
	struct chance chance;
	bool dialled;		/* the node is the client */
	bool websocket;
};

struct dialog_options {
	bool tls;
	int version;		/* TLS1_3_VERSION ... */
	const char *suite;	/* of that version; NULL: any */
	bool dialled;
	bool websocket;
	bool fast_start;
	bool bare;		/* no upgrade */
	bool retry;		/* the server asks for another group first */
	bool distrust;		/* the server wants a certificate in vain; that is all there is */
	uint64_t seed;
};

/* Handshake and upgrade are in it already. */
void dialog_begin(struct dialog *s, const struct dialog_options *o);
/* What @side (0: client) writes in one go. */
void dialog_write(struct dialog *s, int side, const void *p, size_t len);
void dialog_key_update(struct dialog *s, int side, bool ask);
/* Bytes of the DERP stream, in one write: frames, or what they are not. */
void dialog_stream(struct dialog *s, int side, const void *p, size_t len);
/* A frame of random content, alone or with others in one write. */
void dialog_frames(struct dialog *s, int side, unsigned int count, uint32_t max_len);
/* One frame. */
void dialog_frame(struct dialog *s, int side, uint8_t type, const void *payload, uint32_t len);
/* A conversation of @rounds random frames each way. */
void dialog_talk(struct dialog *s, unsigned int rounds, uint32_t max_len);
void dialog_free(struct dialog *s);
enum capture_dir dialog_dir(const struct dialog *s, int side);

/* --- the TCP ------------------------------------------------------------------------------ */
struct replay_options {
	uint32_t max_segment;	/* sizes are 1 .. so many; 0: whole flights */
	bool fixed;		/* always so many, not up to */
	unsigned int reorder;	/* inbound: percent of segments that arrive late */
	unsigned int repeat;	/* percent sent again, cut anew */
	unsigned int forge;	/* percent preceded by a forged one */
	unsigned int lose;	/* percent of records the ring lost */
	unsigned int silence;	/* percent followed by two seconds and a tick */
	size_t calm;		/* but none of the first bytes of each direction */
	unsigned int cut;	/* percent that were captured in part */
	bool early;		/* inbound facts tell already that the segment was accepted */
	uint64_t seed;
	uint32_t isn[2];
	size_t skip[2];		/* bytes of each direction that passed before attach */
	bool midstream;
	enum { SECRETS_FIRST, SECRETS_IN_TIME, SECRETS_LAST, SECRETS_NEVER } secrets;
	unsigned int candidates_after; /* flights that are seen before candidates are told; 0: never */
	int hint_error;		/* of their record numbers */
	struct foretold *foretold; /* of the sink; NULL: segments come whole */
};

void replay_open(struct streams *s, const struct replay_options *o, const struct dialog *dialog);
void replay_secrets(struct streams *s, const struct dialog *dialog, size_t from, size_t to);
/* Records of @side under its traffic keys in the first @len bytes of its direction. */
uint64_t dialog_records(const struct dialog *s, int side, size_t len);
/* All flights, then FACTS, then CLOSE where @close. */
void replay(struct streams *s, const struct dialog *dialog, const struct replay_options *o,
	    bool close);
void replay_tick(struct streams *s, uint64_t time_ns);

#endif
