// SPDX-License-Identifier: BSD-2-Clause
/* Met in mid-stream: packets so rare, and so long, that there is never a chain of headers to see. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "stream/handshake.h"
#include "stream_help.h"

#define V13	TLS1_3_VERSION

/* Connections that carry a packet now and then, each written by itself: not one is missed. */
static void test_attach_idle_single(void **state)
{
	static const uint8_t packet[DERP_KEY_LEN + 1200];
	struct dialog dialog;
	size_t before;
	struct streams *s;
	struct seen got;
	int kind, i;

	(void)state;
	for (kind = 0; kind < 4; kind++) {
		struct replay_options o = { .midstream = true, .secrets = SECRETS_NEVER,
					    .candidates_after = kind & 1 };

		dialog_begin(&dialog, &(struct dialog_options){
			.seed = 83, .tls = kind & 1, .version = V13, .websocket = kind & 2 });
		dialog_talk(&dialog, 10, 1300);
		o.skip[0] = dialog.wire[0].len;
		o.skip[1] = dialog.wire[1].len;
		before = dialog.want.count;
		for (i = 0; i < 4; i++)
			dialog_frame(&dialog, i & 1, i & 1 ? DERP_RECV_PACKET : DERP_SEND_PACKET, packet,
				     sizeof(packet));
		s = seen_streams(&got, NULL);
		replay_open(s, &o, &dialog);
		replay(s, &dialog, &o, true);
		assert_int_equal(got.count, dialog.want.count - before);
		assert_int_equal(got.gap_count, 0);
		streams_free(s);
		seen_free(&got);
		dialog_free(&dialog);
	}
}

/* The longest packets there are, in writes that end inside them: three headers are more than is kept. */
static void test_attach_long(void **state)
{
	static uint8_t frame[DERP_HEADER_LEN + DERP_KEY_LEN + DERP_MAX_PACKET];
	const uint32_t len = sizeof(frame) - DERP_HEADER_LEN;
	struct chance chance = { 85 };
	struct dialog dialog;
	struct streams *s;
	struct seen got;
	size_t i, cut;
	int tls;

	(void)state;
	for (i = 0; i < sizeof(frame); i++)
		frame[i] = (uint8_t)chance_next(&chance);
	memcpy(frame, (uint8_t[]){ DERP_SEND_PACKET, 0, len >> 16, len >> 8 & 255, len & 255 }, DERP_HEADER_LEN);
	for (tls = 0; tls < 2; tls++) {
		struct replay_options o = { .midstream = true, .secrets = SECRETS_NEVER, .seed = 85,
					    .candidates_after = tls, .max_segment = 30000 };

		dialog_begin(&dialog, &(struct dialog_options){ .seed = 84, .tls = tls, .version = V13 });
		dialog_talk(&dialog, 10, 1300);
		o.skip[0] = dialog.wire[0].len;
		o.skip[1] = dialog.wire[1].len;
		for (i = cut = 0; i < 12; i++) {
			struct bytes b = { 0 };

			bytes_add(&b, frame + cut, cut ? sizeof(frame) - cut : 0);
			cut = i < 11 ? chance_between(&chance, 1, sizeof(frame) - 1) : sizeof(frame);
			bytes_add(&b, frame, cut);
			dialog_write(&dialog, 0, b.p, b.len);
			bytes_free(&b);
		}
		s = seen_streams(&got, NULL);
		replay_open(s, &o, &dialog);
		replay(s, &dialog, &o, true);
		/* The first ones are forgotten before it is certain where they begin. */
		assert_in_range(got.count, 9, 12);
		for (i = 0; i < got.count; i++)
			assert_int_equal(got.frames[i].len, len);
		assert_false(got.gap_open[CAPTURE_IN]);
		streams_free(s);
		seen_free(&got);
		dialog_free(&dialog);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attach_idle_single),
		cmocka_unit_test(test_attach_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
