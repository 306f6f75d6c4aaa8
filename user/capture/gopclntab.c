// SPDX-License-Identifier: BSD-2-Clause
/*
 * .gopclntab: the table by which the Go runtime names its functions; strip leaves it alone.
 *
 *   header   magic u32, 0, 0, minLC, pointer size, nfunc, nfiles, [text start from 1.18 on], then
 *            the offsets of funcnametab, cutab, filetab, pctab, functab (each a pointer wide)
 *   functab  nfunc times (entry, offset of the function's record); one more entry ends the last
 *            1.16: entry is an address, both are 8 bytes; from 1.18 on: relative to text start, 4
 *   record   entry (as above), offset of the name in funcnametab (4 bytes), ...
 *
 * Names and records of a big program are tens of megabytes: the names are held, the records are
 * read through a window, as they stand in the order of functab.
 */
#include "capture/gobin_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	FUNCS_MAX = 4 << 20,
	WINDOW = 1 << 16,
	MATCHES_MAX = 16,
};

#define NAMES_MAX (256ull << 20)

bool gobin_suffix_fits(const char *name, const char *start)
{
	return start == name || *start == '.' || start[-1] == '/';
}

static uint64_t get(const uint8_t *p, unsigned int size)
{
	uint32_t narrow;
	uint64_t wide;

	if (size == 4) {
		memcpy(&narrow, p, 4);
		return narrow;
	}
	memcpy(&wide, p, 8);
	return wide;
}

static int magic_version(uint32_t magic)
{
	switch (magic) {
	case 0xfffffffa:
		return 16;
	case 0xfffffff0:
		return 18;
	case 0xfffffff1:
		return 20;
	}
	return 0;
}

static unsigned int entry_size(const struct gopclntab *tab)
{
	return tab->version == 16 ? 8 : 4;
}

/*
 * Where offsets of entries count from. The header has it up to Go 1.25; where it is 0, moduledata
 * (a section of its own from 1.26 on) says it, and where C code was linked in .text begins earlier.
 */
static uint64_t text_start(const struct goelf *elf, uint64_t header_field)
{
	enum { MODULE_TEXT = 22 * 8 };
	const Elf64_Shdr *text = goelf_section(elf, ".text");
	const Elf64_Shdr *module = goelf_section(elf, ".go.module");
	uint64_t at[2] = {header_field, module ? module->sh_addr + MODULE_TEXT : 0}, value;
	Elf64_Sym sym;
	int i;

	if (!text)
		return 0;
	for (i = 0; i < 2; i++) {
		if (at[i] && goelf_pointer(elf, at[i], &value) == 0 && value >= text->sh_addr &&
		    value - text->sh_addr < text->sh_size)
			return value;
	}
	if (goelf_symbol(elf, "runtime.text", true, STT_NOTYPE, &sym, NULL, 0) == 0)
		return sym.st_value;
	return text->sh_addr;
}

static int parse_header(struct gopclntab *tab)
{
	uint8_t head[80];
	uint64_t names, cutab, fields_off = 24;
	int err = goelf_read(tab->elf, tab->file_off, head, sizeof(head));

	if (err)
		return err;
	tab->version = magic_version((uint32_t)get(head, 4));
	if (!tab->version || head[7] != 8)
		return -ENOTSUP;
	if (head[4] || head[5])
		return -EBADMSG;
	tab->nfunc = get(head + 8, 8);
	if (tab->version >= 18) {
		tab->text_start = text_start(tab->elf, tab->addr + 24);
		fields_off = 32;
	}
	names = get(head + fields_off, 8);
	cutab = get(head + fields_off + 8, 8);
	tab->funcs_off = get(head + fields_off + 32, 8);
	if (tab->nfunc > FUNCS_MAX || names > cutab || cutab > tab->len ||
	    tab->funcs_off > tab->len ||
	    (tab->len - tab->funcs_off) / (2 * entry_size(tab)) <= tab->nfunc)
		return -EBADMSG;
	tab->names_len = cutab - names;
	return goelf_load(tab->elf, tab->file_off + names, tab->names_len, NAMES_MAX,
			  (void **)&tab->names);
}

