// SPDX-License-Identifier: BSD-2-Clause
#include "base/fold.h"

#include <string.h>

#define WORD	sizeof(uint64_t)

/*
 * What half a byte says. 0 to 8: so many bytes of the word; from SAME on: of the difference, by these
 * tables; ONES: the word is all ones, what stands for never and nowhere.
 */
#define SAME	9
#define ONES	15
static const uint8_t differs_bytes[] = { 0, 2, 3, 4, 5, 6 };
static const uint8_t differs_tag[] = { SAME, SAME + 1, SAME + 1, SAME + 2, SAME + 3, SAME + 4,
				       SAME + 5 };

static unsigned int bytes_of(uint64_t w)
{
	return w ? (unsigned int)(71 - __builtin_clzll(w)) / 8 : 0;
}

static uint8_t *put(uint8_t *to, uint64_t w, unsigned int bytes)
{
	for (; bytes; bytes--, w >>= 8)
		*to++ = (uint8_t)w;
	return to;
}

static const uint8_t *get(const uint8_t *p, uint64_t *w, unsigned int bytes)
{
	unsigned int i;

	*w = 0;
	for (i = 0; i < bytes; i++)
		*w |= (uint64_t)*p++ << 8 * i;
	return p;
}

static uint8_t tag_of(uint64_t w, uint64_t last)
{
	unsigned int bytes = bytes_of(w), differs = bytes_of(w ^ last);

	if (w == UINT64_MAX)
		return ONES;
	if (w && differs < sizeof(differs_tag) && differs_bytes[differs_tag[differs] - SAME] < bytes)
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
		tag = tag_of(w, last);
		tags[i / 2] |= (uint8_t)(tag << i % 2 * 4);
		if (tag == ONES)
			continue;
		to = tag < SAME ? put(to, w, tag) : put(to, w ^ last, differs_bytes[tag - SAME]);
		if (w)
			last = w;
	}
	return to;
}

const uint8_t *unfold(const uint8_t *p, void *to, size_t len)
{
	const size_t words = len / WORD;
	const uint8_t *tags = p;
	uint64_t last = 0, w;
	unsigned int tag;
	size_t i;

	p += (words + 1) / 2;
	for (i = 0; i < words; i++) {
		tag = tags[i / 2] >> i % 2 * 4 & 0xf;
		if (tag == ONES) {
			w = UINT64_MAX;
		} else if (tag >= SAME) {
			p = get(p, &w, differs_bytes[tag - SAME]);
			w ^= last;
		} else {
			p = get(p, &w, tag);
		}
		memcpy((uint8_t *)to + i * WORD, &w, WORD);
		if (w && tag != ONES)
			last = w;
	}
	return p;
}
