/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * JSON text to struct derpmap, read as Go's encoding/json reads it: keys in any letter case, the
 * last of two wins, null changes nothing, a wrong type is an error. Text and tree are walked in
 * step, so that everything knows its line.
 */
#include "derpmap/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct parser {
	struct derpmap *map;
	struct derpmap_walk walk;
	struct derpmap_error *err;
	char *name;		/* of the file, escaped */
	int64_t region_id;	/* of the region being read */
	bool in_region;
};

/* One key: how its value gets to where it belongs. The setter leaves the cursor behind the value.
 */
struct field {
	const char *key;
	int (*set)(struct parser *p, const struct field *field, json_t *value, void *object);
	size_t offset;
};

__attribute__((format(printf, 3, 4)))
static int parse_fail(struct parser *p, struct derpmap_place place, const char *format, ...)
{
	size_t size = sizeof(p->err->message);
	char *out = p->err->message;
	va_list args;
	int len;

	p->err->place = place;
	if (place.line)
		len = snprintf(out, size, "%.256s:%u:%u: ", p->name, place.line, place.column);
	else
		len = snprintf(out, size, "%.256s: ", p->name);
	va_start(args, format);
	vsnprintf(out + len, size - (size_t)len, format, args);
	va_end(args);
	return -EINVAL;
}

static const char *type_name(const json_t *value)
{
	static const char *const names[] = {
		[JSON_OBJECT] = "an object", [JSON_ARRAY] = "a list", [JSON_STRING] = "a string",
		[JSON_INTEGER] = "a number", [JSON_REAL] = "a number with a fraction",
		[JSON_TRUE] = "true", [JSON_FALSE] = "false", [JSON_NULL] = "null",
	};

	return names[json_typeof(value)];
}

static int fail_type(struct parser *p, const char *key, const json_t *value, const char *wanted)
{
	char where[64] = "";

	if (p->in_region)
		snprintf(where, sizeof(where), " in region %" PRId64, p->region_id);
	return parse_fail(p, derpmap_walk_place(&p->walk),
			  "%s%s is %s, must be %s; correct the value", key, where, type_name(value),
			  wanted);
}

static int set_string(struct parser *p, const struct field *field, json_t *value, void *object)
{
	char **slot = (char **)((char *)object + field->offset);
	char *text;

	if (!json_is_string(value))
		return fail_type(p, field->key, value, "a string in quotes");
	if (json_string_length(value) > DERPMAP_MAX_STRING)
		return parse_fail(p, derpmap_walk_place(&p->walk),
				  "%s is longer than %u bytes; shorten it", field->key,
				  DERPMAP_MAX_STRING);
	text = derpmap_escape(json_string_value(value));
	if (!text)
		return -ENOMEM;
	free(*slot);
	*slot = text;
	derpmap_walk_skip(&p->walk);
	return 0;
}

static int set_number(struct parser *p, const struct field *field, json_t *value, void *object)
{
	if (!json_is_integer(value))
		return fail_type(p, field->key, value, "a whole number without quotes");
	*(int64_t *)((char *)object + field->offset) = json_integer_value(value);
	derpmap_walk_skip(&p->walk);
	return 0;
}

static int set_bool(struct parser *p, const struct field *field, json_t *value, void *object)
{
	if (!json_is_boolean(value))
		return fail_type(p, field->key, value, "true or false without quotes");
	*(bool *)((char *)object + field->offset) = json_is_true(value);
	derpmap_walk_skip(&p->walk);
	return 0;
}

static int set_said_id(struct parser *p, const struct field *field, json_t *value, void *object)
{
	((struct derpmap_region *)object)->has_said_id = true;
	return set_number(p, field, value, object);
}

static void note_twice(struct parser *p, const char *key)
{
	struct derpmap_private *priv = p->map->priv;

	if (priv->nr_twice < DERPMAP_MAX_TWICE)
		priv->twice[priv->nr_twice++] = (struct derpmap_twice){
			.place = derpmap_walk_place(&p->walk), .key = key,
		};
}

