// SPDX-License-Identifier: BSD-2-Clause
/* The report as JSON: doc/report.schema.json, field by field. */
#include "view/view.h"

#include <errno.h>
#include <jansson.h>
#include <time.h>

#include "base/clock.h"

#define FORMAT_VERSION	1

static json_t *json_time(uint64_t ns)
{
	time_t seconds = ns / NSEC_PER_SEC;
	char text[32];
	struct tm tm;
	size_t n;

	gmtime_r(&seconds, &tm);
	n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, sizeof(text) - n, ".%06uZ", (unsigned)(ns % NSEC_PER_SEC / 1000));
	return json_string(text);
}

static json_t *json_key(const struct key *key)
{
	char text[KEY_TEXT_LEN];

	if (key_is_zero(key))
		return json_null();
	key_format(key, text);
	return json_string(text);
}

static json_t *json_count(uint64_t v)
{
	return json_integer(v > INT64_MAX ? INT64_MAX : v);
}

static json_t *json_range(const struct report_range *r)
{
	return json_pack("{s:o, s:o}", "min", json_count(r->min), "max", json_count(r->max));
}

static json_t *json_text(const char *text)
{
	return text && text[0] ? json_string(text) : json_null();
}

static json_t *json_latency(const struct report_latency *l)
{
	if (!l->samples)
		return json_null();
	return json_pack("{s:f, s:f, s:o}", "p50", l->p50_us, "p99", l->p99_us,
			 "samples", json_count(l->samples));
}

static json_t *json_nic(const struct report_node *n)
{
	if (!n->has_nic)
		return json_null();
	return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:o}",
			 "mode", n->nic.mode,
			 "interfaces", n->nic.interfaces,
			 "packets", json_count(n->nic.packets), "bytes", json_count(n->nic.bytes),
			 "syn", json_count(n->nic.syn), "rst", json_count(n->nic.rst),
			 "fin", json_count(n->nic.fin),
			 "duplicates", json_count(n->nic.duplicates),
			 "stun_in", json_count(n->nic.stun_in),
			 "stun_heard", json_count(n->nic.stun_heard),
			 "stun_out", json_count(n->nic.stun_out),
			 "stun_listens", (int)n->nic.stun_listens,
			 "drops", json_count(n->nic.drops));
}

static json_t *json_node(const struct report_node *n)
{
	json_t *o = json_object();

	json_object_set_new(o, "key", json_key(&n->key));
	json_object_set_new(o, "name", json_string(n->name));
	json_object_set_new(o, "region", n->region < 0 ? json_null() : json_integer(n->region));
	json_object_set_new(o, "traced", json_boolean(n->traced));
	json_object_set_new(o, "pid", n->pid ? json_integer(n->pid) : json_null());
	json_object_set_new(o, "since", json_time(n->since_ns));
	json_object_set_new(o, "ended", n->ended_ns ? json_time(n->ended_ns) : json_null());
	json_object_set_new(o, "software", json_text(n->software));
	json_object_set_new(o, "peers", json_integer(n->peers));
	json_object_set_new(o, "entered", json_count(n->entered));
	json_object_set_new(o, "left", json_count(n->left));
	json_object_set_new(o, "in_flight", json_count(n->in_flight));
	json_object_set_new(o, "lost", json_range(&n->lost));
	json_object_set_new(o, "untraced", json_count(n->untraced));
	json_object_set_new(o, "unflushed", json_count(n->unflushed));
	json_object_set_new(o, "latency_us", json_latency(&n->latency));
	json_object_set_new(o, "nic", json_nic(n));
	return o;
}

static json_t *json_link(const struct report *r, const struct report_link *l)
{
	static const char *const states[] = { "up", "down", "stalled", "unknown" };
	json_t *o = json_object();

	json_object_set_new(o, "from", json_string(r->nodes[l->from].name));
	json_object_set_new(o, "to", json_string(r->nodes[l->to].name));
	json_object_set_new(o, "state", json_string(states[l->state]));
	json_object_set_new(o, "sent", json_count(l->sent));
	json_object_set_new(o, "arrived", l->has_arrived ? json_count(l->arrived) : json_null());
	json_object_set_new(o, "in_flight", json_count(l->in_flight));
	json_object_set_new(o, "lost", json_range(&l->lost));
	json_object_set_new(o, "untraced", json_count(l->untraced));
	json_object_set_new(o, "reason", json_text(l->reason));
	json_object_set_new(o, "latency_us", json_latency(&l->latency));
	return o;
}

static json_t *json_hop(int hop)
{
	static const char *const names[] = { "client-in", "mesh-out", "mesh-in", "client-out" };

	return hop < 0 ? json_null() : json_string(names[hop]);
}

static json_t *json_lost_by(const struct report_pair *p)
{
	json_t *o = json_object();
	int i;

	for (i = 0; i < VERDICT_CLASSES; i++) {
		if (p->lost_by[i].max)
			json_object_set_new(o, verdict_class_name(i), json_range(&p->lost_by[i]));
	}
	return o;
}

static json_t *json_path(const struct report *r, const struct report_pair *p)
{
	json_t *a = json_array(), *o;
	size_t i;

	for (i = 0; i < p->path_count; i++) {
		o = json_object();
		json_object_set_new(o, "node", json_string(r->nodes[p->path[i].node].name));
		json_object_set_new(o, "hop", json_hop(p->path[i].hop));
		json_object_set_new(o, "frames", json_count(p->path[i].frames));
		json_object_set_new(o, "bytes", json_count(p->path[i].bytes));
		json_object_set_new(o, "latency_us", json_latency(&p->path[i].latency));
		json_array_append_new(a, o);
	}
	return a;
}

