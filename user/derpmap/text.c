/* SPDX-License-Identifier: BSD-2-Clause */
/* Text: growing strings, escaping for terminals, and the cursor that knows lines and columns. */
#include "derpmap/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void derpmap_text_add(struct derpmap_text *text, const char *format, ...)
{
	va_list args;
	size_t room;
	char *bytes;
	int len;

	if (text->failed)
		return;
	va_start(args, format);
	len = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (len < 0) {
		text->failed = true;
		return;
	}
	if (text->len + (size_t)len + 1 > text->room) {
		room = (text->len + (size_t)len + 1) * 2;
		bytes = realloc(text->bytes, room);
		if (!bytes) {
			text->failed = true;
			return;
		}
		text->bytes = bytes;
		text->room = room;
	}
	va_start(args, format);
	vsnprintf(text->bytes + text->len, text->room - text->len, format, args);
	va_end(args);
	text->len += (size_t)len;
}

char *derpmap_text_take(struct derpmap_text *text)
{
	char *bytes;

	derpmap_text_add(text, "%s", "");
	if (text->failed) {
		free(text->bytes);
		text->bytes = NULL;
	}
	bytes = text->bytes;
	memset(text, 0, sizeof(*text));
	return bytes;
}

void *derpmap_grow(void **list, size_t *count, size_t element_bytes)
{
	size_t n = *count;
	char *grown;

	/* Room doubles at each power of two, so the count alone tells when it is full. */
	if ((n & (n - 1)) == 0) {
		grown = reallocarray(*list, n ? n * 2 : 1, element_bytes);
		if (!grown)
			return NULL;
		*list = grown;
	}
	grown = (char *)*list + n * element_bytes;
	memset(grown, 0, element_bytes);
	*count = n + 1;
	return grown;
}

/* One character of UTF-8; what is none is taken as a byte of Latin-1, so as to be escaped. */
static size_t utf8_decode(const unsigned char *s, unsigned int *code)
{
	size_t more = s[0] >= 0xf0 ? 3 : s[0] >= 0xe0 ? 2 : s[0] >= 0xc0 ? 1 : 0;
	size_t i;

	*code = s[0] < 0x80 ? s[0] : s[0] & 0x9f;
	if (more == 0)
		return 1;
	*code = s[0] & (0x3f >> more);
	for (i = 1; i <= more; i++) {
		if ((s[i] & 0xc0) != 0x80) {
			*code = s[0] & 0x9f;
			return 1;
		}
		*code = *code << 6 | (s[i] & 0x3f);
	}
	return more + 1;
}

static bool is_printable(unsigned int code)
{
	static const struct { unsigned int first, last;
	} hidden[] = {
		{0x00, 0x1f},	  {0x7f, 0x9f},	    {0xad, 0xad},     {0x61c, 0x61c},
		{0x180e, 0x180e}, {0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f},
		{0xd800, 0xdfff}, {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xe0000, 0xe0fff},
		{0x10ffff, ~0u},
	};
	size_t i;

	for (i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++)
		if (code >= hidden[i].first && code <= hidden[i].last)
			return false;
	return true;
}

char *derpmap_escape(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	struct derpmap_text out = { 0 };
	unsigned int code;
	size_t len;

	while (*s) {
		len = utf8_decode(s, &code);
		if (code == '"' || code == '\\')
			derpmap_text_add(&out, "\\%c", (int)code);
		else if (is_printable(code))
			derpmap_text_add(&out, "%.*s", (int)len, (const char *)s);
		else
			derpmap_text_add(&out, code > 0xffff ? "\\U%08x" : "\\u%04x", code);
		s += len;
	}
	return derpmap_text_take(&out);
}

json_t *derpmap_member(json_t *object, const char *key, const char **spelt)
{
	json_t *found = NULL, *value;
	const char *name;

	json_object_foreach(object, name, value) {
		if (strcasecmp(name, key) != 0)
			continue;
		found = value;
		if (spelt)
			*spelt = name;
	}
	return found;
}

void derpmap_walk_init(struct derpmap_walk *walk, const char *bytes, size_t len)
{
	walk->at = bytes;
	walk->end = bytes + len;
	walk->line_start = bytes;
	walk->line = 1;
}

void derpmap_walk_next(struct derpmap_walk *walk)
{
	for (; walk->at < walk->end; walk->at++) {
		switch (*walk->at) {
		case '\n':
			walk->line++;
			walk->line_start = walk->at + 1;
			break;
		case ' ':
		case '\t':
		case '\r':
		case ',':
		case ':':
			break;
		default:
			return;
		}
	}
}

void derpmap_walk_bracket(struct derpmap_walk *walk)
{
	derpmap_walk_next(walk);
	if (walk->at < walk->end)
		walk->at++;
}

static void walk_string(struct derpmap_walk *walk)
{
	walk->at++;
	while (walk->at < walk->end && *walk->at != '"')
		walk->at += (*walk->at == '\\' && walk->end - walk->at > 1) ? 2 : 1;
	if (walk->at < walk->end)
		walk->at++;
}

void derpmap_walk_skip(struct derpmap_walk *walk)
{
	size_t depth = 0;

	do {
		derpmap_walk_next(walk);
		if (walk->at >= walk->end)
			return;
		switch (*walk->at) {
		case '"':
			walk_string(walk);
			break;
		case '{':
		case '[':
			depth++;
			walk->at++;
			break;
		case '}':
		case ']':
			if (depth == 0)
				return;
			depth--;
			walk->at++;
			break;
		default:
			do
				walk->at++;
			while (walk->at < walk->end && !strchr(" \t\r\n,:]}", *walk->at));
		}
	} while (depth > 0);
}

struct derpmap_place derpmap_walk_place(const struct derpmap_walk *walk)
{
	return (struct derpmap_place){
		.line = walk->line,
		.column = (unsigned int)(walk->at - walk->line_start) + 1,
	};
}

struct derpmap_place derpmap_place_of(const char *bytes, const char *at)
{
	struct derpmap_place place = { .line = 1, .column = 1 };

	for (; bytes < at; bytes++) {
		place.column++;
		if (*bytes == '\n') {
			place.line++;
			place.column = 1;
		}
	}
	return place;
}

unsigned int derpmap_indent(const char *bytes, size_t len)
{
	const char *at = memchr(bytes, '\n', len);
	unsigned int spaces = 0;

	while (at && ++at < bytes + len && *at == ' ')
		spaces++;
	return spaces >= 1 && spaces <= 8 ? spaces : 2;
}