/* Reads the members of an object that the table names; the cursor goes from its brace to behind. */
static int parse_object(struct parser *p, json_t *json, const struct field *fields, size_t nr,
			void *object)
{
	uint64_t seen = 0;
	json_t *value;
	const char *key;
	size_t i;
	int ret;

	derpmap_walk_bracket(&p->walk);
	json_object_foreach(json, key, value) {
		derpmap_walk_next(&p->walk);
		for (i = 0; i < nr && strcasecmp(key, fields[i].key) != 0; i++)
			;
		if (i < nr && (seen & UINT64_C(1) << i))
			note_twice(p, fields[i].key);
		if (i < nr)
			seen |= UINT64_C(1) << i;
		derpmap_walk_skip(&p->walk);
		derpmap_walk_next(&p->walk);
		if (i == nr || json_is_null(value)) {
			derpmap_walk_skip(&p->walk);
			continue;
		}
		ret = fields[i].set(p, &fields[i], value, object);
		if (ret)
			return ret;
	}
	derpmap_walk_bracket(&p->walk);
	return 0;
}

#define NODE(key, set, member)	{ key, set, offsetof(struct derpmap_node, member) }
#define REGION(key, set, member) { key, set, offsetof(struct derpmap_region, member) }

static const struct field node_fields[] = {
	NODE("Name", set_string, name),
	NODE("RegionID", set_number, region_id),
	NODE("HostName", set_string, hostname),
	NODE("CertName", set_string, cert_name),
	NODE("IPv4", set_string, ipv4),
	NODE("IPv6", set_string, ipv6),
	NODE("STUNPort", set_number, stun_port),
	NODE("STUNOnly", set_bool, stun_only),
	NODE("DERPPort", set_number, derp_port),
	NODE("InsecureForTests", set_bool, insecure),
	NODE("ForceHTTP", set_bool, force_http),
	NODE("STUNTestIP", set_string, stun_test_ip),
	NODE("CanPort80", set_bool, can_port80),
};

static int node_finish(struct derpmap_node *node)
{
	char **texts[] = { &node->name, &node->hostname, &node->ipv4, &node->ipv6,
			   &node->cert_name, &node->stun_test_ip };
	size_t i;

	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (!*texts[i] && !(*texts[i] = strdup("")))
			return -ENOMEM;
	if (node->derp_port == 0)
		node->derp_port = DERPMAP_DERP_PORT;
	if (node->stun_port == 0)
		node->stun_port = DERPMAP_STUN_PORT;
	return derpmap_classify(node);
}

static int set_nodes(struct parser *p, const struct field *field, json_t *value, void *object)
{
	struct derpmap_region *region = object;
	struct derpmap_node *node;
	json_t *element;
	size_t i;
	int ret;

	if (!json_is_array(value))
		return fail_type(p, field->key, value, "a list of nodes");
	if (region->nr_nodes)
		return parse_fail(p, derpmap_walk_place(&p->walk),
				  "region %" PRId64 " has Nodes twice; merge the two lists",
				  region->id);
	derpmap_walk_bracket(&p->walk);
	json_array_foreach(value, i, element) {
		derpmap_walk_next(&p->walk);
		if (!json_is_object(element))
			return fail_type(p, "a node", element, "an object");
		if (p->map->nr_nodes == DERPMAP_MAX_NODES) {
			parse_fail(p, derpmap_walk_place(&p->walk),
				   "more than %u nodes; split the map", DERPMAP_MAX_NODES);
			return -E2BIG;
		}
		node = derpmap_grow((void **)&region->nodes, &region->nr_nodes, sizeof(*node));
		if (!node)
			return -ENOMEM;
		p->map->nr_nodes++;
		node->index = i;
		node->place = derpmap_walk_place(&p->walk);
		ret = parse_object(p, element, node_fields,
				   sizeof(node_fields) / sizeof(node_fields[0]), node);
		if (!ret)
			ret = node_finish(node);
		if (ret)
			return ret;
	}
	derpmap_walk_bracket(&p->walk);
	return 0;
}

static const struct field region_fields[] = {
	REGION("RegionID", set_said_id, said_id),
	REGION("RegionCode", set_string, code),
	REGION("RegionName", set_string, name),
	REGION("Avoid", set_bool, avoid),
	REGION("EmbeddedRelay", set_bool, embedded),
	{ "Nodes", set_nodes, 0 },
};

