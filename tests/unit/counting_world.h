/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For test_counting.c: a kernel that runs the counting programs' code, with its maps, its ring and one
 * socket; and all that the test knows of the connection on it.
 */
#ifndef DT_TEST_COUNTING_WORLD_H
#define DT_TEST_COUNTING_WORLD_H

#include <linux/types.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "stream_help.h"

/* --- what the programs call ------------------------------------------------------------------ */

#ifdef __always_inline
#undef __always_inline
#endif
#define __always_inline inline __attribute__((always_inline))
#define __noinline	__attribute__((noinline))
#define barrier()	__asm__ volatile("" ::: "memory")
#define BPF_ANY		0
#define BPF_NOEXIST	1
#define BPF_SK_STORAGE_GET_F_CREATE 1

struct bpf_sock {
	int zero;
};

struct __sk_buff {
	struct bpf_sock *sk;
	const unsigned char *data;
	unsigned int len;
};

struct bpf_spin_lock {
	int held;
};

enum map { COUNTS, ROWS, FREE_ROWS, AGREED, RING, WALKS, FLIGHTS, LATENCIES };
static const enum map counts = COUNTS, rows = ROWS, free_rows = FREE_ROWS, agreed = AGREED, ring = RING,
	walks = WALKS, flights = FLIGHTS, latencies = LATENCIES;

static void *bpf_map_lookup_elem(const enum map *map, const void *key);
static long bpf_map_update_elem(const enum map *map, const void *key, const void *value, __u64 flags);
static long bpf_map_delete_elem(const enum map *map, const void *key);
static long bpf_map_pop_elem(const enum map *map, void *value);
static long bpf_map_push_elem(const enum map *map, const void *value, __u64 flags);
static void *bpf_ringbuf_reserve(const enum map *map, __u64 size, __u64 flags);
static void *bpf_sk_storage_get(const enum map *map, void *sk, void *value, __u64 flags);
static long bpf_skb_load_bytes(const struct __sk_buff *skb, __u32 off, void *to, __u32 n);

static inline struct bpf_sock *bpf_sk_fullsock(struct bpf_sock *sk)
{
	return sk;
}

/* Here, where no lock is held, a program may be overtaken by what runs on other processors. */
static void meanwhile(void);

static void bpf_spin_lock(struct bpf_spin_lock *lock)
{
	assert_int_equal(lock->held++, 0);
}

static void bpf_spin_unlock(struct bpf_spin_lock *lock)
{
	assert_int_equal(lock->held--, 1);
	meanwhile();
}

static inline void emit_submit(void *record)
{
	(void)record;
}

#include "abi.h"
#include "count_state.bpf.h"

static struct abi_lost lost;
static __u32 agreements;
static const __u32 count_frames = 1;

#include "count.bpf.h"

/* --- the world ------------------------------------------------------------------------------- */

#define ROW_MAX		64u
#define QUEUE_MAX	4096u
#define LATE_MAX	64u
#define KEYS		3u
#define ISN		0xffff0000u	/* it wraps on the way */
#define WINDOW		40000u
#define HEADERS		52u		/* before a packet's payload */

struct record {
	enum abi_type type;
	size_t at;		/* a segment: of its bytes in the stream */
	struct abi_segment segment;
	struct abi_counting counting;
	struct abi_forward forward;
};

struct news {
	struct capture_count count;
	uint32_t generation;
};

struct told {
	uint64_t frames, bytes;
};

struct world {
	struct chance chance;
	struct dialog dialog;
	enum capture_dir dir;		/* that is counted */
	uint8_t type;
	bool scarce;			/* rows and ring are full at times */
	bool rough;			/* its TCP's way is */
	bool two;			/* processors, at one hook at once */
	const uint8_t *bytes;
	size_t len;

	/* the kernel */
	struct bpf_sock sk;
	struct count_state state;
	bool has_state;
	struct abi_count_row row[ROW_MAX];
	struct told read[ROW_MAX];
	struct abi_agreed agreed[2];
	struct record queue[QUEUE_MAX];
	size_t queued;
	uint64_t time_ns, kernel_frames, ring_lost;
	uint64_t entered_ns, timed;	/* whatever leaves had entered then */
	bool walking, meanwhile;	/* a program runs; and another one meanwhile */
	uint64_t overtaken;		/* segments that came while one was walked */
	struct late {
		struct record record;
		bool shipped;
		size_t from, to;
	} late[LATE_MAX];		/* the other processor's, which come after */
	size_t late_count;

	/* its TCP */
	bool *taken;
	size_t rcv_nxt, sent, una;
	struct {
		size_t from, to;
	} backlog[32];
	size_t waiting;

	/* user space */
	struct streams *streams;
	bool on;
	uint32_t generation;
	struct news news[ROW_MAX];
	size_t news_count;
	struct told told[KEYS], truth[KEYS];
	uint64_t digests[1024];
	bool sampled[1024];		/* it is one of those that are timed */
	size_t starts[1024], start_count;
	size_t digest_count, digest_at, gaps;
	bool unsynchronised;
};

static struct world *world;

/* A packet is timed by its own name, and by its own bytes' choice. */
static void check_flight(const struct abi_latency_flight *f)
{
	size_t i;

	for (i = 0; i < world->digest_count && world->digests[i] != f->digest; i++)
		;
	assert_true(i < world->digest_count && world->sampled[i]);
}

