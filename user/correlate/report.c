/* SPDX-License-Identifier: BSD-2-Clause */
/* The door's second half: one look at the whole state, and what it shows as a report. */
#include "correlate/analysis.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CMP(x, y) do { if ((x) != (y)) return (x) < (y) ? -1 : 1; } while (0)

static void analysis_free(struct analysis *a)
{
	size_t i;

	for (i = 0; i < a->edge_count; i++)
		free(a->edges[i].rows);
	for (i = 0; i < a->link_count; i++)
		free(a->links[i].edges);
	table_free(&a->twice);
	table_free(&a->mate_of);
	table_free(&a->edge_of_conn);
	table_free(&a->dialled);
	table_free(&a->link_index);
	table_free(&a->finding_index);
	table_free(&a->share_index);
	free(a->offset_ns);
	free(a->nodes);
	free(a->node_of_life);
	free(a->mates);
	free(a->edges);
	free(a->links);
	free(a->partly);
	free(a->places);
	free(a->sums);
	free(a->stays);
	free(a->words);
	free(a->findings);
	free(a->shares);
	free(a->notes);
}

static void end_find(struct analysis *a)
{
	size_t i;
	uint64_t end_ns;

	a->end_ns = 0;
	for (i = 0; i < a->c->agent_count; i++) {
		end_ns = ref_time(a, i, a->c->agents[i].last_ns);
		if (a->c->agents[i].known && end_ns > a->end_ns)
			a->end_ns = end_ns;
	}
}

static int analyse(struct analysis *a, struct correlate *c)
{
	int err;

	a->c = c;
	a->offset_ns = calloc(c->agent_count + 1, sizeof(*a->offset_ns));
	if (!a->offset_ns)
		return -ENOMEM;
	err = region_nodes(a);
	if (!err)
		err = match_conns(a);
	if (!err)
		err = edge_make(a);
	if (!err)
		err = clock_offsets(a);
	if (err)
		return err;
	end_find(a);
	region_names(a);
	region_times(a);
	edge_times(a);
	err = partly_find(a);
	if (!err)
		err = stream_books(a);
	if (!err)
		err = link_make(a);
	if (!err)
		err = pairs_sum(a);
	if (!err)
		err = presence_make(a);
	if (!err)
		err = classify_losses(a);
	if (!err)
		err = find_links(a);
	if (!err)
		err = find_peers(a);
	if (!err)
		err = find_nodes(a);
	return err ? err : finding_uncertain(a);
}

static void put_node_latency(const struct correlate *c, const struct life *life, struct report_node *r)
{
	struct histogram h = { .total = 0 };
	struct pair_row row;
	size_t i;

	for (i = 0; i < life->pair_count; i++) {
		if (counts_get(c, life, i, &row))
			histogram_add(&h, row.latency);
	}
	r->latency = histogram_told(&h);
	memcpy(r->latency_buckets, h.v, sizeof(h.v));
}

/*
 * An idle mesh connection that was open before anybody looked has said nothing that tells it from a
 * client's: the key does, that memory has.
 */
static uint32_t nodes_among_peers(const struct analysis *a, uint32_t node, uint32_t most)
{
	uint32_t i, found = 0, peer;
	const struct stay *s;
	size_t count, j;

	for (i = 0; i < a->node_count && found < most; i++) {
		peer = a->nodes[i].identity == i ? peer_get(a->c, &a->nodes[i].key, false) : 0;
		s = peer ? presence_stays(a, peer, &count) : NULL;
		for (j = 0; s && j < count; j++) {
			if (s[j].node == node && s[j].closed_ns == FOREVER) {
				found++;
				break;
			}
		}
	}
	return found;
}

static int put_nodes(const struct analysis *a, struct report *out)
{
	size_t i;

	out->nodes = calloc(a->node_count + 1, sizeof(*out->nodes));
	if (!out->nodes)
		return -ENOMEM;
	out->node_count = a->node_count;
	for (i = 0; i < a->node_count; i++) {
		const struct node *n = &a->nodes[i];
		const struct record_node *info = n->life ? &n->life->info : NULL;
		struct report_node *r = &out->nodes[i];

		r->key = n->key;
		memcpy(r->name, n->name, sizeof(r->name));
		r->region = n->region;
		r->traced = info != NULL;
		r->since_ns = out->start_ns;
		if (!info)
			continue;
		r->pid = info->pid;
		r->since_ns = n->from_ns;
		r->ended_ns = ref_time(a, n->agent, info->ended_ns);
		text_copy(r->software, sizeof(r->software), info->software);
		r->peers = info->ended_ns ? 0 : info->peers - nodes_among_peers(a, i, info->peers);
		r->entered = info->books.entered;
		r->left = info->books.left;
		r->in_flight = info->books.in_flight;
		r->untraced = info->books.untraced;
		r->lost.min = info->books.lost;
		r->lost.max = info->books.lost + info->books.untraced;
		r->unflushed = info->unflushed;
		put_node_latency(a->c, n->life, r);
		r->has_nic = n->life->has_nic;
		r->nic = n->life->nic;
	}
	return 0;
}

