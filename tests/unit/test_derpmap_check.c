/* SPDX-License-Identifier: BSD-2-Clause */
/* The DERP map: every check, and the correction. */
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
static const char coder[] = MAP_CODER;

/* The map that the incident's report recommends. */
static const char repaired[] =
	"{ \"OmitDefaultRegions\": true, \"Regions\": {\n"
	"  \"1\": { \"RegionID\": 1, \"RegionCode\": \"public\",\n"
	"    \"RegionName\": \"Tailscale Public\",\n"
	"    \"Nodes\": [ { \"Name\": \"public-derp\", \"RegionID\": 1,\n"
	"      \"HostName\": \"derp1.tailscale.com\", \"CanPort80\": true } ] },\n"
	"  \"900\": { \"RegionID\": 900, \"RegionCode\": \"internal\",\n"
	"    \"RegionName\": \"Internal DERP\",\n"
	"    \"Nodes\": [ { \"Name\": \"internal-derp\", \"RegionID\": 900,\n"
	"      \"HostName\": \"internal-derp.example.com\", \"DERPPort\": 8443 } ] } } }\n";

static struct derpmap *parse(const char *json)
{
	struct derpmap_error err;
	struct derpmap *map = NULL;

	if (derpmap_parse(json, strlen(json), "map.json", &map, &err))
		fail_msg("%s", err.message);
	return map;
}

/* The codes of all findings, in their order, with a space between. */
static void codes_of(const struct derpmap *map, char *out, size_t size)
{
	struct derpmap_findings findings;
	size_t i, len = 0;

	assert_int_equal(derpmap_check(map, &findings), 0);
	out[0] = '\0';
	for (i = 0; i < findings.count; i++) {
		assert_true(*findings.list[i].text && *findings.list[i].fix);
		assert_true(findings.list[i].place.line && findings.list[i].place.column);
		len += (size_t)snprintf(out + len, size - len, "%s%s", i ? " " : "",
					findings.list[i].code);
		assert_true(len < size);
	}
	derpmap_findings_free(&findings);
}

/* Region 1 of these nodes, Tailscale's default regions left out. */
#define REGION(nodes) "{\"OmitDefaultRegions\": true, \"Regions\": {\"1\": {\"RegionID\": 1," \
	" \"RegionCode\": \"x\", \"Nodes\": [" nodes "]}}}"
#define NODE(name, more) "{\"Name\": \"" name "\", \"RegionID\": 1, " more "}"
#define PUBLIC_A NODE("a", "\"HostName\": \"a.example.com\", \"IPv4\": \"192.0.2.1\"")
#define PUBLIC_B NODE("b", "\"HostName\": \"b.example.com\", \"IPv4\": \"192.0.2.2\"")
#define PRIVATE_C NODE("c", "\"HostName\": \"c.example.com\", \"IPv4\": \"10.0.0.3\"")
#define PRIVATE_D NODE("d", "\"HostName\": \"d.lan\"")
#define UNKNOWN_E NODE("e", "\"HostName\": \"e.example.com\"")
#define TAILSCALE NODE("t", "\"HostName\": \"derp1.tailscale.com\"")
#define STUN_ONLY NODE("s", "\"HostName\": \"stun.l.google.com\", \"STUNOnly\": true")

