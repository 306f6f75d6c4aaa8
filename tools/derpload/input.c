/* SPDX-License-Identifier: BSD-2-Clause */
#include "input.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "loop.h"
#include "mem.h"
#include "out.h"

static struct {
	struct loop_fd fd;
	struct loop_task task;
	void (*line)(char *line, uint64_t number);
	char *buf;
	size_t len, cap;
	uint64_t number;
	bool held, plain_file, ended, skipping;
} in;

static void again(void)
{
	loop_soon(&in.task);
}

/* The next whole line of the buffer; at the end of the input what is left is one too. */
static bool next_line(void)
{
	char *end = in.len ? memchr(in.buf, '\n', in.len) : NULL;
	size_t used;

	if (!end && !(in.ended && in.len))
		return false;
	used = end ? (size_t)(end - in.buf) + 1 : in.len;
	in.buf[end ? used - 1 : used] = 0;
	in.number++;
	if (!in.skipping)
		in.line(in.buf, in.number);
	in.skipping = false;
	in.len -= used;
	memmove(in.buf, in.buf + used, in.len);
	return true;
}

static void take_lines(void)
{
	while (!in.held && next_line())
		;
	if (in.ended && !in.len && !in.held && in.line) {
		void (*line)(char *, uint64_t) = in.line;

		in.line = NULL;
		line(NULL, in.number);
	}
}

static void read_more(void)
{
	ssize_t n;

	if (in.len == INPUT_LINE_MAX) {
		/* The rest of it is passed over up to its end. */
		if (!in.skipping)
			out_error(in.number + 1, "line longer than %d bytes", INPUT_LINE_MAX);
		in.skipping = true;
		in.len = 0;
	}
	if (in.cap - in.len < 4096) {
		in.cap = in.cap ? 2 * in.cap : 65536;
		if (in.cap > INPUT_LINE_MAX)
			in.cap = INPUT_LINE_MAX;
		in.buf = mem_resize(in.buf, in.cap + 1, 1);
	}
	n = read(in.fd.fd, in.buf + in.len, in.cap - in.len);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		in.ended = true;
		loop_forget(&in.fd);
		return;
	}
	in.len += n;
}

static void work(void)
{
	if (in.held)
		return;
	if (!in.ended)
		read_more();
	take_lines();
	if (in.held && !in.plain_file)
		loop_forget(&in.fd);
	if (in.plain_file && !in.held && !in.ended)
		again();
}

static void ready(struct loop_fd *w, uint32_t events)
{
	(void)w;
	(void)events;
	work();
}

static void resumed(struct loop_task *t)
{
	(void)t;
	if (in.held)
		return;
	take_lines();
	if (in.held || in.ended)
		return;
	if (in.plain_file)
		work();
	else
		loop_watch(&in.fd, EPOLLIN);
}

int input_start(int fd, void (*line)(char *line, uint64_t number))
{
	int err;

	in.fd = (struct loop_fd){ .fd = fd, .ready = ready };
	in.task.run = resumed;
	in.line = line;
	err = loop_watch(&in.fd, EPOLLIN);
	if (err == -EPERM) {
		in.plain_file = true;
		again();
		return 0;
	}
	return err;
}

void input_hold(bool hold)
{
	in.held = hold;
	if (!hold)
		again();
}
