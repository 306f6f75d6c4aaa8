// SPDX-License-Identifier: BSD-2-Clause
/*
 * Key logs: lines of LABEL, client random and secret, the latter two in hexadecimal
 * (draft-ietf-tls-keylogfile). Lines of other kinds, from other programs, are passed over.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "capture/pcap.h"

#define RANDOM_HEX	64
#define MAX_LINE	512
#define COMPLAINTS_EACH	5

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

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* All of @text; false where it is anything but hexadecimal digits for @len bytes. */
static bool parse_hex(const char *text, size_t digits, uint8_t *to, size_t len)
{
	size_t i;

	if (digits != 2 * len)
		return false;
	for (i = 0; i < len; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		to[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

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
	if (!parse_hex(random, random_len, s->random, 32))
		return "the client random is not 64 hexadecimal digits";
	if ((secret_len != 64 && secret_len != 96) || (!label && secret_len != 96))
		return "the secret is not 64 or 96 hexadecimal digits";
	if (!parse_hex(secret, secret_len, s->secret, secret_len / 2))
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

static void take_line(struct pcap_keylog *k, const char *line, size_t len, const char *name,
		      unsigned long number, struct pcap_complaints *complaints)
{
	struct pcap_secret s;
	const char *wrong;

	while (len && (line[len - 1] == '\r' || line[len - 1] == ' ' || line[len - 1] == '\t'))
		len--;
	if (!len || line[0] == '#')
		return;
	wrong = parse_line(line, len, &s);
	if (wrong && k->bad_lines++ < COMPLAINTS_EACH)
		pcap_complain(complaints, "%s: line %lu: %s; the other lines are used", name,
			      number, wrong);
	if (!wrong && s.len) {
		s.serial = (uint32_t)k->count;
		if (make_room(k)) {
			k->secrets[k->count++] = s;
			k->sorted = false;
		} else if (!k->over++) {
			pcap_complain(complaints, "%s: line %lu: more than %d secrets; the rest is not used",
				      name, number, PCAP_MAX_SECRETS);
		}
	}
	explicit_bzero(&s, sizeof(s));
}

void pcap_keylog_text(struct pcap_keylog *k, const char *text, size_t len, const char *name,
		      struct pcap_complaints *complaints)
{
	const char *end = text + len, *line_end;
	unsigned long number = 0;

	for (; text < end; text = line_end + 1) {
		line_end = memchr(text, '\n', (size_t)(end - text));
		if (!line_end)
			line_end = end;
		take_line(k, text, (size_t)(line_end - text), name, ++number, complaints);
	}
	if (k->bad_lines > COMPLAINTS_EACH)
		pcap_complain(complaints, "%s: %llu more lines are no secrets", name,
			      (unsigned long long)k->bad_lines - COMPLAINTS_EACH);
	k->bad_lines = 0;
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
	FILE *in = fopen(path, "re");
	unsigned long number = 0;
	char line[MAX_LINE];
	char buffer[4096];
	size_t len;

	if (!in) {
		pcap_complain(complaints, "%s: cannot read the key log: %s", path, strerror(errno));
		return;
	}
	setvbuf(in, buffer, _IOFBF, sizeof(buffer));
	while (read_line(in, line, &len))
		take_line(k, line, len, path, ++number, complaints);
	if (ferror(in))
		pcap_complain(complaints, "%s: cannot read the key log: %s", path, strerror(errno));
	if (k->bad_lines > COMPLAINTS_EACH)
		pcap_complain(complaints, "%s: %llu more lines are no secrets", path,
			      (unsigned long long)k->bad_lines - COMPLAINTS_EACH);
	k->bad_lines = 0;
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
