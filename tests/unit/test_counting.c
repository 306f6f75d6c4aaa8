// SPDX-License-Identifier: BSD-2-Clause
/*
 * The kernel's counting and the stream that takes over from it, together: the programs' own code over a
 * TCP whose segments come in any size, out of order, again in other pieces, before TCP has taken what
 * came earlier, or not at all; whose reader is late; whose tables and ring are full at times. Every
 * packet is in the books once.
 */
#include "counting_frames.h"

/* --- what stream makes of it ----------------------------------------------------------------- */

static uint32_t key_of(const uint8_t *key)
{
	assert_true(key[0] < KEYS);
	return key[0];
}

static void on_frame(void *ctx, const struct stream_frame *f)
{
	struct world *w = ctx;
	uint32_t keys = f->type == DERP_FORWARD_PACKET ? 64 : 32;
	struct told *t;
	uint64_t digest;

	if (f->dir != w->dir || f->type != w->type)
		return;
	t = &w->told[key_of(f->head)];
	t->frames++;
	t->bytes += f->len - keys;
	if (f->type != DERP_FORWARD_PACKET)
		return;
	digest = f->digest ? f->digest :
			     packet_digest(f->head + keys, f->head_len - keys, f->len - keys);
	/* In order; where some were lost the others still are. */
	while (w->ring_lost && w->digest_at < w->digest_count && w->digests[w->digest_at] != digest)
		w->digest_at++;
	assert_true(w->digest_at < w->digest_count);
	assert_true(w->digests[w->digest_at++] == digest);
}

static void on_run(void *ctx, const struct stream_run *r)
{
	struct world *w = ctx;

	assert_true(r->dir == w->dir && r->type == w->type);
	w->told[key_of(r->key.b)].frames += r->frames;
	w->told[key_of(r->key.b)].bytes += r->bytes;
}

static uint8_t on_agree(void *ctx, uint32_t node, uint64_t conn, enum capture_dir dir, uint32_t epoch)
{
	struct world *w = ctx;

	(void)node;
	(void)conn;
	if (dir != w->dir)
		return 0;
	w->agreed[dir == CAPTURE_OUT] = (struct abi_agreed){ .epoch = epoch, .type = w->type };
	agreements++;
	return w->type;
}

static void on_progress(void *ctx, const struct stream_progress *p)
{
	(void)ctx;
	(void)p;
}

static void on_gap(void *ctx, const struct stream_gap *g)
{
	struct world *w = ctx;

	w->gaps += g->begins;
}

/* Whatever is counted, it is known where the stream stands. */
static void on_info(void *ctx, uint32_t node, uint64_t conn, const struct stream_info *info)
{
	struct world *w = ctx;

	(void)node;
	(void)conn;
	w->unsynchronised |= info->unsynchronised;
}

/* --- user space, late ------------------------------------------------------------------------ */

static struct capture_facts facts_now(const struct world *w)
{
	struct capture_facts f = { .has_seq = true, .has_read = true, .has_queues = true,
				   .tcp_state = 1, .rcv_wnd = WINDOW };

	f.rcv_nxt = f.copied_seq = ISN + (uint32_t)(w->dir == CAPTURE_IN ? w->rcv_nxt : 0);
	f.snd_una = ISN + (uint32_t)w->una;
	f.snd_nxt = f.write_seq = ISN + (uint32_t)(w->dir == CAPTURE_OUT ? w->sent : 0);
	return f;
}

static struct capture_event event_of(const struct world *w, enum capture_type type, uint64_t time_ns)
{
	(void)w;
	return (struct capture_event){ .type = type, .time_ns = time_ns, .node = HELP_NODE,
				       .conn = HELP_CONN };
}

