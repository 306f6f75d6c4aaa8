// SPDX-License-Identifier: BSD-2-Clause
/*
 * Drops that do not say whose packet it was: of a queue's head the relay names the sender whose packet
 * came, not the one whose packet went. The packet's own bytes name it; where several senders' equal
 * packets are inside, their number tells: of N that are inside and k drops, at least k - (N - n) are of
 * the sender that has n. What that leaves open waits until others have left, or can be held by nothing
 * any more, or is untraced in the end. What was taken for lost meanwhile may be what was dropped, and
 * counts as inside. Drops of the same are one item, so that there are few.
 */
#include "ledger/internal.h"

#define WALK_MAX	4096u	/* packets in flight that are looked at for one drop */
#define RANK_MAX	4096u
#define STEPS_MAX	(1u << 20) /* the same for all that wait, per tick */

static struct item *item_at(struct ledger *l, uint32_t i)
{
	return &l->items[i];
}

static bool is_loose(const struct item *it)
{
	return it->kind == ITEM_DROP && !it->pair;
}

static bool is_named_by(const struct item *it, const struct item *w)
{
	return it->digest == w->digest && it->len == w->len && it->dst == w->dst && !it->run;
}

static bool speaks_of(const struct item *w, const struct item *it)
{
	return item_side(it) == SIDE_IN && is_named_by(it, w);
}

static uint32_t next_of(struct ledger *l, uint32_t i)
{
	return item_at(l, i)->link[LINK_DIGEST].next;
}

bool ledger_loose_done(struct ledger *l, uint32_t wait)
{
	struct item *w = item_at(l, wait);

	if (w->pos) {
		w->pos--;
		return false;
	}
	ledger_item_del(l, wait);
	return true;
}

bool ledger_loose_passed(struct ledger *l, uint32_t wait)
{
	const struct item *w = item_at(l, wait);
	uint32_t i = ledger_item_digest(l, w->len, w->digest), n;

	for (n = 0; i && n < SEARCH_MAX; i = next_of(l, i)) {
		const struct item *it = item_at(l, i);

		n += !is_loose(it);
		if (!speaks_of(w, it) || it->kind != ITEM_PASSED || it->pos < w->time_ns)
			continue;
		ledger_join_drop(l, i, w->no);
		ledger_item_del(l, wait);
		return true;
	}
	return false;
}

/* The drops before it of the same: it is one of them from here on. True: it is gone. */
static bool merge(struct ledger *l, uint32_t wait)
{
	struct item *w = item_at(l, wait), *it;
	uint32_t i = ledger_item_digest(l, w->len, w->digest);

	for (; i && is_loose(it = item_at(l, i)); i = next_of(l, i)) {
		if (!it->handled || !is_named_by(it, w) || it->no != w->no)
			continue;
		it->pos++;
		ledger_item_del(l, wait);
		return true;
	}
	w->handled = true;
	return false;
}

/* What one sender has inside of those that are the same. */
static uint32_t same_count(struct ledger *l, uint32_t first)
{
	uint32_t n;

	for (n = 0; first; first = item_at(l, first)->link[LINK_SAME].next)
		n++;
	return n;
}

struct inside {
	uint32_t total, walked;
	uint32_t most, most_first; /* of one sender, and its oldest */
	bool cut;		/* there are more */
};

/* What was taken for lost, or given up, may be what was dropped. */
static void count_gone(struct ledger *l, const struct item *w, struct inside *in, uint32_t max)
{
	uint32_t i = l->gones.head ? ledger_item_gone(l, w->len, w->digest) : 0;

	for (; i && in->walked < max; i = next_of(l, i), in->walked++)
		in->total += item_at(l, i)->kind == ITEM_GONE && is_named_by(item_at(l, i), w);
	in->cut |= i;
}

static struct inside count_inside(struct ledger *l, const struct item *w, uint32_t max)
{
	struct inside in = { 0 };
	uint32_t i = ledger_item_digest(l, w->len, w->digest), n;

