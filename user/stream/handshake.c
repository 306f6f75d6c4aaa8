// SPDX-License-Identifier: BSD-2-Clause
#include "stream/handshake.h"

#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/chains.h"
#include "stream/names.h"
#include "stream/text.h"

#define HEADER_LEN	4
#define MAX_MESSAGE	(64 << 10)	/* a chain of certificates */
#define TLS_1_3		0x0304

#define EXT_SERVER_NAME	0
#define EXT_ALPN	16
#define EXT_VERSIONS	43

/* A cursor that never reads behind its end: what is not there reads as nothing, and says so. */
struct cursor {
	const uint8_t *p, *end;
	bool bad;
};

static const uint8_t *take(struct cursor *c, size_t len)
{
	const uint8_t *p = c->p;

	if (c->bad || (size_t)(c->end - c->p) < len) {
		c->bad = true;
		return NULL;
	}
	c->p += len;
	return p;
}

static uint32_t take_number(struct cursor *c, int bytes)
{
	const uint8_t *p = take(c, (size_t)bytes);
	uint32_t n = 0;

	while (p && bytes--)
		n = n << 8 | *p++;
	return n;
}

/* A vector with its length in @bytes before it. */
static struct cursor take_vector(struct cursor *c, int bytes)
{
	size_t len = take_number(c, bytes);
	const uint8_t *p = take(c, len);

	if (!p)
		return (struct cursor){ .bad = true };
	return (struct cursor){ .p = p, .end = p + len };
}

static size_t cursor_left(const struct cursor *c)
{
	return c->bad ? 0 : (size_t)(c->end - c->p);
}

static void read_server_name(struct cursor ext, struct stream_info *info)
{
	struct cursor list = take_vector(&ext, 2), name;
	struct stream_names names;

	if (take_number(&list, 1))
		return;
	name = take_vector(&list, 2);
	if (!cursor_left(&name))
		return;
	names = names_load(info);
	text_copy(names.sni, sizeof(names.sni), name.p, cursor_left(&name));
	names_store(info, &names);
}

static void read_alpn(struct cursor ext, struct stream_info *info)
{
	struct cursor list = take_vector(&ext, 2);
	struct cursor name = take_vector(&list, 1);
	struct stream_names names;

	if (!cursor_left(&name))
		return;
	names = names_load(info);
	text_copy(names.alpn, sizeof(names.alpn), name.p, cursor_left(&name));
	names_store(info, &names);
}

uint64_t handshake_tag(const uint8_t random[static 32])
{
	uint64_t w[4], tag;

	memcpy(w, random, sizeof(w));
	tag = hash_mix(w[0] ^ 0x9fb21c651e98df25ULL, w[1] ^ 0x165667b19e3779f9ULL) ^
	      hash_mix(w[2] ^ 0x165667b19e3779f9ULL, w[3] ^ 0x9fb21c651e98df25ULL);
	return tag ? tag : 1;
}

static void client_hello(struct cursor c, struct handshake_facts *facts, struct stream_info *info)
{
	struct cursor exts;
	const uint8_t *random;

	take(&c, 2);
	random = take(&c, 32);
	if (!random)
		return;
	/* The second hello of a retry has the same. */
	memcpy(facts->client_random, random, 32);
	info->tag = handshake_tag(random);
	take_vector(&c, 1);	/* session */
	take_vector(&c, 2);	/* suites */
	take_vector(&c, 1);	/* compression */
	exts = take_vector(&c, 2);
	while (cursor_left(&exts)) {
		uint32_t type = take_number(&exts, 2);
		struct cursor ext = take_vector(&exts, 2);

		if (type == EXT_SERVER_NAME)
			read_server_name(ext, info);
	}
}

static void server_hello(struct cursor c, struct handshake_facts *facts, struct stream_info *info)
{
	/* RFC 8446, 4.1.3: this random makes it a HelloRetryRequest. */
	static const uint8_t retry[32] = {
		0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c,
		0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb,
		0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
	};
	uint16_t version = (uint16_t)take_number(&c, 2), cipher;
	const uint8_t *random = take(&c, 32);
	struct cursor exts;

	take_vector(&c, 1);
	cipher = (uint16_t)take_number(&c, 2);
	take_number(&c, 1);
	if (c.bad || !memcmp(random, retry, sizeof(retry)))
		return;
	memcpy(facts->server_random, random, 32);
	exts = take_vector(&c, 2);
	while (cursor_left(&exts)) {
		uint32_t type = take_number(&exts, 2);
		struct cursor ext = take_vector(&exts, 2);

		if (type == EXT_VERSIONS)
			version = (uint16_t)take_number(&ext, 2);
		else if (type == EXT_ALPN)
			read_alpn(ext, info);
	}
	facts->has_server_random = true;
	facts->version = info->tls_version = version;
	facts->cipher = info->tls_cipher = cipher;
}

static void encrypted_extensions(struct cursor c, struct stream_info *info)
{
	struct cursor exts = take_vector(&c, 2);

	while (cursor_left(&exts)) {
		uint32_t type = take_number(&exts, 2);
		struct cursor ext = take_vector(&exts, 2);

		if (type == EXT_ALPN)
			read_alpn(ext, info);
	}
}

