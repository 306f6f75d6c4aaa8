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

	if (!side && type == HANDSHAKE_CLIENT_HELLO) {
		t->sink->hello(t->ctx);
	} else if (type == HANDSHAKE_FINISHED) {
		s->handshake_done = true;
		tls_drop_keys(t, &s->handshake);
	} else if (type == HANDSHAKE_KEY_UPDATE && s->started &&
		   s->traffic.suite->version == TLS_1_3) {
		cipher_set_next(t->shared->pool, &s->traffic);
		s->number = s->hint = 0;
		s->proven = 0;
	}
}

static void sink_lost(struct tls *t, int side, uint64_t time_ns, uint64_t bytes)
{
	t->sink->lost(t->ctx, side, time_ns, bytes);
}

/* --- numbers ------------------------------------------------------------------------------ */

/* It is likely to be @guess now, and lies within what is looked for around it. */
static void set_guess(struct tls_side *s, uint64_t guess)
{
	s->guess = guess;
	if (guess < s->low)
		s->low = guess;
	if (guess + HINT_OFF > s->high)
		s->high = guess + HINT_OFF;
	if (s->high - s->low <= MAX_SEARCH)
		return;
	s->low = guess > MAX_SEARCH / 2 ? guess - MAX_SEARCH / 2 : 0;
	s->high = s->low + MAX_SEARCH;
}

void tls_forget_number(struct tls *t, int side, uint64_t more, uint64_t likely)
{
	struct tls_side *s = &t->sides[side];

	s->proven = 0;
	if (s->number_known) {
		s->low = s->guess = s->high = s->number;
		s->number_known = false;
	}
	s->high += more;
	if (s->high - s->low > MAX_SEARCH)
		s->low = s->high - MAX_SEARCH;
	s->guess += likely;
	if (s->guess > s->high)
		s->guess = s->high;
	if (s->guess < s->low)
		s->guess = s->low;
	if (s->hint > s->low)
		set_guess(s, s->hint);
	s->step = 0;
	tls_drop_keys(t, &s->later);
}

void tls_drop_keys(struct tls *t, struct cipher **keys)
{
	if (*keys)
		cipher_clear(t->shared->pool, *keys);
	free(*keys);
	*keys = NULL;
}

/* Memory tells where a connection whose keys are known stands, a few records ago or ahead. */
void tls_hint_number(struct tls *t, const struct capture_candidate *c)
{
	struct tls_side *s;
	uint64_t behind;
	int side;

	for (side = 0; side < 2; side++) {
		s = &t->sides[side];
		if (!s->started || s->traffic.suite->version != TLS_1_3 ||
		    c->len != cipher_secret_len(s->traffic.suite) ||
		    CRYPTO_memcmp(c->secret, s->traffic.secret, c->len))
			continue;
		behind = s->head && s->head->sealed ? s->sealed - s->head->index : 0;
		s->hint = c->seq > behind ? c->seq - behind : 0;
		if (s->number_known || !s->hint)
			continue;
		set_guess(s, s->hint);
		s->step = 0;
		t->slow = 0;
		if (t->allowance < TLS_GRANT)
			t->allowance = TLS_GRANT;
	}
}

void tls_expect_hint(struct tls *t)
{
	t->slow = MAX_SLOW;
	if (t->allowance > HINT_FIRST)
		t->allowance = HINT_FIRST;
}

/* The n-th guess, from the likely one outwards; false where all of them were made. */
static bool nth_guess(const struct tls_side *s, uint64_t n, uint64_t *number)
{
	uint64_t down = s->guess - s->low, up = s->high - s->guess;
	uint64_t both = down < up ? down : up;

	if (n > s->high - s->low)
		return false;
	if (n <= 2 * both)
		*number = n & 1 ? s->guess + n / 2 + 1 : s->guess - n / 2;
	else
		*number = up > down ? s->guess + (n - both) : s->guess - (n - both);
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
		t->opened++;
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

	handshake_feed(&t->sides[side].messages, side, data, len, t->budget, &t->facts, t->info,
		       &sink);
}

/* What stood in a sealed record. */
static void read_inner(struct tls *t, int side, const struct tls_item *item, uint8_t type,
		       const uint8_t *data, size_t len)
{
	if (type == TLS_APPLICATION)
		t->sink->plain(t->ctx, side, item->time_ns, item->tcp_end, data, len);
	else if (type == TLS_ALERT)
		tls_read_alert(t, side, data, len);
	else if (type == TLS_HANDSHAKE && t->facts.version != TLS_1_2)
		tls_read_handshake(t, side, data, len);
}

