// SPDX-License-Identifier: BSD-2-Clause
/* TLS of one connection: what a handshake tells, and what guesses may cost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "stream/names.h"
#include "stream/tls.h"
#include "stream_help.h"

struct lab {
	struct tls *tls;
	struct stream_info info;
	struct secrets secrets;
	struct secret_user user;
	struct budget budget;
	struct tls_shared shared;
	struct shared names;
	uint64_t plain[2], lost[2], time_ns;
	uint64_t pos[2];
};

static void on_plain(void *ctx, int side, uint64_t time_ns, uint64_t tcp_end, const uint8_t *data,
		     size_t len)
{
	struct lab *l = ctx;

	(void)time_ns;
	assert_ptr_equal(data, l->shared.scratch);
	assert_true(tcp_end > 0);
	l->plain[side] += len;
}

static void on_lost(void *ctx, int side, uint64_t time_ns, uint64_t bytes)
{
	(void)time_ns;
	((struct lab *)ctx)->lost[side] += bytes;
}

static const struct secret_set *on_hello(void *ctx, const uint8_t random[static 32])
{
	struct lab *l = ctx;

	assert_int_equal(secrets_join(&l->secrets, random, &l->user), 0);
	return l->user.set;
}

static struct lab *setup(bool midstream)
{
	static const struct tls_sink sink = { .plain = on_plain, .lost = on_lost, .hello = on_hello };
	struct lab *l = calloc(1, sizeof(*l));

	assert_non_null(l);
	l->budget.limit = 1 << 20;
	shared_init(&l->names, sizeof(struct stream_names), 1);
	l->info.kept = &l->names;
	l->shared.pool = cipher_pool_new();
	assert_non_null(l->shared.pool);
	l->info.stage = STREAM_TLS;
	l->tls = tls_new(midstream, true, &l->info, &l->budget, &l->shared, &sink, l);
	assert_non_null(l->tls);
	return l;
}

static void teardown(struct lab *l)
{
	tls_free(l->tls);
	secrets_leave(&l->secrets, &l->user);
	secrets_clear(&l->secrets);
	names_clear(&l->info);
	assert_int_equal(l->names.count, 0);
	shared_clear(&l->names);
	cipher_pool_free(l->shared.pool);
	assert_int_equal(l->budget.used, 0);
	free(l);
}

static void secrets(struct lab *l, const struct dialog *d)
{
	size_t i;

	for (i = 0; i < d->secret_count; i++)
		secrets_add(&l->secrets, HELP_NODE, &d->secrets[i]);
}

static void feed(struct lab *l, const struct dialog *d, size_t from, size_t to)
{
	for (; from < to && from < d->count; from++) {
		const struct flight *f = &d->flights[from];
		int side = f->dir == dialog_dir(d, 1);

		tls_feed(l->tls, side, f->at, l->time_ns += 1000000, d->wire[f->dir].p + f->at,
			 f->len);
	}
}

static void test_alert_in_clear(void **state)
{
	static const uint8_t alert[] = { 21, 3, 3, 0, 2, 2, 40 };
	struct lab *l = setup(false);

	(void)state;
	tls_feed(l->tls, TLS_SERVER, 0, 1, alert, sizeof(alert));
	assert_int_equal(l->info.tls_alert, 40);
	assert_int_equal(l->info.tls_alert_dir, CAPTURE_OUT);
	teardown(l);
}

static void test_alert_sealed(void **state)
{
	struct dialog d;
	struct lab *l;

	(void)state;
	dialog_begin(&d, &(struct dialog_options){ .tls = true, .version = TLS1_3_VERSION,
						   .seed = 1, .distrust = true });
	l = setup(false);
	feed(l, &d, 0, d.count);
	assert_int_equal(l->info.tls_alert, 0);
	assert_true(l->info.tls_alert_hidden);
	assert_int_equal(l->info.tls_alert_hidden_dir, CAPTURE_OUT);
	teardown(l);
	l = setup(false);
	secrets(l, &d);
	feed(l, &d, 0, d.count);
	assert_int_equal(l->info.tls_alert, 116);	/* certificate_required */
	assert_int_equal(l->info.tls_alert_dir, CAPTURE_OUT);
	assert_string_equal(l->info.names->cert_name, "derp.example.com");
	teardown(l);
	dialog_free(&d);
}

