// SPDX-License-Identifier: BSD-2-Clause
/*
 * Whose secrets are these? The ClientHello, whose random is their name, was not seen, or had another
 * one inside. But record number 0 of the handshake's keys is known by its place: one trial decides.
 */
#include <openssl/crypto.h>

#include "stream/tls_item.h"

/* Without the handshake: numbers of the first record that was seen. */
#define FIT_NUMBERS	8

/* Does one of @count record numbers from 0 on open it? Clears @c. */
static bool opens(struct tls *t, struct cipher *c, uint64_t count, const struct tls_item *item)
{
	bool fits = false;
	uint64_t n;
	uint8_t type;

	for (n = 0; c->suite && n < count && !fits && t->search->allowance; n++) {
		t->search->allowance--;
		fits = cipher_open(t->shared->pool, c, n, item->record,
				   item->record + WALK_HEADER_LEN, item->bytes - WALK_HEADER_LEN,
				   t->shared->scratch, &type) >= 0;
	}
	cipher_clear(t->shared->pool, c);
	return fits;
}

static bool opens_traffic(struct tls *t, const struct cipher_suite *suite, const struct secret *s,
			  uint64_t count, const struct tls_item *item)
{
	struct cipher c = { 0 };

	if (s->len != cipher_secret_len(suite))
		return false;
	cipher_set_traffic(&c, suite, s->b);
	return opens(t, &c, count, item);
}

static const struct tls_item *first_record(const struct tls *t, int side)
{
	const struct tls_item *item = t->search->sides[side].head;

	while (item && item->kind != TLS_RECORD)
		item = item->next;
	return item && item->sealed ? item : NULL;
}

/* Is it number 0 of its keys, for sure? */
static bool is_number_0(const struct tls *t, int side, const struct tls_item *item)
{
	const struct tls_side *s = &t->sides[side];

	if (item != t->search->sides[side].head || item->index || s->handshake_done)
		return false;
	if (t->search->facts.version == TLS_1_2)
		return s->changed;
	return side == TLS_SERVER || s->changed || !t->midstream;
}

static bool fits_number_0(struct tls *t, int side, const struct secret_set *set,
			  const struct cipher_suite *suite, const struct tls_item *item)
{
	const struct secret *master = &set->secrets[SECRET_MASTER];
	struct cipher c = { 0 };

	if (suite->version == TLS_1_3)
		return opens_traffic(t, suite, &set->secrets[side ? SECRET_SERVER_HANDSHAKE :
								    SECRET_CLIENT_HANDSHAKE],
				     1, item);
	if (!master->len || !t->search->facts.has_server_random ||
	    cipher_set_master(&c, suite, master->b, set->random, t->search->facts.server_random,
			      side == TLS_SERVER))
		return false;
	return opens(t, &c, 1, item);
}

/* The ServerHello was not seen, or some of what came after it. */
static bool fits_somehow(struct tls *t, int side, const struct secret_set *set,
			 const struct tls_item *item)
{
	static const uint16_t ids[] = { 0x1301, 0x1302, 0x1303 };
	static const enum secret_kind kinds[2][2] = {
		{ SECRET_CLIENT_TRAFFIC, SECRET_CLIENT_HANDSHAKE },
		{ SECRET_SERVER_TRAFFIC, SECRET_SERVER_HANDSHAKE },
	};
	size_t i, k;

	for (i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		if (t->search->facts.version && t->search->facts.cipher != ids[i])
			continue;
		for (k = 0; k < 2; k++)
			if (opens_traffic(t, cipher_suite_find(ids[i]), &set->secrets[kinds[side][k]],
					  FIT_NUMBERS, item))
				return true;
	}
	return false;
}

bool tls_fits(struct tls *t, const struct secret_set *set)
{
	const struct cipher_suite *suite;
	const struct tls_item *items[2];
	int side;

	if (!t->search || t->sides[0].traffic.suite || t->sides[1].traffic.suite)
		return false;
	suite = cipher_suite_find(t->search->facts.cipher);
	for (side = 0; side < 2; side++)
		items[side] = first_record(t, side);
	for (side = 1; side >= 0; side--)
		if (suite && suite->version == t->search->facts.version && items[side] &&
		    is_number_0(t, side, items[side]))
			return fits_number_0(t, side, set, suite, items[side]);
	for (side = 1; side >= 0; side--)
		if (items[side] && fits_somehow(t, side, set, items[side]))
			return true;
	return false;
}

static bool same(const struct cipher *keys, const struct secret *s)
{
	return keys->suite && keys->suite->version == TLS_1_3 &&
	       s->len == cipher_secret_len(keys->suite) &&
	       !CRYPTO_memcmp(keys->secret, s->b, s->len);
}

bool tls_uses(const struct tls *t, const struct secret_set *set)
{
	return same(&t->sides[TLS_CLIENT].traffic, &set->secrets[SECRET_CLIENT_TRAFFIC]) ||
	       same(&t->sides[TLS_SERVER].traffic, &set->secrets[SECRET_SERVER_TRAFFIC]);
}