/* A key of Regions or RegionScore. -EINVAL where it is no plain number. */
static int parse_id(struct parser *p, const char *key, const char *what, int64_t *id)
{
	char again[24], *end, *shown;
	int ret;

	errno = 0;
	*id = strtoll(key, &end, 10);
	snprintf(again, sizeof(again), "%" PRId64, *id);
	if (errno == 0 && strcmp(again, key) == 0)
		return 0;
	shown = derpmap_escape(key);
	ret = parse_fail(
		p, derpmap_walk_place(&p->walk),
		"the key \"%.64s\" in %s is no region number; use the RegionID, like \"900\"",
		shown ? shown : "?", what);
	free(shown);
	return ret;
}

static int parse_region(struct parser *p, int64_t id, json_t *value)
{
	struct derpmap *map = p->map;
	struct derpmap_place *null;
	struct derpmap_region *region;
	int ret;

	if (json_is_null(value)) {
		null = derpmap_grow((void **)&map->priv->nulls, &map->priv->nr_nulls,
				    sizeof(*null));
		if (!null)
			return -ENOMEM;
		*null = derpmap_walk_place(&p->walk);
		derpmap_walk_skip(&p->walk);
		return 0;
	}
	if (!json_is_object(value))
		return fail_type(p, "a region", value, "an object");
	if (map->nr_regions == DERPMAP_MAX_REGIONS) {
		parse_fail(p, derpmap_walk_place(&p->walk), "more than %u regions; split the map",
			   DERPMAP_MAX_REGIONS);
		return -E2BIG;
	}
	region = derpmap_grow((void **)&map->regions, &map->nr_regions, sizeof(*region));
	if (!region)
		return -ENOMEM;
	region->id = id;
	region->place = derpmap_walk_place(&p->walk);
	p->region_id = id;
	p->in_region = true;
	ret = parse_object(p, value, region_fields,
			   sizeof(region_fields) / sizeof(region_fields[0]), region);
	p->in_region = false;
	if (ret)
		return ret;
	if ((!region->code && !(region->code = strdup(""))) ||
	    (!region->name && !(region->name = strdup(""))))
		return -ENOMEM;
	return 0;
}

static int set_regions(struct parser *p, const struct field *field, json_t *value, void *object)
{
	json_t *region;
	const char *key;
	int64_t id;
	int ret;

	(void)object;
	if (!json_is_object(value))
		return fail_type(p, field->key, value, "an object with a region per key");
	if (p->map->priv->regions)
		return parse_fail(p, derpmap_walk_place(&p->walk),
				  "Regions stands here twice; merge the two");
	p->map->priv->regions = value;
	derpmap_walk_bracket(&p->walk);
	json_object_foreach(value, key, region) {
		derpmap_walk_next(&p->walk);
		ret = parse_id(p, key, "Regions", &id);
		if (ret)
			return ret;
		derpmap_walk_skip(&p->walk);
		derpmap_walk_next(&p->walk);
		ret = parse_region(p, id, region);
		if (ret)
			return ret;
	}
	derpmap_walk_bracket(&p->walk);
	return 0;
}

static int set_scores(struct parser *p, const struct field *field, json_t *value, void *object)
{
	struct derpmap_private *priv = p->map->priv;
	struct derpmap_score *score;
	json_t *number;
	const char *key;
	int ret;

	(void)object;
	if (!json_is_object(value))
		return fail_type(p, field->key, value, "an object with a number per region");
	derpmap_walk_bracket(&p->walk);
	json_object_foreach(value, key, number) {
		derpmap_walk_next(&p->walk);
		if (priv->nr_scores == DERPMAP_MAX_REGIONS) {
			parse_fail(p, derpmap_walk_place(&p->walk),
				   "more than %u scores; remove some", DERPMAP_MAX_REGIONS);
			return -E2BIG;
		}
		score = derpmap_grow((void **)&priv->scores, &priv->nr_scores, sizeof(*score));
		if (!score)
			return -ENOMEM;
		score->place = derpmap_walk_place(&p->walk);
		ret = parse_id(p, key, "RegionScore", &score->region_id);
		if (ret)
			return ret;
		derpmap_walk_skip(&p->walk);
		derpmap_walk_next(&p->walk);
		if (!json_is_number(number) && !json_is_null(number))
			return fail_type(p, field->key, number, "a number");
		derpmap_walk_skip(&p->walk);
	}
	derpmap_walk_bracket(&p->walk);
	return 0;
}

