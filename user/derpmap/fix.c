/* SPDX-License-Identifier: BSD-2-Clause */
/* The corrected map: edits a copy of the JSON tree, so that all that is not ours to change stays.
 */
#include "derpmap/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_OWN_ID	900	/* up to here ids are Tailscale's */
#define CODER_OWN_ID	999	/* the region that a Coder server adds for itself */

/* A group of relays that may stay together, and where they go. */
enum group {
	GROUP_STAY,
	GROUP_PRIVATE,
	GROUP_OWN,	/* not Tailscale's, and not private as far as we know */
	GROUPS,
};

static const struct { const char *suffix, *name; } group_names[GROUPS] = {
	[GROUP_PRIVATE] = { "internal", "Internal DERP" },
	[GROUP_OWN] = { "own", "Own DERP" },
};

struct fixer {
	const struct derpmap *map;
	struct derpmap_fixed *out;
	json_t *regions;	/* of the copy */
	int64_t last_id;	/* the last new region's, 0 = none yet */
};

int64_t derpmap_free_id(const struct derpmap *map, int64_t after)
{
	/* A region takes two ids at most, so one of that many is free. */
	bool taken[2 * DERPMAP_MAX_REGIONS + 2] = { false };
	const size_t window = sizeof(taken) / sizeof(taken[0]);
	int64_t first = after < FIRST_OWN_ID ? FIRST_OWN_ID : after + 1, id;
	size_t i, r;

	for (r = 0; r < map->nr_regions; r++) {
		const int64_t ids[] = { map->regions[r].id, map->regions[r].said_id };

		for (i = 0; i < 2; i++)
			if (ids[i] >= first && ids[i] - first < (int64_t)window)
				taken[ids[i] - first] = true;
	}
	for (id = first; id == CODER_OWN_ID || taken[id - first]; id++)
		;
	return id;
}

__attribute__((format(printf, 2, 3)))
static int say(struct fixer *fixer, const char *format, ...)
{
	va_list args;
	char **slot;

	slot = derpmap_grow((void **)&fixer->out->changes, &fixer->out->nr_changes, sizeof(*slot));
	if (!slot)
		return -ENOMEM;
	va_start(args, format);
	if (vasprintf(slot, format, args) < 0) {
		*slot = NULL;
		fixer->out->nr_changes--;
	}
	va_end(args);
	return *slot ? 0 : -ENOMEM;
}

/* Sets a member under the spelling that it has already. Takes value. */
static int member_set(json_t *object, const char *key, json_t *value)
{
	const char *spelt = key;

	derpmap_member(object, key, &spelt);
	return json_object_set_new(object, spelt, value) ? -ENOMEM : 0;
}

static json_t *region_json(const struct fixer *fixer, const struct derpmap_region *region)
{
	char key[24];

	snprintf(key, sizeof(key), "%" PRId64, region->id);
	return json_object_get(fixer->regions, key);
}

static int fix_ids(struct fixer *fixer, const struct derpmap_region *region)
{
	json_t *json = region_json(fixer, region), *nodes = derpmap_member(json, "Nodes", NULL);
	const struct derpmap_node *node;
	int ret = 0;
	size_t n;

	if (!region->has_said_id || region->said_id != region->id) {
		ret = member_set(json, "RegionID", json_integer(region->id));
		if (!ret)
			ret = say(fixer, "region %" PRId64 ": RegionID set to its key (it %s)",
				  region->id, region->has_said_id ? "said another" : "was missing");
	}
	for (n = 0; n < region->nr_nodes && !ret; n++) {
		node = &region->nodes[n];
		if (node->region_id == region->id)
			continue;
		ret = member_set(json_array_get(nodes, node->index), "RegionID",
				 json_integer(region->id));
		if (!ret)
			ret = say(fixer,
				  "region %" PRId64 ": RegionID of node \"%s\" set to %" PRId64
				  " (was %" PRId64 ")",
				  region->id, derpmap_node_label(node), region->id,
				  node->region_id);
	}
	return ret;
}

