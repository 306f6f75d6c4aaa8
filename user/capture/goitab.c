// SPDX-License-Identifier: BSD-2-Clause
/*
 * The Go runtime's interface tables, read from a running program. An interface value is two words,
 * (itab, data); an itab says which type implements which interface:
 *
 *   itab   +0 interface type, +8 concrete type, +16 hash u32, a copy of the concrete type's, or 0
 *   type   +16 hash u32, +20 flags u8, +23 kind u8 (5 bits; 20: interface), +40 offset of its name
 *   name   flags u8, varint length, text; relative to moduledata.types; a "*" in front is left out
 *          in the flags' sense (flag 2 of the type: the text has one "*" too many)
 *
 * This has not changed from Go 1.17 to 1.26. Where moduledata holds what has: so itablinks and
 * types are known there by what they point to, not by their place. Tables made at run time (type
 * assertions) stand in runtime.itabTable only: (size, count, size slots of pointers).
 */
#include "capture/gomem_private.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	MODULE_WORDS = 96,
	LINKS_MAX = 1 << 17,
	TABLE_MAX = 1 << 18,	/* slots of runtime.itabTable */
	TABLE_MIN = 512,
	INTERFACES_MAX = 4096,
	KIND_INTERFACE = 20,
	FLAG_EXTRA_STAR = 2,
	NAME_MAX_LEN = 120,
	PROBES_MAX = 1 << 20,	/* pointers that may lead to the table */
	SUSPECTS_MAX = 1 << 10,	/* those that look like it at first */
	SAMPLE = 12,		/* itabs by which moduledata.types is found */
};

#define DATA_MAX (512ull << 20)	/* of the program's own variables */

struct reader {
	struct goitabs *itabs;
	const struct goproc *proc;
	uint64_t module[MODULE_WORDS];
	uint64_t image_start, image_end;
	uint64_t types;
	unsigned int probes, suspects;
	struct {
		uint64_t addr;
		int kind;	/* of goitab_kind, or -1 */
	} interfaces[INTERFACES_MAX];	/* those that were named already: a hash table */
};

struct raw_itab {
	uint64_t interface, type;
	uint32_t hash, pad;
};

struct raw_type {
	uint64_t size, pointers;
	uint32_t hash;
	uint8_t flags, align, field_align, kind;
	uint64_t equal, gc_data;
	int32_t name, pointer_to_this;
};

_Static_assert(sizeof(struct raw_type) == 48, "abi.Type");

static bool in_image(const struct reader *r, uint64_t addr)
{
	return addr >= r->image_start && addr < r->image_end;
}

/*
 * Read an itab and its concrete type; the hash that stands in both proves them. What the runtime
 * makes by itself has no hash.
 */
static bool read_itab(const struct reader *r, uint64_t addr, struct raw_itab *itab,
		      struct raw_type *type)
{
	return addr && addr % 8 == 0 && goproc_read(r->proc, addr, itab, sizeof(*itab)) == 0 &&
	       in_image(r, itab->interface) &&
	       goproc_read(r->proc, itab->type, type, sizeof(*type)) == 0 &&
	       (type->hash == itab->hash || !itab->hash);
}

static bool type_name(const struct reader *r, const struct raw_type *type, char *name, size_t size)
{
	uint8_t raw[3 + NAME_MAX_LEN];
	size_t len, i, at = 2;

	if (type->name <= 0 ||
	    goproc_read(r->proc, r->types + (uint32_t)type->name, raw, sizeof(raw)))
		return false;
	len = raw[1];
	if (len & 0x80) {
		len = (len & 0x7f) | (size_t)raw[2] << 7;
		at = 3;
	}
	if ((type->flags & FLAG_EXTRA_STAR) && len) {
		at++;
		len--;
	}
	if (!len || len >= size || len > NAME_MAX_LEN - 1)
		return false;
	for (i = 0; i < len; i++) {
		if (!isprint(raw[at + i]))
			return false;
	}
	memcpy(name, raw + at, len);
	name[len] = '\0';
	return true;
}

/* Which interface is this? Asked for each itab, so answers are kept. */
static int interface_kind(struct reader *r, uint64_t addr)
{
	unsigned int slot = (unsigned int)(addr * 0x9e3779b97f4a7c15ull >> 52), tries;
	struct raw_type type;
	char name[NAME_MAX_LEN];
	int kind = -1;

	for (tries = 0; tries < 64 && r->interfaces[slot].addr; tries++) {
		if (r->interfaces[slot].addr == addr)
			return r->interfaces[slot].kind;
		slot = (slot + 1) % INTERFACES_MAX;
	}
	if (goproc_read(r->proc, addr, &type, sizeof(type)) == 0 &&
	    (type.kind & 31) == KIND_INTERFACE && type_name(r, &type, name, sizeof(name))) {
		if (!strcmp(name, "net.Conn"))
			kind = GOITAB_CONN;
		else if (!strcmp(name, "derp.Conn") || !strcmp(name, "derpserver.Conn"))
			kind = GOITAB_DERP;
	}
	if (!r->interfaces[slot].addr) {
		r->interfaces[slot].addr = addr;
		r->interfaces[slot].kind = kind;
	}
	return kind;
}

