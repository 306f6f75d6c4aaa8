/* SPDX-License-Identifier: BSD-2-Clause */
/* Words on nodes: restarted, slow, refusing, blind. */
#include "correlate/analysis.h"
#include "base/number.h"

#include <string.h>

static const char *name(const struct words *w, uint32_t node)
{
	return w->a->nodes[node].name;
}

void words_not_admitted(struct words *w)
{
	const struct finding *f = w->f;

	text_add(&w->summary, "%s closed %s during the DERP handshake, after ClientInfo and before "
		 "ServerInfo", name(w, f->node), words_count(f->number[0], "connection").s);
	words_line(w, "%s, the last from %s (%s)", words_count(f->number[1], "key").s,
		   f->conn ? text_addr(&f->conn->rec.remote).s : "-", text_peer(w->a, f->peer).s);
	words_line(w, "connections that sent no ClientInfo (scanners) are not counted");
	text_add(&w->fix, "on %s: with -verify-clients tailscaled must run, be of the same version and "
		 "know these peers; with -verify-client-url that service must answer", name(w, f->node));
}

static const struct still *longest(const struct words *w)
{
	const struct life *life = w->a->nodes[w->f->node].life;
	const struct still *best = NULL;
	uint32_t i;

	for (i = 0; life && i < life->still_count; i++) {
		if (!best || still_length(w->a, w->f->node, &life->stills[i]) >
			     still_length(w->a, w->f->node, best))
			best = &life->stills[i];
	}
	return best;
}

static void say_still(struct words *w, const struct still *s)
{
	const struct finding *f = w->f;
	uint32_t times = w->a->nodes[f->node].life->still_count;

	text_add(&w->summary, "%s stood still for %s", name(w, f->node),
		 text_span(still_length(w->a, f->node, s)).s);
	if (times > 1)
		text_add(&w->summary, ", and %s more", words_count(times - 1, "time").s);
	if (f->count)
		text_add(&w->summary, "; what it then read at once overran queues: %s of %s were dropped",
			 words_count(f->count, "packet").s, words_count(f->pairs, "pair").s);
	words_line(w, "bytes had arrived on %s and it read none of them, though it had read all at once "
		   "before%s", words_count(s->conns, "connection").s, s->to_ns ? "" : "; it goes on");
	if (!f->count)
		return;
	words_line(w, "they were dropped from queues %s: the receivers are not slow",
		   w->a->traced_count > 1 ? "there, and of nodes that it forwards to, right after it" :
		   "there right after it");
	words_pairs(w);
}

void words_node_slow(struct words *w)
{
	const struct finding *f = w->f;
	const struct still *s = longest(w);

	if (s) {
		say_still(w, s);
	} else {
		text_add(&w->summary, "packets stay long inside %s: half of them more than %s, one in a "
			 "hundred more than %s", name(w, f->node), text_span(f->number[0] * 1000).s,
			 text_span(f->number[1] * 1000).s);
	}
	if (f->number[3])
		words_line(w, "%s of its %s are slow, and their sockets are not backed up",
			   number_grouped(f->number[2]).s, words_count(f->number[3], "pair").s);
	if (s)
		text_add(&w->fix, "on the host of %s: was the process stopped or frozen (SIGSTOP, a debugger, "
			 "a suspended VM), or out of CPU or memory (systemctl show -p CPUQuotaPerSecUSec "
			 "-p MemoryHigh derper; /proc/pressure)?", name(w, f->node));
	else
		text_add(&w->fix, "%s is short of CPU: give it more, or move peers to another node",
			 name(w, f->node));
}

void words_node_restarted(struct words *w)
{
	const struct finding *f = w->f;
	const struct node *n = &w->a->nodes[f->node];
	uint32_t next = region_successor(w->a, f->node);
	uint64_t peers = 0;
	size_t i;

	for (i = 0; i < w->a->stay_count; i++)
		peers += w->a->stays[i].node == f->node &&
			 w->a->stays[i].closed_ns + NSEC_PER_SEC >= n->to_ns;
	text_add(&w->summary, "%s (pid %d) ended%s, and all its connections with it", n->name,
		 n->life ? n->life->info.pid : 0, next != NONE ? " and was started again" : "");
	if (f->count)
		text_add(&w->summary, "; %s were lost inside it, on their way to it, or until its "
			 "peers were back", words_count(f->count, "packet").s);
	words_line(w, "it ended %s before the end of the trace, with %s",
		   text_span(w->a->end_ns > n->to_ns ? w->a->end_ns - n->to_ns : 0).s,
		   words_count(peers, "client connection").s);
	if (next != NONE && !w->a->nodes[next].life)
		words_line(w, "another process took its place, which is not traced (with --pid none is "
			   "picked up)");
	else if (next != NONE)
		words_line(w, "pid %d took its place %s later%s", w->a->nodes[next].life->info.pid,
			   text_span(w->a->nodes[next].from_ns > n->to_ns ?
				     w->a->nodes[next].from_ns - n->to_ns : 0).s,
			   key_equal(&n->key, &w->a->nodes[next].key) ? " with the same key" : "");
	if (f->count)
		words_pairs(w);
	text_add(&w->fix, "if nobody restarted it: journalctl -u derper on that host; clients reconnect "
		 "by themselves, agents that do not must be restarted");
}

void words_stun(struct words *w)
{
	const struct finding *f = w->f;
	const struct record_nic *nic = &w->a->nodes[f->node].life->nic;

	text_add(&w->summary, "%s gets STUN requests and answers none", name(w, f->node));
	words_line(w, "%s reached its network card, no answer left",
		   words_count(f->number[0], "request").s);
	if (nic->stun_listens)
		words_line(w, "%s of them came to its socket", number_grouped(nic->stun_heard).s);
	else
		words_line(w, "nobody on that host listens for them");
	if (!nic->stun_listens)
		text_add(&w->fix, "derper on %s: -stun must not be false, and UDP 3478 be free; or set "
			 "\"STUNPort\": -1 for it in the DERP map", name(w, f->node));
	else if (nic->stun_heard < f->number[0] / 2)
		text_add(&w->fix, "on %s find the rule that drops them on their way in: nft list ruleset, "
			 "iptables-save -c; let UDP 3478 in", name(w, f->node));
	else
		text_add(&w->fix, "on %s let answers out (UDP from port 3478: nft list ruleset), and see that "
			 "the relay is not stopped or starved of CPU", name(w, f->node));
}

void words_untraced_node(struct words *w)
{
	const struct finding *f = w->f;

	text_add(&w->summary, "%s of %s left %s for %s, which nobody traces: whether they arrived is not "
		 "known", words_count(f->maybe, "packet").s, words_count(f->pairs, "pair").s,
		 name(w, f->from), name(w, f->to));
	words_pairs(w);
	words_line(w, "they left %s in order, and the mesh connection to %s took them", name(w, f->from),
		   name(w, f->to));
	text_add(&w->fix, "trace both: on this host `ssh %s derptrace record -o - | derptrace report live "
		 "-`", words_host(w->a, f->to).s);
}
