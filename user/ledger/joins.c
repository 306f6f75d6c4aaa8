// SPDX-License-Identifier: BSD-2-Clause
/*
 * Entry, exit and drop of one packet find each other, whichever is told first: an inbound frame is
 * told when TCP has confirmed it, which may be after it has left again.
 */
#include "ledger/internal.h"

#include "latency.h"

#define SEARCH_NEAR	64u	/* equal packets that are looked at for the one that left */
#define CONTRADICTIONS	3	/* joins that take a claim from memory down */

static struct item *item_at(struct ledger *l, uint32_t i)
{
	return &l->items[i];
}

void ledger_conn_done(const struct item *e)
{
	struct conn *c = e->conn;

	if (!c->has_done || (int32_t)(e->no - c->done_no) > 0) {
		c->has_done = true;
		c->done_no = e->no;
	}
}

static void confirm(struct conn *c)
{
	if (c && c->claimed) {
		c->claimed = false;
		c->dirty = true;
	}
}

/*
 * Where packets may be counted those that are seen, mostly for a moment that is not like the others, do not
 * weigh more than those that are not.
 */
static bool is_timed(const struct item *e, const struct sight *s)
{
	return !(e->conn->may_count || s->conn->may_count) || latency_sampled(s->digest, s->len);
}

/*
 * The entry @i leaves: it is booked and gone. Where equal ones are inside it may be any of them: what is
 * before the oldest is before it.
 */
static void join_exit(struct ledger *l, uint32_t i, const struct sight *s)
{
	struct item e = *item_at(l, i);
	uint32_t oldest = e.pair->repeats ? ledger_item_same(l, e.pair, e.len, e.digest, SIDE_IN) : i;
	const struct item *o = item_at(l, oldest);
	/* A short one may be an equal one that was sent before: of what it passed nothing is known. */
	uint32_t before = o->queued && e.len >= NAMED_LEN && o->conn == e.conn ?
			  o->link[LINK_QUEUE].prev : 0;

	ledger_conn_done(o);
	confirm(e.conn);
	confirm(s->conn);
	ledger_book_left(l, e.pair, s, is_timed(&e, s) ? e.time_ns : 0);
	if (o->time_ns > s->conn->left_entered_ns[e.disco] && !e.pair->doubtful)
		s->conn->left_entered_ns[e.disco] = o->time_ns;
	/* What was counted may have left, and be told of later. */
	if (o->kind == ITEM_ENTRY && !e.pair->doubtful && !e.pair->counted)
		ledger_pass(l, before, e.conn, e.dst, s->conn, s->time_ns);
	ledger_item_del(l, i);
}

/* A packet of an unknown sender that was lost stays the unknown sender's: losses are told once. */
static void settle_sender(struct ledger *l, uint32_t i)
{
	struct item *e = item_at(l, i);
	struct pair *to;

	if (!e->pair->src->unknown || e->pair->src == l->nobody)
		return;
	to = ledger_pair_get(l, l->nobody, e->dst);
	ledger_pair_move_entry(l, e, to);
	ledger_item_repair(l, i, to);
}

void ledger_item_lose(struct ledger *l, uint32_t i, enum record_reason reason,
		      enum record_basis basis, const struct conn *out)
{
	const struct item *e = item_at(l, i);

	settle_sender(l, i);
	ledger_book_lost(l, e, reason, basis, out);
	ledger_gone_add(l, i, item_packets(e), item_bytes(e), reason, basis, out);
}

void ledger_item_lose_one(struct ledger *l, uint32_t i, enum record_reason reason,
			  enum record_basis basis, const struct conn *out)
{
	struct item e = *item_at(l, i);

