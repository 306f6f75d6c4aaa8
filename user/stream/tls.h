/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TLS of one connection: both sides' bytes in, what they said in clear out, one call per record.
 * Records that cannot be read yet wait, within a budget, for the secret or the record number that
 * opens them; the order in which secrets and data come makes no difference.
 *
 * Sides are 0 (client) and 1 (server).
 */
#ifndef DT_STREAM_TLS_H
#define DT_STREAM_TLS_H

#include "stream/cipher.h"
#include "stream/frames.h"
#include "stream/handshake.h"
#include "stream/records.h"
#include "stream/secrets.h"
#include "stream/stream.h"
#include "stream/trial.h"

/* Read whole, with the tag: one record of so many, and all with such a number. */
#define TLS_PROVE_EVERY	64
/* With so many of the waiting records candidates are tried: the first may be no record at all. */
#define TLS_MAX_PROBES	8
/* What every new guess may cost at once: the right one needs a few. */
#define TLS_GRANT	1024
/* Each of them with numbers near the hint first, then with more and more. */
#define TLS_TIERS	3

enum tls_side_name {
	TLS_CLIENT,
	TLS_SERVER,
};

struct tls_sink {
	/* Application data of one record. @tcp_end: position behind the record. */
	void (*plain)(void *ctx, int side, uint64_t time_ns, uint64_t tcp_end,
		      const uint8_t *data, size_t len);
	/*
	 * The same in parts, where the heads of frames are all that is wanted. False: nothing was
	 * taken, and the record comes whole. May be NULL.
	 */
	bool (*heads)(void *ctx, int side, uint64_t time_ns, uint64_t tcp_end,
		      struct derp_parts *parts);
	/* Records that may have held application data were not read: so many bytes of TCP. */
	void (*lost)(void *ctx, int side, uint64_t time_ns, uint64_t bytes);
	/* A ClientHello was read, whose random names the secrets. NULL: there are none. */
	const struct secret_set *(*hello)(void *ctx, const uint8_t random[static 32]);
};

struct tls_item;

/* Candidates are tried with the waiting records, one after the other. */
struct tls_probe {
	unsigned int record;	/* which of them */
	uint64_t step;		/* how far with it; see trial_record() */
};

/* What all connections share. */
struct tls_shared {
	struct cipher_pool *pool;
	uint64_t opened, failed; /* records */
	uint64_t by_heads;	/* of those that were opened */
	uint8_t scratch[TLS_MAX_RECORD]; /* room for a record */
	uint8_t apart[TLS_MAX_RECORD];	/* and for one that is not there whole */
};

/* One side as long as its keys, or its record number, are not known. */
struct tls_side_search {
	struct handshake_messages messages;
	struct tls_item *head, *tail; /* what waits */
	struct cipher handshake;
	struct cipher later;	/* after a KeyUpdate that nobody saw */
	uint64_t handshake_number;
	uint64_t low, high;	/* the number lies between */
	uint64_t guess;		/* and probably here */
	uint64_t hint;		/* as memory told it last; 0: it did not */
	bool hinted;		/* it will be told, or was, and no record was opened since */
	uint64_t step;		/* how many of them were tried with the current record */
	struct tls_probe probes[TLS_TIERS];
	uint64_t probed;	/* generation of the candidates that they are about */
	unsigned int early_failures;
	uint64_t foreign;	/* waiting records that are not under the traffic keys */
};

/* What is needed for a handshake, and wherever keys or numbers are in doubt. */
struct tls_search {
	struct tls_side_search sides[2];
	struct handshake_facts facts;
	struct trial trial;
	const struct secret_set *secrets; /* NULL: not bound */
	uint64_t allowance;	/* trials left */
	uint64_t allowance_time_ns;
	unsigned int slow;	/* halvings of what is allowed, as guesses fail */
	bool near_only;		/* the last tier is for later */
};

