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
#include <sys/mman.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/clock.h"
#include "capture/live.h"
#include "count_class.h"
#include "derp.h"

#include "derptrace.skel.h"

#define FREE_ROWS	4096u	/* so many are ready before they are needed */
#define SWEEP		16u	/* reading by which a row that did not grow is looked at */

/* The kernel's rows, of which the first @high were ever given to it, and what was read of them last. */
struct live_rows {
	volatile struct abi_count_row *row;
	struct live_row {
		uint64_t frames, bytes;
	} *read;
	uint32_t high, used, readings;
};

/* What is new in a row. */
struct news {
	struct live_conn *conn;
	struct abi_count_key key;
	struct abi_count count;
};

struct live_news {
	struct news *news;
	size_t count, room;
};

/* --- which walk is right --------------------------------------------------------------------- */

void live_count_agree(struct live *live, uint64_t id, enum capture_dir dir, uint32_t epoch,
		      uint8_t type)
{
	uint8_t which = dir == CAPTURE_IN ? ABI_IN : ABI_OUT;
	const struct abi_agreed yes = { .epoch = epoch, .type = type };
	struct abi_agreed_key key = { .dir = which };
	struct live_conn *conn = live_conn_find(live, id);
	struct live_walk *walk = conn && !conn->closed ? live_conn_walk_get(conn, which) : NULL;

	if (!walk || walk->agreed == epoch)
		return;
	key.cookie = conn->cookie;
	if (bpf_map__update_elem(live->skel->maps.agreed, &key, sizeof(key), &yes, sizeof(yes),
				 BPF_ANY))
		return;
	if (!conn->walks[0].agreed && !conn->walks[1].agreed)
		live->counting++;
	walk->agreed = epoch;
	walk->type = type;
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
	struct live_walk *walk = conn ? live_conn_walk_get(conn, r->dir) : NULL;
	struct capture_event event;

	if (!walk || r->have > sizeof(r->head) || r->web.have >= sizeof(r->web.head))
		return;
	walk->on = r->begins;
	walk->generation = r->generation;
	if (!conn->announced)
		return;
	event = live_conn_event(conn, CAPTURE_COUNTING, clock_from_monotonic_ns(r->time_ns));
	if (!conn->facts.has_seq)
		event.facts = NULL;
	event.counting = (struct capture_counting){
		.dir = r->dir == ABI_IN ? CAPTURE_IN : CAPTURE_OUT, .begins = r->begins,
		.seq = r->seq, .have = r->have, .left = r->left, .head = r->head,
		.web = { .on = r->web.on, .control = r->web.passed, .left = r->web.left,
			 .mask = r->web.mask, .have = r->web.have },
	};
	memcpy(event.counting.web.head, r->web.head, sizeof(r->web.head));
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
	live_latency_forward(live, conn, r);
	if (r->dir == ABI_IN)
		live_record_handed(conn, r->seq, r->seq);
	/* What became of it its records do not say. */
	conn->ask = true;
}

/* --- counts ---------------------------------------------------------------------------------- */

static void row_give(struct live *live, uint32_t no)
{
	bpf_map__update_elem(live->skel->maps.free_rows, NULL, 0, &no, sizeof(no), BPF_ANY);
}

/* Rows for those who may come before the next reading. */
static void rows_give(struct live *live)
{
	struct live_rows *r = live->rows;
	uint32_t upto = r->used + FREE_ROWS;

	for (; r->high < upto && r->high < ABI_COUNT_ROWS; r->high++)
		row_give(live, r->high);
}

static void row_delete(struct live *live, uint32_t no, const struct abi_count_key *key)
{
	bpf_map__delete_elem(live->skel->maps.counts, key, sizeof(*key), 0);
	memset((void *)&live->rows->row[no], 0, sizeof(live->rows->row[no]));
	memset(&live->rows->read[no], 0, sizeof(live->rows->read[no]));
	row_give(live, no);
}

static size_t rows_size(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (ABI_COUNT_ROWS * sizeof(struct abi_count_row) + page - 1) / page * page;
}

int live_count_none(struct live *live)
{
	int err = bpf_map__set_max_entries(live->skel->maps.rows, 1);

	return err ? err : bpf_map__set_max_entries(live->skel->maps.free_rows, 1);
}

