// SPDX-License-Identifier: BSD-2-Clause
/* What live capture needs of a host: kernel, rights, BTF, cgroups, uprobes, memory. */
#include "capture/capture.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/number.h"
#include "capture/live_load.h"
#include "capture/rights.h"

#define KERNEL_MAJOR	5
#define KERNEL_MINOR	10

static void check_kernel(struct capture_check *c)
{
	unsigned int major = 0, minor = 0;
	struct utsname u;

	c->what = "kernel 5.10 or newer";
	c->fix = "boot a kernel of 5.10 or newer (ring buffers, cgroup links)";
	if (uname(&u) || sscanf(u.release, "%u.%u", &major, &minor) != 2)
		snprintf(c->found, sizeof(c->found), "uname tells nothing");
	else
		snprintf(c->found, sizeof(c->found), "%.100s, %.30s", u.release, u.machine);
	if (major < KERNEL_MAJOR || (major == KERNEL_MAJOR && minor < KERNEL_MINOR))
		c->result = CAPTURE_CHECK_FAIL;
}

static void check_rights(struct capture_check *c)
{
	const struct right *r = rights_missing(rights_effective(), NULL), *first = r;
	const char *foreign = rights_foreign();
	size_t n = 0;

	c->what = "rights";
	c->fix = foreign ? "run it outside" : RIGHTS_FIX;
	if (foreign) {
		snprintf(c->found, sizeof(c->found), "%s", foreign);
		c->result = CAPTURE_CHECK_FAIL;
		return;
	}
	if (!r) {
		snprintf(c->found, sizeof(c->found), "all that is needed");
		return;
	}
	c->result = CAPTURE_CHECK_POOR;
	for (; r; r = rights_missing(rights_effective(), r)) {
		n += (size_t)snprintf(c->found + n, sizeof(c->found) - n, "%s%s", n ? ", " : "",
				      r->name);
		if (r->needed || r->cap == CAP_SYS_PTRACE)
			c->result = CAPTURE_CHECK_FAIL;
	}
	snprintf(c->found + n, sizeof(c->found) - n, " missing: %s", first->without);
}

static void check_bpf(struct capture_check *c)
{
	int ring = libbpf_probe_bpf_map_type(BPF_MAP_TYPE_RINGBUF, NULL);
	int skb = libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_CGROUP_SKB, NULL);
	int storage = libbpf_probe_bpf_map_type(BPF_MAP_TYPE_SK_STORAGE, NULL);

	c->what = "BPF programs at sockets";
	c->fix = "needs CONFIG_BPF_SYSCALL, CONFIG_CGROUP_BPF, CONFIG_NET, and the rights above";
	snprintf(c->found, sizeof(c->found), "ring buffer %s, cgroup_skb %s, socket storage %s",
		 ring > 0 ? "yes" : "no", skb > 0 ? "yes" : "no", storage > 0 ? "yes" : "no");
	if (ring <= 0 || skb <= 0 || storage <= 0)
		c->result = CAPTURE_CHECK_FAIL;
}

static void check_btf(struct capture_check *c)
{
	bool there = !access(KERNEL_TYPES, R_OK);

	c->what = "kernel types (BTF)";
	c->fix = "boot a kernel with CONFIG_DEBUG_INFO_BTF: without it what stands unread in sockets is not seen";
	snprintf(c->found, sizeof(c->found), "%s", there ? KERNEL_TYPES : "none");
	if (!there)
		c->result = CAPTURE_CHECK_POOR;
}

static void check_pid_namespace(struct capture_check *c)
{
	bool nested = live_load_is_nested();

	c->what = "pid namespace";
	c->fix = "run it in the host's: with the kernel's types missing too, what relays dial is found late";
	snprintf(c->found, sizeof(c->found), "%s", nested ? "one below the host's" : "the host's");
	if (nested && access(KERNEL_TYPES, R_OK))
		c->result = CAPTURE_CHECK_POOR;
}

static void check_cgroup(struct capture_check *c)
{
	char line[1024], path[120] = "";
	FILE *f = fopen("/proc/self/mountinfo", "re");

	c->what = "cgroup v2";
	c->fix = "nothing to do: it is mounted for the tracer alone while it runs";
	while (f && fgets(line, sizeof(line), f)) {
		if (strstr(line, " - cgroup2 ") &&
		    sscanf(line, "%*s %*s %*s %*s %119s", path) == 1)
			break;
	}
	if (f)
		fclose(f);
	snprintf(c->found, sizeof(c->found), "%s", path[0] ? path : "not mounted");
	if (!path[0])
		c->result = CAPTURE_CHECK_POOR;
}

static void check_uprobes(struct capture_check *c)
{
	bool there = !access("/sys/bus/event_source/devices/uprobe/type", R_OK);

	c->what = "uprobes";
	c->fix = "needs CONFIG_UPROBE_EVENTS: else secrets come from memory alone, drop reasons are inferred";
	snprintf(c->found, sizeof(c->found), "%s", there ? "yes" : "no");
	if (!there)
		c->result = CAPTURE_CHECK_POOR;
}

static bool read_number(const char *path, uint64_t *value)
{
	char text[32];
	FILE *f = fopen(path, "re");
	bool ok = f && fgets(text, sizeof(text), f);

	if (f)
		fclose(f);
	if (!ok)
		return false;
	text[strcspn(text, "\n")] = '\0';
	return number_parse(text, 0, UINT32_MAX, value);
}

static void check_yama(struct capture_check *c)
{
	uint64_t scope = 0;

	c->what = "reading a relay's memory";
	c->fix = "sysctl kernel.yama.ptrace_scope=2 or less: else connections open before are not decrypted";
	read_number("/proc/sys/kernel/yama/ptrace_scope", &scope);
	snprintf(c->found, sizeof(c->found), "ptrace_scope %u", (unsigned)scope);
	if (scope > 2)
		c->result = CAPTURE_CHECK_POOR;
}

static void check_optmem(struct capture_check *c)
{
	uint64_t bytes = 0;

	c->what = "room for socket marks";
	c->fix = "sysctl net.core.optmem_max=20480: with less, listeners are left alone";
	if (!read_number("/proc/sys/net/core/optmem_max", &bytes)) {
		snprintf(c->found, sizeof(c->found), "optmem_max is not readable");
		return;
	}
	snprintf(c->found, sizeof(c->found), "optmem_max %u", (unsigned)bytes);
	if (bytes < 4096)
		c->result = CAPTURE_CHECK_POOR;
}

size_t capture_live_check(struct capture_check *checks, size_t max)
{
	static void (*const all[])(struct capture_check *) = {
		check_kernel, check_rights, check_bpf, check_btf, check_pid_namespace,
		check_cgroup, check_uprobes, check_yama, check_optmem,
	};
	libbpf_print_fn_t old = libbpf_set_print(NULL);
	size_t i, n = sizeof(all) / sizeof(all[0]);

	if (n > max)
		n = max;
	memset(checks, 0, n * sizeof(*checks));
	for (i = 0; i < n; i++)
		all[i](&checks[i]);
	libbpf_set_print(old);
	return n;
}