static enum group node_group(const struct derpmap_node *node, const struct derpmap_census *census)
{
	if (node->stun_only || node->tailscale)
		return GROUP_STAY;
	if (node->class == DERPMAP_PRIVATE)
		return census->tailscale + census->own_public ? GROUP_PRIVATE : GROUP_STAY;
	return census->tailscale ? GROUP_OWN : GROUP_STAY;
}

/* Whether another region has the code, or would get it when split like this one. */
static bool code_taken(const struct fixer *fixer, const struct derpmap_region *from,
		       const char *code)
{
	size_t r;

	for (r = 0; r < fixer->map->nr_regions; r++) {
		const struct derpmap_region *region = &fixer->map->regions[r];

		if (region != from &&
		    (strcmp(region->code, code) == 0 || strcmp(region->code, from->code) == 0))
			return true;
	}
	return false;
}

/*
 * A string member of the region that is split; "" where it has none, or one so long that the name
 * made from it would be refused.
 */
static const char *old_text(json_t *region, const char *key)
{
	const char *text = json_string_value(derpmap_member(region, key, NULL));

	return text && strlen(text) < DERPMAP_MAX_STRING - 64 ? text : "";
}

/* "us-west-internal", with the id behind where that is taken. Unescaped; NULL without memory. */
static char *code_new(struct fixer *fixer, const struct derpmap_region *from, const char *old,
		      enum group group, const char *id)
{
	struct derpmap_text text = { 0 };
	char *code, *shown;

	derpmap_text_add(&text, "%s%s%s", old, *old ? "-" : "", group_names[group].suffix);
	code = derpmap_text_take(&text);
	shown = code ? derpmap_escape(code) : NULL;
	if (shown && code_taken(fixer, from, shown)) {
		derpmap_text_add(&text, "%s-%s", code, id);
		free(code);
		code = derpmap_text_take(&text);
	}
	free(shown);
	return code;
}

/* The new region, in the copy; its Nodes are empty. *code is the caller's, escaped. */
static json_t *region_new(struct fixer *fixer, const struct derpmap_region *from, enum group group,
			  int64_t id, char **code)
{
	json_t *old = region_json(fixer, from), *made = NULL;
	const char *old_code = old_text(old, "RegionCode"), *old_name = old_text(old, "RegionName");
	struct derpmap_text name_text = { 0 };
	char key[24], *new_code, *new_name;

	snprintf(key, sizeof(key), "%" PRId64, id);
	new_code = code_new(fixer, from, old_code, group, key);
	if (*old_name)
		derpmap_text_add(&name_text, "%s (%s)", old_name, group_names[group].suffix);
	else
		derpmap_text_add(&name_text, "%s", group_names[group].name);
	new_name = derpmap_text_take(&name_text);
	*code = new_code ? derpmap_escape(new_code) : NULL;
	if (new_code && new_name && *code)
		made = json_pack("{s:I,s:s,s:s}", "RegionID", (json_int_t)id, "RegionCode",
				 new_code, "RegionName", new_name);
	if (made && from->avoid && json_object_set_new(made, "Avoid", json_true()))
		goto fail;
	if (!made || json_object_set_new(made, "Nodes", json_array()) ||
	    json_object_set(fixer->regions, key, made))
		goto fail;
	json_decref(made);
	free(new_code);
	free(new_name);
	return json_object_get(fixer->regions, key);
fail:
	json_decref(made);
	free(new_code);
	free(new_name);
	free(*code);
	*code = NULL;
	return NULL;
}

