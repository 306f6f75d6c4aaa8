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
/* Two records, two suites, every number up to TRIAL_ABOVE. */
#define TRIAL_FAR	(4 * (TRIAL_ABOVE + TRIAL_BELOW + 1))

/* --- items -------------------------------------------------------------------------------- */

static bool is_sealed(const struct tls *t, int side, uint8_t type)
{
	const struct tls_side *s = &t->sides[side];

	if (type == TLS_APPLICATION)
		return true;
	return tls_version(t, side) == TLS_1_2 && (s->changed || s->started) &&
	       type != TLS_CHANGE_CIPHER;
}

static void change_cipher(struct tls *t, int side)
{
	struct tls_side *s = &t->sides[side];
	struct tls_side_search *q;

	if (s->changed)
		return;
	s->changed = true;
	if (s->sealed)
		return;
	/* Whatever was missed, nothing sealed was: this is before the first. */
	q = &t->search->sides[side];
	q->low = q->high = q->guess = s->number = 0;
	s->handshake_done = false;
	/* Of TLS 1.3 it is only for show: no keys change here. */
	s->number_known = t->search->facts.version == TLS_1_2;
}

/* An alert that nobody can read ends a handshake all the same. */
static void note_hidden_alert(struct tls *t, int side, const struct tls_item *item)
{
	uint64_t body = item->bytes - WALK_HEADER_LEN;
	bool alert = body == ALERT_13;

	if (tls_version(t, side) == TLS_1_2)
		alert = item->record[0] == TLS_ALERT &&
			(body == ALERT_12_GCM || body == ALERT_12_CHACHA);
	if (!alert || t->info->stage != STREAM_TLS || t->info->decrypted ||
	    (t->search && t->search->sides[side].handshake_number))
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

	if (t->search)
		handshake_clear(&t->search->sides[side].messages, t->budget);
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

static struct tls_item *first(const struct tls *t, int side)
{
	return t->search ? t->search->sides[side].head : NULL;
}

static struct tls_item *pop(struct tls *t, int side)
{
	struct tls_side_search *q = &t->search->sides[side];
	struct tls_item *item = q->head;

	q->head = item->next;
	if (!q->head)
		q->tail = NULL;
	budget_give(t->budget, item_cost(item));
	return item;
}

/* The first of the waiting records is none any more. */
static void probes_shift(struct tls_side_search *q)
{
	int i;

	for (i = 0; i < TLS_TIERS; i++) {
		if (q->probes[i].record)
			q->probes[i].record--;
		else
			q->probes[i].step = 0;
	}
}

/* Makes room by losing the oldest record that waits. False where none does. */
static bool shed(struct tls *t, int side)
{
	struct tls_item *item;

	if (!first(t, side))
		return false;
	item = pop(t, side);
	if (item->kind == TLS_RECORD) {
		item->kind = TLS_LOST;
		probes_shift(&t->search->sides[side]);
	}
	process_loss(t, side, item);
	free(item);
	return true;
}

static void enqueue(struct tls *t, int side, const struct tls_item *item)
{
	struct tls_search *search = tls_search(t);
	size_t cost = item_cost(item);
	struct tls_item *copy = NULL;
	struct tls_side_search *q;

	if (!search)
		goto lost;
	q = &search->sides[side];
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
	if (q->tail)
		q->tail->next = copy;
	else
		q->head = copy;
	q->tail = copy;
	return;
lost:
	process_loss(t, side, &(struct tls_item){
		.kind = item->kind == TLS_UNKNOWN ? TLS_UNKNOWN : TLS_LOST,
		.sealed = item->sealed, .time_ns = item->time_ns, .bytes = item->bytes });
}

static void refill(struct tls_search *s, uint64_t time_ns)
{
	uint64_t rate, ns;

	if (!s || time_ns <= s->allowance_time_ns)
		return;
	rate = TRIAL_RATE >> s->slow;
	ns = time_ns - s->allowance_time_ns;
	if (ns < 1000000)
		return;
	if (ns > 10000000000ULL)
		ns = 10000000000ULL;
	s->allowance_time_ns = time_ns;
	s->allowance += rate * (ns / 1000000) / 1000 + 1;
	if (s->allowance > TRIAL_BURST)
		s->allowance = TRIAL_BURST;
}

void tls_drain(struct tls *t, uint64_t time_ns)
{
	bool waits[2] = { false, false };

	if (t->draining || !t->search)
		return;
	t->draining = true;
	refill(t->search, time_ns);
	/* In the order in which both sides spoke: an answer is read after its question. */
	for (;;) {
		struct tls_item *a = waits[0] ? NULL : first(t, 0);
		struct tls_item *b = waits[1] ? NULL : first(t, 1);
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

	item->sealed = item->kind != TLS_UNKNOWN && is_sealed(t, side, type);
	if (item->sealed) {
		item->index = s->sealed++;
		s->sealed_bytes += item->bytes;
	}
	if (first(t, side))
		tls_drain(t, item->time_ns);
	/* What waits must be there whole. */
	if (item->have && (first(t, side) || t->draining || !tls_open_heads(t, side, item))) {
		item->kind = TLS_LOST;
		item->have = 0;
	} else if (item->have) {
		return;
	}
	if (first(t, side) || t->draining || process(t, side, item) == TLS_WAITS)
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

struct tls_search *tls_search(struct tls *t)
{
	if (!t->search) {
		t->search = calloc(1, sizeof(*t->search));
		if (!t->search)
			return NULL;
		t->search->trial.pool = t->shared->pool;
		t->search->allowance = TRIAL_BURST;
	}
	return t->search;
}

static void end_search(struct tls *t)
{
	struct tls_search *search = t->search;
	int side;

	for (side = 0; search && side < 2; side++) {
		struct tls_side_search *q = &search->sides[side];

		while (q->head)
			free(pop(t, side));
		handshake_clear(&q->messages, t->budget);
		cipher_clear(t->shared->pool, &q->handshake);
		cipher_clear(t->shared->pool, &q->later);
	}
	if (search) {
		trial_clear(&search->trial);
		OPENSSL_cleanse(search, sizeof(*search));
	}
	free(search);
	t->search = NULL;
}

void tls_tie(struct tls *t, struct stream_info *info, struct budget *budget,
	     struct tls_shared *shared, const struct tls_sink *sink, void *ctx)
{
	t->info = info;
	t->budget = budget;
	t->shared = shared;
	t->sink = sink;
	t->ctx = ctx;
}

struct tls *tls_new(bool midstream, bool client_in, struct stream_info *info,
		    struct budget *budget, struct tls_shared *shared, const struct tls_sink *sink,
		    void *ctx)
{
	struct tls *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->midstream = midstream;
	t->client_in = client_in;
	tls_tie(t, info, budget, shared, sink, ctx);
	t->sides[0].records.scanning = t->sides[1].records.scanning = midstream;
	if (tls_search(t))
		return t;
	free(t);
	return NULL;
}

void tls_free(struct tls *t)
{
	int side;

	if (!t)
		return;
	end_search(t);
	for (side = 0; side < 2; side++) {
		records_clear(&t->sides[side].records, t->budget);
		cipher_clear(t->shared->pool, &t->sides[side].traffic);
	}
	OPENSSL_cleanse(t, sizeof(*t));
	free(t);
}

static struct records_host records_of(struct tls *t, int side)
{
	static const struct records_sink sink = { on_record, on_lost, on_unknown };

	return (struct records_host){ .side = side, .budget = t->budget, .sink = &sink, .ctx = t };
}

void tls_feed(struct tls *t, int side, uint64_t pos, uint64_t time_ns, const uint8_t *data,
	      size_t len)
{
	const struct records_host host = records_of(t, side);

	refill(t->search, time_ns);
	records_feed(&t->sides[side].records, &host, pos, time_ns, data, len);
}

/* After a loss: where it is the record that was foretold, all is known again. */
static bool resume_with(struct tls *t, int side, const struct tls_head *head,
			const struct tls_item *item)
{
	const struct records_host host = records_of(t, side);
	struct tls_side *s = &t->sides[side];

	if (!tls_is_foretold(t, side, item, head->number))
		return false;
	while (shed(t, side))
		;
	records_resume(&s->records, &host, head->time_ns);
	tls_set_number(t, side, head->number);
	return true;
}

bool tls_feed_head(struct tls *t, int side, const struct tls_head *head)
{
	struct tls_item item = { .kind = TLS_RECORD, .time_ns = head->time_ns,
				 .tcp_end = head->pos + head->len, .bytes = head->len,
				 .record = head->start, .have = head->have };
	const struct tls_side *s = &t->sides[side];

	if (head->have <= WALK_HEADER_LEN || t->draining || !records_fits(head->start, head->len))
		return false;
	refill(t->search, head->time_ns);
	if ((!records_at_boundary(&s->records) || !s->number_known) &&
	    !resume_with(t, side, head, &item))
		return false;
	handle(t, side, head->start[0], &item);
	return true;
}

bool tls_reads_heads(const struct tls *t, int side, uint64_t *number)
{
	const struct tls_side *s = &t->sides[side];

	*number = s->number;
	return s->heads && s->number_known && !first(t, side) && records_at_boundary(&s->records);
}

int tls_masks(struct tls *t, int side, uint64_t number, size_t count, uint8_t (*masks)[5])
{
	return cipher_masks(t->shared->pool, &t->sides[side].traffic, number, count, masks);
}

void tls_gap(struct tls *t, int side, uint64_t time_ns, uint64_t bytes)
{
	const struct records_host host = records_of(t, side);

	records_gap(&t->sides[side].records, &host, time_ns, bytes);
}

void tls_secrets(struct tls *t, const struct secret_set *secrets, uint64_t time_ns)
{
	if (t->search)
		t->search->secrets = secrets;
	tls_drain(t, time_ns);
}

void tls_bind(struct tls *t, const struct secret_set *secrets, uint64_t time_ns)
{
	/* What memory showed is not needed any more, and in the way of these. */
	if (t->search) {
		trial_clear(&t->search->trial);
		tls_grant(t->search);
	}
	tls_secrets(t, secrets, time_ns);
}

static bool wants_keys(const struct tls *t)
{
	return !t->sides[0].traffic.suite || !t->sides[1].traffic.suite;
}

void tls_candidate(struct tls *t, const struct capture_candidate *c, uint64_t time_ns)
{
	const uint64_t counted[2] = { t->sides[0].sealed, t->sides[1].sealed };
	struct tls_search *s = t->search;

	if (!s)
		return;
	tls_hint_number(t, c);
	if (!wants_keys(t)) {
		tls_drain(t, time_ns);
		return;
	}
	tls_grant(s);
	trial_add(&s->trial, c, counted);
	/* Others come right behind it, and one of them may be the right one. */
	s->near_only = true;
	tls_drain(t, time_ns);
	s->near_only = false;
}

static void try_secrets(struct tls *t, const struct secret_set *secrets, uint64_t time_ns,
			uint64_t window)
{
	const struct secret *client = &secrets->secrets[SECRET_CLIENT_TRAFFIC];
	const struct secret *server = &secrets->secrets[SECRET_SERVER_TRAFFIC];

	if (!wants_keys(t) || !client->len || !server->len)
		return;
	trial_clear(&t->search->trial);
	trial_add_traffic(&t->search->trial, TLS_CLIENT, client->b, client->len, window);
	trial_add_traffic(&t->search->trial, TLS_SERVER, server->b, server->len, window);
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
	struct tls_search *s = t->search;

	if (!s)
		return;
	/* The rate is for what goes on and on; this ends with the secrets. */
	s->slow = 0;
	s->allowance_time_ns = time_ns;
	s->allowance = grant;
	try_secrets(t, secrets, time_ns, TRIAL_ABOVE);
	*trials -= grant - (s->allowance < grant ? s->allowance : grant);
}

void tls_end(struct tls *t, uint64_t time_ns)
{
	int side;

	tls_drain(t, time_ns);
	for (side = 0; side < 2; side++)
		while (shed(t, side))
			;
}

static bool is_settled(const struct tls *t, int side)
{
	const struct tls_side_search *q = &t->search->sides[side];
	const struct tls_side *s = &t->sides[side];

	return s->started && s->number_known && s->proven && !q->hinted && !q->head &&
	       !q->messages.buf && !q->messages.skip;
}

bool tls_rest(struct tls *t)
{
	if (!t->search)
		return true;
	if (!is_settled(t, TLS_CLIENT) || !is_settled(t, TLS_SERVER))
		return false;
	end_search(t);
	return true;
}

uint64_t tls_waiting_since(const struct tls *t, int side)
{
	return first(t, side) ? first(t, side)->time_ns : 0;
}

bool tls_lacks_keys(const struct tls *t)
{
	int side;

	for (side = 0; side < 2; side++)
		if (first(t, side) && !t->sides[side].traffic.suite)
			return true;
	return false;
}

bool tls_stuck(const struct tls *t)
{
	const struct tls_search *s = t->search;
	int side;

	for (side = 0; side < 2; side++)
		if (first(t, side) && s->allowance && s->trial.count &&
		    s->sides[side].probes[TLS_TIERS - 1].record < TLS_MAX_PROBES)
			return false;
	return true;
}
