// SPDX-License-Identifier: BSD-2-Clause
#include "base/slab.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define LAST	((1u << SLAB_SIZE_SHIFT) - 1)

const uint16_t slab_bytes[SLAB_SIZES] = {
	16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128, 144, 160, 176, 192, 208, 224,
	240, 264, 288, 320, 360, 400, 448, 512, 592, 704, SLAB_MAX,
};

static uint32_t size_for(size_t len)
{
	uint32_t size = 0;

	while (slab_bytes[size] < len)
		size++;
	return size;
}

static bool add_chunk(struct slab_size *z, uint32_t size)
{
	uint8_t **grown;

	/* The list of chunks grows when their number is a power of two. */
	if (!(z->chunk_count & (z->chunk_count - 1))) {
		grown = reallocarray(z->chunks, z->chunk_count ? 2 * z->chunk_count : 1,
				     sizeof(*grown));
		if (!grown)
			return false;
		z->chunks = grown;
	}
	z->chunks[z->chunk_count] = malloc(SLAB_CHUNK * slab_bytes[size]);
	if (!z->chunks[z->chunk_count])
		return false;
	z->chunk_count++;
	return true;
}

uint32_t slab_take(struct slab *s, size_t len)
{
	uint32_t size = size_for(len), block;
	struct slab_size *z = &s->size[size];

	if (z->free) {
		block = size << SLAB_SIZE_SHIFT | z->free;
		memcpy(&z->free, slab_at(s, block), sizeof(z->free));
		return block;
	}
	/* Number 0 of each size is none: it ends the list, and of the first size it is no block. */
	if (!z->next)
		z->next = 1;
	if (z->next > LAST || (z->next >= z->chunk_count * SLAB_CHUNK && !add_chunk(z, size)))
		return 0;
	return size << SLAB_SIZE_SHIFT | z->next++;
}

void slab_drop(struct slab *s, uint32_t block)
{
	struct slab_size *z = &s->size[block >> SLAB_SIZE_SHIFT];

	if (!block)
		return;
	memcpy(slab_at(s, block), &z->free, sizeof(z->free));
	z->free = block & LAST;
}

size_t slab_room(uint32_t block)
{
	return block ? slab_bytes[block >> SLAB_SIZE_SHIFT] : 0;
}

void slab_free(struct slab *s)
{
	uint32_t size;
	size_t i;

	for (size = 0; size < SLAB_SIZES; size++) {
		for (i = 0; i < s->size[size].chunk_count; i++)
			free(s->size[size].chunks[i]);
		free(s->size[size].chunks);
	}
	memset(s, 0, sizeof(*s));
}