	if (!e.run || e.len == 1) {
		ledger_item_lose(l, i, reason, basis, out);
		return;
	}
	e.digest /= e.len;
	e.len = 1;
	if (e.pair->src->unknown && e.pair->src != l->nobody) {
		struct pair *to = ledger_pair_get(l, l->nobody, e.dst);

		ledger_pair_move_entry(l, &e, to);
		e.pair = to;
	}
	ledger_book_lost(l, &e, reason, basis, out);
	ledger_gone_add(l, i, 1, e.digest, reason, basis, out);
}

void ledger_item_untrace(struct ledger *l, uint32_t i)
{
	const struct item *e = item_at(l, i);

	ledger_book_untraced(l, e->pair, item_packets(e));
	ledger_gone_add(l, i, item_packets(e), item_bytes(e), 0, BASIS_UNKNOWN, NULL);
}

const struct conn *ledger_drop_place(struct ledger *l, struct peer *dst,
				    enum record_reason reason)
{
	ledger_dormant_wake_peer(l, dst);
	if (reason == REASON_UNKNOWN_DEST || reason == REASON_UNKNOWN_DEST_ON_FWD ||
	    !dst->route.exit || dst->route.exit->kind == CONN_MESH_OUT)
		return NULL;
	return dst->route.exit;
}

void ledger_join_drop(struct ledger *l, uint32_t i, enum record_reason reason)
{
	struct item *e = item_at(l, i);

	ledger_conn_done(e);
	ledger_item_lose_one(l, i, reason, BASIS_RELAY, ledger_drop_place(l, e->dst, reason));
}

struct sight ledger_sight(const struct item *x)
{
	return (struct sight){
		.conn = x->conn,
		.time_ns = x->time_ns,
		.digest = x->digest,
		.run = x->run ? x->len : 0,
		.len = x->len,
		.bytes = x->digest,
		.hop = x->hop,
		.disco = x->disco,
		.wg = x->no,
	};
}

static void join_waiting(struct ledger *l, uint32_t entry, uint32_t wait)
{
	struct item w = *item_at(l, wait);
	struct sight s = ledger_sight(&w);

	if (w.kind == ITEM_EXIT)
		join_exit(l, entry, &s);
	else
		ledger_join_drop(l, entry, w.no);
	ledger_item_del(l, wait);
}

/*
 * May @e be the entry of @w, where equal packets came by both ways? What another node forwarded is not
 * forwarded again, and of what has no destination the relay says by which way it came.
 */
static bool may_fit(const struct item *e, const struct item *w)
{
	bool from_mesh = e->hop == HOP_MESH_IN;

	if (w->kind == ITEM_EXIT)
		return !from_mesh || w->hop != HOP_MESH_OUT;
	return !(from_mesh ? w->no == REASON_UNKNOWN_DEST : w->no == REASON_UNKNOWN_DEST_ON_FWD);
}

/*
 * Of equal packets in flight, the one that left, or was dropped: of those that entered before a gap of
 * their exit ended one may have left unseen, what entered later cannot; so it is one of these, which may
 * not be told yet.
 */
static uint32_t entry_of(struct ledger *l, const struct item *w)
{
	uint32_t i = ledger_item_same(l, w->pair, w->len, w->digest, SIDE_IN), n;

	if (!w->pair->repeats)
		return i && may_fit(item_at(l, i), w) ? i : 0;
	for (n = 0; i && n < SEARCH_NEAR; n++, i = item_at(l, i)->link[LINK_SAME].next) {
		const struct item *e = item_at(l, i);

		if (may_fit(e, w) && e->time_ns <= w->time_ns && !ledger_item_unclean(l, e))
			break;
	}
	return n < SEARCH_NEAR ? i : 0;
}

/* The other way round. */
static uint32_t waiting_of(struct ledger *l, const struct item *e)
{
	uint32_t w = ledger_item_same(l, e->pair, e->len, e->digest, SIDE_OUT), n;

	for (n = 0; w && n < SEARCH_NEAR; n++, w = item_at(l, w)->link[LINK_SAME].next) {
		if (may_fit(e, item_at(l, w)) &&
		    (!e->pair->repeats || item_at(l, w)->time_ns >= e->time_ns))
			return w;
	}
	return 0;
}