static void tell_record(struct world *w, const struct record *r)
{
	struct capture_event e = event_of(w, CAPTURE_SEGMENT, w->time_ns);
	struct capture_facts f = { .has_seq = true, .has_read = true, .rcv_wnd = WINDOW };

	if (r->type == ABI_SEGMENT) {
		f.rcv_nxt = f.copied_seq = r->segment.rcv_nxt;
		f.snd_una = r->segment.snd_una;
		f.snd_nxt = f.write_seq = r->segment.snd_nxt;
		e.facts = &f;
		e.segment = (struct capture_segment){
			.dir = w->dir, .sum = CAPTURE_SUM_RIGHT, .seq = r->segment.seq,
			.len = r->segment.len, .captured = r->segment.len,
			.epoch = r->segment.epoch, .counted = r->segment.counted,
			.data = w->bytes + r->at,
		};
	} else if (r->type == ABI_COUNTING) {
		w->on = r->counting.begins;
		w->generation = r->counting.generation;
		e.type = CAPTURE_COUNTING;
		e.counting = (struct capture_counting){
			.dir = w->dir, .begins = r->counting.begins, .seq = r->counting.seq,
			.have = r->counting.have, .left = r->counting.left,
			.head = r->counting.head,
			.web = { .on = r->counting.web.on, .control = r->counting.web.passed,
				 .left = r->counting.web.left, .mask = r->counting.web.mask,
				 .have = r->counting.web.have },
		};
		memcpy(e.counting.web.head, r->counting.web.head, sizeof(r->counting.web.head));
	} else {
		e.type = CAPTURE_FORWARD;
		e.forward = (struct capture_forward){
			.dir = w->dir, .seq = r->forward.seq, .len = 64 + r->forward.len,
			.digest = r->forward.digest, .head = r->forward.head,
			.head_len = r->forward.len < 8 ? 64 + r->forward.len : 72,
		};
		w->kernel_frames++;
	}
	streams_event(w->streams, &e);
}

/* As live_count.c does it. */
static void read_rows(struct world *w)
{
	uint32_t i;

	w->news_count = 0;
	for (i = 0; i < ROW_MAX; i++) {
		struct abi_count_row *row = &w->row[i];
		int32_t age = (int32_t)(w->generation - row->key.generation);
		struct news n = { .generation = row->key.generation };

		if (!row->key.cookie)
			continue;
		n.count = (struct capture_count){
			.dir = w->dir, .frames = row->count.frames - w->read[i].frames,
			.bytes = row->count.bytes - w->read[i].bytes, .first_ns = w->time_ns,
			.seq = row->count.seq,
		};
		memcpy(n.count.key.b, row->key.key, KEY_LEN);
		w->read[i] = (struct told){ row->count.frames, row->count.bytes };
		w->kernel_frames += n.count.frames;
		if (n.count.frames)
			w->news[w->news_count++] = n;
		if (age > 0 || (!age && !w->on)) {
			memset(row, 0, sizeof(*row));
			memset(&w->read[i], 0, sizeof(w->read[i]));
		}
	}
}

static void tell_rows(struct world *w)
{
	size_t i;

	for (i = 0; i < w->news_count; i++) {
		struct capture_event e = event_of(w, CAPTURE_COUNT, w->time_ns);

		e.count = w->news[i].count;
		e.count.on = w->on && w->news[i].generation == w->generation;
		streams_event(w->streams, &e);
	}
}

static void step(struct world *w);

/* The kernel does not wait for us. */
static void steps(struct world *w)
{
	while (chance_percent(&w->chance, 60))
		step(w);
}

static void drain(struct world *w, bool tick)
{
	struct capture_facts f = facts_now(w);
	struct capture_event e = event_of(w, CAPTURE_FACTS, w->time_ns);
	size_t i;

	/* What left is read before the ring, so that nothing else is told to have left before it. */
	if (tick && w->dir == CAPTURE_OUT) {
		steps(w);
		read_rows(w);
		steps(w);
	}
	for (i = 0; i < w->queued; i++)
		tell_record(w, &w->queue[i]);
	w->queued = 0;
	if (!tick)
		return;
	if (w->dir == CAPTURE_IN) {
		steps(w);
		read_rows(w);
	}
	tell_rows(w);
	e.facts = &f;
	streams_event(w->streams, &e);
}

/* --- TCP ------------------------------------------------------------------------------------- */

