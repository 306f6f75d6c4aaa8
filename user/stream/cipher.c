// SPDX-License-Identifier: BSD-2-Clause
#include "stream/cipher.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <string.h>

#define TAG_LEN		16
#define EXPLICIT_LEN	8	/* TLS 1.2 with GCM: nonce in the record */

static const struct cipher_suite suites[] = {
	{ 0x1301, 0x0304, CIPHER_AES_128_GCM, false },
	{ 0x1302, 0x0304, CIPHER_AES_256_GCM, true },
	{ 0x1303, 0x0304, CIPHER_CHACHA20, false },
	{ 0xc02b, 0x0303, CIPHER_AES_128_GCM, false },	/* ECDHE-ECDSA */
	{ 0xc02c, 0x0303, CIPHER_AES_256_GCM, true },
	{ 0xc02f, 0x0303, CIPHER_AES_128_GCM, false },	/* ECDHE-RSA */
	{ 0xc030, 0x0303, CIPHER_AES_256_GCM, true },
	{ 0xcca8, 0x0303, CIPHER_CHACHA20, false },	/* ECDHE-RSA */
	{ 0xcca9, 0x0303, CIPHER_CHACHA20, false },	/* ECDHE-ECDSA */
	{ 0xccaa, 0x0303, CIPHER_CHACHA20, false },	/* DHE-RSA */
	{ 0x009c, 0x0303, CIPHER_AES_128_GCM, false },	/* RSA */
	{ 0x009d, 0x0303, CIPHER_AES_256_GCM, true },
	{ 0x009e, 0x0303, CIPHER_AES_128_GCM, false },	/* DHE-RSA */
	{ 0x009f, 0x0303, CIPHER_AES_256_GCM, true },
};

const struct cipher_suite *cipher_suite_find(uint16_t id)
{
	size_t i;

	for (i = 0; i < sizeof(suites) / sizeof(suites[0]); i++)
		if (suites[i].id == id)
			return &suites[i];
	return NULL;
}

size_t cipher_secret_len(const struct cipher_suite *suite)
{
	return suite->sha384 ? 48 : 32;
}

static const EVP_MD *suite_md(const struct cipher_suite *suite)
{
	return suite->sha384 ? EVP_sha384() : EVP_sha256();
}

static size_t key_len(const struct cipher_suite *suite)
{
	return suite->aead == CIPHER_AES_128_GCM ? 16 : 32;
}

static bool explicit_nonce(const struct cipher_suite *suite)
{
	return suite->version == 0x0303 && suite->aead != CIPHER_CHACHA20;
}

/* HKDF-Expand-Label with an empty context. One block of HMAC is as much as is ever asked for. */
static int expand_label(const struct cipher_suite *suite, const uint8_t *secret, const char *label,
			uint8_t *out, size_t len)
{
	uint8_t info[2 + 1 + 6 + 16 + 1 + 1], block[EVP_MAX_MD_SIZE];
	size_t n = 0, label_len = strlen(label);

	info[n++] = (uint8_t)(len >> 8);
	info[n++] = (uint8_t)len;
	info[n++] = (uint8_t)(6 + label_len);
	memcpy(info + n, "tls13 ", 6);
	n += 6;
	memcpy(info + n, label, label_len);
	n += label_len;
	info[n++] = 0;
	info[n++] = 1;
	if (!HMAC(suite_md(suite), secret, (int)cipher_secret_len(suite), info, n, block, NULL))
		return -ENOMEM;
	memcpy(out, block, len);
	OPENSSL_cleanse(block, sizeof(block));
	return 0;
}

/* P_hash of TLS 1.2 with the label "key expansion". */
static int expand_master(const struct cipher_suite *suite, const uint8_t *master,
			 const uint8_t *client_random, const uint8_t *server_random, uint8_t *out,
			 size_t len)
{
	static const char label[] = "key expansion";
	const size_t label_len = sizeof(label) - 1, seed_len = label_len + 64;
	uint8_t seed[sizeof(label) - 1 + 64], a[EVP_MAX_MD_SIZE + sizeof(seed)];
	uint8_t block[EVP_MAX_MD_SIZE];
	size_t md_len = (size_t)EVP_MD_get_size(suite_md(suite)), done, n;
	int err = 0;

	memcpy(seed, label, label_len);
	memcpy(seed + label_len, server_random, 32);
	memcpy(seed + label_len + 32, client_random, 32);
	if (!HMAC(suite_md(suite), master, 48, seed, seed_len, a, NULL))
		return -ENOMEM;
	for (done = 0; done < len && !err; done += n) {
		memcpy(a + md_len, seed, seed_len);
		n = len - done < md_len ? len - done : md_len;
		if (!HMAC(suite_md(suite), master, 48, a, md_len + seed_len, block, NULL)) {
			err = -ENOMEM;
			break;
		}
		memcpy(out + done, block, n);
		if (!HMAC(suite_md(suite), master, 48, a, md_len, block, NULL))
			err = -ENOMEM;
		memcpy(a, block, md_len);
	}
	OPENSSL_cleanse(a, sizeof(a));
	OPENSSL_cleanse(block, sizeof(block));
	return err;
}