bool ledger_wait_retry(struct ledger *l, uint32_t i)
{
	struct item *w = item_at(l, i);
	uint32_t e;

	if (!w->pair)
		return false;
	e = w->run ? 0 : entry_of(l, w);
	if (e)
		join_waiting(l, e, i);
	return e || (w->pair->counted && ledger_run_retry(l, i, false));
}

/* All has been told that could be its entry: it is one of those that are inside. */
static bool join_any(struct ledger *l, uint32_t i)
{
	const struct item *w = item_at(l, i);
	uint32_t e = w->pair && !w->run ? ledger_item_same(l, w->pair, w->len, w->digest, SIDE_IN) : 0;

	if (e)
		join_waiting(l, e, i);
	return e;
}

void ledger_entry(struct ledger *l, struct peer *src, struct peer *dst, const struct sight *s)
{
	struct pair *p = ledger_pair_get(l, src, dst);
	struct item e = {
		.pair = p,
		.dst = dst,
		.conn = s->conn,
		.digest = s->digest,
		.time_ns = s->time_ns,
		.pos = s->pos,
		.no = s->conn->next_no++,
		.len = s->len,
		.kind = ITEM_ENTRY,
		.disco = s->disco,
		.hop = s->hop,
	};
	uint32_t i, w;

	e.late = e.time_ns < l->tick_before_ns;
	if (l->ghosts.head && ledger_ghost_entry(l, &e))
		return;
	p = e.pair;
	if (p->counted && ledger_run_ghosts(l, &e))
		return;
	ledger_book_entered(l, p, &e);
	w = waiting_of(l, &e);
	if (!w && e.time_ns + GHOST_NS < l->now_ns) {
		ledger_book_untraced(l, p, 1);
		return;
	}
	i = ledger_item_add(l, &e);
	p->repeats |= !item_at(l, i)->first;
	/* Making room may have settled what waited. */
	if (w && item_side(item_at(l, w)) == SIDE_OUT)
		join_waiting(l, i, w);
}

void ledger_exit(struct ledger *l, struct peer *src, struct peer *dst, const struct sight *s)
{
	struct pair *p = ledger_pair_get(l, src, dst);
	struct item x = {
		.pair = p,
		.dst = dst,
		.conn = s->conn,
		.digest = s->digest,
		.time_ns = s->time_ns,
		.no = s->wg,
		.len = s->len,
		.kind = ITEM_EXIT,
		.disco = s->disco,
		.hop = s->hop,
	};
	uint32_t i = entry_of(l, &x);

	if (i)
		join_exit(l, i, s);
	else if (!p->counted || !ledger_run_exit_one(l, p, s))
		ledger_item_add(l, &x);
	if (s->hop == HOP_CLIENT_OUT)
		ledger_conn_sent(s->conn, s, p);
}

static enum record_reason reason_of(const char *word)
{
	int r;

	for (r = REASON_UNKNOWN_DEST; word && r <= REASON_DUP_CLIENT; r++) {
		if (!strcmp(word, record_reason_name(r)))
			return r;
	}
	return REASON_OTHER;
}

/*
 * The key that the relay passes with the others is that of whose frame it was serving. Of a queue's head
 * that says nothing; of its tail, and of one whose receiver has gone, it is the packet's own sender,
 * unless another node forwarded it.
 */
static struct peer *drop_source(struct ledger *l, const struct capture_drop *d,
				enum record_reason reason)
{
	const struct conn *c;
	struct peer *src;

