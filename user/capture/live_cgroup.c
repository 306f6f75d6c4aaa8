// SPDX-License-Identifier: BSD-2-Clause
/* The root of the cgroup v2 hierarchy, where the socket programs are attached. */
#include "capture/live.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

/* mountinfo writes blank, tab, newline and backslash as three octal digits. */
static void unescape(char *path)
{
	char *to = path;
	unsigned int c;

	for (; *path; path++) {
		if (path[0] == '\\' && sscanf(path + 1, "%3o", &c) == 1 && strlen(path) >= 4) {
			*to++ = (char)c;
			path += 3;
		} else {
			*to++ = *path;
		}
	}
	*to = '\0';
}

/* A mount can be hidden below another one: what is there is asked. */
static int open_cgroup2(const char *path)
{
	struct statfs st;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0 && (fstatfs(fd, &st) || st.f_type != CGROUP2_SUPER_MAGIC)) {
		close(fd);
		return -1;
	}
	return fd;
}

/*
 * How far up a mount's root lies: seen from a cgroup namespace, a mount of an outer one has a root
 * that climbs ("/../.."). One that shows only a part ("/system.slice") is no root.
 */
static int root_height(const char *root)
{
	int height = 0;

	while (!strncmp(root, "/..", 3)) {
		root += 3;
		height++;
	}
	return *root == '\0' || !strcmp(root, "/") ? height : -1;
}

static int open_mounted(void)
{
	char line[8192], root[4096], path[4096], *type;
	int fd, best = -1, best_height = -1, height;
	FILE *f = fopen("/proc/self/mountinfo", "re");

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		type = strstr(line, " - ");
		if (!type || strncmp(type + 3, "cgroup2 ", 8) ||
		    sscanf(line, "%*s %*s %*s %4095s %4095s", root, path) != 2)
			continue;
		unescape(path);
		height = root_height(root);
		if (height <= best_height)
			continue;
		fd = open_cgroup2(path);
		if (fd < 0)
			continue;
		if (best >= 0)
			close(best);
		best = fd;
		best_height = height;
	}
	fclose(f);
	return best;
}

/* A mount that is in nobody's mount table and goes away with its descriptor. */
static int mount_privately(void)
{
	int fs, fd = -1, saved;

	fs = (int)syscall(SYS_fsopen, "cgroup2", FSOPEN_CLOEXEC);
	if (fs < 0)
		return -1;
	if (!syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
	saved = errno;
	close(fs);
	errno = saved;
	return fd;
}

int live_cgroup_open(void)
{
	int fd = open_mounted();

	if (fd < 0)
		fd = mount_privately();
	return fd < 0 ? -errno : fd;
}