	for (; i; i = next_of(l, i)) {
		const struct item *it = item_at(l, i);

		if (in.walked++ >= max) {
			in.cut = true;
			break;
		}
		if (!speaks_of(w, it))
			continue;
		in.total++;
		if (!it->first)
			continue;
		n = same_count(l, i) +
		    same_count(l, ledger_item_same(l, it->pair, it->len, it->digest, SIDE_GONE));
		if (n > in.most) {
			in.most = n;
			in.most_first = i;
		}
	}
	if (in.total)
		count_gone(l, w, &in, max);
	return in;
}

/*
 * One of those that entered since its exit is read without a gap, where there is one: of the others some
 * may have left unseen. It may have entered after the drop, where an older one was taken for what left
 * since then.
 */
static uint32_t pick(struct ledger *l, uint32_t first)
{
	uint32_t i, n;

	for (i = first, n = 0; i && n < RANK_MAX; i = item_at(l, i)->link[LINK_SAME].next, n++) {
		if (!ledger_item_unclean(l, item_at(l, i)))
			return i;
	}
	return first;
}

/* Is it one of the @k oldest of its sender's? */
static bool is_among(struct ledger *l, uint32_t i, uint64_t k)
{
	uint32_t n;

	if (k > RANK_MAX)
		return true;
	for (n = 0; n < k && !item_at(l, i)->first; n++)
		i = item_at(l, i)->link[LINK_SAME].prev;
	return n < k;
}

/* Which of them were dropped is never known: no sender has more to fear than there are drops. */
static void untrace_inside(struct ledger *l, uint32_t wait)
{
	const struct item *w = item_at(l, wait);
	const uint64_t k = w->pos + 1;
	uint32_t i, prev;

	for (i = ledger_item_digest_last(l, w->len, w->digest); i; i = prev) {
		prev = item_at(l, i)->link[LINK_DIGEST].prev;
		if (speaks_of(w, item_at(l, i)) && is_among(l, i, k))
			ledger_item_untrace(l, i);
	}
	ledger_item_del(l, wait);
}

bool ledger_loose_join(struct ledger *l, uint32_t wait, bool all)
{
	struct item *w = item_at(l, wait);
	struct inside in;
	struct pair *p;
	uint64_t slack, n;
	uint32_t i;

	if (!w->handled && merge(l, wait))
		return true;
	for (;;) {
		in = count_inside(l, w, all ? UINT32_MAX : WALK_MAX);
		l->loose_steps += in.walked;
		if (!in.total && !in.cut)
			return false;
		if (in.cut || (l->loose_steps > STEPS_MAX && !all))
			return true;
		slack = in.total > w->pos + 1 ? in.total - (w->pos + 1) : 0;
		if (in.most <= slack)
			break;
		/* Which of its equal packets left is not known either: their order proves nothing. */
		if (in.total > 1)
			item_at(l, in.most_first)->pair->doubtful = true;
		p = item_at(l, in.most_first)->pair;
		for (n = in.most - slack; n; n--) {
			i = ledger_item_same(l, p, w->len, w->digest, SIDE_IN);
			if (!i)
				break;
			ledger_join_drop(l, pick(l, i), w->no);
			if (ledger_loose_done(l, wait))
				return true;
		}
	}
	/* A process that has ended holds none of them. */
	if (all && !l->down)
		untrace_inside(l, wait);
	return true;
}

/* The drop that speaks of @e, or may; 0: none. */
static uint32_t drop_of(struct ledger *l, const struct item *e)
{
	uint32_t w = l->loose ? ledger_item_digest(l, e->len, e->digest) : 0;

	for (; w && is_loose(item_at(l, w)); w = next_of(l, w)) {
		if (speaks_of(item_at(l, w), e))
			return w;
	}
	return 0;
}

bool ledger_item_dropped(struct ledger *l, uint32_t i, bool unclean)
{
	const struct item *e = item_at(l, i);
	uint32_t w;

	if (e->run)
		return ledger_run_dropped(l, i);
	w = unclean ? 0 : drop_of(l, e);
	if (!w)
		return false;
	ledger_join_drop(l, i, item_at(l, w)->no);
	ledger_loose_done(l, w);
	return true;
}