/* [from, to) passes the hook. */
static void pass(struct world *w, size_t from, size_t to)
{
	struct __sk_buff skb = { &w->sk, w->bytes + from, (unsigned int)(to - from) };
	struct abi_segment s = {
		.type = ABI_SEGMENT, .dir = w->dir == CAPTURE_IN ? ABI_IN : ABI_OUT, .cookie = 99,
		.time_ns = w->time_ns, .seq = ISN + (uint32_t)from, .len = (uint32_t)(to - from),
		.has = ABI_HAS_FACTS | ABI_ALL_FACTS, .check = ABI_CHECK_HOLDS, .rcv_wnd = WINDOW,
	};
	const struct capture_facts f = facts_now(w);
	struct late late = { .from = from, .to = to };
	bool first = !w->walking;
	size_t i;

	s.rcv_nxt = f.rcv_nxt;
	s.snd_una = f.snd_una;
	s.snd_nxt = f.snd_nxt;
	/* Its checksum was not looked at by whoever gave it to us. */
	if (w->dir == CAPTURE_IN && chance_percent(&w->chance, w->rough ? 3 : 1))
		s.check = ABI_CHECK_PENDING;
	w->walking = true;
	late.shipped = !count_packet(&skb, &w->sk, &s, HEADERS);
	late.record = (struct record){ .type = ABI_SEGMENT, .at = from, .segment = s };
	/* Who came second may be the first in the ring. To TCP it comes later: see two_at_once(). */
	if (!first) {
		if (late.shipped && chance_percent(&w->chance, 50)) {
			ship(&late.record);
			late.shipped = false;
		}
		assert_true(w->late_count < LATE_MAX);
		w->late[w->late_count++] = late;
		return;
	}
	leave(w, &late);
	w->walking = false;
	for (i = 0; i < w->late_count; i++)
		leave(w, &w->late[i]);
	w->late_count = 0;
}

static size_t piece(struct world *w)
{
	/* A WebSocket's headers are short, and cut all the same. */
	if (w->dialog.websocket && chance_percent(&w->chance, 30))
		return chance_between(&w->chance, 1, 8);
	switch (chance_between(&w->chance, 0, 5)) {
	case 0:
		return chance_between(&w->chance, 1, 60);
	case 1:
		return chance_between(&w->chance, 1, 30000);
	default:
		return chance_between(&w->chance, 1, 1448);
	}
}

/* Mostly whole frames: who writes flushes them. What was shaken hands with comes first. */
static size_t upto(const struct world *w, size_t pos, size_t len, bool whole)
{
	size_t i, end = pos + len;

	if (pos < w->starts[0])
		return w->starts[0];
	for (i = 0; whole && i < w->start_count; i++)
		if (w->starts[i] >= end)
			return w->starts[i];
	return end < w->len ? end : w->len;
}

/* One more step of an inbound TCP: something new, something again, or nothing gets through. */
static void step_in(struct world *w)
{
	size_t from = w->sent, to;

	if (from > w->rcv_nxt + WINDOW / 4)
		take(w, true);
	if (from == w->len || from > w->rcv_nxt + WINDOW / 2 ||
	    chance_percent(&w->chance, w->rough ? 5 : 1))
		from = w->rcv_nxt;
	else if (chance_percent(&w->chance, w->rough ? 3 : 1))
		from -= from < 500 ? from : 500;
	to = upto(w, from, piece(w), chance_percent(&w->chance, 70));
	if (to > w->sent)
		w->sent = to;
	if (from < to && !chance_percent(&w->chance, w->rough ? 3 : 1))
		pass(w, from, to);
	if (chance_percent(&w->chance, 70))
		take(w, false);
}

static void step_out(struct world *w)
{
	size_t from = w->sent;

	if (from == w->len || chance_percent(&w->chance, 8))
		from = w->una + chance_between(&w->chance, 0, (uint32_t)(w->sent - w->una));
	if (from < w->len)
		pass(w, from, upto(w, from, piece(w), chance_percent(&w->chance, 70)));
	if (chance_percent(&w->chance, 30))
		w->una += chance_between(&w->chance, 0, (uint32_t)(w->sent - w->una));
	if (w->sent == w->len)
		w->una = w->len;
}

/* On other processors: the connection's next segment is there, or user space reads. */
static void meanwhile(void)
{
	struct world *w = world;

	if (!w->two || !w->walking || w->meanwhile || w->late_count > LATE_MAX / 2 ||
	    !chance_percent(&w->chance, 2))
		return;
	w->meanwhile = true;
	if (chance_percent(&w->chance, 20)) {
		drain(w, chance_percent(&w->chance, 50));
	} else {
		w->overtaken++;
		step_in(w);
	}
	w->meanwhile = false;
}

