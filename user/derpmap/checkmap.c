/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of checks, the checks of a map as a whole, and the list of findings. */
#include "derpmap/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct derpmap_rule rules[CHECK_RULES] = {
	[CHECK_MIXED] = {"DTM001", DERPMAP_FAULT,
			 "public and private relays in one region: no mesh is possible"},
	[CHECK_FOREIGN] = {"DTM002", DERPMAP_FAULT,
			   "relays of Tailscale's and others in one region: two mesh keys"},
	[CHECK_NO_RELAY] = {"DTM003", DERPMAP_FAULT, "a region without a relay"},
	[CHECK_NO_HOST] = {"DTM004", DERPMAP_FAULT, "a node without HostName"},
	[CHECK_MESH] = {"DTM005", DERPMAP_NOTE, "several relays in one region must be meshed"},
	[CHECK_PORT] = {"DTM006", DERPMAP_NOTE, "a port at which derper has no TLS by default"},
	[CHECK_FORCE_HTTP] = {"DTM007", DERPMAP_NOTE, "ForceHTTP"},
	[CHECK_DEFAULTS] = {"DTM008", DERPMAP_NOTE,
			    "Tailscale's default regions stay beside private ones"},
	[CHECK_NO_STUN] = {"DTM009", DERPMAP_WARNING, "no STUN in the whole map"},
	[CHECK_ID_MISSING] = {"DTM010", DERPMAP_WARNING, "a region without RegionID"},
	[CHECK_ID_WRONG] = {"DTM011", DERPMAP_FAULT, "a RegionID that disagrees with its key"},
	[CHECK_NODE_ID] = {"DTM012", DERPMAP_WARNING,
			   "a node whose RegionID is missing or another region's"},
	[CHECK_NODE_TWICE] = {"DTM013", DERPMAP_WARNING, "two nodes of one Name"},
	[CHECK_CODE_TWICE] = {"DTM014", DERPMAP_WARNING, "two regions of one RegionCode"},
	[CHECK_SAME_RELAY] = {"DTM015", DERPMAP_NOTE, "one relay listed twice in a region"},
	[CHECK_KEY_TWICE] = {"DTM016", DERPMAP_WARNING, "a key twice, in different letter case"},
	[CHECK_FIELD] = {"DTM017", DERPMAP_FAULT, "a name, address or port that cannot be used"},
	[CHECK_EMPTY] = {"DTM018", DERPMAP_FAULT, "no regions"},
	[CHECK_UNKNOWN] = {"DTM019", DERPMAP_NOTE,
			   "relays of one region of which it is unknown where they are"},
	[CHECK_TEST] = {"DTM020", DERPMAP_WARNING, "InsecureForTests or STUNTestIP"},
	[CHECK_ID_RANGE] = {"DTM021", DERPMAP_FAULT, "a region id that is not above 0"},
	[CHECK_SCORE] = {"DTM022", DERPMAP_WARNING, "a RegionScore for a region that is not there"},
	[CHECK_NULL] = {"DTM023", DERPMAP_WARNING, "a region that is null"},
};

const struct derpmap_rule *derpmap_rules(size_t *count)
{
	*count = CHECK_RULES;
	return rules;
}

const char *derpmap_level_name(enum derpmap_level level)
{
	static const char *const names[] = { "note", "warning", "fault" };

	return names[level];
}

static void finding_free(struct derpmap_finding *finding)
{
	free(finding->text);
	free(finding->evidence);
	free(finding->fix);
	free(finding->path);
}

void derpmap_findings_free(struct derpmap_findings *findings)
{
	size_t i;

	if (!findings)
		return;
	for (i = 0; i < findings->count; i++)
		finding_free(&findings->list[i]);
	free(findings->list);
	memset(findings, 0, sizeof(*findings));
}

static struct derpmap_finding *put(struct check *check, enum check_rule rule,
				   struct derpmap_place place, struct derpmap_text *path,
				   struct check_draft *draft)
{
	struct derpmap_findings *out = check->out;
	struct derpmap_finding made = {
		.code = rules[rule].code, .level = rules[rule].level, .place = place,
		.text = derpmap_text_take(&draft->text), .fix = derpmap_text_take(&draft->fix),
		.evidence = derpmap_text_take(&draft->evidence), .path = derpmap_text_take(path),
	}, *finding = NULL;

	if (made.text && made.fix && made.evidence && made.path)
		finding = derpmap_grow((void **)&out->list, &out->count, sizeof(*finding));
	if (!finding) {
		finding_free(&made);
		check->failed = true;
		return NULL;
	}
	*finding = made;
	out->by_level[made.level]++;
	return finding;
}

void check_put_at(struct check *check, enum check_rule rule, struct derpmap_place place,
		  struct check_draft *draft)
{
	struct derpmap_text path = { 0 };

	put(check, rule, place, &path, draft);
}

