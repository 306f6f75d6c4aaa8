/* SPDX-License-Identifier: BSD-2-Clause */
/* Words on links: never there, one way only, not there, stalled. */
#include "correlate/analysis.h"
#include "base/number.h"
#include "capture/capture.h"
#include "derpmap/derpmap.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SYNS_NS	(7 * NSEC_PER_SEC)	/* within so long a SYN that nobody answers comes twice */

static const char *name(const struct words *w, uint32_t node)
{
	return w->a->nodes[node].name;
}

static bool is_private_v4(const uint8_t *ip)
{
	return ip[0] == 10 || ip[0] == 127 || (ip[0] == 172 && (ip[1] & 0xf0) == 16) ||
	       (ip[0] == 192 && ip[1] == 168) || (ip[0] == 100 && (ip[1] & 0xc0) == 64) ||
	       (ip[0] == 169 && ip[1] == 254);
}

/* The map's word, else the address's. */
static enum derpmap_class class_of(const struct node *n)
{
	const uint8_t *ip = n->addr.ip;

	if (n->map && n->map->class != DERPMAP_UNKNOWN)
		return n->map->class;
	if (n->addr.family == 4)
		return is_private_v4(ip) ? DERPMAP_PRIVATE : DERPMAP_PUBLIC;
	if (n->addr.family == 6)
		return (ip[0] & 0xfe) == 0xfc || (ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80) ||
		       addr_is_loopback(&n->addr) ? DERPMAP_PRIVATE : DERPMAP_PUBLIC;
	return DERPMAP_UNKNOWN;
}

static bool mixed(const struct words *w)
{
	enum derpmap_class from = class_of(&w->a->nodes[w->f->from]);
	enum derpmap_class to = class_of(&w->a->nodes[w->f->to]);

	return from != to && from != DERPMAP_UNKNOWN && to != DERPMAP_UNKNOWN;
}

static void say_class(struct words *w, uint32_t node)
{
	const struct node *n = &w->a->nodes[node];

	words_line(w, "%s is %s (%s)", n->name,
		   class_of(n) == DERPMAP_PUBLIC ? "publicly addressed" : "privately addressed",
		   n->map ? "by the DERP map" : text_addr(&n->addr).s);
}

static void say_symptom(struct words *w)
{
	words_line(w, "users see: `coder ping -v` hangs while the agent is healthy, \"agent is "
		   "unreachable\"; it works when both peers land on one node");
}

/* Only packets that need no link: the other half of what users call intermittent. */
static void say_same_node(struct words *w)
{
	const struct analysis *a = w->a;
	uint64_t sent = 0, delivered = 0;
	size_t i;

	for (i = 1; i < a->c->pair_count; i++) {
		if (a->sums[i].same_node && !a->sums[i].across) {
			sent += a->sums[i].entered;
			delivered += a->sums[i].delivered;
		}
	}
	if (sent)
		words_line(w, "peers on the same node: %s of %s delivered", number_grouped(delivered).s,
			   words_count(sent, "packet").s);
}

static void lost_across(struct words *w)
{
	const struct finding *f = w->f;

	if (f->count)
		text_add(&w->summary, ": %s of %s entered %s for peers on %s and went no further",
			 words_count(f->count, "packet").s, words_count(f->pairs, "pair").s,
			 name(w, f->from), name(w, f->to));
}

static void fix_regions(struct words *w)
{
	const struct node *x = &w->a->nodes[w->f->from];

	text_add(&w->fix, "in the DERP map give %s and %s each a region ID of its own", name(w, w->f->from),
		 name(w, w->f->to));
	if (x->region >= 0)
		text_add(&w->fix, " (both stand in region %d)", x->region);
	text_add(&w->fix, ", and set \"omitDefaultRegions\": true where the public relays are not "
		 "needed: `derptrace map fix FILE` writes it; then restart the Coder server and "
		 "let the agents reconnect");
}

