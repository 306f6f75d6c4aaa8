/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The DERP wire format, shared by kernel, user space and fuzzers.
 *
 * A frame is one byte of type, four bytes of big-endian payload length, and the payload
 * (tailscale.com/derp/derp.go). Sizes below are payload bytes.
 */
#ifndef DT_DERP_H
#define DT_DERP_H

#define DERP_HEADER_LEN		5
#define DERP_KEY_LEN		32
#define DERP_MAX_PACKET		(64 << 10)	/* derp.MaxPacketSize */
#define DERP_MAX_INFO		(256 << 10)	/* the limit of a ClientInfo */
#define DERP_MAX_FRAME		(1 << 20)	/* longer than any frame of any release */

/* So much of a relayed packet names it: WireGuard's head, or disco's magic, key and nonce. */
#define DERP_DIGEST_LEN		64
/* So much of a frame is ever looked at: header, two keys, the start of the packet. */
#define DERP_HEAD_LEN		(DERP_HEADER_LEN + 2 * DERP_KEY_LEN + DERP_DIGEST_LEN)

enum derp_type {
	DERP_SERVER_KEY		= 0x01,	/* S>C  "DERP🔑", 32 key, may grow */
	DERP_CLIENT_INFO	= 0x02,	/* C>S  32 key, 24 nonce, box(JSON) */
	DERP_SERVER_INFO	= 0x03,	/* S>C  24 nonce, box(JSON) */
	DERP_SEND_PACKET	= 0x04,	/* C>S  32 dst, packet */
	DERP_RECV_PACKET	= 0x05,	/* S>C  32 src, packet (version 2) */
	DERP_KEEP_ALIVE		= 0x06,	/* S>C  0 */
	DERP_NOTE_PREFERRED	= 0x07,	/* C>S  1: 01 home, 00 not */
	DERP_PEER_GONE		= 0x08,	/* S>C  32 key, or 33 with a reason */
	DERP_PEER_PRESENT	= 0x09,	/* S>mesh  32, 50 or 51 */
	DERP_FORWARD_PACKET	= 0x0a,	/* mesh dialler > acceptor  32 src, 32 dst, packet */
	DERP_WATCH_CONNS	= 0x10,	/* mesh C>S  0 */
	DERP_CLOSE_PEER		= 0x11,	/* mesh C>S  32 */
	DERP_PING		= 0x12,	/* 8 .. 1000 */
	DERP_PONG		= 0x13,
	DERP_HEALTH		= 0x14,	/* S>C  text */
	DERP_RESTARTING		= 0x15,	/* S>C  2 x u32 milliseconds */
};

#endif
