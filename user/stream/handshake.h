/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TLS handshake messages: what they tell of a connection. Names are taken into struct stream_info;
 * bytes that make no sense tell nothing, and are never an error.
 */
#ifndef DT_STREAM_HANDSHAKE_H
#define DT_STREAM_HANDSHAKE_H

#include "stream/budget.h"
#include "stream/stream.h"

enum handshake_type {
	HANDSHAKE_CLIENT_HELLO		= 1,
	HANDSHAKE_SERVER_HELLO		= 2,
	HANDSHAKE_NEW_TICKET		= 4,
	HANDSHAKE_ENCRYPTED_EXTENSIONS	= 8,
	HANDSHAKE_CERTIFICATE		= 11,
	HANDSHAKE_FINISHED		= 20,
	HANDSHAKE_KEY_UPDATE		= 24,
};

/* Messages of one side; they may be cut over records in any way. */
struct handshake_messages {
	uint8_t *buf;		/* a message that is not whole yet */
	size_t len, cap;
	size_t skip;		/* bytes of one that is too long to keep */
};

struct handshake_facts {
	uint16_t version, cipher; /* 0: no ServerHello yet */
	bool has_server_random;
	uint8_t client_random[32], server_random[32];
};

struct handshake_sink {
	void *ctx;
	/* A whole message, after what it tells was taken. @side: 0 client, 1 server. */
	void (*message)(void *ctx, int side, uint8_t type);
};

/* Takes the handshake bytes of a record. */
void handshake_feed(struct handshake_messages *m, int side, const uint8_t *data, size_t len,
		    struct budget *budget, struct handshake_facts *facts, struct stream_info *info,
		    const struct handshake_sink *sink);
/* The name of a client random; never 0. */
uint64_t handshake_tag(const uint8_t random[static 32]);
void handshake_clear(struct handshake_messages *m, struct budget *budget);

#endif
