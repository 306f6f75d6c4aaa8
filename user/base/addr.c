// SPDX-License-Identifier: BSD-2-Clause
#include "base/addr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

void addr_format_ip(const struct addr *a, char text[static ADDR_TEXT_LEN])
{
	int family = a->family == 4 ? AF_INET : AF_INET6;

	if (!a->family || !inet_ntop(family, a->ip, text, ADDR_TEXT_LEN))
		strcpy(text, "-");
}

void addr_format(const struct addr *a, char text[static ADDR_TEXT_LEN])
{
	char ip[ADDR_TEXT_LEN];

	addr_format_ip(a, ip);
	if (!a->family)
		strcpy(text, "-");
	else
		snprintf(text, ADDR_TEXT_LEN, a->family == 4 ? "%.46s:%u" : "[%.46s]:%u", ip,
			 a->port);
}

void addr_set(struct addr *a, int family, const void *ip, uint16_t port)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	memset(a, 0, sizeof(*a));
	a->port = port;
	a->family = family;
	if (family == 6 && !memcmp(ip, mapped, sizeof(mapped))) {
		a->family = 4;
		memcpy(a->ip, (const uint8_t *)ip + sizeof(mapped), 4);
	} else {
		memcpy(a->ip, ip, family == 4 ? 4 : 16);
	}
}

bool addr_equal_ip(const struct addr *a, const struct addr *b)
{
	return a->family == b->family && !memcmp(a->ip, b->ip, sizeof(a->ip));
}

bool addr_equal(const struct addr *a, const struct addr *b)
{
	return a->port == b->port && addr_equal_ip(a, b);
}

bool addr_is_loopback(const struct addr *a)
{
	static const uint8_t one[16] = { [15] = 1 };

	if (a->family == 4)
		return a->ip[0] == 127;
	return a->family == 6 && !memcmp(a->ip, one, sizeof(one));
}
