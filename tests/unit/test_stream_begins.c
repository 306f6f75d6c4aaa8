// SPDX-License-Identifier: BSD-2-Clause
/* Attached to a connection that has just begun. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "stream_help.h"

#define V13	TLS1_3_VERSION

/* From @at in that flight on, with secrets as they are told, or from memory later. */
static void begin_at(const struct dialog *dialog, const struct dialog_options *kind,
		     const struct flight *f, size_t at, bool told)
{
	struct replay_options o = {
		.seed = at, .midstream = true, .max_segment = 500,
		.secrets = told ? SECRETS_IN_TIME : SECRETS_NEVER,
		.candidates_after = !told && kind->version == V13 ? 20 : 0,
	};
	const struct flight *g;
	struct streams *s;
	struct seen got;

	o.skip[f->dir] = f->at + at;
	for (g = dialog->flights; g < f; g++) {
		if (g->dir != f->dir)
			o.skip[g->dir] = g->at + g->len;
	}
	s = seen_streams(&got, NULL);
	replay_open(s, &o, dialog);
	replay(s, dialog, &o, true);
	assert_false(got.was_other);
	/* TLS 1.2 opens to who has seen its handshake. */
	if (kind->version != TLS1_2_VERSION)
		assert_true(got.count > 50);
	streams_free(s);
	seen_free(&got);
}

/* In the middle of its handshake or upgrade it is told what it is, and never that it is something else. */
static void test_attach_while_it_begins(void **state)
{
	static const struct dialog_options kinds[] = {
		{ .seed = 91 }, { .seed = 92, .websocket = true }, { .seed = 93, .fast_start = true },
		{ .seed = 94, .tls = true, .version = V13 },
		{ .seed = 95, .tls = true, .version = V13, .fast_start = true },
		{ .seed = 96, .tls = true, .version = TLS1_2_VERSION },
		{ .seed = 97, .tls = true, .version = V13, .dialled = true },
		{ .seed = 98, .tls = true, .version = V13, .websocket = true },
		{ .seed = 99, .tls = true, .version = V13, .retry = true },
	};
	struct dialog dialog;
	size_t k, i, at;

	(void)state;
	for (k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		dialog_begin(&dialog, &kinds[k]);
		dialog_talk(&dialog, 100, 400);
		for (i = 0; i < 14; i++) {
			const struct flight *f = &dialog.flights[i];

			for (at = 0; at < f->len; at += 1 + f->len / 8) {
				begin_at(&dialog, &kinds[k], f, at, true);
				begin_at(&dialog, &kinds[k], f, at, false);
			}
		}
		dialog_free(&dialog);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attach_while_it_begins),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
