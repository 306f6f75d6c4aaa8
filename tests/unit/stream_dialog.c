// SPDX-License-Identifier: BSD-2-Clause
/* What both sides put on the wire: TLS from OpenSSL, HTTP, WebSocket and DERP on top. */
#include <openssl/ec.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "stream_help.h"

/* --- TLS ---------------------------------------------------------------------------------- */

static EVP_PKEY *test_key;
static X509 *test_cert;

static void make_certificate(void)
{
	X509_NAME *name;
	X509_EXTENSION *san;

	if (test_cert)
		return;
	test_key = EVP_EC_gen("P-256");
	test_cert = X509_new();
	assert_non_null(test_key);
	assert_non_null(test_cert);
	X509_set_version(test_cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(test_cert), 2);
	X509_gmtime_adj(X509_getm_notBefore(test_cert), 0);
	X509_gmtime_adj(X509_getm_notAfter(test_cert), 86400);
	X509_set_pubkey(test_cert, test_key);
	name = X509_get_subject_name(test_cert);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"relay", -1, -1, 0);
	X509_set_issuer_name(test_cert, name);
	san = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:derp.example.com");
	X509_add_ext(test_cert, san, -1);
	X509_EXTENSION_free(san);
	assert_true(X509_sign(test_cert, test_key, EVP_sha256()) > 0);
}

static uint8_t nibble(char c)
{
	return (uint8_t)(c >= 'a' ? c - 'a' + 10 : c - '0');
}

static size_t unhex(const char *hex, size_t len, uint8_t *out)
{
	size_t i;

	for (i = 0; i + 1 < len; i += 2)
		out[i / 2] = (uint8_t)(nibble(hex[i]) << 4 | nibble(hex[i + 1]));
	return len / 2;
}

static void on_keylog(const SSL *ssl, const char *line)
{
	struct dialog *s = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	struct capture_secret *secret = &s->secrets[s->secret_count];
	const char *random = strchr(line, ' ') + 1, *value = strchr(random, ' ') + 1;

	assert_true(s->secret_count < 64);
	memcpy(s->labels[s->secret_count], line, (size_t)(random - 1 - line));
	secret->label = s->labels[s->secret_count];
	unhex(random, 64, secret->random);
	secret->len = (uint8_t)unhex(value, strlen(value), secret->secret);
	s->secret_count++;
}

static SSL *make_ssl(struct dialog *s, int side, const struct dialog_options *o)
{
	SSL_CTX *ctx = SSL_CTX_new(side ? TLS_server_method() : TLS_client_method());
	SSL *ssl;

	assert_non_null(ctx);
	s->contexts[side] = ctx;
	SSL_CTX_set_min_proto_version(ctx, o->version);
	SSL_CTX_set_max_proto_version(ctx, o->version);
	if (o->suite && o->version == TLS1_3_VERSION)
		assert_int_equal(SSL_CTX_set_ciphersuites(ctx, o->suite), 1);
	else if (o->suite)
		assert_int_equal(SSL_CTX_set_cipher_list(ctx, o->suite), 1);
	if (side) {
		SSL_CTX_use_certificate(ctx, test_cert);
		SSL_CTX_use_PrivateKey(ctx, test_key);
		SSL_CTX_set_app_data(ctx, s);
		SSL_CTX_set_keylog_callback(ctx, on_keylog);
	}
	ssl = SSL_new(ctx);
	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	if (side) {
		SSL_set_accept_state(ssl);
	} else {
		SSL_set_connect_state(ssl);
		SSL_set_tlsext_host_name(ssl, "derp.example.com");
	}
	if (side && o->distrust)
		SSL_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	if (o->retry)
		SSL_set1_groups_list(ssl, side ? "P-384" : "P-256:P-384");
	return ssl;
}

enum capture_dir dialog_dir(const struct dialog *s, int side)
{
	return (side == 0) == !s->dialled ? CAPTURE_IN : CAPTURE_OUT;
}

static void put(struct dialog *s, int side, const void *p, size_t len)
{
	enum capture_dir dir = dialog_dir(s, side);
	struct flight *f;

	if (s->count == s->cap) {
		s->cap = s->cap * 2 + 64;
		s->flights = realloc(s->flights, s->cap * sizeof(*s->flights));
		assert_non_null(s->flights);
	}
	f = &s->flights[s->count++];
	f->dir = dir;
	f->at = s->wire[dir].len;
	f->len = len;
	f->secrets = s->secret_count;
	bytes_add(&s->wire[dir], p, len);
}

