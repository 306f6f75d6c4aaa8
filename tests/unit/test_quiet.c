// SPDX-License-Identifier: BSD-2-Clause
/* Connections of which nothing is handed over for a while: a gap, and where they stand behind it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "stream_help.h"

struct play {
	struct streams *streams;
	struct dialog d;
	struct seen seen;
	uint64_t now_ns;
	size_t next;		/* flight */
	uint32_t upto[2];	/* TCP has it */
};

static void tell(struct play *p, struct capture_event *e)
{
	struct capture_facts facts = {
		.has_seq = true, .has_read = true, .has_queues = true, .rcv_wnd = 1 << 20,
		.rcv_nxt = p->upto[CAPTURE_IN], .copied_seq = p->upto[CAPTURE_IN],
		.snd_una = p->upto[CAPTURE_OUT], .snd_nxt = p->upto[CAPTURE_OUT],
		.write_seq = p->upto[CAPTURE_OUT], .tcp_state = 1,
	};

	e->time_ns = p->now_ns += 1000000;
	e->node = HELP_NODE;
	e->conn = HELP_CONN;
	if (e->type != CAPTURE_QUIET && e->type != CAPTURE_CANDIDATE)
		e->facts = &facts;
	streams_event(p->streams, e);
}

static void begin(struct play *p, const char *suite)
{
	struct capture_event e = { .type = CAPTURE_CONN_OPEN,
				   .open = { .role = CAPTURE_ACCEPTED, .from_start = true } };
	size_t i;

	memset(p, 0, sizeof(*p));
	p->now_ns = 1000000000;
	p->streams = seen_streams(&p->seen, NULL);
	dialog_begin(&p->d, &(struct dialog_options){ .tls = suite, .suite = suite,
						      .version = TLS1_3_VERSION, .seed = 3 });
	tell(p, &e);
	for (i = 0; i < p->d.secret_count; i++) {
		e = (struct capture_event){ .type = CAPTURE_SECRET, .time_ns = p->now_ns,
					    .node = HELP_NODE, .secret = p->d.secrets[i] };
		streams_event(p->streams, &e);
	}
}

/* What was written since: seen by the hook, or by TCP alone. */
static void play(struct play *p, bool seen)
{
	const struct flight *f;

	for (; p->next < p->d.count; p->next++) {
		struct capture_event e = { .type = CAPTURE_SEGMENT };

		f = &p->d.flights[p->next];
		e.segment = (struct capture_segment){
			.dir = f->dir, .seq = (uint32_t)f->at, .len = (uint32_t)f->len,
			.captured = (uint32_t)f->len, .data = p->d.wire[f->dir].p + f->at,
		};
		if (seen)
			tell(p, &e);
		p->upto[f->dir] = (uint32_t)(f->at + f->len);
	}
	tell(p, &(struct capture_event){ .type = CAPTURE_FACTS });
}

static void quiet(struct play *p, bool on)
{
	tell(p, &(struct capture_event){ .type = CAPTURE_QUIET, .quiet = on });
}

static void end(struct play *p)
{
	tell(p, &(struct capture_event){ .type = CAPTURE_CONN_CLOSE });
	streams_free(p->streams);
	dialog_free(&p->d);
	seen_free(&p->seen);
}

/* From the word on frames may be missing, though no byte is yet; until one is read again. */
static void test_it_is_a_gap(void **state)
{
	struct play p;

	(void)state;
	begin(&p, NULL);
	dialog_talk(&p.d, 20, 300);
	play(&p, true);
	assert_false(p.seen.gap_open[0] || p.seen.gap_open[1]);
	quiet(&p, true);
	assert_true(p.seen.gap_open[0] && p.seen.gap_open[1]);
	/* Segments that were on their way then do not end it. */
	dialog_talk(&p.d, 2, 300);
	play(&p, true);
	assert_true(p.seen.gap_open[0] && p.seen.gap_open[1]);
	dialog_talk(&p.d, 20, 300);
	play(&p, false);
	quiet(&p, false);
	assert_true(p.seen.gap_open[0] && p.seen.gap_open[1]);
	dialog_talk(&p.d, 20, 300);
	play(&p, true);
	assert_false(p.seen.gap_open[0] || p.seen.gap_open[1]);
	end(&p);
}

static void hint(struct play *p, const char *label, int side)
{
	struct capture_event e = { .type = CAPTURE_CANDIDATE };
	size_t i;

	for (i = 0; i < p->d.secret_count; i++) {
		if (strcmp(p->d.secrets[i].label, label))
			continue;
		memcpy(e.candidate.secret, p->d.secrets[i].secret, sizeof(e.candidate.secret));
		e.candidate.len = p->d.secrets[i].len;
		e.candidate.seq = dialog_records(&p->d, side, p->upto[dialog_dir(&p->d, side)]);
	}
	assert_true(e.candidate.len > 0);
	tell(p, &e);
}

/*
 * What was missed had records ten times as large as those before: how many it were cannot be told from
 * the bytes. Memory tells.
 */
static void resume(bool hinted, size_t *frames)
{
	static const uint8_t bytes[1400];
	struct play p;
	int i;

	begin(&p, "TLS_AES_128_GCM_SHA256");
	for (i = 0; i < 200; i++)
		dialog_frame(&p.d, i & 1, i & 1 ? 5 : 4, bytes, 40);
	play(&p, true);
	quiet(&p, true);
	for (i = 0; i < 4000; i++)
		dialog_frame(&p.d, i & 1, i & 1 ? 5 : 4, bytes, 1200);
	play(&p, false);
	quiet(&p, false);
	if (hinted) {
		hint(&p, "CLIENT_TRAFFIC_SECRET_0", 0);
		hint(&p, "SERVER_TRAFFIC_SECRET_0", 1);
	}
	*frames = p.seen.count;
	for (i = 0; i < 200; i++)
		dialog_frame(&p.d, i & 1, i & 1 ? 5 : 4, bytes, 40);
	play(&p, true);
	*frames = p.seen.count - *frames;
	end(&p);
}

static void test_memory_tells_where_it_stands(void **state)
{
	size_t blind, hinted;

	(void)state;
	resume(false, &blind);
	resume(true, &hinted);
	print_message("measured: %zu frames of 200 are read at once, %zu with a hint\n", blind, hinted);
	/* Each side's first record finds the number, and the first frames the boundary. */
	assert_true(hinted > 190);
	assert_true(blind < 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_is_a_gap),
		cmocka_unit_test(test_memory_tells_where_it_stands),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
