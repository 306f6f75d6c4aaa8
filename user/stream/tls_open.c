// SPDX-License-Identifier: BSD-2-Clause
/* TLS keys and record numbers: which open a record, and what to do where they are not known. */
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "stream/tls_item.h"

/* Numbers further off than this are not looked for. */
#define MAX_SEARCH	(1 << 20)
/* So far a number read from memory may be behind. */
#define HINT_OFF	4096
/* Until it is read, so many are tried. */
#define HINT_FIRST	128
/* Each exhausted search halves what is allowed. */
#define MAX_SLOW	6
/* Unreadable records that still pass for a handshake. */
#define MAX_EARLY	16
/* So many KeyUpdates may have been in one gap. */
#define MAX_UPDATES	3

static void on_message(void *ctx, int side, uint8_t type)
{
	struct tls *t = ctx;
	struct tls_side *s = &t->sides[side];
	struct tls_side_search *q = &t->search->sides[side];

	if (!side && type == HANDSHAKE_CLIENT_HELLO) {
		t->search->secrets = t->sink->hello(t->ctx, t->search->facts.client_random);
	} else if (type == HANDSHAKE_FINISHED) {
		s->handshake_done = true;
		cipher_clear(t->shared->pool, &q->handshake);
	} else if (type == HANDSHAKE_KEY_UPDATE && s->started &&
		   s->traffic.suite->version == TLS_1_3) {
		if (cipher_set_next(t->shared->pool, &s->traffic))
			s->started = s->number_known = false;
		s->number = q->hint = 0;
		s->proven = 0;
		s->heads = false;
	}
}

static void sink_lost(struct tls *t, int side, uint64_t time_ns, uint64_t bytes)
{
	t->sink->lost(t->ctx, side, time_ns, bytes);
}

/* --- numbers ------------------------------------------------------------------------------ */

/* It is likely to be @guess now, and lies within what is looked for around it. */
static void set_guess(struct tls_side_search *q, uint64_t guess)
{
	q->guess = guess;
	if (guess < q->low)
		q->low = guess;
	if (guess + HINT_OFF > q->high)
		q->high = guess + HINT_OFF;
	if (q->high - q->low <= MAX_SEARCH)
		return;
	q->low = guess > MAX_SEARCH / 2 ? guess - MAX_SEARCH / 2 : 0;
	q->high = q->low + MAX_SEARCH;
}

void tls_forget_number(struct tls *t, int side, uint64_t more, uint64_t likely)
{
	struct tls_search *search = tls_search(t);
	struct tls_side *s = &t->sides[side];
	struct tls_side_search *q;

	s->proven = 0;
	s->heads = false;
	if (!search)
		return;
	q = &search->sides[side];
	if (s->number_known) {
		q->low = q->guess = q->high = s->number;
		s->number_known = false;
	}
	q->high += more;
	if (q->high - q->low > MAX_SEARCH)
		q->low = q->high - MAX_SEARCH;
	q->guess += likely;
	if (q->guess > q->high)
		q->guess = q->high;
	if (q->guess < q->low)
		q->guess = q->low;
	if (q->hint > q->low)
		set_guess(q, q->hint);
	q->step = 0;
	cipher_clear(t->shared->pool, &q->later);
}

void tls_set_number(struct tls *t, int side, uint64_t number)
{
	struct tls_side *s = &t->sides[side];

	s->number_known = true;
	s->number = number;
	if (!t->search)
		return;
	t->search->sides[side].step = 0;
	t->search->slow = 0;
	cipher_clear(t->shared->pool, &t->search->sides[side].later);
}