static int set_home(struct parser *p, const struct field *field, json_t *value, void *object)
{
	static const struct field home_fields[] = { { "RegionScore", set_scores, 0 } };

	if (!json_is_object(value))
		return fail_type(p, field->key, value, "an object");
	return parse_object(p, value, home_fields, 1, object);
}

static const struct field map_fields[] = {
	{ "Regions", set_regions, 0 },
	{ "OmitDefaultRegions", set_bool, offsetof(struct derpmap, omit_default) },
	{ "HomeParams", set_home, 0 },
};

/* The map may be a member of a larger document: a policy file, a network map, a debug answer. */
static int find_map(struct parser *p, json_t *root)
{
	static const char *const wraps[] = { "derpMap", "derp_map" };
	struct derpmap_private *priv = p->map->priv;
	const char *spelt = NULL, *key;
	json_t *value;
	size_t i;

	if (!json_is_object(root))
		return parse_fail(p, derpmap_walk_place(&p->walk),
				  "this is %s, no DERP map; give an object with \"Regions\"",
				  type_name(root));
	if (derpmap_member(root, "Regions", NULL)) {
		priv->map = root;
		return 0;
	}
	for (i = 0; i < sizeof(wraps) / sizeof(wraps[0]) && !priv->map; i++) {
		value = derpmap_member(root, wraps[i], &spelt);
		if (json_is_object(value) && derpmap_member(value, "Regions", NULL))
			priv->map = value;
	}
	if (!priv->map)
		return parse_fail(
			p, derpmap_walk_place(&p->walk),
			"no \"Regions\" here, so no DERP map; give the file that the server's"
			" --derp-config-path names, or the answer of --derp-config-url");
	priv->wrap_key = spelt;
	derpmap_walk_bracket(&p->walk);
	json_object_foreach(root, key, value) {
		derpmap_walk_skip(&p->walk);
		derpmap_walk_next(&p->walk);
		if (strcmp(key, spelt) == 0)
			break;
		derpmap_walk_skip(&p->walk);
	}
	return 0;
}

/* jansson spends up to 200 bytes a value: what would not fit is refused before. */
static bool too_many_values(const char *bytes, size_t len)
{
	size_t values = 0, i;
	bool quoted = false;

	for (i = 0; i < len && values <= DERPMAP_MAX_VALUES; i++) {
		if (bytes[i] == '"')
			quoted = !quoted;
		else if (quoted)
			i += bytes[i] == '\\';
		else
			values += bytes[i] == ',' || bytes[i] == '[' || bytes[i] == '{';
	}
	return values > DERPMAP_MAX_VALUES;
}

static const char *syntax_hint(const json_error_t *json, const char *bytes, size_t len)
{
	static const struct { enum json_error_code code; const char *hint;
	} hints[] = {
		{json_error_duplicate_key,
		 "clients would keep only the last: delete or rename one"},
		{json_error_premature_end_of_input, "the file is cut off: get it whole"},
		{json_error_invalid_utf8, "save the file as UTF-8"},
		{json_error_null_character, "remove the \\u0000"},
		{json_error_stack_overflow, "nothing in a DERP map is nested that deep"},
		{json_error_numeric_overflow, "use a smaller number"},
		{json_error_end_of_input_expected, "one JSON document only: remove the rest"},
	};
	size_t i;

	if (len >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0)
		return "save the file without a byte order mark";
	if (len == 0)
		return "the file is empty: give a DERP map in JSON";
	for (i = 0; i < sizeof(hints) / sizeof(hints[0]); i++)
		if (json_error_code(json) == hints[i].code)
			return hints[i].hint;
	return "a DERP map is JSON, without comments, without a comma before } or ]";
}

