// SPDX-License-Identifier: BSD-2-Clause
/*
 * The report for people: 80 columns, worst first, the healthy counted. Names of nodes and peers came
 * from strangers; the report holds printable ASCII only, so nothing here can move a cursor.
 */
#include "view/view.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/number.h"

#define COLUMNS		80
#define MATRIX_MAX	12	/* nodes shown in the matrix */
#define LINKS_MAX	6	/* links shown one by one */

enum colour { PLAIN, BOLD, RED, GREEN, YELLOW };

struct text {
	const struct report *r;
	const struct view_text_options *options;
	FILE *out;
	int columns;
};

static void paint(const struct text *t, enum colour colour)
{
	static const char *const codes[] = { "\33[0m", "\33[1m", "\33[31m", "\33[32m", "\33[33m" };

	if (t->options->colour)
		fputs(codes[colour], t->out);
}

static const char *range_text(const struct report_range *r, char buf[static 72])
{
	if (r->min == r->max)
		snprintf(buf, 72, "%s", number_grouped(r->min).s);
	else
		snprintf(buf, 72, "%s..%s", number_grouped(r->min).s, number_grouped(r->max).s);
	return buf;
}

/* Words, wrapped at the column; @first begins the first line, blanks of its width the others. */
static void wrap(const struct text *t, const char *first, const char *words)
{
	int indent = strlen(first), at = indent, len;
	const char *end;

	fputs(first, t->out);
	while (*words) {
		while (*words == ' ')
			words++;
		for (end = words; *end && *end != ' '; end++)
			;
		len = end - words;
		if (!len)
			break;
		if (at > indent && at + 1 + len > t->columns) {
			fprintf(t->out, "\n%*s", indent, "");
			at = indent;
		} else if (at > indent) {
			fputc(' ', t->out);
			at++;
		}
		fprintf(t->out, "%.*s", len, words);
		at += len;
		words = end;
	}
	fputc('\n', t->out);
}

/* What left one node for another that was not looked at yet is untraced in its pair, and in no node. */
static uint64_t untraced_packets(const struct report *r)
{
	uint64_t nodes = 0, pairs = 0;
	size_t i;

	for (i = 0; i < r->node_count; i++)
		nodes += r->nodes[i].untraced;
	for (i = 0; i < r->pair_count; i++)
		pairs += r->pairs[i].untraced;
	return nodes > pairs ? nodes : pairs;
}

static void traced_line(const struct text *t)
{
	const struct report *r = t->r;
	uint32_t nodes = 0, peers = 0;
	char unread[128] = "all read", line[256];
	uint64_t untraced = untraced_packets(r);
	size_t i;

	for (i = 0; i < r->node_count; i++) {
		nodes += r->nodes[i].traced;
		peers += r->nodes[i].peers;
	}
	if (r->without_secret || r->unsynchronised)
		snprintf(unread, sizeof(unread), "%s without secret, %s unsynchronised",
			 number_grouped(r->without_secret).s, number_grouped(r->unsynchronised).s);
	snprintf(line, sizeof(line), "%s node%s traced, %s peer%s, %s connection%s (%s), %s frame%s untraced, "
		 "%.1f s", number_grouped(nodes).s, nodes == 1 ? "" : "s",
		 number_grouped(peers).s, peers == 1 ? "" : "s",
		 number_grouped(r->connections).s, r->connections == 1 ? "" : "s", unread,
		 number_grouped(untraced).s, untraced == 1 ? "" : "s",
		 (double)(r->end_ns - r->start_ns) / NSEC_PER_SEC);
	wrap(t, "", line);
	if (!r->has_map && nodes > 1)
		wrap(t, "", "No DERP map was given (--map): all nodes are taken as one region.");
	if (r->nodes_twice) {
		snprintf(line, sizeof(line), "%s of the nodes told by the sources %s told twice: counted once, as "
			 "the source that saw more tells it.", number_grouped(r->nodes_twice).s,
			 r->nodes_twice == 1 ? "is" : "are");
		wrap(t, "", line);
	}
	if (r->nodes_left_out) {
		snprintf(line, sizeof(line), "%s more node%s over the limit: nothing of theirs is in "
			 "this report. Trace fewer at once.", number_grouped(r->nodes_left_out).s,
			 r->nodes_left_out == 1 ? " is" : "s are");
		wrap(t, "", line);
	}
	if (r->agents_cut)
		wrap(t, "", "A host's records were cut: what came after is untraced.");
}

