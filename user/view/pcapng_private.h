/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef DT_PCAPNG_PRIVATE_H
#define DT_PCAPNG_PRIVATE_H

#include "view/pcapng.h"

/* --- pcapng_file.c: blocks ---------------------------------------------------------------- */

#define PCAPNG_LINK_RAW		101
#define PCAPNG_LINK_USER0	147

struct pcapng_file;
struct pcapng_held;

struct pcapng_interface {
	uint16_t linktype;
	const char *name, *description, *comment; /* NULL: none */
};

struct pcapng_packet {
	uint32_t interface;
	uint64_t time_ns;
	enum capture_dir dir;	/* of the node */
	const uint8_t *head;	/* then the body */
	size_t head_len;
	const uint8_t *body;
	size_t body_len;
	size_t len;		/* what it was, with what is cut off */
	const char *comment;	/* NULL: none */
};

struct pcapng_statistics {
	uint64_t first_ns, last_ns, packets, dropped;
};

struct pcapng_file *pcapng_file_new(int fd);
/* Writes what is held; closes. */
int pcapng_file_close(struct pcapng_file *f);
int pcapng_file_error(const struct pcapng_file *f);
/* Interfaces and secrets are written at once; returns the interface's number. */
uint32_t pcapng_file_interface(struct pcapng_file *f, const struct pcapng_interface *i);
void pcapng_file_secret(struct pcapng_file *f, const struct capture_secret *s);
void pcapng_file_statistics(struct pcapng_file *f, uint32_t interface, uint64_t time_ns,
			    const struct pcapng_statistics *s);
/* Packets are held, in order of time, until pcapng_file_pass() comes to a later time. */
void pcapng_file_packet(struct pcapng_file *f, const struct pcapng_packet *p);
void pcapng_file_pass(struct pcapng_file *f, uint64_t now_ns);
/* Out of the process. */
void pcapng_file_flush(struct pcapng_file *f);

/* --- pcapng_headers.c: IP and TCP headers ------------------------------------------------- */

#define PCAPNG_HEADERS_MAX	(40 + 28)
#define PCAPNG_TCP_FIN	0x01
#define PCAPNG_TCP_SYN	0x02
#define PCAPNG_TCP_RST	0x04
#define PCAPNG_TCP_PSH	0x08
#define PCAPNG_TCP_ACK	0x10

struct pcapng_tcp {
	const struct addr *src, *dst;
	uint32_t seq, ack;
	uint8_t flags;
	const uint8_t *data;
	size_t captured, len;	/* payload; @len fits an IP packet */
};

/* Returns the length of the headers; 0 where the addresses are no pair of one family. */
size_t pcapng_headers(uint8_t to[static PCAPNG_HEADERS_MAX], const struct pcapng_tcp *tcp);

#endif
