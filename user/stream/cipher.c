// SPDX-License-Identifier: BSD-2-Clause
#include "stream/cipher.h"

#include <endian.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
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

int cipher_set_traffic(struct cipher *c, const struct cipher_suite *suite, const uint8_t *secret)
{
	int err;

	err = expand_label(suite, secret, "key", c->key, key_len(suite));
	if (!err)
		err = expand_label(suite, secret, "iv", c->iv, sizeof(c->iv));
	if (err) {
		OPENSSL_cleanse(c, sizeof(*c));
		return err;
	}
	c->suite = suite;
	memcpy(c->secret, secret, cipher_secret_len(suite));
	return 0;
}

int cipher_set_next(struct cipher_pool *pool, struct cipher *c)
{
	const struct cipher_suite *suite = c->suite;
	uint8_t next[CIPHER_MAX_SECRET];
	int err;

	err = expand_label(suite, c->secret, "traffic upd", next, cipher_secret_len(suite));
	cipher_clear(pool, c);
	if (!err)
		err = cipher_set_traffic(c, suite, next);
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
	if (!err) {
		c->suite = suite;
		memcpy(c->key, block + (server ? key : 0), key);
		memcpy(c->iv, block + 2 * key + (server ? iv : 0), iv);
	}
	OPENSSL_cleanse(block, sizeof(block));
	return err;
}

/* --- contexts ----------------------------------------------------------------------------- */

/* 200 busy connections have 400 keys, in up to two uses; what does not fit is set up anew. */
#define POOL_SETS	256
#define POOL_WAYS	4

enum use {
	USE_WHOLE,		/* with the tag */
	USE_PARTS,		/* the cipher below: AES alone, or ChaCha20 */
	USES,
};

struct slot {
	EVP_CIPHER_CTX *ctx;
	uint8_t key[32];
	uint8_t aead, use;
	bool valid;
	uint32_t stamp;		/* of its last use */
};

struct cipher_pool {
	EVP_CIPHER *ciphers[USES][3]; /* by use and enum cipher_aead */
	struct slot slots[POOL_SETS][POOL_WAYS];
	uint32_t stamp;
};

struct cipher_pool *cipher_pool_new(void)
{
	static const char *const names[USES][3] = {
		{ "AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305" },
		{ "AES-128-ECB", "AES-256-ECB", "ChaCha20" },
	};
	struct cipher_pool *pool = calloc(1, sizeof(*pool));
	int use, aead;

	for (use = 0; pool && use < USES; use++) {
		for (aead = 0; aead < 3; aead++) {
			pool->ciphers[use][aead] = EVP_CIPHER_fetch(NULL, names[use][aead], NULL);
			if (!pool->ciphers[use][aead]) {
				cipher_pool_free(pool);
				return NULL;
			}
		}
	}
	return pool;
}

void cipher_pool_free(struct cipher_pool *pool)
{
	int i, n;

	if (!pool)
		return;
	for (i = 0; i < POOL_SETS; i++)
		for (n = 0; n < POOL_WAYS; n++)
			EVP_CIPHER_CTX_free(pool->slots[i][n].ctx);
	for (i = 0; i < USES; i++)
		for (n = 0; n < 3; n++)
			EVP_CIPHER_free(pool->ciphers[i][n]);
	OPENSSL_cleanse(pool, sizeof(*pool));
	free(pool);
}

/* A key is as good as chance: any byte of it tells where it goes. */
static struct slot *set_of(struct cipher_pool *pool, const struct cipher *c, enum use use)
{
	return pool->slots[(c->key[0] + use * (POOL_SETS / 2)) % POOL_SETS];
}

static bool holds(const struct slot *s, const struct cipher *c, enum use use)
{
	return s->valid && s->use == use && s->aead == c->suite->aead &&
	       !memcmp(s->key, c->key, sizeof(s->key));
}

