/* SPDX-License-Identifier: BSD-2-Clause */
/* Words on peers: gone, elsewhere, slow, twice, silent. */
#include "correlate/analysis.h"
#include "base/number.h"

#include <string.h>

static const char *name(const struct words *w, uint32_t node)
{
	return w->a->nodes[node].name;
}

/* "[AbCdE]", or how many there were. */
static const char *whom(const struct words *w, struct peer_text *t)
{
	*t = text_peer(w->a, w->f->dst);
	return w->f->dst ? t->s : "several peers";
}

static void say_loss(struct words *w)
{
	const char *reason = finding_reason(w->f->reason);

	if (reason)
		words_line(w, "%s dropped them with the reason %s, its own word", name(w, w->f->node),
			   reason);
	else if (w->out->basis == BASIS_INFERRED)
		words_line(w, "inferred: %s gave no reason, but what came after them has left",
			   name(w, w->f->node));
	words_pairs(w);
}

static void say_stays(struct words *w, uint32_t peer)
{
	const struct analysis *a = w->a;
	size_t count, i, shown = 0;
	const struct stay *s = presence_stays(a, peer, &count);

	for (i = count; peer && i-- > 0 && shown < 3;) {
		const struct record_conn_facts *rec = &s[i].conn->rec;

		if (s[i].closed_ns == FOREVER)
			words_line(w, "%s is connected to %s from %s since %s before the end",
				   text_peer(a, peer).s, name(w, s[i].node), text_addr(&rec->remote).s,
				   text_span(a->end_ns - s[i].opened_ns).s);
		else
			words_line(w, "%s was connected to %s from %s until %s before the end",
				   text_peer(a, peer).s, name(w, s[i].node), text_addr(&rec->remote).s,
				   text_span(a->end_ns > s[i].closed_ns ? a->end_ns - s[i].closed_ns : 0).s);
		shown++;
	}
}

void words_stale_route(struct words *w)
{
	const struct finding *f = w->f;
	struct peer_text t;

	text_add(&w->summary, "%s sent %s for %s to where they were no longer", name(w, f->node),
		 words_count(f->count, "packet").s, whom(w, &t));
	if (f->from != NONE)
		text_add(&w->summary, ": the route %s -> %s was stale", name(w, f->from),
			 name(w, f->to));
	else
		text_add(&w->summary, ": the destination had another connection already");
	say_loss(w);
	say_stays(w, f->dst);
	text_add(&w->fix, "it ends when the old connection times out; shorten that on %s: derper "
		 "-tcp-user-timeout=5s", name(w, f->node));
}

/* It was there, and the node where they entered had not been told. */
static void words_untold(struct words *w)
{
	const struct finding *f = w->f;
	const struct analysis *a = w->a;
	const char *here = name(w, f->from), *there = name(w, f->to);
	const struct stay *stay = NULL;
	struct peer_text t;
	uint64_t told_ns;

	text_add(&w->summary, "%s entered %s for %s in the moment before it had been told that %s on %s",
		 words_count(f->count, "packet").s, here, whom(w, &t), f->dst ? "this peer is" :
		 "they are", there);
	say_loss(w);
	told_ns = f->dst ? presence_told(a, f->dst, f->from, f->to, f->first_ns) : FOREVER;
	if (f->dst)
		presence_at(a, f->dst, f->to, f->first_ns, f->last_ns, &stay);
	if (stay && told_ns != FOREVER && told_ns > stay->opened_ns)
		words_line(w, "%s told %s of %s %s after it had connected there: PeerPresent, on the "
			   "connection that %s dials", there, here, whom(w, &t),
			   text_span(told_ns - stay->opened_ns).s, here);
	say_stays(w, f->dst);
	text_add(&w->fix, "nothing, if this happens only when peers connect: what they send again gets "
		 "through. If it lasts, %s is slow to tell its mesh: look at its CPU, and at the path from "
		 "%s to %s", there, there, here);
}

