// SPDX-License-Identifier: BSD-2-Clause
/*
 * The report as OpenMetrics text (the specification of OpenMetrics 1.0). Peers are chosen by strangers:
 * the pairs shown are bounded, the rest is summed in a row of its own.
 */
#include "view/view.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>


static void begin(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# TYPE derptrace_%s %s\n# HELP derptrace_%s %s\n", name, type, name, help);
}

static void begin_seconds(FILE *out, const char *name, const char *type, const char *help)
{
	begin(out, name, type, help);
	fprintf(out, "# UNIT derptrace_%s seconds\n", name);
}

/* Label values hold printable ASCII already; quotes and backslashes are what is left to escape. */
static void label(FILE *out, const char *name, const char *value, char end)
{
	fprintf(out, "%s=\"", name);
	for (; *value; value++) {
		if (*value == '"' || *value == '\\')
			fputc('\\', out);
		fputc(*value, out);
	}
	fprintf(out, "\"%c", end);
}

static void node_row(FILE *out, const char *metric, const struct report_node *n, const char *term,
		     uint64_t value)
{
	fprintf(out, "derptrace_%s{", metric);
	label(out, "node", n->name, ',');
	label(out, "term", term, '}');
	fprintf(out, " %" PRIu64 "\n", value);
}

static void nodes(const struct report *r, FILE *out)
{
	const struct report_node *n;
	size_t i;

	begin(out, "node_frames", "gauge",
	      "Packets of a node by term: entered = left + in_flight + lost + untraced.");
	for (i = 0; i < r->node_count; i++) {
		n = &r->nodes[i];
		node_row(out, "node_frames", n, "entered", n->entered);
		node_row(out, "node_frames", n, "left", n->left);
		node_row(out, "node_frames", n, "in_flight", n->in_flight);
		node_row(out, "node_frames", n, "lost", n->lost.min);
		node_row(out, "node_frames", n, "untraced", n->untraced);
	}
	begin(out, "node_peers", "gauge", "Peers connected now.");
	for (i = 0; i < r->node_count; i++) {
		fputs("derptrace_node_peers{", out);
		label(out, "node", r->nodes[i].name, '}');
		fprintf(out, " %" PRIu32 "\n", r->nodes[i].peers);
	}
}

static void le_row(FILE *out, const struct report_node *n, const char *le, uint64_t count)
{
	fputs("derptrace_node_latency_seconds_bucket{", out);
	label(out, "node", n->name, ',');
	label(out, "le", le, '}');
	fprintf(out, " %" PRIu64 "\n", count);
}

/* One for each power of two from 4 microseconds to 8 seconds. */
static void node_latency(FILE *out, const struct report_node *n)
{
	uint64_t count = 0;
	unsigned int i;
	char le[32];

	for (i = 0; latency_begin(i) < 1u << 26; i++) {
		count += n->latency_buckets[i];
		if (i % 4 != 3 || i < 15)
			continue;
		snprintf(le, sizeof(le), "%.9g", latency_begin(i + 1) * (LATENCY_UNIT_NS / 1e9));
		le_row(out, n, le, count);
	}
	le_row(out, n, "+Inf", n->latency.samples);
}

static void node_latencies(const struct report *r, FILE *out)
{
	size_t i;

	begin_seconds(out, "node_latency_seconds", "histogram",
		      "From entering a node to leaving it, of packets that were timed.");
	for (i = 0; i < r->node_count; i++) {
		if (r->nodes[i].traced)
			node_latency(out, &r->nodes[i]);
	}
}

static void cards(const struct report *r, FILE *out)
{
	const struct report_node *n;
	size_t i;

	begin(out, "nic", "gauge", "What reached the network card for a node (XDP), by what.");
	for (i = 0; i < r->node_count; i++) {
		n = &r->nodes[i];
		if (!n->has_nic)
			continue;
		node_row(out, "nic", n, "packets", n->nic.packets);
		node_row(out, "nic", n, "bytes", n->nic.bytes);
		node_row(out, "nic", n, "syn", n->nic.syn);
		node_row(out, "nic", n, "rst", n->nic.rst);
		node_row(out, "nic", n, "fin", n->nic.fin);
		node_row(out, "nic", n, "duplicates", n->nic.duplicates);
		node_row(out, "nic", n, "drops", n->nic.drops);
		node_row(out, "nic", n, "stun_in", n->nic.stun_in);
		node_row(out, "nic", n, "stun_heard", n->nic.stun_heard);
		node_row(out, "nic", n, "stun_out", n->nic.stun_out);
	}
}

