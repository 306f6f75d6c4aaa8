// SPDX-License-Identifier: BSD-2-Clause
/* Which processes were asked for. */
#include "capture/relay_private.h"

#include <stdio.h>
#include <string.h>

bool relay_cgroup_has_unit(const char *path, const char *unit)
{
	size_t len = strlen(unit);
	const char *end;

	for (; *path; path = end) {
		while (*path == '/')
			path++;
		end = path + strcspn(path, "/");
		if (!len || strncmp(path, unit, len) || path + len > end)
			continue;
		if (path + len == end ||
		    (!memchr(unit, '.', len) && (size_t)(end - path) == len + 8 &&
		     !strncmp(path + len, ".service", 8)))
			return true;
	}
	return false;
}

bool relay_cgroup_is_below(const char *path, const char *wanted)
{
	size_t len;

	path += strspn(path, "/");
	wanted += strspn(wanted, "/");
	len = strlen(wanted);
	while (len && wanted[len - 1] == '/')
		len--;
	return !strncmp(path, wanted, len) && (!len || path[len] == '\0' || path[len] == '/');
}

/* Lines are "hierarchy:controllers:path"; any hierarchy may name a unit, cgroup v2 has number 0. */
static bool filter_cgroup(const struct capture_filter *filter, pid_t pid)
{
	bool unit = !filter->unit, cgroup = !filter->cgroup;
	char line[4096], *path;
	FILE *f;

	if (unit && cgroup)
		return true;
	snprintf(line, sizeof(line), "/proc/%d/cgroup", (int)pid);
	f = fopen(line, "re");
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		path = strchr(line, ':');
		path = path ? strchr(path + 1, ':') : NULL;
		if (!path)
			continue;
		unit = unit || relay_cgroup_has_unit(path + 1, filter->unit);
		cgroup = cgroup || (!strncmp(line, "0:", 2) &&
				    relay_cgroup_is_below(path + 1, filter->cgroup));
	}
	fclose(f);
	return unit && cgroup;
}

bool relay_filter_process(const struct capture_filter *filter, pid_t pid, const char *comm)
{
	if (filter->comm && strcmp(filter->comm, comm))
		return false;
	return filter_cgroup(filter, pid);
}
