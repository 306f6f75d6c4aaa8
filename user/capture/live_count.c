// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the kernel counts on plaintext connections. Its rows only grow, and are read with every tick:
 * what a row has more than when it was read last is told. A row goes when nobody can add to it any
 * more: the counting that it belongs to (its generation) has ended, or its connection has.
 *
 * What was counted as it left is read before the ring is, and what was counted as it entered behind
 * it: so the entry of whatever is told to have left is told by the tick, wherever the one or the other
 * was seen.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/clock.h"
#include "capture/live.h"
#include "count_class.h"
#include "derp.h"

#include "derptrace.skel.h"

#define BATCH	1024u

/* As it was read last. */
struct live_row {
	UT_hash_handle hh;
	struct abi_count_key key;
	uint64_t frames, bytes;
};

/* What is new in a row. */
struct news {
	struct live_conn *conn;
	struct abi_count_key key;
	struct abi_count count;
};

/* --- which walk is right --------------------------------------------------------------------- */

void live_count_agree(struct live *live, uint64_t id, enum capture_dir dir, uint32_t epoch,
		      uint8_t type)
{
	uint8_t which = dir == CAPTURE_IN ? ABI_IN : ABI_OUT;
	const struct abi_agreed yes = { .epoch = epoch, .type = type };
	struct abi_agreed_key key = { .dir = which };
	struct live_conn *conn;

	HASH_FIND(hh_id, live->conns_by_id, &id, sizeof(id), conn);
	if (!conn || conn->closed || conn->counts[which].agreed == epoch)
		return;
	key.cookie = conn->cookie;
	if (bpf_map__update_elem(live->skel->maps.agreed, &key, sizeof(key), &yes, sizeof(yes),
				 BPF_ANY))
		return;
	if (!conn->counts[0].agreed && !conn->counts[1].agreed)
		live->counting++;
	conn->counts[which].agreed = epoch;
	conn->counts[which].type = type;
	__atomic_add_fetch(&live->skel->bss->agreements, 1, __ATOMIC_RELEASE);
}

/* --- records --------------------------------------------------------------------------------- */

static struct live_conn *conn_of(struct live *live, uint64_t cookie, uint8_t dir)
{
	struct live_conn *conn = live_conn_find(live, cookie);

	return conn && !conn->closed && dir <= ABI_OUT ? conn : NULL;
}

void live_count_note(struct live *live, const struct abi_counting *r)
{
	struct live_conn *conn = conn_of(live, r->cookie, r->dir);

	if (conn && r->dir == ABI_IN)
		live_record_pending(live, conn, r->seq);
}

void live_count_tell(struct live *live, const struct abi_counting *r)
{
	struct live_conn *conn = conn_of(live, r->cookie, r->dir);
	struct capture_event event;

	if (!conn || r->have > sizeof(r->head))
		return;
	conn->counts[r->dir].on = r->begins;
	conn->counts[r->dir].generation = r->generation;
	if (!conn->announced)
		return;
	event = live_conn_event(conn, CAPTURE_COUNTING, clock_from_monotonic_ns(r->time_ns));
	if (!conn->facts.has_seq)
		event.facts = NULL;
	event.counting = (struct capture_counting){
		.dir = r->dir == ABI_IN ? CAPTURE_IN : CAPTURE_OUT, .begins = r->begins,
		.seq = r->seq, .have = r->have, .left = r->left, .head = r->head,
	};
	live_emit(live, &event);
	if (r->dir == ABI_IN)
		live_record_handed(conn, r->seq, r->seq);
}

void live_count_forward(struct live *live, const struct abi_forward *r)
{
	struct live_conn *conn = conn_of(live, r->cookie, r->dir);
	struct capture_event event;

	if (!conn || r->len > DERP_MAX_PACKET)
		return;
	event = live_conn_event(conn, CAPTURE_FORWARD, clock_from_monotonic_ns(r->time_ns));
	event.facts = NULL;
	event.forward = (struct capture_forward){
		.dir = r->dir == ABI_IN ? CAPTURE_IN : CAPTURE_OUT, .seq = r->seq,
		.len = 2 * DERP_KEY_LEN + r->len, .digest = r->digest, .head = r->head,
		.head_len = sizeof(r->head),
	};
	if (event.forward.head_len > event.forward.len)
		event.forward.head_len = event.forward.len;
	if (conn->announced)
		live_emit(live, &event);
	if (r->dir == ABI_IN)
		live_record_handed(conn, r->seq, r->seq);
	/* What became of it its records do not say. */
	conn->ask = true;
}

/* --- counts ---------------------------------------------------------------------------------- */

static struct live_row *row_get(struct live *live, const struct abi_count_key *key)
{
	struct live_row *row;

	HASH_FIND(hh, live->rows, key, sizeof(*key), row);
	if (row)
		return row;
	row = calloc(1, sizeof(*row));
	if (!row)
		return NULL;
	row->key = *key;
	HASH_ADD(hh, live->rows, key, sizeof(row->key), row);
	return row;
}

static void row_free(struct live *live, struct live_row *row)
{
	HASH_DEL(live->rows, row);
	free(row);
}

