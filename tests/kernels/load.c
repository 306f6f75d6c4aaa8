/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Loads and attaches derptrace's programs in the kernel that it runs on, and says what the verifier
 * made of each: a line per program and load,
 *
 *	program VARIANT NAME INSTRUCTIONS
 *
 * then a line per attachment, `attached VARIANT NAME`, and `refused ...` with the reason where the
 * kernel did not take one. Exit code 0 when everything was taken.
 *
 * usage: load CGROUP [VARIANT]...
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "abi.h"
#include "capture/live_load.h"
#include "derptrace.skel.h"
#include "wire.skel.h"

#define PROGRAMS_MAX	64
#define STATS_BYTES	(64u << 10)
#define LOG_BYTES	(16u << 20)	/* kernels before 6.4 refuse a program whose log is cut off */
#define LOG_TAIL	4000
#define LOG_STATS	4		/* BPF_LOG_STATS: one line, processed N insns ... */
#define LOG_ALL		(1 | LOG_STATS)

/* Ways in which constants that are set before the load change what the verifier walks. */
struct variant {
	const char *name;
	bool nested;		/* in a pid namespace */
	bool count;		/* frames are counted in the kernel */
	bool wire;		/* the network card's programs, which are an object of their own */
};

static const struct variant variants[] = {
	{ .name = "plain" },
	{ .name = "nested", .nested = true },
	{ .name = "counting", .count = true },
	{ .name = "wire", .wire = true },
};

/* What is opened: one of the two. */
struct subject {
	struct derptrace_bpf *skel;
	struct wire_bpf *wire;
	struct bpf_object *obj;
	int types_fd;
};

static char *logs[PROGRAMS_MAX];

static int say(enum libbpf_print_level level, const char *format, va_list args)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, format, args) : 0;
}

static bool open_programs(const struct variant *v, int log_level, size_t bytes, struct subject *s)
{
	struct bpf_program *prog;
	size_t n = 0;

	*s = (struct subject){ .types_fd = -1 };
	if (v->wire)
		s->wire = wire_bpf__open();
	else
		s->skel = live_load_open(&s->types_fd);
	if (!s->wire && !s->skel)
		return false;
	if (s->skel) {
		s->skel->rodata->pid_namespace = v->nested;
		s->skel->rodata->count_frames = v->count;
	}
	s->obj = s->skel ? s->skel->obj : s->wire->obj;
	bpf_object__for_each_program(prog, s->obj) {
		if (n == PROGRAMS_MAX)
			break;
		free(logs[n]);
		logs[n] = calloc(1, bytes);
		bpf_program__set_log_level(prog, (__u32)log_level);
		bpf_program__set_log_buf(prog, logs[n++], bytes);
	}
	return true;
}

static int load_programs(struct subject *s)
{
	return s->skel ? derptrace_bpf__load(s->skel) : wire_bpf__load(s->wire);
}

static void close_programs(struct subject *s)
{
	derptrace_bpf__destroy(s->skel);
	wire_bpf__destroy(s->wire);
	if (s->types_fd >= 0)
		close(s->types_fd);
}

/* The verifier's count: kernels before 5.16 say it in the log alone. */
static unsigned int verified(const struct bpf_program *prog, const char *log)
{
	const char *line = strstr(log, "processed ");
	struct bpf_prog_info info = { 0 };
	__u32 len = sizeof(info);

	if (!bpf_obj_get_info_by_fd(bpf_program__fd(prog), &info, &len) && info.verified_insns)
		return info.verified_insns;
	return line ? (unsigned int)strtoul(line + strlen("processed "), NULL, 10) : 0;
}

