/* SPDX-License-Identifier: BSD-2-Clause */
/* Words on hosts that drop what reaches them. */
#include "correlate/analysis.h"
#include "capture/capture.h"

#include <string.h>

#define KINDS	CAPTURE_NIC_DROP_KINDS
#define SHOWN	3

static const char *name(const struct words *w, uint32_t node)
{
	return w->a->nodes[node].name;
}

/* Of one node, by kind. */
struct sum {
	uint64_t conns[KINDS], packets[KINDS], bytes[KINDS];
};

static void add(struct sum *s, const struct record_nic_drop *d)
{
	s->conns[d->kind]++;
	s->packets[d->kind] += d->packets;
	s->bytes[d->kind] += d->bytes;
}

static void say_sum(struct words *w, uint32_t node, const struct sum *s)
{
	const struct record_nic *nic = &w->a->nodes[node].life->nic;

	words_line(w, "seen at %s's network card, %s (XDP %s)", name(w, node), nic->interfaces, nic->mode);
	if (s->conns[CAPTURE_NIC_DROP_BEFORE])
		words_line(w, "%s of %s arrived there and reached no socket of the host",
			   words_count(s->packets[CAPTURE_NIC_DROP_BEFORE], "SYN").s,
			   words_count(s->conns[CAPTURE_NIC_DROP_BEFORE], "connection").s);
	if (s->conns[CAPTURE_NIC_DROP_BACKLOG])
		words_line(w, "%s of %s reached the listener and were dropped there: as many as it allows "
			   "wait to be accepted", words_count(s->packets[CAPTURE_NIC_DROP_BACKLOG], "packet").s,
			   words_count(s->conns[CAPTURE_NIC_DROP_BACKLOG], "connection").s);
	if (s->conns[CAPTURE_NIC_DROP_LISTENER])
		words_line(w, "%s of %s reached the listener, and no answer left the host",
			   words_count(s->packets[CAPTURE_NIC_DROP_LISTENER], "SYN").s,
			   words_count(s->conns[CAPTURE_NIC_DROP_LISTENER], "connection").s);
	if (s->conns[CAPTURE_NIC_DROP_DATA])
		words_line(w, "%s of %s came again and again: %s there that TCP was never given",
			   words_count(s->packets[CAPTURE_NIC_DROP_DATA], "packet").s,
			   words_count(s->conns[CAPTURE_NIC_DROP_DATA], "open connection").s,
			   words_count(s->bytes[CAPTURE_NIC_DROP_DATA], "byte").s);
}

static void fix(struct words *w, uint32_t node, const struct sum *s)
{
	if (s->conns[CAPTURE_NIC_DROP_BEFORE] || s->conns[CAPTURE_NIC_DROP_DATA])
		text_add(&w->fix, "on %s find the rule that drops them: nft list ruleset, iptables-save -c "
			 "(its counters grow); or rp_filter, conntrack's \"invalid\", checksums (nstat -az "
			 "TcpInCsumErrors)", name(w, node));
	if (s->conns[CAPTURE_NIC_DROP_BACKLOG] || s->conns[CAPTURE_NIC_DROP_LISTENER])
		text_add(&w->fix, "%son %s: does the relay still accept (ss -ltn: Recv-Q over Send-Q)? It may "
			 "be stopped or starved of CPU; else raise net.core.somaxconn and restart it",
			 w->fix.len ? "; " : "", name(w, node));
}

/* A link of the mesh: its dials, or what was sent on it. */
static void host_drop_link(struct words *w)
{
	const struct finding *f = w->f;
	const struct analysis *a = w->a;
	const struct link *l = link_find(a, f->from, f->to);
	const struct edge *last = NULL;
	uint32_t node = f->to, where;
	struct sum sum;
	size_t i;

	memset(&sum, 0, sizeof(sum));
	for (i = 0; l && i < l->edge_count; i++) {
		const struct edge *e = &a->edges[l->edges[i]];
		const struct record_nic_drop *d = nic_of_edge(a, e, &where);

		if (!d || d->kind == CAPTURE_NIC_ANSWERED)
			continue;
		/* The newest says which of the two hosts it is. */
		if (where != node)
			memset(&sum, 0, sizeof(sum));
		node = where;
		last = e;
		add(&sum, d);
	}
	text_add(&w->summary, "the mesh link %s -> %s %s: what reaches %s is dropped by that host itself",
		 name(w, f->from), name(w, f->to), last && last->reached == REACHED_MESH ?
		 "stands still" : l && l->state == LINK_UP ? "is up again, but was down" : "is down",
		 name(w, node));
	if (f->count)
		text_add(&w->summary, "; %s of %s were lost by it", words_count(f->count, "packet").s,
			 words_count(f->pairs, "pair").s);
	if (last)
		say_sum(w, node, &sum);
	if (last && last->out)
		words_line(w, "the last of them is %s to %s%s", text_addr(&last->out->rec.local).s,
			   text_addr(&last->out->rec.remote).s,
			   node == f->from ? "; it is the answers that are dropped" : "");
	if (f->count)
		words_pairs(w);
	fix(w, node, &sum);
}

/* Of anybody. */
static void host_drop_clients(struct words *w)
{
	const struct finding *f = w->f;
	const struct life *life = w->a->nodes[f->node].life;
	struct sum sum;
	uint64_t conns = 0;
	size_t i, shown = 0;

	memset(&sum, 0, sizeof(sum));
	for (i = 0; i < life->nic_drop_count; i++) {
		const struct record_nic_drop *d = &life->nic_drops[i];

		if (d->kind == CAPTURE_NIC_ANSWERED || nic_is_of_a_link(w->a, f->node, d))
			continue;
		add(&sum, d);
		conns++;
	}
	text_add(&w->summary, "%s drops what reaches its network card: packets of %s never came to a socket",
		 name(w, f->node), words_count(conns, "connection").s);
	say_sum(w, f->node, &sum);
	for (i = life->nic_drop_count; i-- > 0 && shown < SHOWN;) {
		const struct record_nic_drop *d = &life->nic_drops[i];

		if (d->kind == CAPTURE_NIC_ANSWERED || nic_is_of_a_link(w->a, f->node, d))
			continue;
		words_line(w, "%s to %s: %s in %s", text_addr(&d->remote).s, text_addr(&d->local).s,
			   words_count(d->packets, "packet").s,
			   text_span(d->last_ns > d->first_ns ? d->last_ns - d->first_ns : 0).s);
		shown++;
	}
	if (conns > shown)
		words_line(w, "and %s more", words_count(conns - shown, "connection").s);
	fix(w, f->node, &sum);
}

/* Packets that the kernel held when their connection was reset. */
static void host_drop_unread(struct words *w)
{
	const struct finding *f = w->f;

	text_add(&w->summary, "%s had reached %s and were never read: their connection ended first",
		 words_count(f->count, "packet").s, name(w, f->node));
	if (f->basis == BASIS_WIRE)
		words_line(w, "the kernel held them (arrived, not read) when the sender's connection was reset");
	else
		words_line(w, "inferred: the sender's connection was reset as they arrived; %s neither sent nor "
			   "dropped them", name(w, f->node));
	words_pairs(w);
	text_add(&w->fix, "the sender has to close in order (FIN, not RST); if %s closed it, its log says "
		 "why: journalctl -u derper", name(w, f->node));
}

void words_host_drop(struct words *w)
{
	if (w->f->reason != LINK_HOST_DROP)
		host_drop_unread(w);
	else if (w->f->from != NONE)
		host_drop_link(w);
	else
		host_drop_clients(w);
}
