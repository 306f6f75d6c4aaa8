// SPDX-License-Identifier: BSD-2-Clause
#include "cmd/source.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool has_suffix(const char *name, const char *suffix)
{
	size_t n = strlen(name), m = strlen(suffix);

	return n > m && !strcmp(name + n - m, suffix);
}

/* pcapng; pcap in either byte order, of micro- or nanoseconds, and its older kin. */
static bool is_capture_magic(const uint8_t m[static 4])
{
	static const uint8_t magics[][4] = {
		{ 0x0a, 0x0d, 0x0d, 0x0a },
		{ 0xa1, 0xb2, 0xc3, 0xd4 }, { 0xd4, 0xc3, 0xb2, 0xa1 },
		{ 0xa1, 0xb2, 0x3c, 0x4d }, { 0x4d, 0x3c, 0xb2, 0xa1 },
		{ 0xa1, 0xb2, 0xcd, 0x34 }, { 0x34, 0xcd, 0xb2, 0xa1 },
	};
	size_t i;

	for (i = 0; i < sizeof(magics) / sizeof(magics[0]); i++) {
		if (!memcmp(m, magics[i], sizeof(magics[i])))
			return true;
	}
	return false;
}

static bool begins_as_capture(const char *name)
{
	uint8_t magic[4];
	struct stat st;
	bool is;
	int fd;

	/* Who waits to write into a pipe is not woken by one who will not read. */
	if (stat(name, &st) || !S_ISREG(st.st_mode))
		return false;
	fd = open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return false;
	is = !fstat(fd, &st) && S_ISREG(st.st_mode) &&
	     read(fd, magic, sizeof(magic)) == sizeof(magic) && is_capture_magic(magic);
	close(fd);
	return is;
}

enum source_kind source_kind(const char *name)
{
	if (!strcmp(name, "live"))
		return SOURCE_LIVE;
	if (!strcmp(name, "-"))
		return SOURCE_RECORDS;
	if (has_suffix(name, ".pcap") || has_suffix(name, ".pcapng") || begins_as_capture(name))
		return SOURCE_CAPTURE;
	return SOURCE_RECORDS;
}
