// SPDX-License-Identifier: BSD-2-Clause
/*
 * Bytes of the client (calls 0) and server (1), gaps (2, 3), a secret (4: label, random, secret), a
 * candidate (5: flags, number, secret), time (6), memory (7). The first byte: mid-stream or not.
 */
#include "ops.h"
#include "stream/names.h"
#include "stream/tls.h"

struct ctx {
	struct tls *tls;
	struct stream_info info;
	struct secrets secrets;
	struct secret_user user;
};

static void on_plain(void *ctx, int side, uint64_t time_ns, uint64_t tcp_end, const uint8_t *data,
		     size_t len)
{

	(void)ctx;
	(void)time_ns;
	(void)tcp_end;
	must(side == 0 || side == 1);
	op_read(data, len);
}

static void on_lost(void *ctx, int side, uint64_t time_ns, uint64_t bytes)
{
	(void)ctx;
	(void)side;
	(void)time_ns;
	(void)bytes;
}

static const struct secret_set *on_hello(void *ctx, const uint8_t random[static 32])
{
	struct ctx *c = ctx;

	return secrets_join(&c->secrets, random, &c->user) ? NULL : c->user.set;
}

static void tell_secret(struct ctx *c, const struct op *op, uint64_t time_ns)
{
	static const char *const labels[] = {
		"CLIENT_RANDOM", "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
		"SERVER_HANDSHAKE_TRAFFIC_SECRET", "CLIENT_TRAFFIC_SECRET_0",
		"SERVER_TRAFFIC_SECRET_0", "EXPORTER_SECRET",
	};
	struct capture_secret s = { 0 };

	if (op->len < 33 || op->len > 33 + 48)
		return;
	s.label = labels[op->arg[0] % 6];
	memcpy(s.random, op->arg + 1, 32);
	s.len = (uint8_t)(op->len - 33);
	memcpy(s.secret, op->arg + 33, s.len);
	if (secrets_add(&c->secrets, 1, &s) && c->user.set)
		tls_secrets(c->tls, c->user.set, time_ns);
}

static void tell_candidate(struct ctx *c, const struct op *op, uint64_t time_ns)
{
	struct capture_candidate k = { 0 };
	size_t len = op->len - 4;

	if (op->len < 4)
		return;
	k.is_master = op->arg[0] & 1;
	k.len = op->arg[0] & 2 ? 48 : 32;
	k.cipher = op->arg[0] & 4 ? 0x1301 : 0;
	k.seq = op->arg[1] | (uint64_t)op->arg[2] << 8 | (uint64_t)op->arg[3] << 56;
	memcpy(k.secret, op->arg + 4, len < 48 ? len : 48);
	if (len > 48)
		memcpy(k.randoms, op->arg + 52, len - 48 < 64 ? len - 48 : 64);
	tls_candidate(c->tls, &k, time_ns);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct tls_sink sink = { .plain = on_plain, .lost = on_lost,
					      .hello = on_hello };
	static struct tls_shared shared;
	struct budget budget = { .limit = 1 << 17 };
	uint64_t time_ns = 1, pos[2] = { 0 };
	struct ctx c = { 0 };
	struct shared names;
	struct op op;

	if (!size)
		return 0;
	if (!shared.pool)
		shared.pool = cipher_pool_new();
	must(shared.pool);
	shared_init(&names, sizeof(struct stream_names), 1);
	c.info.kept = &names;
	c.info.stage = STREAM_TLS;
	c.tls = tls_new(data[0] & 1, true, &c.info, &budget, &shared, &sink, &c);
	must(c.tls);
	/* Trials are what takes time, and more of the same find nothing new. */
	c.tls->search->allowance = 2000;
	data++;
	size--;
	while (op_next(&data, &size, &op)) {
		int side = op.code & 1;

		time_ns += 100000;
		switch (op.code & 7) {
		case 0:
		case 1:
			tls_feed(c.tls, side, pos[side], time_ns, op.arg, op.len);
			pos[side] += op.len;
			break;
		case 2:
		case 3:
			tls_gap(c.tls, side, time_ns, 1 + op_number(&op, 3));
			break;
		case 4:
			tell_secret(&c, &op, time_ns);
			break;
		case 5:
			tell_candidate(&c, &op, time_ns);
			break;
		case 6:
			tls_drain(c.tls, time_ns += op_number(&op, 4));
			break;
		default:
			budget.limit = budget.used + op_number(&op, 3);
		}
		must(budget.used <= budget.limit);
		tls_rest(c.tls);
		op_free(&op);
	}
	tls_end(c.tls, time_ns);
	tls_free(c.tls);
	secrets_leave(&c.secrets, &c.user);
	secrets_clear(&c.secrets);
	names_clear(&c.info);
	must(!budget.used && !names.count);
	shared_clear(&names);
	return 0;
}
