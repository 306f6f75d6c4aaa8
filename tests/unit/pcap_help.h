/* SPDX-License-Identifier: BSD-2-Clause */
/* Capture files made byte by byte, and the events that come of them. */
#ifndef DT_PCAP_HELP_H
#define DT_PCAP_HELP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "capture/capture.h"

#define T0	1700000000000000000ULL
#define MS	1000000ULL

struct pcap_script {
	uint8_t bytes[1 << 20];
	size_t len;
	bool ng, swapped;
	uint16_t linktype;
	uint64_t now_ns;	/* of the next packet; moves on by a millisecond */
	uint32_t interface;
	uint32_t flags;		/* epb_flags; 0: none */
};

/* --- files -------------------------------------------------------------------------------- */

/* A .pcap of nanoseconds, or a pcapng section with no interface yet; of this byte order or the other. */
void pcap_script_begin(struct pcap_script *s, uint16_t linktype, bool swapped);
void pcap_script_begin_ng(struct pcap_script *s, bool swapped, const char *application);
void pcap_script_interface(struct pcap_script *s, uint16_t linktype, const char *name, int tsresol,
		      int64_t tsoffset);
void pcap_script_block(struct pcap_script *s, uint32_t type, const void *body, size_t len);
void pcap_script_secrets(struct pcap_script *s, const char *text);
void pcap_script_packet(struct pcap_script *s, const void *data, size_t captured, size_t len);

/* --- packets ------------------------------------------------------------------------------ */

struct script_end {
	struct addr addr;
	uint32_t seq, ack;
};

struct script_tcp {
	const struct addr *src, *dst;
	uint32_t seq, ack;
	uint8_t flags;		/* as in a header */
	const void *data;
	size_t len;
};

struct addr pcap_script_addr(const char *text, uint16_t port);
/* IP and TCP headers and payload; returns their length. */
size_t pcap_script_ip(uint8_t *to, const struct script_tcp *tcp);
/* The same with an Ethernet header, as a packet of the script. */
void pcap_script_tcp(struct pcap_script *s, const struct script_tcp *tcp);

/* Three packets; the ends know their sequence numbers then. */
void pcap_script_handshake(struct pcap_script *s, struct script_end *client, struct script_end *server);
/* @from sends, @to acknowledges. */
void pcap_script_say(struct pcap_script *s, struct script_end *from, struct script_end *to,
		const void *data, size_t len);
/* A ClientHello of 60 bytes or so, with @random in each byte of its client random, and SNI @name. */
size_t pcap_script_hello(uint8_t *to, uint8_t random, const char *name);

/* --- events ------------------------------------------------------------------------------- */

#define MAX_EVENTS 4096

struct pcap_seen_event {
	struct capture_event event;
	struct capture_facts facts;
	bool has_facts;
	char text[64];		/* node's name, secret's label */
	uint8_t data[64];	/* payload's start */
};

struct pcap_seen {
	struct pcap_seen_event all[MAX_EVENTS];
	size_t count;
	int result;		/* of the last run() */
	char complaints[4096];
	char error[512];	/* where it could not be opened */
};

/* Writes the script to a file, and reads it as a source with this key log (text; NULL: none). */
void pcap_script_run(const struct pcap_script *s, const char *keylog, struct pcap_seen *seen);
/* The n-th event of this type, from 0; NULL: there are fewer. */
const struct pcap_seen_event *pcap_seen_find(const struct pcap_seen *seen, enum capture_type type, size_t n);
size_t pcap_seen_count(const struct pcap_seen *seen, enum capture_type type);

#endif
