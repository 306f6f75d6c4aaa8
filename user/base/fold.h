/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What rests, in as few bytes as it needs: a struct, word by word. Of each word half a byte says how many
 * bytes of it there are, and whether they are itself or how it differs from the word before it that was
 * not zero: times and positions are like their neighbours.
 */
#ifndef DT_BASE_FOLD_H
#define DT_BASE_FOLD_H

#include <stddef.h>
#include <stdint.h>

/* As many are enough for a struct of so many bytes, which are whole words of eight. */
#define FOLD_BYTES(len)	((len) + (len) / 16 + 1)

/* @from, @len bytes, into FOLD_BYTES(@len) at @to. Returns their end. */
uint8_t *fold(const void *from, size_t len, uint8_t *to);
/* The other way; the bytes are our own. Returns their end. */
const uint8_t *unfold(const uint8_t *p, void *to, size_t len);

#endif