static bool set_up(struct cipher_pool *pool, struct slot *s, const struct cipher *c, enum use use)
{
	const EVP_CIPHER *cipher = pool->ciphers[use][c->suite->aead];
	/* AES makes the stream of counter mode, which is encrypted for either way. */
	bool aes_alone = use == USE_PARTS && c->suite->aead != CIPHER_CHACHA20;

	s->valid = false;
	if (!s->ctx)
		s->ctx = EVP_CIPHER_CTX_new();
	if (!s->ctx || EVP_CipherInit_ex2(s->ctx, cipher, c->key, NULL, aes_alone, NULL) != 1 ||
	    EVP_CIPHER_CTX_set_padding(s->ctx, 0) != 1)
		return false;
	memcpy(s->key, c->key, sizeof(s->key));
	s->aead = (uint8_t)c->suite->aead;
	s->use = (uint8_t)use;
	s->valid = true;
	return true;
}

/* NULL without memory. */
static EVP_CIPHER_CTX *context(struct cipher_pool *pool, const struct cipher *c, enum use use)
{
	struct slot *set = set_of(pool, c, use), *oldest = set;
	int i;

	pool->stamp++;
	for (i = 0; i < POOL_WAYS; i++) {
		if (holds(&set[i], c, use)) {
			set[i].stamp = pool->stamp;
			return set[i].ctx;
		}
		if (oldest->valid &&
		    (!set[i].valid || (int32_t)(set[i].stamp - oldest->stamp) < 0))
			oldest = &set[i];
	}
	if (!set_up(pool, oldest, c, use))
		return NULL;
	oldest->stamp = pool->stamp;
	return oldest->ctx;
}

void cipher_clear(struct cipher_pool *pool, struct cipher *c)
{
	int use, i;

	for (use = 0; c->suite && use < USES; use++) {
		struct slot *set = set_of(pool, c, use);

		for (i = 0; i < POOL_WAYS; i++) {
			if (!holds(&set[i], c, use))
				continue;
			EVP_CIPHER_CTX_free(set[i].ctx);
			OPENSSL_cleanse(&set[i], sizeof(set[i]));
		}
	}
	OPENSSL_cleanse(c, sizeof(*c));
}

/* --- records ------------------------------------------------------------------------------ */

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

static void make_nonce(const struct cipher *c, uint64_t seq, const uint8_t *body,
		       uint8_t nonce[static 12])
{
	if (explicit_nonce(c->suite)) {
		memcpy(nonce, c->iv, 4);
		memcpy(nonce + 4, body, EXPLICIT_LEN);
	} else {
		xor_nonce(c, seq, nonce);
	}
}

size_t cipher_sealed_len(const struct cipher_suite *suite, size_t len)
{
	size_t around = TAG_LEN + (explicit_nonce(suite) ? EXPLICIT_LEN : 0);

	return len > around ? len - around : 0;
}

int cipher_open(struct cipher_pool *pool, const struct cipher *c, uint64_t seq,
		const uint8_t *header, const uint8_t *body, size_t len, uint8_t *out,
		uint8_t *type)
{
	size_t skip = explicit_nonce(c->suite) ? EXPLICIT_LEN : 0, plain;
	bool old = c->suite->version == 0x0303;
	uint8_t nonce[12], aad[13];
	EVP_CIPHER_CTX *ctx;
	int n, rest;

	if (len < skip + TAG_LEN + (old ? 0 : 1))
		return -EBADMSG;
	plain = len - skip - TAG_LEN;
	make_nonce(c, seq, body, nonce);
	if (old)
		data_12(seq, header, plain, aad);
	else
		memcpy(aad, header, CIPHER_HEADER_LEN);
	body += skip;
	ctx = context(pool, c, USE_WHOLE);
	if (!ctx || EVP_DecryptInit_ex2(ctx, NULL, NULL, nonce, NULL) != 1 ||
	    EVP_DecryptUpdate(ctx, NULL, &n, aad, old ? 13 : CIPHER_HEADER_LEN) != 1 ||
	    EVP_DecryptUpdate(ctx, out, &n, body, (int)plain) != 1 ||
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG_LEN, (void *)(body + plain)) != 1 ||
	    EVP_DecryptFinal_ex(ctx, out + n, &rest) != 1)
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

/* --- parts of records --------------------------------------------------------------------- */

#define BLOCKS		32	/* made at once */