int live_count_open(struct live *live)
{
	struct live_rows *r = calloc(1, sizeof(*r));
	void *at;

	if (!r)
		return -ENOMEM;
	at = mmap(NULL, rows_size(), PROT_READ | PROT_WRITE, MAP_SHARED,
		  bpf_map__fd(live->skel->maps.rows), 0);
	if (at == MAP_FAILED) {
		free(r);
		return -errno;
	}
	r->row = at;
	live->rows = r;
	r->read = calloc(ABI_COUNT_ROWS, sizeof(*r->read));
	live->news = calloc(1, sizeof(*live->news));
	if (!r->read || !live->news)
		return -ENOMEM;
	rows_give(live);
	return 0;
}

const struct abi_count_key *live_count_row(const struct live *live, uint32_t no)
{
	return live->rows ? (const struct abi_count_key *)&live->rows->row[no].key : NULL;
}

/* Nothing is added to it any more. */
static bool is_over(const struct live_conn *conn, const struct abi_count_key *key)
{
	struct live_walk walk;
	int32_t age;

	if (!conn || conn->closed)
		return true;
	walk = live_conn_walk(conn, key->dir);
	age = (int32_t)(walk.generation - key->generation);
	return age > 0 || (!age && !walk.on);
}

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

static void read_row(struct live *live, uint32_t no, bool grew)
{
	volatile const struct abi_count_row *row = &live->rows->row[no];
	struct live_row *read = &live->rows->read[no];
	struct abi_count_key key = row->key;
	struct live_conn *conn = live_conn_find(live, key.cookie);
	/* Nothing is added behind this, or it is read once more. */
	bool over = is_over(conn, &key);
	struct news n = { .conn = conn, .key = key };
	const uint64_t frames = row->count.frames;
	size_t before = live->news->count;

	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	n.count = row->count;
	/* Bytes are counted before frames are: those of a frame may show one reading early. */
	n.count.frames = frames - read->frames;
	n.count.bytes -= read->bytes;
	if (grew && conn && !conn->closed) {
		if (read->frames)
			n.count.first_ns = n.count.last_ns;
		read->frames += n.count.frames;
		read->bytes += n.count.bytes;
		news_add(live->news, &n);
		if (live->news->count == before) {
			read->frames -= n.count.frames;
			read->bytes -= n.count.bytes;
			return;
		}
	}
	if (over)
		row_delete(live, no, &key);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = ((const struct news *)a)->count.last_ns;
	uint64_t y = ((const struct news *)b)->count.last_ns;

	return x < y ? -1 : x > y;
}

/* Of one that the ring has not told yet it may be. */
static bool is_on(const struct live_conn *conn, const struct abi_count_key *key)
{
	const struct live_walk walk = live_conn_walk(conn, key->dir);

	return walk.on && walk.generation == key->generation;
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
		.on = is_on(conn, &n->key),
	};
	memcpy(event.count.key.b, n->key.key, KEY_LEN);
	if (conn->announced)
		live_emit(live, &event);
	if (n->key.dir == ABI_IN && event.count.on)
		live_record_handed(conn, n->count.seq, n->count.seq);
	/* What became of them its records do not say. */
	conn->ask = true;
}

static void read_all(struct live *live, uint8_t dir)
{
	struct live_rows *r = live->rows;
	bool all = !(r->readings++ / 2 % SWEEP), grew;
	uint32_t i;

	for (r->used = 0, i = 0; i < r->high; i++) {
		r->used += r->row[i].key.cookie != 0;
		grew = r->row[i].count.frames != r->read[i].frames;
		if ((grew || all) && r->row[i].key.cookie && r->row[i].key.dir == dir)
			read_row(live, i, grew);
	}
	rows_give(live);
}

void live_count_read(struct live *live)
{
	if (live->rows && live->counting)
		read_all(live, ABI_OUT);
}

void live_count_flush(struct live *live)
{
	struct live_news *r = live->news;
	size_t i;

	if (!live->rows)
		return;
	if (live->counting)
		read_all(live, ABI_IN);
	qsort(r->news, r->count, sizeof(*r->news), compare);
	for (i = 0; i < r->count; i++)
		tell(live, &r->news[i]);
	r->count = 0;
}

void live_count_forget(struct live *live, struct live_conn *conn)
{
	struct abi_agreed_key key = { .cookie = conn->cookie };

	if (!conn->walks || (!conn->walks[0].agreed && !conn->walks[1].agreed))
		return;
	live->counting--;
	for (key.dir = ABI_IN; key.dir <= ABI_OUT; key.dir++)
		bpf_map__delete_elem(live->skel->maps.agreed, &key, sizeof(key), 0);
}

void live_count_free(struct live *live)
{
	if (live->rows) {
		munmap((void *)live->rows->row, rows_size());
		free(live->rows->read);
	}
	free(live->rows);
	if (live->news)
		free(live->news->news);
	free(live->news);
}
