// SPDX-License-Identifier: BSD-2-Clause
#include "stream/http.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "stream/names.h"
#include "stream/text.h"

#define MAX_HEAD	(16 << 10)
#define MAX_LINE	1024	/* of chunked coding */

struct span {
	const char *p;
	size_t len;
};

/* What one head said. */
struct head {
	struct span first;	/* its first line */
	struct span upgrade, length, coding, host, key, protocols, ideal, fast;
};

static const struct {
	const char *name;
	size_t field;
} fields[] = {
#define FIELD(name, member) { name, offsetof(struct head, member) }
	FIELD("upgrade", upgrade),
	FIELD("content-length", length),
	FIELD("transfer-encoding", coding),
	FIELD("host", host),
	FIELD("derp-public-key", key),
	FIELD("sec-websocket-protocol", protocols),
	FIELD("ideal-node", ideal),
	FIELD("derp-fast-start", fast),
#undef FIELD
};

static struct span trim(struct span s)
{
	while (s.len && (*s.p == ' ' || *s.p == '\t')) {
		s.p++;
		s.len--;
	}
	while (s.len && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t' || s.p[s.len - 1] == '\r'))
		s.len--;
	return s;
}

static bool span_is(struct span s, const char *text)
{
	return s.len == strlen(text) && !strncasecmp(s.p, text, s.len);
}

/* One of the words of a comma-separated list. */
static bool span_has(struct span s, const char *word)
{
	while (s.len) {
		const char *comma = memchr(s.p, ',', s.len);
		size_t n = comma ? (size_t)(comma - s.p) : s.len;

		if (span_is(trim((struct span){ s.p, n }), word))
			return true;
		n += comma != NULL;
		s.p += n;
		s.len -= n;
	}
	return false;
}

/* The next line of *rest, without its end. */
static struct span next_line(struct span *rest)
{
	const char *end = memchr(rest->p, '\n', rest->len);
	struct span line = { rest->p, end ? (size_t)(end - rest->p) : rest->len };
	size_t used = line.len + (end != NULL);