	if (!d->has_src && ((reason != REASON_QUEUE_TAIL && reason != REASON_GONE_DISCONNECTED) ||
			    key_is_zero(&d->src)))
		return NULL;
	src = ledger_peer_get(l, &d->src);
	ledger_dormant_wake_peer(l, src);
	for (c = src->conns; !d->has_src && c; c = c->next_of_peer) {
		if (c->kind == CONN_CLIENT)
			return src;
	}
	if (d->has_src)
		return src;
	ledger_peer_put(l, src);
	return NULL;
}

void ledger_drop(struct ledger *l, const struct capture_event *e)
{
	const struct capture_drop *d = &e->drop;
	enum record_reason reason = reason_of(d->reason);
	struct peer *dst = ledger_peer_get(l, &d->dst), *src = drop_source(l, d, reason);
	struct item x = {
		.dst = dst,
		.digest = d->digest,
		.time_ns = e->time_ns,
		.no = reason,
		.len = d->len,
		.kind = ITEM_DROP,
		.disco = d->disco,
	};
	uint32_t i = 0;

	if (d->len > DERP_MAX_PACKET)
		goto cleanup;
	if (src) {
		x.pair = ledger_pair_get(l, src, dst);
		i = entry_of(l, &x);
		if (!i && x.pair->counted)
			i = ledger_item_run(l, x.pair, d->disco, SIDE_IN);
	}
	if (i) {
		ledger_join_drop(l, i, reason);
		goto cleanup;
	}
	i = ledger_item_add(l, &x);
	if (!x.pair && !ledger_loose_passed(l, i))
		ledger_run_named(l, i);
cleanup:
	ledger_peer_put(l, src);
	ledger_peer_put(l, dst);
}

/* The one packet in flight that may be the one which waits as @w; 0: none. */
static uint32_t only_candidate(struct ledger *l, const struct item *w, bool claimed, bool *several)
{
	uint32_t i = ledger_item_digest(l, w->len, w->digest), n, found = 0;
	bool anywhere = w->kind == ITEM_EXIT && w->hop == HOP_CLIENT_OUT && w->conn &&
			(w->dst->unknown || (claimed && w->conn->claimed));

	for (n = 0; i && n < SEARCH_MAX; n++, i = item_at(l, i)->link[LINK_DIGEST].next) {
		struct item *it = item_at(l, i);

		if (item_side(it) != SIDE_IN || it->digest != w->digest || it->len != w->len ||
		    it->pair == l->other)
			continue;
		if (it->dst != w->dst && !anywhere)
			continue;
		if (it->pair->src != w->pair->src && it->hop == HOP_CLIENT_IN &&
		    !it->pair->src->unknown && !(claimed && it->conn->claimed))
			continue;
		if (it->pair->src != w->pair->src && it->hop != HOP_CLIENT_IN)
			continue;
		if (found && (item_at(l, found)->conn != it->conn || item_at(l, found)->dst != it->dst))
			*several = true;
		if (!found)
			found = i;
	}
	if (n == SEARCH_MAX)
		*several = true;
	return *several ? 0 : found;
}

/* A claim from memory is given up when several packets in a row speak against it. */
static bool contradict(struct ledger *l, struct conn *c, struct peer *by, uint64_t time_ns)
{
	if (c->contradicted_by != by)
		c->contradictions = 0;
	c->contradicted_by = by;
	if (++c->contradictions < CONTRADICTIONS)
		return false;
	ledger_conn_identify(l, c, &by->key, IDENTITY_JOIN, time_ns);
	return true;
}

/*
 * No entry of its pair was told: is there one whose sender, or an exit whose receiver, is not known
 * yet? Then they are known now. True: something was learnt, and all that waits was tried again.
 */
