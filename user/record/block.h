/* SPDX-License-Identifier: BSD-2-Clause */
/* The blocks of a .dtr, as record.h describes them; reader and writer share this. */
#ifndef DT_RECORD_BLOCK_H
#define DT_RECORD_BLOCK_H

#include <stdint.h>
#include <string.h>

#define BLOCK_FILE_MAGIC	"DERPTRC\2"	/* the last byte is the format */
#define BLOCK_FILE_MAGIC_LEN	8
#define BLOCK_MAGIC		0x42525444	/* "DTRB" */
#define BLOCK_HEADER_LEN	16
#define BLOCK_MAX_BYTES		(16u << 20)	/* deflated or inflated */
#define BLOCK_MAX_RECORD	(8u << 20)

struct block_header {
	uint32_t magic, bytes, crc, inflated;
};

enum block_file { BLOCK_FILE_OURS, BLOCK_FILE_OTHER_FORMAT, BLOCK_FILE_FOREIGN };

/* What a file is that begins with these eight bytes. */
static inline enum block_file block_file_is(const uint8_t *p)
{
	if (!memcmp(p, BLOCK_FILE_MAGIC, BLOCK_FILE_MAGIC_LEN))
		return BLOCK_FILE_OURS;
	return memcmp(p, BLOCK_FILE_MAGIC, BLOCK_FILE_MAGIC_LEN - 1) ? BLOCK_FILE_FOREIGN :
								       BLOCK_FILE_OTHER_FORMAT;
}

static inline uint32_t block_get_word(const uint8_t *p)
{
	return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline void block_put_word(uint8_t *p, uint32_t v)
{
	p[0] = v;
	p[1] = v >> 8;
	p[2] = v >> 16;
	p[3] = v >> 24;
}

static inline struct block_header block_get_header(const uint8_t *p)
{
	return (struct block_header){ block_get_word(p), block_get_word(p + 4),
				      block_get_word(p + 8), block_get_word(p + 12) };
}

#endif
