/* SPDX-License-Identifier: BSD-2-Clause */
/* The programs for the kernel, as this host can take them. */
#ifndef DT_CAPTURE_LIVE_LOAD_H
#define DT_CAPTURE_LIVE_LOAD_H

#include <stdbool.h>

#define KERNEL_TYPES	"/sys/kernel/btf/vmlinux"

struct derptrace_bpf;

/*
 * Open them, ready to be loaded. On a kernel that does not tell its types (BTF) *types_fd is a
 * descriptor that libbpf reads while it loads, to be closed afterwards; else -1. NULL with errno.
 */
struct derptrace_bpf *live_load_open(int *types_fd);

/* Is this process in a pid namespace below the host's? */
bool live_load_is_nested(void);

#endif
