// SPDX-License-Identifier: BSD-2-Clause
#include "stream/cipher.h"

#include <endian.h>
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/params.h>
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

void cipher_set_traffic(struct cipher *c, const struct cipher_suite *suite, const uint8_t *secret)
{
	c->suite = suite;
	memcpy(c->secret, secret, cipher_secret_len(suite));
}

int cipher_set_master(struct cipher *c, const struct cipher_suite *suite, const uint8_t *master,
		      const uint8_t *client_random, const uint8_t *server_random, bool server)
{
	size_t key = key_len(suite), iv = explicit_nonce(suite) ? 4 : 12;
	uint8_t block[2 * 32 + 2 * 12];
	int err;

	err = expand_master(suite, master, client_random, server_random, block, 2 * (key + iv));
	if (!err) {
		c->suite = suite;
		memcpy(c->secret, block + (server ? key : 0), key);
		memcpy(c->secret + key, block + 2 * key + (server ? iv : 0), iv);
	}
	OPENSSL_cleanse(block, sizeof(block));
	return err;
}

/* --- the pool ----------------------------------------------------------------------------- */

/* 500 busy connections have twice as many keys; what does not fit is made anew, in a microsecond. */
#define POOL_SETS	256
#define POOL_WAYS	4

enum use {
	USE_WHOLE,		/* with the tag */
	USE_PARTS,		/* the cipher below: AES alone, or ChaCha20 */
	USES,
};

struct slot {
	struct cipher of;	/* suite NULL: it is free */
	struct cipher_keys keys;
	bool ready[USES];	/* the context has the key */
	uint32_t stamp;		/* of its last use */
	EVP_CIPHER_CTX *ctx[USES];
};

struct cipher_pool {
	EVP_CIPHER *ciphers[USES][3]; /* by use and enum cipher_aead */
	EVP_MAC_CTX *hmac[2];	/* SHA-256, SHA-384 */
	struct slot slots[POOL_SETS][POOL_WAYS];
	uint32_t stamp;
};

static EVP_MAC_CTX *new_hmac(const char *digest)
{
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)digest, 0),
		OSSL_PARAM_construct_end(),
	};
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	EVP_MAC_CTX *ctx = mac ? EVP_MAC_CTX_new(mac) : NULL;

	EVP_MAC_free(mac);
	if (ctx && EVP_MAC_CTX_set_params(ctx, params) == 1)
		return ctx;
	EVP_MAC_CTX_free(ctx);
	return NULL;
}

struct cipher_pool *cipher_pool_new(void)
{
	static const char *const names[USES][3] = {
		{ "AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305" },
		{ "AES-128-ECB", "AES-256-ECB", "ChaCha20" },
	};
	struct cipher_pool *pool = calloc(1, sizeof(*pool));
	bool whole = pool;
	int use, aead;

	for (use = 0; pool && use < USES; use++) {
		for (aead = 0; aead < 3; aead++) {
			pool->ciphers[use][aead] = EVP_CIPHER_fetch(NULL, names[use][aead], NULL);
			whole = whole && pool->ciphers[use][aead];
		}
	}
	if (pool) {
		pool->hmac[0] = new_hmac("SHA256");
		pool->hmac[1] = new_hmac("SHA384");
		whole = whole && pool->hmac[0] && pool->hmac[1];
	}
	if (whole)
		return pool;
	cipher_pool_free(pool);
	return NULL;
}

static void clear_slot(struct slot *s)
{
	int use;

	for (use = 0; use < USES; use++)
		EVP_CIPHER_CTX_free(s->ctx[use]);
	OPENSSL_cleanse(s, sizeof(*s));
}

void cipher_pool_free(struct cipher_pool *pool)
{
	int i, n;

	if (!pool)
		return;
	for (i = 0; i < POOL_SETS; i++)
		for (n = 0; n < POOL_WAYS; n++)
			clear_slot(&pool->slots[i][n]);
	for (i = 0; i < USES; i++)
		for (n = 0; n < 3; n++)
			EVP_CIPHER_free(pool->ciphers[i][n]);
	EVP_MAC_CTX_free(pool->hmac[0]);
	EVP_MAC_CTX_free(pool->hmac[1]);
	free(pool);
}

