// SPDX-License-Identifier: BSD-2-Clause
/*
 * What nodes told of their pairs: by the numbers that each node gives to peers and pairs, and packed,
 * for there may be a million of them and most numbers of a row are zero. A row is the pair's first time
 * and then its counts and its histogram as base/tally.h packs them; times count from a moment of the
 * agent.
 */
#include "correlate/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/tally.h"

#define COLUMN(field)	(offsetof(struct record_pair, field) / sizeof(uint64_t))
#define HEAD_BYTES	6	/* of a packed row in a stage: number, length */
#define COUNTS_BYTES	(TALLY_BYTES(RECORD_PAIR_COLUMNS) + TALLY_BUCKETS_BYTES(LATENCY_BUCKETS))
#define ROW_BYTES	(HEAD_BYTES + COUNTS_BYTES)

_Static_assert(10 + COUNTS_BYTES <= SLAB_MAX, "a row is one block");

/* Room for place @last and all before it; what is new is zero. */
static bool reach(void **v, size_t *count, size_t last, size_t size)
{
	size_t want = *count + *count / 4 + 64;
	char *grown;

	if (last < *count)
		return true;
	if (want <= last)
		want = last + 1;
	grown = realloc(*v, want * size);
	if (!grown)
		return false;
	memset(grown + *count * size, 0, (want - *count) * size);
	*v = grown;
	*count = want;
	return true;
}

int counts_peers(struct correlate *c, struct life *life, const struct record_peers *rec)
{
	uint32_t peer;
	size_t i;

	for (i = 0; i < rec->count; i++) {
		peer = peer_get(c, &rec->v[i].key, true);
		if (peer == NONE || !reach((void **)&life->peers, &life->peer_count, rec->v[i].no,
					   sizeof(*life->peers)))
			return -ENOMEM;
		life->peers[rec->v[i].no] = peer;
	}
	return 0;
}

static bool fits(uint32_t block, size_t need)
{
	size_t room = slab_room(block);

	return need <= room && need >= room / 2;
}

/* Puts @first and @counts into the slot's block. 0 or -ENOMEM. */
static int row_put(struct correlate *c, struct pair_slot *slot, const uint8_t *first,
		   size_t first_len, const uint8_t *counts, size_t len)
{
	uint8_t bytes[SLAB_MAX];
	size_t need = first_len + len;
	uint32_t block = slot->row;

	memcpy(bytes, first, first_len);
	memcpy(bytes + first_len, counts, len);
	if (!fits(block, need)) {
		block = slab_take(&c->rows, need);
		if (!block)
			return -ENOMEM;
		slab_drop(&c->rows, slot->row);
		slot->row = block;
	}
	memcpy(slab_at(&c->rows, block), bytes, need);
	return 0;
}

static uint32_t peer_of(const struct life *life, uint32_t number)
{
	return number < life->peer_count ? life->peers[number] : 0;
}

static const uint8_t *unpack(const uint8_t *p, struct pair_row *row)
{
	p = tally_unpack(p, (uint64_t *)&row->books, RECORD_PAIR_COLUMNS);
	p = tally_unpack_buckets(p, &row->latency_kept);
	row->latency = row->latency_kept.count ? &row->latency_kept : NULL;
	return p;
}

static int pair_told(struct correlate *c, struct life *life, const struct record_pair_ends *ends)
{
	uint32_t pair = pair_of_peers(c, peer_of(life, ends->src), peer_of(life, ends->dst));
	uint64_t base_ns = c->agents[life->agent].base_ns, first_ns;
	struct pair_slot *slot;
	static const uint8_t none[2];	/* no counts, no samples */
	const uint8_t *counts = none;
	uint8_t first[10];
	size_t len = sizeof(none);

	if (pair == NONE || !reach((void **)&life->pairs, &life->pair_count, ends->no,
				   sizeof(*life->pairs)))
		return -ENOMEM;
	slot = &life->pairs[ends->no];
	if (slot->pair != pair) {
		slab_drop(&c->rows, slot->row);
		*slot = (struct pair_slot){ .pair = pair };
	}
	if (pair == OTHER_PAIR)
		return 0;
	if (slot->row) {
		struct pair_row row;

		counts = tally_get(slab_at(&c->rows, slot->row), &first_ns);
		len = (size_t)(unpack(counts, &row) - counts);
	}
	return row_put(c, slot, first, (size_t)(tally_put(first, ends->first_ns - base_ns) - first),
		       counts, len);
}