static int put_links(const struct analysis *a, struct report *out)
{
	size_t i;

	out->links = calloc(a->link_count + 1, sizeof(*out->links));
	if (!out->links)
		return -ENOMEM;
	out->link_count = a->link_count;
	for (i = 0; i < a->link_count; i++) {
		const struct link *l = &a->links[i];

		out->links[i] = (struct report_link){
			.from = l->from, .to = l->to, .state = l->state, .sent = l->sent,
			.has_arrived = l->has_arrived, .arrived = l->arrived,
			.in_flight = l->in_flight, .untraced = l->untraced,
			.lost = { l->lost, l->lost + l->untraced },
			.reason = link_reason_name(l->reason),
		};
		if (latency_of_link(a, l, &out->links[i].latency) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Where the pair came from when it entered @to on the mesh: the one link that leads there. */
static const struct report_link *link_to(const struct place *places, const struct pair_row *rows,
					 size_t count, uint32_t to, const struct report *out)
{
	const struct report_link *found = NULL;
	size_t i, j;

	for (i = 0; i < count; i++) {
		if (places[i].node == to || !rows[i].frames[HOP_MESH_OUT])
			continue;
		if (found)
			return NULL;
		for (j = 0; j < out->link_count; j++) {
			if (out->links[j].from == places[i].node && out->links[j].to == to)
				found = &out->links[j];
		}
	}
	return found;
}

static int put_path(const struct place *places, const struct pair_row *rows, size_t count,
		    const struct report *out, struct report_pair *r)
{
	const struct report_link *link;
	struct report_hop *at;
	size_t i;
	int hop;

	r->path = calloc(count * HOP_COUNT + 1, sizeof(*r->path));
	if (!r->path)
		return -ENOMEM;
	for (hop = 0; hop < HOP_COUNT; hop++) {
		for (i = 0; i < count; i++) {
			if (!rows[i].frames[hop])
				continue;
			at = &r->path[r->path_count++];
			*at = (struct report_hop){
				.node = places[i].node, .hop = hop,
				.frames = rows[i].frames[hop],
				.bytes = rows[i].bytes[hop],
			};
			link = hop == HOP_MESH_IN ? link_to(places, rows, count, places[i].node, out) : NULL;
			if (link)
				at->latency = link->latency;
			else if (hop == HOP_MESH_OUT || hop == HOP_CLIENT_OUT)
				at->latency = latency_told(rows[i].latency);
		}
	}
	return 0;
}

/*
 * Inside the relays. Across two nodes the times at both add up, and so, about, do their p99s; where the
 * pair stayed on one node at a time, all samples are of one kind.
 */
static void put_latency(const struct pair_sum *p, const struct pair_row *rows, size_t count,
			struct report_pair *r)
{
	struct histogram all = { .total = 0 };
	struct report_latency one;
	size_t i;

	for (i = 0; i < count && (p->across || count == 1); i++) {
		one = latency_told(rows[i].latency);
		if (one.samples && (!r->latency.samples || one.samples < r->latency.samples))
			r->latency.samples = one.samples;
		r->latency.p50_us += one.p50_us;
		r->latency.p99_us += one.p99_us;
	}
	if (p->across || count == 1)
		return;
	for (i = 0; i < count; i++)
		histogram_add(&all, rows[i].latency);
	r->latency = histogram_told(&all);
}

static int put_pair(const struct analysis *a, uint32_t pair, const struct report *out,
		    struct report_pair *r)
{
	const struct pair_sum *p = &a->sums[pair];
	uint64_t rest = p->untraced - p->untraced_node;
	const struct place *places;
	struct pair_row *rows;
	size_t count, k;
	int err, i;

	r->src = a->c->peers[a->c->pairs[pair].src];
	r->dst = a->c->peers[a->c->pairs[pair].dst];
	r->is_other = pair == OTHER_PAIR;
	r->entered = p->entered;
	r->delivered = p->delivered;
	r->in_flight = p->in_flight;
	r->untraced = p->untraced;
	r->lost.min = p->lost;
	r->lost.max = p->lost + p->untraced;
	for (i = 0; i < VERDICT_CLASSES; i++)
		r->lost_by[i].min = r->lost_by[i].max = p->lost_by[i];
	/* What may be lost besides goes where nobody saw, or with most of what was lost. */
	r->lost_by[VERDICT_UNTRACED_NODE].max += p->untraced_node;
	r->lost_by[p->worst == NONE ? VERDICT_UNTRACED_NODE : a->findings[p->worst].class].max += rest;
	r->same_node = p->same_node;
	r->across = p->across;
	if (r->is_other)
		return 0;
	places = pairs_places(a, pair, &count);
	rows = malloc((count + 1) * sizeof(*rows));
	if (!rows)
		return -ENOMEM;
	for (k = 0; k < count; k++)
		pairs_row(a, &places[k], &rows[k]);
	put_latency(p, rows, count, r);
	err = put_path(places, rows, count, out, r);
	free(rows);
	return err;
}

static int most_lost_first(const void *px, const void *py)
{
	const struct report_pair *x = px, *y = py;
	int cmp;

	CMP(x->is_other, y->is_other);
	CMP(y->lost.min, x->lost.min);
	CMP(y->lost.max, x->lost.max);
	CMP(y->entered, x->entered);
	cmp = key_compare(&x->src, &y->src);
	return cmp ? cmp : key_compare(&x->dst, &y->dst);
}

static int put_pairs(const struct analysis *a, struct report *out)
{
	size_t i;

	out->pairs = calloc(a->c->pair_count, sizeof(*out->pairs));
	if (!out->pairs)
		return -ENOMEM;
	for (i = 0; i < a->c->pair_count; i++) {
		const struct pair_sum *p = &a->sums[i];

		if (!p->entered && !p->delivered && !p->in_flight && !p->lost && !p->untraced)
			continue;
		if (put_pair(a, i, out, &out->pairs[out->pair_count++]) < 0)
			return -ENOMEM;
	}
	qsort(out->pairs, out->pair_count, sizeof(*out->pairs), most_lost_first);
	return 0;
}

static void landing_add(struct report_landing *l, uint64_t sent, uint64_t delivered, uint64_t lost,
			uint64_t maybe)
{
	l->sent += sent;
	l->delivered += delivered;
	l->lost.min += lost;
	l->lost.max += lost + maybe;
	l->pairs++;
}

/* The 2x2: pairs whose peers landed on one node, and pairs whose peers did not. */
static void put_landings(const struct analysis *a, struct report *out)
{
	size_t i;

	for (i = 1; i < a->c->pair_count; i++) {
		const struct pair_sum *p = &a->sums[i];
		uint64_t sent = p->across_sent, delivered = p->across_delivered, lost = p->across_lost;

		if (!p->across && p->same_node) {
			landing_add(&out->same_node, p->entered, p->delivered, p->lost, p->untraced);
			continue;
		}
		if (!p->across)
			continue;
		if (!p->same_node) {
			landing_add(&out->across, p->entered, p->delivered, p->lost, p->untraced);
			continue;
		}
		/* It moved: part of it went each way. */
		sent = sent < p->entered ? sent : p->entered;
		delivered = delivered < p->delivered ? delivered : p->delivered;
		lost = lost < p->lost ? lost : p->lost;
		landing_add(&out->across, sent, delivered, lost, p->untraced);
		landing_add(&out->same_node, p->entered - sent, p->delivered - delivered,
			    p->lost - lost, 0);
	}
}

static int worst_first(const void *px, const void *py)
{
	const struct report_verdict *x = px, *y = py;
	int cmp;

	CMP(y->count.min, x->count.min);
	CMP(y->count.max, x->count.max);
	CMP(x->class, y->class);
	CMP(x->node, y->node);
	CMP(x->link_from, y->link_from);
	CMP(x->link_to, y->link_to);
	cmp = strcmp(x->reason, y->reason);
	return cmp ? cmp : strcmp(x->summary, y->summary);
}

static int put_verdicts(struct analysis *a, struct report *out)
{
	size_t i;

	out->verdicts = calloc(a->finding_count + 1, sizeof(*out->verdicts));
	if (!out->verdicts)
		return -ENOMEM;
	for (i = 0; i < a->finding_count; i++) {
		if (verdict_words(a, &a->findings[i], &out->verdicts[out->verdict_count++]) < 0)
			return -ENOMEM;
	}
	qsort(out->verdicts, out->verdict_count, sizeof(*out->verdicts), worst_first);
	return 0;
}

static int by_time(const void *pa, const void *pb)
{
	const struct report_step *a = pa, *b = pb;

	CMP(a->step.time_ns, b->step.time_ns);
	return strcmp(a->host, b->host);
}

static int put_steps(const struct analysis *a, struct report *out)
{
	struct report_step *s;
	size_t i, j, count = 0;

	for (i = 0; i < a->c->agent_count; i++)
		count += a->c->agents[i].step_count;
	out->steps_list = calloc(count + 1, sizeof(*out->steps_list));
	if (!out->steps_list)
		return -ENOMEM;
	for (i = 0; i < a->c->agent_count; i++) {
		for (j = 0; j < a->c->agents[i].step_count; j++) {
			s = &out->steps_list[out->step_count++];
			text_copy(s->host, sizeof(s->host), a->c->agents[i].info.host);
			s->step = a->c->agents[i].steps[j];
			s->step.time_ns = ref_time(a, i, s->step.time_ns);
		}
	}
	qsort(out->steps_list, out->step_count, sizeof(*s), by_time);
	return 0;
}

/* The one that takes in less of two. */
static const char *poorer(const char *x, const char *y)
{
	int level;

	for (level = LEVEL_COUNT - 1; level > 0; level--) {
		if (!strcmp(x, record_level_name(level)) || !strcmp(y, record_level_name(level)))
			return record_level_name(level);
	}
	return record_level_name(LEVEL_FULL);
}

/* Is all that it tells of told by another one that saw more? */
static bool is_silent(const struct analysis *a, uint32_t agent)
{
	bool any = false;
	size_t i;

	for (i = 0; i < a->c->life_count; i++) {
		if (a->c->lives[i]->agent != agent)
			continue;
		if (a->node_of_life[i] != NONE)
			return false;
		any = true;
	}
	return any;
}

static void put_agents(const struct analysis *a, struct report *out)
{
	double cpu = 0;
	bool cpu_known = false;
	size_t i;

	out->end_ns = a->end_ns;
	out->nodes_left_out = a->c->left_out.used;
	out->nodes_twice = a->told_twice;
	strcpy(out->mode, "full");
	for (i = 0; i < a->c->agent_count; i++) {
		const struct agent *agent = &a->c->agents[i];
		const struct record_agent *info = &agent->info;
		uint64_t start_ns = info->ready_ns ? info->ready_ns : info->start_ns;

		if (!agent->known)
			continue;
		start_ns = ref_time(a, i, start_ns ? start_ns : agent->first_ns);
		/* When all of them were attached. */
		if (start_ns > out->start_ns)
			out->start_ns = start_ns;
		out->agents++;
		out->agents_cut += agent->cut;
		if (is_silent(a, i))
			continue;
		out->segments_lost += info->segments_lost;
		out->connections += info->connections;
		out->without_secret += info->without_secret;
		out->unsynchronised += info->unsynchronised;
		out->counted += info->counted;
		out->uncounted += info->uncounted;
		if (info->cpu_percent >= 0) {
			cpu += info->cpu_percent;
			cpu_known = true;
		}
		text_copy(out->mode, sizeof(out->mode), poorer(out->mode, info->mode));
		out->steps += info->steps;
	}
	if (out->start_ns > out->end_ns)
		out->start_ns = out->end_ns;
	out->cpu_percent = cpu_known ? cpu : -1;
	out->has_map = a->has_map;
}

int correlate_report(struct correlate *c, struct report *out)
{
	struct analysis a = { 0 };
	int err;

	memset(out, 0, sizeof(*out));
	err = conns_unfold(c);
	if (!err)
		err = analyse(&a, c);
	if (!err) {
		put_agents(&a, out);
		err = put_steps(&a, out);
	}
	if (!err)
		err = put_nodes(&a, out);
	if (!err)
		err = put_links(&a, out);
	if (!err)
		err = put_pairs(&a, out);
	if (!err)
		err = put_verdicts(&a, out);
	if (!err)
		put_landings(&a, out);
	analysis_free(&a);
	conns_forget(c);
	if (err)
		report_free(out);
	return err;
}

void report_free(struct report *r)
{
	size_t i, j;

	for (i = 0; i < r->pair_count; i++)
		free(r->pairs[i].path);
	for (i = 0; i < r->verdict_count; i++) {
		for (j = 0; j < r->verdicts[i].evidence_count; j++)
			free(r->verdicts[i].evidence[j]);
		free(r->verdicts[i].evidence);
		free(r->verdicts[i].summary);
		free(r->verdicts[i].fix);
	}
	free(r->nodes);
	free(r->steps_list);
	free(r->links);
	free(r->pairs);
	free(r->verdicts);
	memset(r, 0, sizeof(*r));
}
