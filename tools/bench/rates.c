// SPDX-License-Identifier: BSD-2-Clause
/*
 * How many frames and observations a second one core takes: the walker, the ledger, the correlator in
 * memory and from a file of records, with 100 to 1,000,000 pairs. A line each on standard output: what,
 * pairs, a second and core, bytes of memory a pair (0: not asked).
 *
 *	rates [MAX_PAIRS]
 *
 * The ledger's traffic is made up: each packet enters on its sender's connection and leaves on its
 * destination's. What it tells is what the correlator gets. An observation is a frame that was seen
 * at one hop (ledger), a record (correlator).
 */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/number.h"
#include "correlate/correlate.h"
#include "ledger/ledger.h"
#include "walk.h"

#define NODE		1
#define PACKET		1200u
#define START_NS	1700000000000000000ull
#define TICK_NS		100000000ull
#define BATCH		4096u		/* packets between two ticks */
#define MIN_PACKETS	1000000u
#define SNAPSHOTS	8

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static size_t heap(void)
{
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
}

static void say(const char *what, uint32_t pairs, uint64_t count, uint64_t ns, double bytes)
{
	printf("%s\t%u\t%.0f\t%.0f\n", what, pairs, (double)count * 1e9 / (double)ns, bytes);
	fflush(stdout);
}

/* --- walker ------------------------------------------------------------------------------- */

static void walker(void)
{
	static uint8_t stream[64 << 10];
	const uint32_t body = DERP_KEY_LEN + PACKET, frame = WALK_HEADER_LEN + body;
	uint32_t frames = sizeof(stream) / frame, i, at, left, n, len = frames * frame;
	uint64_t count = 0, ns;
	struct walk w = { .kind = WALK_DERP };
	int round;

	for (i = 0; i < frames; i++) {
		stream[i * frame] = DERP_SEND_PACKET;
		stream[i * frame + 3] = (uint8_t)(body >> 8);
		stream[i * frame + 4] = (uint8_t)body;
	}
	ns = cpu_ns();
	for (round = 0; round < 200000; round++) {
		for (at = 0; at < len; at += n) {
			left = len - at;
			n = walk_body(&w, left);
			if (n)
				continue;
			n = walk_head(&w, stream + at, left);
			if (w.have == WALK_HEADER_LEN)
				count += walk_read(&w) != 0;
		}
	}
	say("walker", 0, count, cpu_ns() - ns, 0);
}

/* --- ledger ------------------------------------------------------------------------------- */

struct node {
	struct ledger *l;
	uint32_t peers, pairs, next;
	uint64_t now_ns, packet;
	uint64_t *in, *out;		/* positions, by peer */
};

static struct key key_of(uint32_t peer)
{
	struct key k;
	uint64_t x = peer + 1;
	size_t i;

	for (i = 0; i < KEY_LEN; i++) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		k.b[i] = (uint8_t)(x >> 56);
	}
	return k;
}

static void frame(struct node *n, uint32_t peer, enum capture_dir dir, uint8_t type,
		  const uint8_t *head, uint32_t len)
{
	uint64_t *pos = dir == CAPTURE_IN ? &n->in[peer] : &n->out[peer];
	uint32_t keep = DERP_KEY_LEN + DERP_DIGEST_LEN;
	struct stream_frame f = {
		.node = NODE, .conn = peer + 1, .time_ns = n->now_ns, .dir = dir, .type = type,
		.len = len, .head_len = len < keep ? len : keep, .head = head,
		.derp_off = *pos, .derp_from_start = true,
	};

	*pos += DERP_HEADER_LEN + len;
	f.tcp_end = *pos;
	ledger_frame(n->l, &f);
}

static void progress(struct node *n, uint32_t peer)
{
	const struct capture_facts facts = { .has_read = true, .has_queues = true, .tcp_state = 1 };
	const struct stream_progress p = {
		.node = NODE, .conn = peer + 1, .time_ns = n->now_ns, .facts = &facts,
		.has_read = true, .in_arrived = n->in[peer], .in_read = n->in[peer],
		.out_sent = n->out[peer], .out_acked = n->out[peer], .has_acked = true,
	};

	ledger_progress(n->l, &p);
}

static void client(struct node *n, uint32_t peer)
{
	struct capture_event e = { .type = CAPTURE_CONN_OPEN, .time_ns = n->now_ns, .node = NODE,
				   .conn = peer + 1,
				   .open = { .role = CAPTURE_ACCEPTED, .from_start = true } };
	const uint8_t ip[4] = { 10, 0, 0, 1 };
	uint8_t info[DERP_KEY_LEN + DERP_DIGEST_LEN] = { 0 };
	struct key k = key_of(peer);

	addr_set(&e.open.local, 4, ip, 443);
	addr_set(&e.open.remote, 4, ip, (uint16_t)(1024 + peer));
	ledger_event(n->l, &e);
	memcpy(info, k.b, KEY_LEN);
	frame(n, peer, CAPTURE_IN, DERP_CLIENT_INFO, info, sizeof(info));
	frame(n, peer, CAPTURE_OUT, DERP_SERVER_INFO, info, 53);
}