/* Memory tells where a connection whose keys are known stands, a few records ago or ahead. */
void tls_hint_number(struct tls *t, const struct capture_candidate *c)
{
	uint64_t behind;
	int side;

	for (side = 0; side < 2; side++) {
		struct tls_side_search *q = &t->search->sides[side];
		struct tls_side *s = &t->sides[side];

		if (!s->started || s->traffic.suite->version != TLS_1_3 ||
		    c->len != cipher_secret_len(s->traffic.suite) ||
		    CRYPTO_memcmp(c->secret, s->traffic.secret, c->len))
			continue;
		behind = q->head && q->head->sealed ? s->sealed - q->head->index : 0;
		q->hint = c->seq > behind ? c->seq - behind : 0;
		if (s->number_known || !q->hint)
			continue;
		set_guess(q, q->hint);
		q->step = 0;
		tls_grant(t->search);
	}
}

void tls_expect_hint(struct tls *t)
{
	struct tls_search *s = tls_search(t);

	if (!s)
		return;
	s->sides[0].hinted = s->sides[1].hinted = true;
	s->slow = MAX_SLOW;
	if (s->allowance > HINT_FIRST)
		s->allowance = HINT_FIRST;
}

/* The n-th guess, from the likely one outwards; false where all of them were made. */
static bool nth_guess(const struct tls_side_search *q, uint64_t n, uint64_t *number)
{
	uint64_t down = q->guess - q->low, up = q->high - q->guess;
	uint64_t both = down < up ? down : up;

	if (n > q->high - q->low)
		return false;
	if (n <= 2 * both)
		*number = n & 1 ? q->guess + n / 2 + 1 : q->guess - n / 2;
	else
		*number = up > down ? q->guess + (n - both) : q->guess - (n - both);
	return true;
}

/* --- opening ------------------------------------------------------------------------------ */

static int open_with(struct tls *t, struct cipher *keys, uint64_t number,
		     const struct tls_item *item, uint8_t *type)
{
	int n = cipher_open(t->shared->pool, keys, number, item->record,
			    item->record + WALK_HEADER_LEN, item->bytes - WALK_HEADER_LEN,
			    t->shared->scratch, type);

	if (n >= 0)
		t->shared->opened++;
	return n;
}

void tls_read_alert(struct tls *t, int side, const uint8_t *data, size_t len)
{
	if (len != 2)
		return;
	t->info->tls_alert = data[1];
	t->info->tls_alert_dir = (side == TLS_CLIENT) == t->client_in ? CAPTURE_IN : CAPTURE_OUT;
}

void tls_read_handshake(struct tls *t, int side, const uint8_t *data, size_t len)
{
	const struct handshake_sink sink = { .ctx = t, .message = on_message };
	struct tls_search *s = tls_search(t);

	if (s)
		handshake_feed(&s->sides[side].messages, side, data, len, t->budget, &s->facts,
			       t->info, &sink);
}

/* What stood in a sealed record. */
static void read_inner(struct tls *t, int side, const struct tls_item *item, uint8_t type,
		       const uint8_t *data, size_t len)
{
	if (type == TLS_APPLICATION)
		t->sink->plain(t->ctx, side, item->time_ns, item->tcp_end, data, len);
	else if (type == TLS_ALERT)
		tls_read_alert(t, side, data, len);
	else if (type == TLS_HANDSHAKE && tls_version(t, side) != TLS_1_2)
		tls_read_handshake(t, side, data, len);
}

static void opened_traffic(struct tls *t, int side, const struct tls_item *item, uint8_t type,
			   size_t len)
{
	struct tls_side *s = &t->sides[side];

	if (!s->started)
		handshake_clear(&t->search->sides[side].messages, t->budget);
	if (t->search)
		t->search->sides[side].hinted = false;
	s->started = s->handshake_done = true;
	s->number++;
	s->proven++;
	t->info->decrypted = true;
	read_inner(t, side, item, type, t->shared->scratch, len);
}

/* This record is not read; the next ones may be. */
static enum tls_outcome give_up(struct tls *t, int side, const struct tls_item *item)
{
	t->shared->failed++;
	tls_forget_number(t, side, 1, 1);
	sink_lost(t, side, item->time_ns, item->bytes);
	return TLS_READ;
}

static bool spend(struct tls_search *s)
{
	if (!s->allowance)
		return false;
	s->allowance--;
	return true;
}

