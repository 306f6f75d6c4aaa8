// SPDX-License-Identifier: BSD-2-Clause
/*
 * How long packets that the kernel counts stayed in their relay. It adds up, for each row of the counts,
 * what is taken out here with every tick; what leaves for the mesh brings its own time along.
 */
#include <errno.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/clock.h"
#include "capture/live.h"
#include "derp.h"
#include "latency.h"

#include "derptrace.skel.h"

#define BATCH	256u

static void tell(struct live *live, struct live_conn *conn, const struct capture_latency *latency)
{
	struct capture_event event = live_conn_event(conn, CAPTURE_LATENCY, clock_now_ns());

	event.facts = NULL;
	event.latency = *latency;
	if (conn->announced)
		live_emit(live, &event);
}

static void tell_row(struct live *live, const struct abi_latency_key *key, uint32_t count)
{
	struct live_conn *conn = live_conn_find(live, key->cookie);
	struct capture_latency latency = { .bucket = key->bucket, .count = count };
	const struct abi_count_key *row;

	if (!conn || key->row >= ABI_COUNT_ROWS || key->bucket >= LATENCY_BUCKETS)
		return;
	row = live_count_row(live, key->row);
	/* It may have been given to others since. */
	if (!row || row->cookie != key->cookie || row->generation != key->generation)
		return;
	memcpy(latency.src.b, row->key, KEY_LEN);
	tell(live, conn, &latency);
}

void live_latency_read(struct live *live)
{
	static struct abi_latency_key keys[BATCH];
	static uint32_t counts[BATCH];
	uint32_t n, i, at[2] = { 0 };
	bool first = true;
	int err = 0;

	if (!live->counting)
		return;
	for (; !err; first = false, at[0] = at[1]) {
		n = BATCH;
		err = bpf_map_lookup_and_delete_batch(bpf_map__fd(live->skel->maps.latencies),
						      first ? NULL : &at[0], &at[1], keys, counts,
						      &n, NULL);
		for (i = 0; (!err || err == -ENOENT) && i < n; i++)
			tell_row(live, &keys[i], counts[i]);
	}
}

void live_latency_forward(struct live *live, struct live_conn *conn, const struct abi_forward *r)
{
	struct capture_latency latency = { .count = 1 };

	if (!r->entered_ns || r->entered_ns > r->time_ns)
		return;
	latency.bucket = latency_bucket(r->time_ns - r->entered_ns);
	memcpy(latency.src.b, r->head, KEY_LEN);
	memcpy(latency.dst.b, r->head + KEY_LEN, KEY_LEN);
	tell(live, conn, &latency);
}

int live_latency_none(struct live *live)
{
	int err = bpf_map__set_max_entries(live->skel->maps.flights, 1);

	return err ? err : bpf_map__set_max_entries(live->skel->maps.latencies, 1);
}
