/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * JSON lines on standard output. One object at a time: out_begin(), fields, out_end(). A name of
 * NULL writes an element of the open array. Whatever a string holds, the line stays valid JSON:
 * bytes that are not printable ASCII are escaped as \u00XX.
 */
#ifndef DERPLOAD_OUT_H
#define DERPLOAD_OUT_H

#include <stdbool.h>
#include <stdint.h>

void out_begin(const char *event);
void out_end(void);

void out_str(const char *name, const char *s);
void out_fmt(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void out_u64(const char *name, uint64_t v);
void out_i64(const char *name, int64_t v);
void out_bool(const char *name, bool v);
void out_null(const char *name);
void out_hex(const char *name, const void *bytes, unsigned int len);
/* 32 bytes as "nodekey:<64 hex>". */
void out_key(const char *name, const uint8_t key[static 32]);

/* kind is '[' or '{'; out_close takes the same one. */
void out_open(const char *name, char kind);
void out_close(char kind);

/* {"ev":"error","line":...,"msg":...}; line 0 is left out. */
void out_error(uint64_t line, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Hands all finished lines to the kernel. Exits 1 if nobody can read them any more. */
void out_flush(void);

#endif