/* The keys of the next try, and its record number. NULL: there are none. */
static struct cipher *step_keys(struct tls *t, int side, uint64_t span, uint64_t *number)
{
	struct tls_side_search *q = &t->search->sides[side];

	if (q->step < span) {
		nth_guess(q, q->step, number);
		return &t->sides[side].traffic;
	}
	*number = q->step % span;
	if (!q->later.suite)
		q->later = t->sides[side].traffic;
	if (!*number && cipher_set_next(t->shared->pool, &q->later))
		return NULL;
	return &q->later;
}

/*
 * The keys are known, the number is not: after a gap, or where the other side's keys came as a by-
 * product. Tries the current keys, then those after KeyUpdates that may have been in the gap.
 */
static enum tls_outcome search_number(struct tls *t, int side, const struct tls_item *item)
{
	struct tls_side *s = &t->sides[side];
	struct tls_side_search *q = &t->search->sides[side];
	uint64_t span = q->high - q->low + 1, number = 0;
	uint64_t generations = s->traffic.suite->version == TLS_1_3 ? 1 + MAX_UPDATES : 1;
	struct cipher *keys;
	uint8_t type;
	int n;

	for (; q->step < generations * span; q->step++) {
		if (!spend(t->search))
			return TLS_WAITS;
		keys = step_keys(t, side, span, &number);
		if (!keys)
			break;
		n = open_with(t, keys, number, item, &type);
		if (n < 0)
			continue;
		if (keys == &q->later) {
			cipher_clear(t->shared->pool, &s->traffic);
			s->traffic = q->later;
			OPENSSL_cleanse(&q->later, sizeof(q->later));
		}
		cipher_clear(t->shared->pool, &q->later);
		s->number_known = true;
		s->number = number;
		t->search->slow = 0;
		opened_traffic(t, side, item, type, (size_t)n);
		return TLS_READ;
	}
	if (t->search->slow < MAX_SLOW)
		t->search->slow++;
	return give_up(t, side, item);
}

static const struct secret *bound_secret(const struct tls *t, enum secret_kind kind)
{
	const struct secret_set *set = t->search->secrets;

	return set && set->secrets[kind].len ? &set->secrets[kind] : NULL;
}

static void set_from(struct cipher *c, const struct cipher_suite *suite, const struct secret *s)
{
	if (!c->suite && s && s->len == cipher_secret_len(suite))
		cipher_set_traffic(c, suite, s->b);
}

/* Makes keys of the secrets that are bound, where the ServerHello told how. */
static void prepare(struct tls *t, int side)
{
	const struct handshake_facts *facts = &t->search->facts;
	const struct cipher_suite *suite = cipher_suite_find(facts->cipher);
	const struct secret *master = bound_secret(t, SECRET_MASTER);
	struct tls_side *s = &t->sides[side];

	if (!suite || suite->version != facts->version)
		return;
	if (suite->version == TLS_1_3) {
		if (!s->handshake_done)
			set_from(&t->search->sides[side].handshake, suite,
				 bound_secret(t, side ? SECRET_SERVER_HANDSHAKE :
							SECRET_CLIENT_HANDSHAKE));
		set_from(&s->traffic, suite, bound_secret(t, side ? SECRET_SERVER_TRAFFIC :
								    SECRET_CLIENT_TRAFFIC));
	} else if (master && !s->traffic.suite) {
		cipher_set_master(&s->traffic, suite, master->b, t->search->secrets->random,
				  facts->server_random, side == TLS_SERVER);
	}
}

/* Secrets are known by name, but not the suite: the ServerHello was not seen. */
static void prepare_blind(struct tls *t)
{
	const struct secret *client = bound_secret(t, SECRET_CLIENT_TRAFFIC);
	const struct secret *server = bound_secret(t, SECRET_SERVER_TRAFFIC);

	struct trial *trial = &t->search->trial;

	if (t->search->facts.version || trial->count || !client || !server)
		return;
	trial_add_traffic(trial, TLS_CLIENT, client->b, client->len, TRIAL_ABOVE);
	trial_add_traffic(trial, TLS_SERVER, server->b, server->len, TRIAL_ABOVE);
}

