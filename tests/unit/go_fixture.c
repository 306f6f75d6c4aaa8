// SPDX-License-Identifier: BSD-2-Clause
#include "go_fixture.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* cmp rsp, [r14 + 16]; jbe; push rbp; mov rbp, rsp; sub rsp, 0x40 */
static const char checked[] =
	"\x49\x3b\x66\x10\x0f\x86\x20\x01\x00\x00\x55\x48\x89\xe5\x48\x83\xec\x40";

#define CHECKED(func, text) \
	((func)->name = (text), (func)->code = checked, (func)->len = sizeof(checked) - 1)

void go_fixture_init(struct go_fixture *f)
{
	memset(f, 0, sizeof(*f));
	f->version = 20;
	f->machine = EM_X86_64;
	f->base = 0x400000;
	f->entry = 0x400400;
	f->data_addr = 0x500000;
	f->data_len = 0x1000;
	f->fd = -1;
	f->build_info = "path\ttailscale.com/cmd/derper\nmod\texample.com/lab\t(devel)\t\n"
			"dep\ttailscale.com\tv1.102.5\th1:x=\ndep\texample.com/z\tv0.1.0\th1:y=\n";
	f->func_count = 5;
	CHECKED(&f->funcs[0], "runtime.text.first");
	CHECKED(&f->funcs[1], "crypto/tls.(*Config).writeKeyLog");
	CHECKED(&f->funcs[2], "tailscale.com/derp/derpserver.(*Server).Accept");
	CHECKED(&f->funcs[3], "tailscale.com/derp/derpserver.(*Server).recordDrop");
	CHECKED(&f->funcs[4], "main.main");
}

uint64_t go_fixture_addr(const struct go_fixture *f, int func)
{
	return f->base + GO_FIXTURE_TEXT + (uint64_t)func * GO_FIXTURE_CODE;
}

/* --- bytes, one behind the other ------------------------------------------------------------ */

static void put(struct go_fixture *f, const void *bytes, size_t len)
{
	if (f->len + len > sizeof(f->bytes))
		abort();
	memcpy(f->bytes + f->len, bytes, len);
	f->len += len;
}

static void put64(struct go_fixture *f, uint64_t value)
{
	put(f, &value, 8);
}

static void put32(struct go_fixture *f, uint32_t value)
{
	put(f, &value, 4);
}

static void align(struct go_fixture *f)
{
	while (f->len % 16)
		put(f, "", 1);
}

struct parts {
	Elf64_Shdr sections[12];
	int count;
	char names[256];
	size_t names_len;
	uint64_t relocs[16][2];		/* address, value */
	int reloc_count;
};

static Elf64_Shdr *section(struct parts *parts, const char *name, uint32_t type, uint64_t addr,
			   uint64_t off, uint64_t len)
{
	Elf64_Shdr *sh = &parts->sections[parts->count++];

	sh->sh_name = (uint32_t)parts->names_len;
	sh->sh_type = type;
	sh->sh_addr = addr;
	sh->sh_offset = off;
	sh->sh_size = len;
	memcpy(parts->names + parts->names_len, name, strlen(name) + 1);
	parts->names_len += strlen(name) + 1;
	return sh;
}

/* A pointer in the file; in a PIE the loader writes it. */
static void put_pointer(struct go_fixture *f, struct parts *parts, uint64_t value)
{
	if (f->pie) {
		parts->relocs[parts->reloc_count][0] = f->base + f->len;
		parts->relocs[parts->reloc_count++][1] = value;
		value = 0;
	}
	put64(f, value);
}

static void put_row(struct go_fixture *f, struct parts *parts, uint64_t addr, uint64_t record)
{
	if (f->version == 16) {
		put_pointer(f, parts, addr);
		put64(f, record);
	} else {
		put32(f, (uint32_t)(addr - go_fixture_addr(f, 0)));
		put32(f, (uint32_t)record);
	}
}