static bool learn(struct ledger *l, uint32_t wait)
{
	struct item w = *item_at(l, wait), e;
	bool several = false, learnt = false;
	struct peer *src, *dst;
	uint32_t i;

	if (!w.pair || w.pair == l->other || w.run)
		return false;
	i = only_candidate(l, &w, false, &several);
	if (several)
		l->ambiguous_ns = l->now_ns;
	if (!i && !several && w.len >= NAMED_LEN)
		i = only_candidate(l, &w, true, &several);
	if (!i)
		return false;
	e = *item_at(l, i);
	if (e.conn->shared || (w.conn && w.conn->shared)) {
		join_waiting(l, i, wait);
		return true;
	}
	/* Most likely the one; but it may be another's, and then neither name nor order follow from it. */
	if (w.len < NAMED_LEN) {
		ledger_item_unpass(l, i);
		join_waiting(l, i, wait);
		return true;
	}
	src = peer_ref(w.pair->src);
	dst = peer_ref(e.dst);
	if (e.pair->src != src && !src->unknown && !e.conn->shared)
		learnt = e.pair->src->unknown ?
			 (ledger_conn_identify(l, e.conn, &src->key, IDENTITY_JOIN, w.time_ns), true) :
			 contradict(l, e.conn, src, w.time_ns);
	if (w.dst != dst && !dst->unknown && w.conn && !w.conn->shared)
		learnt |= w.dst->unknown ?
			  (ledger_conn_identify(l, w.conn, &dst->key, IDENTITY_JOIN, w.time_ns), true) :
			  contradict(l, w.conn, dst, w.time_ns);
	ledger_peer_put(l, src);
	ledger_peer_put(l, dst);
	return learnt;
}

static void settle(struct ledger *l, uint32_t i)
{
	struct item *w = item_at(l, i);
	struct sight s = ledger_sight(w);

	ledger_book_first_seen(l, w->pair, w);
	if (w->kind == ITEM_EXIT)
		ledger_book_left(l, w->pair, &s, 0);
	else
		ledger_book_lost(l, w, w->no, BASIS_RELAY,
				 ledger_drop_place(l, w->dst, w->no));
	ledger_item_bury(l, i);
}

/* A drop whose sender nobody named is nobody's. */
static void adopt(struct ledger *l, uint32_t i)
{
	struct item x = *item_at(l, i);
	uint64_t more = x.pos;

	x.pair = ledger_pair_get(l, l->nobody, x.dst);
	x.pos = 0;
	peer_ref(x.dst);
	ledger_item_del(l, i);
	do {
		settle(l, ledger_item_add(l, &x));
	} while (more--);
	ledger_peer_put(l, x.dst);
}

void ledger_wait_settle(struct ledger *l, uint32_t i)
{
	if (join_any(l, i) || ledger_gone_settle(l, i))
		return;
	if (item_at(l, i)->pair)
		settle(l, i);
	else
		adopt(l, i);
}

/*
 * An entry is told at the latest by the tick behind it; the second tick is for what that tick's
 * answers brought to light.
 */
void ledger_waiting_tick(struct ledger *l, bool all)
{
	uint32_t i, next;

	l->loose_steps = 0;
	for (i = l->waiting.head; i; i = next) {
		struct item *w = item_at(l, i);

		next = w->link[LINK_ALL].next;
		if (w->pair && w->pair->counted && ledger_run_retry(l, i, false))
			continue;
		if (!all && !w->stamp && w->time_ns < l->now_ns) {
			w->stamp = l->tick;
			continue;
		}
		if (!all && (!w->stamp || w->stamp == l->tick))
			continue;
		if (!w->pair && (ledger_loose_join(l, i, all) || ledger_run_loose(l, i, all)))
			continue;
		if (!ledger_wait_retry(l, i) && !join_any(l, i) && !ledger_gone_settle(l, i) &&
		    learn(l, i)) {
			/* Any of them may be gone. */
			next = l->waiting.head;
			continue;
		}
		if (item_side(w) != SIDE_OUT || w->kind == ITEM_FREE)
			continue;
		if (w->pair && w->pair->counted && ledger_run_retry(l, i, true))
			continue;
		ledger_wait_settle(l, i);
	}
	ledger_ghosts_tick(l);
	ledger_gones_tick(l);
}