int counts_pairs(struct correlate *c, struct life *life, const struct record_pairs *rec)
{
	size_t i;
	int err = 0;

	for (i = 0; i < rec->count && !err; i++)
		err = pair_told(c, life, &rec->v[i]);
	return err;
}

/* The columns that are there, and which they are. */
struct columns {
	const uint64_t *v[RECORD_PAIR_COLUMNS];
	uint8_t what[RECORD_PAIR_COLUMNS];
	unsigned int count;
	const uint32_t *latency;	/* of the next one */
};

static uint8_t *pack_one(const struct columns *columns, size_t place, uint64_t base_ns, uint8_t *p)
{
	uint64_t v[RECORD_PAIR_COLUMNS], used = 0, value;
	unsigned int i;

	for (i = 0; i < columns->count; i++) {
		value = columns->v[i][place];
		v[columns->what[i]] = value;
		used |= (uint64_t)(value != 0) << columns->what[i];
	}
	if (used >> COLUMN(last_ns) & 1)
		v[COLUMN(last_ns)] -= base_ns;
	p = tally_put(p, used);
	for (; used; used &= used - 1)
		p = tally_put(p, v[__builtin_ctzll(used)]);
	return p;
}

size_t counts_pack(const struct record_counts *rec, uint64_t base_ns, size_t from, size_t *to,
		   uint8_t *bytes, size_t room)
{
	struct columns columns = { .latency = rec->latency };
	uint8_t *p = bytes, *end;
	uint16_t len;
	size_t i;

	for (i = 0; i < RECORD_PAIR_COLUMNS; i++) {
		if (!rec->column[i])
			continue;
		columns.v[columns.count] = rec->column[i];
		columns.what[columns.count++] = (uint8_t)i;
	}
	for (i = 0; i < from; i++)
		columns.latency += rec->latency_count[i];
	for (i = from; i < rec->count && (size_t)(bytes + room - p) >= ROW_BYTES; i++) {
		end = pack_one(&columns, i, base_ns, p + HEAD_BYTES);
		end = tally_pack_buckets(rec->latency_first[i], columns.latency,
					 rec->latency_count[i], end);
		columns.latency += rec->latency_count[i];
		len = (uint16_t)(end - p - HEAD_BYTES);
		memcpy(p, &rec->pair[i], sizeof(rec->pair[i]));
		memcpy(p + sizeof(rec->pair[i]), &len, sizeof(len));
		p = end;
	}
	*to = i;
	return (size_t)(p - bytes);
}

/* A row that is told to be empty has gone to its node's other row. */
static void note_folded(struct correlate *c, const struct pair_slot *slot, const uint8_t *before,
			const uint8_t *counts)
{
	uint64_t had, has;

	tally_get(before, &had);
	tally_get(counts, &has);
	c->pairs[slot->pair].folded |= had && !has;
}

int counts_apply(struct correlate *c, struct life *life, const uint8_t *bytes, size_t len)
{
	const uint8_t *p = bytes, *counts, *first, *before;
	struct pair_slot *slot;
	uint64_t first_ns;
	uint32_t number;
	uint16_t n;
	int err = 0;

	for (; p < bytes + len && !err; p = counts + n) {
		memcpy(&number, p, sizeof(number));
		memcpy(&n, p + sizeof(number), sizeof(n));
		counts = p + HEAD_BYTES;
		slot = number < life->pair_count ? &life->pairs[number] : NULL;
		if (!slot || !slot->row)
			continue;
		first = slab_at(&c->rows, slot->row);
		before = tally_get(first, &first_ns);
		note_folded(c, slot, before, counts);
		if (fits(slot->row, (size_t)(before - first) + n))
			memcpy(slab_at(&c->rows, slot->row) + (before - first), counts, n);
		else
			err = row_put(c, slot, first, (size_t)(before - first), counts, n);
	}
	return err;
}

bool counts_get(const struct correlate *c, const struct life *life, size_t number,
		struct pair_row *row)
{
	uint64_t base_ns = c->agents[life->agent].base_ns;
	const uint8_t *p;

	memset(row, 0, offsetof(struct pair_row, room));
	if (number >= life->pair_count || !life->pairs[number].row)
		return false;
	p = tally_get(slab_at(&c->rows, life->pairs[number].row), &row->first_ns);
	row->first_ns += base_ns;
	unpack(p, row);
	row->last_ns += row->last_ns ? base_ns : 0;
	return true;
}

void counts_drop(struct correlate *c, struct life *life)
{
	size_t i;

	for (i = 0; i < life->pair_count; i++)
		slab_drop(&c->rows, life->pairs[i].row);
	free(life->pairs);
	free(life->peers);
}