static void link_row(const struct report *r, FILE *out, const char *metric,
		     const struct report_link *l, const char *term, uint64_t value)
{
	fprintf(out, "derptrace_%s{", metric);
	label(out, "from", r->nodes[l->from].name, ',');
	label(out, "to", r->nodes[l->to].name, term ? ',' : '}');
	if (term)
		label(out, "term", term, '}');
	fprintf(out, " %" PRIu64 "\n", value);
}

static void links(const struct report *r, FILE *out)
{
	const struct report_link *l;
	size_t i;

	begin(out, "link_up", "gauge", "1 where the mesh connection from one node to the other is up.");
	for (i = 0; i < r->link_count; i++)
		link_row(r, out, "link_up", &r->links[i], NULL, r->links[i].state == LINK_UP);
	begin(out, "link_frames", "gauge",
	      "ForwardPacket frames by term: sent = arrived + in_flight + lost + untraced.");
	for (i = 0; i < r->link_count; i++) {
		l = &r->links[i];
		link_row(r, out, "link_frames", l, "sent", l->sent);
		if (l->has_arrived)
			link_row(r, out, "link_frames", l, "arrived", l->arrived);
		link_row(r, out, "link_frames", l, "in_flight", l->in_flight);
		link_row(r, out, "link_frames", l, "lost", l->lost.min);
		link_row(r, out, "link_frames", l, "untraced", l->untraced);
	}
}

static void link_quantile(const struct report *r, FILE *out, const struct report_link *l,
			  const char *quantile, double us)
{
	fputs("derptrace_link_latency_seconds{", out);
	label(out, "from", r->nodes[l->from].name, ',');
	label(out, "to", r->nodes[l->to].name, ',');
	label(out, "quantile", quantile, '}');
	fprintf(out, " %.9g\n", us / 1e6);
}

static void link_latencies(const struct report *r, FILE *out)
{
	const struct report_link *l;
	size_t i;

	begin_seconds(out, "link_latency_seconds", "summary",
		      "From leaving one node to arriving at the other, of the newest packets sampled.");
	for (i = 0; i < r->link_count; i++) {
		l = &r->links[i];
		if (!l->latency.samples)
			continue;
		link_quantile(r, out, l, "0.5", l->latency.p50_us);
		link_quantile(r, out, l, "0.99", l->latency.p99_us);
	}
}

static void key_label(FILE *out, const char *name, const struct key *key, bool other, char end)
{
	char text[KEY_TEXT_LEN];

	key_format(key, text);
	label(out, name, other ? "other" : key_is_zero(key) ? "unknown" : text, end);
}

static void pair_row(FILE *out, const struct report_pair *p, const char *term, uint64_t value)
{
	fputs("derptrace_pair_frames{", out);
	key_label(out, "src", &p->src, p->is_other, ',');
	key_label(out, "dst", &p->dst, p->is_other, ',');
	label(out, "term", term, '}');
	fprintf(out, " %" PRIu64 "\n", value);
}

static void pair_rows(FILE *out, const struct report_pair *p)
{
	pair_row(out, p, "entered", p->entered);
	pair_row(out, p, "delivered", p->delivered);
	pair_row(out, p, "in_flight", p->in_flight);
	pair_row(out, p, "lost", p->lost.min);
	pair_row(out, p, "untraced", p->untraced);
}

static void add_pair(struct report_pair *sum, const struct report_pair *p)
{
	sum->entered += p->entered;
	sum->delivered += p->delivered;
	sum->in_flight += p->in_flight;
	sum->lost.min += p->lost.min;
	sum->untraced += p->untraced;
}

static void pairs(const struct report *r, FILE *out, unsigned int max_pairs)
{
	struct report_pair other = { .is_other = true };
	unsigned int shown = 0;
	bool any = false;
	size_t i;

	begin(out, "pair_frames", "gauge",
	      "Packets of a pair by term: entered = delivered + in_flight + lost + untraced.");
	for (i = 0; i < r->pair_count; i++) {
		if (!r->pairs[i].is_other && shown < max_pairs) {
			pair_rows(out, &r->pairs[i]);
			shown++;
		} else {
			add_pair(&other, &r->pairs[i]);
			any = true;
		}
	}
	if (any)
		pair_rows(out, &other);
}