/* Until all has come. */
static bool is_done(const struct world *w)
{
	return (w->dir == CAPTURE_IN ? w->rcv_nxt : w->una) == w->len;
}

static void step(struct world *w)
{
	if (is_done(w))
		return;
	w->time_ns += chance_percent(&w->chance, 2) ? 300000000 : 1000000;
	if (w->dir == CAPTURE_IN)
		step_in(w);
	else
		step_out(w);
}

/* --- the test -------------------------------------------------------------------------------- */

static void open_streams(struct world *w)
{
	const struct stream_sink sink = {
		.ctx = w, .frame = on_frame, .run = on_run, .agree = on_agree,
		.progress = on_progress, .gap = on_gap, .info = on_info,
	};
	struct capture_event e = event_of(w, CAPTURE_CONN_OPEN, 1);
	int other = w->dir == CAPTURE_IN ? CAPTURE_OUT : CAPTURE_IN;

	w->streams = streams_new(&sink, &(struct stream_limits){ .connection_bytes = 16 << 20,
								 .total_bytes = 32 << 20 });
	assert_non_null(w->streams);
	e.open = (struct capture_conn_open){
		.role = w->dialog.dialled ? CAPTURE_DIALLED : CAPTURE_ACCEPTED,
		.from_start = true, .in_isn = ISN, .out_isn = ISN,
	};
	streams_event(w->streams, &e);
	/* The other way is there already; the request goes before its answer. */
	e = event_of(w, CAPTURE_SEGMENT, 2);
	e.segment = (struct capture_segment){
		.dir = (enum capture_dir)other, .sum = CAPTURE_SUM_RIGHT, .seq = ISN,
		.len = (uint32_t)w->dialog.wire[other].len,
		.captured = (uint32_t)w->dialog.wire[other].len, .data = w->dialog.wire[other].p,
	};
	streams_event(w->streams, &e);
	if (other == CAPTURE_IN) {
		struct capture_facts f = { .has_seq = true, .rcv_nxt = ISN + e.segment.len,
					   .snd_una = ISN, .snd_nxt = ISN };

		e = event_of(w, CAPTURE_FACTS, 3);
		e.facts = &f;
		streams_event(w->streams, &e);
	}
}

/* Segments that came while one was walked. */
static uint64_t overtaken;

/* Packets that were remembered when they entered, or added to a histogram when they left. */
static uint64_t timed;

/* What is counted. */
struct way {
	enum capture_dir dir;
	uint8_t type;
	bool dialled, websocket;
	bool two;		/* by two processors at once */
};

/* Returns how many frames the kernel counted. */
static uint64_t run(const struct way *way, bool scarce, uint64_t seed)
{
	const enum capture_dir dir = way->dir;
	const bool dialled = way->dialled;
	const int side = (dir == CAPTURE_IN) == dialled;
	struct world *w = calloc(1, sizeof(*w));
	struct capture_event close = { .type = CAPTURE_CONN_CLOSE, .node = HELP_NODE,
				       .conn = HELP_CONN };
	uint64_t counted;
	uint32_t k;

	assert_non_null(w);
	world = w;
	agreements = 0;
	w->chance.state = seed;
	w->dir = dir;
	w->type = way->type;
	w->scarce = scarce;
	w->two = way->two;
	w->rough = seed % 2;
	w->entered_ns = 1;
	dialog_begin(&w->dialog, &(struct dialog_options){ .dialled = dialled, .seed = seed,
							   .websocket = way->websocket });
	make_frames(w, side);
	w->bytes = w->dialog.wire[dir].p;
	w->len = w->dialog.wire[dir].len;
	w->taken = calloc(w->len, sizeof(*w->taken));
	assert_non_null(w->taken);
	open_streams(w);
	while (!is_done(w)) {
		step(w);
		if (chance_percent(&w->chance, 20))
			drain(w, chance_percent(&w->chance, 20));
	}
	drain(w, true);
	drain(w, true);
	close.time_ns = w->time_ns;
	streams_event(w->streams, &close);
	for (k = 0; k < KEYS; k++) {
		if (!w->ring_lost) {
			assert_int_equal(w->told[k].frames, w->truth[k].frames);
			assert_int_equal(w->told[k].bytes, w->truth[k].bytes);
		}
		assert_true(w->told[k].frames <= w->truth[k].frames);
	}
	assert_true((w->gaps == 0 && !w->unsynchronised) || w->ring_lost);
	counted = w->kernel_frames;
	timed += w->timed;
	overtaken += w->overtaken;
	streams_free(w->streams);
	dialog_free(&w->dialog);
	free(w->taken);
	free(w);
	return counted;
}