void words_peer_absent(struct words *w)
{
	const struct finding *f = w->f;
	const struct analysis *a = w->a;
	uint32_t abroad = NONE;
	struct peer_text t;
	bool alone = true;
	uint32_t i;

	if (f->from == f->node && f->to != NONE) {
		words_untold(w);
		return;
	}
	text_add(&w->summary, "%s entered %s for %s, connected nowhere %s",
		 words_count(f->count, "packet").s, name(w, f->node), whom(w, &t),
		 w->out->basis == BASIS_UNKNOWN ? "that is traced" : "in the region");
	say_loss(w);
	for (i = 0; i < a->node_count; i++)
		alone &= i == f->node || !region_same(a, f->node, i);
	if (w->out->basis == BASIS_UNKNOWN)
		words_line(w, alone ? "no other node is known: it may be on one" :
			   "another node of the region cannot be seen: it may be there");
	if (f->dst)
		abroad = presence_abroad(a, f->dst, f->node, f->first_ns, f->last_ns);
	if (abroad != NONE)
		words_line(w, "%s is connected to %s of region %d", text_peer(a, f->dst).s,
			   name(w, abroad), a->nodes[abroad].region);
	say_stays(w, f->dst);
	if (abroad != NONE)
		text_add(&w->fix, "the senders have an old home region for %s: restart its agent, and "
			 "look at the coordinator (/debug/coordinator) if it stays so",
			 text_peer(a, f->dst).s);
	else if (w->out->basis == BASIS_UNKNOWN)
		text_add(&w->fix, "trace the region's other nodes with this one: `ssh NODE derptrace record "
			 "-o - | derptrace report live -`");
	else
		text_add(&w->fix, "reconnect %s (restart the agent there); what is sent to it is lost "
			 "until then", whom(w, &t));
}

void words_queue_drop(struct words *w)
{
	const struct finding *f = w->f;
	const struct stay *stay = NULL;
	struct peer_text t;

	text_add(&w->summary, "%s could not drain fast enough: %s dropped %s of %s from its queue",
		 whom(w, &t), name(w, f->node), words_count(f->count, "packet").s,
		 words_count(f->pairs, "pair").s);
	say_loss(w);
	if (f->dst && presence_at(w->a, f->dst, f->node, f->first_ns, f->last_ns, &stay) && stay) {
		const struct record_conn_facts *rec = &stay->conn->rec;

		words_line(w, "its socket %s: %s not sent, %s unacknowledged, rtt %s; %s behind in all",
			   text_addr(&rec->remote).s, words_count(rec->notsent, "byte").s,
			   number_grouped(rec->unacked).s,
			   text_span(rec->rtt_us * 1000ull).s, text_span(rec->blocked_ns).s);
	}
	text_add(&w->fix, "the way down to %s is the limit: look at its link, or send it less; a deeper "
		 "queue on %s only moves the point: TS_DEBUG_DERP_PER_CLIENT_SEND_QUEUE_DEPTH=512",
		 whom(w, &t), name(w, f->node));
}

static const char *conn_node(const struct words *w, const struct conn *conn)
{
	return name(w, w->a->node_of_life[conn->life]);
}

#define NOTES_SHOWN	4

/* The finding's notes by key: whose number is lower depends on who was told of first. */
static size_t notes_of(const struct words *w, const struct note *notes[static NOTES_SHOWN])
{
	const struct analysis *a = w->a;
	size_t i, j, k, count = 0;

	for (i = 0; i < a->note_count; i++) {
		const struct note *n = &a->notes[i];

		if (n->finding != w->f - a->findings)
			continue;
		count++;
		for (j = 0; j < NOTES_SHOWN && notes[j] &&
			    key_compare(&a->c->peers[notes[j]->peer], &a->c->peers[n->peer]) < 0;)
			j++;
		if (j == NOTES_SHOWN)
			continue;
		for (k = NOTES_SHOWN - 1; k > j; k--)
			notes[k] = notes[k - 1];
		notes[j] = n;
	}
	return count;
}

void words_duplicate_peer(struct words *w)
{
	const struct note *notes[NOTES_SHOWN] = { 0 };
	size_t count = notes_of(w, notes), i;
	struct peer_text t;

	if (count > 1)
		text_add(&w->summary, "%s are in use twice on %s", words_count(count, "key").s,
			 name(w, w->f->node));
	else
		text_add(&w->summary, "the key %s is in use twice",
			 count ? text_peer(w->a, notes[0]->peer).s : whom(w, &t));
	if (count == 1)
		text_add(&w->summary, ": from %s on %s and from %s on %s",
			 text_addr(&notes[0]->conn->rec.remote).s, conn_node(w, notes[0]->conn),
			 text_addr(&notes[0]->conn2->rec.remote).s, conn_node(w, notes[0]->conn2));
	for (i = 0; i < NOTES_SHOWN && notes[i]; i++)
		words_line(w, "%s: %s on %s and %s on %s, both open for %s, and both sent "
			   "(%s and %s)", text_peer(w->a, notes[i]->peer).s,
			   text_addr(&notes[i]->conn->rec.remote).s, conn_node(w, notes[i]->conn),
			   text_addr(&notes[i]->conn2->rec.remote).s, conn_node(w, notes[i]->conn2),
			   text_span(notes[i]->span_ns).s,
			   words_count(notes[i]->conn->rec.in_bytes, "byte").s,
			   words_count(notes[i]->conn2->rec.in_bytes, "byte").s);
	if (w->f->count)
		say_loss(w);
	words_line(w, "packets for such a key go to the one that spoke last, so both are flaky");
	text_add(&w->fix, "one of the two is a clone: on it, log out and register again (tailscale logout "
		 "&& tailscale up), or rebuild the workspace agent, so that it gets a key of its own");
}