static const struct { const char *name, *json, *codes;
} checks[] = {
	{"the incident", broken, "DTM001 DTM008 DTM006"},
	{"the incident repaired", repaired, "DTM006"},
	{"Coder's manual", coder, ""},
	{"one public", REGION(PUBLIC_A), ""},
	{"one private", REGION(PRIVATE_C), ""},
	{"two public", REGION(PUBLIC_A "," PUBLIC_B), "DTM005"},
	{"two private", REGION(PRIVATE_C "," PRIVATE_D), "DTM005"},
	{"public and private", REGION(PUBLIC_A "," PRIVATE_C), "DTM001"},
	{"a public STUN server beside a private relay", REGION(STUN_ONLY "," PRIVATE_C), ""},
	{"unknown is not accused", REGION(UNKNOWN_E "," PRIVATE_C), "DTM005 DTM019"},
	{"unknown beside public", REGION(UNKNOWN_E "," PUBLIC_A), "DTM005 DTM019"},
	{"Tailscale's and one's own", REGION(TAILSCALE "," PUBLIC_A), "DTM002"},
	{"Tailscale's and private", REGION(TAILSCALE "," PRIVATE_D), "DTM001"},
	{"Tailscale's alone",
	 REGION(TAILSCALE "," NODE("u", "\"HostName\": \"derp1b.tailscale.com\"")), ""},
	{"all kinds", REGION(TAILSCALE "," PUBLIC_A "," PRIVATE_C "," UNKNOWN_E),
	 "DTM001 DTM002 DTM019"},
	{"STUN only", REGION(STUN_ONLY), "DTM003"},
	{"no nodes", REGION(""), "DTM003"},
	{"Coder's own STUN region",
	 "{\"Regions\": {\"1000\": {\"RegionID\": 1000, \"RegionCode\":"
	 " \"coder_stun_1000\", \"Nodes\": [{\"Name\": \"1000stun0\","
	 " \"RegionID\": 1000, \"HostName\":"
	 " \"stun.l.google.com\", \"STUNOnly\": true}]}}}",
	 ""},
	{"no HostName", REGION(NODE("a", "\"IPv4\": \"192.0.2.1\"")), "DTM004"},
	{"no HostName of a STUN server", REGION(PUBLIC_A "," NODE("s", "\"STUNOnly\": true")),
	 "DTM004"},
	{"an address is enough for STUN",
	 REGION(PUBLIC_A "," NODE("s", "\"STUNOnly\": true, \"IPv4\": \"192.0.2.9\"")), ""},
	{"ForceHTTP",
	 REGION(NODE("a", "\"HostName\": \"a.lan\", \"ForceHTTP\": true, \"DERPPort\": 80")),
	 "DTM007"},
	{"default regions beside private ones",
	 "{\"Regions\": {\"900\": {\"RegionID\": 900, \"Nodes\":"
	 " [{\"Name\": \"a\", \"RegionID\": 900, \"HostName\": \"a.lan\"}]}}}",
	 "DTM008"},
	{"no STUN", REGION(NODE("a", "\"HostName\": \"a.lan\", \"STUNPort\": -1")), "DTM009"},
	{"no RegionID",
	 "{\"Regions\": {\"7\": {\"Nodes\": [{\"RegionID\": 7, \"HostName\":"
	 " \"a.example.com\"}]}}}",
	 "DTM010"},
	{"RegionID against key",
	 "{\"Regions\": {\"7\": {\"RegionID\": 8, \"Nodes\": [{\"RegionID\": 7,"
	 " \"HostName\": \"a.example.com\"}]}}}",
	 "DTM011"},
	{"RegionID of a node", REGION("{\"HostName\": \"a.example.com\", \"RegionID\": 2}"),
	 "DTM012"},
	{"no RegionID of a node", REGION("{\"HostName\": \"a.example.com\"}"), "DTM012"},
	{"one Name twice",
	 REGION(PUBLIC_A "," NODE("a", "\"HostName\": \"b.example.com\","
				       " \"IPv4\": \"192.0.2.2\"")),
	 "DTM013 DTM005"},
	{"one RegionCode twice",
	 "{\"Regions\": {"
	 "\"1\": {\"RegionID\": 1, \"RegionCode\": \"x\", \"Nodes\": [" PUBLIC_A "]},"
	 "\"2\": {\"RegionID\": 2, \"RegionCode\": \"x\","
	 " \"Nodes\": [{\"Name\": \"z\", \"RegionID\": 2,"
	 " \"HostName\": \"z.example.com\"}]}}}",
	 "DTM014"},
	{"one relay twice",
	 REGION(PUBLIC_A "," NODE("b", "\"HostName\": \"A.example.com\","
				       " \"IPv4\": \"192.0.2.1\"")),
	 "DTM005 DTM015"},
	{"a key twice", REGION(NODE("a", "\"HostName\": \"a.lan\", \"hostname\": \"b.lan\"")),
	 "DTM016"},
	{"a URL", REGION(NODE("a", "\"HostName\": \"https://a.example.com/derp\"")), "DTM017"},
	{"a port in the name", REGION(NODE("a", "\"HostName\": \"a.example.com:443\"")), "DTM017"},
	{"a hostile name", REGION(NODE("a", "\"HostName\": \"$(reboot).\\u001b[2J\"")), "DTM017"},
	{"bad ports",
	 REGION(NODE("a", "\"HostName\": \"a.lan\", \"DERPPort\": 65536, \"STUNPort\": 70000")),
	 "DTM017 DTM017"},
	{"a negative port", REGION(NODE("a", "\"HostName\": \"a.lan\", \"DERPPort\": -1")),
	 "DTM017"},
	{"addresses of the wrong family",
	 REGION(NODE("a",
		     "\"HostName\": \"a.lan\", \"IPv4\": \"fd00::1\", \"IPv6\": \"10.0.0.1\"")),
	 "DTM017 DTM017"},
	{"nothing to dial", REGION(NODE("a", "\"HostName\": \"a.lan\", \"IPv4\": \"0.0.0.0\"")),
	 "DTM017"},
	{"no regions", "{\"Regions\": {}}", "DTM018"},
	{"null regions", "{\"Regions\": null}", "DTM018"},
	{"for tests",
	 REGION(NODE("a", "\"HostName\": \"a.lan\", \"InsecureForTests\": true,"
			  " \"STUNTestIP\": \"127.0.0.1\"")),
	 "DTM020 DTM020"},
	{"region 0",
	 "{\"Regions\": {\"0\": {\"RegionID\": 0, \"Nodes\": [{\"HostName\":"
	 " \"a.example.com\"}]}}}",
	 "DTM021"},
	{"a score of no region",
	 "{\"omitDefaultRegions\": true, \"HomeParams\": {\"RegionScore\":"
	 " {\"1\": 1, \"3\": 0.5}}, \"Regions\": {\"1\": {\"RegionID\": 1, \"Nodes\": [" PUBLIC_A
	 "]}}}",
	 "DTM022"},
	{"a null region",
	 "{\"Regions\": {\"4\": null, \"1\": {\"RegionID\": 1, \"Nodes\": [" PUBLIC_A "]}}}",
	 "DTM023"},
};