/* Do clients reach this derper in plain HTTP? Whoever dials it as a mesh peer does so with TLS. */
static bool is_plain_derper(const struct node *n)
{
	bool plain = false;
	size_t i;

	if (!n->life || !strstr(n->life->info.software, "cmd/derper"))
		return false;
	for (i = 0; i < n->life->conn_count; i++) {
		const struct record_conn_facts *rec = &n->life->conns[i]->rec;

		if (rec->tls && !rec->dialled)
			return false;
		plain |= rec->kind == CONN_CLIENT;
	}
	return plain;
}

static void fix_mesh_with(struct words *w, uint32_t from, uint32_t to)
{
	if (words_is_coder(w->a, from))
		text_add(&w->fix, "on the replica %s: set CODER_DERP_SERVER_RELAY_URL of %s to an address "
			 "that it reaches", name(w, from), name(w, to));
	else
		text_add(&w->fix, "derper on %s: add -mesh-with=%s, with the same -mesh-psk-file as %s",
			 name(w, from), words_dial(w->a, to).s, name(w, to));
	if (is_plain_derper(&w->a->nodes[to]))
		text_add(&w->fix, " (derper dials its mesh with TLS, and %s serves plain HTTP: the name and the "
			 "port are to be those of the TLS proxy in front of it)", name(w, to));
}

void words_mesh_route(struct words *w)
{
	const struct finding *f = w->f;
	const struct node *from = &w->a->nodes[f->from];

	text_add(&w->summary, "%s has no mesh link to %s", from->name, name(w, f->to));
	if (from->region >= 0)
		text_add(&w->summary, ", which shares region %d with it", from->region);
	lost_across(w);
	words_line(w, "%s never dialled %s in %s of tracing, and no mesh connection to it is open",
		   from->name, name(w, f->to), text_span(w->a->end_ns - from->from_ns).s);
	if (!link_ever_dialled(w->a, f->to, f->from) && w->a->nodes[f->to].life)
		words_line(w, "%s never dialled %s either", name(w, f->to), from->name);
	if (f->count) {
		words_pairs(w);
		say_same_node(w);
	}
	if (mixed(w)) {
		say_class(w, f->from);
		say_class(w, f->to);
	}
	say_symptom(w);
	if (mixed(w)) {
		fix_regions(w);
		return;
	}
	fix_mesh_with(w, f->from, f->to);
	text_add(&w->fix, ", and the reverse on %s; or give each a region ID of its own in the DERP map "
		 "(`derptrace map fix FILE`)", name(w, f->to));
}

void words_link_one_way(struct words *w)
{
	const struct finding *f = w->f;

	text_add(&w->summary, "the mesh is one way: %s forwards to %s, but %s does not forward to %s",
		 name(w, f->to), name(w, f->from), name(w, f->from), name(w, f->to));
	lost_across(w);
	words_line(w, "%s -> %s is up; %s never dialled %s in this trace", name(w, f->to),
		   name(w, f->from), name(w, f->from), name(w, f->to));
	if (f->count)
		words_pairs(w);
	words_line(w, "each direction is a connection of its own, made by the node that sends on it; "
		   "without one, handshakes never finish");
	fix_mesh_with(w, f->from, f->to);
}

/* The newest edge of the link that stopped for this reason; NULL: none. */
static const struct edge *edge_for(const struct words *w, size_t *alike)
{
	const struct link *l = link_find(w->a, w->f->from, w->f->to);
	const struct edge *found = NULL;
	size_t i;

	*alike = 0;
	for (i = 0; l && i < l->edge_count; i++) {
		const struct edge *e = &w->a->edges[l->edges[i]];

		if (e->reason == w->f->reason) {
			found = e;
			++*alike;
		}
	}
	return found;
}

