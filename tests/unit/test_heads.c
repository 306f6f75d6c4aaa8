// SPDX-License-Identifier: BSD-2-Clause
/* TLS records of which only the frames' heads are decrypted. */
#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stream/cipher.h"
#include "stream_help.h"
#include "walk.h"

#define CONTENT		2000

/* Sealed by OpenSSL itself, with a nonce that nothing of ours has made. */
static void seal(struct cipher_pool *pool, const struct cipher *c, uint64_t seq,
		 const uint8_t *plain, uint8_t *body)
{
	static const char *const names[] = { "AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305" };
	EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, names[c->suite->aead], NULL);
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	bool explicit = c->suite->version == 0x0303 && c->suite->aead != CIPHER_CHACHA20;
	struct cipher_keys keys;
	uint8_t nonce[12];
	int n, i;

	assert_int_equal(cipher_make_keys(pool, c, &keys), 0);
	memcpy(nonce, keys.iv, 12);
	for (i = 0; i < 8 && !explicit; i++)
		nonce[4 + i] ^= (uint8_t)(seq >> (56 - 8 * i));
	for (i = 0; i < 8 && explicit; i++)
		*body++ = nonce[4 + i] = (uint8_t)(i * 37 + 5);
	assert_int_equal(EVP_EncryptInit_ex2(ctx, cipher, keys.key, nonce, NULL), 1);
	assert_int_equal(EVP_EncryptUpdate(ctx, body, &n, plain, CONTENT), 1);
	EVP_CIPHER_CTX_free(ctx);
	EVP_CIPHER_free(cipher);
}

static void test_peek(void **state)
{
	static const uint16_t suites[] = { 0x1301, 0x1302, 0x1303, 0xc02f, 0xc030, 0xcca8 };
	struct cipher_pool *pool = cipher_pool_new();
	uint8_t plain[CONTENT], body[CONTENT + 24], out[CONTENT], secret[48];
	struct chance chance = { 7 };
	size_t i, n, round;

	(void)state;
	assert_non_null(pool);
	for (i = 0; i < CONTENT; i++)
		plain[i] = (uint8_t)chance_next(&chance);
	/* More keys than the pool has room for. */
	for (round = 0; round < 3000; round++) {
		const struct cipher_suite *suite = cipher_suite_find(suites[round % 6]);
		struct cipher_range ranges[3];
		struct cipher c = { 0 };

		memset(secret, (int)(round % 250), sizeof(secret));
		secret[0] = (uint8_t)(round / 250);
		cipher_set_traffic(&c, suite, secret);
		seal(pool, &c, round, plain, body);
		memset(out, 0, sizeof(out));
		for (n = 0; n < 3; n++) {
			ranges[n].from = chance_between(&chance, 0, CONTENT);
			ranges[n].to = chance_between(&chance, (uint32_t)ranges[n].from, CONTENT);
		}
		assert_int_equal(cipher_peek(pool, &c, round, body, ranges, 3, out), 0);
		for (n = 0; n < 3; n++)
			assert_memory_equal(out + ranges[n].from, plain + ranges[n].from,
					    ranges[n].to - ranges[n].from);
		if (round & 1)
			cipher_clear(pool, &c);
	}
	cipher_pool_free(pool);
}

static void test_sealed_len(void **state)
{
	(void)state;
	assert_int_equal(cipher_sealed_len(cipher_suite_find(0x1301), 116), 100);
	assert_int_equal(cipher_sealed_len(cipher_suite_find(0x1301), 16), 0);
	assert_int_equal(cipher_sealed_len(cipher_suite_find(0x1301), 3), 0);
	assert_int_equal(cipher_sealed_len(cipher_suite_find(0xc02f), 124), 100);
	assert_int_equal(cipher_sealed_len(cipher_suite_find(0xcca8), 116), 100);
}

static void packets(struct dialog *d, unsigned int count, uint32_t len)
{
	uint8_t payload[DERP_KEY_LEN + 1400];
	unsigned int i;
	size_t n;

	for (i = 0; i < count; i++) {
		for (n = 0; n < sizeof(payload); n++)
			payload[n] = (uint8_t)chance_next(&d->chance);
		dialog_frame(d, 0, DERP_SEND_PACKET, payload, len);
		dialog_frame(d, 1, DERP_RECV_PACKET, payload, len);
	}
}

