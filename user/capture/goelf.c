// SPDX-License-Identifier: BSD-2-Clause
/*
 * A reader of 64-bit little-endian ELF files for hostile files: every offset and length is checked
 * against the file before it is used, tables have upper bounds, and all access is pread(), as a
 * mapping of a file that somebody else owns can be made to fault. Relocations are looked up one at
 * a time, as Go's tables need only a few.
 */
#include "capture/gobin_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	SECTIONS_MAX = 1024,
	SEGMENTS_MAX = 256,
	NAMES_MAX = 1 << 16,
	NAME_MAX_LEN = 1024,	/* of one symbol: names may overlap, so their sum has no bound */
	CHUNK = 1 << 14,	/* table entries per read */
};

#define SYMBOLS_MAX (96ull << 20)	/* bytes of .symtab we are ready to walk */
#define STRINGS_MAX (128ull << 20)	/* bytes of .strtab we are ready to hold */
#define RELOCS_MAX  (256ull << 20)	/* of .rela.dyn */

int goelf_read(const struct goelf *elf, uint64_t off, void *buf, size_t len)
{
	uint8_t *p = buf;

	if (off > elf->size_bytes || len > elf->size_bytes - off)
		return -EBADMSG;
	while (len) {
		ssize_t n = pread(elf->fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EBADMSG;
		p += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int goelf_load(const struct goelf *elf, uint64_t off, uint64_t len, uint64_t max, void **data)
{
	uint8_t *p;
	int err;

	if (len > max)
		return -EFBIG;
	if (off > elf->size_bytes || len > elf->size_bytes - off)
		return -EBADMSG;
	p = malloc(len + 1);
	if (!p)
		return -ENOMEM;
	err = goelf_read(elf, off, p, len);
	if (err) {
		free(p);
		return err;
	}
	p[len] = 0;
	*data = p;
	return 0;
}

static int check_header(const Elf64_Ehdr *eh)
{
	if (memcmp(eh->e_ident, ELFMAG, SELFMAG) || eh->e_ident[EI_CLASS] != ELFCLASS64 ||
	    eh->e_ident[EI_DATA] != ELFDATA2LSB)
		return -ENOEXEC;
	if (eh->e_type != ET_EXEC && eh->e_type != ET_DYN)
		return -ENOEXEC;
	if (eh->e_machine != EM_X86_64 && eh->e_machine != EM_AARCH64)
		return -ENOTSUP;
	if (eh->e_phentsize != sizeof(Elf64_Phdr) || !eh->e_phnum || eh->e_phnum > SEGMENTS_MAX)
		return -ENOEXEC;
	if (!eh->e_shoff || !eh->e_shnum || eh->e_shentsize != sizeof(Elf64_Shdr))
		return -ENODATA;
	if (eh->e_shnum > SECTIONS_MAX || eh->e_shstrndx >= eh->e_shnum)
		return -ENOEXEC;
	return 0;
}

int goelf_open(struct goelf *elf, int fd)
{
	const Elf64_Shdr *names;
	Elf64_Ehdr eh;
	struct stat st;
	int err;

	memset(elf, 0, sizeof(*elf));
	elf->fd = fd;
	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(eh))
		return -ENOEXEC;
	elf->size_bytes = (uint64_t)st.st_size;
	err = goelf_read(elf, 0, &eh, sizeof(eh));
	if (!err)
		err = check_header(&eh);
	if (err)
		return err;
	elf->machine = eh.e_machine;
	elf->entry_addr = eh.e_entry;
	elf->pie = eh.e_type == ET_DYN;

	err = goelf_load(elf, eh.e_phoff, eh.e_phnum * sizeof(Elf64_Phdr),
			 SEGMENTS_MAX * sizeof(Elf64_Phdr), (void **)&elf->segments);
	if (err)
		goto cleanup;
	elf->segment_count = eh.e_phnum;
	err = goelf_load(elf, eh.e_shoff, eh.e_shnum * sizeof(Elf64_Shdr),
			 SECTIONS_MAX * sizeof(Elf64_Shdr), (void **)&elf->sections);
	if (err)
		goto cleanup;
	elf->section_count = eh.e_shnum;
	names = &elf->sections[eh.e_shstrndx];
	err = goelf_load(elf, names->sh_offset, names->sh_size, NAMES_MAX, (void **)&elf->names);
	if (err)
		goto cleanup;
	elf->names_len = names->sh_size;
	return 0;
cleanup:
	goelf_close(elf);
	return err == -EBADMSG || err == -EFBIG ? -ENOEXEC : err;
}

void goelf_close(struct goelf *elf)
{
	free(elf->segments);
	free(elf->sections);
	free(elf->names);
	memset(elf, 0, sizeof(*elf));
}

const Elf64_Shdr *goelf_section(const struct goelf *elf, const char *name)
{
	const Elf64_Shdr *suffixed = NULL;
	size_t len = strlen(name);
	unsigned int i;

	for (i = 0; i < elf->section_count; i++) {
		const Elf64_Shdr *sh = &elf->sections[i];
		const char *own;
		size_t own_len;

		if (sh->sh_name >= elf->names_len)
			continue;
		own = elf->names + sh->sh_name;
		own_len = strlen(own);
		if (own_len == len && !memcmp(own, name, len))
			return sh;
		if (!suffixed && own_len > len && !memcmp(own + own_len - len, name, len))
			suffixed = sh;
	}
	return suffixed;
}

int goelf_offset(const struct goelf *elf, uint64_t addr, uint64_t *off)
{
	unsigned int i;

	for (i = 0; i < elf->segment_count; i++) {
		const Elf64_Phdr *ph = &elf->segments[i];

		if (ph->p_type != PT_LOAD || addr < ph->p_vaddr)
			continue;
		if (addr - ph->p_vaddr >= ph->p_filesz)
			continue;
		if (ph->p_offset > elf->size_bytes ||
		    addr - ph->p_vaddr >= elf->size_bytes - ph->p_offset)
			return -ENOENT;
		*off = ph->p_offset + (addr - ph->p_vaddr);
		return 0;
	}
	return -ENOENT;
}

static int relocated_pointer(const struct goelf *elf, uint64_t addr, uint64_t *value)
{
	const uint32_t relative = elf->machine == EM_X86_64 ? R_X86_64_RELATIVE
							     : R_AARCH64_RELATIVE;
	const Elf64_Shdr *sh = goelf_section(elf, ".rela.dyn");
	Elf64_Rela *chunk;
	uint64_t done = 0;
	int err = 0;

	/* An old Go linker calls it so. */
	if (!sh)
		sh = goelf_section(elf, ".rela");
	if (!sh || sh->sh_type != SHT_RELA || sh->sh_size > RELOCS_MAX)
		return -ENOENT;
	chunk = malloc(CHUNK * sizeof(*chunk));
	if (!chunk)
		return -ENOMEM;
	while (done < sh->sh_size / sizeof(*chunk)) {
		uint64_t i, n = sh->sh_size / sizeof(*chunk) - done;

		if (n > CHUNK)
			n = CHUNK;
		err = goelf_read(elf, sh->sh_offset + done * sizeof(*chunk), chunk,
				 n * sizeof(*chunk));
		if (err)
			goto cleanup;
		for (i = 0; i < n; i++) {
			if (chunk[i].r_offset == addr &&
			    ELF64_R_TYPE(chunk[i].r_info) == relative) {
				*value = (uint64_t)chunk[i].r_addend;
				goto cleanup;
			}
		}
		done += n;
	}
	err = -ENOENT;
cleanup:
	free(chunk);
	return err;
}

int goelf_pointer(const struct goelf *elf, uint64_t addr, uint64_t *value)
{
	uint64_t off;
	int err = goelf_offset(elf, addr, &off);

	if (!err)
		err = goelf_read(elf, off, value, sizeof(*value));
	if (err)
		return err;
	if (elf->pie && relocated_pointer(elf, addr, &off) == 0)
		*value = off;
	return 0;
}

static bool name_fits(const char *name, const char *suffix, size_t suffix_len, bool whole)
{
	size_t len = strnlen(name, NAME_MAX_LEN);

	if (len == NAME_MAX_LEN || len < suffix_len ||
	    memcmp(name + len - suffix_len, suffix, suffix_len))
		return false;
	return whole ? len == suffix_len : gobin_suffix_fits(name, name + len - suffix_len);
}

int goelf_symbol(const struct goelf *elf, const char *suffix, bool whole, int type, Elf64_Sym *sym,
		 char *name, size_t name_size)
{
	const Elf64_Shdr *sh = goelf_section(elf, ".symtab"), *str;
	size_t suffix_len = strlen(suffix);
	Elf64_Sym *chunk = NULL;
	char *strings = NULL;
	uint64_t done = 0;
	bool found = false;
	int err;

	if (!sh || sh->sh_type != SHT_SYMTAB || sh->sh_link >= elf->section_count)
		return -ENOENT;
	if (sh->sh_size > SYMBOLS_MAX)
		return -EFBIG;
	str = &elf->sections[sh->sh_link];
	err = goelf_load(elf, str->sh_offset, str->sh_size, STRINGS_MAX, (void **)&strings);
	if (err)
		return err;
	chunk = malloc(CHUNK * sizeof(*chunk));
	err = chunk ? 0 : -ENOMEM;
	while (!err && done < sh->sh_size / sizeof(*chunk)) {
		uint64_t i, n = sh->sh_size / sizeof(*chunk) - done;

		if (n > CHUNK)
			n = CHUNK;
		err = goelf_read(elf, sh->sh_offset + done * sizeof(*chunk), chunk,
				 n * sizeof(*chunk));
		for (i = 0; !err && i < n; i++) {
			const Elf64_Sym *s = &chunk[i];

			if (s->st_name >= str->sh_size || !s->st_value ||
			    (type != STT_NOTYPE && ELF64_ST_TYPE(s->st_info) != type) ||
			    (found && s->st_value >= sym->st_value) ||
			    !name_fits(strings + s->st_name, suffix, suffix_len, whole))
				continue;
			*sym = *s;
			found = true;
			if (name)
				snprintf(name, name_size, "%s", strings + s->st_name);
		}
		done += n;
	}
	free(chunk);
	free(strings);
	return err ? err : found ? 0 : -ENOENT;
}
