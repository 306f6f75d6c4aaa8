// SPDX-License-Identifier: BSD-2-Clause
/*
 * What became of packets whose exit and drop were not seen: a later one of their queue left; nothing
 * can hold them any more; or the tracer could not see. Conclusions wait for two ticks, so that a word
 * of the relay's that is on its way comes first.
 */
#include "ledger/internal.h"

#define CLOSE_LATE_NS	(300 * MSEC_NS)	/* so long may it take until a connection's end is told */
#define PASS_STEPS	1024u	/* packets of other connections in between */

/* Since when @out has been the one exit, and no change of it can have been missed. */
static uint64_t single_since(const struct ledger *l, const struct route *r)
{
	uint64_t since = r->from_ns;

	if (r->exit && r->exit->kind == CONN_MESH_OUT && l->mesh_changed_ns > since)
		since = l->mesh_changed_ns;
	return since;
}

void ledger_pass(struct ledger *l, uint32_t from, const struct conn *conn, struct peer *dst,
		 struct conn *out, uint64_t time_ns)
{
	uint32_t i, prev, n = 0;
	uint64_t since;

	ledger_dormant_wake_peer(l, dst);
	if (!from || dst->route.exit != out || !out)
		return;
	since = single_since(l, &dst->route);
	for (i = from; i && n < PASS_STEPS; i = prev, n++) {
		struct item *e = &l->items[i];

		prev = e->link[LINK_QUEUE].prev;
		if (e->time_ns < since)
			break;
		if (e->conn == conn && e->dst == dst)
			ledger_item_pass(l, i, time_ns, e->time_ns < ledger_conn_clean_ns(out));
	}
}

/* The exit it was passed at, if that was the only one all the while as far as is known by now. */
static const struct conn *passed_at(const struct ledger *l, const struct item *e)
{
	const struct peer *d = e->dst;
	const struct peer_past *past = d->past;

	if (d->route.exit && single_since(l, &d->route) <= e->time_ns)
		return d->route.exit;
	if (past && past->route.exit && single_since(l, &past->route) <= e->time_ns &&
	    past->to_ns >= e->pos)
		return past->route.exit;
	return NULL;
}

/*
 * It was told so late that what left in its time is in the books already, under its sender's name,
 * which is not known: it may be one of those.
 */
static bool is_nameless(const struct item *e)
{
	return e->late && e->pair->src->unknown;
}

void ledger_passed_tick(struct ledger *l, bool all)
{
	uint32_t i, next;

	for (i = l->passed.head; i; i = next) {
		struct item *e = &l->items[i];
		const struct conn *out;

		next = e->link[LINK_QUEUE].next;
		if (!all && !e->stamp && e->pos < l->now_ns) {
			e->stamp = l->tick;
			continue;
		}
		if (!all && (!e->stamp || e->stamp == l->tick))
			continue;
		ledger_dormant_wake_peer(l, e->dst);
		out = passed_at(l, e);
		if (!out)
			ledger_item_unpass(l, i);
		else if (ledger_item_dropped(l, i, e->unclean))
			continue;
		else if (is_nameless(e) && !all && e->time_ns + LATE_NS >= l->now_ns)
			continue;
		else if (e->unclean || is_nameless(e))
			ledger_item_untrace(l, i);
		else
			ledger_item_lose(l, i, REASON_QUEUE, BASIS_INFERRED, out);
	}
}

/* What the exits that could carry a packet say of it. */
struct odds {
	bool busy;		/* one may still hold it */
	bool unclean;		/* one may have sent it unseen */
	bool late;		/* one may yet be understood */
	bool here;		/* a connection of its destination was there all the while */
	struct conn *open, *closed;
};

/* A packet of its class that entered after @e was handled has left here: @e was before it. */
static bool overtaken(const struct item *e, const struct conn *c)
{
	return e->handled && c->left_entered_ns[e->disco] > e->pos && e->dst->route.exit == c &&
	       e->dst->route.from_ns <= e->time_ns && c->kind != CONN_MESH_OUT;
}

static void weigh(const struct ledger *l, const struct item *e, struct conn *c, struct odds *o)
{
	/* One that came later can hold it only if the relay was slow to handle it. */
	bool before = c->since_ns <= e->time_ns;

	if ((c->closed_ns && c->closed_ns < e->time_ns) || (c->left_ns && c->left_ns < e->time_ns))
		return;
	if (!before && e->time_ns + LATE_NS < l->now_ns)
		return;
	if (e->time_ns < ledger_conn_clean_ns(c)) {
		o->unclean = true;
		o->late |= c->out_late && !c->misread && !c->closed_ns;
	}
	if (c->closed_ns) {
		o->busy |= c->closed_ns + SETTLE_NS > l->now_ns;
		if (before)
			o->closed = c;
		return;
	}
	if (!overtaken(e, c))
		o->busy |= c->quiet_ns == NEVER || c->quiet_ns + SETTLE_NS > l->now_ns;
	if (before)
		o->open = c;
}

static void weigh_all(struct ledger *l, const struct item *e, struct odds *o)
{
	struct presence *pr;
	struct conn *c;

	ledger_dormant_wake_peer(l, e->dst);
	o->unclean = e->dst->past && e->time_ns < e->dst->past->unclean_ns;
	for (c = e->dst->conns; c; c = c->next_of_peer)
		weigh(l, e, c, o);
	o->here = o->open;
	if (o->here || e->hop == HOP_MESH_IN)
		return;
	for (pr = e->dst->presences; pr; pr = pr->next_of_peer) {
		if (pr->present || pr->gone_ns >= e->time_ns)
			weigh(l, e, pr->conn, o);
	}
}