/* Memory was read in the middle of a handshake: its own keys were found there, not those to come. */
static bool found_handshake(const struct tls *t, const struct trial_found *f)
{
	uint8_t message = t->shared->scratch[0];

	return f->type == TLS_HANDSHAKE && f->keys.suite->version == TLS_1_3 &&
	       message != HANDSHAKE_NEW_TICKET && message != HANDSHAKE_KEY_UPDATE;
}

static void take_found(struct tls *t, int side, struct trial_found *f, uint64_t index,
		       uint64_t head_index)
{
	struct tls_side *s = &t->sides[side], *o = &t->sides[!side];
	struct tls_side_search *q = &t->search->sides[side], *p = &t->search->sides[!side];
	int64_t guess = f->other_base + (int64_t)o->sealed;
	bool handshake = found_handshake(t, f);
	uint64_t number;

	/* Records before the first one under these keys are somebody else's: the handshake's. */
	index -= head_index;
	q->foreign = f->number < index ? index - f->number : 0;
	number = f->number - (index - q->foreign);
	t->search->slow = 0;
	if (handshake) {
		q->handshake = f->keys;
		q->handshake_number = number;
		s->handshake_done = false;
		OPENSSL_cleanse(f, sizeof(*f));
		return;
	}
	s->traffic = f->keys;
	s->number = number;
	s->number_known = true;
	t->info->tls_version = s->traffic.suite->version;
	if (f->other.suite) {
		cipher_clear(t->shared->pool, &o->traffic);
		o->traffic = f->other;
		o->number_known = false;
		o->started = o->handshake_done = o->changed = true;
		p->guess = guess < 0 ? 0 : (uint64_t)guess;
		p->low = p->guess < TRIAL_BELOW ? 0 : p->guess - TRIAL_BELOW;
		p->high = p->guess + TRIAL_ABOVE;
		p->step = 0;
	}
	s->started = s->handshake_done = s->changed = true;
	OPENSSL_cleanse(f, sizeof(*f));
	if (o->traffic.suite)
		trial_clear(&t->search->trial);
}

/* One of the waiting records, or this one where none waits. NULL: there is no such record. */
static const struct tls_item *probe_item(const struct tls_probe *p, const struct tls_item *first)
{
	unsigned int n = p->record;

	if (n >= TLS_MAX_PROBES)
		return NULL;
	while (first && (n || first->kind != TLS_RECORD)) {
		if (first->kind == TLS_RECORD)
			n--;
		first = first->next;
	}
	return first;
}

static enum trial_result probe_record(struct tls *t, int side, int tier,
				      const struct tls_item *item, struct trial_found *found)
{
	static const uint64_t guesses[TLS_TIERS] = { 16, 128, 0 };
	struct tls_search *s = t->search;
	struct tls_probe *p = &s->sides[side].probes[tier];
	const struct trial_record r = {
		.index = item->index, .header = item->record,
		.body = item->record + WALK_HEADER_LEN, .len = item->bytes - WALK_HEADER_LEN,
	};
	enum trial_result result = trial_record(&s->trial, side, &r, guesses[tier], &p->step,
						&s->allowance, t->shared->scratch, found);

	if (result != TRIAL_NOTHING)
		return result;
	p->record++;
	p->step = 0;
	if (!guesses[tier] && s->slow < MAX_SLOW)
		s->slow++;
	return result;
}

/*
 * Keys and number are both to be found. What is looked for in the wrong record, far and wide, costs
 * the most: the handshake's stand before the first right one. So all are tried a little first.
 */
static enum tls_outcome search_keys(struct tls *t, int side, const struct tls_item *item)
{
	struct tls_search *s = t->search;
	struct tls_side_search *q = &s->sides[side];
	const struct tls_item *tried;
	struct trial_found found;
	enum trial_result result;
	int tier = 0;

