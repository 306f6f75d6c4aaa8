// SPDX-License-Identifier: BSD-2-Clause
#include "stream/trial.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

static const uint16_t suites_13[] = { 0x1301, 0x1302, 0x1303 };
/* One of each kind: the key exchange makes no difference to the keys. */
static const uint16_t suites_12[] = { 0xc02f, 0xc030, 0xcca8 };

static struct trial_variant *new_variant(struct trial *t)
{
	if (!t->variants)
		t->variants = calloc(TRIAL_VARIANTS, sizeof(*t->variants));
	if (!t->variants || t->count == TRIAL_VARIANTS)
		return NULL;
	t->generation++;
	memset(&t->variants[t->count], 0, sizeof(t->variants[0]));
	return &t->variants[t->count];
}

static void remove_variant(struct trial *t, unsigned int i)
{
	cipher_clear(t->pool, &t->variants[i].cipher[0]);
	cipher_clear(t->pool, &t->variants[i].cipher[1]);
	t->count--;
	memmove(&t->variants[i], &t->variants[i + 1], (t->count - i) * sizeof(*t->variants));
	OPENSSL_cleanse(&t->variants[t->count], sizeof(*t->variants));
	t->generation++;
}

/* Memory is searched again and again: the same secret comes with a newer number. */
static void make_room(struct trial *t, const struct capture_candidate *c)
{
	unsigned int i;

	for (i = t->count; i--;)
		if (t->variants[i].from_memory &&
		    !CRYPTO_memcmp(t->variants[i].secret, c->secret, c->len))
			remove_variant(t, i);
	while (t->count + sizeof(suites_13) / sizeof(suites_13[0]) > TRIAL_VARIANTS)
		remove_variant(t, 0);
}

static bool suite_fits(const struct cipher_suite *suite, uint16_t cipher, size_t len)
{
	/* A cipher that cannot be read does not count as known: it may be rubbish. */
	const struct cipher_suite *known = cipher ? cipher_suite_find(cipher) : NULL;

	if (known && known->version == suite->version)
		return known->aead == suite->aead && known->sha384 == suite->sha384;
	return suite->version == 0x0303 || cipher_secret_len(suite) == len;
}

static int add_master(struct trial *t, const struct capture_candidate *c,
		      const struct cipher_suite *suite, const uint64_t counted[2])
{
	struct trial_variant *v = new_variant(t);
	int side, err = 0;

	if (!v)
		return -ENOSPC;
	for (side = 0; side < 2 && !err; side++) {
		err = cipher_set_master(&v->cipher[side], suite, c->secret, c->randoms,
					c->randoms + 32, side);
		v->base[side] = (int64_t)(c->seq - counted[side]);
	}
	if (err) {
		cipher_clear(t->pool, &v->cipher[0]);
		return err;
	}
	memcpy(v->secret, c->secret, 48);
	v->either = true;
	v->from_memory = true;
	v->window = TRIAL_ABOVE;
	t->count++;
	return 0;
}

static int add_traffic(struct trial *t, const uint8_t *secret, const struct cipher_suite *suite,
		       const struct trial_variant *from)
{
	struct trial_variant *v = new_variant(t);

	if (!v)
		return -ENOSPC;
	*v = *from;
	cipher_set_traffic(&v->cipher[0], suite, secret);
	memcpy(v->secret, secret, cipher_secret_len(suite));
	t->count++;
	return 0;
}

int trial_add(struct trial *t, const struct capture_candidate *c, const uint64_t counted[2])
{
	struct trial_variant v = {
		.base = { (int64_t)(c->seq - counted[0]), (int64_t)(c->seq - counted[1]) },
		.window = TRIAL_ABOVE,
		.either = true,
		.from_memory = true,
	};
	const uint16_t *ids = c->is_master ? suites_12 : suites_13;
	int err = -EINVAL;
	size_t i;

	if (c->len != 48 && (c->is_master || c->len != 32))
		return -EINVAL;
	if (c->seq >> 62)
		return -EINVAL;
	make_room(t, c);
	for (i = 0; i < sizeof(suites_13) / sizeof(suites_13[0]); i++) {
		const struct cipher_suite *suite = cipher_suite_find(ids[i]);

		if (!suite_fits(suite, c->cipher, c->len))
			continue;
		err = c->is_master ? add_master(t, c, suite, counted) :
				     add_traffic(t, c->secret, suite, &v);
		if (err)
			break;
	}
	return err;
}

