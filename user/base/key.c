// SPDX-License-Identifier: BSD-2-Clause
#include "base/key.h"

#include <string.h>
#include <strings.h>

#include "base/hex.h"

static const char prefix[] = "nodekey:";

const struct key key_zero_named = { { [KEY_LEN - 1] = 0x80 } };

void key_format(const struct key *key, char text[static KEY_TEXT_LEN])
{
	static const char hex[] = "0123456789abcdef";
	static const struct key zeros;
	char *p = text + sizeof(prefix) - 1;
	int i;

	if (key_equal(key, &key_zero_named))
		key = &zeros;
	memcpy(text, prefix, sizeof(prefix) - 1);
	for (i = 0; i < KEY_LEN; i++) {
		*p++ = hex[key->b[i] >> 4];
		*p++ = hex[key->b[i] & 15];
	}
	*p = '\0';
}

void key_format_short(const struct key *key, char text[static KEY_SHORT_LEN])
{
	static const char base64[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8_t *b = key->b;

	text[0] = '[';
	text[1] = base64[b[0] >> 2];
	text[2] = base64[(b[0] & 3) << 4 | b[1] >> 4];
	text[3] = base64[(b[1] & 15) << 2 | b[2] >> 6];
	text[4] = base64[b[2] & 63];
	text[5] = base64[b[3] >> 2];
	text[6] = ']';
	text[7] = '\0';
}

static const char *skip_prefix(const char *text)
{
	return strncasecmp(text, prefix, sizeof(prefix) - 1) ? text : text + sizeof(prefix) - 1;
}

bool key_parse(const char *text, struct key *key)
{
	text = skip_prefix(text);
	return strlen(text) == 2 * KEY_LEN && hex_parse(text, key->b, KEY_LEN);
}

bool key_matches(const struct key *key, const char *text)
{
	char whole[KEY_TEXT_LEN], brief[KEY_SHORT_LEN];
	size_t len;

	if (text[0] == '[') {
		key_format_short(key, brief);
		return !strcmp(brief, text);
	}
	key_format(key, whole);
	text = skip_prefix(text);
	len = strlen(text);
	return len >= 4 && !strncasecmp(whole + sizeof(prefix) - 1, text, len);
}

bool key_equal(const struct key *a, const struct key *b)
{
	return !memcmp(a->b, b->b, KEY_LEN);
}

bool key_is_zero(const struct key *key)
{
	static const struct key zero;

	return key_equal(key, &zero);
}

int key_compare(const struct key *a, const struct key *b)
{
	return memcmp(a->b, b->b, KEY_LEN);
}
