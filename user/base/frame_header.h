/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What stands before each decrypted DERP frame that is kept in a capture file (link type USER0), numbers
 * in network order:
 *
 *	 0  version: 2			 60  digest of the packet that is relayed (bpf/digest.h), 8
 *	 1  0: to the node, 1: from it	     bytes; 0: it is no packet
 *	 2  address family: 4, 6, 0	 68  bits: 1: the offset counts from the stream's first frame,
 *	 3  0: who dialled is not known,     2: the far end is a relay
 *	    1: accepted, 2: dialled	 69  0, 3 bytes
 *	 4  the node's port, 2 bytes	 72  the far end's key, 32 bytes; 0: not read from memory
 *	 6  the far end's		104  the node's own, likewise
 *	 8  node, 4 bytes		136  the frame: type, length (4 bytes), payload
 *	12  connection, 8 bytes
 *	20  offset in the DERP stream, 8 bytes
 *	28  the node's IP address, 16 bytes (IPv4: the first four)
 *	44  the far end's
 *
 * Version 1 ends at 60, where the frame begins.
 *
 * A packet that the relay says it dropped stands there too: 2 at offset 1, no connection and no
 * addresses, its digest at 60, at 68 the bits 4: its sender is certain, 8: it is disco, and at 72 the
 * relay's word for why, 24 bytes of text padded with zeros. What follows is the ForwardPacket that it
 * would have been, cut behind its keys.
 */
#ifndef DT_FRAME_HEADER_H
#define DT_FRAME_HEADER_H

#include "base/addr.h"
#include "base/key.h"

#define FRAME_HEADER_LEN 136
#define FRAME_HEADER_REASON_LEN 24

struct frame_header {
	bool out;		/* from the node */
	bool accepted, dialled;	/* neither: not known */
	struct addr local, remote; /* the node's end, and the other */
	uint32_t node;		/* of the file, from 1 */
	uint64_t conn;		/* of the file, from 1 */
	uint64_t offset;
	bool from_start;	/* @offset counts from the stream's first frame */
	uint64_t digest;	/* 0: none */
	bool peer_is_server;
	struct key peer, server; /* zero: not known */
	bool dropped;		/* a packet that the relay dropped; then node, digest and these alone */
	bool has_src, disco;
	char reason[FRAME_HEADER_REASON_LEN + 1]; /* printable */
};

void frame_header_put(uint8_t to[static FRAME_HEADER_LEN], const struct frame_header *h);
/* Returns where the frame begins; 0: it is no such header. */
size_t frame_header_get(const uint8_t *p, size_t len, struct frame_header *h);

#endif
