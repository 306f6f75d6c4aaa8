/* SPDX-License-Identifier: BSD-2-Clause */
#include "text.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool text_u64(const char *s, uint64_t min, uint64_t max, uint64_t *v)
{
	uint64_t n = 0;

	if (!*s)
		return false;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return false;
		if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, *s - '0', &n))
			return false;
	}
	if (n < min || n > max)
		return false;
	*v = n;
	return true;
}

static int nibble(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool text_hex(const char *s, uint8_t *out, size_t len)
{
	if (strlen(s) != 2 * len)
		return false;
	for (size_t i = 0; i < len; i++) {
		int hi = nibble(s[2 * i]), lo = nibble(s[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return false;
		out[i] = hi << 4 | lo;
	}
	return true;
}

bool text_key(const char *s, const char *prefix, uint8_t key[static 32])
{
	size_t n = strlen(prefix);

	if (!strncmp(s, prefix, n))
		s += n;
	return text_hex(s, key, 32);
}

bool text_name(const char *s)
{
	size_t n = 0;

	for (; s[n]; n++)
		if (n >= TEXT_NAME_MAX || (!isalnum((unsigned char)s[n]) && !strchr("._-", s[n])))
			return false;
	return n > 0;
}

static bool read_range(char *s, const struct opt *o)
{
	uint64_t *to = o->to, lo, hi;
	char *dash = strchr(s, '-');
	bool ok;

	if (dash)
		*dash = 0;
	ok = text_u64(s, o->min, o->max, &lo);
	hi = lo;
	if (ok && dash)
		ok = text_u64(dash + 1, lo, o->max, &hi);
	if (dash)
		*dash = '-';
	if (!ok)
		return false;
	to[0] = lo;
	to[1] = hi;
	return true;
}

static bool read_value(char *s, const struct opt *o)
{
	uint64_t v;

	switch (o->kind) {
	case OPT_U64:
		return text_u64(s, o->min, o->max, o->to);
	case OPT_FLAG:
		if (!text_u64(s, 0, 1, &v))
			return false;
		*(bool *)o->to = v;
		return true;
	case OPT_NAME:
		if (!text_name(s))
			return false;
		break;
	case OPT_WORD:
		if (!*s)
			return false;
		break;
	case OPT_RANGE:
		return read_range(s, o);
	}
	*(const char **)o->to = s;
	return true;
}

static void say_wrong(const struct opt *o, const char *value, char *err, size_t err_len)
{
	switch (o->kind) {
	case OPT_U64:
		snprintf(err, err_len, "%s=%s: want a number from %" PRIu64 " to %" PRIu64,
			 o->name, value, o->min, o->max);
		return;
	case OPT_RANGE:
		snprintf(err, err_len, "%s=%s: want N or MIN-MAX within %" PRIu64 "-%" PRIu64,
			 o->name, value, o->min, o->max);
		return;
	case OPT_FLAG:
		snprintf(err, err_len, "%s=%s: want 0 or 1", o->name, value);
		return;
	case OPT_NAME:
		snprintf(err, err_len, "%s=%s: want 1 to %d letters, digits, '.', '_', '-'",
			 o->name, value, TEXT_NAME_MAX);
		return;
	case OPT_WORD:
		snprintf(err, err_len, "%s=: wants a value", o->name);
		return;
	}
}

int text_options(char **words, int count, const struct opt *table, char *err, size_t err_len)
{
	for (int i = 0; i < count; i++) {
		char *value = strchr(words[i], '=');
		const struct opt *o;

		if (!value) {
			snprintf(err, err_len, "%s: want name=value", words[i]);
			return -EINVAL;
		}
		*value++ = 0;
		for (o = table; o->name && strcmp(o->name, words[i]); o++)
			;
		if (!o->name) {
			snprintf(err, err_len, "%s=: no such option", words[i]);
			return -EINVAL;
		}
		if (!read_value(value, o)) {
			say_wrong(o, value, err, err_len);
			return -EINVAL;
		}
	}
	return 0;
}