static void test_retry(void **state)
{
	struct dialog d;
	struct lab *l;

	(void)state;
	dialog_begin(&d, &(struct dialog_options){ .tls = true, .version = TLS1_3_VERSION,
						   .seed = 2, .retry = true });
	dialog_talk(&d, 10, 500);
	l = setup(false);
	secrets(l, &d);
	feed(l, &d, 0, d.count);
	assert_true(l->plain[0] > 500 && l->plain[1] > 500);
	assert_int_equal(l->lost[0] + l->lost[1], 0);
	teardown(l);
	dialog_free(&d);
}

static struct capture_candidate master_of(const struct dialog *d)
{
	struct capture_candidate c = { .is_master = true, .len = 48 };
	size_t i;

	for (i = 0; i < d->secret_count; i++)
		if (!strcmp(d->secrets[i].label, "CLIENT_RANDOM"))
			memcpy(c.secret, d->secrets[i].secret, 48);
	SSL_get_client_random(d->ssl[0], c.randoms, 32);
	SSL_get_server_random(d->ssl[0], c.randoms + 32, 32);
	return c;
}

static void test_master_mid_stream(void **state)
{
	static const char *const suites[] = { "ECDHE-ECDSA-AES128-GCM-SHA256",
					      "ECDHE-ECDSA-AES256-GCM-SHA384",
					      "ECDHE-ECDSA-CHACHA20-POLY1305" };
	struct capture_candidate c;
	struct dialog d;
	struct lab *l;
	size_t i, n;

	(void)state;
	for (i = 0; i < 3; i++) {
		dialog_begin(&d, &(struct dialog_options){ .tls = true, .version = TLS1_2_VERSION,
							   .suite = suites[i], .seed = 3 });
		dialog_talk(&d, 60, 800);
		for (n = 0; n < 2; n++) {
			c = master_of(&d);
			c.seq = 25;
			c.cipher = n ? (uint16_t)SSL_CIPHER_get_protocol_id(
					       SSL_get_current_cipher(d.ssl[0])) : 0;
			l = setup(true);
			feed(l, &d, 40, 50);
			tls_candidate(l->tls, &c, l->time_ns);
			feed(l, &d, 50, d.count);
			assert_true(l->plain[0] > 1000 && l->plain[1] > 1000);
			assert_int_equal(l->lost[0] + l->lost[1], 0);
			assert_int_equal(l->info.tls_version, 0x0303);
			teardown(l);
		}
		dialog_free(&d);
	}
}

/* Wrong secrets cost a bounded number of trials a second, and the right one comes through. */
static void test_wrong_candidates(void **state)
{
	struct capture_candidate c = { .len = 32, .seq = 1000 };
	struct chance chance = { 9 };
	struct dialog d;
	struct lab *l;
	uint64_t before, n, i;

	(void)state;
	dialog_begin(&d, &(struct dialog_options){ .tls = true, .version = TLS1_3_VERSION,
						   .suite = "TLS_CHACHA20_POLY1305_SHA256",
						   .seed = 4 });
	dialog_talk(&d, 60, 800);
	l = setup(true);
	feed(l, &d, 40, 60);
	for (n = 0; n < 100; n++) {
		for (i = 0; i < 32; i++)
			c.secret[i] = (uint8_t)chance_next(&chance);
		tls_candidate(l->tls, &c, l->time_ns);
		assert_true(l->tls->search->trial.count <= TRIAL_VARIANTS);
	}
	/* The same secrets again are the same candidates. */
	before = l->tls->search->trial.count;
	tls_candidate(l->tls, &c, l->time_ns);
	assert_int_equal(l->tls->search->trial.count, before);
	for (n = 0; n < 20; n++) {
		before = l->tls->search->allowance;
		tls_drain(l->tls, l->time_ns += 1000000000);
		assert_true(l->tls->search->allowance < 40000);
	}
	assert_int_equal(l->plain[0] + l->plain[1], 0);
	for (i = 0; i < d.secret_count; i++) {
		if (strcmp(d.secrets[i].label, "CLIENT_TRAFFIC_SECRET_0") &&
		    strcmp(d.secrets[i].label, "SERVER_TRAFFIC_SECRET_0"))
			continue;
		memcpy(c.secret, d.secrets[i].secret, 32);
		c.seq = 30;
		tls_candidate(l->tls, &c, l->time_ns);
	}
	feed(l, &d, 60, d.count);
	tls_drain(l->tls, l->time_ns += 1000000000);
	assert_true(l->plain[0] > 1000 && l->plain[1] > 1000);
	assert_null(l->tls->search->trial.variants);
	teardown(l);
	dialog_free(&d);
}

