// SPDX-License-Identifier: BSD-2-Clause
/*
 * What malloc has handed out, room by room, as connections and pairs become more: each step is the
 * difference to the step before it, so that what is there from the start counts for nobody.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "capture/live.h"
#include "correlate/correlate.h"
#include "rooms.h"

#define ACTIVE		200u	/* connections that talk all the time */
#define CLIENTS		1000u	/* of the pairs */
#define START_NS	1700000000000000000ull
#define ALONE_NS	60000000000ull	/* so long nothing is said before a connection's last word */
#define PAIRS_AT_ONCE	5000u	/* in one snapshot */

struct rooms {
	struct streams *streams;
	struct ledger *ledger;
	struct correlate *correlate;
	uint64_t time_ns;
	uint64_t pos[2][CLIENTS];	/* of the pairs' clients, by direction */
};

static size_t in_use(void)
{
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
}

static int put(void *ctx, const struct record *r)
{
	return ctx ? correlate_put(ctx, r) : 0;
}

static void on_frame(void *ctx, const struct stream_frame *f)
{
	struct rooms *r = ctx;

	if (r->ledger)
		ledger_frame(r->ledger, f);
}

static void on_progress(void *ctx, const struct stream_progress *p)
{
	struct rooms *r = ctx;

	if (r->ledger)
		ledger_progress(r->ledger, p);
}

static void on_gap(void *ctx, const struct stream_gap *g)
{
	struct rooms *r = ctx;

	if (r->ledger)
		ledger_gap(r->ledger, g);
}

static void on_info(void *ctx, uint32_t node, uint64_t conn, const struct stream_info *info)
{
	struct rooms *r = ctx;

	(void)node;
	if (r->ledger)
		ledger_info(r->ledger, conn, info);
}

static void tick(struct rooms *r)
{
	const struct record_sink sink = { .ctx = r->correlate, .put = put };
	struct record agent = { .type = RECORD_AGENT, .agent = 1 };
	struct capture_event e = { .type = CAPTURE_TICK, .time_ns = r->time_ns += 2000000000 };

	streams_event(r->streams, &e);
	if (!r->ledger)
		return;
	ledger_tick(r->ledger, r->time_ns);
	ledger_snapshot(r->ledger, r->time_ns, false, &sink);
	agent.time_ns = r->time_ns;
	if (r->correlate)
		correlate_put(r->correlate, &agent);
}

static void build(struct rooms *r, bool ledger, bool correlate)
{
	const struct stream_sink sink = { .ctx = r, .frame = on_frame, .progress = on_progress,
					  .gap = on_gap, .info = on_info };
	const struct capture_node_up up = { .name = "derper", .software = "" };
	const struct ledger_limits ledger_limits = { .max_pairs = 4000000 };
	const struct correlate_limits correlate_limits = { .max_pairs = 4000000 };

	*r = (struct rooms){ .time_ns = START_NS };
	r->streams = streams_new(&sink, NULL);
	if (ledger)
		r->ledger = ledger_new(HELP_NODE, 1, &up, r->time_ns, &ledger_limits);
	if (correlate)
		r->correlate = correlate_new(NULL, &correlate_limits);
	if (!r->streams || (ledger && !r->ledger) || (correlate && !r->correlate)) {
		fprintf(stderr, "rooms: no memory\n");
		exit(1);
	}
}

static void tear_down(struct rooms *r)
{
	streams_free(r->streams);
	ledger_free(r->ledger);
	correlate_free(r->correlate);
}

/* --- connections -------------------------------------------------------------------------- */

static void add_connection(struct rooms *r, const struct dialog *handshake, uint64_t id)
{
	struct dialog *talk = malloc(sizeof(*talk)), *d = malloc(sizeof(*d));
	struct feeder f = { .streams = r->streams, .ledger = r->ledger, .dialog = d, .conn = id,
			    .time_ns = r->time_ns, .pause_ns = ALONE_NS };
	uint8_t packet[DERP_KEY_LEN + 1200];
	int i;

	if (!talk || !d)
		abort();
	dialog_begin(talk, &(struct dialog_options){ .seed = id });
	memset(packet, (int)id, sizeof(packet));
	dialog_frame(talk, 0, DERP_NOTE_PREFERRED, "\1", 1);
	for (i = 0; i < 20 && id <= ACTIVE; i++) {
		packet[DERP_KEY_LEN] = (uint8_t)i;
		dialog_frame(talk, 0, DERP_SEND_PACKET, packet, sizeof(packet));
		dialog_frame(talk, 1, DERP_RECV_PACKET, packet, sizeof(packet));
	}
	dialog_frame(talk, 1, DERP_KEEP_ALIVE, NULL, 0);
	template_make(d, handshake, talk, id);
	feed_open(&f);
	feed_all(&f);
	r->time_ns = f.time_ns;
	dialog_free(talk);
	dialog_free(d);
	free(talk);
	free(d);
}