/* Blocks of counter mode's stream, and what each of them masks. */
struct blocks {
	uint8_t b[BLOCKS][16];
	struct {
		uint32_t from;
		uint8_t skip, len;
	} of[BLOCKS];
	size_t count;
};

static void xor_16(uint8_t *to, const uint8_t *a, const uint8_t *b)
{
	uint64_t x[2], y[2];

	memcpy(x, a, sizeof(x));
	memcpy(y, b, sizeof(y));
	x[0] ^= y[0];
	x[1] ^= y[1];
	memcpy(to, x, sizeof(x));
}

static int unmask(EVP_CIPHER_CTX *ctx, struct blocks *k, const uint8_t *body, uint8_t *out)
{
	size_t i, n;
	int made;

	if (EVP_EncryptUpdate(ctx, k->b[0], &made, k->b[0], (int)(16 * k->count)) != 1)
		return -ENOMEM;
	for (i = 0; i < k->count; i++) {
		const uint8_t *from = body + k->of[i].from, *mask = k->b[i] + k->of[i].skip;
		uint8_t *to = out + k->of[i].from;

		if (k->of[i].len == 16) {
			xor_16(to, from, mask);
			continue;
		}
		for (n = 0; n < k->of[i].len; n++)
			to[n] = from[n] ^ mask[n];
	}
	k->count = 0;
	return 0;
}

static int peek_aes(EVP_CIPHER_CTX *ctx, const uint8_t *nonce, const uint8_t *body,
		    const struct cipher_range *ranges, size_t count, uint8_t *out)
{
	size_t i, at, end;
	struct blocks k;
	uint32_t n;

	k.count = 0;
	for (i = 0; i < count; i++) {
		for (at = ranges[i].from; at < ranges[i].to; at = end) {
			if (k.count == BLOCKS && unmask(ctx, &k, body, out))
				return -ENOMEM;
			end = (at / 16 + 1) * 16;
			if (end > ranges[i].to)
				end = ranges[i].to;
			/* Block 1 masks the tag; the content begins with block 2. */
			n = htobe32((uint32_t)(at / 16 + 2));
			memcpy(k.b[k.count], nonce, 12);
			memcpy(k.b[k.count] + 12, &n, 4);
			k.of[k.count].from = (uint32_t)at;
			k.of[k.count].skip = at % 16;
			k.of[k.count].len = (uint8_t)(end - at);
			k.count++;
		}
	}
	return k.count ? unmask(ctx, &k, body, out) : 0;
}

static int peek_chacha(EVP_CIPHER_CTX *ctx, const uint8_t *nonce, const uint8_t *body,
		       const struct cipher_range *ranges, size_t count, uint8_t *out)
{
	uint8_t iv[16];
	size_t i, at;
	uint32_t block;
	int n;

	memcpy(iv + 4, nonce, 12);
	for (i = 0; i < count; i++) {
		if (ranges[i].from >= ranges[i].to)
			continue;
		/* From its block's start on: the stream cannot be entered within a block. */
		at = ranges[i].from / 64 * 64;
		block = htole32((uint32_t)(at / 64 + 1));
		memcpy(iv, &block, 4);
		if (EVP_DecryptInit_ex2(ctx, NULL, NULL, iv, NULL) != 1 ||
		    EVP_DecryptUpdate(ctx, out + at, &n, body + at, (int)(ranges[i].to - at)) != 1)
			return -ENOMEM;
	}
	return 0;
}

int cipher_peek(struct cipher_pool *pool, const struct cipher *c, uint64_t seq,
		const uint8_t *body, const struct cipher_range *ranges, size_t count,
		uint8_t *out)
{
	EVP_CIPHER_CTX *ctx = context(pool, c, USE_PARTS);
	uint8_t nonce[12];

	if (!ctx)
		return -ENOMEM;
	make_nonce(c, seq, body, nonce);
	if (explicit_nonce(c->suite))
		body += EXPLICIT_LEN;
	if (c->suite->aead == CIPHER_CHACHA20)
		return peek_chacha(ctx, nonce, body, ranges, count, out);
	return peek_aes(ctx, nonce, body, ranges, count, out);
}