/* What the governor did: how often, and where it stands. */
static void governed_line(const struct text *t)
{
	const struct report_step *s;
	char line[320];

	if (!t->r->step_count)
		return;
	s = &t->r->steps_list[t->r->step_count - 1];
	snprintf(line, sizeof(line), "Not all was taken in: the tracer cost more than its budget of %g %% "
		 "of all CPUs' time and changed how much it takes in %s time%s; at last from "
		 "%s to %s on %s, at %.2g %%.", s->step.budget_ppm / 1e4, number_grouped(t->r->steps).s,
		 t->r->steps == 1 ? "" : "s", record_level_name(s->step.from),
		 record_level_name(s->step.to), s->host[0] ? s->host : "this host",
		 s->step.cost_ppm / 1e4);
	paint(t, YELLOW);
	wrap(t, "", line);
	paint(t, PLAIN);
}

static void verdict(const struct text *t, const struct report_verdict *v)
{
	static const char *const bases[] = { "the relay said so", "seen on the wire", "inferred",
					     "not certain" };
	char buf[72], line[192];
	size_t i;

	fputc('\n', t->out);
	paint(t, v->count.max ? RED : YELLOW);
	paint(t, BOLD);
	snprintf(line, sizeof(line), "%s %s%s%s%s", verdict_class_code(v->class),
		 verdict_class_name(v->class), v->reason[0] ? " (" : "", v->reason,
		 v->reason[0] ? ")" : "");
	fputs(line, t->out);
	paint(t, PLAIN);
	if (v->count.max)
		fprintf(t->out, "  %s lost", range_text(&v->count, buf));
	fprintf(t->out, "  [%s]\n", bases[v->basis]);
	wrap(t, "  ", v->summary);
	for (i = 0; i < v->evidence_count; i++)
		wrap(t, "  - ", v->evidence[i]);
	paint(t, BOLD);
	wrap(t, "  fix: ", v->fix);
	paint(t, PLAIN);
}

static bool saw_all(const struct report *r)
{
	return !untraced_packets(r) && !r->nodes_left_out && !r->agents_cut && !r->segments_lost && !r->steps &&
	       !r->without_secret && !r->unsynchronised;
}

static void verdicts(const struct text *t)
{
	uint64_t entered = 0;
	size_t i;

	if (!t->r->node_count) {
		fputs("\nNothing was traced.\n", t->out);
		return;
	}
	for (i = 0; i < t->r->node_count; i++)
		entered += t->r->nodes[i].entered;
	if (!t->r->verdict_count && saw_all(t->r) && !entered) {
		fputs("\nNothing found: no packet entered.\n", t->out);
	} else if (!t->r->verdict_count && saw_all(t->r)) {
		paint(t, GREEN);
		fputs("\nNothing found: every packet that entered is accounted for.\n", t->out);
		paint(t, PLAIN);
	} else if (!t->r->verdict_count) {
		paint(t, YELLOW);
		fputs("\nNothing found in what was seen; not all was.\n", t->out);
		paint(t, PLAIN);
	}
	for (i = 0; i < t->r->verdict_count; i++)
		verdict(t, &t->r->verdicts[i]);
}

