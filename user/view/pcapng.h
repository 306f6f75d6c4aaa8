/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What passed, as a pcapng file for Wireshark: an interface per node, with its TCP segments behind
 * headers made anew, and, where no stock tool could read what is in them, a second interface with
 * the DERP frames that derptrace decrypted.
 *
 * Frames have link type USER0 (147). In front of each stands the header of base/frame_header.h: what
 * capture needs to read them back. So does each packet that a relay said it dropped, on that interface.
 *
 * Packets are held for a moment before they are written, so that a connection's secrets come first;
 * what is written is whole blocks, so that a file cut short can be read up to there.
 */
#ifndef DT_PCAPNG_H
#define DT_PCAPNG_H

#include "capture/capture.h"
#include "stream/stream.h"

struct pcapng_options {
	bool secrets;	/* TLS secrets into the file, for the connections that are in it */
	bool payload;	/* frames whole; else relayed packets are cut to what was never encrypted */
};

struct pcapng_counts {
	uint32_t nodes;
	uint64_t packets, frames;
	uint64_t drops;		/* packets that a relay said it dropped */
	uint64_t lost;		/* segments that the tracer could not keep up with */
	/* Connections with payload, each counted once. */
	uint64_t readable;	/* from their start, plain or with their secrets in the file */
	uint64_t as_frames;	/* written as decrypted frames */
	uint64_t unread;	/* neither: no secret, or nothing that is DERP */
};

struct pcapng;

/* Takes @fd over. NULL: out of memory (@fd is closed then too). */
struct pcapng *pcapng_new(int fd, const struct pcapng_options *options);
/* @source tells apart sources whose nodes and connections bear the same numbers. */
void pcapng_event(struct pcapng *p, uint64_t source, const struct capture_event *event);
void pcapng_frame(struct pcapng *p, uint64_t source, const struct stream_frame *frame,
		  const uint8_t *bytes, size_t len);
/* 0, or the -errno of the first write that failed; nothing is written after it, and a file ends with a whole block. */
int pcapng_error(const struct pcapng *p);
/* Writes what is held, and each interface's statistics. Returns what pcapng_error() does. */
int pcapng_close(struct pcapng *p, struct pcapng_counts *counts);

#endif
