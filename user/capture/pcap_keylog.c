// SPDX-License-Identifier: BSD-2-Clause
/*
 * Key logs: lines of LABEL, client random and secret, the latter two in hexadecimal
 * (draft-ietf-tls-keylogfile). Lines of other kinds, from other programs, are passed over.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/denied.h"
#include "base/hex.h"
#include "base/packed.h"
#include "capture/pcap.h"

#define MAX_LINE	512

static const char *const labels[] = {
	"CLIENT_RANDOM", "CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET",
	"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0",
};

struct pcap_secret {
	uint8_t random[32];
	uint8_t secret[48];
	uint8_t len;
	uint8_t label;
	uint32_t serial;	/* as they came */
};

static int find_label(const char *text, size_t len)
{
	size_t i;

	for (i = 0; i < sizeof(labels) / sizeof(labels[0]); i++) {
		if (strlen(labels[i]) == len && !memcmp(labels[i], text, len))
			return (int)i;
	}
	return -1;
}

/* Key logs hold secrets of other uses, too. */
static bool is_label(const char *text, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++) {
		if (!(text[i] >= 'A' && text[i] <= 'Z') && !(text[i] >= '0' && text[i] <= '9') &&
		    text[i] != '_')
			return false;
	}
	return len;
}

/* NULL: fine; else what is wrong. *s->len is 0 where the line is of no use. */
static const char *parse_line(const char *line, size_t len, struct pcap_secret *s)
{
	const char *random, *secret, *end = line + len;
	size_t label_len, random_len, secret_len;
	int label;

	s->len = 0;
	random = memchr(line, ' ', len);
	if (!random)
		return "not LABEL CLIENT_RANDOM SECRET";
	label_len = (size_t)(random++ - line);
	label = find_label(line, label_len);
	if (label < 0)
		return is_label(line, label_len) ? NULL : "not LABEL CLIENT_RANDOM SECRET";
	secret = memchr(random, ' ', (size_t)(end - random));
	if (!secret)
		return "not LABEL CLIENT_RANDOM SECRET";
	random_len = (size_t)(secret++ - random);
	secret_len = (size_t)(end - secret);
	if (random_len != 64 || !hex_parse(random, s->random, 32))
		return "the client random is not 64 hexadecimal digits";
	if ((secret_len != 64 && secret_len != 96) || (!label && secret_len != 96))
		return "the secret is not 64 or 96 hexadecimal digits";
	if (!hex_parse(secret, s->secret, secret_len / 2))
		return "the secret is not hexadecimal";
	s->label = (uint8_t)label;
	s->len = (uint8_t)(secret_len / 2);
	return NULL;
}

static bool make_room(struct pcap_keylog *k)
{
	size_t capacity = k->capacity ? k->capacity * 2 : 64;
	struct pcap_secret *grown;

	if (k->count < k->capacity)
		return true;
	if (k->count >= PCAP_MAX_SECRETS)
		return false;
	/* No realloc: what it leaves behind could not be wiped. */
	grown = malloc(capacity * sizeof(*grown));
	if (!grown)
		return false;
	if (k->count)
		memcpy(grown, k->secrets, k->count * sizeof(*grown));
	if (k->secrets)
		explicit_bzero(k->secrets, k->count * sizeof(*grown));
	free(k->secrets);
	k->secrets = grown;
	k->capacity = capacity;
	return true;
}

/* One text's lines. */
struct reading {
	struct pcap_keylog *keylog;
	const char *name;
	struct pcap_complaints *complaints;
	unsigned long lines, bad, first_bad, fine;
	const char *wrong;	/* with the first bad one */
};

static void take_line(struct reading *r, const char *line, size_t len)
{
	struct pcap_keylog *k = r->keylog;
	struct pcap_secret s;
	const char *wrong;

	r->lines++;
	while (len && (line[len - 1] == '\r' || line[len - 1] == ' ' || line[len - 1] == '\t'))
		len--;
	if (!len || line[0] == '#')
		return;
	wrong = parse_line(line, len, &s);
	if (wrong && !r->bad++) {
		r->first_bad = r->lines;
		r->wrong = wrong;
	}
	r->fine += !wrong;
	if (!wrong && s.len) {
		s.serial = (uint32_t)k->count;
		if (make_room(k)) {
			k->secrets[k->count++] = s;
			k->sorted = false;
		} else if (!k->over++) {
			pcap_complain(r->complaints,
				      "%s: line %lu: more than %d secrets; the rest is not used",
				      r->name, r->lines, PCAP_MAX_SECRETS);
		}
	}
	explicit_bzero(&s, sizeof(s));
}

static void complain_lines(const struct reading *r)
{
	if (r->bad && !r->fine)
		pcap_complain(r->complaints,
			      "%s: line %lu: %s, nor is any other line: no key log; name what "
			      "SSLKEYLOGFILE made", r->name, r->first_bad, r->wrong);
	else if (r->bad > 1)
		pcap_complain(r->complaints, "%s: line %lu: %s, and %lu more lines; the others are used",
			      r->name, r->first_bad, r->wrong, r->bad - 1);
	else if (r->bad)
		pcap_complain(r->complaints, "%s: line %lu: %s; the other lines are used", r->name,
			      r->first_bad, r->wrong);
}

