// SPDX-License-Identifier: BSD-2-Clause
#include "base/fold.h"

#include <endian.h>
#include <string.h>

#define WORD	sizeof(uint64_t)

/*
 * What half a byte says. 0 to 8: so many bytes of the word; from SAME on: of the difference, by these
 * tables; ONES: the word is all ones, what stands for never and nowhere.
 */
#define SAME	9
#define ONES	15
static const uint8_t differs_bytes[] = { 0, 2, 3, 4, 5, 6, [ONES - SAME] = 0 };
static const uint8_t differs_tag[] = { SAME, SAME + 1, SAME + 1, SAME + 2, SAME + 3, SAME + 4,
				       SAME + 5 };

static unsigned int bytes_of(uint64_t w)
{
	return w ? (unsigned int)(71 - __builtin_clzll(w)) / 8 : 0;
}

/* All eight are written; those that do not count are written over, and there is room for whole words. */
static uint8_t *put(uint8_t *to, uint64_t w, unsigned int bytes)
{
	w = htole64(w);
	memcpy(to, &w, WORD);
	return to + bytes;
}

/* What stands before them is read along, where the bytes do not begin here. */
static uint64_t get(const uint8_t *start, const uint8_t *p, unsigned int bytes)
{
	uint64_t w = 0;

	if (!bytes)
		return 0;
	if (p + bytes >= start + WORD) {
		memcpy(&w, p + bytes - WORD, WORD);
		return le64toh(w) >> (WORD - bytes) * 8;
	}
	memcpy(&w, p, bytes);
	return le64toh(w);
}

/* Of a word that is not zero. */
static uint8_t tag_of(uint64_t w, uint64_t last)
{
	unsigned int bytes = bytes_of(w), differs = bytes_of(w ^ last);

	if (w == UINT64_MAX)
		return ONES;
	if (differs < sizeof(differs_tag) && differs_bytes[differs_tag[differs] - SAME] < bytes)
		return differs_tag[differs];
	return (uint8_t)bytes;
}

uint8_t *fold(const void *from, size_t len, uint8_t *to)
{
	const size_t words = len / WORD, heads = (words + 1) / 2;
	uint8_t *tags = to, tag;
	uint64_t last = 0, w;
	size_t i;

	memset(tags, 0, heads);
	to += heads;
	for (i = 0; i < words; i++) {
		memcpy(&w, (const uint8_t *)from + i * WORD, WORD);
		if (!w)
			continue;
		tag = tag_of(w, last);
		tags[i / 2] |= (uint8_t)(tag << i % 2 * 4);
		if (tag == ONES)
			continue;
		to = tag < SAME ? put(to, w, tag) : put(to, w ^ last, differs_bytes[tag - SAME]);
		last = w;
	}
	return to;
}

const uint8_t *unfold(const uint8_t *p, void *to, size_t len)
{
	const size_t words = len / WORD;
	const uint8_t *tags = p;
	uint64_t last = 0, w;
	unsigned int tag, bytes;
	size_t i;

	p += (words + 1) / 2;
	memset(to, 0, len);
	for (i = 0; i < words; i++) {
		tag = tags[i / 2] >> i % 2 * 4 & 0xf;
		if (!tag)
			continue;
		bytes = tag < SAME ? tag : differs_bytes[tag - SAME];
		w = get(tags, p, bytes) ^ (tag < SAME ? 0 : last);
		if (tag == ONES)
			w = UINT64_MAX;
		p += bytes;
		memcpy((uint8_t *)to + i * WORD, &w, WORD);
		if (tag != ONES)
			last = w;
	}
	return p;
}