static void test_check(void **state)
{
	char codes[256];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(checks); i++) {
		struct derpmap *map = parse(checks[i].json);

		codes_of(map, codes, sizeof(codes));
		if (strcmp(codes, checks[i].codes) != 0)
			fail_msg("%s: found \"%s\", expected \"%s\"", checks[i].name, codes,
				 checks[i].codes);
		derpmap_free(map);
	}
}

/* Every code of the table is made by some map above, and the table's codes count up. */
static void test_rules(void **state)
{
	const struct derpmap_rule *rules;
	size_t count, i, c;
	char code[32];

	(void)state;
	rules = derpmap_rules(&count);
	for (i = 0; i < count; i++) {
		bool seen = false;

		snprintf(code, sizeof(code), "DTM%03zu", i + 1);
		assert_string_equal(rules[i].code, code);
		for (c = 0; c < COUNT(checks); c++)
			seen |= strstr(checks[c].codes, code) != NULL;
		if (!seen)
			fail_msg("no map tests %s", code);
	}
}

static void test_mesh_flags(void **state)
{
	struct derpmap *map = parse(REGION(PUBLIC_A "," PUBLIC_B ","
		NODE("v", "\"HostName\": \"2600::1\", \"DERPPort\": 8443") ","
		NODE("w", "\"HostName\": \"b.example.com\", \"IPv4\": \"192.0.2.4\"")));
	struct derpmap_findings findings;
	const char *fix;
	size_t i;

	(void)state;
	assert_int_equal(derpmap_check(map, &findings), 0);
	for (i = 0; i < findings.count && strcmp(findings.list[i].code, "DTM005") != 0; i++)
		;
	assert_true(i < findings.count);
	fix = findings.list[i].fix;
	assert_non_null(strstr(fix,
			       "derper -hostname a.example.com -mesh-psk-file KEYFILE -mesh-with "
			       "b.example.com/192.0.2.2,[2600::1]:8443,b.example.com/192.0.2.4\n"));
	assert_non_null(strstr(fix, "-mesh-with a.example.com,b.example.com/192.0.2.2,"
			       "b.example.com/192.0.2.4\n"));
	derpmap_findings_free(&findings);
	derpmap_free(map);
}