static int set_key(struct cipher *c, const struct cipher_suite *suite, const uint8_t *key)
{
	const EVP_CIPHER *cipher = suite->aead == CIPHER_AES_128_GCM ? EVP_aes_128_gcm() :
				   suite->aead == CIPHER_AES_256_GCM ? EVP_aes_256_gcm() :
								       EVP_chacha20_poly1305();

	c->suite = suite;
	if (!c->ctx)
		c->ctx = EVP_CIPHER_CTX_new();
	if (!c->ctx || EVP_DecryptInit_ex(c->ctx, cipher, NULL, key, NULL) != 1) {
		cipher_clear(c);
		return -ENOMEM;
	}
	return 0;
}

int cipher_set_traffic(struct cipher *c, const struct cipher_suite *suite, const uint8_t *secret)
{
	uint8_t key[32];
	int err;

	err = expand_label(suite, secret, "key", key, key_len(suite));
	if (!err)
		err = expand_label(suite, secret, "iv", c->iv, sizeof(c->iv));
	if (!err)
		err = set_key(c, suite, key);
	if (err)
		cipher_clear(c);
	else
		memmove(c->secret, secret, cipher_secret_len(suite));
	OPENSSL_cleanse(key, sizeof(key));
	return err;
}

int cipher_set_next(struct cipher *c)
{
	uint8_t next[CIPHER_MAX_SECRET];
	int err;

	err = expand_label(c->suite, c->secret, "traffic upd", next, cipher_secret_len(c->suite));
	if (!err)
		err = cipher_set_traffic(c, c->suite, next);
	OPENSSL_cleanse(next, sizeof(next));
	return err;
}

int cipher_set_master(struct cipher *c, const struct cipher_suite *suite, const uint8_t *master,
		      const uint8_t *client_random, const uint8_t *server_random, bool server)
{
	size_t key = key_len(suite), iv = suite->aead == CIPHER_CHACHA20 ? 12 : 4;
	uint8_t block[2 * 32 + 2 * 12];
	int err;

	err = expand_master(suite, master, client_random, server_random, block, 2 * (key + iv));
	if (!err)
		err = set_key(c, suite, block + (server ? key : 0));
	if (!err)
		memcpy(c->iv, block + 2 * key + (server ? iv : 0), iv);
	OPENSSL_cleanse(block, sizeof(block));
	return err;
}

static void xor_nonce(const struct cipher *c, uint64_t seq, uint8_t nonce[static 12])
{
	int i;

	memcpy(nonce, c->iv, 12);
	for (i = 0; i < 8; i++)
		nonce[11 - i] ^= (uint8_t)(seq >> (8 * i));
}

/* Associated data of TLS 1.2: number, type, version, plain length. */
static void data_12(uint64_t seq, const uint8_t *header, size_t plain, uint8_t aad[static 13])
{
	int i;

	for (i = 0; i < 8; i++)
		aad[i] = (uint8_t)(seq >> (56 - 8 * i));
	memcpy(aad + 8, header, 3);
	aad[11] = (uint8_t)(plain >> 8);
	aad[12] = (uint8_t)plain;
}

int cipher_open(struct cipher *c, uint64_t seq, const uint8_t *header, const uint8_t *body,
		size_t len, uint8_t *out, uint8_t *type)
{
	size_t skip = explicit_nonce(c->suite) ? EXPLICIT_LEN : 0, plain;
	bool old = c->suite->version == 0x0303;
	uint8_t nonce[12], aad[13];
	int n, rest;

	if (len < skip + TAG_LEN + (old ? 0 : 1))
		return -EBADMSG;
	plain = len - skip - TAG_LEN;
	if (skip) {
		memcpy(nonce, c->iv, 4);
		memcpy(nonce + 4, body, EXPLICIT_LEN);
	} else {
		xor_nonce(c, seq, nonce);
	}
	if (old)
		data_12(seq, header, plain, aad);
	else
		memcpy(aad, header, CIPHER_HEADER_LEN);
	body += skip;
	if (EVP_DecryptInit_ex(c->ctx, NULL, NULL, NULL, nonce) != 1 ||
	    EVP_DecryptUpdate(c->ctx, NULL, &n, aad, old ? 13 : CIPHER_HEADER_LEN) != 1 ||
	    EVP_DecryptUpdate(c->ctx, out, &n, body, (int)plain) != 1 ||
	    EVP_CIPHER_CTX_ctrl(c->ctx, EVP_CTRL_AEAD_SET_TAG, TAG_LEN,
				(void *)(body + plain)) != 1 ||
	    EVP_DecryptFinal_ex(c->ctx, out + n, &rest) != 1)
		return -EBADMSG;
	if (old) {
		*type = header[0];
		return (int)plain;
	}
	/* The type is the last byte that is not padding. */
	while (plain && !out[plain - 1])
		plain--;
	if (!plain)
		return -EBADMSG;
	*type = out[plain - 1];
	return (int)plain - 1;
}

void cipher_clear(struct cipher *c)
{
	EVP_CIPHER_CTX_free(c->ctx);
	OPENSSL_cleanse(c, sizeof(*c));
}
