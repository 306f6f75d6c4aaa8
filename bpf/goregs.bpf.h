/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where Go's register ABI keeps integer arguments, and the stack pointer (Go: ABIInternal). Only
 * at a place where they are untouched yet: see gobin_probe_offset().
 */
#ifndef DT_GOREGS_BPF_H
#define DT_GOREGS_BPF_H

#if defined(__TARGET_ARCH_x86)
#define GO_ARG0(c)	((c)->ax)
#define GO_ARG1(c)	((c)->bx)
#define GO_ARG2(c)	((c)->cx)
#define GO_ARG3(c)	((c)->di)
#define GO_ARG4(c)	((c)->si)
#define GO_ARG5(c)	((c)->r8)
#define GO_ARG6(c)	((c)->r9)
#define GO_ARG7(c)	((c)->r10)
#define GO_ARG8(c)	((c)->r11)
#define GO_STACK(c)	((c)->sp)
#elif defined(__TARGET_ARCH_arm64)
#define GO_REG(c, n)	(((const struct user_pt_regs *)(c))->regs[n])
#define GO_ARG0(c)	GO_REG(c, 0)
#define GO_ARG1(c)	GO_REG(c, 1)
#define GO_ARG2(c)	GO_REG(c, 2)
#define GO_ARG3(c)	GO_REG(c, 3)
#define GO_ARG4(c)	GO_REG(c, 4)
#define GO_ARG5(c)	GO_REG(c, 5)
#define GO_ARG6(c)	GO_REG(c, 6)
#define GO_ARG7(c)	GO_REG(c, 7)
#define GO_ARG8(c)	GO_REG(c, 8)
#define GO_STACK(c)	(((const struct user_pt_regs *)(c))->sp)
#else
#error "Go's register ABI is known for x86 and arm64"
#endif

/* Arguments that stand on the stack begin here, behind the return address. */
#define GO_STACK_ARGS(c)	(GO_STACK(c) + 8)

#endif
