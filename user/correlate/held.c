// SPDX-License-Identifier: BSD-2-Clause
/*
 * Senders whose bytes a node leaves unread while it reads others' at once: it throttles them. That is
 * so, or not, at a moment; it is judged as each snapshot is closed, and what was seen once is kept.
 */
#include "correlate/internal.h"

#define HELD_NS		(5 * NSEC_PER_SEC)
#define HELD_BYTES	16384u
#define HELD_RATE	2000000ull	/* bytes a second: faster is no limit but a flood */
#define LASTS_NS	NSEC_PER_SEC	/* a node that catches up is at one client before another, too */

static bool is_held(const struct conn *conn, uint64_t now_ns, struct held_one *one)
{
	const struct record_conn_facts *rec = &conn->rec;

	if (!conn->wedged_since_ns || rec->unread < HELD_BYTES || now_ns < conn->wedged_since_ns + HELD_NS ||
	    rec->in_bytes < conn->wedged_bytes)
		return false;
	one->held_ns = now_ns - conn->wedged_since_ns;
	one->rate = (rec->in_bytes - conn->wedged_bytes) * 1000 / (one->held_ns / NSEC_PER_MSEC);
	one->conn = rec->conn;
	one->peer = conn->peer;
	one->since_ns = conn->wedged_since_ns;
	return one->rate && one->rate < HELD_RATE;
}

void held_note(struct held *h, const struct conn *conn, uint64_t now_ns)
{
	const struct record_conn_facts *rec = &conn->rec;
	struct held_one one;

	if (rec->closed_ns)
		return;
	h->now_ns = now_ns;
	/* A mesh link that does not drain stops the reading of senders, too. */
	h->blocked |= rec->kind == CONN_MESH_OUT && rec->notsent;
	if (rec->kind != CONN_CLIENT || rec->dialled)
		return;
	h->flowing += !rec->unread && rec->last_in_ns + HELD_NS > now_ns;
	if (!is_held(conn, now_ns, &one))
		return;
	if (!h->count++ || one.since_ns < h->one.since_ns)
		h->one = one;
}

static bool same_hold(const struct held_one *x, const struct held_one *y)
{
	return x->conn == y->conn && x->since_ns == y->since_ns;
}

void held_judge(struct held *h)
{
	/* Others must flow meanwhile: a node that reads nobody is slow, not strict. */
	if (h->count && h->flowing >= h->count && !h->blocked) {
		if (!same_hold(&h->one, &h->first)) {
			h->first = h->one;
			h->judged_ns = h->now_ns;
		}
		if (h->now_ns >= h->judged_ns + LASTS_NS) {
			h->several |= h->count > 1 || (h->last_ns && h->worst.peer != h->one.peer);
			if (!h->last_ns || h->one.since_ns < h->first_ns)
				h->first_ns = h->one.since_ns;
			h->last_ns = h->now_ns;
			if (same_hold(&h->one, &h->worst) || h->one.held_ns > h->worst.held_ns)
				h->worst = h->one;
		}
	}
	h->count = h->flowing = 0;
	h->blocked = false;
}