static const char *how_closed(const struct conn *conn)
{
	switch (conn->rec.how) {
	case CAPTURE_CLOSED_FIN:
		return conn->rec.fin_in ? "closed by the far end" : "closed";
	case CAPTURE_CLOSED_RST_IN:
		return "reset by the far end";
	case CAPTURE_CLOSED_RST_OUT:
		return "reset";
	case CAPTURE_CLOSED_TIMEOUT:
		return "timed out";
	case CAPTURE_CLOSED_REFUSED:
		return "refused";
	case CAPTURE_CLOSED_NO_ANSWER:
		return "unanswered";
	default:
		return "ended";
	}
}

static const char *const because[LINK_REASONS] = {
	[LINK_NO_DIAL] = "it was there, and is not dialled any more",
	[LINK_NO_ANSWER] = "nothing answers the dial",
	[LINK_REFUSED] = "the dial is refused",
	[LINK_TLS] = "the TLS handshake fails",
	[LINK_UPGRADE] = "the HTTP upgrade to DERP is not granted",
	[LINK_MESH_KEY] = "the mesh keys differ, so it is taken for an ordinary client",
	[LINK_NOT_ADMITTED] = "it is closed during the DERP handshake, before admission",
	[LINK_SELF] = "the dial reaches the dialling node itself",
	[LINK_SAME_KEY] = "both nodes have the same server key, so each takes the other for itself",
	[LINK_CLOSED] = "the connection ended",
	[LINK_HOST_DROP] = "the far host drops what arrives",
	[LINK_BLACKHOLE] = "what was sent was never acknowledged",
	[LINK_MTU] = "full-size segments do not arrive",
	[LINK_CONGESTED] = "the far end does not take what is sent",
};

/* Of a dial that was under way when its node was attached to, only the last SYN may have been seen. */
static bool sent_again(const struct analysis *a, const struct edge *e)
{
	uint64_t end_ns = e->closed_ns == FOREVER ? a->end_ns : e->closed_ns;

	return e->opened_ns > a->nodes[e->from].from_ns + NSEC_PER_SEC || end_ns > e->opened_ns + SYNS_NS;
}

/* Where were the dial, or what was sent, lost: before the far host, or on the way back? */
static void say_card(struct words *w, const struct edge *e)
{
	uint32_t node;
	const struct record_nic_drop *d = nic_of_edge(w->a, e, &node);
	const struct record_nic *nic = nic_is_watched(w->a, e->to) ? &w->a->nodes[e->to].life->nic : NULL;

	if (d && d->kind == CAPTURE_NIC_ANSWERED && node == e->to)
		words_line(w, "%s of it reached the network card of %s and were answered: the answers were "
			   "lost on their way back", words_count(d->packets, "SYN").s, name(w, e->to));
	else if (!d && nic && e->out && sent_again(w->a, e))
		words_line(w, "its repeated SYNs, from %s, never reached the network card of %s (%s)",
			   text_addr(&e->out->rec.local).s, name(w, e->to), nic->interfaces);
}