static void add(struct reader *r, uint64_t addr)
{
	struct goitabs *itabs = r->itabs;
	struct goitab *itab;
	struct raw_itab raw;
	struct raw_type type;
	unsigned int slot;
	int kind;

	if (!read_itab(r, addr, &raw, &type))
		return;
	kind = interface_kind(r, raw.interface);
	if (kind < 0 || goitabs_get(itabs, addr))
		return;
	if (itabs->count == GOITABS_MAX) {
		itabs->truncated = true;
		return;
	}
	itab = &itabs->all[itabs->count];
	memset(itab, 0, sizeof(*itab));
	itab->addr = addr;
	itab->kind = (enum goitab_kind)kind;
	if (!type_name(r, &type, itab->type, sizeof(itab->type)))
		snprintf(itab->type, sizeof(itab->type), "?");
	if (!strcmp(itab->type, "*tls.Conn"))
		itab->concrete = GOITAB_TLS;
	else if (!strcmp(itab->type, "*net.TCPConn"))
		itab->concrete = GOITAB_TCP;
	if (itab->kind == GOITAB_CONN)
		itabs->conn_count++;
	else
		itabs->derp_count++;
	for (slot = goitab_slot(addr); itabs->slots[slot] >= 0; slot = (slot + 1) % GOITABS_SLOTS)
		;
	itabs->slots[slot] = (int16_t)itabs->count++;
}

/* A list of pointers in the process, to be freed; NULL if it cannot be read. */
static uint64_t *read_words(const struct reader *r, uint64_t addr, size_t count)
{
	uint64_t *words = malloc(count * sizeof(*words));

	if (words && goproc_read(r->proc, addr, words, count * sizeof(*words)) == 0)
		return words;
	free(words);
	return NULL;
}

/* "io.Writer", "net.Conn": what most interfaces are called. */
static bool is_qualified(const char *name)
{
	const char *dot = strchr(name, '.');

	return dot && dot > name && islower((unsigned char)name[0]) &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == (size_t)(dot - name) &&
	       isalpha((unsigned char)dot[1]);
}

/* Of a sample of itabs, how many interfaces are named sensibly with these types? */
static int count_names(const struct reader *r, const uint64_t *itabs, uint64_t count)
{
	struct raw_itab itab;
	struct raw_type type;
	char name[NAME_MAX_LEN];
	int good = 0, tried = 0;
	uint64_t i;

	for (i = 0; i < count && tried < SAMPLE; i++) {
		if (!itabs[i] || !read_itab(r, itabs[i], &itab, &type))
			continue;
		tried++;
		if (goproc_read(r->proc, itab.interface, &type, sizeof(type)) == 0 &&
		    (type.kind & 31) == KIND_INTERFACE &&
		    type_name(r, &type, name, sizeof(name)) && is_qualified(name))
			good++;
	}
	return good;
}

/*
 * moduledata.types: names are relative to it. Several words of moduledata lie below all types (and
 * other things between them in a PIE), so the one counts with which most names make sense.
 */
static bool find_types(struct reader *r, const uint64_t *itabs, uint64_t count)
{
	uint64_t best = 0;
	int i, good, best_good = 0;

	for (i = 0; i < MODULE_WORDS && best_good < SAMPLE; i++) {
		if (!in_image(r, r->module[i]))
			continue;
		r->types = r->module[i];
		good = count_names(r, itabs, count);
		if (good > best_good) {
			best_good = good;
			best = r->types;
		}
	}
	r->types = best;
	return best != 0;
}

/* moduledata.itablinks: a slice whose elements are itabs. Adds them. */
static bool add_links(struct reader *r)
{
	struct raw_itab itab;
	struct raw_type type;
	int i;

	for (i = 0; i + 2 < MODULE_WORDS; i++) {
		const uint64_t *slice = &r->module[i];
		uint64_t *links, k;

		if (!in_image(r, slice[0]) || !slice[1] || slice[1] != slice[2] ||
		    slice[1] > LINKS_MAX)
			continue;
		links = read_words(r, slice[0], slice[1]);
		if (links && read_itab(r, links[0], &itab, &type) &&
		    (r->types || find_types(r, links, slice[1]))) {
			for (k = 0; k < slice[1]; k++)
				add(r, links[k]);
			free(links);
			return true;
		}
		free(links);
	}
	return false;
}

