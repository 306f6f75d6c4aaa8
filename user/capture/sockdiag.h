/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sockdiag: what the kernel tells of TCP sockets through NETLINK_SOCK_DIAG: all of a network
 * namespace, or single ones. Nothing is attached to and no socket is touched.
 */
#ifndef DT_CAPTURE_SOCKDIAG_H
#define DT_CAPTURE_SOCKDIAG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"

struct sockdiag_socket {
	uint64_t cookie;
	uint32_t inode;		/* 0: no descriptor (in a listener's backlog, or closed by its owner) */
	uint32_t ifindex;	/* bound to that device; 0: to none */
	uint8_t state;		/* TCP_ESTABLISHED ... */
	uint8_t retries;	/* retransmissions or probes of what is oldest */
	struct addr local, remote;
	uint32_t rqueue, wqueue; /* bytes: received and not read; written and not acknowledged */
	bool has_info;		/* the fields below are known */
	uint64_t bytes_received; /* in order, a FIN counts one */
	uint64_t bytes_acked;	/* a FIN counts one, and a dialled socket's SYN */
	uint32_t notsent;	/* bytes */
	uint32_t rtt_us;
	uint32_t retransmits;
	uint32_t snd_wnd;	/* UINT32_MAX: not told by this kernel */
};

#define SOCKDIAG_LISTEN		(1u << 10)
/* All that carry data or may yet, SYN_SENT too; what is left of them in TIME_WAIT is not. */
#define SOCKDIAG_CONNECTED	(0xfffu & ~(1u << 10) & ~(1u << 6) & ~(1u << 7) & ~(1u << 3))

struct sockdiag;

/* Of the calling thread's network namespace, whatever it enters later. NULL with errno set. */
struct sockdiag *sockdiag_open(void);
void sockdiag_close(struct sockdiag *sd);

/*
 * Every socket in one of @states and, where @port_count is not 0, with one of @ports as its own.
 * 0, or -errno; a socket that appears or goes away during the dump may be missed.
 */
int sockdiag_dump(struct sockdiag *sd, uint32_t states, const uint16_t *ports, size_t port_count,
		  void (*found)(void *ctx, const struct sockdiag_socket *s), void *ctx);

/*
 * Every UDP socket that takes packets from anyone: address, cookie and inode. -ENOENT where the kernel
 * does not tell of UDP.
 */
int sockdiag_dump_udp(struct sockdiag *sd,
		      void (*found)(void *ctx, const struct sockdiag_socket *s), void *ctx);

struct sockdiag_query {
	struct addr local, remote;
	uint32_t ifindex;
	uint64_t cookie;
	void *user;
};

/* @s is NULL where there is no such socket any more, or only its TIME_WAIT. */
typedef void (*sockdiag_answer)(void *ctx, const struct sockdiag_query *query,
				const struct sockdiag_socket *s);

/* One call of @answer for each of @queries that the kernel answered. 0, or -errno. */
int sockdiag_ask(struct sockdiag *sd, const struct sockdiag_query *queries, size_t count,
		 sockdiag_answer answer, void *ctx);

#endif