/* One side, all that there is of it at rest. */
struct tls_side {
	struct records records;
	struct cipher traffic;
	uint64_t number;	/* of the next record, where it is known */
	uint64_t sealed;	/* sealed records so far */
	uint64_t sealed_bytes;
	unsigned int proven;	/* records read since there was doubt of the keys, or the number */
	bool handshake_done : 1; /* its Finished was read, or cannot be any more */
	bool changed : 1;	/* ChangeCipherSpec was seen */
	bool started : 1;	/* @traffic opened a record */
	bool number_known : 1;
	bool heads : 1;		/* of the last one that could be, no more was read */
};

struct tls {
	struct tls_side sides[2];
	struct tls_search *search; /* NULL: at rest */
	bool midstream;
	bool client_in;		/* the client's bytes come in: the node is the server */
	bool draining;
	struct stream_info *info;
	struct budget *budget;
	struct tls_shared *shared;
	const struct tls_sink *sink;
	void *ctx;
};

struct tls *tls_new(bool midstream, bool client_in, struct stream_info *info,
		    struct budget *budget, struct tls_shared *shared, const struct tls_sink *sink,
		    void *ctx);
/* The same for one that has been elsewhere. */
void tls_tie(struct tls *t, struct stream_info *info, struct budget *budget,
	     struct tls_shared *shared, const struct tls_sink *sink, void *ctx);
/* Wipes every key. */
void tls_free(struct tls *t);

void tls_feed(struct tls *t, int side, uint64_t pos, uint64_t time_ns, const uint8_t *data,
	      size_t len);
void tls_gap(struct tls *t, int side, uint64_t time_ns, uint64_t bytes);

/* A record that comes by its start alone: as capture_segment.head. */
struct tls_head {
	uint64_t pos, time_ns;
	const uint8_t *start;
	size_t have, len;
	uint64_t number;	/* as it was foretold by */
};

/*
 * The next record. Where nobody knew any more where records begin, and with which number, it tells.
 * False, with nothing done, where it is none, or another one.
 */
bool tls_feed_head(struct tls *t, int side, const struct tls_head *head);
/* May the next records come so? *number: the next one's. */
bool tls_reads_heads(const struct tls *t, int side, uint64_t *number);
/* With what the content of records from @number on is masked, at its start. 0 or -errno. */
int tls_masks(struct tls *t, int side, uint64_t number, size_t count, uint8_t (*masks)[5]);

/* The set bound to this connection is there, or has more in it. */
void tls_secrets(struct tls *t, const struct secret_set *secrets, uint64_t time_ns);
/*
 * Is @set this connection's? The first sealed record of a side tells, where its handshake was seen:
 * else numbers near 0 are tried, and false may mean that it is too late for them.
 */
bool tls_fits(struct tls *t, const struct secret_set *set);
/* As tls_secrets(), where it was tls_fits() that told. */
void tls_bind(struct tls *t, const struct secret_set *secrets, uint64_t time_ns);
/* Did a trial show that it is this set's? */
bool tls_uses(const struct tls *t, const struct secret_set *set);
/* A record number will be told by a candidate, soon: less is guessed until then. */
void tls_expect_hint(struct tls *t);
void tls_candidate(struct tls *t, const struct capture_candidate *c, uint64_t time_ns);
/* Traffic secrets that may be this connection's. */
void tls_try_secrets(struct tls *t, const struct secret_set *secrets, uint64_t time_ns);
/* The same, for records of far higher numbers; what it costs comes off *trials. */
void tls_try_secrets_far(struct tls *t, const struct secret_set *secrets, uint64_t time_ns,
			 uint64_t *trials);

/* Goes on with what waits, as far as the allowance of @time_ns goes. */
void tls_drain(struct tls *t, uint64_t time_ns);
/* Nothing comes any more: what waits is lost. */
void tls_end(struct tls *t, uint64_t time_ns);

/*
 * Where keys and numbers of both sides are known and nothing waits, lets go of all that was needed to
 * find them; true: the secrets are of no more use.
 */
bool tls_rest(struct tls *t);

/* Since when the oldest record of @side waits; 0: none does. */
uint64_t tls_waiting_since(const struct tls *t, int side);
/* Does a side wait that has no keys? */
bool tls_lacks_keys(const struct tls *t);
/* Is there nothing left to be tried? */
bool tls_stuck(const struct tls *t);

#endif
