/* SPDX-License-Identifier: BSD-2-Clause */
/* The DERP map: reading, bounds, escaping, where a relay is, and the look-ups. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "derpmap/derpmap.h"
#include "derpmap_maps.h"

static const char broken[] = MAP_BROKEN;

static struct derpmap *parse(const char *json)
{
	struct derpmap_error err;
	struct derpmap *map = NULL;

	if (derpmap_parse(json, strlen(json), "map.json", &map, &err))
		fail_msg("%s", err.message);
	return map;
}

static void test_parse(void **state)
{
	struct derpmap *map = parse(broken);
	const struct derpmap_node *node;

	(void)state;
	assert_int_equal(map->nr_regions, 1);
	assert_int_equal(map->nr_nodes, 2);
	assert_false(map->omit_default);
	assert_int_equal(map->regions[0].id, 1);
	assert_string_equal(map->regions[0].code, "us-west");
	assert_string_equal(map->regions[0].name, "US West");
	assert_int_equal(map->regions[0].place.line, 3);
	node = &map->regions[0].nodes[0];
	assert_true(node->tailscale && node->can_port80 && !node->stun_only);
	assert_int_equal(node->class, DERPMAP_PUBLIC);
	assert_int_equal(node->derp_port, 443);
	assert_int_equal(node->stun_port, 3478);
	assert_string_equal(node->ipv4, "");
	node = &map->regions[0].nodes[1];
	assert_string_equal(node->name, "internal-derp");
	assert_int_equal(node->class, DERPMAP_PRIVATE);
	assert_int_equal(node->derp_port, 8443);
	assert_int_equal(node->place.line, 14);
	assert_int_equal(node->place.column, 1);
	assert_ptr_equal(node->region, &map->regions[0]);
	derpmap_free(map);
	derpmap_free(NULL);
}

/* As Go reads it: any letter case, null is nothing, the last of two wins; and inside a policy file.
 */
static void test_parse_like_go(void **state)
{
	struct derpmap *map = parse(
		"{ \"acls\": [ { \"a\\\"}\": [1, {}] } ], \"derpMap\": {\n"
		" \"omitdefaultregions\": true,"
		" \"HOMEPARAMS\": { \"RegionScore\": { \"7\": 0.5 } },\n"
		" \"regions\": { \"7\": { \"regioncode\": \"x\", \"Avoid\": true,"
		" \"RegionName\": null,\n"
		"  \"nodes\": [ { \"name\": \"a\", \"Name\": \"b\","
		" \"hostname\": \"h.example.com\",\n"
		"   \"derpport\": 1, \"stunport\": -1, \"stunonly\": false, \"forcehttp\": true,\n"
		"   \"ipv4\": \"none\", \"regionid\": 7, \"unknown\": [[\"]\"]] } ] } } } }");
	const struct derpmap_node *node = derpmap_next_node(map, NULL);

	(void)state;
	assert_true(map->omit_default && map->regions[0].avoid);
	assert_false(map->regions[0].has_said_id);
	assert_string_equal(map->regions[0].name, "");
	assert_string_equal(node->name, "b");
	assert_int_equal(node->derp_port, 1);
	assert_int_equal(node->stun_port, -1);
	assert_true(node->force_http);
	assert_int_equal(node->place.line, 4);
	assert_null(derpmap_next_node(map, node));
	derpmap_free(map);
}