static void row_delete(struct live *live, struct live_row *row)
{
	bpf_map__delete_elem(live->skel->maps.counts, &row->key, sizeof(row->key), 0);
	row_free(live, row);
}

/* Nothing is added to it any more. */
static bool is_over(const struct live_conn *conn, const struct abi_count_key *key)
{
	int32_t age;

	if (!conn || conn->closed)
		return true;
	age = (int32_t)(conn->counts[key->dir].generation - key->generation);
	return age > 0 || (!age && !conn->counts[key->dir].on);
}

struct live_news {
	struct news *news;
	size_t count, room;
};

static void news_add(struct live_news *r, const struct news *n)
{
	struct news *bigger;
	size_t room;

	if (r->count == r->room) {
		room = r->room ? r->room * 2 : 256;
		bigger = realloc(r->news, room * sizeof(*bigger));
		if (!bigger)
			return;
		r->news = bigger;
		r->room = room;
	}
	r->news[r->count++] = *n;
}

static void read_row(struct live *live, struct live_news *r, const struct abi_count_key *key,
		     const struct abi_count *count)
{
	struct live_conn *conn = live_conn_find(live, key->cookie);
	struct live_row *row = row_get(live, key);
	struct news n = { .conn = conn, .key = *key, .count = *count };
	size_t before = r->count;

	if (!row)
		return;
	/* Bytes are counted before frames are: those of a frame may show one reading early. */
	n.count.frames = count->frames - row->frames;
	n.count.bytes = count->bytes - row->bytes;
	if (n.count.frames && conn && !conn->closed) {
		if (row->frames)
			n.count.first_ns = count->last_ns;
		news_add(r, &n);
		if (r->count == before)
			return;
		row->frames = count->frames;
		row->bytes = count->bytes;
	}
	if (is_over(conn, key))
		row_delete(live, row);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = ((const struct news *)a)->count.last_ns;
	uint64_t y = ((const struct news *)b)->count.last_ns;

	return x < y ? -1 : x > y;
}

static void tell(struct live *live, const struct news *n)
{
	struct live_conn *conn = n->conn;
	struct capture_event event;

	event = live_conn_event(conn, CAPTURE_COUNT, clock_from_monotonic_ns(n->count.last_ns));
	event.facts = NULL;
	event.count = (struct capture_count){
		.dir = n->key.dir == ABI_IN ? CAPTURE_IN : CAPTURE_OUT,
		.disco = n->key.class == COUNT_DISCO,
		.wg = n->key.class < COUNT_DISCO ? n->key.class : 0,
		.frames = n->count.frames, .bytes = n->count.bytes,
		.first_ns = clock_from_monotonic_ns(n->count.first_ns), .seq = n->count.seq,
	};
	memcpy(event.count.key.b, n->key.key, KEY_LEN);
	if (conn->announced)
		live_emit(live, &event);
	if (n->key.dir == ABI_IN)
		live_record_handed(conn, n->count.seq, n->count.seq);
	/* What became of them its records do not say. */
	conn->ask = true;
}

static int read_batch(struct live *live, uint8_t dir, void *from, void *to, bool *more)
{
	static struct abi_count_key keys[BATCH];
	static struct abi_count values[BATCH];
	uint32_t n = BATCH, i;
	int err = bpf_map_lookup_batch(bpf_map__fd(live->skel->maps.counts), from, to, keys, values,
				       &n, NULL);

	*more = !err;
	if (err && err != -ENOENT)
		return err;
	for (i = 0; i < n; i++) {
		if (keys[i].dir == dir)
			read_row(live, live->news, &keys[i], &values[i]);
	}
	return 0;
}

static void read_all(struct live *live, uint8_t dir)
{
	bool more = true, first = true;
	uint32_t at[2];

	if (!live->news)
		live->news = calloc(1, sizeof(*live->news));
	for (; live->news && more; first = false, at[0] = at[1]) {
		if (read_batch(live, dir, first ? NULL : &at[0], &at[1], &more))
			break;
	}
}

void live_count_read(struct live *live)
{
	if (live->counting)
		read_all(live, ABI_OUT);
}

void live_count_flush(struct live *live)
{
	struct live_news *r;
	size_t i;

	if (live->counting)
		read_all(live, ABI_IN);
	r = live->news;
	if (!r || !r->count)
		return;
	qsort(r->news, r->count, sizeof(*r->news), compare);
	for (i = 0; i < r->count; i++)
		tell(live, &r->news[i]);
	r->count = 0;
}

void live_count_forget(struct live *live, struct live_conn *conn)
{
	struct abi_agreed_key key = { .cookie = conn->cookie };

	if (!conn->counts[0].agreed && !conn->counts[1].agreed)
		return;
	live->counting--;
	for (key.dir = ABI_IN; key.dir <= ABI_OUT; key.dir++)
		bpf_map__delete_elem(live->skel->maps.agreed, &key, sizeof(key), 0);
}

void live_count_free(struct live *live)
{
	struct live_row *row, *next;

	HASH_ITER(hh, live->rows, row, next)
		row_free(live, row);
	if (live->news)
		free(live->news->news);
	free(live->news);
}
