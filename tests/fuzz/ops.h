/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A fuzzer's input as a list of calls: one byte says which, two how many bytes of argument follow
 * (little-endian, cut where the input ends).
 */
#ifndef DT_FUZZ_OPS_H
#define DT_FUZZ_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct op {
	uint8_t code;
	const uint8_t *arg;	/* an allocation of its own, so that a read behind its end shows */
	size_t len;
};

static inline bool op_next(const uint8_t **data, size_t *size, struct op *op)
{
	uint8_t *copy;
	size_t len;

	if (*size < 3)
		return false;
	op->code = (*data)[0];
	len = (size_t)(*data)[1] | (size_t)(*data)[2] << 8;
	*data += 3;
	*size -= 3;
	if (len > *size)
		len = *size;
	copy = malloc(len ? len : 1);
	if (!copy)
		abort();
	memcpy(copy, *data, len);
	op->arg = copy;
	op->len = len;
	*data += len;
	*size -= len;
	return true;
}

static inline void op_free(struct op *op)
{
	free((void *)op->arg);
}

/* Numbers at the front of an argument; 0 where it is too short. */
static inline uint64_t op_number(const struct op *op, size_t bytes)
{
	uint64_t n = 0;
	size_t i;

	for (i = 0; i < bytes && i < op->len; i++)
		n |= (uint64_t)op->arg[i] << (8 * i);
	return n;
}

/* Every byte that is handed on must be readable. */
static inline void op_read(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;
	size_t i;

	for (i = 0; i < len; i++)
		sum ^= p[i];
	__asm__ volatile("" : : "r"(sum));
}

static inline void must(bool truth)
{
	if (!truth)
		abort();
}

#endif