static void tell(struct lab *l, const struct dialog *d, const char *label, uint64_t seq)
{
	struct capture_candidate c = { .seq = seq, .version = 0x0304, .cipher = d->secrets[0].len == 48 ?
								    0x1302 : 0x1301 };
	struct chance chance = { seq + 1 };
	size_t i;

	c.len = d->secrets[0].len;
	for (i = 0; i < c.len; i++)
		c.secret[i] = (uint8_t)chance_next(&chance);
	for (i = 0; label && i < d->secret_count; i++)
		if (!strcmp(d->secrets[i].label, label))
			memcpy(c.secret, d->secrets[i].secret, c.len);
	tls_candidate(l->tls, &c, l->time_ns);
}

/* Set up before its secrets could be told: memory has them, beside others. */
static void test_handshake_seen_secrets_found(void **state)
{
	static const char *const suites[] = { "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384" };
	uint64_t records[2], plain[2];
	struct dialog d;
	struct lab *l;
	size_t i, n;

	(void)state;
	for (i = 0; i < 6; i++) {
		dialog_begin(&d, &(struct dialog_options){ .tls = true, .version = TLS1_3_VERSION,
							   .suite = suites[i & 1], .seed = 5 });
		dialog_talk(&d, 60, 800);
		l = setup(false);
		secrets(l, &d);
		feed(l, &d, 0, d.count);
		memcpy(plain, l->plain, sizeof(plain));
		teardown(l);
		n = 4 + 3 * i;
		records[0] = dialog_records(&d, 0, d.flights[n - 1].dir == dialog_dir(&d, 0) ?
					    d.flights[n - 1].at + d.flights[n - 1].len : d.flights[n].at);
		records[1] = dialog_records(&d, 1, d.flights[n - 1].dir == dialog_dir(&d, 1) ?
					    d.flights[n - 1].at + d.flights[n - 1].len : d.flights[n].at);
		l = setup(false);
		feed(l, &d, 0, n);
		tell(l, &d, NULL, 0);
		tell(l, &d, "CLIENT_TRAFFIC_SECRET_0", records[0]);
		tell(l, &d, "SERVER_TRAFFIC_SECRET_0", records[1]);
		assert_true(l->tls->info->decrypted);
		feed(l, &d, n, d.count);
		assert_int_equal(l->plain[0], plain[0]);
		assert_int_equal(l->plain[1], plain[1]);
		assert_int_equal(l->lost[0] + l->lost[1], 0);
		teardown(l);
		dialog_free(&d);
	}
}

/* Memory is read when a handshake has just begun: the client's later secret is not there yet. */
static void test_search_in_handshake(void **state)
{
	struct dialog d;
	struct lab *l;

	(void)state;
	dialog_begin(&d, &(struct dialog_options){ .tls = true, .version = TLS1_3_VERSION,
						   .suite = "TLS_AES_128_GCM_SHA256", .seed = 6 });
	dialog_talk(&d, 60, 800);
	l = setup(false);
	feed(l, &d, 0, 2);
	tell(l, &d, "CLIENT_HANDSHAKE_TRAFFIC_SECRET", 0);
	tell(l, &d, "SERVER_TRAFFIC_SECRET_0", 0);
	feed(l, &d, 2, 20);
	assert_true(l->plain[1] > 100);
	assert_int_equal(l->plain[0] + l->lost[0], 0);
	assert_true(tls_lacks_keys(l->tls));
	tell(l, &d, "CLIENT_TRAFFIC_SECRET_0", 9);
	feed(l, &d, 20, d.count);
	assert_false(tls_lacks_keys(l->tls));
	assert_true(l->plain[0] > 1000);
	assert_int_equal(l->lost[0] + l->lost[1], 0);
	teardown(l);
	dialog_free(&d);
}

static void test_senseless_candidates(void **state)
{
	struct capture_candidate c = { .len = 31 };
	struct lab *l = setup(true);

	(void)state;
	tls_candidate(l->tls, &c, 1);
	c.len = 32;
	c.is_master = true;
	tls_candidate(l->tls, &c, 1);
	c.is_master = false;
	c.seq = UINT64_MAX;
	tls_candidate(l->tls, &c, 1);
	assert_int_equal(l->tls->search->trial.count, 0);
	teardown(l);
}