/* HKDF-Expand-Label with an empty context. One block of HMAC is as much as is ever asked for. */
static int expand_label(struct cipher_pool *pool, const struct cipher *c, const char *label,
			uint8_t *out, size_t len)
{
	uint8_t info[2 + 1 + 6 + 16 + 1 + 1], block[EVP_MAX_MD_SIZE];
	EVP_MAC_CTX *hmac = pool->hmac[c->suite->sha384];
	size_t n = 0, label_len = strlen(label), made;
	int err = 0;

	info[n++] = (uint8_t)(len >> 8);
	info[n++] = (uint8_t)len;
	info[n++] = (uint8_t)(6 + label_len);
	memcpy(info + n, "tls13 ", 6);
	n += 6;
	memcpy(info + n, label, label_len);
	n += label_len;
	info[n++] = 0;
	info[n++] = 1;
	if (EVP_MAC_init(hmac, c->secret, cipher_secret_len(c->suite), NULL) != 1 ||
	    EVP_MAC_update(hmac, info, n) != 1 ||
	    EVP_MAC_final(hmac, block, &made, sizeof(block)) != 1)
		err = -ENOMEM;
	else
		memcpy(out, block, len);
	OPENSSL_cleanse(block, sizeof(block));
	return err;
}

int cipher_make_keys(struct cipher_pool *pool, const struct cipher *c, struct cipher_keys *keys)
{
	size_t len = key_len(c->suite);
	int err;

	if (c->suite->version == 0x0303) {
		memcpy(keys->key, c->secret, len);
		memcpy(keys->iv, c->secret + len, sizeof(keys->iv));
		return 0;
	}
	err = expand_label(pool, c, "key", keys->key, len);
	return err ? err : expand_label(pool, c, "iv", keys->iv, sizeof(keys->iv));
}

int cipher_set_next(struct cipher_pool *pool, struct cipher *c)
{
	struct cipher next = { .suite = c->suite };
	int err;

	err = expand_label(pool, c, "traffic upd", next.secret, cipher_secret_len(c->suite));
	cipher_clear(pool, c);
	if (!err)
		*c = next;
	OPENSSL_cleanse(&next, sizeof(next));
	return err;
}

/* A secret is as good as chance: any byte of it tells where it goes. */
static struct slot *set_of(struct cipher_pool *pool, const struct cipher *c)
{
	return pool->slots[c->secret[0] % POOL_SETS];
}

static bool holds(const struct slot *s, const struct cipher *c)
{
	return s->of.suite == c->suite && !memcmp(s->of.secret, c->secret, sizeof(c->secret));
}

static bool set_up(struct cipher_pool *pool, struct slot *s, const struct cipher *c)
{
	memset(s->ready, 0, sizeof(s->ready));
	s->of = *c;
	if (!cipher_make_keys(pool, c, &s->keys))
		return true;
	clear_slot(s);
	return false;
}

static bool make_ready(struct cipher_pool *pool, struct slot *s, enum use use)
{
	enum cipher_aead aead = s->of.suite->aead;
	/* AES makes the stream of counter mode, which is encrypted for either way. */
	bool aes_alone = use == USE_PARTS && aead != CIPHER_CHACHA20;

	if (!s->ctx[use])
		s->ctx[use] = EVP_CIPHER_CTX_new();
	s->ready[use] = s->ctx[use] &&
			EVP_CipherInit_ex2(s->ctx[use], pool->ciphers[use][aead], s->keys.key, NULL,
					   aes_alone, NULL) == 1 &&
			EVP_CIPHER_CTX_set_padding(s->ctx[use], 0) == 1;
	return s->ready[use];
}

/* Where its keys and the context for @use are. NULL without memory. */
static struct slot *slot_of(struct cipher_pool *pool, const struct cipher *c, enum use use)
{
	struct slot *set = set_of(pool, c), *s = set;
	int i;