/* From each peer to as many others as the pairs need. */
static void packet(struct node *n)
{
	uint32_t pair = n->next++ % n->pairs, src = pair % n->peers;
	uint32_t dst = (src + 1 + pair / n->peers) % n->peers;
	uint8_t head[DERP_KEY_LEN + DERP_DIGEST_LEN] = { 0 };
	struct key to = key_of(dst), from = key_of(src);

	head[DERP_KEY_LEN] = 4;
	n->packet++;
	memcpy(head + DERP_KEY_LEN + 8, &n->packet, sizeof(n->packet));
	memcpy(head, to.b, KEY_LEN);
	frame(n, src, CAPTURE_IN, DERP_SEND_PACKET, head, DERP_KEY_LEN + PACKET);
	memcpy(head, from.b, KEY_LEN);
	frame(n, dst, CAPTURE_OUT, DERP_RECV_PACKET, head, DERP_KEY_LEN + PACKET);
}

static void batch(struct node *n, uint32_t count)
{
	uint32_t i;

	for (i = 0; i < count; i++)
		packet(n);
	n->now_ns += TICK_NS;
	for (i = 0; i < n->peers; i++)
		progress(n, i);
	ledger_tick(n->l, n->now_ns);
}

/* --- records ------------------------------------------------------------------------------ */

struct kept {
	struct record *v;
	size_t count, cap;
	uint64_t observations;		/* rows of counts, and records of any other kind but those that number */
};

static void *copy(const void *from, size_t bytes)
{
	void *p = malloc(bytes + 1);

	if (!p)
		abort();
	return from ? memcpy(p, from, bytes) : p;
}

/* What it points to is kept too. */
static int keep(void *ctx, const struct record *r)
{
	struct kept *k = ctx;
	struct record *to;
	size_t i, n;

	if (k->count == k->cap) {
		k->cap = k->cap * 2 + 64;
		k->v = reallocarray(k->v, k->cap, sizeof(*k->v));
		if (!k->v)
			abort();
	}
	to = &k->v[k->count++];
	*to = *r;
	switch (r->type) {
	case RECORD_PEERS:
		to->peers.v = copy(r->peers.v, r->peers.count * sizeof(*r->peers.v));
		break;
	case RECORD_PAIRS:
		to->pairs.v = copy(r->pairs.v, r->pairs.count * sizeof(*r->pairs.v));
		break;
	case RECORD_COUNTS:
		to->counts.pair = copy(r->counts.pair, r->counts.count * sizeof(*r->counts.pair));
		for (i = 0; i < RECORD_PAIR_COLUMNS; i++) {
			if (r->counts.column[i])
				to->counts.column[i] = copy(r->counts.column[i],
							    r->counts.count * sizeof(uint64_t));
		}
		to->counts.latency_first = copy(r->counts.latency_first,
						r->counts.count * sizeof(uint32_t));
		to->counts.latency_count = copy(r->counts.latency_count,
						r->counts.count * sizeof(uint32_t));
		for (i = n = 0; i < r->counts.count; i++)
			n += r->counts.latency_count[i];
		to->counts.latency = copy(r->counts.latency, n * sizeof(uint32_t));
		k->observations += r->counts.count;
		break;
	default:
		k->observations++;	/* there are no marks without a mesh */
	}
	return 0;
}

static void kept_free(struct kept *k)
{
	size_t i, n;

	for (i = 0; i < k->count; i++) {
		struct record *r = &k->v[i];

		if (r->type == RECORD_PEERS)
			free((void *)r->peers.v);
		if (r->type == RECORD_PAIRS)
			free((void *)r->pairs.v);
		for (n = 0; r->type == RECORD_COUNTS && n < RECORD_PAIR_COLUMNS; n++)
			free((void *)r->counts.column[n]);
		if (r->type != RECORD_COUNTS)
			continue;
		free((void *)r->counts.pair);
		free((void *)r->counts.latency_first);
		free((void *)r->counts.latency_count);
		free((void *)r->counts.latency);
	}
	free(k->v);
}

static int agent(struct node *n, const struct record_sink *sink, bool final)
{
	struct record r = { .type = RECORD_AGENT, .agent = 7, .time_ns = n->now_ns,
			    .agent_info = { .start_ns = START_NS, .ready_ns = START_NS,
					    .final = final, .cpu_percent = -1 } };

	strcpy(r.agent_info.host, "bench");
	strcpy(r.agent_info.mode, "full");
	return sink->put(sink->ctx, &r);
}

static int put(void *ctx, const struct record *r)
{
	return correlate_put(ctx, r);
}