static void card_row(const struct text *t, const char *name, const struct record_nic *nic)
{
	char stun[48] = "-", line[160];

	if (nic->stun_listens || nic->stun_in)
		snprintf(stun, sizeof(stun), "%" PRIu64 "/%" PRIu64, nic->stun_in, nic->stun_out);
	fprintf(t->out, "  %-22.22s %10s %14s %7" PRIu64 " %7" PRIu64 " %13s\n", name,
		number_grouped(nic->packets).s, number_grouped(nic->bytes).s, nic->syn,
		nic->duplicates, stun);
	snprintf(line, sizeof(line), "%s, XDP %s", nic->interfaces[0] ? nic->interfaces : "no interface",
		 nic->mode);
	wrap(t, "    ", line);
	if (nic->drops)
		fprintf(t->out, "    %s connection%s dropped by the host\n", number_grouped(nic->drops).s,
			nic->drops == 1 ? "" : "s");
}

/* What reached the network cards, where they were watched. */
static void cards(const struct text *t)
{
	bool any = false;
	size_t i;

	for (i = 0; i < t->r->node_count; i++) {
		const struct report_node *n = &t->r->nodes[i];

		if (!n->has_nic || n->ended_ns)
			continue;
		if (!any)
			fprintf(t->out, "\n%-24s %10s %14s %7s %7s %13s\n", "Reached the network card",
				"packets", "bytes", "SYN", "again", "STUN/answered");
		any = true;
		card_row(t, n->name, &n->nic);
	}
}

static const struct report_link *find_link(const struct report *r, uint32_t from, uint32_t to)
{
	size_t i;

	for (i = 0; i < r->link_count; i++) {
		if (r->links[i].from == from && r->links[i].to == to)
			return &r->links[i];
	}
	return NULL;
}

static void link_cell(const struct text *t, const struct report_link *l, bool self, int width)
{
	static const char *const states[] = { "up", "DOWN", "STALLED", "unknown" };
	static const enum colour colours[] = { GREEN, RED, RED, YELLOW };

	if (self || !l) {
		fprintf(t->out, " %*s", width, self ? "." : "");
		return;
	}
	paint(t, colours[l->state]);
	fprintf(t->out, " %*s", width, states[l->state]);
	paint(t, PLAIN);
}

/* Nodes that take part in a link, or are alive: ended lives of a restarted node are left out. */
static size_t matrix_nodes(const struct report *r, uint32_t nodes[static MATRIX_MAX])
{
	size_t i, n = 0;

	for (i = 0; i < r->node_count && n < MATRIX_MAX; i++) {
		if (!r->nodes[i].ended_ns)
			nodes[n++] = i;
	}
	return n;
}

static void matrix(const struct text *t)
{
	uint32_t nodes[MATRIX_MAX];
	size_t n = matrix_nodes(t->r, nodes), i, j;

	if (n < 2)
		return;
	fputs("\nLinks (row forwards to column)\n", t->out);
	fprintf(t->out, "     %-28s", "");
	for (i = 0; i < n; i++)
		fprintf(t->out, " %7zu", i + 1);
	fputc('\n', t->out);
	for (i = 0; i < n; i++) {
		fprintf(t->out, "  %2zu %-28.28s", i + 1, t->r->nodes[nodes[i]].name);
		for (j = 0; j < n; j++)
			link_cell(t, find_link(t->r, nodes[i], nodes[j]), i == j, 7);
		fputc('\n', t->out);
	}
}

static void link_line(const struct text *t, const struct report_link *l)
{
	static const char *const states[] = { "up", "down", "stalled", "unknown" };
	char lost[72], line[768];

	snprintf(line, sizeof(line), "%s -> %s: %s%s%s, sent %s, arrived %s, lost %s",
		 t->r->nodes[l->from].name, t->r->nodes[l->to].name, states[l->state],
		 l->reason ? " " : "", l->reason ? l->reason : "", number_grouped(l->sent).s,
		 l->has_arrived ? number_grouped(l->arrived).s : "(not traced)",
		 range_text(&l->lost, lost));
	wrap(t, "  ", line);
}