static void say_edge(struct words *w, const struct edge *e, size_t alike)
{
	const struct conn *out = e->out ? e->out : e->in;
	const struct record_conn_facts *rec = &out->rec;
	uint64_t age_ns = rec->closed_ns > rec->opened_ns ? rec->closed_ns - rec->opened_ns : 0;

	if (e->out)
		words_line(w, "%s from %s to %s; the last one %s%s%s",
			   words_count(alike, "such dial").s, name(w, e->from), text_addr(&rec->remote).s,
			   rec->closed_ns ? how_closed(out) : "still waits",
			   rec->closed_ns ? " after " : "", rec->closed_ns ? text_span(age_ns).s : "");
	else
		words_line(w, "%s from %s (%s) at %s; the last one %s after %s",
			   words_count(alike, "such connection").s, name(w, e->from),
			   text_addr(&rec->remote).s, name(w, e->to), how_closed(out),
			   text_span(age_ns).s);
	if (out->names->sni[0] && w->f->reason == LINK_TLS) {
		char sni[128], cert[128];
		const char *known = out->names->cert_name;

		if (!*known && e->in)
			known = e->in->names->cert_name;
		text_copy(sni, sizeof(sni), out->names->sni);
		text_copy(cert, sizeof(cert), known);
		words_line(w, "it asks for the name %s%s%s", sni, *cert ? "; the certificate is for " : "",
			   cert);
	}
	if (rec->tls_alert && w->f->reason == LINK_TLS)
		words_line(w, "TLS alert %u from %s", rec->tls_alert,
			   name(w, rec->tls_alert_out == (e->out != NULL) ? e->from : e->to));
	else if (rec->tls_alert_hidden && w->f->reason == LINK_TLS)
		words_line(w, "an encrypted alert of %s ended the handshake",
			   name(w, rec->tls_alert_hidden_out == (e->out != NULL) ? e->from : e->to));
	if (w->f->reason == LINK_NO_ANSWER)
		say_card(w, e);
	if (rec->http_status && w->f->reason == LINK_UPGRADE)
		words_line(w, "the upgrade was answered with HTTP %u", rec->http_status);
	if (w->f->reason == LINK_MESH_KEY)
		words_line(w, "%s was admitted (ServerInfo), asked to watch connections, and was closed "
			   "without being told of any", name(w, e->from));
	if (w->f->reason == LINK_NOT_ADMITTED)
		words_line(w, "ClientInfo%s was sent, no ServerInfo came back",
			   rec->info_len == 150 ? " of 150 bytes (Coder's short mesh key)" :
			   rec->info_len == 182 ? " of 182 bytes (derper's mesh key)" : "");
}

static bool up_again(const struct words *w)
{
	const struct link *l = link_find(w->a, w->f->from, w->f->to);

	return l && l->state == LINK_UP;
}

/* Dialled while it was traced, but only after what was lost: there was no link until then. */
static bool came_late(const struct words *w)
{
	const struct link *l = link_find(w->a, w->f->from, w->f->to);

	return w->f->reason == LINK_NO_DIAL && l && l->reason != LINK_NO_DIAL && l->edge_count &&
	       w->a->edges[l->edges[0]].opened_ns > w->f->last_ns;
}

/* What had left and never arrived, of connections that just ended. */
static uint64_t tail_lost(const struct words *w)
{
	const struct link *l = link_find(w->a, w->f->from, w->f->to);
	uint64_t lost = 0;
	size_t i, j;

	for (i = 0; l && i < l->edge_count; i++) {
		const struct edge *e = &w->a->edges[l->edges[i]];

		for (j = 0; !link_stall(e) && j < e->row_count; j++)
			lost += e->rows[j].lost;
	}
	return lost;
}

