/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DERP frames as a client sees them: 1 byte type, 4 bytes big-endian length, payload. And the two
 * boxes of the handshake: NaCl's crypto_box, the nonce in front.
 */
#ifndef DERPLOAD_FRAME_H
#define DERPLOAD_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_HEAD 5
#define FRAME_KEY 32
#define FRAME_PACKET_MAX 65536
/* A longer frame than this is a broken stream, not a message. */
#define FRAME_LEN_MAX (256 * 1024)
#define FRAME_CLIENT_INFO_MAX 512
#define FRAME_MESH_KEY_MAX 128

enum frame_type {
	FRAME_SERVER_KEY = 0x01,
	FRAME_CLIENT_INFO = 0x02,
	FRAME_SERVER_INFO = 0x03,
	FRAME_SEND_PACKET = 0x04,
	FRAME_RECV_PACKET = 0x05,
	FRAME_KEEP_ALIVE = 0x06,
	FRAME_NOTE_PREFERRED = 0x07,
	FRAME_PEER_GONE = 0x08,
	FRAME_PEER_PRESENT = 0x09,
	FRAME_FORWARD_PACKET = 0x0a,
	FRAME_WATCH_CONNS = 0x10,
	FRAME_CLOSE_PEER = 0x11,
	FRAME_PING = 0x12,
	FRAME_PONG = 0x13,
	FRAME_HEALTH = 0x14,
	FRAME_RESTARTING = 0x15,
};

static inline void frame_head(uint8_t p[static FRAME_HEAD], uint8_t type, uint32_t len)
{
	p[0] = type;
	p[1] = len >> 24;
	p[2] = len >> 16;
	p[3] = len >> 8;
	p[4] = len;
}

static inline uint32_t frame_len(const uint8_t p[static FRAME_HEAD])
{
	return (uint32_t)p[1] << 24 | p[2] << 16 | p[3] << 8 | p[4];
}

/* Reads ServerKey's payload (magic and key; it may grow). */
bool frame_server_key(const uint8_t *p, size_t len, uint8_t server[static 32]);

/*
 * Writes ClientInfo's payload: our key, nonce, box of the JSON. mesh_key: NULL or at most
 * FRAME_MESH_KEY_MAX plain characters. Returns its length, at most FRAME_CLIENT_INFO_MAX,
 * or 0 if the server's key is no point to agree on.
 */
size_t frame_client_info(uint8_t out[static FRAME_CLIENT_INFO_MAX], const uint8_t pub[static 32],
			 const uint8_t priv[static 32], const uint8_t server[static 32],
			 const char *mesh_key, bool can_ack_pings);

/* Opens ServerInfo's payload; false if it is not from that server to us. */
bool frame_server_info(const uint8_t *p, size_t len, const uint8_t priv[static 32],
		       const uint8_t server[static 32]);

#endif