/* One by one where there is something to say; the matrix has shown the state of the others. */
static void links(const struct text *t)
{
	const struct report_link *l;
	size_t i, healthy = 0, shown = 0, silent = 0;

	for (i = 0; i < t->r->link_count; i++) {
		l = &t->r->links[i];
		if (l->state == LINK_UP && !l->lost.max && !l->untraced) {
			healthy++;
		} else if (shown < LINKS_MAX && (l->sent || l->lost.max || l->state == LINK_STALLED ||
						 t->r->link_count <= LINKS_MAX)) {
			link_line(t, l);
			shown++;
		} else {
			silent++;
		}
	}
	if (t->r->link_count)
		fprintf(t->out, "  %s of %s link%s healthy", number_grouped(healthy).s,
			number_grouped(t->r->link_count).s, t->r->link_count == 1 ? "" : "s");
	if (silent)
		fprintf(t->out, ", %s more that carried nothing", number_grouped(silent).s);
	if (t->r->link_count)
		fputc('\n', t->out);
}

/* "85us", "1.3ms", "12s" */
static const char *time_text(double us, char buf[static 16])
{
	double v = us < 1e3 ? us : us < 1e6 ? us / 1e3 : us / 1e6;
	const char *unit = us < 1e3 ? "us" : us < 1e6 ? "ms" : "s";

	snprintf(buf, 16, "%.*f%s", v < 10 && us >= 1e3 ? 1 : 0, v, unit);
	return buf;
}

static void latency_row(const struct text *t, const char *from, const char *to,
			const struct report_latency *l)
{
	char name[46], p50[16], p99[16];

	snprintf(name, sizeof(name), "%.20s%s%.20s", from, to ? " -> " : "", to ? to : "");
	fprintf(t->out, "  %-44s %12s %8s %8s\n", name, number_grouped(l->samples).s,
		time_text(l->p50_us, p50), time_text(l->p99_us, p99));
}

/* Nodes that were traced, and the links whose packets take longest to arrive. */
static void latencies(const struct text *t)
{
	const struct report_link *slow[LINKS_MAX], *l;
	size_t i, at, n = 0, nodes = 0;

	for (i = 0; i < t->r->link_count; i++) {
		l = &t->r->links[i];
		if (!l->latency.samples)
			continue;
		for (at = n; at && slow[at - 1]->latency.p99_us < l->latency.p99_us; at--) {
			if (at < LINKS_MAX)
				slow[at] = slow[at - 1];
		}
		if (at < LINKS_MAX)
			slow[at] = l;
		n += n < LINKS_MAX;
	}
	for (i = 0; i < t->r->node_count && nodes < MATRIX_MAX; i++) {
		if (!t->r->nodes[i].latency.samples || t->r->nodes[i].ended_ns)
			continue;
		if (!nodes++)
			fprintf(t->out, "\n%-46s %12s %8s %8s\n", "Latency", "packets timed", "p50", "p99");
		latency_row(t, t->r->nodes[i].name, NULL, &t->r->nodes[i].latency);
	}
	for (at = 0; nodes && at < n; at++)
		latency_row(t, t->r->nodes[slow[at]->from].name, t->r->nodes[slow[at]->to].name,
			    &slow[at]->latency);
}

static void landing_row(const struct text *t, const char *name, const struct report_landing *l)
{
	char lost[72];

	fprintf(t->out, "  %-22s %8" PRIu64 " %12s %12s %14s\n", name, l->pairs,
		number_grouped(l->sent).s, number_grouped(l->delivered).s,
		range_text(&l->lost, lost));
}

static void landings(const struct text *t)
{
	if (!t->r->same_node.pairs && !t->r->across.pairs)
		return;
	fprintf(t->out, "\n  %-22s %8s %12s %12s %14s\n", "Landing of both peers", "pairs", "sent",
		"delivered", "lost");
	landing_row(t, "on the same node", &t->r->same_node);
	landing_row(t, "on different nodes", &t->r->across);
}

