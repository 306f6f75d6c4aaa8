// SPDX-License-Identifier: BSD-2-Clause
/*
 * The place of a uprobe in a Go function.
 *
 * A function that needs stack begins with a check, `if SP <= g.stackguard goto morestack`, and
 * morestack comes back to its first instruction: a probe there fires twice, and its return
 * trampoline would be copied with the stack. Behind the check no argument register has been
 * touched yet: rax..r11 and the stack on x86-64, x0..x15 on arm64.
 *
 * The check compares SP itself where the frame is small, else SP minus the frame:
 *
 *   x86-64   [lea r12, [rsp - N]]  cmp rsp|r12, [r14 + 16]        jbe morestack
 *            huge: mov r12, rsp; sub r12, N; jb morestack; cmp r12, [r14 + 16]; jbe morestack
 *   arm64    ldr x16, [x28, #16]  [sub x17, sp, #N]  cmp sp|x17, x16  b.ls morestack
 */
#include "capture/gobin_private.h"

#include <errno.h>
#include <string.h>

enum {
	PROLOGUE = 64,
};

struct code {
	const uint8_t *p;
	size_t len;
	size_t at;
};

static bool take(struct code *code, const char *bytes, size_t len, size_t operand)
{
	if (code->len - code->at < len + operand || memcmp(code->p + code->at, bytes, len))
		return false;
	code->at += len + operand;
	return true;
}

#define TAKE(code, bytes, operand) take(code, bytes, sizeof(bytes) - 1, operand)

static bool take_jump(struct code *code, const char *narrow, const char *wide)
{
	return take(code, narrow, 1, 1) || take(code, wide, 2, 4);
}

static int probe_x86(struct code *code)
{
	bool checked = false;

	if (TAKE(code, "\x49\x3b\x66\x10", 0)) {
		checked = true;
	} else if (TAKE(code, "\x4c\x8d\x64\x24", 1) || TAKE(code, "\x4c\x8d\xa4\x24", 4)) {
		checked = TAKE(code, "\x4d\x3b\x66\x10", 0);
		if (!checked)
			return -ENOENT;
	} else if (TAKE(code, "\x49\x89\xe4", 0)) {
		checked = (TAKE(code, "\x49\x81\xec", 4) || TAKE(code, "\x49\x83\xec", 1)) &&
			  take_jump(code, "\x72", "\x0f\x82") && TAKE(code, "\x4d\x3b\x66\x10", 0);
		if (!checked)
			return -ENOENT;
	}
	if (checked && !take_jump(code, "\x76", "\x0f\x86"))
		return -ENOENT;
	/* push %rbp; mov %rsp,%rbp. Up to Go 1.20 the frame is made by sub $N,%rsp instead. */
	if (code->len - code->at >= 4 && !memcmp(code->p + code->at, "\x55\x48\x89\xe5", 4))
		return 0;
	if (checked && code->len - code->at >= 4 &&
	    (!memcmp(code->p + code->at, "\x48\x83\xec", 3) ||
	     !memcmp(code->p + code->at, "\x48\x81\xec", 3)))
		return 0;
	return -ENOENT;
}

static uint32_t insn(const struct code *code, size_t index)
{
	uint32_t word = 0;

	if (code->at + index * 4 + 4 <= code->len)
		memcpy(&word, code->p + code->at + index * 4, 4);
	return word;
}

/* str x30, [sp, #-N]!, or, for frames that this cannot reach, sub x20, sp, #N */
static bool makes_frame_arm64(uint32_t word)
{
	return (word & 0xffe00fff) == 0xf8000ffe || (word & 0xff8003ff) == 0xd10003f4;
}

static int probe_arm64(struct code *code)
{
	size_t i = 0;

	if (insn(code, 0) != 0xf9400b90) {	/* ldr x16, [x28, #16] */
		/* No check: a leaf that makes a frame is never entered twice. */
		return makes_frame_arm64(insn(code, 0)) ? 0 : -ENOENT;
	}
	i++;
	while (i < 4 && (insn(code, i) & 0xdf8003ff) == 0xd10003f1)
		i++;	/* sub or subs x17, sp, #N */
	if (insn(code, i) == 0xeb3063ff || insn(code, i) == 0xeb10023f)
		i++;	/* cmp sp, x16, or cmp x17, x16 */
	else
		return -ENOENT;
	if ((insn(code, i) & 0xff00001f) != 0x54000009)	/* b.ls */
		return -ENOENT;
	i++;
	if (!makes_frame_arm64(insn(code, i)))
		return -ENOENT;
	code->at += i * 4;
	return 0;
}

int gobin_probe_decode(uint16_t machine, const uint8_t *bytes, size_t len, size_t *offset)
{
	struct code code = {bytes, len, 0};
	int err = machine == EM_X86_64 ? probe_x86(&code) : probe_arm64(&code);

	if (!err)
		*offset = code.at;
	return err;
}

int gobin_probe_read(const struct goelf *elf, const struct gobin_function *func, uint64_t *file_off)
{
	uint8_t bytes[PROLOGUE];
	size_t len = func->size_bytes < PROLOGUE ? (size_t)func->size_bytes : PROLOGUE, offset;
	int err;

	if (goelf_read(elf, func->file_off, bytes, len))
		return -EIO;
	err = gobin_probe_decode(elf->machine, bytes, len, &offset);
	if (!err)
		*file_off = func->file_off + offset;
	return err;
}
