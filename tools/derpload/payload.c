/* SPDX-License-Identifier: BSD-2-Clause */
#include "payload.h"

#include <endian.h>
#include <string.h>

static const uint8_t disco_magic[6] = { 0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac };	/* TS💬 */

static const char *const kind_name[] = {
	[PAYLOAD_WG] = "wg", [PAYLOAD_DISCO] = "disco", [PAYLOAD_WGINIT] = "wginit",
	[PAYLOAD_ZERO] = "zero", [PAYLOAD_MIXED] = "mixed",
};

bool payload_kind_parse(const char *s, enum payload_kind *kind)
{
	for (unsigned int i = 0; i < sizeof(kind_name) / sizeof(*kind_name); i++) {
		if (!strcmp(s, kind_name[i])) {
			*kind = i;
			return true;
		}
	}
	return false;
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, 8);
	return le64toh(v);
}

static void put64(uint8_t *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, 8);
}

static void put32(uint8_t *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, 4);
}

uint64_t payload_mix(uint64_t a, uint64_t b)
{
	__uint128_t m = (__uint128_t)(a ^ 0xa0761d6478bd642full) * (b ^ 0xe7037ed1a0b428dbull);

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

struct payload_pair payload_pair(const uint8_t src[static 32], const uint8_t dst[static 32])
{
	uint64_t sender, h = 1;

	for (int i = 0; i < 32; i += 8)
		h = payload_mix(h ^ get64(src + i), 0x8ebc6af09c88c6e3ull);
	sender = h;
	for (int i = 0; i < 32; i += 8)
		h = payload_mix(h ^ get64(dst + i), 0x589965cc75374cc3ull);
	return (struct payload_pair){ .salt = h, .sender = sender };
}

/* All of the payload but the 8 bytes of the checksum itself at `skip`, and the pair. */
static uint64_t checksum(const uint8_t *p, size_t len, size_t skip, uint64_t salt)
{
	uint64_t h = payload_mix(salt, len);
	uint8_t rest[8] = { 0 };
	size_t i;

	for (i = 0; i < skip; i++)
		h = (h ^ p[i]) * 0x100000001b3ull;
	for (i = skip + 8; i + 8 <= len; i += 8)
		h = payload_mix(h ^ get64(p + i), 0x1d8e4e27c47d124full);
	if (i < len)
		memcpy(rest, p + i, len - i);
	return payload_mix(h ^ get64(rest), 0xeb44accab455d165ull);
}

static void fill(uint8_t *p, size_t len, uint64_t state)
{
	uint8_t last[8];
	size_t i;

	for (i = 0; i + 8 <= len; i += 8) {
		state += 0x9e3779b97f4a7c15ull;
		put64(p + i, payload_mix(state, state));
	}
	put64(last, payload_mix(state, 7));
	if (i < len)
		memcpy(p + i, last, len - i);
}

struct payload_plan payload_plan(enum payload_kind kind, uint32_t min, uint32_t max,
				 uint64_t seed, const struct payload_pair *pair,
				 uint64_t ordinal)
{
	uint64_t dice = payload_mix(payload_mix(seed, pair->salt), ordinal);
	struct payload_plan plan = { .kind = kind };

	plan.len = min + (uint32_t)((dice >> 32) * (max - min + 1ull) >> 32);
	if (kind == PAYLOAD_MIXED) {
		unsigned int n = dice & 7;

		plan.kind = n < 5 ? PAYLOAD_WG : n < 7 ? PAYLOAD_DISCO : PAYLOAD_WGINIT;
		/* Sizes are the caller's word: an initiation only where it fits them. */
		if (plan.kind == PAYLOAD_WGINIT && (min > PAYLOAD_WGINIT_LEN ||
						  max < PAYLOAD_WGINIT_LEN))
			plan.kind = PAYLOAD_WG;
	}
	if (plan.kind == PAYLOAD_WGINIT)
		plan.len = PAYLOAD_WGINIT_LEN;
	if (plan.kind == PAYLOAD_DISCO && plan.len < PAYLOAD_DISCO_MIN)
		plan.kind = PAYLOAD_WG;		/* too short to look like disco to anybody */
	plan.numbered = plan.kind != PAYLOAD_ZERO && plan.len >= PAYLOAD_NUMBERED;
	return plan;
}

/* The random bytes from @from on end in the time, where that leaves room for it. */
static void fill_stamped(uint8_t *p, size_t from, size_t len, uint64_t random, uint64_t now_ns)
{
	fill(p + from, len - from, random);
	if (len >= from + 8)
		put64(p + len - 8, now_ns);
}

static void write_disco(uint8_t *p, size_t len, uint64_t random, const struct payload_pair *pair,
			uint64_t seq, uint64_t now_ns)
{
	memcpy(p, disco_magic, sizeof(disco_magic));
	fill(p + 6, 32, pair->sender);
	put64(p + 38, seq);
	put64(p + 54, pair->salt);
	fill_stamped(p, 62, len, random, now_ns);
	put64(p + 46, checksum(p, len, 46, pair->salt));
}

static void write_wireguard(uint8_t *p, size_t len, uint8_t type, uint64_t random,
			    const struct payload_pair *pair, uint64_t seq, uint64_t now_ns)
{
	put32(p, type);
	/* An initiation's sender index is new each time, a receiver index stays. */
	put32(p + 4, type == 1 ? pair->salt + seq : pair->salt);
	put64(p + 8, seq);
	fill_stamped(p, 24, len, random, now_ns);
	put64(p + 16, checksum(p, len, 16, pair->salt));
}

static void write_short(uint8_t *p, size_t len, uint64_t salt, uint64_t seq)
{
	uint8_t head[PAYLOAD_NUMBERED];

	put32(head, 4);
	put32(head + 4, salt);
	/* Out of the way of the numbered ones' counters. */
	put64(head + 8, seq | 1ull << 63);
	fill(head + 16, 8, seq ^ salt);
	memcpy(p, head, len);
}

void payload_write(uint8_t *p, const struct payload_plan *plan, uint64_t seed,
		   const struct payload_pair *pair, uint64_t seq, uint64_t now_ns)
{
	uint64_t random = payload_mix(seed ^ pair->salt, seq);

	if (plan->kind == PAYLOAD_ZERO)
		memset(p, 0, plan->len);
	else if (!plan->numbered)
		write_short(p, plan->len, pair->salt, seq);
	else if (plan->kind == PAYLOAD_DISCO)
		write_disco(p, plan->len, random, pair, seq, now_ns);
	else
		write_wireguard(p, plan->len, plan->kind == PAYLOAD_WGINIT ? 1 : 4, random, pair,
				seq, now_ns);
}

static bool all_zero(const uint8_t *p, size_t len)
{
	return !p[0] && !memcmp(p, p + 1, len - 1);
}

enum payload_verdict payload_check(const uint8_t *p, size_t len,
				   const struct payload_pair *pair, struct payload_said *said)
{
	size_t at_seq = 8, at_sum = 16, random = PAYLOAD_NUMBERED;

	if (len < PAYLOAD_NUMBERED)
		return PAYLOAD_UNNUMBERED;
	said->disco = len >= PAYLOAD_DISCO_MIN && !memcmp(p, disco_magic, sizeof(disco_magic));
	if (said->disco) {
		at_seq = 38;
		at_sum = 46;
		random = PAYLOAD_DISCO_MIN;
	} else if (!p[0] && all_zero(p, len)) {
		return PAYLOAD_UNNUMBERED;
	}
	said->seq = get64(p + at_seq);
	said->made_ns = len >= random + 8 ? get64(p + len - 8) : 0;
	if (said->seq >= PAYLOAD_SEQ_MAX || get64(p + at_sum) != checksum(p, len, at_sum, pair->salt))
		return PAYLOAD_CORRUPT;
	return PAYLOAD_OK;
}
