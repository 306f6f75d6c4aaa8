// SPDX-License-Identifier: BSD-2-Clause
/* The door of gobin: opening, what the program is, and look-ups by name. */
#include "capture/gobin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "capture/gobin_private.h"

/* Of one segment in memory: far more than any program has. */
#define SEGMENT_MAX (16ull << 30)

struct gobin {
	struct goelf elf;
	struct gopclntab tab;
	bool has_tab;
	int fd;			/* own duplicate */
	struct gobin_info info;
	struct gobin_layout layout;
};

/* Forks and vendored copies keep the package's name, whatever stands before it. */
static const char *const server_functions[] = {
	"derpserver.(*Server).Accept",
	"derp.(*Server).Accept",
};

const char *gobin_error_text(enum gobin_error error)
{
	switch (error) {
	case GOBIN_OK:
		return "no error";
	case GOBIN_NO_PROCESS:
		return "the process has ended, or has no executable";
	case GOBIN_NO_PERMISSION:
		return "no permission to read the process's executable";
	case GOBIN_READ_FAILED:
		return "the executable could not be read";
	case GOBIN_NOT_ELF:
		return "not a 64-bit little-endian ELF executable, or a damaged one";
	case GOBIN_BAD_MACHINE:
		return "built for neither x86-64 nor arm64";
	case GOBIN_NO_SECTIONS:
		return "the executable's section headers are gone: packed, or stripped of them";
	case GOBIN_NOT_GO:
		return "not a Go program";
	case GOBIN_NO_PCLNTAB:
		return "a Go program without function names: no symbols and no readable pclntab";
	}
	return "unknown error";
}

static enum gobin_error error_of(int err)
{
	switch (err) {
	case 0:
		return GOBIN_OK;
	case -ENOENT:
	case -ESRCH:
		return GOBIN_NO_PROCESS;
	case -EACCES:
	case -EPERM:
		return GOBIN_NO_PERMISSION;
	case -ENOEXEC:
	case -EBADMSG:
		return GOBIN_NOT_ELF;
	case -ENOTSUP:
		return GOBIN_BAD_MACHINE;
	case -ENODATA:
		return GOBIN_NO_SECTIONS;
	}
	return GOBIN_READ_FAILED;
}

static uint64_t section_addr(const struct goelf *elf, const char *name)
{
	const Elf64_Shdr *sh = goelf_section(elf, name);

	return sh ? sh->sh_addr : 0;
}

static void widen(uint64_t *start, uint64_t *end, const Elf64_Phdr *ph)
{
	if (!*end || ph->p_vaddr < *start)
		*start = ph->p_vaddr;
	if (ph->p_vaddr + ph->p_memsz > *end)
		*end = ph->p_vaddr + ph->p_memsz;
}

static void read_layout(struct gobin *bin)
{
	struct gobin_layout *layout = &bin->layout;
	unsigned int i;
	Elf64_Sym sym;

	layout->entry_addr = bin->elf.entry_addr;
	layout->pclntab_addr = section_addr(&bin->elf, ".gopclntab");
	layout->module_addr = section_addr(&bin->elf, ".go.module");
	if (goelf_symbol(&bin->elf, "runtime.itabTable", true, STT_OBJECT, &sym, NULL, 0) == 0)
		layout->itab_table_addr = sym.st_value;
	for (i = 0; i < bin->elf.segment_count; i++) {
		const Elf64_Phdr *ph = &bin->elf.segments[i];

		if (ph->p_type != PT_LOAD || ph->p_memsz > SEGMENT_MAX ||
		    ph->p_vaddr > UINT64_MAX - SEGMENT_MAX)
			continue;
		widen(&layout->image_start, &layout->image_end, ph);
		if (ph->p_flags & PF_X)
			widen(&layout->text_start, &layout->text_end, ph);
		if (ph->p_flags & PF_W)
			widen(&layout->data_start, &layout->data_end, ph);
	}
}

static bool is_go(const struct goelf *elf)
{
	return goelf_section(elf, ".gopclntab") || goelf_section(elf, ".go.buildinfo") ||
	       goelf_section(elf, ".note.go.buildid");
}

static enum gobin_error open_checked(struct gobin *bin)
{
	struct gobin_function server;
	unsigned int i;
	int err = goelf_open(&bin->elf, bin->fd);

	if (err)
		return error_of(err);
	if (!is_go(&bin->elf))
		return GOBIN_NOT_GO;
	bin->info.machine = bin->elf.machine;
	bin->info.pie = bin->elf.pie;
	bin->info.stripped = !goelf_section(&bin->elf, ".symtab");
	bin->has_tab = gopclntab_open(&bin->tab, &bin->elf) == 0;
	if (!bin->has_tab && bin->info.stripped)
		return GOBIN_NO_PCLNTAB;
	for (i = 0; i < sizeof(server_functions) / sizeof(server_functions[0]); i++) {
		if (gobin_function(bin, server_functions[i], &server) == 0) {
			bin->info.derp_server = true;
			break;
		}
	}
	gobuildinfo_read(&bin->elf, bin->info.derp_server ? server.name : NULL, &bin->info);
	read_layout(bin);
	return GOBIN_OK;
}

struct gobin *gobin_open_fd(int fd, enum gobin_error *error)
{
	struct gobin *bin = calloc(1, sizeof(*bin));

	*error = GOBIN_READ_FAILED;
	if (!bin)
		return NULL;
	bin->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (bin->fd >= 0)
		*error = open_checked(bin);
	if (*error != GOBIN_OK) {
		gobin_close(bin);
		return NULL;
	}
	return bin;
}

struct gobin *gobin_open(pid_t pid, enum gobin_error *error)
{
	struct gobin *bin;
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		*error = error_of(-errno);
		return NULL;
	}
	bin = gobin_open_fd(fd, error);
	close(fd);
	return bin;
}

void gobin_close(struct gobin *bin)
{
	if (!bin)
		return;
	gopclntab_close(&bin->tab);
	goelf_close(&bin->elf);
	if (bin->fd >= 0)
		close(bin->fd);
	free(bin);
}

const struct gobin_info *gobin_info(const struct gobin *bin)
{
	return &bin->info;
}

const struct gobin_layout *gobin_layout(const struct gobin *bin)
{
	return &bin->layout;
}

int gobin_function(const struct gobin *bin, const char *suffix, struct gobin_function *func)
{
	Elf64_Sym sym;
	int err;

	memset(func, 0, sizeof(*func));
	if (!suffix[0])
		return -EINVAL;
	/* The pclntab has every function of .symtab that is Go's, and is read with less. */
	if (bin->has_tab)
		return gopclntab_find(&bin->tab, suffix, func);
	err = goelf_symbol(&bin->elf, suffix, false, STT_FUNC, &sym, func->name,
			   sizeof(func->name));
	if (err)
		return err;
	func->addr = sym.st_value;
	func->size_bytes = sym.st_size;
	return goelf_offset(&bin->elf, func->addr, &func->file_off);
}

int gobin_probe_offset(const struct gobin *bin, const struct gobin_function *func,
		       uint64_t *file_off)
{
	return gobin_probe_read(&bin->elf, func, file_off);
}
