// SPDX-License-Identifier: BSD-2-Clause
#include "base/packed.h"

#include <string.h>

const char *packed_command(const uint8_t *p, size_t len)
{
	static const struct {
		const char *command;
		uint8_t magic[4];
		size_t len;
	} kinds[] = {
		{ "gunzip", { 0x1f, 0x8b, 8 }, 3 },
		{ "unzstd", { 0x28, 0xb5, 0x2f, 0xfd }, 4 },
		{ "unxz", { 0xfd, '7', 'z', 'X' }, 4 },
		{ "bunzip2", { 'B', 'Z', 'h' }, 3 },
	};
	size_t i;

	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (len >= kinds[i].len && !memcmp(p, kinds[i].magic, kinds[i].len))
			return kinds[i].command;
	}
	return NULL;
}
