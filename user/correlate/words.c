/* SPDX-License-Identifier: BSD-2-Clause */
/* What all words share: evidence lines, who lost most, by what name a relay is dialled. */
#include "correlate/analysis.h"
#include "base/number.h"
#include "derpmap/derpmap.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOP_PAIRS	3

void words_line(struct words *w, const char *format, ...)
{
	struct report_verdict *v = w->out;
	char **lines, *line;
	va_list args;
	int n;

	lines = realloc(v->evidence, (v->evidence_count + 1) * sizeof(*lines));
	if (!lines) {
		w->failed = true;
		return;
	}
	v->evidence = lines;
	va_start(args, format);
	n = vasprintf(&line, format, args);
	va_end(args);
	if (n < 0)
		w->failed = true;
	else
		v->evidence[v->evidence_count++] = line;
}

struct count_text words_count(uint64_t count, const char *noun)
{
	struct count_text t;

	snprintf(t.s, sizeof(t.s), "%s %s%s", number_grouped(count).s, noun, count == 1 ? "" : "s");
	return t;
}

#define CMP(x, y) do { if ((x) != (y)) return (x) < (y) ? -1 : 1; } while (0)

/* Most first; then by key, for a pair's number depends on who was told first. */
static int worse(const struct analysis *a, const struct share *x, const struct share *y)
{
	const struct pair_ends *px = &a->c->pairs[x->pair], *py = &a->c->pairs[y->pair];
	int cmp;

	CMP(y->count, x->count);
	cmp = key_compare(&a->c->peers[px->src], &a->c->peers[py->src]);
	return cmp ? cmp : key_compare(&a->c->peers[px->dst], &a->c->peers[py->dst]);
}

/* The finding's greatest shares, greatest first; the last are NULL where there are fewer. */
static void top_shares(const struct words *w, const struct share *top[static TOP_PAIRS])
{
	uint32_t finding = w->f - w->a->findings;
	size_t i, j, k;

	for (i = 0; i < w->a->share_count; i++) {
		const struct share *s = &w->a->shares[i];

		if (s->finding != finding)
			continue;
		for (j = 0; j < TOP_PAIRS && top[j] && worse(w->a, top[j], s) <= 0;)
			j++;
		if (j == TOP_PAIRS)
			continue;
		for (k = TOP_PAIRS - 1; k > j; k--)
			top[k] = top[k - 1];
		top[j] = s;
	}
}

void words_pairs_of(struct words *w, const char *noun)
{
	const struct analysis *a = w->a;
	const struct share *top[TOP_PAIRS] = { 0 };
	uint32_t left = w->f->pairs;
	size_t i;

	top_shares(w, top);
	for (i = 0; i < TOP_PAIRS && top[i]; i++, left--) {
		const struct pair_ends *ends = &a->c->pairs[top[i]->pair];
		struct count_text count = words_count(top[i]->count, noun);
		char of[48] = "";

		if (!strcmp(noun, "packet"))
			snprintf(of, sizeof(of), " of %s that entered",
				 number_grouped(a->sums[top[i]->pair].entered).s);
		if (top[i]->pair == OTHER_PAIR)
			words_line(w, "pairs without a row of their own: %s%s", count.s, of);
		else
			words_line(w, "%s to %s: %s%s", text_peer(a, ends->src).s,
				   text_peer(a, ends->dst).s, count.s, of);
	}
	if (left)
		words_line(w, "and %s more", words_count(left, "pair").s);
}

void words_pairs(struct words *w)
{
	words_pairs_of(w, "packet");
}

struct dial_name words_host(const struct analysis *a, uint32_t node)
{
	const struct node *n = &a->nodes[node];
	const char *tls = n->life ? n->life->info.tls_name : "";
	struct dial_name d;

	if (n->map)
		text_copy(d.s, sizeof(d.s) - 10, n->map->hostname);
	else if (*tls)
		text_copy(d.s, sizeof(d.s) - 10, tls);
	else if (n->addr.family)
		addr_format_ip(&n->addr, d.s);
	else
		text_copy(d.s, sizeof(d.s) - 10, n->name);
	return d;
}

struct dial_name words_port(const struct analysis *a, uint32_t node)
{
	const struct node *n = &a->nodes[node];
	uint16_t port = n->map ? n->map->derp_port : n->addr.port;
	struct dial_name d = { "" };

	if (port && port != DERPMAP_DERP_PORT)
		snprintf(d.s, sizeof(d.s), ":%u", port);
	return d;
}

struct dial_name words_dial(const struct analysis *a, uint32_t node)
{
	struct dial_name host = words_host(a, node), port = words_port(a, node), d;
	bool ip6 = strchr(host.s, ':') && a->nodes[node].addr.family == 6;

	snprintf(d.s, sizeof(d.s), ip6 ? "[%.145s]%.6s" : "%.145s%.6s", host.s, port.s);
	return d;
}

bool words_is_coder(const struct analysis *a, uint32_t node)
{
	const struct life *life = a->nodes[node].life;

	return life && (strstr(life->info.software, "coder/") || !strcmp(life->info.name, "coder"));
}
