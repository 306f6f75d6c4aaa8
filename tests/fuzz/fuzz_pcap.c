// SPDX-License-Identifier: BSD-2-Clause
/*
 * A capture file, read as a source; its events are written as pcapng again. The first byte chooses: is
 * the rest a key log, too?
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "capture/capture.h"
#include "view/pcapng.h"

struct check {
	struct pcapng *writer;
	uint64_t last_ns;
	uint32_t sum;
};

static void on_event(void *ctx, const struct capture_event *e)
{
	const struct capture_segment *s = &e->segment;
	struct check *c = ctx;
	uint32_t i;

	if (e->time_ns < c->last_ns)
		abort();
	c->last_ns = e->time_ns;
	if (e->type == CAPTURE_SEGMENT && s->captured > s->len)
		abort();
	if (e->type == CAPTURE_FRAME && e->frame.captured < 5)
		abort();
	for (i = 0; e->type == CAPTURE_FRAME && i < e->frame.captured; i++)
		c->sum += e->frame.data[i];
	for (i = 0; e->type == CAPTURE_SEGMENT && i < s->captured; i++)
		c->sum += s->data[i];
	pcapng_event(c->writer, 1, e);
}

static void read_file(const char *path, const char *keylog)
{
	const struct pcapng_options options = { .secrets = true };
	struct check check = { 0 };
	const struct capture_sink sink = { .ctx = &check, .event = on_event };
	struct pcapng_counts counts;
	struct capture_error err;
	struct capture *c;

	c = capture_file_open(path, keylog, &err);
	if (!c)
		return;
	check.writer = pcapng_new(open("/dev/null", O_WRONLY), &options);
	if (!check.writer)
		abort();
	while (!c->ops->run(c, &sink))
		;
	c->ops->complaints(c);
	c->ops->close(c);
	pcapng_close(check.writer, &counts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[32];
	int fd;

	if (!size)
		return 0;
	fd = memfd_create("fuzz", 0);
	if (fd < 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (write(fd, data + 1, size - 1) == (ssize_t)(size - 1))
		read_file(path, data[0] & 1 ? path : NULL);
	close(fd);
	return 0;
}
