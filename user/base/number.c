// SPDX-License-Identifier: BSD-2-Clause
#include "base/number.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool parse_prefix(const char *text, uint64_t *value, const char **rest)
{
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	*value = strtoull(text, &end, 10);
	*rest = end;
	return !errno;
}

bool number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
	const char *rest;
	uint64_t v;

	if (!parse_prefix(text, &v, &rest) || *rest || v < min || v > max)
		return false;
	*value = v;
	return true;
}

bool number_parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *bytes)
{
	static const char units[] = "KMG";
	const char *rest, *unit;
	uint64_t v;
	int shift = 0;

	if (!parse_prefix(text, &v, &rest))
		return false;
	if (*rest) {
		unit = strchr(units, toupper((unsigned char)*rest));
		if (!unit || rest[1])
			return false;
		shift = 10 * (unit - units + 1);
	}
	if (v > UINT64_MAX >> shift || v << shift < min || v << shift > max)
		return false;
	*bytes = v << shift;
	return true;
}

bool number_parse_duration(const char *text, uint64_t *ns)
{
	static const struct {
		const char *name;
		double ns;
	} units[] = { { "", 1e9 }, { "s", 1e9 }, { "ms", 1e6 }, { "m", 60e9 }, { "h", 3600e9 } };
	char *end;
	double v;
	size_t i;

	if (!isdigit((unsigned char)text[0]))
		return false;
	v = strtod(text, &end);
	if (!isfinite(v) || v < 0)
		return false;
	for (i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (!strcmp(end, units[i].name) && v * units[i].ns < 1e18) {
			*ns = v * units[i].ns;
			return true;
		}
	}
	return false;
}

bool number_parse_percent(const char *text, uint32_t *ppm)
{
	char *end;
	double v;

	if (!isdigit((unsigned char)text[0]))
		return false;
	v = strtod(text, &end);
	if (strcmp(end, "%") || !isfinite(v) || v < 0 || v > 100)
		return false;
	*ppm = v * 1e4 + 0.5;
	return v == 0 || *ppm > 0;
}

struct number_text number_grouped(uint64_t value)
{
	struct number_text t;
	char digits[24];
	int len = snprintf(digits, sizeof(digits), "%" PRIu64, value), i, n = 0;

	for (i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			t.s[n++] = ',';
		t.s[n++] = digits[i];
	}
	t.s[n] = '\0';
	return t;
}
