/* SPDX-License-Identifier: BSD-2-Clause */
/* What the rooms behind the kernel cost, without a kernel. */
#ifndef DT_BENCH_ROOMS_H
#define DT_BENCH_ROOMS_H

#include "ledger/ledger.h"
#include "stream_help.h"

/* Hands the bytes of a dialog to the rooms, as the hooks of a kernel would. */
struct feeder {
	struct streams *streams;
	struct ledger *ledger;	/* NULL: stream alone */
	const struct dialog *dialog;
	uint64_t conn, time_ns;
	uint64_t pause_ns;	/* before what is said last */
	uint32_t next[2];
};

/* The connection opens, and its secrets are told. */
void feed_open(struct feeder *f);
void feed_all(struct feeder *f);

/*
 * A connection of TLS 1.3 with AES-128-GCM: the handshake of @handshake, under randoms and secrets of
 * @seed; then what was said in @talk, which is plain. Freed with dialog_free().
 */
void template_make(struct dialog *to, const struct dialog *handshake, const struct dialog *talk,
		   uint64_t seed);

/* CPU time of stream per frame. */
int bench_speed(void);
/* Memory of capture and all rooms for each of 10,000 connections, behind the first thousand. */
double bench_connection_bytes(void);
/* Memory of all rooms per connection, and per pair. */
int bench_memory(void);

#endif
