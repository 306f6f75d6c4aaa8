// SPDX-License-Identifier: BSD-2-Clause
/*
 * Packets in flight, and sightings that wait for their entry. One array, allocated once and touched
 * only as far as it is needed; every item is on up to four lists of numbers:
 *
 *	LINK_ALL	all of its kind, in the order in which they were told
 *	LINK_QUEUE	entries: of one pair and class; passed ones: of the ledger
 *	LINK_SAME	same pair, length and digest, first in first out; its first one is in a bucket
 *	LINK_DIGEST	same bucket by length and digest alone, oldest first: for connections whose
 *			peer is not known (ghosts too), and for drops that name no source, which
 *			stand before all others; what is gone in buckets of its own
 *
 * Packets may all be equal: those that are the same cost one step in their bucket together.
 */
#include "ledger/internal.h"

#include <errno.h>
#include <stdlib.h>

#define FIRST_BUCKETS	1024u
#define GONE_LEN	(1u << 31)	/* beside the length, of what is gone */

static void list_add(struct ledger *l, struct list *list, int which, uint32_t i)
{
	struct item *it = &l->items[i];

	it->link[which].next = 0;
	it->link[which].prev = list->tail;
	if (list->tail)
		l->items[list->tail].link[which].next = i;
	else
		list->head = i;
	list->tail = i;
}

static void list_add_first(struct ledger *l, struct list *list, int which, uint32_t i)
{
	struct item *it = &l->items[i];

	it->link[which].prev = 0;
	it->link[which].next = list->head;
	if (list->head)
		l->items[list->head].link[which].prev = i;
	else
		list->tail = i;
	list->head = i;
}

static void list_del(struct ledger *l, struct list *list, int which, uint32_t i)
{
	struct item *it = &l->items[i];
	uint32_t next = it->link[which].next, prev = it->link[which].prev;

	if (next)
		l->items[next].link[which].prev = prev;
	else
		list->tail = prev;
	if (prev)
		l->items[prev].link[which].next = next;
	else
		list->head = next;
}

static struct list *all_list(struct ledger *l, enum item_kind kind)
{
	if (kind >= ITEM_GHOST)
		return kind == ITEM_GHOST ? &l->ghosts : &l->gones;
	return kind >= ITEM_EXIT ? &l->waiting : &l->entries;
}

static uint32_t same_bucket(const struct ledger *l, const struct pair *p, uint32_t len,
			    uint64_t digest, enum side side)
{
	return hash_words(&l->seed, digest, (uintptr_t)p, (uint64_t)len << 2 | side) &
	       l->bucket_mask;
}

/*
 * What names it among those of its pair, and among all. Runs of a pair and class are the same; among
 * all they go by their destination.
 */
static uint32_t name_len(const struct item *it)
{
	return it->run ? RUN_LEN : it->len;
}

static uint64_t same_name(const struct item *it)
{
	return it->run ? it->disco : it->digest;
}

static uint64_t run_name(const struct peer *dst)
{
	return (uintptr_t)dst;
}

static struct list *digest_bucket(const struct ledger *l, uint32_t len, uint64_t digest)
{
	return &l->by_digest[hash_words(&l->seed, digest, len, 0) & l->bucket_mask];
}

/* The first of those that are the same; @at: what points to it. */
static uint32_t same_first(const struct ledger *l, const struct pair *p, uint32_t len,
			   uint64_t digest, enum side side, uint32_t **at)
{
	uint32_t *from = &l->same[same_bucket(l, p, len, digest, side)];

	for (; *from; from = &l->items[*from].bucket_next) {
		const struct item *it = &l->items[*from];

		if (same_name(it) == digest && it->pair == p && name_len(it) == len &&
		    item_side(it) == side)
			break;
	}
	if (at)
		*at = from;
	return *from;
}

uint32_t ledger_item_same(const struct ledger *l, const struct pair *p, uint32_t len,
			  uint64_t digest, enum side side)
{
	return same_first(l, p, len, digest, side, NULL);
}

uint32_t ledger_item_run(const struct ledger *l, const struct pair *p, bool disco, enum side side)
{
	return ledger_item_same(l, p, RUN_LEN, disco, side);
}

uint32_t ledger_item_digest(const struct ledger *l, uint32_t len, uint64_t digest)
{
	return digest_bucket(l, len, digest)->head;
}

uint32_t ledger_item_digest_last(const struct ledger *l, uint32_t len, uint64_t digest)
{
	return digest_bucket(l, len, digest)->tail;
}

uint32_t ledger_item_runs_to(const struct ledger *l, const struct peer *dst)
{
	return ledger_item_digest(l, RUN_LEN, run_name(dst));
}

uint32_t ledger_item_gone(const struct ledger *l, uint32_t len, uint64_t digest)
{
	return digest_bucket(l, len | GONE_LEN, digest)->head;
}