/* What live capture holds of as many sockets as it was told of. */
static void grow_capture(const uint32_t *steps, size_t count, size_t *bytes)
{
	struct live *live = calloc(1, sizeof(*live));
	struct live_node *node = calloc(1, sizeof(*node));
	struct sockdiag_socket s = { .has_info = true };
	size_t i;

	if (!live || !node)
		abort();
	for (i = 0; i < count; i++) {
		for (; s.cookie < steps[i]; s.cookie++)
			live_conn_from_socket(live, node, &s, CAPTURE_ACCEPTED);
		bytes[i] = in_use();
	}
	live_conns_forget(live, NULL);
	free(node);
	free(live);
}

/* Bytes of @rooms (1: stream, 2: and ledger, 3: and correlate) after each of @steps. */
static void grow_connections(const struct dialog *handshake, int rooms,
			     const uint32_t *steps, size_t count, size_t *bytes)
{
	struct rooms r;
	struct stream_stats stats;
	uint32_t id = 0;
	size_t i;

	build(&r, rooms > 1, rooms > 2);
	for (i = 0; i < count; i++) {
		while (id < steps[i]) {
			add_connection(&r, handshake, ++id);
			if (id % 100 == 0)
				tick(&r);
		}
		tick(&r);
		malloc_trim(0);
		bytes[i] = in_use();
	}
	streams_stats(r.streams, &stats);
	if (stats.without_secret || stats.waiting || stats.gaps) {
		fprintf(stderr, "rooms: connections that are not read\n");
		exit(1);
	}
	tear_down(&r);
}

/* --- pairs -------------------------------------------------------------------------------- */

static void peer_key(uint32_t n, uint8_t key[static DERP_KEY_LEN])
{
	struct chance c = { n + 1 };
	int i;

	for (i = 0; i < DERP_KEY_LEN; i++)
		key[i] = (uint8_t)chance_next(&c);
}

static void add_frame(struct rooms *r, uint32_t client, enum capture_dir dir, uint8_t type,
		      const uint8_t *head, uint32_t head_len)
{
	uint64_t *pos = &r->pos[dir][client];
	const struct stream_frame f = {
		.node = HELP_NODE, .conn = client + 1, .time_ns = r->time_ns += 100, .dir = dir,
		.type = type, .len = head_len, .head_len = head_len, .head = head,
		.derp_off = *pos, .derp_from_start = true,
		.tcp_end = *pos += DERP_HEADER_LEN + head_len,
	};

	ledger_frame(r->ledger, &f);
}

static void add_client(struct rooms *r, uint32_t client)
{
	struct capture_event e = { .type = CAPTURE_CONN_OPEN, .node = HELP_NODE, .conn = client + 1,
				   .time_ns = r->time_ns, .open = { .role = CAPTURE_ACCEPTED,
								    .from_start = true } };
	uint8_t info[104] = { 0 };

	peer_key(client, info);
	ledger_event(r->ledger, &e);
	add_frame(r, client, CAPTURE_IN, DERP_CLIENT_INFO, info, sizeof(info));
	add_frame(r, client, CAPTURE_OUT, DERP_SERVER_INFO, info, 53);
}

/* A WireGuard handshake's first packet, and two of data; each waits longer than the one before. */
static void add_pair(struct rooms *r, uint32_t number)
{
	uint32_t src = number / CLIENTS, dst = number % CLIENTS, i;
	uint8_t packet[DERP_KEY_LEN + 148] = { 0 };

	for (i = 0; i < 3; i++) {
		peer_key(dst, packet);
		packet[DERP_KEY_LEN] = i ? 4 : 1;
		memcpy(packet + DERP_KEY_LEN + 4, &number, sizeof(number));
		memcpy(packet + DERP_KEY_LEN + 8, &i, sizeof(i));
		add_frame(r, src, CAPTURE_IN, DERP_SEND_PACKET, packet, sizeof(packet));
		r->time_ns += 1000u << 3 * i;
		peer_key(src, packet);
		add_frame(r, dst, CAPTURE_OUT, DERP_RECV_PACKET, packet, sizeof(packet));
	}
}