static void put_pclntab(struct go_fixture *f, struct parts *parts)
{
	static const uint32_t magics[] = {0xfffffffa, 0xfffffff0, 0xfffffff1, 0xfffffff1};
	const size_t width = f->version == 16 ? 8 : 4, head = f->version == 16 ? 64 : 72;
	const int n = f->func_count;
	uint64_t names_len = 0, rows, name = 0;
	int i;

	f->pclntab_off = f->len;
	for (i = 0; i < n; i++)
		names_len += strlen(f->funcs[i].name) + 1;
	put32(f, magics[f->version == 16 ? 0 : f->version == 18 ? 1 : f->version == 20 ? 2 : 3]);
	put(f, "\0\0\1\10", 4);
	put64(f, (uint64_t)n);
	put64(f, 0);
	if (f->version == 26)
		put64(f, 0);
	else if (f->version != 16)
		put_pointer(f, parts, go_fixture_addr(f, 0));
	rows = (head + names_len + 15) & ~15ull;
	put64(f, head);
	put64(f, head + names_len);
	put64(f, head + names_len);
	put64(f, head + names_len);
	put64(f, rows);
	for (i = 0; i < n; i++)
		put(f, f->funcs[i].name, strlen(f->funcs[i].name) + 1);
	while (f->len < f->pclntab_off + rows)
		put(f, "", 1);
	for (i = 0; i <= n; i++)
		put_row(f, parts, go_fixture_addr(f, i),
			i < n ? (uint64_t)(n + 1) * 2 * width + (uint64_t)i * 16 : 0);
	for (i = 0; i < n; i++) {
		if (width == 8)
			put_pointer(f, parts, go_fixture_addr(f, i));
		else
			put32(f, (uint32_t)(i * GO_FIXTURE_CODE));
		put32(f, (uint32_t)name);
		while ((f->len - f->pclntab_off - rows) % 16 != ((size_t)(n + 1) * 2 * width) % 16)
			put(f, "", 1);
		name += strlen(f->funcs[i].name) + 1;
	}
	section(parts, f->pie ? ".data.rel.ro.gopclntab" : ".gopclntab", SHT_PROGBITS,
		f->base + f->pclntab_off, f->pclntab_off, f->len - f->pclntab_off);
}

static void put_varint_string(struct go_fixture *f, const char *mark, const char *text)
{
	size_t len = strlen(text) + 2 * strlen(mark);
	uint8_t byte;

	for (; len >= 0x80; len >>= 7) {
		byte = (uint8_t)(len | 0x80);
		put(f, &byte, 1);
	}
	byte = (uint8_t)len;
	put(f, &byte, 1);
	put(f, mark, strlen(mark));
	put(f, text, strlen(text));
	put(f, mark, strlen(mark));
}

/* Before Go 1.18: pointers to two string variables, which lead to the texts. */
static void put_pointed_info(struct go_fixture *f, struct parts *parts, const char *version)
{
	static const char mark[] = "0123456789abcdef";
	const uint64_t off = f->len, vars = off + 32, texts = vars + 32;

	put(f, "\xff Go buildinf:\10\0", 16);
	put_pointer(f, parts, f->base + vars);
	put_pointer(f, parts, f->base + vars + 16);
	section(parts, ".go.buildinfo", SHT_PROGBITS, f->base + off, off, f->len - off);
	put_pointer(f, parts, f->base + texts);
	put64(f, strlen(version));
	put_pointer(f, parts, f->base + texts + strlen(version));
	put64(f, strlen(f->build_info) + 32);
	put(f, version, strlen(version));
	put(f, mark, 16);
	put(f, f->build_info, strlen(f->build_info));
	put(f, mark, 16);
}