static int correlator(const struct kept *kept, uint32_t pairs)
{
	const struct correlate_limits limits = { .max_pairs = 2000000 };
	struct correlate *c = correlate_new(NULL, &limits);
	struct report report;
	size_t before = heap(), i;
	uint64_t ns = cpu_ns();
	double bytes;
	int err = 0;

	for (i = 0; c && i < kept->count && !err; i++)
		err = correlate_put(c, &kept->v[i]);
	ns = cpu_ns() - ns;
	if (!c || err)
		return -1;
	bytes = (double)(heap() - before) / pairs;
	say("correlator, in memory", pairs, kept->observations, ns, bytes);
	ns = cpu_ns();
	err = correlate_report(c, &report);
	say("reports", pairs, 1, cpu_ns() - ns, 0);
	if (!err)
		report_free(&report);
	correlate_free(c);
	return err;
}

static int from_records(const struct kept *kept, uint32_t pairs)
{
	const struct correlate_limits limits = { .max_pairs = 2000000 };
	char path[] = "/tmp/derptrace-rates.XXXXXX.dtr", err[256];
	struct record_writer *w;
	struct record_reader *r = NULL;
	struct correlate *c = correlate_new(NULL, &limits);
	const struct record_sink sink = { c, put };
	int fd = mkstemps(path, 4), ret = -1;
	uint64_t ns = cpu_ns();
	size_t i;

	if (fd < 0 || !c)
		goto cleanup;
	close(fd);
	w = record_writer_open(path, err);
	for (i = 0; w && i < kept->count; i++)
		record_writer_put(w, &kept->v[i]);
	if (!w || record_writer_close(w))
		goto cleanup;
	say("records, written", pairs, kept->observations, cpu_ns() - ns, 0);
	r = record_reader_open(path, err);
	ns = cpu_ns();
	if (!r || record_reader_run(r, &sink, true) != -ENODATA)
		goto cleanup;
	say("correlator, from records", pairs, kept->observations, cpu_ns() - ns, 0);
	ret = 0;
cleanup:
	record_reader_close(r);
	correlate_free(c);
	if (fd >= 0)
		unlink(path);
	return ret;
}

/* --- together ----------------------------------------------------------------------------- */

static int run(uint32_t pairs)
{
	const struct ledger_limits limits = { .max_pairs = 2000000 };
	const struct capture_node_up up = { .pid = 1, .name = "bench" };
	struct node n = { .pairs = pairs, .now_ns = START_NS };
	struct kept kept = { 0 };
	const struct record_sink sink = { &kept, keep };
	uint32_t packets = pairs > MIN_PACKETS ? pairs : MIN_PACKETS, i, snapshots;
	uint64_t ns, spent = 0, done = 0;
	size_t before;
	int ret = -1;

	n.peers = pairs < 1000 ? 50 : pairs < 100000 ? 500 : 2000;
	n.in = calloc(n.peers, sizeof(*n.in));
	n.out = calloc(n.peers, sizeof(*n.out));
	n.l = ledger_new(NODE, 7, &up, n.now_ns, &limits);
	if (!n.in || !n.out || !n.l)
		goto cleanup;
	for (i = 0; i < n.peers; i++)
		client(&n, i);
	before = heap();
	for (i = 0; i < pairs; i += BATCH)	/* each pair has its row before time counts */
		batch(&n, BATCH);
	for (ns = cpu_ns(); done < packets; done += BATCH)
		batch(&n, BATCH);
	spent = cpu_ns() - ns;
	say("ledger", pairs, 2 * done, spent, (double)(heap() - before) / pairs);
	/* As many snapshots as are worth measuring, in each of which every pair has moved. */
	snapshots = pairs < 10000 ? 50 * SNAPSHOTS : SNAPSHOTS;
	for (i = 0, spent = 0; i < snapshots; i++) {
		for (done = 0; done < pairs; done += BATCH)
			batch(&n, BATCH < pairs ? BATCH : pairs);
		ns = cpu_ns();
		if (ledger_snapshot(n.l, n.now_ns, false, &sink) ||
		    agent(&n, &sink, i + 1 == snapshots))
			goto cleanup;
		spent += cpu_ns() - ns;
	}
	say("ledger, snapshots", pairs, kept.observations, spent, 0);
	ret = correlator(&kept, pairs);
	if (!ret)
		ret = from_records(&kept, pairs);
cleanup:
	ledger_free(n.l);
	free(n.in);
	free(n.out);
	kept_free(&kept);
	return ret;
}

int main(int argc, char **argv)
{
	static const uint32_t all[] = { 100, 10000, 1000000 };
	uint64_t most = all[2];
	size_t i;

	if (argc > 2 || (argc == 2 && !number_parse(argv[1], 1, all[2], &most))) {
		fprintf(stderr, "usage: rates [MAX_PAIRS]\n");
		return 2;
	}
	walker();
	for (i = 0; i < sizeof(all) / sizeof(all[0]) && all[i] <= most; i++) {
		if (run(all[i])) {
			fprintf(stderr, "rates: %u pairs: out of memory, or no room in /tmp\n", all[i]);
			return 1;
		}
	}
	return 0;
}