void check_put(struct check *check, enum check_rule rule, const struct derpmap_region *region,
	       const struct derpmap_node *node, struct check_draft *draft)
{
	struct derpmap_place place = check->map->priv->place;
	struct derpmap_finding *finding;
	struct derpmap_text path = { 0 };

	if (region) {
		derpmap_text_add(&path, "Regions[\"%" PRId64 "\"]", region->id);
		place = region->place;
	}
	if (node) {
		derpmap_text_add(&path, ".Nodes[%zu]", node->index);
		place = node->place;
	}
	finding = put(check, rule, place, &path, draft);
	if (finding && region) {
		finding->region_id = region->id;
		finding->has_region = true;
	}
}

static int place_compare(struct derpmap_place a, struct derpmap_place b)
{
	if (a.line != b.line)
		return a.line < b.line ? -1 : 1;
	return a.column < b.column ? -1 : a.column > b.column;
}

static int node_name_compare(const void *a, const void *b)
{
	const struct derpmap_node *x = *(const struct derpmap_node *const *)a;
	const struct derpmap_node *y = *(const struct derpmap_node *const *)b;

	return strcmp(x->name, y->name);
}

/* By what a client would dial; nodes of different regions differ. */
static int node_dial_compare(const void *a, const void *b)
{
	const struct derpmap_node *x = *(const struct derpmap_node *const *)a;
	const struct derpmap_node *y = *(const struct derpmap_node *const *)b;
	int order;

	if (x->region->id != y->region->id)
		return x->region->id < y->region->id ? -1 : 1;
	if (x->derp_port != y->derp_port)
		return x->derp_port < y->derp_port ? -1 : 1;
	order = strcasecmp(x->hostname, y->hostname);
	if (!order)
		order = strcmp(x->ipv4, y->ipv4);
	return order ? order : strcmp(x->ipv6, y->ipv6);
}

static int region_code_compare(const void *a, const void *b)
{
	const struct derpmap_region *x = *(const struct derpmap_region *const *)a;
	const struct derpmap_region *y = *(const struct derpmap_region *const *)b;

	return strcmp(x->code, y->code);
}

static void say_node_twice(struct check *check, const struct derpmap_node *first,
			   const struct derpmap_node *again)
{
	struct check_draft draft = { 0 };

	derpmap_text_add(&draft.text, "two nodes have the Name \"%s\", which must be unique in the"
			 " map: in region %" PRId64 " (line %u) and here", again->name,
			 first->region->id, first->place.line);
	derpmap_text_add(&draft.fix, "rename one of them\n");
	check_put(check, CHECK_NODE_TWICE, again->region, again, &draft);
}

static void say_same_relay(struct check *check, const struct derpmap_node *first,
			   const struct derpmap_node *again)
{
	struct check_draft draft = { 0 };

	derpmap_text_add(
		&draft.text,
		"nodes \"%s\" and \"%s\" are dialled alike, at %s:%" PRId64
		": either one relay is listed twice, or a name hides several relays that must"
		" be meshed",
		derpmap_node_label(first), derpmap_node_label(again), again->hostname,
		again->derp_port);
	derpmap_text_add(&draft.fix, "remove one, or give each its own HostName or IPv4\n");
	check_put(check, CHECK_SAME_RELAY, again->region, again, &draft);
}

/* Calls say for every pair of neighbours that compare alike, in an order of the comparison's. */
static void find_twins(struct check *check, const struct derpmap_node **nodes, size_t count,
		       int (*compare)(const void *a, const void *b),
		       void (*say)(struct check *check, const struct derpmap_node *first,
				   const struct derpmap_node *again))
{
	const struct derpmap_node *first, *again;
	size_t i;

	if (count)
		qsort(nodes, count, sizeof(*nodes), compare);
	for (i = 1; i < count; i++) {
		if (compare(&nodes[i - 1], &nodes[i]) != 0)
			continue;
		first = nodes[i - 1];
		again = nodes[i];
		if (place_compare(first->place, again->place) > 0) {
			first = nodes[i];
			again = nodes[i - 1];
		}
		say(check, first, again);
	}
}

static void check_twin_nodes(struct check *check)
{
	const struct derpmap *map = check->map;
	const struct derpmap_node **nodes, *node;
	size_t count = 0;

	nodes = calloc(map->nr_nodes + 1, sizeof(*nodes));
	if (!nodes) {
		check->failed = true;
		return;
	}
	for (node = derpmap_next_node(map, NULL); node; node = derpmap_next_node(map, node))
		if (*node->name)
			nodes[count++] = node;
	find_twins(check, nodes, count, node_name_compare, say_node_twice);
	count = 0;
	for (node = derpmap_next_node(map, NULL); node; node = derpmap_next_node(map, node))
		if (!node->stun_only && *node->hostname)
			nodes[count++] = node;
	find_twins(check, nodes, count, node_dial_compare, say_same_relay);
	free(nodes);
}