/* All that was sent has been acknowledged, and what arrived was read. */
static void settle(struct rooms *r)
{
	const struct capture_facts facts = { .has_read = true, .has_queues = true, .tcp_state = 1 };
	uint32_t client;

	for (client = 0; client < CLIENTS; client++) {
		const uint64_t in = r->pos[CAPTURE_IN][client], out = r->pos[CAPTURE_OUT][client];
		const struct stream_progress p = {
			.node = HELP_NODE, .conn = client + 1, .time_ns = r->time_ns, .facts = &facts,
			.has_read = true, .in_arrived = in, .in_read = in,
			.has_acked = true, .out_sent = out, .out_acked = out,
		};

		ledger_progress(r->ledger, &p);
	}
	tick(r);
}

static void grow_pairs(int rooms, const uint32_t *steps, size_t count, size_t *bytes)
{
	struct rooms r;
	uint32_t pair = 0, client;
	size_t i;

	build(&r, true, rooms > 1);
	for (client = 0; client < CLIENTS; client++)
		add_client(&r, client);
	tick(&r);
	bytes[0] = in_use();
	for (i = 0; i < count; i++) {
		while (pair < steps[i]) {
			add_pair(&r, pair++);
			if (pair % PAIRS_AT_ONCE == 0)
				settle(&r);
		}
		settle(&r);
		bytes[i + 1] = in_use();
	}
	tear_down(&r);
}

/* ------------------------------------------------------------------------------------------ */

static double each(const size_t *bytes, size_t step, const uint32_t *steps)
{
	uint32_t more = steps[step] - (step ? steps[step - 1] : 0);

	return ((double)bytes[step] - (double)(step ? bytes[step - 1] : 0)) / more;
}

static void make_handshake(struct dialog *d)
{
	dialog_begin(d, &(struct dialog_options){
			.tls = true, .version = TLS1_3_VERSION, .bare = true, .seed = 1,
			.suite = "TLS_AES_128_GCM_SHA256" });
}

double bench_connection_bytes(void)
{
	static const uint32_t conns[] = { 1000, 10000 };
	size_t rooms[2], capture[2];
	struct dialog handshake;

	make_handshake(&handshake);
	grow_capture(conns, 2, capture);
	grow_connections(&handshake, 3, conns, 2, rooms);
	dialog_free(&handshake);
	return each(capture, 1, conns) + each(rooms, 1, conns);
}

int bench_memory(void)
{
	static const uint32_t conns[] = { 10, 100, 1000, 10000 };
	static const uint32_t pairs[] = { 100, 1000, 10000, 100000, 1000000 };
	size_t by_room[3][8] = { 0 }, capture[8] = { 0 }, i;
	struct dialog handshake;
	double live;
	int room;

	make_handshake(&handshake);
	grow_capture(conns, 4, capture);
	for (room = 0; room < 3; room++)
		grow_connections(&handshake, room + 1, conns, 4, by_room[room]);
	dialog_free(&handshake);
	printf("| connections | capture | + stream | + ledger | + correlate: bytes each |\n"
	       "|---|---|---|---|---|\n");
	for (i = 1; i < 4; i++) {
		live = each(capture, i, conns);
		printf("| %u | %.0f | %.0f | %.0f | %.0f |\n", conns[i], live,
		       live + each(by_room[0], i, conns), live + each(by_room[1], i, conns),
		       live + each(by_room[2], i, conns));
	}
	for (room = 0; room < 2; room++)
		grow_pairs(room + 1, pairs, 5, by_room[room]);
	printf("\n| pairs | ledger | + correlate: bytes each |\n|---|---|---|\n");
	for (i = 0; i < 5; i++) {
		double more = pairs[i] - (i ? pairs[i - 1] : 0);

		printf("| %u | %.0f | %.0f |\n", pairs[i],
		       ((double)by_room[0][i + 1] - (double)by_room[0][i]) / more,
		       ((double)by_room[1][i + 1] - (double)by_room[1][i]) / more);
	}
	return 0;
}