/* What @side's TLS has to say goes on the wire, and to the other side, which reads it. */
static void pump(struct dialog *s, int side)
{
	uint8_t buf[65536], sink[16384];
	int n;

	while ((n = BIO_read(SSL_get_wbio(s->ssl[side]), buf, sizeof(buf))) > 0) {
		put(s, side, buf, (size_t)n);
		BIO_write(SSL_get_rbio(s->ssl[!side]), buf, n);
	}
	if (SSL_is_init_finished(s->ssl[!side]))
		while (SSL_read(s->ssl[!side], sink, sizeof(sink)) > 0)
			;
}

static void shake_hands(struct dialog *s, const struct dialog_options *o)
{
	int i;

	make_certificate();
	s->ssl[0] = make_ssl(s, 0, o);
	s->ssl[1] = make_ssl(s, 1, o);
	for (i = 0; i < 8; i++) {
		SSL_do_handshake(s->ssl[i & 1]);
		pump(s, i & 1);
	}
	if (o->distrust)
		return;
	assert_true(SSL_is_init_finished(s->ssl[0]) && SSL_is_init_finished(s->ssl[1]));
}

void dialog_write(struct dialog *s, int side, const void *p, size_t len)
{
	if (!s->ssl[0]) {
		put(s, side, p, len);
		return;
	}
	assert_int_equal(SSL_write(s->ssl[side], p, (int)len), (int)len);
	pump(s, side);
}

void dialog_key_update(struct dialog *s, int side, bool ask)
{
	assert_int_equal(SSL_key_update(s->ssl[side], ask ? SSL_KEY_UPDATE_REQUESTED :
							    SSL_KEY_UPDATE_NOT_REQUESTED), 1);
	SSL_do_handshake(s->ssl[side]);
	pump(s, side);
	/* What was asked for goes out with the next write. */
}

/* --- DERP --------------------------------------------------------------------------------- */

/* As WebSocket frames: messages cut here and there, a ping in between. */
static void wrap(struct dialog *s, int side, const struct bytes *plain, struct bytes *out)
{
	size_t at = 0, n, i;
	bool first = true, last;

	while (at < plain->len) {
		uint8_t head[14], mask[4] = { 0 };
		size_t h = 2;

		n = plain->len - at;
		if (chance_percent(&s->chance, 30))
			n = chance_between(&s->chance, 1, (uint32_t)n);
		if (chance_percent(&s->chance, 10)) {
			uint8_t ping[2 + 4 + 125] = { 0x89 };
			uint32_t len = chance_between(&s->chance, 0, 125);

			ping[1] = (uint8_t)(len | (side ? 0 : 0x80));
			bytes_add(out, ping, 2 + (side ? 0 : 4) + len);
		}
		last = at + n == plain->len || chance_percent(&s->chance, 50);
		head[0] = (uint8_t)((first ? 2 : 0) | (last ? 0x80 : 0));
		head[1] = side ? 0 : 0x80;
		if (n < 126) {
			head[1] |= (uint8_t)n;
		} else if (n < 65536) {
			head[1] |= 126;
			head[h++] = (uint8_t)(n >> 8);
			head[h++] = (uint8_t)n;
		} else {
			head[1] |= 127;
			for (i = 0; i < 8; i++)
				head[h++] = (uint8_t)((uint64_t)n >> (56 - 8 * i));
		}
		for (i = 0; !side && i < 4; i++)
			head[h++] = mask[i] = (uint8_t)chance_next(&s->chance);
		bytes_add(out, head, h);
		bytes_add(out, plain->p + at, n);
		for (i = 0; i < n; i++)
			out->p[out->len - n + i] ^= mask[i & 3];
		at += n;
		first = last;
	}
}

static void write_frames(struct dialog *s, int side, struct bytes *b)
{
	struct bytes wrapped = { 0 };

	if (s->websocket) {
		wrap(s, side, b, &wrapped);
		dialog_write(s, side, wrapped.p, wrapped.len);
	} else {
		dialog_write(s, side, b->p, b->len);
	}
	bytes_free(&wrapped);
	bytes_free(b);
}

static void add_frame(struct dialog *s, struct bytes *b, int side, uint8_t type,
		      const uint8_t *payload, uint32_t len)
{
	const uint8_t head[5] = { type, (uint8_t)(len >> 24), (uint8_t)(len >> 16),
				  (uint8_t)(len >> 8), (uint8_t)len };

	bytes_add(b, head, sizeof(head));
	bytes_add(b, payload, len);
	seen_add(&s->want, dialog_dir(s, side), type, payload, len);
}

void dialog_frame(struct dialog *s, int side, uint8_t type, const void *payload, uint32_t len)
{
	struct bytes b = { 0 };

	add_frame(s, &b, side, type, payload, len);
	write_frames(s, side, &b);
}

void dialog_stream(struct dialog *s, int side, const void *p, size_t len)
{
	struct bytes b = { 0 };

	bytes_add(&b, p, len);
	write_frames(s, side, &b);
}

