// SPDX-License-Identifier: BSD-2-Clause
/* A .dtr: the first byte chooses between one record and a file of blocks. */
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>
#include <stdio.h>

#include "record/record.h"

static int put(void *ctx, const struct record *r)
{
	(void)ctx;
	return r->type > RECORD_CUT;
}

static void read_one(const uint8_t *data, size_t size)
{
	struct record_scratch *scratch = NULL;
	struct record r;

	record_unpack(data, size, &r, &scratch);
	record_scratch_free(scratch);
}

static void read_blocks(const uint8_t *data, size_t size)
{
	const struct record_sink sink = { NULL, put };
	struct record_reader *reader;
	char path[32], err[256];
	int fd = memfd_create("fuzz", 0);

	if (fd < 0)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (write(fd, data, size) == (ssize_t)size) {
		reader = record_reader_open(path, err);
		if (reader)
			record_reader_run(reader, &sink, true);
		record_reader_close(reader);
	}
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size && data[0] & 1)
		read_one(data + 1, size - 1);
	else if (size)
		read_blocks(data + 1, size - 1);
	return 0;
}
