/* SPDX-License-Identifier: BSD-2-Clause */
/* Text that grows, and how keys, times and addresses are said in it. */
#include "correlate/analysis.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void text_add(struct text *t, const char *format, ...)
{
	va_list args;
	size_t cap;
	char *s;
	int n;

	va_start(args, format);
	n = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (n < 0 || t->failed)
		return;
	if (t->len + n + 1 > t->cap) {
		cap = t->len + n + 1 + 128;
		s = realloc(t->s, cap);
		if (!s) {
			t->failed = true;
			return;
		}
		t->s = s;
		t->cap = cap;
	}
	va_start(args, format);
	vsnprintf(t->s + t->len, t->cap - t->len, format, args);
	va_end(args);
	t->len += n;
}

char *text_take(struct text *t)
{
	char *s = t->failed ? NULL : t->s;

	if (t->failed)
		free(t->s);
	else if (!s)
		s = calloc(1, 1);
	memset(t, 0, sizeof(*t));
	return s;
}

void text_copy(char *to, size_t size, const char *from)
{
	size_t i;

	for (i = 0; i + 1 < size && from[i]; i++)
		to[i] = from[i] >= ' ' && from[i] <= '~' ? from[i] : '?';
	to[i] = '\0';
}

struct span_text text_span(uint64_t ns)
{
	struct span_text t;
	double s = ns / 1e9;

	if (s < 0.001)
		snprintf(t.s, sizeof(t.s), "%.0f us", s * 1e6);
	else if (s < 1)
		snprintf(t.s, sizeof(t.s), "%.0f ms", s * 1e3);
	else if (s < 120)
		snprintf(t.s, sizeof(t.s), "%.1f s", s);
	else
		snprintf(t.s, sizeof(t.s), "%.0f min", s / 60);
	return t;
}

struct peer_text text_peer(const struct analysis *a, uint32_t peer)
{
	struct peer_text t = { "unknown" };

	if (peer)
		key_format_short(&a->c->peers[peer], t.s);
	return t;
}

struct addr_text text_addr(const struct addr *addr)
{
	struct addr_text t;

	if (addr->port)
		addr_format(addr, t.s);
	else
		addr_format_ip(addr, t.s);
	return t;
}