void dialog_frames(struct dialog *s, int side, unsigned int count, uint32_t max_len)
{
	static const uint8_t client[] = { DERP_SEND_PACKET, DERP_SEND_PACKET, DERP_SEND_PACKET,
					  DERP_FORWARD_PACKET, DERP_NOTE_PREFERRED,
					  DERP_WATCH_CONNS, DERP_CLOSE_PEER, DERP_PING };
	static const uint8_t server[] = { DERP_RECV_PACKET, DERP_RECV_PACKET, DERP_RECV_PACKET,
					  DERP_KEEP_ALIVE, DERP_PEER_GONE, DERP_PEER_PRESENT,
					  DERP_RESTARTING, DERP_PONG };
	static uint8_t payload[DERP_MAX_PACKET + 64];
	struct bytes b = { 0 };
	uint32_t len, i;

	while (count--) {
		uint8_t type = (side ? server : client)[chance_next(&s->chance) % 8];

		switch (type) {
		case DERP_KEEP_ALIVE:
		case DERP_WATCH_CONNS:
			len = 0;
			break;
		case DERP_NOTE_PREFERRED:
			len = 1;
			break;
		case DERP_PING:
		case DERP_PONG:
		case DERP_RESTARTING:
			len = 8;
			break;
		case DERP_CLOSE_PEER:
			len = 32;
			break;
		case DERP_PEER_GONE:
			len = chance_between(&s->chance, 32, 33);
			break;
		case DERP_PEER_PRESENT:
			len = chance_between(&s->chance, 0, 1) ? 51 : 32;
			break;
		default:
			len = chance_between(&s->chance, 65, max_len < 66 ? 66 : max_len);
		}
		for (i = 0; i < len; i++)
			payload[i] = (uint8_t)chance_next(&s->chance);
		add_frame(s, &b, side, type, payload, len);
	}
	write_frames(s, side, &b);
}

static void upgrade(struct dialog *s, const struct dialog_options *o)
{
	static const char derp[] = "GET /derp HTTP/1.1\r\nHost: derp.example.com\r\n"
				   "Connection: Upgrade\r\nUpgrade: DERP\r\nIdeal-Node: n1\r\n\r\n";
	static const char fast[] = "GET /derp HTTP/1.1\r\nHost: derp.example.com\r\n"
				   "Connection: Upgrade\r\nUpgrade: DERP\r\n"
				   "Derp-Fast-Start: 1\r\n\r\n";
	static const char web[] = "GET /derp HTTP/1.1\r\nHost: derp.example.com\r\n"
				  "Connection: Upgrade\r\nUpgrade: websocket\r\n"
				  "Sec-WebSocket-Protocol: derp\r\n\r\n";
	static const char ok[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\n"
				 "Connection: Upgrade\r\nDerp-Version: 2\r\nDerp-Public-Key: "
				 "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
				 "\r\n\r\n";
	static const char web_ok[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
				     "Connection: Upgrade\r\nSec-WebSocket-Protocol: derp\r\n\r\n";
	const char *ask = o->websocket ? web : o->fast_start ? fast : derp;
	uint8_t key[40] = "DERP\xf0\x9f\x94\x91", info[104];
	uint32_t i;

	dialog_write(s, 0, ask, strlen(ask));
	if (!o->fast_start)
		dialog_write(s, 1, o->websocket ? web_ok : ok, strlen(o->websocket ? web_ok : ok));
	for (i = 0; i < sizeof(info); i++)
		info[i] = (uint8_t)chance_next(&s->chance);
	if (o->fast_start)
		dialog_frame(s, 0, DERP_CLIENT_INFO, info, sizeof(info));
	dialog_frame(s, 1, DERP_SERVER_KEY, key, sizeof(key));
	if (!o->fast_start)
		dialog_frame(s, 0, DERP_CLIENT_INFO, info, sizeof(info));
	dialog_frame(s, 1, DERP_SERVER_INFO, info, 53);
}

void dialog_begin(struct dialog *s, const struct dialog_options *o)
{
	memset(s, 0, sizeof(*s));
	s->chance.state = o->seed;
	s->dialled = o->dialled;
	s->websocket = o->websocket;
	if (o->tls)
		shake_hands(s, o);
	if (!o->distrust && !o->bare)
		upgrade(s, o);
}

void dialog_talk(struct dialog *s, unsigned int rounds, uint32_t max_len)
{
	while (rounds--)
		dialog_frames(s, (int)(chance_next(&s->chance) & 1),
			      chance_between(&s->chance, 1, 3), max_len);
}

void dialog_free(struct dialog *s)
{
	int i;

	for (i = 0; i < 2; i++) {
		bytes_free(&s->wire[i]);
		SSL_free(s->ssl[i]);
		SSL_CTX_free(s->contexts[i]);
	}
	free(s->flights);
	seen_free(&s->want);
}
