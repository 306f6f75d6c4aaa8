/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A peer: a name, a node key and, most of the time, a connection to a relay. Peers are made by
 * peer_open() and stay for good; the connection comes and goes.
 *
 *	peer.c     who there is, and each one's way up and down
 *	io.c       its socket: when to read, when to write
 *	session.c  what the bytes mean
 */
#ifndef DERPLOAD_PEER_H
#define DERPLOAD_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

#include "http.h"
#include "loop.h"
#include "outq.h"
#include "text.h"
#include "transport.h"
#include "ws.h"

enum peer_state {
	PEER_DOWN,
	PEER_WAITING,		/* for its turn to connect */
	PEER_CONNECTING,	/* TCP */
	PEER_SECURING,		/* TLS */
	PEER_UPGRADING,		/* HTTP */
	PEER_GREETING,		/* waits for ServerKey */
	PEER_LOGIN,		/* waits for ServerInfo */
	PEER_UP,
	PEER_CLOSING,		/* our FIN is out; reads to the end */
};

struct peer_config {
	struct http_url url;
	struct transport_socket sock;
	uint8_t priv[32];
	char mesh_key[129];		/* "" for a regular client */
	char sni[256];			/* "" for the URL's host */
	bool websocket, prefer, fast_start, pings;
};

struct peer {
	char name[TEXT_NAME_MAX + 1];
	uint8_t pub[32];
	struct peer_config cfg;
	enum peer_state state;
	char local[64], remote[64];

	struct transport link;
	struct loop_fd fd;
	struct loop_task more;		/* work left after this round's share */
	struct loop_timer deadline;	/* of connecting, or of closing */
	struct peer *next_waiting;

	/* reading */
	struct http_upgrade upgrade;
	struct ws_rx ws;
	bool ws_ended;			/* the relay said close */
	uint8_t server[32];
	uint8_t *stash;			/* bytes of a frame that is not complete */
	size_t stash_len;
	bool paused;
	uint64_t drip_rate;		/* bytes per second, 0: as they come */
	uint64_t drip_tokens, drip_at;
	struct loop_timer drip;

	/* writing */
	struct outq out;
	bool blocked;			/* the kernel took no more */
	bool key_update;		/* to be sent between two writes */
	struct flow *ready;		/* packets to be made now, in turn */
	struct flow *idle;		/* waiting for their time, or for the kernel */

	/* books */
	uint64_t connects;
	uint64_t received, received_bytes;
	uint64_t sent, forwarded;	/* packets with the kernel; those that were ForwardPacket */
	uint64_t keepalives, pings, pongs, gone_disconnected, gone_not_here, present;
	uint64_t health, restarting, unknown, malformed;
	uint64_t ping_at;		/* when our ping went out, 0: none is */
	uint64_t expect_at;		/* received frames somebody waits for, 0: nobody does */

	UT_hash_handle hh, by_key;
};

/* What peers have in common; set once by main. */
struct peer_settings {
	uint64_t seed;
	uint64_t connect_timeout_ns;
	uint32_t parallel;		/* connections being made at a time */
};
extern struct peer_settings peer_settings;

struct peer *peer_find(const char *name);
/* One of the peers with this public key; NULL if it is none of ours. */
struct peer *peer_find_key(const uint8_t key[static 32]);
struct peer *peer_first(void);
struct peer *peer_next(struct peer *p);
/* Peers neither up nor down: on their way. */
uint32_t peer_busy(void);

/* The private key of a name without one: made of seed and name. */
void peer_derive_key(const char *name, uint8_t priv[static 32]);

/* Connects a new peer, or one that is down, anew. NULL with err filled if it cannot be. */
struct peer *peer_open(const char *name, const struct peer_config *cfg, char *err, size_t err_len);

enum peer_close { PEER_FIN, PEER_RST, PEER_SILENT };
/* PEER_SILENT keeps the connection open and leaves it alone for ever. */
void peer_close(struct peer *p, enum peer_close how);

/* The connection is over: says so, gives up what is unsent. */
void peer_down(struct peer *p, const char *why);
/* The login is complete: says so, starts what waits. */
void peer_is_up(struct peer *p);

/* --- io.c --- */

/* Begins to watch a socket that is connecting. */
void io_start(struct peer *p);
/* No more events for this peer's socket. */
void io_stop(struct peer *p);
/* Something may be written now, or reading was switched. */
void io_wake(struct peer *p);
void io_pause(struct peer *p, bool paused);
void io_drip(struct peer *p, uint64_t bytes_per_second);

/* --- session.c --- */

/* Packets received by all peers, and when the last one was. */
extern uint64_t session_received, session_last_received_ns;

/* The transport is ready: sends the upgrade request. */
void session_start(struct peer *p);
/*
 * Takes what was stashed and what was read behind it; stashes what is not a whole frame. The peer
 * may be down afterwards.
 */
void session_input(struct peer *p, uint8_t *buf, size_t stashed, size_t fresh);
/* Queues one frame and wakes the writer. */
void session_send(struct peer *p, uint8_t type, const void *payload, size_t len);
/* Queues bytes as they are. */
void session_send_raw(struct peer *p, const void *bytes, size_t len);

#endif
