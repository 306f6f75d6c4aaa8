// SPDX-License-Identifier: BSD-2-Clause
/*
 * A crypto/tls.Conn in memory. It begins with {conn net.Conn; isClient bool; handshakeFn func};
 * what follows moves between Go versions, so the rest is known by its form, in this order:
 *
 *   vers, haveVers	u16 0x0303 or 0x0304, then 1, the rest of the word 0
 *   cipherSuite	u16 behind two or three bools in one word
 *   ekm		a pointer to a closure of code in text; for TLS 1.2 it holds slices of 48
 *			bytes (master secret) and twice 32 (server's random, client's random)
 *   in, out		two halfConn, the same distance as one is long:
 *
 *   halfConn  version u16 (a word), cipher any, mac hash.Hash, seq [8]byte, scratch [13]byte,
 *             nextCipher any, nextMac hash.Hash, [level int, from Go 1.21 on], trafficSecret []byte
 */
#include "capture/gomem_private.h"

#include <string.h>

enum {
	CONN_MAX = 1280,	/* a tls.Conn is about 1,100 bytes long */
	WORDS_MAX = CONN_MAX / 8,
	FIRST_WORD = 4,		/* behind conn, isClient and handshakeFn */

	/* In words, from halfConn.version on. */
	HALF_CIPHER = 1,
	HALF_SEQ = 5,
	HALF_SECRET_OLD = 12,	/* before Go 1.21 */
	HALF_SECRET = 13,
	HALF_LEN_MIN = 17,
	HALF_LEN_MAX = 24,

	CLOSURE_WORDS = 20,
	MASTER_LEN = 48,
	RANDOM_LEN = 32,
	SECRET_CAP_MAX = 192,
	RANDOM_CAP_MAX = 1 << 17, /* a piece of the hello message that it came in */
	VERSION_12 = 0x0303,
	VERSION_13 = 0x0304,
};

struct view {
	const struct goproc *proc;
	uint64_t addr;
	uint64_t words[WORDS_MAX];
	int count;
	int vers;		/* index of the word, 0 if none */
};

bool gomem_looks_random(const uint8_t *bytes, size_t len)
{
	uint64_t seen[4] = {0};
	size_t i, zeroes = 0, different = 0;

	for (i = 0; i < len; i++) {
		const uint64_t bit = 1ull << (bytes[i] & 63);

		different += !(seen[bytes[i] >> 6] & bit);
		seen[bytes[i] >> 6] |= bit;
		zeroes += bytes[i] == 0;
	}
	/* Random bytes, 32 or 48, fail this less than once in 10^9. */
	return different >= 16 && zeroes <= 7;
}

static bool is_pointer(uint64_t word)
{
	return word >= 4096 && word >> 47 == 0;
}

/* A slice of len bytes that holds what looks like a secret; cap_max: of what it was cut from. */
static bool read_slice(const struct view *v, int word, size_t len, size_t cap_max, uint8_t *bytes)
{
	const uint64_t *slice = &v->words[word];

	return word + 3 <= v->count && is_pointer(slice[0]) && slice[1] == len &&
	       slice[2] >= len && slice[2] <= cap_max &&
	       goproc_read(v->proc, slice[0], bytes, len) == 0 && gomem_looks_random(bytes, len);
}

static void find_version(struct view *v, struct gomem_tls *tls)
{
	int i;

	for (i = FIRST_WORD; i < v->count; i++) {
		if (v->words[i] == (1ull << 16 | VERSION_12) ||
		    v->words[i] == (1ull << 16 | VERSION_13)) {
			tls->version = (uint16_t)v->words[i];
			v->vers = i;
			return;
		}
	}
}

static bool known_suite(uint16_t suite)
{
	static const uint16_t suites[] = {0x1301, 0x1302, 0x1303, 0xc02b, 0xc02c, 0xc02f,
					  0xc030, 0xcca8, 0xcca9, 0x009c, 0x009d, 0xc009,
					  0xc00a, 0xc013, 0xc014, 0x002f, 0x0035};
	unsigned int i;

	for (i = 0; i < sizeof(suites) / sizeof(suites[0]); i++) {
		if (suites[i] == suite)
			return true;
	}
	return false;
}

static void find_suite(const struct view *v, struct gomem_tls *tls)
{
	int i, end = v->vers + 8 < v->count ? v->vers + 8 : v->count;

	for (i = v->vers + 1; v->vers && i < end; i++) {
		const uint64_t word = v->words[i];
		const int shift = known_suite((uint16_t)(word >> 16)) ? 16 : 32;

		/* Bools, and padding, before it. */
		if ((word & ((1ull << shift) - 1) & ~0x010101ull) == 0 &&
		    known_suite((uint16_t)(word >> shift))) {
			tls->cipher_suite = (uint16_t)(word >> shift);
			return;
		}
	}
}

/* Is this word halfConn.version, of a half that encrypts? */
static bool is_half(const struct view *v, int word, uint16_t version)
{
	return word >= FIRST_WORD && word + HALF_SECRET + 3 <= v->count &&
	       v->words[word] == version && is_pointer(v->words[word + HALF_CIPHER]) &&
	       is_pointer(v->words[word + HALF_CIPHER + 1]);
}

static uint64_t seq_addr(const struct view *v, int half)
{
	return v->addr + (uint64_t)(half + HALF_SEQ) * 8;
}

static uint64_t seq_value(const struct view *v, int half)
{
	/* Big endian in memory, whatever the machine. */
	return __builtin_bswap64(v->words[half + HALF_SEQ]);
}

