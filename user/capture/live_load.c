// SPDX-License-Identifier: BSD-2-Clause
#include "capture/live_load.h"

#include <errno.h>
#include <linux/types.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <bpf/libbpf.h>

#include "abi.h"
#include "derptrace.skel.h"

#define OWN_PID_NS	"/proc/self/ns/pid"
#define FIRST_PID_NS	0xeffffffcu	/* inode of the first pid namespace, fixed */

bool live_load_is_nested(void)
{
	struct stat st;

	return !stat(OWN_PID_NS, &st) && st.st_ino != FIRST_PID_NS;
}

static void name_pid_namespace(struct derptrace_bpf *skel)
{
	struct stat st;

	if (!live_load_is_nested() || stat(OWN_PID_NS, &st))
		return;
	skel->rodata->pid_namespace = (uint32_t)st.st_ino;
	/* As the kernel has it in itself. */
	skel->rodata->pid_namespace_dev = major(st.st_dev) << 20 | minor(st.st_dev);
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
		skel->rodata->kernel_types = skel->rodata->kernel_reads = 0;
	return skel;
}

struct derptrace_bpf *live_load_open(int *types_fd)
{
	struct derptrace_bpf *skel;

	*types_fd = -1;
	skel = access(KERNEL_TYPES, R_OK) ? open_without_types(types_fd) : derptrace_bpf__open();
	if (!skel)
		return NULL;
	name_pid_namespace(skel);
	if (!libbpf_probe_bpf_helper(BPF_PROG_TYPE_CGROUP_SKB, BPF_FUNC_probe_read_kernel, NULL))
		skel->rodata->kernel_reads = 0;
	return skel;
}