/* Each is refused with the place and what to do. */
static void test_parse_refused(void **state)
{
	static const struct { const char *json, *message;
	} cases[] = {
		{"", "the file is empty"},
		{"\xef\xbb\xbf{}", "without a byte order mark"},
		{"Regions:\n  1:\n", "a DERP map is JSON"},
		{"{\n// note\n\"Regions\": {}}", "map.json:2:1:"},
		{"{\"Regions\": {", "the file is cut off"},
		{"{\"Regions\": {\"1\": {}, \"1\": {}}}", "delete or rename one"},
		{"{\"Regions\": {}, \"regions\": {}}", "Regions stands here twice"},
		{"[]", "map.json:1:1: this is a list, no DERP map"},
		{"{\"name\": \"package\"}", "no \"Regions\" here"},
		{"{\"Regions\": []}", "Regions is a list, must be an object"},
		{"{\"Regions\": {\"one\": {}}}", "the key \"one\" in Regions is no region number"},
		{"{\"Regions\": {\"01\": {}}}", "no region number"},
		{"{\"Regions\": {\"99999999999999999999\": {}}}", "no region number"},
		{"{\"Regions\": {\"1\": 5}}", "a region is a number, must be an object"},
		{"{\"Regions\": {\"1\": {\"Nodes\": {}}}}",
		 "Nodes in region 1 is an object, must be a"},
		{"{\"Regions\": {\"1\": {\"Nodes\": [null]}}}", "a node in region 1 is null"},
		{"{\"Regions\": {\"1\": {\n\"Nodes\": [{\n \"DERPPort\": \"443\"}]}}}",
		 "map.json:3:14: DERPPort in region 1 is a string, must be a whole number"},
		{"{\"Regions\": {\"1\": {\"Nodes\": [{\"DERPPort\": 443.0}]}}}", "with a fraction"},
		{"{\"Regions\": {\"1\": {\"Nodes\": [{\"STUNOnly\": 1}]}}}",
		 "must be true or false"},
		{"{\"Regions\": {\"1\": {\"RegionName\": 1}}}", "must be a string"},
		{"{\"Regions\": {\"1\": {\"RegionID\": 99999999999999999999}}}", "too big integer"},
		{"{\"Regions\": {\"1\": {\"RegionName\": \"\\u0000\"}}}", "remove the \\u0000"},
		{"{\"HomeParams\": {\"RegionScore\": {\"a\": 1}}, \"Regions\": {}}",
		 "in RegionScore"},
		{"{\"HomeParams\": {\"RegionScore\": {\"1\": \"\"}}, \"Regions\": {}}",
		 "must be a number"},
		{"{\"Regions\": {\"\x1b[2J\": {}}}", "map.json:1:"},
	};
	struct derpmap_error err;
	struct derpmap *map = NULL;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		assert_int_equal(
			derpmap_parse(cases[i].json, strlen(cases[i].json), "map.json", &map, &err),
			-22);
		if (!strstr(err.message, cases[i].message))
			fail_msg("\"%s\" gave \"%s\"", cases[i].json, err.message);
		assert_null(strchr(err.message, '\x1b'));
		assert_null(strchr(err.message, '\n'));
		assert_null(map);
	}
}

/* A zero byte, wherever it stands: what follows it would be read with places that are wrong. */
static void test_zero_byte(void **state)
{
	static const char number[] = "{\"Regions\":\n{\"1\": {\"RegionID\": 1\0}}}";
	static const char first[] = "\0{}";
	struct derpmap_error err;
	struct derpmap *map = NULL;

	(void)state;
	assert_int_equal(derpmap_parse(number, sizeof(number) - 1, "map.json", &map, &err), -22);
	assert_non_null(strstr(err.message, "map.json:2:21: a zero byte"));
	assert_int_equal(derpmap_parse(first, sizeof(first) - 1, "map.json", &map, &err), -22);
	assert_non_null(strstr(err.message, "map.json:1:1: a zero byte"));
	assert_null(map);
}

/* A document of n copies of item between head and tail. */
static char *repeat(const char *head, const char *item, size_t n, const char *tail)
{
	size_t len = strlen(item), i;
	char *text = malloc(strlen(head) + n * (len + 1) + strlen(tail) + 1);
	char *at = stpcpy(text, head);

	for (i = 0; i < n; i++) {
		at = stpcpy(at, item);
		if (i + 1 < n)
			*at++ = ',';
	}
	stpcpy(at, tail);
	return text;
}

static void refuse_big(char *json, const char *message)
{
	struct derpmap_error err;
	struct derpmap *map = NULL;

	assert_int_equal(derpmap_parse(json, strlen(json), "big", &map, &err), -7);
	assert_non_null(strstr(err.message, message));
	free(json);
}

static void test_bounds(void **state)
{
	struct derpmap_error err;
	struct derpmap *map = NULL;
	char *json;

	(void)state;
	refuse_big(repeat("{\"x\": [", "[]", 600000, "], \"Regions\": {}}"), "1000000 values");
	refuse_big(repeat("{\"Regions\": {\"1\": {\"Nodes\": [", "{}", 10001, "]}}}"),
		   "10000 nodes");
	json = repeat("{\"Regions\": {\"1\": {\"Nodes\": [", "{}", 10000, "]}}}");
	assert_int_equal(derpmap_parse(json, strlen(json), "big", &map, &err), 0);
	assert_int_equal(map->nr_nodes, 10000);
	derpmap_free(map);
	free(json);
	json = repeat("{\"Regions\": {\"1\": {\"RegionName\": \"", "aaaaaaaaaa", 100, "\"}}}");
	assert_int_equal(derpmap_parse(json, strlen(json), "long", &map, &err), -22);
	assert_non_null(strstr(err.message, "longer than 1024 bytes"));
	free(json);
}