	for (i = 0; i < POOL_WAYS; i++) {
		if (holds(&set[i], c)) {
			s = &set[i];
			break;
		}
		/* Else the one that was not used for longest. */
		if (s->of.suite &&
		    (!set[i].of.suite || (int32_t)(set[i].stamp - s->stamp) < 0))
			s = &set[i];
	}
	if (i == POOL_WAYS && !set_up(pool, s, c))
		return NULL;
	s->stamp = ++pool->stamp;
	return s->ready[use] || make_ready(pool, s, use) ? s : NULL;
}

void cipher_clear(struct cipher_pool *pool, struct cipher *c)
{
	struct slot *set = set_of(pool, c);
	int i;

	for (i = 0; c->suite && i < POOL_WAYS; i++)
		if (holds(&set[i], c))
			clear_slot(&set[i]);
	OPENSSL_cleanse(c, sizeof(*c));
}

/* --- records ------------------------------------------------------------------------------ */

static void xor_nonce(const uint8_t iv[static 12], uint64_t seq, uint8_t nonce[static 12])
{
	int i;

	memcpy(nonce, iv, 12);
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

static void make_nonce(const struct slot *s, uint64_t seq, const uint8_t *body,
		       uint8_t nonce[static 12])
{
	if (explicit_nonce(s->of.suite)) {
		memcpy(nonce, s->keys.iv, 4);
		memcpy(nonce + 4, body, EXPLICIT_LEN);
	} else {
		xor_nonce(s->keys.iv, seq, nonce);
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
	struct slot *s;
	int n, rest;

	if (len < skip + TAG_LEN + (old ? 0 : 1))
		return -EBADMSG;
	s = slot_of(pool, c, USE_WHOLE);
	if (!s)
		return -EBADMSG;
	ctx = s->ctx[USE_WHOLE];
	plain = len - skip - TAG_LEN;
	make_nonce(s, seq, body, nonce);
	if (old)
		data_12(seq, header, plain, aad);
	else
		memcpy(aad, header, CIPHER_HEADER_LEN);
	body += skip;
	if (EVP_DecryptInit_ex2(ctx, NULL, NULL, nonce, NULL) != 1 ||
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
	struct slot *s = slot_of(pool, c, USE_PARTS);
	uint8_t nonce[12];

	if (!s)
		return -ENOMEM;
	make_nonce(s, seq, body, nonce);
	if (explicit_nonce(c->suite))
		body += EXPLICIT_LEN;
	if (c->suite->aead == CIPHER_CHACHA20)
		return peek_chacha(s->ctx[USE_PARTS], nonce, body, ranges, count, out);
	return peek_aes(s->ctx[USE_PARTS], nonce, body, ranges, count, out);
}

int cipher_masks(struct cipher_pool *pool, const struct cipher *c, uint64_t seq, size_t count,
		 uint8_t (*masks)[5])
{
	uint8_t blocks[BLOCKS][16];
	const uint32_t first = htobe32(2);
	size_t done, n, i;
	struct slot *s;
	int made;

	/* A nonce that the record brings is not known before. */
	if (explicit_nonce(c->suite) || c->suite->aead == CIPHER_CHACHA20)
		return -ENOTSUP;
	s = slot_of(pool, c, USE_PARTS);
	for (done = 0; s && done < count; done += n) {
		n = count - done < BLOCKS ? count - done : BLOCKS;
		for (i = 0; i < n; i++) {
			xor_nonce(s->keys.iv, seq + done + i, blocks[i]);
			memcpy(blocks[i] + 12, &first, 4);
		}
		if (EVP_EncryptUpdate(s->ctx[USE_PARTS], blocks[0], &made, blocks[0],
				      (int)(16 * n)) != 1)
			return -ENOMEM;
		for (i = 0; i < n; i++)
			memcpy(masks[done + i], blocks[i], 5);
	}
	OPENSSL_cleanse(blocks, sizeof(blocks));
	return s ? 0 : -ENOMEM;
}