/* A name that the far end's certificate is for. Strangers write certificates: it is to be a host's. */
static struct dial_name cert_name(const struct edge *e)
{
	static const char host[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-";
	struct dial_name d = { "CERTNAME" };
	const char *name = e && e->out ? e->out->names->cert_name : "";

	if (!*name && e && e->in)
		name = e->in->names->cert_name;
	if (*name && strnlen(name, 128) < 128 && !name[strspn(name, host)])
		text_copy(d.s, sizeof(d.s), name);
	return d;
}

static void fix_down(struct words *w, const struct edge *e)
{
	const struct addr *addr = e && e->out ? &e->out->rec.remote : &w->a->nodes[w->f->to].addr;
	uint32_t from = w->f->from, to = w->f->to;
	struct dial_name dial = words_dial(w->a, to);
	char ip[ADDR_TEXT_LEN];

	switch (w->f->reason) {
	case LINK_NO_ANSWER:
		addr_format_ip(addr, ip);
		text_add(&w->fix, "let TCP from %s reach %s (firewall, route, security group); on %s "
			 "`nc -vz %s %u` must answer", name(w, from), name(w, to), name(w, from), ip,
			 addr->port);
		break;
	case LINK_REFUSED:
		text_add(&w->fix, "start the relay that %s dials, or correct its port: derper on %s: "
			 "-mesh-with=%s", name(w, from), name(w, from), dial.s);
		break;
	case LINK_TLS:
		text_add(&w->fix, "derper on %s: dial %s by a name in its certificate, "
			 "-mesh-with=%s%s/%s, or renew the certificate on %s (-hostname)",
			 name(w, from), name(w, to), cert_name(e).s, words_port(w->a, to).s,
			 words_host(w->a, to).s, name(w, to));
		break;
	case LINK_UPGRADE:
		text_add(&w->fix, "let the proxy in front of %s pass `Upgrade: DERP`, or have %s dial "
			 "the relay behind it: -mesh-with=%s", name(w, to), name(w, from), dial.s);
		break;
	case LINK_MESH_KEY:
		text_add(&w->fix, "put the same key into -mesh-psk-file on %s and %s, and restart both",
			 name(w, from), name(w, to));
		break;
	case LINK_NOT_ADMITTED:
		text_add(&w->fix, "on %s: upgrade derper to 1.70 or newer (-verify-clients refuses mesh "
			 "peers before), and use the same mesh key, 64 hex digits, on both",
			 name(w, to));
		break;
	case LINK_SELF:
		text_add(&w->fix, "derper on %s: its -mesh-with entry for %s leads back to itself: use "
			 "the other node's own address, -mesh-with=%s, and restart it",
			 name(w, from), name(w, to), dial.s);
		break;
	case LINK_SAME_KEY:
		text_add(&w->fix, "stop derper on %s, remove the PrivateKey from its -c file (a copied "
			 "derper.key), and start it: it makes a key of its own", name(w, to));
		break;
	default:
		if (came_late(w))
			text_add(&w->fix, "none is needed if %s had just started, or %s had: a relay whose "
				 "dial fails waits five seconds; else journalctl -u derper on %s tells how "
				 "the dials before ended", name(w, from), name(w, to), name(w, from));
		else if (up_again(w))
			text_add(&w->fix, "it came back by itself: find out what ended it (journalctl -u "
				 "derper on %s and %s at that time, and what lies between them)",
				 name(w, from), name(w, to));
		else if (words_is_coder(w->a, from))
			text_add(&w->fix, "check that replica %s still runs and is listed, and that "
				 "CODER_DERP_SERVER_RELAY_URL reaches it from %s", name(w, to),
				 name(w, from));
		else
			text_add(&w->fix, "check derper on %s; where it runs, restart derper on %s so "
				 "that -mesh-with=%s is dialled again", name(w, to), name(w, from),
				 dial.s);
	}
}

void words_link_down(struct words *w)
{
	const struct finding *f = w->f;
	uint64_t lost = tail_lost(w);
	const struct edge *e;
	size_t alike;

	text_add(&w->summary, "the mesh link %s -> %s is %s: %s", name(w, f->from), name(w, f->to),
		 !up_again(w) ? "down" : came_late(w) ? "up now, but was not there at first" :
		 "up again, but was down", came_late(w) ? "it was dialled only later" :
		 f->reason < LINK_REASONS && because[f->reason] ? because[f->reason] : "it ended");
	lost_across(w);
	e = edge_for(w, &alike);
	if (e)
		say_edge(w, e, alike);
	else if (f->reason == LINK_SAME_KEY)
		words_line(w, "%s and %s both present the server key %s", name(w, f->from), name(w, f->to),
			   text_peer(w->a, peer_get(w->a->c, &w->a->nodes[f->from].key, false)).s);
	else if (came_late(w))
		words_line(w, "the first dial from %s to %s that was seen came after the last of these packets",
			   name(w, f->from), name(w, f->to));
	else
		words_line(w, "no mesh connection from %s to %s is open", name(w, f->from),
			   name(w, f->to));
	if (lost && f->reason == LINK_CLOSED)
		words_line(w, "%s had left %s and never arrived, by stream position",
			   words_count(lost, "packet").s, name(w, f->from));
	if (f->count) {
		words_pairs(w);
		say_symptom(w);
	}
	fix_down(w, e);
}

static void say_stall(struct words *w, const struct edge *e)
{
	const struct stall *s = &e->out->mesh->stall;

	words_line(w, "%s towards %s stood unacknowledged for %s, %s more were not sent, %s",
		   words_count(s->unacked, "byte").s, name(w, e->to), text_span(s->longest_ns).s,
		   number_grouped(s->notsent).s,
		   words_count(s->retransmits, "retransmission").s);
	if (s->max_segment)
		words_line(w, "the segment that is sent again has %s",
			   words_count(s->max_segment, "byte").s);
	if (w->f->reason == LINK_MTU && s->passed && s->stuck > s->passed)
		words_line(w, "%s of up to %s had passed; it stands at the first one of %s",
			   words_count(s->passed_count, "forward").s, words_count(s->passed, "byte").s,
			   words_count(s->stuck, "byte").s);
	words_line(w, "sent: %s, acknowledged: %s%s%s",
		   words_count(e->out->mesh->rec.forwards, "forward").s,
		   number_grouped(e->out->mesh->rec.forwards_acked).s,
		   e->in ? ", arrived at the far end: " : "",
		   e->in ? words_count(e->in->mesh->rec.forwards, "packet").s : "");
}

void words_link_stalled(struct words *w)
{
	const struct finding *f = w->f;
	const struct link *l = link_find(w->a, f->from, f->to);
	const struct link *back = link_find(w->a, f->to, f->from);
	const struct edge *worst = NULL;
	size_t i;

	for (i = 0; l && i < l->edge_count; i++) {
		const struct edge *e = &w->a->edges[l->edges[i]];

		if (e->out && e->out->mesh->stall.longest_ns &&
		    (!worst || e->out->mesh->stall.longest_ns > worst->out->mesh->stall.longest_ns))
			worst = e;
	}
	text_add(&w->summary, "the mesh link %s -> %s was established and stood still: %s",
		 name(w, f->from), name(w, f->to),
		 f->reason < LINK_REASONS && because[f->reason] ? because[f->reason] : "it stalled");
	if (f->count)
		text_add(&w->summary, "; %s of %s lost on it", words_count(f->count, "packet").s,
			 words_count(f->pairs, "pair").s);
	if (worst)
		say_stall(w, worst);
	if (worst && f->reason == LINK_BLACKHOLE && nic_is_watched(w->a, f->to) && worst->in)
		words_line(w, "what reached the network card of %s, its TCP was given: it was lost before that "
			   "host", name(w, f->to));
	if (back && back->state == LINK_UP)
		words_line(w, "%s -> %s is up: only this direction is broken", name(w, f->to),
			   name(w, f->from));
	if (f->count)
		words_pairs(w);
	words_line(w, "while it stands still %s reads no sender that has a peer behind it: other pairs "
		   "of those senders wait too", name(w, f->from));
	if (!w->out->evidence_count)
		words_line(w, "no acknowledgement from %s", name(w, f->to));
	if (f->reason == LINK_MTU)
		text_add(&w->fix, "clamp the MSS between %s and %s (iptables -t mangle -A FORWARD -p tcp "
			 "--tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu), or let ICMP "
			 "\"fragmentation needed\" pass", name(w, f->from), name(w, f->to));
	else if (f->reason == LINK_CONGESTED)
		text_add(&w->fix, "look at %s: CPU, and what its clients take; or at the bandwidth "
			 "between %s and %s", name(w, f->to), name(w, f->from), name(w, f->to));
	else
		text_add(&w->fix, "find what drops packets from %s to %s (firewall, conntrack, route): "
			 "on %s `tcpdump -ni any host %s` shows whether they come", name(w, f->from),
			 name(w, f->to), name(w, f->to), words_host(w->a, f->from).s);
}