void pcap_keylog_text(struct pcap_keylog *k, const char *text, size_t len, const char *name,
		      struct pcap_complaints *complaints)
{
	struct reading r = { .keylog = k, .name = name, .complaints = complaints };
	const char *end = text + len, *line_end;

	for (; text < end; text = line_end + 1) {
		line_end = memchr(text, '\n', (size_t)(end - text));
		if (!line_end)
			line_end = end;
		take_line(&r, text, (size_t)(line_end - text));
	}
	complain_lines(&r);
}

/* A line that is longer than any secret's is one bad line. */
static bool read_line(FILE *in, char line[static MAX_LINE], size_t *len)
{
	int c;

	*len = 0;
	while ((c = getc(in)) != EOF && c != '\n') {
		if (*len < MAX_LINE)
			line[(*len)++] = (char)c;
	}
	return c != EOF || *len;
}

void pcap_keylog_file(struct pcap_keylog *k, const char *path, struct pcap_complaints *complaints)
{
	struct reading r = { .keylog = k, .name = path, .complaints = complaints };
	const char *command = NULL;
	FILE *in = fopen(path, "re");
	char line[MAX_LINE];
	char buffer[4096];
	size_t len;

	if (!in) {
		pcap_complain(complaints, "%s: cannot read the key log: %s%s", path, strerror(errno),
			      denied_advice(errno));
		return;
	}
	setvbuf(in, buffer, _IOFBF, sizeof(buffer));
	while (!command && read_line(in, line, &len)) {
		if (!r.lines)
			command = packed_command((uint8_t *)line, len);
		if (!command)
			take_line(&r, line, len);
	}
	if (ferror(in))
		pcap_complain(complaints, "%s: cannot read the key log: %s", path, strerror(errno));
	else if (command)
		pcap_complain(complaints, "%s: the key log is compressed; unpack it first (%s)", path,
			      command);
	else if (!r.bad && !r.fine)
		pcap_complain(complaints, "%s: the key log is empty; name what SSLKEYLOGFILE made", path);
	complain_lines(&r);
	fclose(in);
	explicit_bzero(line, sizeof(line));
	explicit_bzero(buffer, sizeof(buffer));
}

/* --- telling ------------------------------------------------------------------------------ */

static int compare(const void *a, const void *b)
{
	const struct pcap_secret *x = a, *y = b;
	int c = memcmp(x->random, y->random, sizeof(x->random));

	return c ? c : x->serial < y->serial ? -1 : x->serial > y->serial;
}

static void sort(struct pcap_keylog *k)
{
	if (!k->sorted && k->count)
		qsort(k->secrets, k->count, sizeof(*k->secrets), compare);
	k->sorted = true;
}

/* The first that is not before @random. */
static size_t find(const struct pcap_keylog *k, const uint8_t *random)
{
	size_t low = 0, high = k->count, middle;

	while (low < high) {
		middle = low + (high - low) / 2;
		if (memcmp(k->secrets[middle].random, random, 32) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool pcap_keylog_has(struct pcap_keylog *k, const uint8_t random[static 32])
{
	size_t i;

	sort(k);
	i = find(k, random);
	return i < k->count && !memcmp(k->secrets[i].random, random, 32);
}

static void tell(const struct pcap_secret *s, uint64_t time_ns, const struct capture_sink *sink)
{
	struct capture_event event = {
		.type = CAPTURE_SECRET, .time_ns = time_ns,
		.secret = { .label = labels[s->label], .len = s->len },
	};

	memcpy(event.secret.random, s->random, sizeof(event.secret.random));
	memcpy(event.secret.secret, s->secret, sizeof(event.secret.secret));
	sink->event(sink->ctx, &event);
	explicit_bzero(&event, sizeof(event));
}

void pcap_keylog_tell(struct pcap_keylog *k, const uint8_t random[static 32], uint64_t time_ns,
		      const struct capture_sink *sink)
{
	size_t i;

	sort(k);
	for (i = find(k, random); i < k->count && !memcmp(k->secrets[i].random, random, 32); i++)
		tell(&k->secrets[i], time_ns, sink);
}

static int compare_randoms(const void *a, const void *b)
{
	return memcmp(a, b, 32);
}

void pcap_keylog_tell_others(struct pcap_keylog *k, const struct pcap_conns *c, size_t most,
			     uint64_t time_ns, const struct capture_sink *sink)
{
	uint8_t (*seen)[32] = calloc(c->count + 1, sizeof(*seen));
	size_t i, n = 0, told = 0;

	if (!seen)
		return;
	sort(k);
	for (i = 0; i < c->count; i++) {
		if (c->all[i]->has_random)
			memcpy(seen[n++], c->all[i]->random, 32);
	}
	qsort(seen, n, sizeof(*seen), compare_randoms);
	for (i = 0; i < k->count && told < most; i++) {
		if (bsearch(k->secrets[i].random, seen, n, sizeof(*seen), compare_randoms))
			continue;
		tell(&k->secrets[i], time_ns, sink);
		told++;
	}
	free(seen);
}

void pcap_keylog_free(struct pcap_keylog *k)
{
	if (k->secrets)
		explicit_bzero(k->secrets, k->count * sizeof(*k->secrets));
	free(k->secrets);
	*k = (struct pcap_keylog){ 0 };
}
