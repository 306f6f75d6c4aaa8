/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What packets carry: bytes that look like a Tailscale client's to whoever looks at their start,
 * and that tell the receiver which packet of the pair it is and whether a bit was changed or the
 * packet was given to the wrong peer. From PAYLOAD_NUMBERED bytes on a payload has a sequence
 * number; shorter ones are only counted.
 *
 *	wg      0: 4 (LE32)  4: receiver index (LE32)  8: sequence (LE64)  16: checksum  24: random
 *	wginit  0: 1 (LE32)  4: sender index (LE32)    8: sequence (LE64)  16: checksum  24: random
 *	disco   0: "TS💬"    6: sender's disco key    38: sequence (LE64)  46: checksum  54: tag of
 *	        the pair, the end of the 24-byte nonce 62: random
 *	zero    zero bytes, all alike on purpose: only counted
 *
 * Where eight random bytes or more stand in it, the last eight are the time at which it was made.
 */
#ifndef DERPLOAD_PAYLOAD_H
#define DERPLOAD_PAYLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAYLOAD_NUMBERED 24
#define PAYLOAD_WGINIT_LEN 148
#define PAYLOAD_DISCO_MIN 62
/* Sequence numbers are below this: what a receiver must be able to remember per pair. */
#define PAYLOAD_SEQ_MAX (1ull << 28)

enum payload_kind {
	PAYLOAD_WG,
	PAYLOAD_DISCO,
	PAYLOAD_WGINIT,
	PAYLOAD_ZERO,
	PAYLOAD_MIXED,		/* a choice, not a form: 5 of 8 wg, 2 disco, 1 wginit */
};

/* wg, disco, wginit, zero, mixed. False if it is none of them. */
bool payload_kind_parse(const char *s, enum payload_kind *kind);

/* What stands for the directed pair in its payloads; both ends compute the same. */
struct payload_pair {
	uint64_t salt;			/* of both keys */
	uint64_t sender;		/* of the source alone: its disco key */
};
struct payload_pair payload_pair(const uint8_t src[static 32], const uint8_t dst[static 32]);

/* What the nth packet of a pair is: chosen by seed, pair and ordinal alone. */
struct payload_plan {
	enum payload_kind kind;		/* never PAYLOAD_MIXED */
	uint32_t len;
	bool numbered;
};
struct payload_plan payload_plan(enum payload_kind kind, uint32_t min, uint32_t max,
				 uint64_t seed, const struct payload_pair *pair,
				 uint64_t ordinal);

/* Writes the payload; seq is the sequence number, or for short ones a count of those. */
void payload_write(uint8_t *p, const struct payload_plan *plan, uint64_t seed,
		   const struct payload_pair *pair, uint64_t seq, uint64_t now_ns);

enum payload_verdict {
	PAYLOAD_OK,		/* numbered, intact: *said is set */
	PAYLOAD_UNNUMBERED,	/* short or zero: nothing more to say */
	PAYLOAD_CORRUPT,	/* changed on the way, for another pair, or not ours at all */
};
/* What stands in a numbered one. */
struct payload_said {
	uint64_t seq;
	uint64_t made_ns;		/* 0: no room for it */
	bool disco;
};
enum payload_verdict payload_check(const uint8_t *p, size_t len,
				   const struct payload_pair *pair, struct payload_said *said);

/* A 64-bit mixer, for whoever needs a deterministic choice. */
uint64_t payload_mix(uint64_t a, uint64_t b);

#endif
