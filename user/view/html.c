// SPDX-License-Identifier: BSD-2-Clause
/* The report as one page that needs nothing else: to be mailed, or kept with an incident. */
#include "view/view.h"

#include <errno.h>
#include <inttypes.h>

static void escaped(FILE *out, const char *text)
{
	for (; *text; text++) {
		switch (*text) {
		case '<':
			fputs("&lt;", out);
			break;
		case '>':
			fputs("&gt;", out);
			break;
		case '&':
			fputs("&amp;", out);
			break;
		default:
			fputc(*text, out);
		}
	}
}

static void element(FILE *out, const char *name, const char *text)
{
	fprintf(out, "<%s>", name);
	escaped(out, text);
	fprintf(out, "</%s>\n", name);
}

static void number_cell(FILE *out, uint64_t v)
{
	fprintf(out, "<td>%" PRIu64 "</td>", v);
}

static void range_cell(FILE *out, const struct report_range *r)
{
	if (r->min == r->max)
		number_cell(out, r->min);
	else
		fprintf(out, "<td>%" PRIu64 "&ndash;%" PRIu64 "</td>", r->min, r->max);
}

static void head(FILE *out)
{
	fputs("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>derptrace report</title>\n"
	      "<style>body{font:15px/1.5 sans-serif;max-width:64em;margin:2em auto;padding:0 1em}"
	      "table{border-collapse:collapse;margin:1em 0}th,td{padding:.2em .8em;text-align:right;"
	      "border-bottom:1px solid #ccc}th:first-child,td:first-child{text-align:left}"
	      ".v{border-left:4px solid #b00;padding:.1em 1em;margin:1em 0}.ok{border-color:#080}"
	      "code{background:#eee;padding:0 .3em}</style></head><body>\n<h1>derptrace report</h1>\n", out);
}

static void verdicts(const struct report *r, FILE *out)
{
	const struct report_verdict *v;
	size_t i, j;

	if (!r->verdict_count)
		fputs("<div class=\"v ok\"><p>Nothing found: every packet that entered is accounted for.</p></div>\n",
		      out);
	for (i = 0; i < r->verdict_count; i++) {
		v = &r->verdicts[i];
		fprintf(out, "<div class=\"v\"><h2>%s %s</h2>\n", verdict_class_code(v->class),
			verdict_class_name(v->class));
		element(out, "p", v->summary);
		fputs("<ul>", out);
		for (j = 0; j < v->evidence_count; j++)
			element(out, "li", v->evidence[j]);
		fputs("</ul><p><b>Fix:</b> <code>", out);
		escaped(out, v->fix);
		fputs("</code></p></div>\n", out);
	}
}

static void nodes(const struct report *r, FILE *out)
{
	const struct report_node *n;
	size_t i;

	fputs("<table><tr><th>Node</th><th>peers</th><th>entered</th><th>left</th><th>in flight</th><th>lost</th>"
	      "<th>untraced</th></tr>\n", out);
	for (i = 0; i < r->node_count; i++) {
		n = &r->nodes[i];
		fputs("<tr>", out);
		element(out, "td", n->name);
		number_cell(out, n->peers);
		number_cell(out, n->entered);
		number_cell(out, n->left);
		number_cell(out, n->in_flight);
		range_cell(out, &n->lost);
		number_cell(out, n->untraced);
		fputs("</tr>\n", out);
	}
	fputs("</table>\n", out);
	if (r->nodes_twice)
		fprintf(out, "<p>%" PRIu64 " of the nodes told by the sources %s told twice: counted once, as "
			"the source that saw more tells it.</p>\n", r->nodes_twice,
			r->nodes_twice == 1 ? "is" : "are");
	if (r->nodes_left_out)
		fprintf(out, "<p>%" PRIu64 " more nodes are over the limit: nothing of theirs is here.</p>\n",
			r->nodes_left_out);
}

static void links(const struct report *r, FILE *out)
{
	static const char *const states[] = { "up", "down", "stalled", "unknown" };
	const struct report_link *l;
	size_t i;

	if (!r->link_count)
		return;
	fputs("<table><tr><th>Link</th><th>state</th><th>sent</th><th>arrived</th><th>lost</th></tr>\n", out);
	for (i = 0; i < r->link_count; i++) {
		l = &r->links[i];
		fputs("<tr><td>", out);
		escaped(out, r->nodes[l->from].name);
		fputs(" &rarr; ", out);
		escaped(out, r->nodes[l->to].name);
		fprintf(out, "</td><td>%s %s</td>", states[l->state], l->reason ? l->reason : "");
		number_cell(out, l->sent);
		if (l->has_arrived)
			number_cell(out, l->arrived);
		else
			fputs("<td>not traced</td>", out);
		range_cell(out, &l->lost);
		fputs("</tr>\n", out);
	}
	fputs("</table>\n", out);
}

static void pairs(const struct report *r, FILE *out)
{
	const struct report_pair *p;
	char text[KEY_TEXT_LEN];
	size_t i;

	fputs("<table><tr><th>Pair</th><th>entered</th><th>delivered</th><th>in flight</th><th>lost</th></tr>\n", out);
	for (i = 0; i < r->pair_count; i++) {
		p = &r->pairs[i];
		key_format_short(&p->src, text);
		fprintf(out, "<tr><td>%s &rarr; ", p->is_other ? "other" : key_is_zero(&p->src) ? "?" : text);
		key_format_short(&p->dst, text);
		fprintf(out, "%s</td>", p->is_other ? "other" : key_is_zero(&p->dst) ? "?" : text);
		number_cell(out, p->entered);
		number_cell(out, p->delivered);
		number_cell(out, p->in_flight);
		range_cell(out, &p->lost);
		fputs("</tr>\n", out);
	}
	fputs("</table>\n", out);
}

int view_html(const struct report *r, FILE *out)
{
	head(out);
	verdicts(r, out);
	nodes(r, out);
	links(r, out);
	pairs(r, out);
	fputs("</body></html>\n", out);
	return ferror(out) ? -EIO : 0;
}
