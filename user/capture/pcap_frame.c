// SPDX-License-Identifier: BSD-2-Clause
/*
 * DERP frames that stand in a file of our own beside the segments that they were in: those of connections
 * that the file's secrets do not open.
 */
#include "base/frame_header.h"
#include "capture/pcap.h"

#define LINK_RAW	101
#define DERP_HEADER	5

/* The n-th node's segments have the n-th interface of raw packets. */
static bool find_interface(const struct pcap_file *f, uint32_t node, uint32_t *interface)
{
	uint32_t i, count = pcap_file_interfaces(f);

	for (i = 0; i < count; i++) {
		if (pcap_file_interface(f, i)->linktype == LINK_RAW && !--node) {
			*interface = i;
			return true;
		}
	}
	return false;
}

bool pcap_frame_parse(const struct pcap_packet *p, const struct pcap_file *f,
		      struct pcap_segment *s)
{
	struct frame_header h;
	size_t at = frame_header_get(p->data, p->captured, &h);

	if (!at || p->captured < at + DERP_HEADER || !h.node)
		return false;
	if (h.dropped) {
		*s = (struct pcap_segment){
			.drop = true, .time_ns = p->time_ns, .len = p->len, .captured = p->captured,
			.data = p->data,
		};
		return p->captured >= at + DERP_HEADER + 2 * KEY_LEN && find_interface(f, h.node, &s->interface);
	}
	*s = (struct pcap_segment){
		.frame = true, .time_ns = p->time_ns,
		.direction = h.out ? PCAP_OUTBOUND : PCAP_INBOUND,
		.src = h.out ? h.local : h.remote, .dst = h.out ? h.remote : h.local,
		.len = p->len, .captured = p->captured, .data = p->data,
	};
	return find_interface(f, h.node, &s->interface);
}
