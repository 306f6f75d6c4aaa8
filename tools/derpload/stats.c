/* SPDX-License-Identifier: BSD-2-Clause */
#include "stats.h"

#include "flow.h"
#include "loop.h"
#include "out.h"
#include "pair.h"
#include "peer.h"

struct totals {
	uint64_t sent, sent_bytes, received, received_bytes, corrupt, dup, reordered, missing;
};

/* Counts all that is missing; with print, lists the first ranges. */
static uint64_t walk_missing(const struct pair *p, bool print)
{
	struct pair_range r;
	uint64_t n = 0, ranges = 0;

	for (uint64_t at = 0; pair_missing(p, at, &r); at = r.to + 1) {
		n += r.to - r.from + 1;
		if (!print || ranges++ >= STATS_RANGES)
			continue;
		out_open(NULL, '[');
		out_u64(NULL, r.from);
		out_u64(NULL, r.to);
		out_close('[');
	}
	return n;
}

static void print_out_side(const struct pair *p)
{
	if (!p->sends) {
		out_null("sent");
		out_null("sent_bytes");
		return;
	}
	out_u64("sent", p->sent);
	out_u64("sent_bytes", p->sent_bytes);
	out_u64("sent_unnumbered", p->sent_unnumbered);
	out_u64("next_seq", p->next_seq);
	out_open("unsent", '[');
	for (uint32_t i = 0; i < p->unsent_len; i++) {
		out_open(NULL, '[');
		out_u64(NULL, p->unsent[i].from);
		out_u64(NULL, p->unsent[i].to);
		out_close('[');
	}
	out_close('[');
}

static void print_in_side(const struct pair *p, struct totals *sum)
{
	uint64_t missing;

	if (!peer_find_key(p->keys + 32)) {
		out_null("received");
		out_null("received_bytes");
		return;
	}
	out_u64("received", p->received);
	out_u64("received_bytes", p->received_bytes);
	out_u64("received_unnumbered", p->received_unnumbered);
	out_u64("corrupt", p->corrupt);
	out_u64("dup", p->dup);
	out_u64("reordered", p->reordered);
	if (p->timed) {
		out_u64("timed", p->timed);
		out_u64("took_min_ns", p->took_min_ns);
		out_u64("took_mean_ns", p->took_ns / p->timed);
		out_u64("took_max_ns", p->took_max_ns);
	}
	if (p->end_seq) {
		out_u64("first_seq", p->first_seq);
		out_u64("last_seq", p->end_seq - 1);
	}
	out_open("missing", '[');
	missing = walk_missing(p, true);
	out_close('[');
	out_u64("missing_count", missing);
	sum->missing += missing;
}

static void print_pair(const struct pair *p, struct totals *sum)
{
	const struct peer *src = peer_find_key(p->keys), *dst = peer_find_key(p->keys + 32);

	out_open(NULL, '{');
	out_key("src", p->keys);
	out_key("dst", p->keys + 32);
	if (src)
		out_str("src_name", src->name);
	if (dst)
		out_str("dst_name", dst->name);
	print_out_side(p);
	print_in_side(p, sum);
	out_close('{');
}

static void print_peer(const struct peer *p)
{
	static const char *const state[] = {
		[PEER_DOWN] = "down", [PEER_WAITING] = "waiting", [PEER_CONNECTING] = "connecting",
		[PEER_SECURING] = "tls", [PEER_UPGRADING] = "http", [PEER_GREETING] = "greeting",
		[PEER_LOGIN] = "login", [PEER_UP] = "up", [PEER_CLOSING] = "closing",
	};

	out_open(NULL, '{');
	out_str("peer", p->name);
	out_key("key", p->pub);
	out_str("state", state[p->state]);
	out_str("remote", p->remote);
	out_u64("connects", p->connects);
	out_u64("received", p->received);
	out_u64("received_bytes", p->received_bytes);
	out_u64("sent", p->sent);
	out_u64("forwarded", p->forwarded);
	out_u64("queued_bytes", outq_pending(&p->out));
	out_u64("gone_disconnected", p->gone_disconnected);
	out_u64("gone_not_here", p->gone_not_here);
	out_u64("present", p->present);
	out_u64("keepalives", p->keepalives);
	out_u64("pings", p->pings);
	out_u64("pongs", p->pongs);
	out_u64("health", p->health);
	out_u64("restarting", p->restarting);
	out_u64("unknown", p->unknown);
	out_u64("malformed", p->malformed);
	out_close('{');
}

static void add_pair(struct totals *sum, const struct pair *p)
{
	sum->sent += p->sent;
	sum->sent_bytes += p->sent_bytes;
	sum->received += p->received;
	sum->received_bytes += p->received_bytes;
	sum->corrupt += p->corrupt;
	sum->dup += p->dup;
	sum->reordered += p->reordered;
}

static void print_totals(const struct totals *sum)
{
	out_open("totals", '{');
	out_u64("sent", sum->sent);
	out_u64("sent_bytes", sum->sent_bytes);
	out_u64("received", sum->received);
	out_u64("received_bytes", sum->received_bytes);
	out_u64("corrupt", sum->corrupt);
	out_u64("dup", sum->dup);
	out_u64("reordered", sum->reordered);
	out_u64("missing", sum->missing);
	out_u64("flows", flow_active());
	out_close('{');
}

void stats_print(bool pairs, bool peers)
{
	struct totals sum = { 0 };
	struct pair *p;

	out_begin("stats");
	if (pairs)
		out_open("pairs", '[');
	for (p = pair_first(); p; p = pair_next(p)) {
		add_pair(&sum, p);
		if (pairs)
			print_pair(p, &sum);
		else if (peer_find_key(p->keys + 32))
			sum.missing += walk_missing(p, false);
	}
	if (pairs)
		out_close('[');
	if (peers) {
		out_open("peers", '[');
		for (struct peer *q = peer_first(); q; q = peer_next(q))
			print_peer(q);
		out_close('[');
	}
	print_totals(&sum);
	out_end();
}

/* --- rates --- */

static struct {
	struct loop_timer timer;
	uint64_t every_ns, at_ns;
	struct totals before;
} rates;

static void report(struct loop_timer *t)
{
	struct totals now = { 0 };
	double s = (loop_now() - rates.at_ns) / 1e9;

	for (struct pair *p = pair_first(); p; p = pair_next(p))
		add_pair(&now, p);
	out_begin("rate");
	out_u64("sent_per_s", (now.sent - rates.before.sent) / s);
	out_u64("sent_bytes_per_s", (now.sent_bytes - rates.before.sent_bytes) / s);
	out_u64("received_per_s", (now.received - rates.before.received) / s);
	out_u64("received_bytes_per_s", (now.received_bytes - rates.before.received_bytes) / s);
	out_end();
	rates.before = now;
	rates.at_ns = loop_now();
	loop_timer_set(t, t->due_ns + rates.every_ns);
}

void stats_report_rates(uint64_t seconds)
{
	rates.every_ns = seconds * NSEC_PER_SEC;
	rates.at_ns = loop_clock();
	rates.timer.fire = report;
	loop_timer_set(&rates.timer, rates.at_ns + rates.every_ns);
}