/* Candidates of traffic secrets; those that stand in a halfConn are in, then out. */
static void find_secrets(const struct view *v, struct gomem_tls *tls)
{
	int i, first_half = 0;

	for (i = v->vers ? v->vers : FIRST_WORD; i + 3 <= v->count; i++) {
		struct gomem_secret *secret = &tls->secrets[tls->secret_count];
		int half = i - HALF_SECRET;

		if (tls->secret_count == GOMEM_SECRETS_MAX)
			return;
		secret->len = (uint8_t)v->words[i + 1];
		if ((v->words[i + 1] != 32 && v->words[i + 1] != 48) ||
		    !read_slice(v, i, secret->len, SECRET_CAP_MAX, secret->bytes)) {
			explicit_bzero(secret, sizeof(*secret));
			continue;
		}
		if (!is_half(v, half, VERSION_13))
			half = i - HALF_SECRET_OLD;
		if (is_half(v, half, VERSION_13)) {
			secret->seq_addr = seq_addr(v, half);
			secret->seq = seq_value(v, half);
			if (tls->in_index < 0) {
				tls->in_index = tls->secret_count;
				first_half = half;
			} else if (half - first_half >= HALF_LEN_MIN &&
				   half - first_half <= HALF_LEN_MAX) {
				tls->out_index = tls->secret_count++;
				return;
			}
		} else if (i >= HALF_SECRET) {
			/* A layout we do not know: the distance is the best guess there is. */
			secret->seq_addr = seq_addr(v, i - HALF_SECRET);
			secret->seq = seq_value(v, i - HALF_SECRET);
		}
		tls->secret_count++;
	}
}

/* TLS 1.2 has no traffic secrets: its halves tell the numbers, the exporter the master secret. */
static bool find_halves(const struct view *v, struct gomem_tls *tls)
{
	int in, out;

	for (in = v->vers + 1; in < v->count; in++) {
		if (!is_half(v, in, VERSION_12))
			continue;
		for (out = in + HALF_LEN_MIN; out <= in + HALF_LEN_MAX; out++) {
			if (!is_half(v, out, VERSION_12))
				continue;
			tls->in_seq_addr = seq_addr(v, in);
			tls->in_seq = seq_value(v, in);
			tls->out_seq_addr = seq_addr(v, out);
			tls->out_seq = seq_value(v, out);
			return true;
		}
	}
	return false;
}

static bool read_closure(const struct view *closure, struct gomem_tls *tls)
{
	/* In the order of their first use, which is that of all Go versions so far. */
	uint8_t *const randoms[2] = {tls->server_random, tls->client_random};
	int i, random_count = 0;
	bool master = false;

	for (i = 1; i + 3 <= closure->count; i++) {
		if (!master &&
		    read_slice(closure, i, MASTER_LEN, SECRET_CAP_MAX, tls->master))
			master = true;
		else if (random_count < 2 && read_slice(closure, i, RANDOM_LEN, RANDOM_CAP_MAX,
							randoms[random_count]))
			random_count++;
		else
			continue;
		i += 2;
	}
	return master && random_count == 2;
}

/* The end of a server's random when it could have spoken TLS 1.3: proves which of the two it is. */
static bool is_downgrade(const uint8_t *random)
{
	return !memcmp(random + RANDOM_LEN - 8, "DOWNGRD\x01", 8);
}

static void order_randoms(struct gomem_tls *tls)
{
	uint8_t held[RANDOM_LEN];

	if (!is_downgrade(tls->client_random))
		return;
	memcpy(held, tls->client_random, RANDOM_LEN);
	memcpy(tls->client_random, tls->server_random, RANDOM_LEN);
	memcpy(tls->server_random, held, RANDOM_LEN);
}

static void find_master(const struct view *v, uint64_t text_start, uint64_t text_end,
			struct gomem_tls *tls)
{
	struct view closure = {.proc = v->proc};
	int i;

	for (i = v->vers + 1; i < v->count && !tls->has_master; i++) {
		if (!is_pointer(v->words[i]) || v->words[i] % 8)
			continue;
		closure.count = (int)(goproc_read_some(v->proc, v->words[i], closure.words,
						       CLOSURE_WORDS * 8) / 8);
		if (closure.count && closure.words[0] >= text_start &&
		    closure.words[0] < text_end)
			tls->has_master = read_closure(&closure, tls);
	}
	if (tls->has_master)
		order_randoms(tls);
	else
		explicit_bzero(tls->master, sizeof(tls->master));
}

bool gotls_read(const struct goproc *proc, uint64_t addr, uint64_t text_start, uint64_t text_end,
		struct gomem_tls *tls)
{
	struct view v = {.proc = proc, .addr = addr};

	memset(tls, 0, sizeof(*tls));
	tls->addr = addr;
	tls->fd = tls->in_index = tls->out_index = -1;
	v.count = (int)(goproc_read_some(proc, addr, v.words, sizeof(v.words)) / 8);
	if (v.count <= FIRST_WORD || !is_pointer(v.words[1]) || v.words[2] > 1 ||
	    !is_pointer(v.words[3]))
		return false;
	tls->is_client = v.words[2] == 1;
	find_version(&v, tls);
	find_suite(&v, tls);
	if (tls->version == VERSION_12) {
		if (!find_halves(&v, tls))
			return false;
		find_master(&v, text_start, text_end, tls);
		return true;
	}
	find_secrets(&v, tls);
	/* Both halves, or, should their form have changed, a version and two possible secrets. */
	return tls->out_index >= 0 || (tls->version == VERSION_13 && tls->secret_count >= 2);
}
