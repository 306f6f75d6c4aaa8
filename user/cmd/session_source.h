/* SPDX-License-Identifier: BSD-2-Clause */
/* A source of a session, and which of several files is next. */
#ifndef DT_SESSION_SOURCE_H
#define DT_SESSION_SOURCE_H

#include "cmd/tracer.h"
#include "record/record.h"

struct session_source {
	const char *name;
	struct tracer *tracer;		/* live, or a capture file */
	struct record_reader *reader;	/* records */
	const struct record_sink *sink;	/* of the reader's records */
	bool told;			/* the reader's window has begun */
	bool ended;
};

bool session_source_is_live(const struct session_source *source);
/* Hands over what is there without waiting; what the source's own run says. */
int session_source_run(struct session_source *source);
/* Of a file: when that is which comes next, and all of it that is before @until_ns. */
uint64_t session_source_next_ns(const struct session_source *source);
int session_source_run_until(struct session_source *source, uint64_t until_ns);
/* The file whose turn it is, and in *until_ns until when; NULL: all files have ended. */
struct session_source *session_source_earliest(struct session_source *sources, int count, uint64_t *until_ns);

#endif
