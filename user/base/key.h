/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Node public keys: 32 bytes of curve25519, in the text forms of Tailscale (types/key/node.go).
 */
#ifndef DT_KEY_H
#define DT_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEY_LEN		32
#define KEY_TEXT_LEN	(8 + 64 + 1)	/* "nodekey:" and 64 hex digits */
#define KEY_SHORT_LEN	(7 + 1)		/* "[AbCdE]": the first five of base64 */

struct key {
	uint8_t b[KEY_LEN];
};

/*
 * A key of all zeros stands for one that is not known. A frame may name it all the same, and then it is
 * kept as its twin on the curve, which differs in the bit that curve25519 ignores and is nobody's key;
 * it is printed as the zeros that were on the wire.
 */
extern const struct key key_zero_named;

void key_format(const struct key *key, char text[static KEY_TEXT_LEN]);
void key_format_short(const struct key *key, char text[static KEY_SHORT_LEN]);

/* Whole key: "nodekey:" + 64 hex, or the 64 hex digits alone. False where it is anything else. */
bool key_parse(const char *text, struct key *key);

/* Does @text name @key: any form above, a prefix of the hex digits (4 at least), or "[AbCdE]"? */
bool key_matches(const struct key *key, const char *text);

bool key_equal(const struct key *a, const struct key *b);
bool key_is_zero(const struct key *key);
int key_compare(const struct key *a, const struct key *b);

#endif