#define ROUNDS	60

static void many(const struct way *way)
{
	uint64_t counted = 0, scarce = 0, seed;

	timed = 0;
	for (seed = 1; seed <= ROUNDS; seed++)
		counted += run(way, false, seed);
	for (seed = 1; seed <= ROUNDS; seed++)
		scarce += run(way, true, seed);
	print_message("%llu, %llu of %u frames counted, %llu timed\n", (unsigned long long)counted,
		      (unsigned long long)scarce, ROUNDS * 582, (unsigned long long)timed);
	assert_true(counted > ROUNDS * 100 && scarce > ROUNDS * 60);
	/* One in 32, but for short ones; a forward that leaves brings its time along. */
	if (way->dir == CAPTURE_OUT && way->type == DERP_FORWARD_PACKET)
		assert_int_equal(timed, 0);
	else
		assert_true(timed > (counted + scarce) / 80 && timed < (counted + scarce) / 24);
}

static void test_sent_packets(void **state)
{
	(void)state;
	many(&(struct way){ .dir = CAPTURE_IN, .type = DERP_SEND_PACKET });
}

static void test_received_packets(void **state)
{
	(void)state;
	many(&(struct way){ .dir = CAPTURE_OUT, .type = DERP_RECV_PACKET });
}

/* The client's bytes are masked. */
static void test_sent_in_websocket(void **state)
{
	(void)state;
	many(&(struct way){ .dir = CAPTURE_IN, .type = DERP_SEND_PACKET, .websocket = true });
}

static void test_received_in_websocket(void **state)
{
	(void)state;
	many(&(struct way){ .dir = CAPTURE_OUT, .type = DERP_RECV_PACKET, .websocket = true });
}

static void test_forwards_in(void **state)
{
	(void)state;
	many(&(struct way){ .dir = CAPTURE_IN, .type = DERP_FORWARD_PACKET });
}

static void test_forwards_out(void **state)
{
	(void)state;
	many(&(struct way){ .dir = CAPTURE_OUT, .type = DERP_FORWARD_PACKET, .dialled = true });
}

/*
 * A socket's ingress may run on two processors at once, as when its packets change the queue that they
 * come in by, and user space runs on a third. Who comes second is shipped, and ends the counting: nothing
 * is lost, or told twice. TCP takes it when the first has left, too: before that it can have a use for it
 * only where it is the same bytes again, sent again while the first ones were on one processor.
 */
static void two_at_once(uint8_t type, bool websocket)
{
	const struct way way = { .dir = CAPTURE_IN, .type = type, .websocket = websocket, .two = true };
	uint64_t counted = 0, seed;

	overtaken = 0;
	for (seed = 1; seed <= ROUNDS; seed++)
		counted += run(&way, false, seed) + run(&way, true, seed);
	print_message("%llu of %u frames counted, %llu segments came meanwhile\n",
		      (unsigned long long)counted, 2 * ROUNDS * 582, (unsigned long long)overtaken);
	assert_true(counted > ROUNDS * 50 && overtaken > ROUNDS * 20);
}

static void test_two_at_once(void **state)
{
	(void)state;
	two_at_once(DERP_SEND_PACKET, false);
}

static void test_websocket_two_at_once(void **state)
{
	(void)state;
	two_at_once(DERP_SEND_PACKET, true);
}

static void test_forwards_two_at_once(void **state)
{
	(void)state;
	two_at_once(DERP_FORWARD_PACKET, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sent_packets),
		cmocka_unit_test(test_received_packets),
		cmocka_unit_test(test_sent_in_websocket),
		cmocka_unit_test(test_received_in_websocket),
		cmocka_unit_test(test_forwards_in),
		cmocka_unit_test(test_forwards_out),
		cmocka_unit_test(test_two_at_once),
		cmocka_unit_test(test_websocket_two_at_once),
		cmocka_unit_test(test_forwards_two_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