uint32_t ledger_item_gone_to(const struct ledger *l, const struct peer *dst)
{
	return ledger_item_gone(l, RUN_LEN, run_name(dst));
}

static struct list *bucket_of(const struct ledger *l, const struct item *it)
{
	uint32_t len = name_len(it) | (it->kind == ITEM_GONE ? GONE_LEN : 0);

	return digest_bucket(l, len, it->run ? run_name(it->dst) : it->digest);
}

/* The first one's prev is the last one, so that both ends are at hand. */
static void same_add(struct ledger *l, uint32_t i)
{
	struct item *it = &l->items[i], *first;
	uint32_t *at, f;

	f = same_first(l, it->pair, name_len(it), same_name(it), item_side(it), &at);
	it->same = true;
	it->link[LINK_SAME].next = 0;
	if (!f) {
		at = &l->same[same_bucket(l, it->pair, name_len(it), same_name(it),
					  item_side(it))];
		it->first = true;
		it->link[LINK_SAME].prev = i;
		it->bucket_next = *at;
		*at = i;
		return;
	}
	first = &l->items[f];
	it->first = false;
	it->link[LINK_SAME].prev = first->link[LINK_SAME].prev;
	l->items[first->link[LINK_SAME].prev].link[LINK_SAME].next = i;
	first->link[LINK_SAME].prev = i;
}

static void same_del(struct ledger *l, uint32_t i)
{
	struct item *it = &l->items[i], *next;
	uint32_t *at, n = it->link[LINK_SAME].next, f;

	if (!it->same)
		return;
	it->same = false;
	f = same_first(l, it->pair, name_len(it), same_name(it), item_side(it), &at);
	if (!it->first) {
		l->items[it->link[LINK_SAME].prev].link[LINK_SAME].next = n;
		l->items[n ? n : f].link[LINK_SAME].prev = it->link[LINK_SAME].prev;
		return;
	}
	if (!n) {
		*at = it->bucket_next;
		return;
	}
	next = &l->items[n];
	next->first = true;
	next->bucket_next = it->bucket_next;
	next->link[LINK_SAME].prev = it->link[LINK_SAME].prev;
	*at = n;
}

static bool in_digests(const struct item *it)
{
	return item_side(it) != SIDE_OUT || (it->kind == ITEM_DROP && !it->pair);
}

static void index_add(struct ledger *l, uint32_t i)
{
	struct item *it = &l->items[i];

	if (it->pair)
		same_add(l, i);
	if (it->kind == ITEM_DROP && !it->pair)
		list_add_first(l, bucket_of(l, it), LINK_DIGEST, i);
	else if (in_digests(it))
		list_add(l, bucket_of(l, it), LINK_DIGEST, i);
}

static void index_del(struct ledger *l, uint32_t i)
{
	struct item *it = &l->items[i];

	same_del(l, i);
	if (in_digests(it))
		list_del(l, bucket_of(l, it), LINK_DIGEST, i);
}

static void index_all(struct ledger *l, const struct list *list)
{
	uint32_t i;

	for (i = list->head; i; i = l->items[i].link[LINK_ALL].next) {
		l->items[i].same = false;
		index_add(l, i);
	}
}

/* Without memory the buckets get longer, no more. */
static int grow_buckets(struct ledger *l, uint32_t buckets)
{
	uint32_t *same = calloc(buckets, sizeof(*same));
	struct list *by_digest = calloc(buckets, sizeof(*by_digest));

	if (!same || !by_digest) {
		free(same);
		free(by_digest);
		return -ENOMEM;
	}
	free(l->same);
	free(l->by_digest);
	l->same = same;
	l->by_digest = by_digest;
	l->bucket_mask = buckets - 1;
	index_all(l, &l->entries);
	index_all(l, &l->waiting);
	index_all(l, &l->ghosts);
	index_all(l, &l->gones);
	return 0;
}

int ledger_items_init(struct ledger *l)
{
	l->item_max = l->limits.max_in_flight;
	l->item_used = 1;	/* number 0 is none */
	l->items = calloc((size_t)l->item_max + 1, sizeof(*l->items));
	return l->items ? grow_buckets(l, FIRST_BUCKETS) : -ENOMEM;
}

static void make_room(struct ledger *l)
{
	if (l->gones.head)
		ledger_item_del(l, l->gones.head);
	else if (l->ghosts.head)
		ledger_item_del(l, l->ghosts.head);
	else if (l->entries.head)
		ledger_item_untrace(l, l->entries.head);
	else
		ledger_wait_settle(l, l->waiting.head);
}

bool ledger_item_room(const struct ledger *l)
{
	return l->item_free || l->item_used <= l->item_max;
}

static uint32_t item_take(struct ledger *l)
{
	uint32_t i;

	while (!ledger_item_room(l))
		make_room(l);
	if (l->item_free) {
		i = l->item_free;
		l->item_free = l->items[i].link[LINK_ALL].next;
	} else {
		i = l->item_used++;
	}
	l->item_count++;
	return i;
}