static int move_group(struct fixer *fixer, const struct derpmap_region *region, enum group group,
		      const struct derpmap_census *census)
{
	json_t *kept = json_array(), *nodes, *made, *json;
	int64_t id = derpmap_free_id(fixer->map, fixer->last_id);
	const struct derpmap_node *node;
	char *code = NULL;
	int ret = -ENOMEM;
	size_t n, at = 0;

	made = region_new(fixer, region, group, id, &code);
	nodes = derpmap_member(region_json(fixer, region), "Nodes", NULL);
	if (!made || !kept)
		goto cleanup;
	fixer->last_id = id;
	/* An earlier move has taken nodes out: those that are left stand in the map's order. */
	for (n = 0; n < region->nr_nodes; n++) {
		node = &region->nodes[n];
		if (node_group(node, census) != GROUP_STAY && node_group(node, census) < group)
			continue;
		json = json_array_get(nodes, at++);
		if (node_group(node, census) != group) {
			if (json_array_append(kept, json))
				goto cleanup;
			continue;
		}
		if (member_set(json, "RegionID", json_integer(id)) ||
		    json_array_append(json_object_get(made, "Nodes"), json) ||
		    say(fixer,
			"node \"%s\" (%s: %s) moved from region %" PRId64
			" to the new region %" PRId64 " \"%s\"",
			derpmap_node_label(node), derpmap_class_name(node->class), node->why,
			region->id, id, code))
			goto cleanup;
	}
	ret = member_set(region_json(fixer, region), "Nodes", kept);
	kept = NULL;
cleanup:
	json_decref(kept);
	free(code);
	return ret;
}

static int fix_split(struct fixer *fixer, const struct derpmap_region *region)
{
	size_t moved[GROUPS] = { 0 }, n;
	struct derpmap_census census;
	enum group group;
	int ret = 0;

	derpmap_census(region, &census);
	for (n = 0; n < region->nr_nodes; n++)
		moved[node_group(&region->nodes[n], &census)]++;
	for (group = GROUP_PRIVATE; group < GROUPS && !ret; group++)
		if (moved[group])
			ret = move_group(fixer, region, group, &census);
	return ret;
}

/*
 * jansson prints numbers with a fraction at 17 digits, 0.1 as 0.10000000000000001: the shortest
 * precision that reads back alike keeps them as they were written.
 */
static char *dump(json_t *root, unsigned int indent)
{
	unsigned int digits;
	json_t *back;
	char *text;
	bool same;

	for (digits = 15; ; digits++) {
		text = json_dumps(root, JSON_INDENT(indent) | JSON_REAL_PRECISION(digits));
		if (!text || digits == 17)
			return text;
		back = json_loads(text, 0, NULL);
		same = json_equal(root, back);
		json_decref(back);
		if (same)
			return text;
		free(text);
	}
}

static int fix_all(struct fixer *fixer, json_t *map, bool omit_default)
{
	size_t r;
	int ret = 0;

	for (r = 0; r < fixer->map->nr_regions && !ret; r++) {
		ret = fix_ids(fixer, &fixer->map->regions[r]);
		if (!ret)
			ret = fix_split(fixer, &fixer->map->regions[r]);
	}
	if (!ret && omit_default && !fixer->map->omit_default) {
		ret = member_set(map, "OmitDefaultRegions", json_true());
		if (!ret)
			ret = say(
				fixer,
				"OmitDefaultRegions set to true: Tailscale's regions are not used");
	}
	return ret;
}

int derpmap_fix(const struct derpmap *map, bool omit_default, struct derpmap_fixed *out)
{
	struct fixer fixer = { .map = map, .out = out };
	struct derpmap_text text = { 0 };
	json_t *root, *inner;
	char *json = NULL;
	int ret = -ENOMEM;

	memset(out, 0, sizeof(*out));
	root = json_deep_copy(map->priv->root);
	if (!root)
		return -ENOMEM;
	inner = map->priv->wrap_key ? json_object_get(root, map->priv->wrap_key) : root;
	fixer.regions = derpmap_member(inner, "Regions", NULL);
	ret = fix_all(&fixer, inner, omit_default);
	if (ret)
		goto cleanup;
	ret = -ENOMEM;
	json = dump(root, map->priv->indent);
	if (!json)
		goto cleanup;
	derpmap_text_add(&text, "%s\n", json);
	out->json_len = text.len;
	out->json = derpmap_text_take(&text);
	if (out->json)
		ret = 0;
cleanup:
	free(json);
	json_decref(root);
	if (ret)
		derpmap_fixed_free(out);
	return ret;
}

void derpmap_fixed_free(struct derpmap_fixed *fixed)
{
	size_t i;

	if (!fixed)
		return;
	for (i = 0; i < fixed->nr_changes; i++)
		free(fixed->changes[i]);
	free(fixed->changes);
	free(fixed->json);
	memset(fixed, 0, sizeof(*fixed));
}
