// SPDX-License-Identifier: BSD-2-Clause
#include "stream/tls.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "stream/tls_item.h"

#define MIN_RECORD	22	/* header, type, tag: bounds the number of records in a gap */
/* Alerts are two bytes: sealed they have one of these lengths (1.3; 1.2 with ChaCha20, GCM). */
#define ALERT_13	19
#define ALERT_12_CHACHA	18
#define ALERT_12_GCM	26

/* Trials per second and connection, while guesses do not fail; one costs about a microsecond. */
#define TRIAL_RATE	4096
#define TRIAL_BURST	32768
#define TRIAL_GRANT	TLS_GRANT
/* Two records, two suites, every number up to TRIAL_ABOVE. */
#define TRIAL_FAR	(4 * (TRIAL_ABOVE + TRIAL_BELOW + 1))

/* --- items -------------------------------------------------------------------------------- */

static bool is_sealed(const struct tls *t, const struct tls_side *s, uint8_t type)
{
	if (type == TLS_APPLICATION)
		return true;
	if (t->midstream && !t->facts.version && type != TLS_CHANGE_CIPHER && s->started)
		return s->traffic.suite->version == TLS_1_2;
	return t->facts.version == TLS_1_2 && s->changed && type != TLS_CHANGE_CIPHER;
}

static void change_cipher(struct tls *t, int side)
{
	struct tls_side *s = &t->sides[side];

	if (s->changed)
		return;
	s->changed = true;
	if (s->sealed)
		return;
	/* Whatever was missed, nothing sealed was: this is before the first. */
	s->low = s->high = s->guess = s->number = 0;
	s->handshake_done = false;
	/* Of TLS 1.3 it is only for show: no keys change here. */
	s->number_known = t->facts.version == TLS_1_2;
}

/* An alert that nobody can read ends a handshake all the same. */
static void note_hidden_alert(struct tls *t, int side, const struct tls_item *item)
{
	uint64_t body = item->bytes - WALK_HEADER_LEN;
	bool alert = body == ALERT_13;

	if (t->facts.version == TLS_1_2)
		alert = item->record[0] == TLS_ALERT &&
			(body == ALERT_12_GCM || body == ALERT_12_CHACHA);
	if (!alert || t->info->stage != STREAM_TLS || t->info->decrypted ||
	    t->sides[side].handshake_number)
		return;
	t->info->tls_alert_hidden = true;
	t->info->tls_alert_hidden_dir =
		(side == TLS_CLIENT) == t->client_in ? CAPTURE_IN : CAPTURE_OUT;
}

static enum tls_outcome process_record(struct tls *t, int side, const struct tls_item *item)
{
	const uint8_t *body = item->record + WALK_HEADER_LEN;
	size_t len = item->bytes - WALK_HEADER_LEN;

	if (item->sealed)
		return tls_open(t, side, item);
	switch (item->record[0]) {
	case TLS_CHANGE_CIPHER:
		change_cipher(t, side);
		break;
	case TLS_ALERT:
		tls_read_alert(t, side, body, len);
		break;
	default:
		tls_read_handshake(t, side, body, len);
	}
	return TLS_READ;
}

/* Records were lost; what stood in them is not known. */
static void process_loss(struct tls *t, int side, const struct tls_item *item)
{
	struct tls_side *s = &t->sides[side];
	uint64_t mean = s->sealed ? s->sealed_bytes / s->sealed : 0;

	handshake_clear(&s->messages, t->budget);
	s->proven = 0;
	if (item->kind == TLS_UNKNOWN)
		tls_forget_number(t, side, item->bytes / MIN_RECORD + 2, mean ? item->bytes / mean : 0);
	else if (item->sealed && s->number_known && s->started)
		s->number++;
	else if (item->sealed)
		tls_forget_number(t, side, 1, 1);
	if (item->kind == TLS_UNKNOWN || item->sealed)
		s->handshake_done = true;
	t->sink->lost(t->ctx, side, item->time_ns, item->bytes);
}

static enum tls_outcome process(struct tls *t, int side, const struct tls_item *item)
{
	if (item->kind == TLS_RECORD)
		return process_record(t, side, item);
	process_loss(t, side, item);
	return TLS_READ;
}

/* --- waiting ------------------------------------------------------------------------------ */

static size_t item_cost(const struct tls_item *item)
{
	return sizeof(*item) + (item->kind == TLS_RECORD ? item->bytes : 0);
}

static struct tls_item *pop(struct tls *t, int side)
{
	struct tls_side *s = &t->sides[side];
	struct tls_item *item = s->head;

	s->head = item->next;
	if (!s->head)
		s->tail = NULL;
	budget_give(t->budget, item_cost(item));
	return item;
}

/* The first of the waiting records is none any more. */
static void probes_shift(struct tls_side *s)
{
	int i;

	for (i = 0; i < TLS_TIERS; i++) {
		if (s->probes[i].record)
			s->probes[i].record--;
		else
			s->probes[i].step = 0;
	}
}