static void test_secrets(void **state)
{
	struct secrets t = { 0 };
	struct secret_user a = { 0 }, b = { 0 };
	struct capture_secret s = { .label = "CLIENT_TRAFFIC_SECRET_0", .len = 32 };
	struct secret_set *set;
	unsigned int i;

	(void)state;
	s.random[0] = 1;
	set = secrets_add(&t, 5, &s);
	assert_non_null(set);
	assert_ptr_equal(secrets_unbound(&t, 5, 0), set);
	assert_null(secrets_unbound(&t, 6, 0));
	assert_null(secrets_unbound(&t, 5, set->serial));
	assert_int_equal(secrets_join(&t, s.random, &a), 0);
	assert_int_equal(secrets_join(&t, s.random, &b), 0);
	assert_ptr_equal(a.set, set);
	assert_null(secrets_unbound(&t, 5, 0));
	secrets_leave(&t, &a);
	assert_ptr_equal(b.set, set);
	secrets_leave(&t, &b);
	assert_null(t.sets);
	/* A file's: both ends of its connection may be in there. */
	set = secrets_add(&t, 0, &s);
	assert_int_equal(secrets_join(&t, s.random, &a), 0);
	assert_ptr_equal(secrets_unbound(&t, 6, 0), set);
	secrets_leave(&t, &a);
	assert_ptr_equal(secrets_unbound(&t, 6, 0), set);
	assert_int_equal(secrets_join(&t, s.random, &a), 0);
	assert_int_equal(secrets_join(&t, s.random, &b), 0);
	assert_null(secrets_unbound(&t, 6, 0));
	secrets_leave(&t, &a);
	secrets_leave(&t, &b);
	assert_null(t.sets);
	s.label = "EXPORTER_SECRET";
	assert_null(secrets_add(&t, 5, &s));
	s.label = "CLIENT_RANDOM";
	assert_null(secrets_add(&t, 5, &s));
	s.len = 47;
	assert_null(secrets_add(&t, 5, &s));
	s.len = 48;
	for (i = 0; i < 40000; i++) {
		memcpy(s.random, &i, sizeof(i));
		assert_non_null(secrets_add(&t, 0, &s));
	}
	assert_true(HASH_COUNT(t.sets) <= 32768);
	secrets_clear(&t);
	assert_null(t.sets);
}

/* A traffic secret and its first record, RFC 8448 section 3: nothing of ours made them. */
static void test_rfc_8448(void **state)
{
	static const uint8_t secret[32] = {
		0xa1, 0x1a, 0xf9, 0xf0, 0x55, 0x31, 0xf8, 0x56, 0xad, 0x47, 0x11, 0x6b, 0x45, 0xa9,
		0x50, 0x32, 0x82, 0x04, 0xb4, 0xf4, 0x4b, 0xfb, 0x6b, 0x3a, 0x4b, 0x4f, 0x1f, 0x3f,
		0xcb, 0x63, 0x16, 0x43,
	};
	static const uint8_t iv[12] = { 0xcf, 0x78, 0x2b, 0x88, 0xdd, 0x83, 0x54, 0x9a, 0xad, 0xf1,
					0xe9, 0x84 };
	struct cipher_pool *pool = cipher_pool_new();
	struct cipher_keys keys = { 0 };
	struct cipher c = { 0 };

	(void)state;
	assert_non_null(pool);
	cipher_set_traffic(&c, cipher_suite_find(0x1301), secret);
	assert_int_equal(cipher_make_keys(pool, &c, &keys), 0);
	assert_memory_equal(keys.iv, iv, sizeof(iv));
	cipher_clear(pool, &c);
	assert_null(c.suite);
	cipher_pool_free(pool);
	assert_null(cipher_suite_find(0x0005));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alert_in_clear),
		cmocka_unit_test(test_alert_sealed),
		cmocka_unit_test(test_retry),
		cmocka_unit_test(test_master_mid_stream),
		cmocka_unit_test(test_wrong_candidates),
		cmocka_unit_test(test_handshake_seen_secrets_found),
		cmocka_unit_test(test_search_in_handshake),
		cmocka_unit_test(test_senseless_candidates),
		cmocka_unit_test(test_secrets),
		cmocka_unit_test(test_rfc_8448),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