	rest->p += used;
	rest->len -= used;
	if (line.len && line.p[line.len - 1] == '\r')
		line.len--;
	return line;
}

static void parse_head(struct head *h, const uint8_t *data, size_t len)
{
	struct span rest = { (const char *)data, len };
	size_t i;

	memset(h, 0, sizeof(*h));
	h->first = next_line(&rest);
	while (rest.len) {
		struct span line = next_line(&rest), name;
		const char *colon = memchr(line.p, ':', line.len);

		if (!colon)
			continue;
		name = trim((struct span){ line.p, (size_t)(colon - line.p) });
		for (i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
			if (span_is(name, fields[i].name))
				*(struct span *)((char *)h + fields[i].field) = trim((struct span){
					colon + 1, line.len - (size_t)(colon + 1 - line.p) });
	}
}

static bool number(struct span s, int base, uint64_t *n)
{
	size_t i;

	*n = 0;
	if (!s.len || s.len > 15)
		return false;
	for (i = 0; i < s.len; i++) {
		const char *digits = "0123456789abcdef", *d;

		d = memchr(digits, s.p[i] | (s.p[i] >= 'A' ? 0x20 : 0), (size_t)base);
		if (!d)
			return false;
		*n = *n * (uint64_t)base + (uint64_t)(d - digits);
	}
	return true;
}

static void start_body(struct http_side *s, const struct head *h, bool until_close)
{
	uint64_t n;

	s->left = 0;
	if (span_has(h->coding, "chunked")) {
		s->state = HTTP_CHUNK_SIZE;
		return;
	}
	s->state = HTTP_START;
	if (h->length.len)
		s->left = number(h->length, 10, &n) ? n : UINT64_MAX;
	else if (until_close)
		s->left = UINT64_MAX;
	if (s->left)
		s->state = HTTP_BODY;
}

static void copy_path(struct stream_names *names, struct span target)
{
	size_t scheme = target.len > 7 && !strncasecmp(target.p, "http://", 7)	? 7 :
			target.len > 8 && !strncasecmp(target.p, "https://", 8) ? 8 : 0;
	const char *slash;

	/* Through a proxy the target is a whole URL. */
	if (scheme) {
		target.p += scheme;
		target.len -= scheme;
		slash = memchr(target.p, '/', target.len);
		target.len = slash ? target.len - (size_t)(slash - target.p) : 0;
		target.p = slash ? slash : target.p;
	}
	text_copy(names->path, sizeof(names->path), target.p, target.len);
}

static enum http_result request(struct http *h, const struct head *head, struct stream_info *info)
{
	const char *space = memchr(head->first.p, ' ', head->first.len);
	struct span method = head->first, target = { "", 0 };
	struct stream_names names;

	if (!space)
		return HTTP_OTHER;
	method.len = (size_t)(space - method.p);
	target.p = space + 1;
	target.len = head->first.len - method.len - 1;
	space = memchr(target.p, ' ', target.len);
	/* "PRI * HTTP/2.0" begins another protocol. */
	if (!space || target.len - (size_t)(space - target.p) < 8 ||
	    strncmp(space, " HTTP/1.", 8))
		return HTTP_OTHER;
	target.len = (size_t)(space - target.p);
	h->head_only = span_is(method, "HEAD");
	h->refused = false;
	names = names_load(info);
	copy_path(&names, target);
	text_copy(names.host, sizeof(names.host), head->host.p, head->host.len);
	if (head->ideal.len)
		text_copy(names.ideal_node, sizeof(names.ideal_node), head->ideal.p,
			  head->ideal.len);
	names_store(info, &names);
	if (span_has(head->upgrade, "derp"))
		h->wanted = HTTP_WANTS_DERP;
	else if (span_has(head->upgrade, "websocket"))
		h->wanted = span_has(head->protocols, "derp") ? HTTP_WANTS_WEBSOCKET :
								HTTP_WANTS_OTHER;
	else
		h->wanted = head->upgrade.len ? HTTP_WANTS_OTHER : HTTP_WANTS_NOTHING;
	info->websocket = h->wanted == HTTP_WANTS_WEBSOCKET;
	info->fast_start = h->wanted == HTTP_WANTS_DERP && span_is(head->fast, "1");
	if (info->stage < STREAM_HTTP)
		info->stage = STREAM_HTTP;
	if (h->wanted == HTTP_WANTS_NOTHING || h->wanted == HTTP_WANTS_OTHER)
		info->stage = STREAM_OTHER;
	start_body(&h->sides[0], head, false);
	return HTTP_MORE;
}

static void copy_key(struct key *key, struct span hex)
{
	char text[KEY_TEXT_LEN];

	if (hex.len >= sizeof(text))
		return;
	memcpy(text, hex.p, hex.len);
	text[hex.len] = '\0';
	key_parse(text, key);
}

static enum http_result answer(struct http *h, const struct head *head, struct stream_info *info)
{
	struct span code = { head->first.p + 9, 3 };
	struct stream_names names;
	uint64_t status;

	if (head->first.len < 12 || !number(code, 10, &status))
		return HTTP_OTHER;
	if (h->wanted != HTTP_WANTS_NOTHING)
		info->http_status = (uint16_t)status;
	if (head->key.len) {
		names = names_load(info);
		copy_key(&names.http_key, head->key);
		names_store(info, &names);
	}
	if (status == 101) {
		info->http_status = 101;
		/* Where the request was not seen the answer tells as much. */
		if (h->wanted == HTTP_WANTS_NOTHING)
			h->wanted = span_has(head->upgrade, "derp") ? HTTP_WANTS_DERP :
				    span_has(head->upgrade, "websocket") &&
				    span_has(head->protocols, "derp") ? HTTP_WANTS_WEBSOCKET :
									HTTP_WANTS_OTHER;
		info->websocket = h->wanted == HTTP_WANTS_WEBSOCKET;
		h->sides[1].state = HTTP_START;
		return h->wanted == HTTP_WANTS_OTHER ? HTTP_OTHER : HTTP_UPGRADED;
	}
	if (status >= 200)
		h->refused = h->wanted != HTTP_WANTS_NOTHING;
	if (status < 200 || status == 204 || status == 304 || h->head_only) {
		h->sides[1].state = HTTP_START;
		return HTTP_MORE;
	}
	start_body(&h->sides[1], head, true);
	return HTTP_MORE;
}

bool http_starts(int side, const uint8_t *data, size_t len)
{
	static const char *const requests[] = { "GET ", "HEAD ", "POST ", "PUT ", "OPTIONS ",
						"CONNECT ", "DELETE ", "PATCH ", "TRACE ", "PRI " };
	size_t i, n;

	if (!len)
		return false;
	if (side)
		return !memcmp(data, "HTTP/1.", len < 7 ? len : 7);
	for (i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		n = strlen(requests[i]);
		if (!memcmp(data, requests[i], len < n ? len : n))
			return true;
	}
	return false;
}

/* The first bytes of a message, or of what comes after an upgrade. */
static enum http_result begin(struct http *h, int side, const uint8_t *data, size_t len,
			      const struct stream_info *info)
{
	if (http_starts(side, data, len)) {
		h->sides[side].state = HTTP_HEAD;
		return HTTP_MORE;
	}
	/* A fast start has no answer; a request's bytes may follow unanswered. */
	if ((h->wanted == HTTP_WANTS_DERP || h->wanted == HTTP_WANTS_WEBSOCKET) && !h->refused &&
	    (!side || info->fast_start))
		return HTTP_UPGRADED;
	if (side && data[0] == DERP_SERVER_KEY && h->wanted == HTTP_WANTS_NOTHING)
		return HTTP_UPGRADED;
	return HTTP_OTHER;
}

static bool add(struct http_side *s, const uint8_t *data, size_t len, size_t limit,
		struct budget *budget)
{
	size_t need = s->len + len;

	if (need > limit)
		return false;
	if (need > s->cap && !budget_grow(budget, &s->buf, &s->cap, need < 1024 ? 1024 : need * 2))
		return false;
	memcpy(s->buf + s->len, data, len);
	s->len += len;
	return true;
}

static void drop(struct http_side *s, struct budget *budget)
{
	budget_give(budget, s->cap);
	free(s->buf);
	s->buf = NULL;
	s->len = s->cap = 0;
}

void http_clear(struct http *h, struct budget *budget)
{
	drop(&h->sides[0], budget);
	drop(&h->sides[1], budget);
}

/* Where the head in @p ends, looking from @from on; 0: not yet. */
static size_t head_end(const uint8_t *p, size_t len, size_t from)
{
	size_t i;

	for (i = from > 3 ? from - 3 : 0; i < len; i++) {
		if (p[i] != '\n')
			continue;
		if (i + 1 < len && p[i + 1] == '\n')
			return i + 2;
		if (i + 2 < len && p[i + 1] == '\r' && p[i + 2] == '\n')
			return i + 3;
	}
	return 0;
}

static enum http_result head(struct http *h, int side, const uint8_t *data, size_t len,
			     struct budget *budget, struct stream_info *info, size_t *used)
{
	struct http_side *s = &h->sides[side];
	enum http_result result;
	size_t had = s->len, end;
	struct head parsed;

	/* More than fits cannot belong to a head that will ever be whole. */
	*used = len < MAX_HEAD ? len : MAX_HEAD;
	if (!add(s, data, *used, MAX_HEAD, budget))
		return HTTP_OTHER;
	end = head_end(s->buf, s->len, had);
	if (!end)
		return s->len < MAX_HEAD ? HTTP_MORE : HTTP_OTHER;
	*used = end - had;
	parse_head(&parsed, s->buf, end);
	result = side ? answer(h, &parsed, info) : request(h, &parsed, info);
	drop(s, budget);
	return result;
}

/* A line of chunked coding: its size, or a trailer. */
static enum http_result chunk_line(struct http_side *s, const uint8_t *data, size_t len,
				   struct budget *budget, size_t *used)
{
	const uint8_t *end = memchr(data, '\n', len);
	struct span line;
	uint64_t n;

	*used = end ? (size_t)(end - data) + 1 : len;
	if (!add(s, data, *used, MAX_LINE, budget))
		return HTTP_OTHER;
	if (!end)
		return HTTP_MORE;
	line = trim((struct span){ (const char *)s->buf, s->len - 1 });
	if (s->state == HTTP_TRAILER) {
		if (!line.len)
			s->state = HTTP_START;
	} else if (line.len) {
		const char *more = memchr(line.p, ';', line.len);

		if (more)
			line = trim((struct span){ line.p, (size_t)(more - line.p) });
		if (!number(line, 16, &n))
			return HTTP_OTHER;
		s->left = n;
		s->state = n ? HTTP_CHUNK : HTTP_TRAILER;
	}
	drop(s, budget);
	return HTTP_MORE;
}

static size_t body(struct http_side *s, size_t len)
{
	size_t n = len < s->left ? len : (size_t)s->left;

	if (s->left != UINT64_MAX)
		s->left -= n;
	if (!s->left)
		s->state = s->state == HTTP_CHUNK ? HTTP_CHUNK_SIZE : HTTP_START;
	return n;
}

enum http_result http_feed(struct http *h, int side, const uint8_t *data, size_t len,
			   struct budget *budget, struct stream_info *info, size_t *used)
{
	struct http_side *s = &h->sides[side];
	enum http_result result = HTTP_MORE;
	size_t n;

	for (*used = 0; *used < len && result == HTTP_MORE; *used += n) {
		n = 0;
		switch (s->state) {
		case HTTP_START:
			result = begin(h, side, data + *used, len - *used, info);
			break;
		case HTTP_HEAD:
			result = head(h, side, data + *used, len - *used, budget, info, &n);
			break;
		case HTTP_BODY:
		case HTTP_CHUNK:
			n = body(s, len - *used);
			break;
		default:
			result = chunk_line(s, data + *used, len - *used, budget, &n);
		}
	}
	return result;
}