/* Corrects json; the result must be without fault and warning unless rest says which stay. */
static char *fix(const char *json, bool omit_default, size_t changes, const char *rest)
{
	struct derpmap *map = parse(json), *again;
	struct derpmap_findings findings;
	struct derpmap_fixed fixed;
	char codes[256] = "", *text;
	size_t i;

	assert_int_equal(derpmap_fix(map, omit_default, &fixed), 0);
	if (fixed.nr_changes != changes)
		for (i = 0; i < fixed.nr_changes; i++)
			print_message("%s\n", fixed.changes[i]);
	assert_int_equal(fixed.nr_changes, changes);
	assert_int_equal(fixed.json_len, strlen(fixed.json));
	again = parse(fixed.json);
	assert_int_equal(derpmap_check(again, &findings), 0);
	for (i = 0; i < findings.count; i++)
		if (findings.list[i].level != DERPMAP_NOTE)
			strcat(strcat(codes, *codes ? " " : ""), findings.list[i].code);
	assert_string_equal(codes, rest);
	text = strdup(fixed.json);
	derpmap_findings_free(&findings);
	derpmap_fixed_free(&fixed);
	derpmap_free(again);
	derpmap_free(map);
	return text;
}

static void test_fix_incident(void **state)
{
	static const char expected[] =
		"{\n"
		"  \"Regions\": {\n"
		"    \"1\": {\n"
		"      \"RegionID\": 1,\n"
		"      \"RegionCode\": \"us-west\",\n"
		"      \"RegionName\": \"US West\",\n"
		"      \"Nodes\": [\n"
		"        {\n"
		"          \"Name\": \"public-derp\",\n"
		"          \"RegionID\": 1,\n"
		"          \"HostName\": \"derp1.tailscale.com\",\n"
		"          \"CanPort80\": true\n"
		"        }\n"
		"      ]\n"
		"    },\n"
		"    \"900\": {\n"
		"      \"RegionID\": 900,\n"
		"      \"RegionCode\": \"us-west-internal\",\n"
		"      \"RegionName\": \"US West (internal)\",\n"
		"      \"Nodes\": [\n"
		"        {\n"
		"          \"Name\": \"internal-derp\",\n"
		"          \"RegionID\": 900,\n"
		"          \"HostName\": \"internal-derp.example.com\",\n"
		"          \"DERPPort\": 8443\n"
		"        }\n"
		"      ]\n"
		"    }\n"
		"  },\n"
		"  \"OmitDefaultRegions\": true\n"
		"}\n";
	char *text = fix(broken, true, 2, ""), *again;

	(void)state;
	assert_string_equal(text, expected);
	again = fix(text, true, 0, "");
	assert_string_equal(again, expected);
	free(again);
	free(text);
}

/* Unknown keys, spellings, order, numbers and the document around the map stay as they were. */
static void test_fix_keeps(void **state)
{
	static const char json[] =
		"{\n"
		"    \"groups\": {\"z\": [1, 0.1, -2.5e-7, 1.0], \"a\": null},\n"
		"    \"derpMap\": {\n"
		"        \"omitdefaultregions\": false,\n"
		"        \"regions\": {\n"
		"            \"900\": {\"regionid\": 9, \"Latitude\": 47.3769,"
		" \"avoid\": true, \"nodes\": [\n"
		"                {\"x\": {\"y\": 1}, \"hostname\": \"a.lan\", \"regionid\": 9,"
		" \"q\": \"\\u00fc\"},\n"
		"                {\"hostname\": \"192.0.2.1\", \"regionID\": 900}\n"
		"            ]}\n"
		"        }\n"
		"    },\n"
		"    \"last\": true\n"
		"}\n";
	char *text = fix(json, true, 4, "");

	(void)state;
	assert_non_null(strstr(text, "{\n    \"groups\": {\n"));
	assert_non_null(strstr(text, "            0.1,\n            -2.5e-7,\n            1.0\n"));
	assert_non_null(strstr(text, "\"omitdefaultregions\": true,\n        \"regions\": {\n"));
	assert_non_null(
		strstr(text, "\"regionid\": 900,\n                \"Latitude\": 47.3769,\n"));
	assert_non_null(strstr(text, "\"901\": {\n                \"RegionID\": 901,\n"
			       "                \"RegionCode\": \"internal\",\n"
			       "                \"RegionName\": \"Internal DERP\",\n"
			       "                \"Avoid\": true,\n"));
	assert_non_null(
		strstr(text, "\"hostname\": \"a.lan\",\n                        "
			     "\"regionid\": 901,\n                        \"q\": \"\xc3\xbc\"\n"));
	assert_non_null(strstr(text, "    \"last\": true\n}\n"));
	free(text);
}