static void pair_quantile(FILE *out, const struct report_pair *p, const char *quantile, double us)
{
	fputs("derptrace_pair_latency_seconds{", out);
	key_label(out, "src", &p->src, false, ',');
	key_label(out, "dst", &p->dst, false, ',');
	label(out, "quantile", quantile, '}');
	fprintf(out, " %.9g\n", us / 1e6);
}

static void pair_latencies(const struct report *r, FILE *out, unsigned int max_pairs)
{
	unsigned int shown = 0;
	size_t i;

	begin_seconds(out, "pair_latency_seconds", "summary",
		      "From entering a relay to leaving it, of packets that were timed; both relays' added up.");
	for (i = 0; i < r->pair_count && shown < max_pairs; i++) {
		const struct report_pair *p = &r->pairs[i];

		if (p->is_other)
			continue;
		shown++;
		if (!p->latency.samples)
			continue;
		pair_quantile(out, p, "0.5", p->latency.p50_us);
		pair_quantile(out, p, "0.99", p->latency.p99_us);
	}
}

static void verdicts(const struct report *r, FILE *out)
{
	uint64_t found[VERDICT_CLASSES] = { 0 }, lost[VERDICT_CLASSES] = { 0 };
	size_t i;
	int c;

	for (i = 0; i < r->verdict_count; i++) {
		found[r->verdicts[i].class]++;
		lost[r->verdicts[i].class] += r->verdicts[i].count.min;
	}
	begin(out, "verdicts", "gauge", "Findings by class.");
	for (c = 0; c < VERDICT_CLASSES; c++)
		fprintf(out, "derptrace_verdicts{class=\"%s\"} %" PRIu64 "\n", verdict_class_name(c),
			found[c]);
	begin(out, "verdict_frames", "gauge", "Frames lost by class.");
	for (c = 0; c < VERDICT_CLASSES; c++)
		fprintf(out, "derptrace_verdict_frames{class=\"%s\"} %" PRIu64 "\n",
			verdict_class_name(c), lost[c]);
}

static void tracer(const struct report *r, FILE *out)
{
	enum record_level level;

	begin(out, "segments_lost", "gauge", "Segments that the tracer itself could not take.");
	fprintf(out, "derptrace_segments_lost %" PRIu64 "\n", r->segments_lost);
	begin(out, "connections", "gauge", "TCP connections that carried data, by how they can be read.");
	fprintf(out, "derptrace_connections{state=\"all\"} %" PRIu64 "\n", r->connections);
	fprintf(out, "derptrace_connections{state=\"without_secret\"} %" PRIu64 "\n", r->without_secret);
	fprintf(out, "derptrace_connections{state=\"unsynchronised\"} %" PRIu64 "\n", r->unsynchronised);
	begin(out, "level", "gauge", "How much is taken in: 1 for the level that holds.");
	for (level = 0; level < LEVEL_COUNT; level++)
		fprintf(out, "derptrace_level{level=\"%s\"} %d\n", record_level_name(level),
			!strcmp(r->mode[0] ? r->mode : "full", record_level_name(level)));
	begin(out, "level_changes", "gauge", "Times that the budget changed it.");
	fprintf(out, "derptrace_level_changes %" PRIu64 "\n", r->steps);
	if (r->cpu_percent >= 0) {
		begin(out, "cpu_percent", "gauge", "The tracer's cost, of one core.");
		fprintf(out, "derptrace_cpu_percent %.3f\n", r->cpu_percent);
	}
}

int view_metrics(const struct report *r, FILE *out, unsigned int max_pairs)
{
	nodes(r, out);
	node_latencies(r, out);
	cards(r, out);
	links(r, out);
	link_latencies(r, out);
	pairs(r, out, max_pairs);
	pair_latencies(r, out, max_pairs);
	verdicts(r, out);
	tracer(r, out);
	fputs("# EOF\n", out);
	return ferror(out) ? -EIO : 0;
}
