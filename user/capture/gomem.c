// SPDX-License-Identifier: BSD-2-Clause
/* The door of gomem, and the pass over the heap. */
#include "capture/gomem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "capture/gomem_private.h"

enum {
	PLACES_MAX = 1 << 18,	/* 2 MiB of addresses a kind */
};

struct gomem {
	struct goproc proc;
	struct gobin_layout layout;
	uint64_t bias;
	struct goitabs itabs;
};

const char *gomem_error_text(enum gomem_error error)
{
	switch (error) {
	case GOMEM_OK:
		return "no error";
	case GOMEM_NO_PROCESS:
		return "the process has ended";
	case GOMEM_NO_PERMISSION:
		return "no permission to read the process's memory (ptrace rights)";
	case GOMEM_NO_MODULE:
		return "the Go runtime's moduledata was not found in the process's memory";
	case GOMEM_NO_ITABS:
		return "the Go runtime's interface tables were not found in the process's memory";
	case GOMEM_NO_CONN:
		return "the program has no network connections (no net.Conn in its memory)";
	case GOMEM_READ_FAILED:
		return "the process's memory could not be read";
	}
	return "unknown error";
}

static enum gomem_error error_of(int err)
{
	switch (err) {
	case 0:
		return GOMEM_OK;
	case -ENOENT:
	case -ESRCH:
		return GOMEM_NO_PROCESS;
	case -EACCES:
	case -EPERM:
		return GOMEM_NO_PERMISSION;
	}
	return GOMEM_READ_FAILED;
}

struct gomem *gomem_open(pid_t pid, const struct gobin *bin, enum gomem_error *error)
{
	struct gomem *mem = calloc(1, sizeof(*mem));
	int err;

	*error = GOMEM_READ_FAILED;
	if (!mem)
		return NULL;
	mem->layout = *gobin_layout(bin);
	err = goproc_open(&mem->proc, pid);
	if (!err)
		err = goproc_bias(&mem->proc, &mem->layout, &mem->bias);
	*error = error_of(err);
	if (err) {
		gomem_close(mem);
		return NULL;
	}
	return mem;
}

void gomem_close(struct gomem *mem)
{
	if (!mem)
		return;
	goproc_close(&mem->proc);
	free(mem);
}

struct pass {
	const struct goitabs *itabs;
	struct gofound found;
};

/* Is it worth a look as a tls.Conn? {conn net.Conn; isClient bool; handshakeFn func} */
static bool may_be_tls(const uint64_t *words, size_t left)
{
	return left < 4 || (words[2] <= 1 && words[3] >= 4096);
}

static bool pass_piece(void *context, uint64_t addr, uint8_t *bytes, size_t len)
{
	struct pass *pass = context;
	const uint64_t *words = (const uint64_t *)(const void *)bytes;
	size_t i, count = len / 8;

	for (i = 0; i < count; i++) {
		const struct goitab *itab;

		if (words[i] < 4096)
			continue;
		itab = goitabs_get(pass->itabs, words[i]);
		if (!itab)
			continue;
		if (itab->kind == GOITAB_DERP)
			goaddrs_add(&pass->found.derp, addr + i * 8);
		else if (may_be_tls(words + i, count - i))
			goaddrs_add(&pass->found.tls_maybe, addr + i * 8);
		if (itab->concrete == GOITAB_TCP && i + 1 < count && words[i + 1] >= 4096 &&
		    words[i + 1] % 8 == 0)
			goaddrs_add(&pass->found.tcp, words[i + 1]);
	}
	return true;
}

static void yield_tls(const struct gomem *mem, struct pass *pass, const struct gomem_sink *sink,
		      struct gomem_stats *stats)
{
	struct gofound *found = &pass->found;
	struct gomem_tls tls;
	size_t i;

	for (i = 0; i < found->tls_maybe.count; i++) {
		const uint64_t addr = found->tls_maybe.all[i];

		if (!gotls_read(&mem->proc, addr, mem->layout.text_start + mem->bias,
				mem->layout.text_end + mem->bias, &tls))
			continue;
		/* Closed ones too: by them a peer's closed connection is known as such. */
		goaddrs_add(&found->tls, addr);
		tls.fd = gopeer_conn_fd(&mem->proc, &mem->itabs, found, addr);
		if (tls.fd == GOMEM_FD_CLOSED)
			continue;
		stats->tls_count++;
		if (sink->tls)
			sink->tls(sink->context, &tls);
	}
	explicit_bzero(&tls, sizeof(tls));
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static enum gomem_error scan(struct gomem *mem, struct pass *pass, const struct gomem_sink *sink,
			     struct gomem_stats *stats)
{
	struct gofound *found = &pass->found;
	struct goproc_walked walked = {0};
	enum gomem_error error =
		goitabs_read(&mem->itabs, &mem->proc, &mem->layout, mem->bias);
	int err;

	if (error != GOMEM_OK)
		return error;
	stats->itabs_conn = mem->itabs.conn_count;
	stats->itabs_derp = mem->itabs.derp_count;
	err = goproc_walk_heap(&mem->proc, pass_piece, pass, &walked);
	stats->read_bytes = walked.read_bytes;
	stats->skipped_bytes = walked.skipped_bytes;
	if (err)
		return error_of(err);
	goaddrs_sort(&found->tls_maybe);
	goaddrs_sort(&found->tcp);
	goaddrs_sort(&found->derp);
	yield_tls(mem, pass, sink, stats);
	goaddrs_sort(&found->tls);
	stats->peer_count = gopeer_yield(&mem->proc, &mem->itabs, found, sink);
	stats->truncated = walked.stopped || mem->itabs.truncated || found->tls_maybe.truncated ||
			   found->tls.truncated || found->tcp.truncated || found->derp.truncated;
	return walked.read_bytes ? GOMEM_OK : GOMEM_NO_PROCESS;
}

enum gomem_error gomem_scan(struct gomem *mem, const struct gomem_sink *sink,
			    struct gomem_stats *stats)
{
	struct pass pass = {.itabs = &mem->itabs};
	struct gofound *found = &pass.found;
	struct gomem_stats own;
	enum gomem_error error;
	uint64_t start = now_ns();

	if (!stats)
		stats = &own;
	memset(stats, 0, sizeof(*stats));
	found->tls_maybe.max = found->tls.max = found->tcp.max = found->derp.max = PLACES_MAX;
	error = scan(mem, &pass, sink, stats);
	free(found->tls_maybe.all);
	free(found->tls.all);
	free(found->tcp.all);
	free(found->derp.all);
	stats->elapsed_ns = now_ns() - start;
	return error;
}

int gomem_tls_seq(struct gomem *mem, uint64_t seq_addr, uint64_t *seq)
{
	uint64_t raw;
	int err = goproc_read(&mem->proc, seq_addr, &raw, sizeof(raw));

	if (!err)
		*seq = __builtin_bswap64(raw);
	return err;
}

int gomem_fd_inode(pid_t pid, int fd, uint64_t *inode)
{
	char path[48];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
	if (stat(path, &st))
		return -errno;
	if (!S_ISSOCK(st.st_mode))
		return -ENOTSOCK;
	*inode = st.st_ino;
	return 0;
}
