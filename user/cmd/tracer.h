/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One capture and the rooms behind it: capture -> stream -> a ledger per node -> records. A tracer is
 * what the records call an agent.
 */
#ifndef DT_TRACER_H
#define DT_TRACER_H

#include "capture/capture.h"
#include "ledger/ledger.h"
#include "record/record.h"
#include "stream/stream.h"

/* Who else wants to see what passes (pcap); members may be NULL. @agent tells tracers apart. */
struct tracer_taps {
	void *ctx;
	void (*event)(void *ctx, uint64_t agent, const struct capture_event *event);
	void (*whole)(void *ctx, uint64_t agent, const struct stream_frame *frame,
		      const uint8_t *bytes, size_t len);
};

struct tracer_options {
	struct ledger_limits ledger;
	struct stream_limits stream;
	const struct tracer_taps *taps;	/* may be NULL */
	/* What capture has to say to people; see capture_say. May be NULL. */
	void (*say)(void *ctx, const char *text, bool refused);
	/* The governor has changed how much is taken in. May be NULL. */
	void (*step)(void *ctx, const struct capture_step *step);
	void *say_ctx;
};

struct tracer;

/* Takes @capture over. NULL: out of memory (@capture is closed then too). */
struct tracer *tracer_new(struct capture *capture, const struct tracer_options *options);
void tracer_free(struct tracer *t);

int tracer_fd(struct tracer *t);
/* 0, -ENODATA at the source's end, -errno. */
int tracer_run(struct tracer *t);
/* Connections of which nothing could be decrypted. */
uint64_t tracer_without_secret(const struct tracer *t);
/* A file's: see capture.h. */
uint64_t tracer_next_ns(struct tracer *t);
int tracer_run_until(struct tracer *t, uint64_t until_ns);
/* What the source could not read, once it has ended; see capture.h. NULL: nothing. */
const char *tracer_complaints(struct tracer *t);
int tracer_tick(struct tracer *t);
bool tracer_is_ready(const struct tracer *t);
uint64_t tracer_ready_ns(const struct tracer *t);
/* Nodes that are alive. */
uint32_t tracer_node_count(const struct tracer *t);
/* Is there a packet in flight in a node, alive or just ended, that entered before then? */
bool tracer_has_older(const struct tracer *t, uint64_t before_ns);
/* @final: the trace ends in order with this one. */
int tracer_snapshot(struct tracer *t, bool final, const struct record_sink *sink);

#endif