static void test_escape(void **state)
{
	static const struct { const char *raw, *shown;
	} cases[] = {
		{"Frankfurt am Main", "Frankfurt am Main"},
		{"Z\xc3\xbcrich", "Z\xc3\xbcrich"},
		{"\x1b[31m", "\\u001b[31m"},
		{"a\nb\tc", "a\\u000ab\\u0009c"},
		{"\x7f", "\\u007f"},
		{"\xc2\x9b", "\\u009b"},
		{"\xe2\x80\xae"
		 "evil",
		 "\\u202eevil"},
		{"\xe2\x80\x8b", "\\u200b"},
		{"\"\\", "\\\"\\\\"},
		{"\x9b", "\\u009b"},
		{"\xf3\xa0\x81\x81", "\\U000e0041"},
		{"\xf0\x9f\x9a\x80", "\xf0\x9f\x9a\x80"},
		{"\xff", "\\u009f"},
		{"\xc3", "\\u0083"},
		{"", ""},
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		char *shown = derpmap_escape(cases[i].raw);

		assert_string_equal(shown, cases[i].shown);
		free(shown);
	}
}

#define ONE(node) "{\"Regions\": {\"1\": {\"RegionID\": 1, \"Nodes\": [" node "]}}}"

static void test_class(void **state)
{
	static const struct {
		const char *node;
		enum derpmap_class class;
		const char *why;
	} cases[] = {
		{"\"IPv4\": \"10.1.2.3\"", DERPMAP_PRIVATE, "IPv4 10.1.2.3, RFC 1918"},
		{"\"IPv4\": \"172.31.0.1\"", DERPMAP_PRIVATE, "RFC 1918"},
		{"\"IPv4\": \"172.16.0.1\"", DERPMAP_PRIVATE, "RFC 1918"},
		{"\"IPv4\": \"172.15.0.1\"", DERPMAP_PUBLIC, "IPv4 172.15.0.1"},
		{"\"IPv4\": \"172.32.0.1\"", DERPMAP_PUBLIC, "IPv4 172.32.0.1"},
		{"\"IPv4\": \"192.168.1.1\"", DERPMAP_PRIVATE, "RFC 1918"},
		{"\"IPv4\": \"100.64.0.1\"", DERPMAP_PRIVATE, "carrier-grade"},
		{"\"IPv4\": \"100.127.255.255\"", DERPMAP_PRIVATE, "carrier-grade"},
		{"\"IPv4\": \"100.128.0.1\"", DERPMAP_PUBLIC, "IPv4"},
		{"\"IPv4\": \"127.0.0.1\"", DERPMAP_PRIVATE, "loopback"},
		{"\"IPv4\": \"169.254.1.1\"", DERPMAP_PRIVATE, "link-local"},
		{"\"IPv4\": \"8.8.8.8\"", DERPMAP_PUBLIC, "IPv4 8.8.8.8"},
		{"\"IPv6\": \"fd00::1\"", DERPMAP_PRIVATE, "unique local"},
		{"\"IPv6\": \"fe80::1\"", DERPMAP_PRIVATE, "link-local"},
		{"\"IPv6\": \"::1\"", DERPMAP_PRIVATE, "loopback"},
		{"\"IPv6\": \"2600::1\"", DERPMAP_PUBLIC, "IPv6 2600::1"},
		{"\"IPv4\": \"10.0.0.1\", \"IPv6\": \"2600::1\"", DERPMAP_PUBLIC, "IPv6"},
		{"\"IPv4\": \"8.8.8.8\", \"IPv6\": \"fd00::1\"", DERPMAP_PUBLIC, "IPv4"},
		{"\"HostName\": \"10.0.0.1\"", DERPMAP_PRIVATE, "address 10.0.0.1"},
		{"\"HostName\": \"fd00::1\"", DERPMAP_PRIVATE, "unique local"},
		{"\"HostName\": \"8.8.8.8\"", DERPMAP_PUBLIC, "address"},
		{"\"HostName\": \"8.8.8.8\", \"IPv4\": \"10.0.0.1\"", DERPMAP_PRIVATE, "IPv4"},
		{"\"HostName\": \"derp1.tailscale.com\", \"IPv4\": \"none\"", DERPMAP_PUBLIC,
		 "Tailscale"},
		{"\"HostName\": \"DERP27d.Tailscale.com.\"", DERPMAP_PUBLIC, "Tailscale"},
		{"\"HostName\": \"derp1.tailscale.com\", \"IPv4\": \"10.0.0.1\"", DERPMAP_PRIVATE,
		 "IPv4"},
		{"\"HostName\": \"derp1.tailscale.com.evil.org\"", DERPMAP_UNKNOWN, "does not say"},
		{"\"HostName\": \"derp.corp.internal\"", DERPMAP_PRIVATE, "ends in .internal"},
		{"\"HostName\": \"a.b.cluster.local\"", DERPMAP_PRIVATE, "ends in .local"},
		{"\"HostName\": \"derp.net.svc\"", DERPMAP_PRIVATE, "ends in .svc"},
		{"\"HostName\": \"derp.home.arpa.\"", DERPMAP_PRIVATE, "ends in .home.arpa"},
		{"\"HostName\": \"derp\"", DERPMAP_PRIVATE, "single label"},
		{"\"HostName\": \"derp.vpc2.example.com\"", DERPMAP_PRIVATE, "label vpc2"},
		{"\"HostName\": \"internal-derp.example.com\"", DERPMAP_PRIVATE,
		 "label internal-derp"},
		{"\"HostName\": \"international.example.com\"", DERPMAP_UNKNOWN, "does not say"},
		{"\"HostName\": \"derp.corp.com\"", DERPMAP_UNKNOWN, "does not say"},
		{"\"HostName\": \"derp.example.com\", \"IPv4\": \"none\"", DERPMAP_UNKNOWN,
		 "no address"},
		{"\"HostName\": \"internal.example.com\", \"IPv4\": \"8.8.8.8\"", DERPMAP_PUBLIC,
		 "IPv4"},
		{"\"HostName\": \"bad host\"", DERPMAP_UNKNOWN, "no usable HostName"},
	};
	char json[512];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		struct derpmap *map;

		snprintf(json, sizeof(json), ONE("{%s}"), cases[i].node);
		map = parse(json);
		if (map->regions[0].nodes[0].class != cases[i].class ||
		    !strstr(map->regions[0].nodes[0].why, cases[i].why))
			fail_msg("%s: %s, %s", cases[i].node,
				 derpmap_class_name(map->regions[0].nodes[0].class),
				 map->regions[0].nodes[0].why);
		derpmap_free(map);
	}
}