int gopclntab_open(struct gopclntab *tab, const struct goelf *elf)
{
	const Elf64_Shdr *sh = goelf_section(elf, ".gopclntab");
	int err;

	memset(tab, 0, sizeof(*tab));
	if (!sh || sh->sh_type == SHT_NOBITS)
		return -ENOENT;
	tab->elf = elf;
	tab->file_off = sh->sh_offset;
	tab->addr = sh->sh_addr;
	tab->len = sh->sh_size;
	if (tab->file_off > elf->size_bytes || tab->len > elf->size_bytes - tab->file_off)
		return -EBADMSG;
	err = parse_header(tab);
	if (err)
		gopclntab_close(tab);
	return err;
}

void gopclntab_close(struct gopclntab *tab)
{
	free(tab->names);
	memset(tab, 0, sizeof(*tab));
}

/* Offsets in funcnametab of the names that end in suffix: how many. */
static int find_names(const struct gopclntab *tab, const char *suffix, uint32_t *offsets)
{
	const size_t len = strlen(suffix) + 1;
	const char *p = tab->names, *end = tab->names + tab->names_len;
	int count = 0;

	while (count < MATCHES_MAX && (p = memmem(p, (size_t)(end - p), suffix, len))) {
		const char *start = p;

		while (start > tab->names && start[-1])
			start--;
		if (gobin_suffix_fits(start, p))
			offsets[count++] = (uint32_t)(start - tab->names);
		p += len;
	}
	return count;
}

/* Bytes of the table, through a window that moves forward. */
struct window {
	const struct gopclntab *tab;
	uint64_t off;
	size_t len;
	uint8_t bytes[WINDOW];
};

static const uint8_t *window_at(struct window *w, uint64_t off, size_t len)
{
	if (off > w->tab->len || len > w->tab->len - off)
		return NULL;
	if (off < w->off || off + len > w->off + w->len) {
		w->off = off;
		w->len = w->tab->len - off < WINDOW ? (size_t)(w->tab->len - off) : WINDOW;
		if (goelf_read(w->tab->elf, w->tab->file_off + off, w->bytes, w->len)) {
			w->len = 0;
			return NULL;
		}
	}
	return w->bytes + (off - w->off);
}

/* The entry address of functab's row, as linked. */
static int row_entry(const struct gopclntab *tab, struct window *rows, uint64_t row, uint64_t *addr)
{
	const unsigned int size = entry_size(tab);
	const uint64_t off = tab->funcs_off + row * 2 * size;
	const uint8_t *p = window_at(rows, off, size);

	if (!p)
		return -EBADMSG;
	*addr = get(p, size);
	if (size == 4)
		*addr += tab->text_start;
	else if (tab->elf->pie)
		return goelf_pointer(tab->elf, tab->addr + off, addr);
	return 0;
}

static int fill(const struct gopclntab *tab, struct window *rows, uint64_t row, uint32_t name,
		struct gobin_function *func)
{
	uint64_t next;
	int err = row_entry(tab, rows, row, &func->addr);

	if (!err)
		err = row_entry(tab, rows, row + 1, &next);
	if (!err)
		err = goelf_offset(tab->elf, func->addr, &func->file_off);
	if (err)
		return err;
	if (next <= func->addr)
		return -EBADMSG;
	func->size_bytes = next - func->addr;
	snprintf(func->name, sizeof(func->name), "%s", tab->names + name);
	return 0;
}

static int find_row(const struct gopclntab *tab, struct window *rows, struct window *records,
		    const uint32_t *names, int name_count, struct gobin_function *func)
{
	const unsigned int size = entry_size(tab);
	uint64_t row;
	int i;

	for (row = 0; row < tab->nfunc; row++) {
		const uint8_t *p = window_at(rows, tab->funcs_off + row * 2 * size, 2 * size);
		uint32_t name;

		if (!p)
			return -EBADMSG;
		p = window_at(records, tab->funcs_off + get(p + size, size), size + 4);
		if (!p)
			return -EBADMSG;
		name = (uint32_t)get(p + size, 4);
		for (i = 0; i < name_count; i++) {
			if (names[i] == name)
				return fill(tab, rows, row, name, func);
		}
	}
	return -ENOENT;
}

int gopclntab_find(const struct gopclntab *tab, const char *suffix, struct gobin_function *func)
{
	uint32_t names[MATCHES_MAX];
	int err, name_count = find_names(tab, suffix, names);
	struct window *windows;

	if (!name_count)
		return -ENOENT;
	windows = calloc(2, sizeof(*windows));
	if (!windows)
		return -ENOMEM;
	windows[0].tab = windows[1].tab = tab;
	err = find_row(tab, &windows[0], &windows[1], names, name_count, func);
	free(windows);
	return err;
}
