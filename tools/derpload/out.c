/* SPDX-License-Identifier: BSD-2-Clause */
#include "out.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool comma;

static void write_string(const char *s)
{
	putchar('"');
	for (; *s; s++) {
		unsigned char c = *s;

		if (c == '"' || c == '\\')
			putchar('\\');
		if (c < 0x20 || c >= 0x7f)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

static void field(const char *name)
{
	if (comma)
		putchar(',');
	comma = true;
	if (name) {
		write_string(name);
		putchar(':');
	}
}

void out_begin(const char *event)
{
	putchar('{');
	comma = false;
	out_str("ev", event);
}

void out_end(void)
{
	fputs("}\n", stdout);
}

void out_str(const char *name, const char *s)
{
	field(name);
	write_string(s);
}

void out_fmt(const char *name, const char *fmt, ...)
{
	char buf[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	out_str(name, buf);
}

void out_u64(const char *name, uint64_t v)
{
	field(name);
	printf("%" PRIu64, v);
}

void out_i64(const char *name, int64_t v)
{
	field(name);
	printf("%" PRId64, v);
}

void out_bool(const char *name, bool v)
{
	field(name);
	fputs(v ? "true" : "false", stdout);
}

void out_null(const char *name)
{
	field(name);
	fputs("null", stdout);
}

static void write_hex(const uint8_t *p, unsigned int len)
{
	static const char digit[] = "0123456789abcdef";

	for (unsigned int i = 0; i < len; i++) {
		putchar(digit[p[i] >> 4]);
		putchar(digit[p[i] & 15]);
	}
}

void out_hex(const char *name, const void *bytes, unsigned int len)
{
	field(name);
	putchar('"');
	write_hex(bytes, len);
	putchar('"');
}

void out_key(const char *name, const uint8_t key[static 32])
{
	field(name);
	fputs("\"nodekey:", stdout);
	write_hex(key, 32);
	putchar('"');
}

void out_open(const char *name, char kind)
{
	field(name);
	putchar(kind);
	comma = false;
}

void out_close(char kind)
{
	putchar(kind == '[' ? ']' : '}');
	comma = true;
}

void out_error(uint64_t line, const char *fmt, ...)
{
	char buf[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	out_begin("error");
	if (line)
		out_u64("line", line);
	out_str("msg", buf);
	out_end();
}

void out_flush(void)
{
	if (!fflush(stdout) && !ferror(stdout))
		return;
	fprintf(stderr, "derpload: standard output: %s\n", strerror(errno));
	_Exit(1);
}