static void check_twin_regions(struct check *check)
{
	const struct derpmap *map = check->map;
	const struct derpmap_region **list;
	size_t count = 0, i;

	list = calloc(map->nr_regions + 1, sizeof(*list));
	if (!list) {
		check->failed = true;
		return;
	}
	for (i = 0; i < map->nr_regions; i++)
		if (*map->regions[i].code)
			list[count++] = &map->regions[i];
	if (count)
		qsort(list, count, sizeof(*list), region_code_compare);
	for (i = 1; i < count; i++) {
		struct check_draft draft = { 0 };

		if (region_code_compare(&list[i - 1], &list[i]) != 0)
			continue;
		derpmap_text_add(&draft.text,
				 "regions %" PRId64 " and %" PRId64 " have the RegionCode"
				 " \"%s\": people cannot tell them apart",
				 list[i - 1]->id, list[i]->id, list[i]->code);
		derpmap_text_add(&draft.fix, "give one of them another RegionCode\n");
		check_put(check, CHECK_CODE_TWICE, list[i], NULL, &draft);
	}
	free(list);
}

static void check_scores(struct check *check)
{
	const struct derpmap_private *priv = check->map->priv;
	size_t i;

	/* Without the default regions in the file an id may well be one of theirs. */
	if (!check->map->omit_default)
		return;
	for (i = 0; i < priv->nr_scores; i++) {
		struct check_draft draft = { 0 };

		if (derpmap_find_region(check->map, priv->scores[i].region_id))
			continue;
		derpmap_text_add(&draft.text,
				 "RegionScore names region %" PRId64 ", which is not in the map",
				 priv->scores[i].region_id);
		derpmap_text_add(&draft.fix, "correct the id, or remove the score\n");
		check_put_at(check, CHECK_SCORE, priv->scores[i].place, &draft);
	}
}

static void check_reading(struct check *check)
{
	const struct derpmap_private *priv = check->map->priv;
	size_t i;

	for (i = 0; i < priv->nr_twice; i++) {
		struct check_draft draft = { 0 };

		derpmap_text_add(&draft.text,
				 "%s stands twice in one object, in different letter case:"
				 " clients take the last",
				 priv->twice[i].key);
		derpmap_text_add(&draft.fix, "remove one of the two\n");
		check_put_at(check, CHECK_KEY_TWICE, priv->twice[i].place, &draft);
	}
	for (i = 0; i < priv->nr_nulls; i++) {
		struct check_draft draft = { 0 };

		derpmap_text_add(&draft.text,
				 "a region is null: Tailscale reads it as \"remove this"
				 " default region\", Coder fails on it");
		derpmap_text_add(&draft.fix, "remove the key, or give the region\n");
		check_put_at(check, CHECK_NULL, priv->nulls[i], &draft);
	}
}

static void check_whole(struct check *check)
{
	const struct derpmap *map = check->map;
	const struct derpmap_region *private_region = NULL;
	const struct derpmap_node *node;
	struct check_draft draft = { 0 };
	bool stun = false;

	if (!map->nr_regions) {
		derpmap_text_add(&draft.text, "the map has no regions");
		derpmap_text_add(&draft.fix, "add a region with a relay to Regions\n");
		check_put(check, CHECK_EMPTY, NULL, NULL, &draft);
		return;
	}
	for (node = derpmap_next_node(map, NULL); node; node = derpmap_next_node(map, node)) {
		stun |= node->stun_port > 0;
		if (!private_region && !node->stun_only && node->class == DERPMAP_PRIVATE)
			private_region = node->region;
	}
	if (!stun && map->nr_nodes) {
		derpmap_text_add(&draft.text,
				 "no node offers STUN: clients do not learn their public"
				 " address, and everything between networks is relayed");
		derpmap_text_add(&draft.fix,
				 "open UDP port 3478 on a relay and remove its \"STUNPort\":"
				 " -1, or add a STUNOnly node\n");
		check_put(check, CHECK_NO_STUN, NULL, NULL, &draft);
	}
	if (private_region && !map->omit_default) {
		derpmap_text_add(&draft.text, "Tailscale's default regions stay in use beside the"
				 " private ");
		check_region_name(&draft.text, private_region);
		derpmap_text_add(&draft.text,
				 ": a client may take one as its home that others cannot"
				 " reach");
		derpmap_text_add(&draft.fix,
				 "where every client is inside, set \"OmitDefaultRegions\":"
				 " true (map fix --omit-default)\n");
		check_put(check, CHECK_DEFAULTS, NULL, NULL, &draft);
	}
}

static int finding_compare(const void *a, const void *b)
{
	const struct derpmap_finding *x = a, *y = b;
	int order;

	if (x->level != y->level)
		return x->level > y->level ? -1 : 1;
	order = place_compare(x->place, y->place);
	if (!order)
		order = strcmp(x->code, y->code);
	return order ? order : strcmp(x->text, y->text);
}

int derpmap_check(const struct derpmap *map, struct derpmap_findings *out)
{
	struct check check = { .map = map, .out = out };
	size_t r;

	memset(out, 0, sizeof(*out));
	for (r = 0; r < map->nr_regions; r++)
		check_region(&check, &map->regions[r]);
	check_twin_nodes(&check);
	check_twin_regions(&check);
	check_reading(&check);
	check_scores(&check);
	check_whole(&check);
	if (check.failed) {
		derpmap_findings_free(out);
		return -ENOMEM;
	}
	if (out->count)
		qsort(out->list, out->count, sizeof(*out->list), finding_compare);
	return 0;
}
