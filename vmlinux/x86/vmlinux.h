/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The kernel's types for programs on x86: see README.md. */
#ifndef DT_VMLINUX_H
#define DT_VMLINUX_H

#include "../kernel.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* An interrupted program's registers, as a uprobe gets them. */
struct pt_regs {
	long unsigned int r15;
	long unsigned int r14;
	long unsigned int r13;
	long unsigned int r12;
	long unsigned int bp;
	long unsigned int bx;
	long unsigned int r11;
	long unsigned int r10;
	long unsigned int r9;
	long unsigned int r8;
	long unsigned int ax;
	long unsigned int cx;
	long unsigned int dx;
	long unsigned int si;
	long unsigned int di;
	long unsigned int orig_ax;
	long unsigned int ip;
	long unsigned int cs;
	long unsigned int flags;
	long unsigned int sp;
	long unsigned int ss;
};

#pragma clang attribute pop

#endif
