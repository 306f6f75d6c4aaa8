/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Any bytes as a DERP map: read, looked up, checked, corrected. What is read knows its place in the
 * text; what is corrected can be read, holds nothing that the correction mends, and is not changed
 * by a second one.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "derpmap/derpmap.h"

static void expect(bool truth)
{
	if (!truth)
		abort();
}

static void check_place(const char *bytes, size_t len, struct derpmap_place place)
{
	const char *at = bytes, *end = bytes + len;
	unsigned int line;

	for (line = 1; line < place.line; line++) {
		at = memchr(at, '\n', (size_t)(end - at));
		expect(at != NULL);
		at++;
	}
	expect(place.column >= 1 && place.column <= (size_t)(end - at));
	expect(at[place.column - 1] == '{');
}

static void check_clean(const char *text)
{
	for (; *text; text++)
		expect((unsigned char)*text >= 0x20 && *text != 0x7f);
}

static void look_up(const struct derpmap *map, const char *bytes, size_t len)
{
	const struct derpmap_node *node = NULL, *found;
	size_t count = 0;

	while ((node = derpmap_next_node(map, node))) {
		count++;
		check_place(bytes, len, node->place);
		check_place(bytes, len, node->region->place);
		check_clean(node->name);
		check_clean(node->hostname);
		check_clean(node->why);
		expect(derpmap_find_region(map, node->region->id) == node->region);
		found = derpmap_find_node_by_host(map, node->hostname);
		expect(node->stun_only || !*node->hostname || strcmp(node->hostname, ".") == 0 ||
		       found);
		derpmap_find_node_by_address(map, node->ipv6, 443);
	}
	expect(count == map->nr_nodes);
}

static void check_mended(const struct derpmap_findings *findings)
{
	static const char *const mended[] = { "DTM001", "DTM002", "DTM010", "DTM011", "DTM012" };
	size_t i, m;

	for (i = 0; i < findings->count; i++)
		for (m = 0; m < sizeof(mended) / sizeof(mended[0]); m++)
			expect(strcmp(findings->list[i].code, mended[m]) != 0);
}

static void correct(const struct derpmap *map)
{
	struct derpmap_findings findings;
	struct derpmap_fixed fixed, again;
	struct derpmap_error err;
	struct derpmap *second = NULL;

	expect(derpmap_check(map, &findings) == 0);
	derpmap_findings_free(&findings);
	expect(derpmap_fix(map, true, &fixed) == 0);
	expect(derpmap_parse(fixed.json, fixed.json_len, "fixed", &second, &err) == 0);
	expect(second->omit_default && second->nr_nodes == map->nr_nodes);
	expect(derpmap_check(second, &findings) == 0);
	check_mended(&findings);
	expect(derpmap_fix(second, true, &again) == 0);
	expect(again.nr_changes == 0 && strcmp(again.json, fixed.json) == 0);
	derpmap_fixed_free(&again);
	derpmap_fixed_free(&fixed);
	derpmap_findings_free(&findings);
	derpmap_free(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *bytes = (const char *)data;
	struct derpmap *map = NULL;
	struct derpmap_error err;

	if (derpmap_parse(bytes, size, "fuzz", &map, &err) == 0) {
		look_up(map, bytes, size);
		correct(map);
	} else {
		expect(*err.message != '\0');
		check_clean(err.message);
	}
	derpmap_free(map);
	return 0;
}