	prepare_blind(t);
	if (q->probed != s->trial.generation) {
		memset(q->probes, 0, sizeof(q->probes));
		q->probed = s->trial.generation;
	}
	while (s->trial.count && tier < TLS_TIERS - s->near_only) {
		tried = probe_item(&q->probes[tier], item);
		if (!tried) {
			tier++;
			continue;
		}
		result = probe_record(t, side, tier, tried, &found);
		if (result == TRIAL_LATER)
			return TLS_WAITS;
		if (result == TRIAL_FOUND) {
			take_found(t, side, &found, tried->index, item->index);
			return TLS_READ;
		}
	}
	return TLS_WAITS;
}

/* TLS 1.3, and no record of this side was opened with its traffic keys yet. */
static enum tls_outcome open_early(struct tls *t, int side, const struct tls_item *item)
{
	struct tls_side *s = &t->sides[side];
	struct tls_side_search *q = &t->search->sides[side];
	uint8_t type;
	int n;

	if (q->handshake.suite && !s->handshake_done) {
		n = open_with(t, &q->handshake, q->handshake_number, item, &type);
		if (n >= 0) {
			q->handshake_number++;
			read_inner(t, side, item, type, t->shared->scratch, (size_t)n);
			return TLS_READ;
		}
	}
	if (!s->traffic.suite) {
		/* Found in memory, they served their time: others are to be found. */
		if (!t->search->secrets)
			cipher_clear(t->shared->pool, &q->handshake);
		return TLS_WAITS;
	}
	if (!s->number_known && q->high)
		return search_number(t, side, item);
	n = open_with(t, &s->traffic, 0, item, &type);
	if (n >= 0) {
		s->number_known = true;
		s->number = q->hint = 0;
		opened_traffic(t, side, item, type, (size_t)n);
		return TLS_READ;
	}
	/* A record of the handshake, or early data. */
	if (q->early_failures++ < MAX_EARLY)
		return TLS_READ;
	t->shared->failed++;
	sink_lost(t, side, item->time_ns, item->bytes);
	return TLS_READ;
}

/* Keys and number are known. */
static enum tls_outcome open_next(struct tls *t, int side, const struct tls_item *item)
{
	struct tls_side *s = &t->sides[side];
	uint8_t type;
	int n;

	if (tls_open_heads(t, side, item))
		return TLS_READ;
	n = open_with(t, &s->traffic, s->number, item, &type);
	if (n >= 0) {
		opened_traffic(t, side, item, type, (size_t)n);
		return TLS_READ;
	}
	tls_forget_number(t, side, 1, 0);
	return s->number_known ? give_up(t, side, item) : search_number(t, side, item);
}

/* Keys, or the number, may have to be found first. */
static enum tls_outcome open_searching(struct tls *t, int side, const struct tls_item *item)
{
	struct tls_side *s = &t->sides[side];
	struct tls_side_search *q = &t->search->sides[side];

	if (!s->started)
		prepare(t, side);
	if (!s->traffic.suite && !q->handshake.suite &&
	    search_keys(t, side, item) == TLS_WAITS)
		return TLS_WAITS;
	if (q->foreign) {
		q->foreign--;
		return TLS_READ;
	}
	if (s->traffic.suite && s->traffic.suite->version == TLS_1_3 && !s->started)
		return open_early(t, side, item);
	if (!s->traffic.suite)
		return q->handshake.suite ? open_early(t, side, item) : TLS_WAITS;
	return s->number_known ? open_next(t, side, item) : search_number(t, side, item);
}

enum tls_outcome tls_open(struct tls *t, int side, const struct tls_item *item)
{
	return t->search ? open_searching(t, side, item) : open_next(t, side, item);
}

uint16_t tls_version(const struct tls *t, int side)
{
	const struct tls_side *s = &t->sides[side];

	if (s->started)
		return s->traffic.suite->version;
	return t->search ? t->search->facts.version : 0;
}