void words_last_hop(struct words *w)
{
	const struct finding *f = w->f;
	struct peer_text t;

	text_add(&w->summary, "%s delivered %s to the socket of %s, which ended without acknowledging "
		 "them", name(w, f->node), words_count(f->count, "packet").s, whom(w, &t));
	words_pairs(w);
	say_stays(w, f->dst);
	text_add(&w->fix, "the relay did its part: look at the network between %s and %s, and at the "
		 "client's host", name(w, f->node), whom(w, &t));
}

void words_handshake(struct words *w)
{
	const struct finding *f = w->f;
	struct peer_text t;

	text_add(&w->summary, "%s never answer%s: %s of %s were relayed and delivered by %s, and no "
		 "response came back", whom(w, &t), f->dst ? "s" : "",
		 words_count(f->number[0], "WireGuard initiation").s,
		 f->src ? text_peer(w->a, f->src).s : "several peers", name(w, f->node));
	words_pairs_of(w, "initiation");
	words_line(w, "they were delivered over %s, the last %s before the end",
		   text_span(f->last_ns - f->first_ns).s, text_span(w->a->end_ns - f->last_ns).s);
	words_line(w, "no packet of the reverse pair was lost in the relays, so none was sent");
	say_stays(w, f->dst);
	text_add(&w->fix, "the relay did its part: look at %s (is WireGuard up there, does it know the "
		 "sender's key?) and restart the agent there", whom(w, &t));
}

#define OVER_NS	(2 * NSEC_PER_SEC)	/* there were snapshots since that did not show it */

void words_rate_limited(struct words *w)
{
	const struct finding *f = w->f;
	uint64_t over_ns = w->a->end_ns > f->last_ns ? w->a->end_ns - f->last_ns : 0;
	bool over = over_ns > OVER_NS;

	text_add(&w->summary, "%s %s %s to about %s kB/s", name(w, f->node), over ? "throttled" : "throttles",
		 text_peer(w->a, f->peer).s, number_grouped(f->number[1] / 1000).s);
	words_line(w, "its bytes stood unread for %s while those of other clients were read at once",
		   text_span(f->number[0]).s);
	if (over)
		words_line(w, "that was last seen %s before the end", text_span(over_ns).s);
	words_line(w, "nothing is lost by it in the relay: the sender has to wait");
	text_add(&w->fix, "raise the client's rate in the file given to derper by -rate-config on %s, or "
		 "have the peers connect directly", name(w, f->node));
}

void words_flapping(struct words *w)
{
	const struct finding *f = w->f;

	if (f->from != NONE) {
		text_add(&w->summary, "the mesh link %s -> %s keeps breaking: %s in this trace",
			 name(w, f->from), name(w, f->to), words_count(f->number[0], "time").s);
		words_line(w, "each break costs all routes until the next dial, some five seconds later");
		text_add(&w->fix, "look at what lies between %s and %s: an idle time-out below 65 s, or "
			 "loss", name(w, f->from), name(w, f->to));
	} else {
		text_add(&w->summary, "%s keeps reconnecting: %s in this trace",
			 text_peer(w->a, f->peer).s, words_count(f->number[0], "time").s);
		if (f->number[3] > 1)
			text_add(&w->summary, "; so do %s",
				 words_count(f->number[3] - 1, "other peer").s);
		say_stays(w, f->peer);
		text_add(&w->fix, "look at the network of %s and at proxies in front of %s: an idle "
			 "time-out below 65 s cuts DERP", text_peer(w->a, f->peer).s,
			 name(w, f->node));
	}
	if (f->number[1])
		words_line(w, "its connections lived %s on average", text_span(f->number[1]).s);
	if (f->number[2])
		words_line(w, "they died after being idle for about %s each time",
			   text_span(f->number[2]).s);
}
