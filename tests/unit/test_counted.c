// SPDX-License-Identifier: BSD-2-Clause
/* Which of the kernel's walks are believed: test_counting.c has what comes of those that are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "stream_help.h"

#include "web.h"

#define PLAIN	2u
#define WEB	(PLAIN | CAPTURE_EPOCH_WEB)

struct talk {
	struct dialog dialog;
	struct streams *streams;
	size_t at;		/* of the client's bytes, so much was told */
	uint32_t agreed;	/* to this walk */
};

static void on_frame(void *ctx, const struct stream_frame *f)
{
	(void)ctx;
	(void)f;
}

static void on_progress(void *ctx, const struct stream_progress *p)
{
	(void)ctx;
	(void)p;
}

static void on_gap(void *ctx, const struct stream_gap *g)
{
	(void)ctx;
	(void)g;
	fail();
}

static uint8_t on_agree(void *ctx, uint32_t node, uint64_t conn, enum capture_dir dir, uint32_t epoch)
{
	struct talk *t = ctx;

	(void)node;
	(void)conn;
	assert_int_equal(dir, CAPTURE_IN);
	t->agreed = epoch;
	return DERP_SEND_PACKET;
}

static void tell(struct talk *t, enum capture_dir dir, size_t from, size_t to, uint32_t epoch)
{
	const struct capture_facts f = { .has_seq = true, .rcv_nxt = (uint32_t)(dir == CAPTURE_IN ? to : t->at) };
	const struct capture_event e = {
		.type = CAPTURE_SEGMENT, .time_ns = 2, .node = HELP_NODE, .conn = HELP_CONN, .facts = &f,
		.segment = { .dir = dir, .sum = CAPTURE_SUM_RIGHT, .seq = (uint32_t)from,
			     .len = (uint32_t)(to - from), .captured = (uint32_t)(to - from),
			     .epoch = epoch, .data = t->dialog.wire[dir].p + from },
	};

	streams_event(t->streams, &e);
}

/* The client's next bytes; the kernel's walk says that a frame begins with them. Is it believed? */
static bool agrees(struct talk *t, size_t len, uint32_t epoch)
{
	t->agreed = 0;
	tell(t, CAPTURE_IN, t->at, t->at + len, epoch);
	t->at += len;
	return epoch && t->agreed == epoch;
}

static void begin(struct talk *t, bool websocket)
{
	const struct stream_sink sink = { .ctx = t, .frame = on_frame, .agree = on_agree,
					  .progress = on_progress, .gap = on_gap };
	const struct capture_event open = {
		.type = CAPTURE_CONN_OPEN, .time_ns = 1, .node = HELP_NODE, .conn = HELP_CONN,
		.open = { .role = CAPTURE_ACCEPTED, .from_start = true },
	};

	*t = (struct talk){ .at = 0 };
	dialog_begin(&t->dialog, &(struct dialog_options){ .seed = 1, .websocket = websocket });
	t->streams = streams_new(&sink, &(struct stream_limits){ .connection_bytes = 1 << 20,
								 .total_bytes = 1 << 20 });
	assert_non_null(t->streams);
	streams_event(t->streams, &open);
	assert_false(agrees(t, t->dialog.wire[CAPTURE_IN].len, 0));
	tell(t, CAPTURE_OUT, 0, t->dialog.wire[CAPTURE_OUT].len, 0);
}

static void end(struct talk *t)
{
	streams_free(t->streams);
	dialog_free(&t->dialog);
}

static const uint8_t ping[] = { DERP_PING, 0, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8 };

static void test_plain(void **state)
{
	struct talk t;
	int i;

	(void)state;
	begin(&t, false);
	for (i = 0; i < 4; i++)
		bytes_add(&t.dialog.wire[CAPTURE_IN], ping, sizeof(ping));
	assert_false(agrees(&t, sizeof(ping), WEB));
	assert_false(agrees(&t, 1, 0));
	assert_false(agrees(&t, sizeof(ping) - 1, PLAIN));
	assert_true(agrees(&t, sizeof(ping), PLAIN));
	end(&t);
}

/* A message of two frames, four times: both a frame of the WebSocket and a DERP frame must begin. */
static void test_websocket(void **state)
{
	const uint8_t head[] = { WEB_MESSAGE, 0x80 | 2 * sizeof(ping), 0, 0, 0, 0 };
	const size_t whole = sizeof(head) + 2 * sizeof(ping);
	struct talk t;
	int i;

	(void)state;
	begin(&t, true);
	for (i = 0; i < 4; i++) {
		bytes_add(&t.dialog.wire[CAPTURE_IN], head, sizeof(head));
		bytes_add(&t.dialog.wire[CAPTURE_IN], ping, sizeof(ping));
		bytes_add(&t.dialog.wire[CAPTURE_IN], ping, sizeof(ping));
	}
	assert_false(agrees(&t, sizeof(head) + sizeof(ping), PLAIN));
	assert_false(agrees(&t, sizeof(ping), WEB));
	assert_false(agrees(&t, 1, 0));
	assert_false(agrees(&t, whole - 1, WEB));
	assert_true(agrees(&t, whole, WEB));
	end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_websocket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
