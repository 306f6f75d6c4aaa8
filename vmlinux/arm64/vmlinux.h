/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The kernel's types for programs on arm64: see README.md. */
#ifndef DT_VMLINUX_H
#define DT_VMLINUX_H

#include "../kernel.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* An interrupted program's registers, as a uprobe gets them. */
struct user_pt_regs {
	__u64 regs[31];
	__u64 sp;
	__u64 pc;
	__u64 pstate;
};

struct pt_regs {
	union {
		struct user_pt_regs user_regs;
		struct {
			u64 regs[31];
			u64 sp;
			u64 pc;
			u64 pstate;
		};
	};
};

#pragma clang attribute pop

#endif