/* Frames seen of those sent, and how they were read. */
static size_t watch(const struct dialog *d, struct stream_stats *stats)
{
	const struct replay_options o = { .max_segment = 1448 };
	struct seen got;
	struct streams *s = seen_streams(&got, NULL);
	size_t count;
	int dir;

	replay_open(s, &o, d);
	replay(s, d, &o, true);
	streams_stats(s, stats);
	for (dir = 0; dir < 2; dir++)
		assert_int_equal(seen_match(&d->want, &got, dir), (int)seen_count(&got, dir));
	count = got.count;
	streams_free(s);
	seen_free(&got);
	return count;
}

static void test_mostly_heads(void **state)
{
	static const struct {
		int version;
		const char *suite;
	} all[] = {
		{ TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256" },
		{ TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256" },
		{ TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384" },
		{ TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305" },
	};
	struct stream_stats stats;
	struct dialog d;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		dialog_begin(&d, &(struct dialog_options){ .tls = true, .version = all[i].version,
							   .suite = all[i].suite, .seed = 3 });
		packets(&d, 200, 1200);
		assert_int_equal(watch(&d, &stats), d.want.count);
		/* All but the first, one of 64, and what is no packet. */
		assert_in_range(stats.records_by_heads, 2 * 200 - 2 * 12, 2 * 200 - 2 * 3);
		assert_int_equal(stats.records_failed, 0);
		dialog_free(&d);
	}
}

/* Many frames in a record, frames over many records, and records that end within a header. */
static void test_frames_and_records(void **state)
{
	struct stream_stats stats;
	struct dialog d;
	unsigned int i, n, at;
	uint8_t b[3 * 700];

	(void)state;
	dialog_begin(&d, &(struct dialog_options){ .tls = true, .version = TLS1_3_VERSION,
						   .seed = 4 });
	for (i = 0; i < 100; i++) {
		for (n = at = 0; n < 3; n++) {
			uint32_t len = chance_between(&d.chance, 65, 600);
			uint8_t *p = b + at;

			memset(p, (int)(i + n), 5 + len);
			memcpy(p, (uint8_t[]){ DERP_SEND_PACKET, 0, 0, (uint8_t)(len >> 8),
					       (uint8_t)len }, 5);
			seen_add(&d.want, dialog_dir(&d, 0), DERP_SEND_PACKET, p + 5, len);
			at += 5 + len;
		}
		/* Anywhere: in a header, behind it, among what is kept, in the rest. */
		n = chance_between(&d.chance, 1, at - 1);
		dialog_write(&d, 0, b, n);
		dialog_write(&d, 0, b + n, at - n);
		dialog_frames(&d, 1, 1, 60000);
	}
	assert_int_equal(watch(&d, &stats), d.want.count);
	assert_true(stats.records_by_heads > 150);
	dialog_free(&d);
}

/* A header that makes no sense, under a tag that does not fit: a gap, and on with the next record. */
static void test_damaged_heads(void **state)
{
	struct stream_stats stats;
	struct dialog d;
	size_t i, flown, tried = 0;

	(void)state;
	dialog_begin(&d, &(struct dialog_options){ .tls = true, .version = TLS1_3_VERSION,
						   .seed = 5 });
	flown = d.count;
	packets(&d, 80, 1000);
	for (i = flown; i < d.count; i += 7) {
		uint8_t *type = d.wire[d.flights[i].dir].p + d.flights[i].at + WALK_HEADER_LEN;

		*type ^= 0x40;
		assert_int_equal(watch(&d, &stats), d.want.count - 1);
		assert_int_equal(stats.records_failed, 1);
		assert_int_equal(stats.gaps, 1);
		*type ^= 0x40;
		tried++;
	}
	assert_true(tried > 20);
	dialog_free(&d);
}

/* Payloads are not looked at; but now and then one is, and where its tag does not fit that is said. */
static void test_samples(void **state)
{
	struct stream_stats stats;
	unsigned int noticed = 0;
	struct dialog d;
	size_t i;

	(void)state;
	dialog_begin(&d, &(struct dialog_options){ .tls = true, .version = TLS1_3_VERSION,
						   .seed = 6 });
	packets(&d, 150, 1000);
	for (i = d.count - 128; i < d.count; i++) {
		uint8_t *last = d.wire[d.flights[i].dir].p + d.flights[i].at + 900;

		*last ^= 1;
		watch(&d, &stats);
		noticed += stats.records_failed == 1 && stats.gaps == 1;
		*last ^= 1;
	}
	assert_int_equal(noticed, 2);
	dialog_free(&d);
}

static void ignore_frame(void *ctx, const struct stream_frame *f)
{
	(void)ctx;
	(void)f;
}

static void ignore_progress(void *ctx, const struct stream_progress *p)
{
	(void)ctx;
	(void)p;
}

static void ignore_gap(void *ctx, const struct stream_gap *g)
{
	(void)ctx;
	(void)g;
}

static void check_whole(void *ctx, const struct stream_frame *f, const uint8_t *bytes, size_t len)
{
	assert_int_equal(len, WALK_HEADER_LEN + f->len);
	assert_int_equal(bytes[0], f->type);
	++*(size_t *)ctx;
}

static void test_whole_frames_wanted(void **state)
{
	const struct replay_options o = { .max_segment = 1448 };
	size_t count = 0;
	const struct stream_sink sink = { .ctx = &count, .frame = ignore_frame, .gap = ignore_gap,
					  .progress = ignore_progress, .whole = check_whole };
	struct streams *s = streams_new(&sink, NULL);
	struct stream_stats stats;
	struct dialog d;

	(void)state;
	assert_non_null(s);
	dialog_begin(&d, &(struct dialog_options){ .tls = true, .version = TLS1_3_VERSION,
						   .seed = 8 });
	packets(&d, 100, 1200);
	replay_open(s, &o, &d);
	replay(s, &d, &o, true);
	streams_stats(s, &stats);
	assert_int_equal(count, d.want.count);
	assert_int_equal(stats.records_by_heads, 0);
	streams_free(s);
	dialog_free(&d);
}

/* What is masked, and how, by a record that OpenSSL has sealed. */
static void test_masks(void **state)
{
	static const uint16_t suites[] = { 0x1301, 0x1302, 0x1303, 0xc02f };
	struct cipher_pool *pool = cipher_pool_new();
	uint8_t plain[CONTENT], body[CONTENT + 24], masks[100][5];
	size_t i, n, k;

	(void)state;
	memset(plain, 0x5a, sizeof(plain));
	for (i = 0; i < 4; i++) {
		const struct cipher_suite *suite = cipher_suite_find(suites[i]);
		struct cipher c = { 0 };
		uint8_t secret[48] = { 1, 2, 3 };

		cipher_set_traffic(&c, suite, secret);
		if (i > 1) {
			assert_int_equal(cipher_masks(pool, &c, 7, 100, masks), -ENOTSUP);
			continue;
		}
		assert_int_equal(cipher_masks(pool, &c, 7, 100, masks), 0);
		for (n = 0; n < 100; n++) {
			seal(pool, &c, 7 + n, plain, body);
			for (k = 0; k < 5; k++)
				assert_int_equal(body[k] ^ masks[n][k], 0x5a);
		}
	}
	cipher_pool_free(pool);
}

/* Frames seen of those sent, where the kernel ships starts of records. */
static size_t watch_foretold(const struct dialog *d, struct replay_options *o, bool any,
			     struct stream_stats *stats, unsigned int *heads)
{
	struct seen *got = malloc(sizeof(*got));
	struct streams *s = seen_streams(got, NULL);
	size_t count;
	int dir;

	o->foretold = &got->foretold;
	got->foretold.any = any;
	replay_open(s, o, d);
	replay(s, d, o, true);
	streams_stats(s, stats);
	for (dir = 0; dir < 2; dir++)
		assert_int_equal(seen_match(&d->want, got, dir), (int)seen_count(got, dir));
	count = got->count;
	*heads = got->foretold.heads;
	streams_free(s);
	seen_free(got);
	free(got);
	return count;
}

static void test_foretold(void **state)
{
	struct replay_options calm = { 0 }, wild = { .reorder = 20, .repeat = 20, .seed = 11 };
	struct stream_stats stats;
	unsigned int heads;
	struct dialog d;

	(void)state;
	dialog_begin(&d, &(struct dialog_options){ .tls = true, .version = TLS1_3_VERSION,
						   .suite = "TLS_AES_128_GCM_SHA256", .seed = 12 });
	packets(&d, 700, 1200);
	assert_int_equal(watch_foretold(&d, &calm, false, &stats, &heads), d.want.count);
	/* All but those that are read whole, and those before anything was foretold. */
	assert_in_range(heads, 2 * (700 - 700 / 64 - 20), 2 * (700 - 700 / 64));
	assert_int_equal(stats.records_failed + stats.gaps, 0);
	/* Keys change, and numbers begin anew. */
	dialog_key_update(&d, 0, true);
	packets(&d, 300, 1200);
	assert_int_equal(watch_foretold(&d, &calm, false, &stats, &heads), d.want.count);
	assert_in_range(heads, 2 * (1000 - 1000 / 64 - 40), 2 * (1000 - 1000 / 64));
	/* Sizes of all kinds, several in a record, records in several segments, in any order, and again. */
	dialog_talk(&d, 300, 3000);
	packets(&d, 100, 900);
	assert_int_equal(watch_foretold(&d, &wild, false, &stats, &heads), d.want.count);
	assert_int_equal(stats.records_failed + stats.gaps, 0);
	assert_true(heads > 500);
	wild.max_segment = 1448;
	wild.seed = 13;
	assert_int_equal(watch_foretold(&d, &wild, false, &stats, &heads), d.want.count);
	dialog_free(&d);
}

/* A kernel that leaves out what is needed: frames are missing then, and are said to be. */
static void test_foretold_wrongly(void **state)
{
	struct replay_options o = { 0 };
	uint8_t three[3 * 305] = { 0 };
	struct stream_stats stats;
	unsigned int heads;
	size_t i, sent;
	struct dialog d;

	(void)state;
	dialog_begin(&d, &(struct dialog_options){ .tls = true, .version = TLS1_3_VERSION,
						   .suite = "TLS_AES_256_GCM_SHA384", .seed = 14 });
	packets(&d, 100, 1200);
	sent = d.want.count;
	for (i = 0; i < sizeof(three); i += 305) {
		three[i] = DERP_SEND_PACKET;
		three[i + 3] = 300 >> 8;
		three[i + 4] = 300 & 255;
	}
	dialog_write(&d, 0, three, sizeof(three));
	packets(&d, 20, 1200);
	assert_int_equal(watch_foretold(&d, &o, true, &stats, &heads), d.want.count);
	assert_true(d.want.count == sent + 40 && heads > 200);
	assert_int_equal(stats.gaps, 1);
	dialog_free(&d);
}

/* What the ring has lost ends with the next record that was foretold. */
static void test_foretold_after_loss(void **state)
{
	struct replay_options o = { .lose = 10, .reorder = 10, .repeat = 10 };
	struct stream_stats stats;
	unsigned int heads;
	struct dialog d;
	size_t seen;

	(void)state;
	dialog_begin(&d, &(struct dialog_options){ .tls = true, .version = TLS1_3_VERSION,
						   .suite = "TLS_AES_128_GCM_SHA256", .seed = 15 });
	packets(&d, 1000, 1200);
	for (o.seed = 20; o.seed < 26; o.seed++) {
		/* The handshake is not lost. */
		o.calm = d.flights[d.count - 1900].at;
		seen = watch_foretold(&d, &o, false, &stats, &heads);
		assert_in_range(seen, d.want.count * 85 / 100, d.want.count * 97 / 100);
		assert_in_range(stats.gaps, 50, 400);
	}
	dialog_free(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_peek),
		cmocka_unit_test(test_sealed_len),
		cmocka_unit_test(test_mostly_heads),
		cmocka_unit_test(test_frames_and_records),
		cmocka_unit_test(test_damaged_heads),
		cmocka_unit_test(test_samples),
		cmocka_unit_test(test_whole_frames_wanted),
		cmocka_unit_test(test_masks),
		cmocka_unit_test(test_foretold),
		cmocka_unit_test(test_foretold_wrongly),
		cmocka_unit_test(test_foretold_after_loss),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
