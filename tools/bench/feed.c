// SPDX-License-Identifier: BSD-2-Clause
#include <sys/socket.h>

#include "rooms.h"

#define SEGMENT		1448

static void give(struct feeder *f, const struct capture_event *e)
{
	bool first = e->type == CAPTURE_CONN_OPEN;

	if (f->ledger && first)
		ledger_event(f->ledger, e);
	streams_event(f->streams, e);
	if (f->ledger && !first)
		ledger_event(f->ledger, e);
}

/* As the ingress hook tells it: the socket's numbers are of before the segment. */
static void tell(struct feeder *f, struct capture_event *e)
{
	struct capture_facts facts = {
		.has_seq = true, .has_read = true, .has_queues = true,
		.rcv_nxt = f->next[CAPTURE_IN], .copied_seq = f->next[CAPTURE_IN],
		.rcv_wnd = 65535, .snd_una = f->next[CAPTURE_OUT],
		.snd_nxt = f->next[CAPTURE_OUT], .write_seq = f->next[CAPTURE_OUT],
		.tcp_state = 1,
	};

	e->time_ns = f->time_ns += 1000;
	e->node = HELP_NODE;
	e->conn = f->conn;
	e->facts = &facts;
	give(f, e);
}

static void feed_flight(struct feeder *f, const struct flight *flight)
{
	size_t at = flight->at, end = flight->at + flight->len, n;

	for (; at < end; at += n) {
		struct capture_event e = { .type = CAPTURE_SEGMENT };

		n = end - at < SEGMENT ? end - at : SEGMENT;
		e.segment.dir = flight->dir;
		e.segment.seq = (uint32_t)at;
		e.segment.len = e.segment.captured = (uint32_t)n;
		e.segment.data = f->dialog->wire[flight->dir].p + at;
		tell(f, &e);
		f->next[flight->dir] = (uint32_t)(at + n);
	}
}

/* As many over IPv6 as over IPv4. */
static void addresses(uint64_t conn, struct capture_conn_open *open)
{
	uint8_t ip[2][16] = { { 0x20, 0x01, 0x0d, 0xb8, [15] = 1 }, { 0x20, 0x01, 0x0d, 0xb8 } };
	const int family = conn % 2 ? AF_INET6 : AF_INET;
	struct chance c = { conn };
	int i;

	for (i = 4; i < 16; i++)
		ip[1][i] = (uint8_t)chance_next(&c);
	addr_set(&open->local, family, ip[0], 443);
	addr_set(&open->remote, family, ip[1] + (family == AF_INET ? 12 : 0),
		 (uint16_t)(1024 + chance_next(&c) % 64000));
}

void feed_open(struct feeder *f)
{
	struct capture_event e = { .type = CAPTURE_CONN_OPEN, .time_ns = f->time_ns,
				   .node = HELP_NODE, .conn = f->conn };
	size_t i;

	e.open.role = f->dialog->dialled ? CAPTURE_DIALLED : CAPTURE_ACCEPTED;
	e.open.from_start = true;
	addresses(f->conn, &e.open);
	give(f, &e);
	for (i = 0; i < f->dialog->secret_count; i++) {
		e = (struct capture_event){ .type = CAPTURE_SECRET, .time_ns = f->time_ns,
					    .node = HELP_NODE, .secret = f->dialog->secrets[i] };
		give(f, &e);
	}
}

void feed_all(struct feeder *f)
{
	size_t i;

	for (i = 0; i < f->dialog->count; i++) {
		if (i + 1 == f->dialog->count)
			f->time_ns += f->pause_ns;
		feed_flight(f, &f->dialog->flights[i]);
	}
	tell(f, &(struct capture_event){ .type = CAPTURE_FACTS });
}