static void test_fix_groups(void **state)
{
	char name[1024], json[16384], *text, *at;
	int id;

	(void)state;
	text = fix(REGION(PRIVATE_C "," TAILSCALE "," UNKNOWN_E "," PUBLIC_A "," STUN_ONLY
				    "," PRIVATE_D),
		   false, 4, "");
	assert_non_null(strstr(text, "\"RegionCode\": \"x-internal\""));
	assert_non_null(strstr(text, "\"RegionCode\": \"x-own\""));
	free(text);
	/* Two regions of one code: the new ones are told apart by their ids. */
	text = fix("{\"OmitDefaultRegions\": true, \"Regions\": {"
		   "\"1\": {\"RegionID\": 1, \"RegionCode\": \"x\", \"Nodes\": [" PUBLIC_A
		   "," PRIVATE_C "]},"
		   "\"2\": {\"RegionID\": 2, \"RegionCode\": \"x\", \"Nodes\": ["
		   " {\"Name\": \"f\", \"RegionID\": 2, \"HostName\": \"192.0.2.6\"},"
		   " {\"Name\": \"g\", \"RegionID\": 2, \"HostName\": \"10.0.0.7\"}]}}}",
		   false, 2, "DTM014");
	assert_non_null(strstr(text, "\"RegionCode\": \"x-internal-900\""));
	assert_non_null(strstr(text, "\"RegionCode\": \"x-internal-901\""));
	free(text);
	/* 900 to 998 are taken, and 999 is the id that a Coder server takes for itself. */
	at = stpcpy(json, "{\"OmitDefaultRegions\": true, \"Regions\": {");
	for (id = 900; id < 998; id++)
		at += sprintf(at, "\"%d\": {\"RegionID\": %d, \"Nodes\": [{\"RegionID\": %d,"
			      " \"HostName\": \"n%d.lan\"}]}, ", id, id, id, id);
	stpcpy(at, "\"998\": {\"RegionID\": 998, \"Nodes\": ["
	       " {\"RegionID\": 998, \"HostName\": \"192.0.2.1\"},"
	       " {\"RegionID\": 998, \"HostName\": \"10.0.0.1\"}]}}}");
	text = fix(json, false, 1, "");
	assert_non_null(strstr(text, "\"1000\": {"));
	free(text);
	/* A name so long that a suffix would break the bound is not built upon. */
	memset(name, 'n', 1020);
	name[1020] = '\0';
	snprintf(json, sizeof(json),
		 "{\"Regions\": {\"1\": {\"RegionID\": 1, \"RegionName\": \"%s\","
		 " \"RegionCode\": \"%s\", \"Nodes\": [" PUBLIC_A "," PRIVATE_C "]}}}",
		 name, name);
	text = fix(json, false, 1, "");
	assert_non_null(strstr(text, "\"RegionCode\": \"internal\""));
	assert_non_null(strstr(text, "\"RegionName\": \"Internal DERP\""));
	free(text);
	/* What nobody can know is left, and said. */
	free(fix(REGION(NODE("a", "\"IPv4\": \"192.0.2.1\"")), false, 0, "DTM004"));
	free(fix("{\"Regions\": null}", true, 1, "DTM018"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_mesh_flags),
		cmocka_unit_test(test_fix_incident),
		cmocka_unit_test(test_fix_keeps),
		cmocka_unit_test(test_fix_groups),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