/* Makes room by losing the oldest record that waits. False where none does. */
static bool shed(struct tls *t, int side)
{
	struct tls_item *item;

	if (!t->sides[side].head)
		return false;
	item = pop(t, side);
	if (item->kind == TLS_RECORD) {
		item->kind = TLS_LOST;
		probes_shift(&t->sides[side]);
	}
	process_loss(t, side, item);
	free(item);
	return true;
}

static void enqueue(struct tls *t, int side, const struct tls_item *item)
{
	struct tls_side *s = &t->sides[side];
	size_t cost = item_cost(item);
	struct tls_item *copy = NULL;

	while (!budget_take(t->budget, cost))
		if (!shed(t, side))
			goto lost;
	copy = malloc(cost);
	if (!copy) {
		budget_give(t->budget, cost);
		goto lost;
	}
	*copy = *item;
	copy->next = NULL;
	if (item->kind == TLS_RECORD) {
		memcpy(copy->copy, item->record, item->bytes);
		copy->record = copy->copy;
	}
	if (s->tail)
		s->tail->next = copy;
	else
		s->head = copy;
	s->tail = copy;
	return;
lost:
	process_loss(t, side, &(struct tls_item){
		.kind = item->kind == TLS_UNKNOWN ? TLS_UNKNOWN : TLS_LOST,
		.sealed = item->sealed, .time_ns = item->time_ns, .bytes = item->bytes });
}

static void refill(struct tls *t, uint64_t time_ns)
{
	uint64_t rate = TRIAL_RATE >> t->slow, ns = time_ns - t->allowance_time_ns;

	if (time_ns <= t->allowance_time_ns || ns < 1000000)
		return;
	if (ns > 10000000000ULL)
		ns = 10000000000ULL;
	t->allowance_time_ns = time_ns;
	t->allowance += rate * (ns / 1000000) / 1000 + 1;
	if (t->allowance > TRIAL_BURST)
		t->allowance = TRIAL_BURST;
}

void tls_drain(struct tls *t, uint64_t time_ns)
{
	bool waits[2] = { false, false };

	if (t->draining)
		return;
	t->draining = true;
	refill(t, time_ns);
	/* In the order in which both sides spoke: an answer is read after its question. */
	for (;;) {
		struct tls_item *a = waits[0] ? NULL : t->sides[0].head;
		struct tls_item *b = waits[1] ? NULL : t->sides[1].head;
		int side = !a || (b && b->time_ns < a->time_ns);
		struct tls_item *item = side ? b : a;

		if (!item)
			break;
		if (process(t, side, item) == TLS_WAITS) {
			waits[side] = true;
			continue;
		}
		free(pop(t, side));
	}
	t->draining = false;
}

static void handle(struct tls *t, int side, uint8_t type, struct tls_item *item)
{
	struct tls_side *s = &t->sides[side];

	item->sealed = item->kind != TLS_UNKNOWN && is_sealed(t, s, type);
	if (item->sealed) {
		item->index = s->sealed++;
		s->sealed_bytes += item->bytes;
	}
	if (s->head)
		tls_drain(t, item->time_ns);
	if (s->head || t->draining || process(t, side, item) == TLS_WAITS)
		enqueue(t, side, item);
	if (item->sealed && item->kind == TLS_RECORD)
		note_hidden_alert(t, side, item);
}

static void on_record(void *ctx, int side, uint64_t time_ns, uint64_t tcp_end,
		      const uint8_t *record, size_t len)
{
	struct tls_item item = { .kind = TLS_RECORD, .time_ns = time_ns, .tcp_end = tcp_end,
				 .bytes = len, .record = record };

	handle(ctx, side, record[0], &item);
}

static void on_lost(void *ctx, int side, uint64_t time_ns, uint8_t type, size_t len)
{
	struct tls_item item = { .kind = TLS_LOST, .time_ns = time_ns, .bytes = len };

	handle(ctx, side, type, &item);
}

static void on_unknown(void *ctx, int side, uint64_t time_ns, uint64_t bytes)
{
	struct tls_item item = { .kind = TLS_UNKNOWN, .time_ns = time_ns, .bytes = bytes };

	handle(ctx, side, 0, &item);
}

/* --- the door ----------------------------------------------------------------------------- */

struct tls *tls_new(bool midstream, bool client_in, struct stream_info *info,
		    struct budget *budget, struct tls_shared *shared, const struct tls_sink *sink,
		    void *ctx)
{
	static const struct records_sink records_sink = { on_record, on_lost, on_unknown };
	struct tls *t = calloc(1, sizeof(*t));
	int side;

	if (!t)
		return NULL;
	t->midstream = midstream;
	t->client_in = client_in;
	t->info = info;
	t->budget = budget;
	t->shared = shared;
	t->trial.pool = shared->pool;
	t->sink = sink;
	t->ctx = ctx;
	t->allowance = TRIAL_BURST;
	for (side = 0; side < 2; side++)
		records_init(&t->sides[side].records, side, midstream, budget, &records_sink, t);
	return t;
}