/* Again, with the verifier's own words, for whom has to mend it. */
static void explain(const struct variant *v)
{
	struct bpf_program *prog;
	struct subject s;
	size_t n = 0, len;

	if (!open_programs(v, LOG_ALL, LOG_BYTES, &s) || !load_programs(&s))
		goto cleanup;
	bpf_object__for_each_program(prog, s.obj) {
		len = n < PROGRAMS_MAX ? strlen(logs[n]) : 0;
		if (len && bpf_program__fd(prog) < 0)
			fprintf(stderr, "--- %s\n%s\n", bpf_program__name(prog),
				logs[n] + (len > LOG_TAIL ? len - LOG_TAIL : 0));
		n++;
	}
cleanup:
	close_programs(&s);
}

/* Never stripped, never inlined: uprobes are put here. */
__attribute__((noinline)) int load_probe_target(int n);
__attribute__((noinline)) int load_probe_target(int n)
{
	asm volatile("" : "+r"(n));
	return n;
}

static struct bpf_link *attach(struct bpf_program *prog, int cgroup)
{
	LIBBPF_OPTS(bpf_uprobe_opts, here, .func_name = "load_probe_target");

	switch (bpf_program__type(prog)) {
	case BPF_PROG_TYPE_CGROUP_SKB:
	case BPF_PROG_TYPE_CGROUP_SOCK_ADDR:
		return bpf_program__attach_cgroup(prog, cgroup);
	case BPF_PROG_TYPE_XDP:
		return bpf_program__attach_xdp(prog, (int)if_nametoindex("lo"));
	case BPF_PROG_TYPE_KPROBE:
		return bpf_program__attach_uprobe_opts(prog, getpid(), "/proc/self/exe", 0, &here);
	default:
		errno = EINVAL;
		return NULL;
	}
}

static int attach_all(const struct variant *v, struct bpf_object *obj, int cgroup)
{
	struct bpf_link *links[PROGRAMS_MAX];
	struct bpf_program *prog;
	size_t n = 0;
	int wrong = 0;

	bpf_object__for_each_program(prog, obj) {
		if (!bpf_program__autoload(prog) || n == PROGRAMS_MAX)
			continue;
		/* An interface takes one at a time. */
		if (v->wire && n)
			bpf_link__destroy(links[--n]);
		links[n] = attach(prog, cgroup);
		if (links[n])
			printf("attached %s %s\n", v->name, bpf_program__name(prog));
		else
			printf("refused %s %s attach: %s\n", v->name, bpf_program__name(prog),
			       strerror(errno));
		wrong += !links[n];
		n += links[n] != NULL;
	}
	load_probe_target((int)n);
	while (n)
		bpf_link__destroy(links[--n]);
	return wrong;
}

static int check(const struct variant *v, int cgroup)
{
	struct bpf_program *prog;
	struct subject s;
	size_t n = 0;
	int wrong;

	wrong = open_programs(v, LOG_STATS, STATS_BYTES, &s) ? load_programs(&s) : -errno;
	if (wrong) {
		printf("refused %s object load: %s\n", v->name, strerror(-wrong));
		explain(v);
		goto cleanup;
	}
	bpf_object__for_each_program(prog, s.obj) {
		if (bpf_program__autoload(prog))
			printf("program %s %s %u\n", v->name, bpf_program__name(prog),
			       verified(prog, n < PROGRAMS_MAX ? logs[n] : ""));
		n++;
	}
	wrong = attach_all(v, s.obj, cgroup);
cleanup:
	close_programs(&s);
	return wrong;
}

static bool wanted(const char *name, int argc, char **argv)
{
	int i;

	for (i = 2; i < argc; i++) {
		if (!strcmp(argv[i], name))
			return true;
	}
	return argc == 2;
}

int main(int argc, char **argv)
{
	int cgroup = argc > 1 ? open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	int wrong = 0;
	size_t i;

	if (cgroup < 0) {
		fprintf(stderr, "usage: load CGROUP [VARIANT]...\n");
		return 2;
	}
	libbpf_set_print(say);
	for (i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
		if (wanted(variants[i].name, argc, argv))
			wrong |= check(&variants[i], cgroup);
	}
	close(cgroup);
	for (i = 0; i < PROGRAMS_MAX; i++)
		free(logs[i]);
	return wrong ? 1 : 0;
}