int trial_add_traffic(struct trial *t, int side, const uint8_t *secret, size_t len,
		      uint64_t window)
{
	struct trial_variant v = { .window = window, .side = (uint8_t)side };
	int err = -EINVAL;
	size_t i;

	for (i = 0; i < sizeof(suites_13) / sizeof(suites_13[0]); i++) {
		const struct cipher_suite *suite = cipher_suite_find(suites_13[i]);

		if (!suite_fits(suite, 0, len))
			continue;
		err = add_traffic(t, secret, suite, &v);
		if (err)
			break;
	}
	return err;
}

/* From the hint outwards: 0, 1, -1, 2, -2 ... and, when it is too low to go on, upwards only. */
static int64_t spread(uint64_t round)
{
	if (round <= 2 * TRIAL_BELOW)
		return round & 1 ? (int64_t)(round / 2 + 1) : -(int64_t)(round / 2);
	return (int64_t)(round - TRIAL_BELOW);
}

static bool try_variant(struct cipher_pool *pool, struct trial_variant *v, int side,
			const struct trial_record *r, uint64_t round, uint64_t *allowance,
			uint8_t *scratch, struct trial_found *found)
{
	bool master = v->cipher[1].suite != NULL;
	int64_t n = v->base[side] + (int64_t)r->index + spread(round);

	if (n < 0 || round > v->window + TRIAL_BELOW)
		return false;
	if (!v->either && v->side != side)
		return false;
	--*allowance;
	if (cipher_open(pool, &v->cipher[master ? side : 0], (uint64_t)n, r->header, r->body,
			r->len, scratch, &found->type) < 0)
		return false;
	found->number = (uint64_t)n;
	return true;
}

static void take_variant(struct trial *t, unsigned int i, int side, struct trial_found *found)
{
	struct trial_variant *v = &t->variants[i];
	bool master = v->cipher[1].suite != NULL;

	found->keys = v->cipher[master ? side : 0];
	memset(&found->other, 0, sizeof(found->other));
	if (master)
		found->other = v->cipher[!side];
	found->other_base = v->base[!side];
	OPENSSL_cleanse(v, sizeof(*v));
	remove_variant(t, i);
}

enum trial_result trial_record(struct trial *t, int side, const struct trial_record *r,
			       uint64_t guesses, uint64_t *step, uint64_t *allowance,
			       uint8_t *scratch, struct trial_found *found)
{
	uint64_t rounds = 0;
	unsigned int i;

	for (i = 0; i < t->count; i++)
		if (t->variants[i].window + TRIAL_BELOW + 1 > rounds)
			rounds = t->variants[i].window + TRIAL_BELOW + 1;
	if (guesses && guesses < rounds)
		rounds = guesses;
	for (; *step < rounds * t->count; ++*step) {
		if (!*allowance)
			return TRIAL_LATER;
		i = (unsigned int)(*step % t->count);
		if (try_variant(t->pool, &t->variants[i], side, r, *step / t->count, allowance,
				scratch, found)) {
			take_variant(t, i, side, found);
			return TRIAL_FOUND;
		}
	}
	return TRIAL_NOTHING;
}

void trial_clear(struct trial *t)
{
	unsigned int i;

	for (i = 0; i < t->count; i++) {
		cipher_clear(t->pool, &t->variants[i].cipher[0]);
		cipher_clear(t->pool, &t->variants[i].cipher[1]);
		OPENSSL_cleanse(&t->variants[i], sizeof(t->variants[i]));
	}
	free(t->variants);
	t->variants = NULL;
	t->count = 0;
	t->generation++;
}