static void *bpf_map_lookup_elem(const enum map *map, const void *key)
{
	static __u32 no;

	switch (*map) {
	case COUNTS:
		for (no = 0; no < ROW_MAX; no++)
			if (world->row[no].key.cookie &&
			    !memcmp(&world->row[no].key, key, sizeof(world->row[no].key)))
				return &no;
		return NULL;
	case ROWS:
		assert_true(*(const __u32 *)key < ROW_MAX);
		return &world->row[*(const __u32 *)key];
	case AGREED:
		return &world->agreed[((const struct abi_agreed_key *)key)->dir];
	case FLIGHTS:
		check_flight(key);
		return world->dir == CAPTURE_OUT ? &world->entered_ns : NULL;
	case LATENCIES:
		return NULL;
	default:
		fail();
		return NULL;
	}
}

static long bpf_map_delete_elem(const enum map *map, const void *key)
{
	(void)key;
	assert_int_equal(*map, FLIGHTS);
	return 0;
}

/* A row is known by its key, which is written into it right after this. What is timed has one bucket. */
static long bpf_map_update_elem(const enum map *map, const void *key, const void *value, __u64 flags)
{
	const struct abi_latency_key *latency = key;

	if (*map == FLIGHTS) {
		assert_true(*(const __u64 *)value <= world->time_ns);
		world->timed++;
		return 0;
	}
	if (*map == LATENCIES) {
		assert_int_equal(latency->bucket, latency_bucket(world->time_ns - world->entered_ns));
		assert_int_equal(world->row[latency->row].key.generation, latency->generation);
		world->timed++;
		return 0;
	}
	assert_true(*map == COUNTS && flags == BPF_NOEXIST);
	return 0;
}

static long bpf_map_pop_elem(const enum map *map, void *value)
{
	__u32 no;

	assert_int_equal(*map, FREE_ROWS);
	if (world->scarce && chance_percent(&world->chance, 20))
		return -1;
	for (no = 0; no < ROW_MAX; no++) {
		if (world->row[no].key.cookie)
			continue;
		memcpy(value, &no, sizeof(no));
		return 0;
	}
	return -1;
}

static long bpf_map_push_elem(const enum map *map, const void *value, __u64 flags)
{
	(void)map;
	(void)value;
	(void)flags;
	fail();
	return 0;
}

static struct record *record_new(void)
{
	if (world->queued == QUEUE_MAX || (world->scarce && chance_percent(&world->chance, 1))) {
		world->ring_lost++;
		return NULL;
	}
	memset(&world->queue[world->queued], 0xee, sizeof(world->queue[0]));
	return &world->queue[world->queued++];
}

static void *bpf_ringbuf_reserve(const enum map *map, __u64 size, __u64 flags)
{
	struct record *r;

	(void)flags;
	meanwhile();
	r = record_new();
	assert_int_equal(*map, RING);
	if (!r)
		return NULL;
	if (size == sizeof(struct abi_counting)) {
		r->type = ABI_COUNTING;
		return &r->counting;
	}
	assert_int_equal(size, sizeof(struct abi_forward));
	r->type = ABI_FORWARD;
	return &r->forward;
}

static void *bpf_sk_storage_get(const enum map *map, void *sk, void *value, __u64 flags)
{
	assert_int_equal(*map, WALKS);
	assert_ptr_equal(sk, &world->sk);
	assert_null(value);
	meanwhile();
	world->has_state |= flags == BPF_SK_STORAGE_GET_F_CREATE;
	return world->has_state ? &world->state : NULL;
}

static long bpf_skb_load_bytes(const struct __sk_buff *skb, __u32 off, void *to, __u32 n)
{
	assert_true(n > 0 && off >= HEADERS && off - HEADERS + n <= skb->len);
	meanwhile();
	memcpy(to, skb->data + (off - HEADERS), n);
	return 0;
}

/* --- behind the hook --------------------------------------------------------------------------- */

/* TCP takes what waits for it, or some of it; now and then it has no room. */
static void take(struct world *w, bool all)
{
	while (w->waiting && (all || chance_percent(&w->chance, 60))) {
		size_t from = w->backlog[0].from, to = w->backlog[0].to;

		memmove(w->backlog, w->backlog + 1, --w->waiting * sizeof(w->backlog[0]));
		if (w->rough && chance_percent(&w->chance, 1))
			continue;
		for (; from < to && from < w->rcv_nxt + WINDOW; from++)
			w->taken[from] = true;
		while (w->rcv_nxt < w->len && w->taken[w->rcv_nxt])
			w->rcv_nxt++;
	}
}

static void ship(const struct record *segment)
{
	struct record *r = record_new();

	if (r)
		*r = *segment;
}

/* The program has ended: what it ships is in the ring, and the segment is with TCP. */
static void leave(struct world *w, const struct late *l)
{
	if (l->shipped)
		ship(&l->record);
	if (w->dir == CAPTURE_OUT) {
		if (l->to > w->sent)
			w->sent = l->to;
		return;
	}
	if (w->waiting == 32)
		take(w, true);
	w->backlog[w->waiting].from = l->from;
	w->backlog[w->waiting++].to = l->to;
}

#endif