/* No JSON holds a zero byte; the library reads over one that stands right behind a number. */
static int refuse_zero(struct parser *p, const char *bytes, size_t len)
{
	const char *zero = len ? memchr(bytes, '\0', len) : NULL;

	if (!zero)
		return 0;
	return parse_fail(p, derpmap_place_of(bytes, zero),
			  "a zero byte; a DERP map is JSON: is it the right file?");
}

static int parse_json(struct parser *p, const char *bytes, size_t len)
{
	struct derpmap_private *priv = p->map->priv;
	struct derpmap_place place = { 0 };
	json_error_t json;
	char *text;

	if (len > DERPMAP_MAX_BYTES || too_many_values(bytes, len)) {
		parse_fail(p, place,
			   "larger than %u MiB or %u values; a DERP map has far less: is it"
			   " the right file?",
			   DERPMAP_MAX_BYTES >> 20, DERPMAP_MAX_VALUES);
		return -E2BIG;
	}
	if (refuse_zero(p, bytes, len))
		return -EINVAL;
	priv->root = json_loadb(bytes, len, JSON_REJECT_DUPLICATES, &json);
	if (priv->root)
		return 0;
	if (json_error_code(&json) == json_error_out_of_memory)
		return -ENOMEM;
	if (json.line > 0) {
		place.line = (unsigned int)json.line;
		place.column = json.column > 0 ? (unsigned int)json.column : 1;
	}
	text = derpmap_escape(json.text);
	parse_fail(p, place, "%.200s; %s", text ? text : "not JSON",
		   syntax_hint(&json, bytes, len));
	free(text);
	return -EINVAL;
}

static void link_nodes(struct derpmap *map)
{
	size_t r, n;

	for (r = 0; r < map->nr_regions; r++)
		for (n = 0; n < map->regions[r].nr_nodes; n++)
			map->regions[r].nodes[n].region = &map->regions[r];
}

int derpmap_parse(const char *bytes, size_t len, const char *name, struct derpmap **map,
		  struct derpmap_error *err)
{
	struct parser p = { .err = err };
	int ret = -ENOMEM;

	memset(err, 0, sizeof(*err));
	p.map = calloc(1, sizeof(*p.map));
	p.name = derpmap_escape(name);
	if (p.map)
		p.map->priv = calloc(1, sizeof(*p.map->priv));
	if (!p.map || !p.map->priv || !p.name)
		goto cleanup;
	ret = parse_json(&p, bytes, len);
	if (ret)
		goto cleanup;
	derpmap_walk_init(&p.walk, bytes, len);
	derpmap_walk_next(&p.walk);
	p.map->priv->indent = derpmap_indent(bytes, len);
	ret = find_map(&p, p.map->priv->root);
	if (ret)
		goto cleanup;
	p.map->priv->place = derpmap_walk_place(&p.walk);
	ret = parse_object(&p, p.map->priv->map, map_fields,
			   sizeof(map_fields) / sizeof(map_fields[0]), p.map);
	if (ret)
		goto cleanup;
	link_nodes(p.map);
	p.map->priv->name = strdup(name);
	if (!p.map->priv->name) {
		ret = -ENOMEM;
		goto cleanup;
	}
	*map = p.map;
	p.map = NULL;
cleanup:
	if (ret == -ENOMEM)
		snprintf(err->message, sizeof(err->message),
			 "%.256s: out of memory; free some, or give a smaller map",
			 p.name ? p.name : "DERP map");
	free(p.name);
	derpmap_free(p.map);
	return ret;
}

static void node_free(struct derpmap_node *node)
{
	free(node->name);
	free(node->hostname);
	free(node->ipv4);
	free(node->ipv6);
	free(node->cert_name);
	free(node->stun_test_ip);
	free(node->why);
}

void derpmap_free(struct derpmap *map)
{
	size_t r, n;

	if (!map)
		return;
	for (r = 0; r < map->nr_regions; r++) {
		for (n = 0; n < map->regions[r].nr_nodes; n++)
			node_free(&map->regions[r].nodes[n]);
		free(map->regions[r].nodes);
		free(map->regions[r].code);
		free(map->regions[r].name);
	}
	free(map->regions);
	if (map->priv) {
		json_decref(map->priv->root);
		free(map->priv->name);
		free(map->priv->nulls);
		free(map->priv->scores);
	}
	free(map->priv);
	free(map);
}
