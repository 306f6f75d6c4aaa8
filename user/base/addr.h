/* SPDX-License-Identifier: BSD-2-Clause */
/* One end of a TCP connection. IPv4 is kept as IPv4, also where the socket is dual stack. */
#ifndef DT_ADDR_H
#define DT_ADDR_H

#include <stdbool.h>
#include <stdint.h>

#define ADDR_TEXT_LEN	56	/* "[ipv6]:port" */

struct addr {
	uint8_t family;		/* 4, 6; 0: not known */
	uint16_t port;		/* host order */
	uint8_t ip[16];		/* network order; IPv4 in the first four, the rest zero */
};

/* "10.0.0.1:443", "[fd00::1]:443"; "-" where it is not known. */
void addr_format(const struct addr *a, char text[static ADDR_TEXT_LEN]);
/* The same without the port. */
void addr_format_ip(const struct addr *a, char text[static ADDR_TEXT_LEN]);
/* From 4 or 16 bytes; ::ffff:a.b.c.d becomes IPv4. */
void addr_set(struct addr *a, int family, const void *ip, uint16_t port);
bool addr_equal(const struct addr *a, const struct addr *b);
bool addr_equal_ip(const struct addr *a, const struct addr *b);
bool addr_is_loopback(const struct addr *a);

#endif
