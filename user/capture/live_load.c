// SPDX-License-Identifier: BSD-2-Clause
#include "capture/live_load.h"

#include <errno.h>
#include <linux/types.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/libbpf.h>

#include "abi.h"
#include "derptrace.skel.h"

#define KERNEL_TYPES	"/sys/kernel/btf/vmlinux"
#define FIRST_PID_NS	0xeffffffcu	/* inode of the first pid namespace, fixed */

/* Inode of our pid namespace where it is not the first one; else 0. */
static uint32_t foreign_pid_namespace(void)
{
	struct stat st;

	if (stat("/proc/self/ns/pid", &st) || st.st_ino == FIRST_PID_NS)
		return 0;
	return (uint32_t)st.st_ino;
}

/*
 * Without the kernel's types libbpf takes them from a file: the programs' own. Those that the
 * kernel promises never to change are right, and the others are not looked at.
 */
static struct derptrace_bpf *open_without_types(int *types_fd)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts);
	struct derptrace_bpf *skel = NULL;
	const uint8_t *elf;
	char path[32];
	size_t size;

	*types_fd = memfd_create("derptrace types", MFD_CLOEXEC);
	if (*types_fd < 0)
		return NULL;
	elf = derptrace_bpf__elf_bytes(&size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", *types_fd);
	opts.btf_custom_path = path;
	if (write(*types_fd, elf, size) == (ssize_t)size)
		skel = derptrace_bpf__open_opts(&opts);
	if (skel)
		skel->rodata->kernel_types = 0;
	return skel;
}

struct derptrace_bpf *live_load_open(int *types_fd)
{
	struct derptrace_bpf *skel;

	*types_fd = -1;
	if (access(KERNEL_TYPES, R_OK))
		return open_without_types(types_fd);
	skel = derptrace_bpf__open();
	if (skel)
		skel->rodata->pid_namespace = foreign_pid_namespace();
	return skel;
}