/* Is the variable a pointer to a table of itabs? Adds them. */
static bool add_table(struct reader *r, uint64_t table)
{
	uint64_t head[2], *slots, i, filled = 0, hashed = 0;
	bool good = false;

	if (table % 8 || goproc_read(r->proc, table, head, sizeof(head)) || head[0] < TABLE_MIN ||
	    head[0] > TABLE_MAX || (head[0] & (head[0] - 1)) || !head[1] || head[1] > head[0])
		return false;
	r->suspects++;
	slots = read_words(r, table + sizeof(head), head[0]);
	if (!slots)
		return false;
	for (i = 0; i < head[0]; i++) {
		struct raw_itab itab;
		struct raw_type type;

		if (!slots[i])
			continue;
		if (filled++ >= SAMPLE)
			continue;
		if (!read_itab(r, slots[i], &itab, &type))
			goto cleanup;
		hashed += itab.hash != 0;
	}
	/* Most are made by the linker. The table may be filled while it is read. */
	if (hashed < SAMPLE / 2 || filled < head[1] || filled > head[1] + 64)
		goto cleanup;
	if (!r->types && !find_types(r, slots, head[0]))
		goto cleanup;
	for (i = 0; i < head[0]; i++)
		add(r, slots[i]);
	good = true;
cleanup:
	free(slots);
	return good;
}

static bool table_at(struct reader *r, uint64_t var)
{
	uint64_t table;

	if (!var || goproc_read(r->proc, var, &table, sizeof(table)) || !add_table(r, table))
		return false;
	r->itabs->table_var = var;
	return true;
}

/* Without symbols the variable is the word in writable data that points to such a table. */
static bool table_piece(void *context, uint64_t addr, uint8_t *bytes, size_t len)
{
	struct reader *r = context;
	uint64_t table;
	size_t i;

	for (i = 0; i + 8 <= len; i += 8) {
		memcpy(&table, bytes + i, 8);
		if (table < 4096 || table % 8 || table >> 47)
			continue;
		if (r->probes++ > PROBES_MAX || r->suspects > SUSPECTS_MAX)
			return false;
		if (add_table(r, table)) {
			r->itabs->table_var = addr + i;
			return false;
		}
	}
	return true;
}

struct module_search {
	uint64_t pclntab;
	uint64_t found;
};

/* moduledata begins with a pointer to the pclntab, and its second pointer leads into it. */
static bool module_piece(void *context, uint64_t addr, uint8_t *bytes, size_t len)
{
	struct module_search *search = context;
	uint64_t words[4];
	size_t i;

	for (i = 0; i + sizeof(words) <= len; i += 8) {
		memcpy(words, bytes + i, sizeof(words));
		if (words[0] == search->pclntab && words[1] > words[0] &&
		    words[1] - words[0] < 4096 && words[2] == words[3]) {
			search->found = addr + i;
			return false;
		}
	}
	return true;
}

static uint64_t find_module(const struct goproc *proc, const struct gobin_layout *layout,
			    uint64_t bias, uint64_t data_end)
{
	struct module_search search = {.pclntab = layout->pclntab_addr + bias};
	struct goproc_walked walked = {0};
	uint64_t first;

	if (layout->module_addr &&
	    goproc_read(proc, layout->module_addr + bias, &first, sizeof(first)) == 0 &&
	    first == search.pclntab)
		return layout->module_addr + bias;
	goproc_walk_range(proc, layout->data_start + bias, data_end, module_piece, &search,
			  &walked);
	return search.found;
}

enum gomem_error goitabs_read(struct goitabs *itabs, const struct goproc *proc,
			      const struct gobin_layout *layout, uint64_t bias)
{
	const uint64_t table_var = itabs->table_var;
	uint64_t data_end = layout->data_end + bias, module;
	enum gomem_error error = GOMEM_OK;
	struct goproc_walked walked = {0};
	struct reader *r;
	bool links, table;

	memset(itabs, 0, sizeof(*itabs));
	memset(itabs->slots, 0xff, sizeof(itabs->slots));
	if (layout->data_end - layout->data_start > DATA_MAX)
		data_end = layout->data_start + bias + DATA_MAX;
	module = find_module(proc, layout, bias, data_end);
	if (!module)
		return GOMEM_NO_MODULE;
	r = calloc(1, sizeof(*r));
	if (!r)
		return GOMEM_READ_FAILED;
	r->itabs = itabs;
	r->proc = proc;
	r->image_start = layout->image_start + bias;
	r->image_end = layout->image_end + bias;
	if (goproc_read(proc, module, r->module, sizeof(r->module))) {
		error = GOMEM_NO_MODULE;
		goto cleanup;
	}
	links = add_links(r);
	table = table_at(r, table_var) ||
		(layout->itab_table_addr && table_at(r, layout->itab_table_addr + bias));
	if (!table) {
		goproc_walk_range(proc, layout->data_start + bias, data_end, table_piece, r,
				  &walked);
		table = itabs->table_var != 0;
	}
	if (!links && !table)
		error = GOMEM_NO_ITABS;
	else if (!itabs->conn_count)
		error = GOMEM_NO_CONN;
cleanup:
	free(r);
	return error;
}