static json_t *json_pair(const struct report *r, const struct report_pair *p)
{
	json_t *o = json_object();

	json_object_set_new(o, "src", json_key(&p->src));
	json_object_set_new(o, "dst", json_key(&p->dst));
	json_object_set_new(o, "other", json_boolean(p->is_other));
	json_object_set_new(o, "entered", json_count(p->entered));
	json_object_set_new(o, "delivered", json_count(p->delivered));
	json_object_set_new(o, "in_flight", json_count(p->in_flight));
	json_object_set_new(o, "lost", json_range(&p->lost));
	json_object_set_new(o, "lost_by", json_lost_by(p));
	json_object_set_new(o, "untraced", json_count(p->untraced));
	json_object_set_new(o, "latency_us", json_latency(&p->latency));
	json_object_set_new(o, "path", json_path(r, p));
	return o;
}

static json_t *json_verdict(const struct report *r, const struct report_verdict *v)
{
	static const char *const bases[] = { "relay", "wire", "inferred", "unknown" };
	json_t *o = json_object(), *evidence = json_array();
	size_t i;

	for (i = 0; i < v->evidence_count; i++)
		json_array_append_new(evidence, json_string(v->evidence[i]));
	json_object_set_new(o, "class", json_string(verdict_class_name(v->class)));
	json_object_set_new(o, "code", json_string(verdict_class_code(v->class)));
	json_object_set_new(o, "basis", json_string(bases[v->basis]));
	json_object_set_new(o, "node", v->node < 0 ? json_null() : json_string(r->nodes[v->node].name));
	json_object_set_new(o, "link", v->link_from < 0 ? json_null() :
			    json_pack("{s:s, s:s}", "from", r->nodes[v->link_from].name,
				      "to", r->nodes[v->link_to].name));
	json_object_set_new(o, "hop", json_hop(v->hop));
	json_object_set_new(o, "reason", json_text(v->reason));
	json_object_set_new(o, "src", json_key(&v->src));
	json_object_set_new(o, "dst", json_key(&v->dst));
	json_object_set_new(o, "count", json_range(&v->count));
	json_object_set_new(o, "first", json_time(v->first_ns));
	json_object_set_new(o, "last", json_time(v->last_ns));
	json_object_set_new(o, "summary", json_string(v->summary));
	json_object_set_new(o, "evidence", evidence);
	json_object_set_new(o, "fix", json_string(v->fix));
	return o;
}

static json_t *json_step(const struct report_step *s)
{
	return json_pack("{s:o, s:s, s:s, s:s, s:o, s:f, s:f}", "time", json_time(s->step.time_ns),
			 "host", s->host, "from", record_level_name(s->step.from),
			 "to", record_level_name(s->step.to), "share", json_count(s->step.share),
			 "cost_percent", s->step.cost_ppm / 1e4,
			 "budget_percent", s->step.budget_ppm / 1e4);
}

static json_t *json_tracer(const struct report *r)
{
	json_t *o = json_object(), *steps = json_array();
	size_t i;

	for (i = 0; i < r->step_count; i++)
		json_array_append_new(steps, json_step(&r->steps_list[i]));
	json_object_set_new(o, "segments_lost", json_count(r->segments_lost));
	json_object_set_new(o, "connections", json_count(r->connections));
	json_object_set_new(o, "connections_without_secret", json_count(r->without_secret));
	json_object_set_new(o, "connections_unsynchronised", json_count(r->unsynchronised));
	json_object_set_new(o, "frames_counted", json_count(r->counted));
	json_object_set_new(o, "segments_uncounted", json_count(r->uncounted));
	json_object_set_new(o, "mode", json_string(r->mode[0] ? r->mode : "full"));
	json_object_set_new(o, "steps", steps);
	json_object_set_new(o, "steps_made", json_count(r->steps));
	json_object_set_new(o, "cpu_percent", r->cpu_percent < 0 ? json_null() :
			    json_real(r->cpu_percent));
	json_object_set_new(o, "agents", json_count(r->agents));
	json_object_set_new(o, "agents_cut", json_count(r->agents_cut));
	json_object_set_new(o, "nodes_left_out", json_count(r->nodes_left_out));
	json_object_set_new(o, "nodes_told_twice", json_count(r->nodes_twice));
	return o;
}

static json_t *json_report(const struct report *r)
{
	json_t *o = json_object(), *nodes = json_array(), *links = json_array();
	json_t *pairs = json_array(), *verdicts = json_array();
	size_t i;

	for (i = 0; i < r->node_count; i++)
		json_array_append_new(nodes, json_node(&r->nodes[i]));
	for (i = 0; i < r->link_count; i++)
		json_array_append_new(links, json_link(r, &r->links[i]));
	for (i = 0; i < r->pair_count; i++)
		json_array_append_new(pairs, json_pair(r, &r->pairs[i]));
	for (i = 0; i < r->verdict_count; i++)
		json_array_append_new(verdicts, json_verdict(r, &r->verdicts[i]));
	json_object_set_new(o, "version", json_integer(FORMAT_VERSION));
	json_object_set_new(o, "window", json_pack("{s:o, s:o}", "start", json_time(r->start_ns),
						   "end", json_time(r->end_ns)));
	json_object_set_new(o, "nodes", nodes);
	json_object_set_new(o, "links", links);
	json_object_set_new(o, "pairs", pairs);
	json_object_set_new(o, "verdicts", verdicts);
	json_object_set_new(o, "tracer", json_tracer(r));
	return o;
}

int view_json(const struct report *r, FILE *out, bool one_line)
{
	json_t *o = json_report(r);
	int err = 0;

	if (!o)
		return -ENOMEM;
	if (json_dumpf(o, out, one_line ? JSON_COMPACT : JSON_INDENT(2)) || fputc('\n', out) == EOF)
		err = errno ? -errno : -EIO;
	json_decref(o);
	return err;
}