static void queue_add(struct ledger *l, uint32_t i)
{
	struct item *it = &l->items[i];

	list_add(l, &it->pair->queue[it->disco], LINK_QUEUE, i);
	it->queued = true;
}

static void queue_del(struct ledger *l, uint32_t i)
{
	struct item *it = &l->items[i];

	if (it->kind == ITEM_PASSED)
		list_del(l, &l->passed, LINK_QUEUE, i);
	else if (it->queued)
		list_del(l, &it->pair->queue[it->disco], LINK_QUEUE, i);
	it->queued = false;
}

uint32_t ledger_item_add(struct ledger *l, const struct item *from)
{
	uint32_t i;
	struct item *it;

	if (l->item_count > l->bucket_mask)
		grow_buckets(l, (l->bucket_mask + 1) * 4);
	i = item_take(l);
	it = &l->items[i];
	*it = *from;
	it->same = it->first = it->queued = false;
	peer_ref(it->dst);
	if (it->conn)
		it->conn->items++;
	if (it->pair)
		it->pair->refs++;
	list_add(l, all_list(l, it->kind), LINK_ALL, i);
	index_add(l, i);
	if (it->kind == ITEM_ENTRY) {
		queue_add(l, i);
		it->pair->in_flight += item_packets(it);
	}
	if (it->kind == ITEM_DROP && !it->pair)
		l->loose++;
	l->gone_count += it->kind == ITEM_GONE;
	return i;
}

void ledger_item_del(struct ledger *l, uint32_t i)
{
	struct item *it = &l->items[i];

	index_del(l, i);
	list_del(l, all_list(l, it->kind), LINK_ALL, i);
	if (item_side(it) == SIDE_IN) {
		queue_del(l, i);
		it->pair->in_flight -= item_packets(it);
	}
	if (it->kind == ITEM_DROP && !it->pair)
		l->loose--;
	l->gone_count -= it->kind == ITEM_GONE;
	if (it->conn)
		it->conn->items--;
	if (it->pair)
		ledger_pair_put(it->pair);
	ledger_peer_put(l, it->dst);
	it->kind = ITEM_FREE;
	it->link[LINK_ALL].next = l->item_free;
	l->item_free = i;
	l->item_count--;
}

void ledger_item_shrink(struct ledger *l, uint32_t i, uint32_t packets, uint64_t bytes)
{
	struct item *it = &l->items[i];

	if (packets >= item_packets(it)) {
		ledger_item_del(l, i);
		return;
	}
	it->len -= packets;
	it->digest -= bytes < it->digest ? bytes : it->digest;
	if (item_side(it) == SIDE_IN)
		it->pair->in_flight -= packets;
}

void ledger_item_bury(struct ledger *l, uint32_t i)
{
	struct item *it = &l->items[i];

	if (!it->pair) {
		ledger_item_del(l, i);
		return;
	}
	index_del(l, i);
	list_del(l, &l->waiting, LINK_ALL, i);
	it->kind = ITEM_GHOST;
	it->stamp = ledger_ms(l, l->now_ns);
	list_add(l, &l->ghosts, LINK_ALL, i);
	index_add(l, i);
}

void ledger_item_go(struct ledger *l, uint32_t i)
{
	struct item *it = &l->items[i];

	index_del(l, i);
	queue_del(l, i);
	list_del(l, &l->entries, LINK_ALL, i);
	it->pair->in_flight -= item_packets(it);
	it->kind = ITEM_GONE;
	it->stamp = ledger_ms(l, l->now_ns);
	list_add(l, &l->gones, LINK_ALL, i);
	index_add(l, i);
	l->gone_count++;
}

void ledger_item_pass(struct ledger *l, uint32_t i, uint64_t time_ns, bool unclean)
{
	struct item *it = &l->items[i];

	queue_del(l, i);
	it->kind = ITEM_PASSED;
	it->pos = time_ns;
	it->stamp = 0;
	it->unclean = unclean;
	list_add(l, &l->passed, LINK_QUEUE, i);
}

void ledger_item_unpass(struct ledger *l, uint32_t i)
{
	struct item *it = &l->items[i];

	queue_del(l, i);
	it->kind = ITEM_ENTRY;
	it->handled = true;	/* a later one left, at pos */
}

void ledger_item_repair(struct ledger *l, uint32_t i, struct pair *to)
{
	struct item *it = &l->items[i];
	bool queued = it->queued;

	index_del(l, i);
	if (queued)
		queue_del(l, i);
	if (item_side(it) == SIDE_IN) {
		it->pair->in_flight -= item_packets(it);
		to->in_flight += item_packets(it);
	}
	ledger_pair_put(it->pair);
	to->refs++;
	it->pair = to;
	if (queued)
		queue_add(l, i);
	index_add(l, i);
}
