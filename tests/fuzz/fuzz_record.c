// SPDX-License-Identifier: BSD-2-Clause
/*
 * A .dtr: the first byte chooses between a file of blocks, one record, and what is inside of a whole
 * block; what is read goes on to a report.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <stdio.h>
#include <zlib.h>

#include "correlate/correlate.h"
#include "record/block.h"
#include "record/record.h"

static int put(void *ctx, const struct record *r)
{
	return correlate_put(ctx, r);
}

static void read_one(const uint8_t *data, size_t size)
{
	struct record_scratch *scratch = NULL;
	struct record r;

	record_unpack(data, size, &r, &scratch);
	record_scratch_free(scratch);
}

static void report(struct correlate *c)
{
	struct report report;

	if (!correlate_report(c, &report))
		report_free(&report);
}

static void read_file(const uint8_t *data, size_t size)
{
	struct correlate *c = correlate_new(NULL, NULL);
	const struct record_sink sink = { c, put };
	struct record_reader *reader;
	char path[32], err[256];
	int fd = memfd_create("fuzz", 0);

	if (fd < 0 || !c)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (write(fd, data, size) == (ssize_t)size) {
		reader = record_reader_open(path, err);
		if (reader)
			record_reader_run(reader, &sink, true);
		record_reader_close(reader);
		report(c);
	}
	correlate_free(c);
	close(fd);
}

/* Nobody guesses a checksum: the block is made here. */
static void read_block(const uint8_t *data, size_t size)
{
	uLongf len = compressBound(size);
	uint8_t *file = malloc(BLOCK_FILE_MAGIC_LEN + BLOCK_HEADER_LEN + len);
	uint8_t *header = file + BLOCK_FILE_MAGIC_LEN, *bytes = header + BLOCK_HEADER_LEN;

	if (!file || compress2(bytes, &len, data, size, 0) != Z_OK)
		abort();
	memcpy(file, BLOCK_FILE_MAGIC, BLOCK_FILE_MAGIC_LEN);
	block_put_word(header, BLOCK_MAGIC);
	block_put_word(header + 4, len);
	block_put_word(header + 8, crc32(0, bytes, len));
	block_put_word(header + 12, size);
	read_file(file, BLOCK_FILE_MAGIC_LEN + BLOCK_HEADER_LEN + len);
	free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	if (data[0] & 1)
		read_one(data + 1, size - 1);
	else if (data[0] & 2)
		read_block(data + 1, size - 1);
	else
		read_file(data + 1, size - 1);
	return 0;
}
