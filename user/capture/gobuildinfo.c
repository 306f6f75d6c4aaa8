// SPDX-License-Identifier: BSD-2-Clause
/*
 * Build information of a Go program: section .go.buildinfo, 14 bytes of magic, pointer size, flags.
 * From Go 1.18 on (flag 2) padding to 32, then two strings, each with a varint length; before that
 * two pointers to string variables (pointer, length). They are the Go version, and the modules
 * between two 16-byte marks:
 *
 *   path<TAB>tailscale.com/cmd/derper
 *   mod<TAB>module<TAB>version<TAB>sum
 *   dep<TAB>module<TAB>version<TAB>sum
 *   =><TAB>module<TAB>version<TAB>sum		replaces the line before
 */
#include "capture/gobin_private.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	INFO_MAX = 4 << 20,
	MARK = 16,
	POINTERS_OFF = 16,
	STRINGS_OFF = 32,
	FLAGS_BIG_ENDIAN = 1,
	FLAGS_INLINE = 2,
};

/* A piece of the text: not terminated. */
struct piece {
	const char *p;
	size_t len;
};

static bool take_string(const uint8_t **p, const uint8_t *end, struct piece *piece)
{
	uint64_t len = 0;
	unsigned int shift = 0;

	while (*p < end && shift < 35) {
		const uint8_t b = *(*p)++;

		len |= (uint64_t)(b & 0x7f) << shift;
		shift += 7;
		if (!(b & 0x80)) {
			if (len > (size_t)(end - *p))
				return false;
			piece->p = (const char *)*p;
			piece->len = len;
			*p += len;
			return true;
		}
	}
	return false;
}

/* Copy what may be shown; a byte that may not is where the text ends. */
static void copy_text(char *dst, size_t size, struct piece src)
{
	size_t i;

	for (i = 0; i < src.len && i + 1 < size && isgraph((unsigned char)src.p[i]); i++)
		dst[i] = src.p[i];
	dst[i] = '\0';
}

static bool piece_is(struct piece piece, const char *text)
{
	return piece.len == strlen(text) && !memcmp(piece.p, text, piece.len);
}

/* Cut the text before the next separator off. */
static struct piece cut(struct piece *rest, char separator)
{
	const char *at = rest->len ? memchr(rest->p, separator, rest->len) : NULL;
	struct piece head = {rest->p, at ? (size_t)(at - rest->p) : rest->len};

	rest->p += head.len + (at ? 1 : 0);
	rest->len -= head.len + (at ? 1 : 0);
	return head;
}

struct module {
	struct piece path;		/* as imported */
	struct piece actual_path;	/* where replaced */
	struct piece version;
};

/* Does the module hold this package or function? */
static bool module_holds(const struct module *module, const char *name)
{
	return module->path.len && !strncmp(name, module->path.p, module->path.len) &&
	       (name[module->path.len] == '/' || name[module->path.len] == '.' ||
		name[module->path.len] == '\0');
}

/* Of all modules that hold name, the one with the longest path. */
static bool find_module(struct piece text, const char *name, struct module *best)
{
	struct module now = {0};
	bool found = false, now_is_best = false;

	while (text.len) {
		struct piece line = cut(&text, '\n'), word = cut(&line, '\t');

		if (piece_is(word, "mod") || piece_is(word, "dep")) {
			now.path = now.actual_path = cut(&line, '\t');
			now.version = cut(&line, '\t');
			now_is_best = module_holds(&now, name) &&
				      (!found || now.path.len > best->path.len);
		} else if (piece_is(word, "=>")) {
			now.actual_path = cut(&line, '\t');
			now.version = cut(&line, '\t');
		} else {
			continue;
		}
		if (now_is_best) {
			*best = now;
			found = true;
		}
	}
	return found;
}

static void join(char *dst, size_t size, const char *name, struct piece version)
{
	char text[64];

	copy_text(text, sizeof(text), version);
	if (text[0] && text[0] != '(')	/* "(devel)" says nothing */
		snprintf(dst, size, "%s %s", name, text);
	else
		snprintf(dst, size, "%s", name);
}

static void read_modules(struct piece text, const char *server, struct gobin_info *info)
{
	struct piece lines = text;
	struct module module;
	char name[160] = "";

	while (lines.len && !name[0]) {
		struct piece line = cut(&lines, '\n');

		if (piece_is(cut(&line, '\t'), "path"))
			copy_text(name, sizeof(name), line);
	}
	if (find_module(text, name, &module))
		join(info->software, sizeof(info->software), name, module.version);
	else
		snprintf(info->software, sizeof(info->software), "%s", name);
	if (server && find_module(text, server, &module)) {
		copy_text(name, sizeof(name), module.actual_path);
		join(info->derp_module, sizeof(info->derp_module), name, module.version);
	}
}

static void read_strings(struct piece version, struct piece modules, const char *server,
			 struct gobin_info *info)
{
	copy_text(info->go_version, sizeof(info->go_version), version);
	if (!strncmp(info->go_version, "go1.", 4))
		info->go_minor = (int)strtol(info->go_version + 4, NULL, 10);
	if (modules.len > 2 * MARK) {
		modules.p += MARK;
		modules.len -= 2 * MARK;
		read_modules(modules, server, info);
	}
}

/* The string variable that the pointer at addr leads to, into memory that the caller frees. */
static void *load_string(const struct goelf *elf, uint64_t addr, struct piece *piece)
{
	uint64_t var, text, off, len;
	void *data;

	if (goelf_pointer(elf, addr, &var) || goelf_pointer(elf, var, &text) ||
	    goelf_offset(elf, var + 8, &off) || goelf_read(elf, off, &len, sizeof(len)) ||
	    goelf_offset(elf, text, &off) || goelf_load(elf, off, len, INFO_MAX, &data))
		return NULL;
	piece->p = data;
	piece->len = len;
	return data;
}

static void read_pointed(const struct goelf *elf, uint64_t addr, const char *server,
			 struct gobin_info *info)
{
	struct piece version = { "", 0 }, modules = { "", 0 };
	void *held[2] = {load_string(elf, addr, &version), load_string(elf, addr + 8, &modules)};

	read_strings(version, modules, server, info);
	free(held[0]);
	free(held[1]);
}

void gobuildinfo_read(const struct goelf *elf, const char *server, struct gobin_info *info)
{
	static const char magic[14] = "\xff Go buildinf:";
	const Elf64_Shdr *sh = goelf_section(elf, ".go.buildinfo");
	struct piece version, modules;
	const uint8_t *p, *end;
	void *data;

	if (!sh || sh->sh_type == SHT_NOBITS ||
	    goelf_load(elf, sh->sh_offset, sh->sh_size, INFO_MAX, &data))
		return;
	p = data;
	end = p + sh->sh_size;
	if (sh->sh_size < STRINGS_OFF || memcmp(p, magic, sizeof(magic)))
		goto cleanup;
	if (!(p[15] & FLAGS_INLINE)) {
		if (p[14] == 8 && !(p[15] & FLAGS_BIG_ENDIAN))
			read_pointed(elf, sh->sh_addr + POINTERS_OFF, server, info);
		goto cleanup;
	}
	p += STRINGS_OFF;
	if (!take_string(&p, end, &version))
		goto cleanup;
	if (!take_string(&p, end, &modules))
		modules.len = 0;
	read_strings(version, modules, server, info);
cleanup:
	free(data);
}
