// SPDX-License-Identifier: BSD-2-Clause
/* Which IP addresses stand behind a link address: a host's own, or all that a router leads to. */
#include <stdlib.h>
#include <string.h>

#include "capture/pcap.h"

/* Link-local addresses are every host's, besides. */
static bool is_link_local(const struct addr *a)
{
	return a->family == 6 && a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80;
}

void pcap_macs_note(struct pcap_macs *m, const struct pcap_segment *s)
{
	struct pcap_mac *mac;
	struct addr *slot;

	if (!s->mac || is_link_local(&s->src))
		return;
	HASH_FIND(hh, m->table, &s->mac, sizeof(s->mac), mac);
	if (!mac) {
		if (HASH_COUNT(m->table) >= PCAP_MAX_MACS)
			return;
		mac = calloc(1, sizeof(*mac));
		if (!mac)
			return;
		mac->mac = s->mac;
		HASH_ADD(hh, m->table, mac, sizeof(mac->mac), mac);
	}
	slot = s->src.family == 4 ? &mac->ip4 : &mac->ip6;
	if (slot->family && !addr_equal_ip(slot, &s->src))
		mac->many = true;
	*slot = s->src;
}

void pcap_macs_free(struct pcap_macs *m)
{
	struct pcap_mac *mac, *next;

	HASH_ITER(hh, m->table, mac, next) {
		HASH_DEL(m->table, mac);
		free(mac);
	}
}
