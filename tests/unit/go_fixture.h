/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Builds small executable files as the Go linker does, without Go: a text section, a pclntab of
 * any version, build information, symbols if wanted, relocations if position independent.
 */
#ifndef DT_TEST_GO_FIXTURE_H
#define DT_TEST_GO_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	GO_FIXTURE_FUNCS = 8,
	GO_FIXTURE_MAX = 16 << 10,	/* bytes of the file */
	GO_FIXTURE_CODE = 64,		/* bytes of each function */
	GO_FIXTURE_TEXT = 0x400,	/* of the first one in the file; the rest follow */
};

struct go_fixture {
	/* wanted */
	int version;			/* of the pclntab: 16, 18, 20; 26: no text start in it */
	uint16_t machine;
	bool pie;
	bool symbols;			/* .symtab */
	bool no_pclntab;
	bool no_sections;
	const char *build_info;		/* the modules, NULL: no such section */
	uint64_t base;			/* address of the file's first byte */
	uint64_t entry;
	uint64_t module_addr;		/* of .go.module, 0: none */
	uint64_t data_addr, data_len;	/* a writable segment without bytes in the file */
	int func_count;
	struct {
		const char *name;
		const char *code;	/* GO_FIXTURE_CODE bytes at most */
		size_t len;
	} funcs[GO_FIXTURE_FUNCS];

	/* made */
	uint8_t bytes[GO_FIXTURE_MAX];
	size_t len;
	uint64_t pclntab_off;
	int fd;				/* a memfd that holds it */
};

/* An x86-64 relay with the functions that are looked for. */
void go_fixture_init(struct go_fixture *fixture);

void go_fixture_build(struct go_fixture *fixture);
void go_fixture_close(struct go_fixture *fixture);

/* Address of a function, as linked. */
uint64_t go_fixture_addr(const struct go_fixture *fixture, int func);

#endif