static void common_name(X509 *cert, char *text, size_t size)
{
	char name[256];
	int len = X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, name,
					    sizeof(name));

	*text = '\0';
	if (len > 0)
		text_copy(text, size, name, (size_t)len);
}

static bool first_dns_name(X509 *cert, char *text, size_t size)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	bool found = false;
	int i;

	for (i = 0; !found && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type != GEN_DNS)
			continue;
		text_copy(text, size, ASN1_STRING_get0_data(name->d.dNSName),
			  (size_t)ASN1_STRING_length(name->d.dNSName));
		found = true;
	}
	GENERAL_NAMES_free(names);
	return found;
}

/* The first certificate names the server; one named "derpkey<hex>" tells a relay's key. */
static void read_certificate(const struct cursor *der, bool first, struct stream_info *info)
{
	static const char prefix[] = "derpkey";
	const uint8_t *p = der->p;
	X509 *cert = d2i_X509(NULL, &p, (long)cursor_left(der));
	struct stream_names names = names_load(info);
	char name[128];

	if (!cert)
		return;
	common_name(cert, name, sizeof(name));
	if (!strncmp(name, prefix, sizeof(prefix) - 1))
		key_parse(name + sizeof(prefix) - 1, &names.cert_key);
	else if (first && !first_dns_name(cert, names.cert_name, sizeof(names.cert_name)))
		text_copy(names.cert_name, sizeof(names.cert_name), name, strlen(name));
	names_store(info, &names);
	X509_free(cert);
}

static void certificate(struct cursor c, uint16_t version, struct stream_info *info)
{
	struct cursor list;
	bool first = true;

	if (version == TLS_1_3)
		take_vector(&c, 1);
	list = take_vector(&c, 3);
	while (cursor_left(&list)) {
		struct cursor der = take_vector(&list, 3);

		if (version == TLS_1_3)
			take_vector(&list, 2);
		if (cursor_left(&der))
			read_certificate(&der, first, info);
		first = false;
	}
}

static void read_message(int side, const uint8_t *msg, size_t len, struct handshake_facts *facts,
			 struct stream_info *info, const struct handshake_sink *sink)
{
	struct cursor c = { .p = msg + HEADER_LEN, .end = msg + len };

	if (!side && msg[0] == HANDSHAKE_CLIENT_HELLO)
		client_hello(c, facts, info);
	else if (side && msg[0] == HANDSHAKE_SERVER_HELLO)
		server_hello(c, facts, info);
	else if (side && msg[0] == HANDSHAKE_ENCRYPTED_EXTENSIONS)
		encrypted_extensions(c, info);
	else if (side && msg[0] == HANDSHAKE_CERTIFICATE)
		certificate(c, facts->version, info);
	sink->message(sink->ctx, side, msg[0]);
}

static size_t message_len(const uint8_t *p)
{
	return HEADER_LEN + ((size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3]);
}

/* Room for @need bytes in all; false where the budget has none. */
static bool grow(struct handshake_messages *m, size_t need, struct budget *budget)
{
	size_t cap = need < 1024 ? 1024 : need;
	uint8_t *buf;

	if (need <= m->cap)
		return true;
	if (!budget_take(budget, cap - m->cap))
		return false;
	buf = realloc(m->buf, cap);
	if (!buf) {
		budget_give(budget, cap - m->cap);
		return false;
	}
	m->buf = buf;
	m->cap = cap;
	return true;
}

void handshake_clear(struct handshake_messages *m, struct budget *budget)
{
	budget_give(budget, m->cap);
	free(m->buf);
	*m = (struct handshake_messages){ 0 };
}

/* Adds up to @want bytes in all to the message under way. How many were taken. */
static size_t gather(struct handshake_messages *m, size_t want, const uint8_t *data, size_t len,
		     struct budget *budget)
{
	size_t n = want - m->len < len ? want - m->len : len;

	if (!grow(m, want, budget)) {
		m->skip = want - m->len;
		m->len = 0;
		return 0;
	}
	memcpy(m->buf + m->len, data, n);
	m->len += n;
	return n;
}

void handshake_feed(struct handshake_messages *m, int side, const uint8_t *data, size_t len,
		    struct budget *budget, struct handshake_facts *facts, struct stream_info *info,
		    const struct handshake_sink *sink)
{
	size_t n, want;

	while (len) {
		if (m->skip) {
			n = m->skip < len ? m->skip : len;
			m->skip -= n;
		} else if (!m->len && len >= HEADER_LEN && message_len(data) <= len) {
			n = message_len(data);
			read_message(side, data, n, facts, info, sink);
		} else if (m->len < HEADER_LEN) {
			n = gather(m, HEADER_LEN, data, len, budget);
		} else {
			n = 0;
		}
		data += n;
		len -= n;
		if (m->len < HEADER_LEN)
			continue;
		want = message_len(m->buf);
		if (want > MAX_MESSAGE) {
			m->skip = want - m->len;
			m->len = 0;
			continue;
		}
		n = gather(m, want, data, len, budget);
		data += n;
		len -= n;
		if (m->len && m->len == want) {
			read_message(side, m->buf, want, facts, info, sink);
			handshake_clear(m, budget);
		}
	}
}
