// SPDX-License-Identifier: BSD-2-Clause
#include "capture/rights.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static const struct right rights[] = {
	{ CAP_BPF, CAP_SYS_ADMIN, "CAP_BPF", "the kernel takes no program", true },
	{ CAP_PERFMON, CAP_SYS_ADMIN, "CAP_PERFMON", "no program may read what it needs", true },
	{ CAP_NET_ADMIN, CAP_SYS_ADMIN, "CAP_NET_ADMIN", "no program may see packets", true },
	{ CAP_SYS_PTRACE, CAP_SYS_PTRACE, "CAP_SYS_PTRACE",
	  "other processes cannot be looked into, so no relay is found", false },
	{ CAP_SYS_ADMIN, CAP_SYS_ADMIN, "CAP_SYS_ADMIN",
	  "other network namespaces cannot be entered, nor a cgroup v2 be mounted", false },
};

#define RIGHTS (sizeof(rights) / sizeof(rights[0]))

/* The number in the first line of a file that is as @format. */
static bool read_word(const char *path, const char *format, unsigned long long *value)
{
	bool found = false;
	char line[256];
	FILE *f = fopen(path, "re");

	while (f && !found && fgets(line, sizeof(line), f))
		found = sscanf(line, format, value) == 1;
	if (f)
		fclose(f);
	return found;
}

uint64_t rights_effective(void)
{
	unsigned long long caps = 0;

	read_word("/proc/self/status", "CapEff: %llx", &caps);
	return caps;
}

const struct right *rights_missing(uint64_t caps, const struct right *last)
{
	const struct right *r = last ? last + 1 : rights;

	for (; r < rights + RIGHTS; r++) {
		if (!(caps & (1ULL << r->cap | 1ULL << r->or_cap)))
			return r;
	}
	return NULL;
}

const char *rights_foreign(void)
{
	unsigned long long ids;

	if (read_word("/proc/self/uid_map", "%*u %*u %llu", &ids) && ids != UINT32_MAX)
		return "root of a user namespace, as in a container, is not the host's";
	return NULL;
}

const char *rights_descriptors(int code, const char *said)
{
	static __thread char text[128];
	struct rlimit limit;

	if (code != -EMFILE && !strstr(said, strerror(EMFILE)))
		return NULL;
	if (getrlimit(RLIMIT_NOFILE, &limit))
		return NULL;
	snprintf(text, sizeof(text), "the limit is %llu: allow it 1024 or more (ulimit -n; a unit's "
		 "LimitNOFILE=)", (unsigned long long)limit.rlim_cur);
	return text;
}
