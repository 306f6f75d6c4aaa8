/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * gobin: what the executable file of a Go program tells, stripped or not, PIE or not: whether it
 * serves DERP, what it calls itself, where a function lies and where a uprobe on it is cheap.
 *
 * The file is hostile. It is only ever read with bounded pread(): a mapping could be made to fault
 * by whoever owns the file. Nothing is kept of it but tables, the largest being .gopclntab.
 * One gobin serves one thread.
 */
#ifndef DT_CAPTURE_GOBIN_H
#define DT_CAPTURE_GOBIN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum gobin_error {
	GOBIN_OK,
	GOBIN_NO_PROCESS,	/* the process has ended, or has no executable (a kernel thread) */
	GOBIN_NO_PERMISSION,	/* /proc/PID/exe may not be read */
	GOBIN_READ_FAILED,	/* the file system failed, or no memory */
	GOBIN_NOT_ELF,		/* not a 64-bit little-endian ELF executable, or a damaged one */
	GOBIN_BAD_MACHINE,	/* neither x86-64 nor arm64 */
	GOBIN_NO_SECTIONS,	/* section headers are gone (packed, or stripped beyond strip) */
	GOBIN_NOT_GO,		/* no trace of the Go linker */
	GOBIN_NO_PCLNTAB,	/* a Go program without function names: no symbols, no pclntab */
};

/* One sentence for people, never NULL. */
const char *gobin_error_text(enum gobin_error error);

struct gobin_info {
	bool derp_server;	/* holds a DERP server: (*Server).Accept of derp or derpserver */
	bool stripped;		/* no .symtab */
	bool pie;		/* addresses in the file are relative to the load address */
	uint16_t machine;	/* EM_X86_64 or EM_AARCH64 */
	int go_minor;		/* 26 for go1.26.8; 0 if unknown */
	char go_version[48];	/* "go1.26.8", "" if unknown */
	char software[192];	/* "tailscale.com/cmd/derper v1.102.5"; the path alone where no
				 * version is known; "" without build information */
	char derp_module[192];	/* what holds the DERP server, "tailscale.com v1.102.5", as replaced
				 * by a fork; "" if unknown or derp_server is false */
};

struct gobin_function {
	uint64_t addr;		/* of the entry, as linked: in a PIE relative to the load address */
	uint64_t file_off;	/* of the entry in the file: what uprobes count in */
	uint64_t size_bytes;	/* of the code, up to the next function */
	char name[160];		/* whole name, cut at the end if longer */
};

struct gobin;

/*
 * Open the executable of a process by /proc/PID/exe: works across mount namespaces and for files
 * that were replaced or deleted. NULL on error, *error says which; *error may not be NULL.
 */
struct gobin *gobin_open(pid_t pid, enum gobin_error *error);

/* The same from a descriptor of a regular file or memfd; the caller keeps and closes fd. */
struct gobin *gobin_open_fd(int fd, enum gobin_error *error);

/* Accepts NULL. */
void gobin_close(struct gobin *bin);

/* Valid until gobin_close(). */
const struct gobin_info *gobin_info(const struct gobin *bin);

/*
 * Find a function by the end of its name, for vendored and forked module paths: the suffix must
 * be the whole name, start with '.', or stand behind a '/':
 * "derpserver.(*Server).recordDrop" finds "tailscale.com/derp/derpserver.(*Server).recordDrop".
 * The first in address order is taken. 0, or -ENOENT (also: inlined everywhere), or -EINVAL.
 */
int gobin_function(const struct gobin *bin, const char *suffix, struct gobin_function *func);

/*
 * Where a uprobe on the function is cheap and safe, as an offset in the file: behind Go's stack
 * check, where all register arguments are still untouched: on x86-64 `push %rbp` (emulated by the
 * kernel; the stack is as at entry, arguments on the stack begin at rsp + 8), on arm64 the
 * `str x30` that makes the frame (stack as at entry, arguments on the stack begin at sp + 8).
 * Never on an entry that morestack comes back to. -ENOENT where the prologue is not recognised,
 * -EIO where the code cannot be read.
 */
int gobin_probe_offset(const struct gobin *bin, const struct gobin_function *func,
		       uint64_t *file_off);

/* What gomem needs to find the runtime's tables in the process; 0 where there is no such thing. */
struct gobin_layout {
	uint64_t entry_addr;	/* of the program: the process's auxv has it as loaded */
	uint64_t pclntab_addr;	/* of .gopclntab */
	uint64_t module_addr;	/* of .go.module (Go 1.26 and later) */
	uint64_t itab_table_addr; /* of runtime.itabTable, from .symtab */
	uint64_t image_start;	/* all segments, as linked */
	uint64_t image_end;
	uint64_t text_start;	/* the executable ones */
	uint64_t text_end;
	uint64_t data_start;	/* the writable ones */
	uint64_t data_end;
};

const struct gobin_layout *gobin_layout(const struct gobin *bin);

#endif