/* Its destination may be on a connection whose peer is not known, or behind any node. */
static void weigh_anywhere(const struct ledger *l, const struct item *e, struct odds *o)
{
	const struct anywhere *any = &l->anywhere[e->hop == HOP_MESH_IN ? ANYWHERE_HERE : ANYWHERE_ALL];

	if (e->time_ns < any->clean_ns) {
		o->unclean = true;
		o->late |= any->late;
	}
	o->busy |= any->busy;
}

bool ledger_item_unclean(struct ledger *l, const struct item *e)
{
	struct odds o = { 0 };

	weigh_all(l, e, &o);
	if (!o.here)
		weigh_anywhere(l, e, &o);
	return o.unclean || is_nameless(e);
}

static bool was_read(const struct item *e)
{
	const struct conn *c = e->conn;

	return !c->has_read || c->shared || c->in_read >= e->pos;
}

/*
 * The relay reads ahead: what was read may stand in its buffer while the connection's reader waits
 * for a mesh peer to take something. It is through when a later packet of the connection is known to
 * be, or when nothing is left to read and no mesh connection is stuck.
 */
static bool was_handled(const struct ledger *l, const struct item *e)
{
	const struct conn *c = e->conn;

	if (c->closed_ns || !c->has_read || c->shared)
		return true;
	if (c->has_done && (int32_t)(c->done_no - e->no) > 0)
		return true;
	return c->in_read >= c->in_arrived && (e->hop == HOP_MESH_IN || !l->mesh_blocked);
}

/* The exit ended: what the kernel still held, what stood in the relay's writer, and the rest. */
static enum record_reason end_reason(struct conn *c, const struct item *e)
{
	uint32_t size = DERP_HEADER_LEN + DERP_KEY_LEN + item_bytes(e) / item_packets(e);

	if (c->kind == CONN_MESH_OUT)
		size += DERP_KEY_LEN;
	if (c->notsent_budget >= size) {
		c->notsent_budget -= size;
		return REASON_UNSENT;
	}
	c->notsent_budget = 0;
	if (c->kind == CONN_MESH_OUT)
		return REASON_UNFLUSHED;
	if (c->buffer_budget >= size) {
		c->buffer_budget -= size;
		return REASON_UNFLUSHED;
	}
	/* A packet larger than the buffer goes through it alone. */
	size = c->buffer_budget == LEDGER_BUFFER_BYTES ? REASON_UNFLUSHED : REASON_GONE_DISCONNECTED;
	c->buffer_budget = 0;
	return size;
}

/*
 * Its connection was reset before anything showed that the relay was through with it: the relay, whose
 * own read or write failed by that, drops unhandled what it had read ahead, and no counter of it says so.
 */
static bool cut_off(const struct item *e)
{
	const struct conn *c = e->conn;

	return !c->shared && c->closed_ns && e->pos + CLOSE_LATE_NS >= c->closed_ns &&
	       (c->how == CAPTURE_CLOSED_RST_IN || c->how == CAPTURE_CLOSED_RST_OUT) &&
	       !(c->has_done && (int32_t)(c->done_no - e->no) > 0);
}

/* Packet by packet: each was somewhere else. */
static void lose_inside(struct ledger *l, uint32_t i, struct conn *out)
{
	struct item *e = &l->items[i];
	uint32_t n;

	for (n = item_packets(e); n; n--)
		ledger_item_lose_one(l, i, end_reason(out, e), BASIS_INFERRED, out);
}

static void lose(struct ledger *l, uint32_t i, const struct odds *o)
{
	struct item *e = &l->items[i];

	if (cut_off(e))
		ledger_item_lose(l, i, REASON_UNREAD, BASIS_INFERRED, NULL);
	else if (o->open && o->open->kind != CONN_MESH_OUT)
		ledger_item_lose(l, i, REASON_QUEUE, BASIS_INFERRED, o->open);
	else if (o->closed)
		lose_inside(l, i, o->closed);
	else if (o->open)
		ledger_item_lose(l, i, REASON_UNFLUSHED, BASIS_INFERRED, o->open);
	else
		ledger_item_lose(l, i, REASON_NO_ROUTE, BASIS_INFERRED, NULL);
}

/* Its connection ended before the relay had read it. */
static void end_unread(struct ledger *l, uint32_t i, bool all)
{
	const struct conn *c = l->items[i].conn;

	if (c->closed_ns && (all || c->closed_ns + SETTLE_NS <= l->now_ns))
		ledger_item_lose(l, i, REASON_UNREAD, BASIS_WIRE, NULL);
}

static void judge(struct ledger *l, uint32_t i, bool all)
{
	struct item *e = &l->items[i];
	struct odds o = { 0 };

	if (!e->handled) {
		if (!was_read(e)) {
			end_unread(l, i, all);
			return;
		}
		if (!all && !was_handled(l, e))
			return;
		e->handled = true;
		e->pos = l->now_ns;
	}
	/* One that stands still has in its hands what it had read. */
	if (!all && (e->pos > l->stood_ns ? e->pos : l->stood_ns) + SETTLE_NS > l->now_ns)
		return;
	weigh_all(l, e, &o);
	if (!o.here)
		weigh_anywhere(l, e, &o);
	o.late |= is_nameless(e);
	o.unclean |= is_nameless(e);
	if ((o.busy && !all) || ledger_item_dropped(l, i, o.unclean))
		return;
	if (!o.unclean)
		lose(l, i, &o);
	else if (all || !o.late || e->time_ns + LATE_NS < l->now_ns)
		ledger_item_untrace(l, i);
}

void ledger_fate_tick(struct ledger *l, bool all)
{
	uint32_t i, next;

	ledger_passed_tick(l, all);
	for (i = l->entries.head; i; i = next) {
		next = l->items[i].link[LINK_ALL].next;
		if (l->items[i].kind == ITEM_ENTRY)
			judge(l, i, all);
	}
}
