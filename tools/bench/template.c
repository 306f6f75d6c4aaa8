// SPDX-License-Identifier: BSD-2-Clause
/*
 * Thousands of TLS connections for the price of one: its handshake is played again under another
 * client random, and what follows is sealed under secrets of each connection's own.
 */
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rooms.h"
#include "stream/cipher.h"
#include "walk.h"

#define SUITE		0x1301
/* Of a ClientHello's first byte on the wire: record, message, version. */
#define RANDOM_AT	(WALK_HEADER_LEN + 4 + 2)

static void add_flight(struct dialog *d, enum capture_dir dir, const uint8_t *p, size_t len)
{
	struct flight *f;

	if (d->count == d->cap) {
		d->cap = d->cap * 2 + 64;
		d->flights = reallocarray(d->flights, d->cap, sizeof(*d->flights));
		if (!d->flights)
			abort();
	}
	f = &d->flights[d->count++];
	*f = (struct flight){ .dir = dir, .at = d->wire[dir].len, .len = len };
	bytes_add(&d->wire[dir], p, len);
}

static void seal(EVP_CIPHER_CTX *ctx, const struct cipher_keys *k, uint64_t seq, const uint8_t *plain,
		 size_t len, struct dialog *to, enum capture_dir dir)
{
	size_t body = len + 1 + 16;
	uint8_t *record = malloc(WALK_HEADER_LEN + body), nonce[12], type = TLS_APPLICATION;
	int n, i;

	if (!record)
		abort();
	memcpy(record, (uint8_t[]){ TLS_APPLICATION, 3, 3, (uint8_t)(body >> 8), (uint8_t)body },
	       WALK_HEADER_LEN);
	memcpy(nonce, k->iv, sizeof(nonce));
	for (i = 0; i < 8; i++)
		nonce[4 + i] ^= (uint8_t)(seq >> (56 - 8 * i));
	EVP_EncryptInit_ex(ctx, EVP_aes_128_gcm(), NULL, k->key, nonce);
	EVP_EncryptUpdate(ctx, NULL, &n, record, WALK_HEADER_LEN);
	EVP_EncryptUpdate(ctx, record + WALK_HEADER_LEN, &n, plain, (int)len);
	EVP_EncryptUpdate(ctx, record + WALK_HEADER_LEN + len, &n, &type, 1);
	EVP_EncryptFinal_ex(ctx, record, &n);
	EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, record + WALK_HEADER_LEN + len + 1);
	add_flight(to, dir, record, WALK_HEADER_LEN + body);
	free(record);
}

static void own_secrets(struct dialog *d, struct chance *chance, struct cipher_keys keys[2])
{
	struct cipher_pool *pool = cipher_pool_new();
	uint8_t random[32];
	size_t i, n;

	for (i = 0; i < sizeof(random); i++)
		random[i] = (uint8_t)chance_next(chance);
	memcpy(d->wire[CAPTURE_IN].p + RANDOM_AT, random, sizeof(random));
	for (i = 0; i < d->secret_count; i++) {
		struct capture_secret *s = &d->secrets[i];
		int side = !strcmp(s->label, "SERVER_TRAFFIC_SECRET_0");
		struct cipher cipher = { 0 };

		memcpy(s->random, random, sizeof(random));
		if (!side && strcmp(s->label, "CLIENT_TRAFFIC_SECRET_0"))
			continue;
		for (n = 0; n < s->len; n++)
			s->secret[n] = (uint8_t)chance_next(chance);
		cipher_set_traffic(&cipher, cipher_suite_find(SUITE), s->secret);
		if (!pool || cipher_make_keys(pool, &cipher, &keys[side]))
			abort();
	}
	cipher_pool_free(pool);
}

void template_make(struct dialog *to, const struct dialog *handshake, const struct dialog *talk,
		   uint64_t seed)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	struct chance chance = { seed };
	struct cipher_keys keys[2];
	uint64_t seq[2] = { 0 };
	size_t i;

	memset(to, 0, sizeof(*to));
	for (i = 0; i < handshake->count; i++) {
		const struct flight *f = &handshake->flights[i];

		add_flight(to, f->dir, handshake->wire[f->dir].p + f->at, f->len);
	}
	memcpy(to->secrets, handshake->secrets, sizeof(to->secrets));
	to->secret_count = handshake->secret_count;
	own_secrets(to, &chance, keys);
	for (i = 0; i < talk->count; i++) {
		const struct flight *f = &talk->flights[i];
		int side = f->dir == dialog_dir(talk, 1);

		seal(ctx, &keys[side], seq[side]++, talk->wire[f->dir].p + f->at, f->len, to,
		     f->dir);
	}
	EVP_CIPHER_CTX_free(ctx);
}
