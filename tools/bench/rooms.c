// SPDX-License-Identifier: BSD-2-Clause
#include <stdio.h>
#include <string.h>

#include "rooms.h"

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "speed"))
		return bench_speed();
	if (argc == 2 && !strcmp(argv[1], "memory"))
		return bench_memory();
	fprintf(stderr, "usage: rooms speed | memory\n");
	return 2;
}
