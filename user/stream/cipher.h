/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TLS record protection: keys from secrets, records opened. AEAD suites of TLS 1.3 (RFC 8446) and
 * TLS 1.2 (RFC 5288, 7905).
 */
#ifndef DT_STREAM_CIPHER_H
#define DT_STREAM_CIPHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CIPHER_MAX_SECRET	48
#define CIPHER_HEADER_LEN	5
/* No sealed record of application data is shorter: a type byte and a tag. */
#define CIPHER_MIN_SEALED	17

enum cipher_aead {
	CIPHER_AES_128_GCM,
	CIPHER_AES_256_GCM,
	CIPHER_CHACHA20,
};

struct cipher_suite {
	uint16_t id;
	uint16_t version;	/* 0x0303, 0x0304 */
	enum cipher_aead aead;
	bool sha384;
};

/*
 * What keys of one direction are made of: a silent connection holds no more than that. The keys, and
 * what OpenSSL makes of them, many times as much, are in the pool while they are in use.
 */
struct cipher {
	const struct cipher_suite *suite; /* NULL: none */
	uint8_t secret[CIPHER_MAX_SECRET]; /* TLS 1.3: its traffic secret; 1.2: key and nonce */
};

/* The keys that were used last, over all connections, a bounded number of them. */
struct cipher_pool;
struct cipher_pool *cipher_pool_new(void);
/* Wipes and frees. */
void cipher_pool_free(struct cipher_pool *pool);

/* NULL where it is no suite that can be read. */
const struct cipher_suite *cipher_suite_find(uint16_t id);
size_t cipher_secret_len(const struct cipher_suite *suite);

/* From a TLS 1.3 traffic secret of cipher_secret_len() bytes. *c is all zero before. */
void cipher_set_traffic(struct cipher *c, const struct cipher_suite *suite, const uint8_t *secret);
/* The same after a KeyUpdate. 0 or -errno; *c is all zero then. */
int cipher_set_next(struct cipher_pool *pool, struct cipher *c);
/* From a TLS 1.2 master secret of 48 bytes; @server: the server's writing keys. */
int cipher_set_master(struct cipher *c, const struct cipher_suite *suite, const uint8_t *master,
		      const uint8_t *client_random, const uint8_t *server_random, bool server);

struct cipher_keys {
	uint8_t key[32];
	uint8_t iv[12];		/* TLS 1.2 with GCM: 4 */
};

/* 0 or -errno. */
int cipher_make_keys(struct cipher_pool *pool, const struct cipher *c, struct cipher_keys *keys);

/*
 * Opens record number @seq into @out, which has room for @len bytes. Its plain length, -EBADMSG
 * where the tag does not fit. *type: its inner content type.
 */
int cipher_open(struct cipher_pool *pool, const struct cipher *c, uint64_t seq,
		const uint8_t *header, const uint8_t *body, size_t len, uint8_t *out,
		uint8_t *type);

/* Bytes from @from on, before @to. */
struct cipher_range {
	size_t from, to;
};

/* Bytes that are sealed in a record of @len, TLS 1.3's type byte included; 0: it is too short. */
size_t cipher_sealed_len(const struct cipher_suite *suite, size_t len);
/*
 * Decrypts some of those only, each to its own place in @out; others before them may be written, too.
 * Nobody vouches for them: the tag is of the whole record. 0 or -errno.
 */
int cipher_peek(struct cipher_pool *pool, const struct cipher *c, uint64_t seq,
		const uint8_t *body, const struct cipher_range *ranges, size_t count,
		uint8_t *out);

/*
 * With what the first bytes of records from number @seq on are masked: their plain text is sealed XOR
 * mask. -ENOTSUP where it is not told, or would cost as much as to look at each when it has come.
 */
int cipher_masks(struct cipher_pool *pool, const struct cipher *c, uint64_t seq, size_t count,
		 uint8_t (*masks)[5]);

/* Wipes them, in the pool too. */
void cipher_clear(struct cipher_pool *pool, struct cipher *c);

#endif