static void put_build_info(struct go_fixture *f, struct parts *parts)
{
	const uint64_t off = f->len;
	char version[32];

	snprintf(version, sizeof(version), "go1.%d.8", f->version);
	if (f->version == 16) {
		put_pointed_info(f, parts, version);
		return;
	}
	put(f, "\xff Go buildinf:\10\2", 16);
	put(f, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
	put_varint_string(f, "", version);
	put_varint_string(f, "0123456789abcdef", f->build_info);
	section(parts, ".go.buildinfo", SHT_PROGBITS, f->base + off, off, f->len - off);
}

static void put_symbols(struct go_fixture *f, struct parts *parts)
{
	const uint64_t off = f->len;
	Elf64_Sym sym = {0};
	Elf64_Shdr *symtab;
	uint32_t name = 1;
	int i;

	put(f, &sym, sizeof(sym));
	for (i = 0; i < f->func_count; i++) {
		sym.st_name = name;
		sym.st_info = ELF64_ST_INFO(STB_LOCAL, STT_FUNC);
		sym.st_value = go_fixture_addr(f, i);
		sym.st_size = GO_FIXTURE_CODE;
		put(f, &sym, sizeof(sym));
		name += (uint32_t)strlen(f->funcs[i].name) + 1;
	}
	symtab = section(parts, ".symtab", SHT_SYMTAB, 0, off, f->len - off);
	symtab->sh_link = (uint32_t)parts->count;
	section(parts, ".strtab", SHT_STRTAB, 0, f->len, name);
	put(f, "", 1);
	for (i = 0; i < f->func_count; i++)
		put(f, f->funcs[i].name, strlen(f->funcs[i].name) + 1);
}

static void put_relocs(struct go_fixture *f, struct parts *parts)
{
	const uint64_t off = f->len;
	int i;

	for (i = 0; i < parts->reloc_count; i++) {
		Elf64_Rela rela = {parts->relocs[i][0],
				   f->machine == EM_X86_64 ? R_X86_64_RELATIVE : R_AARCH64_RELATIVE,
				   (int64_t)parts->relocs[i][1]};

		put(f, &rela, sizeof(rela));
	}
	section(parts, ".rela.dyn", SHT_RELA, f->base + off, off, f->len - off);
}

static void put_heads(struct go_fixture *f, const struct parts *parts, uint64_t sections_off)
{
	Elf64_Ehdr eh = {
		.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
		.e_type = f->pie ? ET_DYN : ET_EXEC,
		.e_machine = f->machine,
		.e_version = EV_CURRENT,
		.e_entry = f->entry,
		.e_phoff = sizeof(eh),
		.e_ehsize = sizeof(eh),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 2,
		.e_shoff = f->no_sections ? 0 : sections_off,
		.e_shentsize = sizeof(Elf64_Shdr),
		.e_shnum = f->no_sections ? 0 : (uint16_t)parts->count,
		.e_shstrndx = (uint16_t)(parts->count - 1),
	};
	Elf64_Phdr ph[2] = {
		{.p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_vaddr = f->base,
		 .p_filesz = f->len, .p_memsz = f->len},
		{.p_type = PT_LOAD, .p_flags = PF_R | PF_W, .p_vaddr = f->data_addr,
		 .p_offset = f->len, .p_memsz = f->data_len},
	};

	memcpy(f->bytes, &eh, sizeof(eh));
	memcpy(f->bytes + sizeof(eh), ph, sizeof(ph));
}

void go_fixture_build(struct go_fixture *f)
{
	struct parts parts = {.count = 1, .names_len = 1};
	uint64_t off;
	int i;

	memset(f->bytes, 0, sizeof(f->bytes));
	f->len = GO_FIXTURE_TEXT;
	for (i = 0; i < f->func_count; i++) {
		memcpy(f->bytes + GO_FIXTURE_TEXT + i * GO_FIXTURE_CODE, f->funcs[i].code,
		       f->funcs[i].len);
		f->len += GO_FIXTURE_CODE;
	}
	section(&parts, ".text", SHT_PROGBITS, go_fixture_addr(f, 0), GO_FIXTURE_TEXT,
		f->len - GO_FIXTURE_TEXT);
	section(&parts, ".note.go.buildid", SHT_NOTE, 0, 0, 0);
	if (!f->no_pclntab)
		put_pclntab(f, &parts);
	align(f);
	if (f->build_info)
		put_build_info(f, &parts);
	align(f);
	if (f->symbols)
		put_symbols(f, &parts);
	align(f);
	if (f->pie)
		put_relocs(f, &parts);
	if (f->module_addr)
		section(&parts, ".go.module", SHT_NOBITS, f->module_addr, f->len, 0x250);
	off = f->len;
	section(&parts, ".shstrtab", SHT_STRTAB, 0, off, parts.names_len + sizeof(".shstrtab"));
	put(f, parts.names, parts.names_len);
	align(f);
	off = f->len;
	put(f, parts.sections, (size_t)parts.count * sizeof(parts.sections[0]));
	put_heads(f, &parts, off);
	f->fd = memfd_create("go", MFD_CLOEXEC);
	if (f->fd < 0 || write(f->fd, f->bytes, f->len) != (ssize_t)f->len)
		abort();
}

void go_fixture_close(struct go_fixture *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}