static void test_find(void **state)
{
	struct derpmap *map = parse(
		"{\"Regions\": {\"5\": {\"Nodes\": []}, \"1\": {\"Nodes\": ["
		" {\"Name\": \"s\", \"HostName\": \"one.example.com\", \"STUNOnly\": true},"
		" {\"Name\": \"a\", \"HostName\": \"one.example.com\", \"IPv4\": \"10.0.0.1\"},"
		" {\"Name\": \"b\", \"HostName\": \"One.example.com\", \"DERPPort\": 8443,"
		"  \"IPv6\": \"fd00:0::1\"}]},"
		" \"2\": {\"Nodes\": [{\"Name\": \"c\", \"HostName\": \"192.0.2.7\","
		" \"DERPPort\": 99999}]}}}");
	const struct derpmap_node *node;

	(void)state;
	assert_string_equal(derpmap_find_node_by_host(map, "ONE.example.com.")->name, "a");
	assert_string_equal(derpmap_find_node_by_host(map, "192.0.2.7")->name, "c");
	assert_null(derpmap_find_node_by_host(map, "two.example.com"));
	assert_null(derpmap_find_node_by_host(map, ""));
	assert_null(derpmap_find_node_by_host(map, "10.0.0.1"));
	assert_string_equal(derpmap_find_node_by_address(map, "10.0.0.1", 443)->name, "a");
	assert_string_equal(derpmap_find_node_by_address(map, "::ffff:10.0.0.1", 0)->name, "a");
	assert_string_equal(derpmap_find_node_by_address(map, "[fd00::1]", 8443)->name, "b");
	assert_null(derpmap_find_node_by_address(map, "fd00::1", 443));
	assert_string_equal(derpmap_find_node_by_address(map, "one.example.com", 8443)->name, "b");
	assert_string_equal(derpmap_find_node_by_address(map, "192.0.2.7", 0)->name, "c");
	assert_int_equal(derpmap_find_region(map, 2)->nr_nodes, 1);
	assert_null(derpmap_find_region(map, 3));
	node = derpmap_next_node(map, derpmap_next_node(map, NULL));
	assert_string_equal(node->name, "a");
	node = derpmap_next_node(map, derpmap_next_node(map, node));
	assert_string_equal(node->name, "c");
	derpmap_free(map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_parse_like_go),
		cmocka_unit_test(test_parse_refused),
		cmocka_unit_test(test_zero_byte),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_escape),
		cmocka_unit_test(test_class),
		cmocka_unit_test(test_find),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