static void opened_traffic(struct tls *t, int side, const struct tls_item *item, uint8_t type,
			   size_t len)
{
	struct tls_side *s = &t->sides[side];

	if (!s->started)
		handshake_clear(&s->messages, t->budget);
	s->started = s->handshake_done = true;
	s->number++;
	s->proven++;
	t->info->decrypted = true;
	read_inner(t, side, item, type, t->shared->scratch, len);
}

/* This record is not read; the next ones may be. */
static enum tls_outcome give_up(struct tls *t, int side, const struct tls_item *item)
{
	t->failed++;
	tls_forget_number(t, side, 1, 1);
	sink_lost(t, side, item->time_ns, item->bytes);
	return TLS_READ;
}

static bool spend(struct tls *t)
{
	if (!t->allowance)
		return false;
	t->allowance--;
	return true;
}

/* The keys of try number s->step, and its record number. NULL: there are none. */
static struct cipher *step_keys(struct tls *t, struct tls_side *s, uint64_t span, uint64_t *number)
{
	if (s->step < span) {
		nth_guess(s, s->step, number);
		return &s->traffic;
	}
	*number = s->step % span;
	if (!s->later) {
		s->later = calloc(1, sizeof(*s->later));
		if (!s->later)
			return NULL;
		*s->later = s->traffic;
	}
	if (!*number && cipher_set_next(t->shared->pool, s->later))
		return NULL;
	return s->later;
}

/*
 * The keys are known, the number is not: after a gap, or where the other side's keys came as a by-
 * product. Tries the current keys, then those after KeyUpdates that may have been in the gap.
 */
static enum tls_outcome search_number(struct tls *t, int side, const struct tls_item *item)
{
	struct tls_side *s = &t->sides[side];
	uint64_t span = s->high - s->low + 1, number = 0;
	uint64_t generations = s->traffic.suite->version == TLS_1_3 ? 1 + MAX_UPDATES : 1;
	struct cipher *keys;
	uint8_t type;
	int n;

	for (; s->step < generations * span; s->step++) {
		if (!spend(t))
			return TLS_WAITS;
		keys = step_keys(t, s, span, &number);
		if (!keys)
			break;
		n = open_with(t, keys, number, item, &type);
		if (n < 0)
			continue;
		if (keys == s->later) {
			cipher_clear(t->shared->pool, &s->traffic);
			s->traffic = *s->later;
			memset(s->later, 0, sizeof(*s->later));
		}
		tls_drop_keys(t, &s->later);
		s->number_known = true;
		s->number = number;
		t->slow = 0;
		opened_traffic(t, side, item, type, (size_t)n);
		return TLS_READ;
	}
	if (t->slow < MAX_SLOW)
		t->slow++;
	return give_up(t, side, item);
}

static const struct secret *bound_secret(const struct tls *t, enum secret_kind kind)
{
	return t->secrets && t->secrets->secrets[kind].len ? &t->secrets->secrets[kind] : NULL;
}

static void set_handshake(struct tls_side *s, const struct cipher_suite *suite,
			  const struct secret *secret)
{
	if (!secret || s->handshake || secret->len != cipher_secret_len(suite))
		return;
	s->handshake = calloc(1, sizeof(*s->handshake));
	if (s->handshake)
		cipher_set_traffic(s->handshake, suite, secret->b);
}

static void set_from(struct cipher *c, const struct cipher_suite *suite, const struct secret *s)
{
	if (!c->suite && s && s->len == cipher_secret_len(suite))
		cipher_set_traffic(c, suite, s->b);
}

/* Makes keys of the secrets that are bound, where the ServerHello told how. */
static void prepare(struct tls *t, int side)
{
	const struct cipher_suite *suite = cipher_suite_find(t->facts.cipher);
	const struct secret *master = bound_secret(t, SECRET_MASTER);
	struct tls_side *s = &t->sides[side];

	if (!suite || suite->version != t->facts.version)
		return;
	if (suite->version == TLS_1_3) {
		if (!s->handshake_done)
			set_handshake(s, suite,
				 bound_secret(t, side ? SECRET_SERVER_HANDSHAKE :
							SECRET_CLIENT_HANDSHAKE));
		set_from(&s->traffic, suite, bound_secret(t, side ? SECRET_SERVER_TRAFFIC :
								    SECRET_CLIENT_TRAFFIC));
	} else if (master && !s->traffic.suite) {
		cipher_set_master(&s->traffic, suite, master->b, t->info->client_random,
				  t->facts.server_random, side == TLS_SERVER);
	}
}

