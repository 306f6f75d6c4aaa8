// SPDX-License-Identifier: BSD-2-Clause
/*
 * Bytes of another process, without stopping it: /proc/PID/mem, asked for pages that are present
 * only (pagemap), as reading others would swap them in or make page tables for what was never used.
 */
#include "capture/gomem_private.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	PIECE_BYTES = 1 << 20,
	MAPS_MAX = 1 << 17,
};

#define READ_MAX (64ull << 30)	/* of present memory in one pass */
#define SKIP_MAX (512ull << 30)	/* of memory that is mapped but not present */
#define PAGEMAP_PRESENT (1ull << 63)

int goproc_open(struct goproc *proc, pid_t pid)
{
	char path[32];

	memset(proc, 0, sizeof(*proc));
	proc->pid = pid;
	proc->page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	proc->pagemap_fd = -1;
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	proc->mem_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (proc->mem_fd < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	proc->pagemap_fd = open(path, O_RDONLY | O_CLOEXEC);
	return 0;
}

void goproc_close(struct goproc *proc)
{
	if (proc->mem_fd >= 0)
		close(proc->mem_fd);
	if (proc->pagemap_fd >= 0)
		close(proc->pagemap_fd);
	proc->mem_fd = proc->pagemap_fd = -1;
}

size_t goproc_read_some(const struct goproc *proc, uint64_t addr, void *buf, size_t len)
{
	size_t done = 0;

	if (addr > INT64_MAX - len)
		return 0;
	while (done < len) {
		ssize_t n = pread(proc->mem_fd, (uint8_t *)buf + done, len - done,
				  (off_t)(addr + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

int goproc_read(const struct goproc *proc, uint64_t addr, void *buf, size_t len)
{
	ssize_t n;

	if (addr > INT64_MAX - len)
		return -EIO;
	do
		n = pread(proc->mem_fd, buf, len, (off_t)addr);
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)len)
		return 0;
	return n == 0 ? -ESRCH : -EIO;
}

int goproc_bias(const struct goproc *proc, const struct gobin_layout *layout, uint64_t *bias)
{
	Elf64_auxv_t auxv[64];
	char path[32];
	ssize_t i, n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/auxv", (int)proc->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, auxv, sizeof(auxv)) / (ssize_t)sizeof(auxv[0]);
	close(fd);
	for (i = 0; i < n; i++) {
		if (auxv[i].a_type == AT_ENTRY) {
			*bias = auxv[i].a_un.a_val - layout->entry_addr;
			return 0;
		}
	}
	return -ESRCH;
}

struct walk {
	const struct goproc *proc;
	goproc_piece *piece;
	void *context;
	struct goproc_walked *walked;
	uint8_t *buf;		/* PIECE_BYTES */
	uint64_t *pages;	/* an entry for each page of a piece */
};

static int walk_new(struct walk *walk)
{
	walk->buf = malloc(PIECE_BYTES);
	walk->pages = malloc(PIECE_BYTES / walk->proc->page_bytes * sizeof(uint64_t));
	return walk->buf && walk->pages ? 0 : -ENOMEM;
}

static void walk_end(struct walk *walk)
{
	if (walk->buf)
		explicit_bzero(walk->buf, PIECE_BYTES);
	free(walk->buf);
	free(walk->pages);
}

/* Present pages of a piece, run by run. */
static void walk_piece(struct walk *walk, uint64_t addr, uint64_t page_count)
{
	const uint64_t page = walk->proc->page_bytes;
	struct goproc_walked *walked = walk->walked;
	uint64_t i = 0, run;

	while (i < page_count && !walked->stopped) {
		size_t got;

		for (run = i; run < page_count && (walk->pages[run] & PAGEMAP_PRESENT); run++)
			;
		if (run == i) {
			walked->skipped_bytes += page;
			i++;
			continue;
		}
		got = goproc_read_some(walk->proc, addr + i * page, walk->buf, (run - i) * page);
		walked->read_bytes += got;
		walked->skipped_bytes += (run - i) * page - got;
		if (got && !walk->piece(walk->context, addr + i * page, walk->buf, got & ~7ull))
			walked->stopped = true;
		i = run;
	}
	if (walked->read_bytes > READ_MAX || walked->skipped_bytes > SKIP_MAX)
		walked->stopped = true;
}

static void walk_range(struct walk *walk, uint64_t start, uint64_t end)
{
	const uint64_t page = walk->proc->page_bytes;
	uint64_t addr = start & ~(page - 1);

	while (addr < end && !walk->walked->stopped) {
		uint64_t len = end - addr < PIECE_BYTES ? end - addr : PIECE_BYTES;
		uint64_t count = (len + page - 1) / page;
		const size_t want = count * sizeof(uint64_t);

		if (walk->proc->pagemap_fd < 0)
			memset(walk->pages, 0xff, want);
		else if (pread(walk->proc->pagemap_fd, walk->pages, want,
			       (off_t)(addr / page * sizeof(uint64_t))) != (ssize_t)want)
			return;
		walk_piece(walk, addr, count);
		addr += count * page;
	}
}

int goproc_walk_range(const struct goproc *proc, uint64_t start, uint64_t end, goproc_piece *piece,
		      void *context, struct goproc_walked *walked)
{
	struct walk walk = {.proc = proc, .piece = piece, .context = context, .walked = walked};
	int err = walk_new(&walk);

	if (!err)
		walk_range(&walk, start, end);
	walk_end(&walk);
	return err;
}

/*
 * A line of maps: "start-end rw-p offset dev inode   name". The heap has no name, or, where the
 * kernel names anonymous memory, "[anon: Go: heap]".
 */
static bool is_heap(const char *line, uint64_t *start, uint64_t *end)
{
	unsigned long long a, b, inode;
	char perms[5], name[8] = "";

	if (sscanf(line, "%llx-%llx %4s %*x %*s %llu %7s", &a, &b, perms, &inode, name) < 4)
		return false;
	*start = a;
	*end = b;
	return perms[0] == 'r' && perms[1] == 'w' && perms[3] == 'p' && inode == 0 && a < b &&
	       (name[0] == '\0' || !strncmp(name, "[anon:", 6));
}

int goproc_walk_heap(const struct goproc *proc, goproc_piece *piece, void *context,
		     struct goproc_walked *walked)
{
	struct walk walk = {.proc = proc, .piece = piece, .context = context, .walked = walked};
	char path[32], line[512];
	uint64_t start, end;
	int err, count = 0;
	bool begins = true;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)proc->pid);
	maps = fopen(path, "re");
	if (!maps)
		return -errno;
	err = walk_new(&walk);
	while (!err && !walked->stopped && fgets(line, sizeof(line), maps)) {
		/* A name longer than the buffer goes on in the next one. */
		const bool head = begins;

		begins = strchr(line, '\n') != NULL;
		if (!head || !is_heap(line, &start, &end))
			continue;
		if (++count > MAPS_MAX)
			walked->stopped = true;
		else
			walk_range(&walk, start, end);
	}
	walk_end(&walk);
	fclose(maps);
	return err;
}
