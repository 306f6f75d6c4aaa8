// SPDX-License-Identifier: BSD-2-Clause
/* What a relay was told on its command line. */
#include "capture/relay.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* "-hostname=x" or "--hostname=x": x; "-hostname": "", the next argument is it; NULL: another one. */
static const char *hostname_option(const char *argument)
{
	static const char option[] = "-hostname";

	if (argument[0] == '-' && argument[1] == '-')
		argument++;
	if (strncmp(argument, option, sizeof(option) - 1))
		return NULL;
	argument += sizeof(option) - 1;
	return *argument == '=' ? argument + 1 : *argument ? NULL : argument;
}

static bool copy_name(const char *from, char *name, size_t size)
{
	size_t i;

	for (i = 0; from[i]; i++) {
		if (i == size - 1 || from[i] <= 0x20 || from[i] >= 0x7f)
			return false;
		name[i] = from[i];
	}
	name[i] = '\0';
	return i;
}

bool relay_hostname(pid_t pid, char *name, size_t size)
{
	char path[32], text[4096];
	const char *argument, *value;
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (len <= 0)
		return false;
	text[len] = '\0';
	for (argument = text; argument < text + len; argument += strlen(argument) + 1) {
		value = hostname_option(argument);
		if (!value)
			continue;
		if (!*value && value[-1] != '=')
			value = argument + strlen(argument) + 1;
		return value < text + len && copy_name(value, name, size);
	}
	return false;
}