void tls_free(struct tls *t)
{
	int side;

	if (!t)
		return;
	for (side = 0; side < 2; side++) {
		struct tls_side *s = &t->sides[side];

		while (s->head)
			free(pop(t, side));
		records_clear(&s->records);
		handshake_clear(&s->messages, t->budget);
		tls_drop_keys(t, &s->handshake);
		cipher_clear(t->shared->pool, &s->traffic);
		tls_drop_keys(t, &s->later);
	}
	trial_clear(&t->trial);
	OPENSSL_cleanse(t, sizeof(*t));
	free(t);
}

void tls_feed(struct tls *t, int side, uint64_t pos, uint64_t time_ns, const uint8_t *data,
	      size_t len)
{
	refill(t, time_ns);
	records_feed(&t->sides[side].records, pos, time_ns, data, len);
}

void tls_gap(struct tls *t, int side, uint64_t time_ns, uint64_t bytes)
{
	records_gap(&t->sides[side].records, time_ns, bytes);
}

void tls_secrets(struct tls *t, const struct secret_set *secrets, uint64_t time_ns)
{
	t->secrets = secrets;
	tls_drain(t, time_ns);
}

void tls_bind(struct tls *t, const struct secret_set *secrets, uint64_t time_ns)
{
	/* What memory showed is not needed any more, and in the way of these. */
	trial_clear(&t->trial);
	t->slow = 0;
	if (t->allowance < TRIAL_GRANT)
		t->allowance = TRIAL_GRANT;
	tls_secrets(t, secrets, time_ns);
}

static bool wants_keys(const struct tls *t)
{
	return !t->sides[0].traffic.suite || !t->sides[1].traffic.suite;
}

void tls_candidate(struct tls *t, const struct capture_candidate *c, uint64_t time_ns)
{
	const uint64_t counted[2] = { t->sides[0].sealed, t->sides[1].sealed };

	tls_hint_number(t, c);
	if (!wants_keys(t)) {
		tls_drain(t, time_ns);
		return;
	}
	t->slow = 0;
	if (t->allowance < TRIAL_GRANT)
		t->allowance = TRIAL_GRANT;
	trial_add(&t->trial, c, counted);
	/* Others come right behind it, and one of them may be the right one. */
	t->near_only = true;
	tls_drain(t, time_ns);
	t->near_only = false;
}

static void try_secrets(struct tls *t, const struct secret_set *secrets, uint64_t time_ns,
			uint64_t window)
{
	const struct secret *client = &secrets->secrets[SECRET_CLIENT_TRAFFIC];
	const struct secret *server = &secrets->secrets[SECRET_SERVER_TRAFFIC];

	if (!wants_keys(t) || !client->len || !server->len)
		return;
	trial_clear(&t->trial);
	trial_add_traffic(&t->trial, TLS_CLIENT, client->b, client->len, window);
	trial_add_traffic(&t->trial, TLS_SERVER, server->b, server->len, window);
	tls_drain(t, time_ns);
}

void tls_try_secrets(struct tls *t, const struct secret_set *secrets, uint64_t time_ns)
{
	try_secrets(t, secrets, time_ns, TRIAL_BELOW);
}

void tls_try_secrets_far(struct tls *t, const struct secret_set *secrets, uint64_t time_ns,
			 uint64_t *trials)
{
	uint64_t grant = *trials < TRIAL_FAR ? *trials : TRIAL_FAR;

	/* The rate is for what goes on and on; this ends with the secrets. */
	t->slow = 0;
	t->allowance_time_ns = time_ns;
	t->allowance = grant;
	try_secrets(t, secrets, time_ns, TRIAL_ABOVE);
	*trials -= grant - (t->allowance < grant ? t->allowance : grant);
}

void tls_end(struct tls *t, uint64_t time_ns)
{
	int side;

	tls_drain(t, time_ns);
	for (side = 0; side < 2; side++)
		while (shed(t, side))
			;
}

bool tls_settled(const struct tls *t)
{
	int side;

	for (side = 0; side < 2; side++) {
		const struct tls_side *s = &t->sides[side];

		if (!s->started || !s->number_known || !s->proven || s->head)
			return false;
	}
	return true;
}

uint64_t tls_waiting_since(const struct tls *t, int side)
{
	return t->sides[side].head ? t->sides[side].head->time_ns : 0;
}

bool tls_lacks_keys(const struct tls *t)
{
	int side;

	for (side = 0; side < 2; side++)
		if (t->sides[side].head && !t->sides[side].traffic.suite)
			return true;
	return false;
}

bool tls_stuck(const struct tls *t)
{
	int side;

	for (side = 0; side < 2; side++)
		if (t->sides[side].head && t->allowance && t->trial.count &&
		    t->sides[side].probes[TLS_TIERS - 1].record < TLS_MAX_PROBES)
			return false;
	return true;
}
