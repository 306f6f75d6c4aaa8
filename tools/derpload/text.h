/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Words to values, strictly: a whole word or nothing, in range or nothing.
 */
#ifndef DERPLOAD_TEXT_H
#define DERPLOAD_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TEXT_NAME_MAX 63

/* Decimal digits only. False (and *v untouched) if not a number in [min, max]. */
bool text_u64(const char *s, uint64_t min, uint64_t max, uint64_t *v);

/* Exactly len bytes as 2 * len hexadecimal digits, either case. */
bool text_hex(const char *s, uint8_t *out, size_t len);

/* 32 bytes as hex, with or without the prefix ("nodekey:", "privkey:"). */
bool text_key(const char *s, const char *prefix, uint8_t key[static 32]);

/* 1 to TEXT_NAME_MAX letters, digits, '.', '_', '-': what a peer or a tag may be called. */
bool text_name(const char *s);

enum opt_kind {
	OPT_U64,	/* uint64_t *: decimal, min..max */
	OPT_FLAG,	/* bool *: 0 or 1 */
	OPT_WORD,	/* const char **: points into the line */
	OPT_NAME,	/* const char **: text_name() */
	OPT_RANGE,	/* uint64_t[2]: N or MIN-MAX, both in min..max */
};

/* One `name=value` of a command; a table of them ends with name NULL. */
struct opt {
	const char *name;
	enum opt_kind kind;
	void *to;
	uint64_t min, max;
};

/*
 * Reads every word as one of the table's options. Returns 0, or -EINVAL with a sentence in err.
 * Words are cut in place at '='.
 */
int text_options(char **words, int count, const struct opt *table, char *err, size_t err_len);

#endif
