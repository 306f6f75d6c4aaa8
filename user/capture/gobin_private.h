/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Inside gobin only: a bounded ELF reader, Go's table of function names, and build information.
 * Errors are -errno; -EBADMSG is a file that contradicts itself.
 */
#ifndef DT_CAPTURE_GOBIN_PRIVATE_H
#define DT_CAPTURE_GOBIN_PRIVATE_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "capture/gobin.h"

/* --- goelf.c: sections and segments, nothing of Go ------------------------------------------ */

struct goelf {
	int fd;			/* not owned */
	uint64_t size_bytes;	/* of the file */
	uint64_t entry_addr;
	uint16_t machine;
	bool pie;
	Elf64_Shdr *sections;
	unsigned int section_count;
	Elf64_Phdr *segments;
	unsigned int segment_count;
	char *names;		/* of sections; its last byte is 0 */
	size_t names_len;
};

/* -ENOEXEC: no ELF we read; -ENOTSUP: wrong machine; -ENODATA: no section headers. */
int goelf_open(struct goelf *elf, int fd);
void goelf_close(struct goelf *elf);

/* Exactly len bytes, or an error. */
int goelf_read(const struct goelf *elf, uint64_t off, void *buf, size_t len);

/* Into new memory of len + 1 bytes, the last one 0: the caller frees. -EFBIG if len > max. */
int goelf_load(const struct goelf *elf, uint64_t off, uint64_t len, uint64_t max, void **data);

/* The first section of this name, or, as linkers prefix names in a PIE, ending so. NULL if none. */
const Elf64_Shdr *goelf_section(const struct goelf *elf, const char *name);

/* Address to file offset; -ENOENT where the file has no byte for it. */
int goelf_offset(const struct goelf *elf, uint64_t addr, uint64_t *off);

/*
 * The pointer that stands at an address once the program is loaded at its linked address: the
 * file's, or, where the loader puts it there, the relocation's.
 */
int goelf_pointer(const struct goelf *elf, uint64_t addr, uint64_t *value);

/*
 * Walk .symtab: symbols whose name ends in suffix (gobin_function's rule), or equals it if whole,
 * of one type (STT_FUNC, STT_OBJECT, or STT_NOTYPE for any); the one with the lowest address.
 */
int goelf_symbol(const struct goelf *elf, const char *suffix, bool whole, int type, Elf64_Sym *sym,
		 char *name, size_t name_size);

/* --- gopclntab.c: names and entries of all functions ---------------------------------------- */

struct gopclntab {
	const struct goelf *elf;
	uint64_t file_off;	/* of the table */
	uint64_t len;
	uint64_t addr;
	int version;		/* 16, 18 or 20: the Go 1.N that began this form */
	uint64_t nfunc;
	uint64_t text_start;	/* from version 18 on */
	uint64_t funcs_off;	/* of functab, from file_off; function offsets count from here */
	char *names;		/* funcnametab, followed by a 0 */
	size_t names_len;
};

/* -ENOENT: no such section, -ENOTSUP: a magic we do not know, -EBADMSG. */
int gopclntab_open(struct gopclntab *tab, const struct goelf *elf);
void gopclntab_close(struct gopclntab *tab);
int gopclntab_find(const struct gopclntab *tab, const char *suffix, struct gobin_function *func);

/* Does a whole name end in suffix, at a boundary? start: where the suffix begins in name. */
bool gobin_suffix_fits(const char *name, const char *start);

/* --- gobuildinfo.c -------------------------------------------------------------------------- */

/*
 * Fill go_version, go_minor, software, and, where server is the whole name of a function,
 * derp_module. What is not there stays empty.
 */
void gobuildinfo_read(const struct goelf *elf, const char *server, struct gobin_info *info);

/* --- goprobe.c ------------------------------------------------------------------------------ */

/* Offset of the probe from the entry, by the first bytes of the code (up to 64). -ENOENT. */
int gobin_probe_decode(uint16_t machine, const uint8_t *bytes, size_t len, size_t *offset);
int gobin_probe_read(const struct goelf *elf, const struct gobin_function *func,
		     uint64_t *file_off);

#endif