static void peer_name(const struct report_pair *p, const struct key *key, char name[static 8])
{
	if (p->is_other)
		strcpy(name, "other");
	else if (key_is_zero(key))
		strcpy(name, "?");
	else
		key_format_short(key, name);
}

static const char *worst_class(const struct report_pair *p)
{
	int i, worst = -1;

	for (i = 0; i < VERDICT_CLASSES; i++) {
		if (p->lost_by[i].max && (worst < 0 || p->lost_by[i].max > p->lost_by[worst].max))
			worst = i;
	}
	return worst < 0 ? "" : verdict_class_name(worst);
}

/* Behind what was lost stands its cause, if it is sure; where nothing was, how long packets took. */
static void pair_row(const struct text *t, const struct report_pair *p)
{
	char src[KEY_SHORT_LEN], dst[KEY_SHORT_LEN], lost[72];
	char p50[16], p99[16];

	peer_name(p, &p->src, src);
	peer_name(p, &p->dst, dst);
	if (p->lost.max)
		paint(t, p->lost.min ? RED : YELLOW);
	fprintf(t->out, "  %-7s -> %-7s %10s %10s %9" PRIu64 " %8s", src, dst,
		number_grouped(p->entered).s, number_grouped(p->delivered).s, p->in_flight,
		range_text(&p->lost, lost));
	if (p->lost.max)
		fprintf(t->out, " %s", p->lost.min ? worst_class(p) : "not all seen");
	else if (p->latency.samples)
		fprintf(t->out, " %6s %6s", time_text(p->latency.p50_us, p50),
			time_text(p->latency.p99_us, p99));
	fputc('\n', t->out);
	if (p->lost.max)
		paint(t, PLAIN);
}

static void add_pair(struct report_pair *sum, const struct report_pair *p)
{
	int i;

	sum->entered += p->entered;
	sum->delivered += p->delivered;
	sum->in_flight += p->in_flight;
	sum->lost.min += p->lost.min;
	sum->lost.max += p->lost.max;
	for (i = 0; i < VERDICT_CLASSES; i++) {
		sum->lost_by[i].min += p->lost_by[i].min;
		sum->lost_by[i].max += p->lost_by[i].max;
	}
}

static void pairs(const struct text *t)
{
	struct report_pair other = { .is_other = true };
	size_t i, shown = 0, summed = 0, healthy = 0, rows = t->options->rows;

	if (!t->r->pair_count)
		return;
	fprintf(t->out, "\n  %-18s %10s %10s %9s %8s %6s %6s\n", "Pairs", "entered", "delivered", "in flight",
		"lost", "p50", "p99");
	for (i = 0; i < t->r->pair_count; i++) {
		healthy += !t->r->pairs[i].lost.max;
		if (!t->r->pairs[i].is_other && shown < rows) {
			pair_row(t, &t->r->pairs[i]);
			shown++;
		} else {
			add_pair(&other, &t->r->pairs[i]);
			summed++;
		}
	}
	if (summed)
		pair_row(t, &other);
	fprintf(t->out, "  %s of %s pair%s lost nothing\n", number_grouped(healthy).s,
		number_grouped(t->r->pair_count).s, t->r->pair_count == 1 ? "" : "s");
}

int view_text(const struct report *r, FILE *out, const struct view_text_options *options)
{
	const struct text t = { r, options, out, options->columns ? options->columns : COLUMNS };

	if (options->clear)
		fputs("\33[H\33[J", out);
	traced_line(&t);
	governed_line(&t);
	verdicts(&t);
	matrix(&t);
	links(&t);
	landings(&t);
	pairs(&t);
	latencies(&t);
	cards(&t);
	return ferror(out) ? -EIO : 0;
}
