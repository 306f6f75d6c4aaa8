// SPDX-License-Identifier: BSD-2-Clause
#include "ledger/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "ledger/internal.h"

struct sums {
	struct record_books books;
	uint64_t frames[HOP_COUNT], first_seen, queued;
};

static bool law(const struct record_books *b)
{
	return b->entered == b->left + b->in_flight + b->lost + b->untraced;
}

static bool say(char *err, const char *what, const struct record_books *b)
{
	snprintf(err, 256, "%s: entered %" PRIu64 " left %" PRIu64 " in flight %" PRIu64
		 " lost %" PRIu64 " untraced %" PRIu64, what, b->entered, b->left, b->in_flight,
		 b->lost, b->untraced);
	return false;
}

static uint64_t walk_queue(const struct ledger *l, const struct list *q)
{
	uint64_t n = 0;
	uint32_t i;

	for (i = q->head; i; i = l->items[i].link[LINK_QUEUE].next)
		n += item_packets(&l->items[i]);
	return n;
}

static bool check_pair(const struct ledger *l, const struct pair *p, struct sums *s, char *err)
{
	struct record_books b = {
		.entered = p->entered,
		.left = p->left,
		.lost = p->lost,
		.untraced = p->untraced,
		.in_flight = p->count_id == l->count_id ? p->walked : 0,
	};
	int h;

	if (!law(&b))
		return say(err, "pair", &b);
	if (b.in_flight != p->in_flight)
		return say(err, "pair's count of its packets", &b);
	if (p->entered != p->frames[HOP_CLIENT_IN] + p->frames[HOP_MESH_IN] + p->first_seen)
		return say(err, "pair's entries by hop", &b);
	if (p->left != p->frames[HOP_CLIENT_OUT] + p->frames[HOP_MESH_OUT])
		return say(err, "pair's exits by hop", &b);
	s->books.entered += b.entered;
	s->books.left += b.left;
	s->books.lost += b.lost;
	s->books.untraced += b.untraced;
	s->books.in_flight += b.in_flight;
	for (h = 0; h < HOP_COUNT; h++)
		s->frames[h] += p->frames[h];
	s->first_seen += p->first_seen;
	s->queued += walk_queue(l, &p->queue[CLASS_DATA]) + walk_queue(l, &p->queue[CLASS_DISCO]);
	return true;
}

static bool check_table(const struct ledger *l, const struct chains *t, struct sums *s, char *err)
{
	struct chain *c;

	for (c = chains_first(t); c; c = chains_next(t, c)) {
		if (!check_pair(l, ITEM_OF(c, struct pair, chain), s, err))
			return false;
	}
	return true;
}

struct check {
	struct sums *s;
	char *err;
};

static int check_resting(void *ctx, uint32_t no, const struct record_pair *p)
{
	const struct check *c = ctx;
	const struct record_books *b = &p->books;
	int h;

	if (!no || !law(b) || b->in_flight ||
	    b->entered != p->frames[HOP_CLIENT_IN] + p->frames[HOP_MESH_IN] + p->first_seen ||
	    b->left != p->frames[HOP_CLIENT_OUT] + p->frames[HOP_MESH_OUT])
		return say(c->err, "pair at rest", b) - 1;
	c->s->books.entered += b->entered;
	c->s->books.left += b->left;
	c->s->books.lost += b->lost;
	c->s->books.untraced += b->untraced;
	for (h = 0; h < HOP_COUNT; h++)
		c->s->frames[h] += p->frames[h];
	c->s->first_seen += p->first_seen;
	return 0;
}

static uint64_t count_losses(const struct ledger *l)
{
	const struct loss *loss;
	uint64_t n = 0;

	for (loss = l->loss_list; loss; loss = loss->next)
		n += loss->rec.count;
	return n;
}

bool ledger_check(struct ledger *l, char err[static 256])
{
	struct record_books b = l->books;
	struct sums s = { 0 };
	uint32_t i, passed = 0, loose = 0, items = 0, gone = 0;

	b.in_flight = ledger_count_in_flight(l);
	if (!law(&b))
		return say(err, "node", &b);
	if (!check_table(l, &l->pairs, &s, err) || !check_table(l, &l->unknown_pairs, &s, err) ||
	    ledger_resting_each(l, &(struct check){ &s, err }, check_resting))
		return false;
	if (memcmp(&s.books, &b, sizeof(b)))
		return say(err, "node, against the sum of its pairs", &b);
	for (i = l->entries.head; i; i = l->items[i].link[LINK_ALL].next, items++) {
		uint32_t packets = item_packets(&l->items[i]);

		if (l->items[i].kind == ITEM_PASSED)
			passed += packets;
		else if (!l->items[i].queued)
			loose += packets;
	}
	if (s.queued + passed + loose != b.in_flight || walk_queue(l, &l->passed) != passed)
		return say(err, "queues, against what is in flight", &b);
	for (i = l->waiting.head; i; i = l->items[i].link[LINK_ALL].next)
		items++;
	for (i = l->ghosts.head; i; i = l->items[i].link[LINK_ALL].next)
		items++;
	for (i = l->gones.head; i; i = l->items[i].link[LINK_ALL].next, items++)
		gone++;
	if (items != l->item_count || items > l->item_max || gone != l->gone_count)
		return say(err, "items", &b);
	if (count_losses(l) > b.lost)
		return say(err, "losses to be told", &b);
	return true;
}