/* Secrets are known by name, but not the suite: the ServerHello was not seen. */
static void prepare_blind(struct tls *t)
{
	const struct secret *client = bound_secret(t, SECRET_CLIENT_TRAFFIC);
	const struct secret *server = bound_secret(t, SECRET_SERVER_TRAFFIC);

	if (t->facts.version || t->trial.count || !client || !server)
		return;
	trial_add_traffic(&t->trial, TLS_CLIENT, client->b, client->len, TRIAL_ABOVE);
	trial_add_traffic(&t->trial, TLS_SERVER, server->b, server->len, TRIAL_ABOVE);
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
	int64_t guess = f->other_base + (int64_t)o->sealed;
	bool handshake = found_handshake(t, f);
	uint64_t number;

	/* Records before the first one under these keys are somebody else's: the handshake's. */
	index -= head_index;
	s->foreign = f->number < index ? index - f->number : 0;
	number = f->number - (index - s->foreign);
	t->slow = 0;
	if (handshake) {
		if (!s->handshake)
			s->handshake = calloc(1, sizeof(*s->handshake));
		if (s->handshake)
			*s->handshake = f->keys;
		s->handshake_number = number;
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
		o->guess = guess < 0 ? 0 : (uint64_t)guess;
		o->low = o->guess < TRIAL_BELOW ? 0 : o->guess - TRIAL_BELOW;
		o->high = o->guess + TRIAL_ABOVE;
		o->step = 0;
	}
	s->started = s->handshake_done = s->changed = true;
	OPENSSL_cleanse(f, sizeof(*f));
	if (o->traffic.suite)
		trial_clear(&t->trial);
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
	struct tls_probe *p = &t->sides[side].probes[tier];
	const struct trial_record r = {
		.index = item->index, .header = item->record,
		.body = item->record + WALK_HEADER_LEN, .len = item->bytes - WALK_HEADER_LEN,
	};
	enum trial_result result = trial_record(&t->trial, side, &r, guesses[tier], &p->step,
						&t->allowance, t->shared->scratch, found);

	if (result != TRIAL_NOTHING)
		return result;
	p->record++;
	p->step = 0;
	if (!guesses[tier] && t->slow < MAX_SLOW)
		t->slow++;
	return result;
}

/*
 * Keys and number are both to be found. What is looked for in the wrong record, far and wide, costs
 * the most: the handshake's stand before the first right one. So all are tried a little first.
 */
static enum tls_outcome search_keys(struct tls *t, int side, const struct tls_item *item)
{
	struct tls_side *s = &t->sides[side];
	const struct tls_item *tried;
	struct trial_found found;
	enum trial_result result;
	int tier = 0;

	prepare_blind(t);
	if (s->probed != t->trial.generation) {
		memset(s->probes, 0, sizeof(s->probes));
		s->probed = t->trial.generation;
	}
	while (t->trial.count && tier < TLS_TIERS - t->near_only) {
		tried = probe_item(&s->probes[tier], item);
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
	uint8_t type;
	int n;

	if (s->handshake && !s->handshake_done) {
		n = open_with(t, s->handshake, s->handshake_number, item, &type);
		if (n >= 0) {
			s->handshake_number++;
			read_inner(t, side, item, type, t->shared->scratch, (size_t)n);
			return TLS_READ;
		}
	}
	if (!s->traffic.suite) {
		/* Found in memory, they served their time: others are to be found. */
		if (!t->secrets)
			tls_drop_keys(t, &s->handshake);
		return TLS_WAITS;
	}
	if (!s->number_known && s->high)
		return search_number(t, side, item);
	n = open_with(t, &s->traffic, 0, item, &type);
	if (n >= 0) {
		s->number_known = true;
		s->number = s->hint = 0;
		opened_traffic(t, side, item, type, (size_t)n);
		return TLS_READ;
	}
	/* A record of the handshake, or early data. */
	if (s->early_failures++ < MAX_EARLY)
		return TLS_READ;
	t->failed++;
	sink_lost(t, side, item->time_ns, item->bytes);
	return TLS_READ;
}

enum tls_outcome tls_open(struct tls *t, int side, const struct tls_item *item)
{
	struct tls_side *s = &t->sides[side];
	enum tls_outcome outcome;
	uint8_t type;
	int n;

	if (!s->started)
		prepare(t, side);
	if (!s->traffic.suite && !s->handshake) {
		outcome = search_keys(t, side, item);
		if (outcome == TLS_WAITS)
			return TLS_WAITS;
	}
	if (s->foreign) {
		s->foreign--;
		return TLS_READ;
	}
	if (s->traffic.suite && s->traffic.suite->version == TLS_1_3 && !s->started)
		return open_early(t, side, item);
	if (!s->traffic.suite)
		return s->handshake ? open_early(t, side, item) : TLS_WAITS;
	if (!s->number_known)
		return search_number(t, side, item);
	if (tls_open_heads(t, side, item))
		return TLS_READ;
	n = open_with(t, &s->traffic, s->number, item, &type);
	if (n < 0) {
		tls_forget_number(t, side, 1, 0);
		return search_number(t, side, item);
	}
	opened_traffic(t, side, item, type, (size_t)n);
	return TLS_READ;
}

