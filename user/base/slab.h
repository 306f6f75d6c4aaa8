/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Millions of small blocks of bytes, each known by a number of 32 bits: no header, no pointer, sizes
 * in steps of 8 bytes up to 128, then of an eighth to a fifth. A block's number says which size it has.
 */
#ifndef DT_BASE_SLAB_H
#define DT_BASE_SLAB_H

#include <stddef.h>
#include <stdint.h>

#define SLAB_SIZES	32
#define SLAB_MAX	848	/* bytes of the largest */

/* All zero is an empty one. */
struct slab {
	struct slab_size {
		uint8_t **chunks;
		size_t chunk_count;
		uint32_t next;		/* never used yet */
		uint32_t free;		/* list; 0: none */
	} size[SLAB_SIZES];
};

/* Room for @len bytes, SLAB_MAX at most; 0 without memory. Valid until dropped. */
uint32_t slab_take(struct slab *s, size_t len);
/* 0 is accepted. */
void slab_drop(struct slab *s, uint32_t block);
/* How much it holds. */
size_t slab_room(uint32_t block);

#define SLAB_SIZE_SHIFT	27
#define SLAB_CHUNK	256u	/* blocks */

extern const uint16_t slab_bytes[SLAB_SIZES];

/* On 8 bytes. */
static inline uint8_t *slab_at(const struct slab *s, uint32_t block)
{
	const uint32_t size = block >> SLAB_SIZE_SHIFT, i = block & ((1u << SLAB_SIZE_SHIFT) - 1);

	return s->size[size].chunks[i / SLAB_CHUNK] + i % SLAB_CHUNK * slab_bytes[size];
}

void slab_free(struct slab *s);

#endif
