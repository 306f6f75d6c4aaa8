// SPDX-License-Identifier: BSD-2-Clause
#include "record/record.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/packed.h"
#include "record/block.h"
#include "record/declared.h"

#define READ_BYTES	(64u << 10)
#define MAX_AGENTS	1024

/* An agent whose records came through here, and whether it has said its last. */
struct reader_agent {
	uint64_t agent;
	uint64_t time_ns;
	bool final;
};

struct record_reader {
	char name[128];
	int fd;
	uint8_t *buf;		/* what was read and not yet handed over */
	size_t len, size;
	uint64_t offset;	/* of buf in the file */
	bool begun;		/* the file's magic was read */
	uint8_t *inflated;
	struct record_scratch *scratch;
	struct reader_agent *agents;
	size_t agent_count;
	struct declared declared;
	int ended;		/* what run() returns from now on */
	char error[256];
};

struct record_reader *record_reader_open(const char *path, char err[static 256])
{
	struct record_reader *r = calloc(1, sizeof(*r));
	struct stat st;

	if (!r) {
		snprintf(err, 256, "out of memory");
		return NULL;
	}
	snprintf(r->name, sizeof(r->name), "%s", strcmp(path, "-") ? path : "standard input");
	r->fd = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
	if (r->fd >= 0 && !fstat(r->fd, &st) && !S_ISDIR(st.st_mode))
		return r;
	if (r->fd >= 0 && S_ISDIR(st.st_mode))
		snprintf(err, 256, "%s: a directory; name the file inside", path);
	else
		snprintf(err, 256, "%s: cannot read: %s", path, strerror(errno));
	record_reader_close(r);
	return NULL;
}

int record_reader_fd(const struct record_reader *r)
{
	return r->fd;
}

const char *record_reader_error(const struct record_reader *r)
{
	return r->error;
}

void record_reader_close(struct record_reader *r)
{
	if (!r)
		return;
	if (r->fd > STDERR_FILENO)
		close(r->fd);
	record_scratch_free(r->scratch);
	free(r->agents);
	declared_free(&r->declared);
	free(r->inflated);
	free(r->buf);
	free(r);
}

static int damaged(struct record_reader *r, size_t at, const char *what, const char *hint)
{
	snprintf(r->error, sizeof(r->error), "%s: %s at byte %llu; %s", r->name, what,
		 (unsigned long long)(r->offset + at), hint);
	return -EBADMSG;
}

static void note_agent(struct record_reader *r, const struct record *record)
{
	struct reader_agent *grown;
	size_t i;

	for (i = 0; i < r->agent_count; i++) {
		if (r->agents[i].agent == record->agent)
			break;
	}
	if (i == r->agent_count) {
		if (i == MAX_AGENTS)
			return;
		grown = reallocarray(r->agents, i + 1, sizeof(*grown));
		if (!grown)
			return;
		r->agents = grown;
		r->agents[i] = (struct reader_agent){ .agent = record->agent };
		r->agent_count++;
	}
	r->agents[i].time_ns = record->time_ns;
	if (record->type == RECORD_AGENT)
		r->agents[i].final = record->agent_info.final;
}

static int hand_over(struct record_reader *r, size_t len, const struct record_sink *sink)
{
	struct record record;
	size_t at = 0, n;
	int err;

	while (at < len) {
		if (len - at < 4)
			return -EBADMSG;
		n = block_get_word(r->inflated + at);
		at += 4;
		if (n > len - at || n > BLOCK_MAX_RECORD ||
		    !record_unpack(r->inflated + at, n, &record, &r->scratch))
			return -EBADMSG;
		at += n;
		if (!record.type)
			continue;
		if (!declared_check(&r->declared, &record))
			return -EBADMSG;
		note_agent(r, &record);
		err = sink->put(sink->ctx, &record);
		if (err)
			return err;
	}
	return 0;
}

static int inflate_block(struct record_reader *r, const struct block_header *h, const uint8_t *p)
{
	uLongf len = h->inflated;

	free(r->inflated);
	r->inflated = malloc(h->inflated + 1);
	if (!r->inflated)
		return -ENOMEM;
	if (crc32(0, p, h->bytes) != h->crc)
		return -EBADMSG;
	if (uncompress(r->inflated, &len, p, h->bytes) != Z_OK || len != h->inflated)
		return -EBADMSG;
	return 0;
}

static int take_block(struct record_reader *r, size_t at, const struct block_header *h,
		      const struct record_sink *sink)
{
	int err = inflate_block(r, h, r->buf + at + BLOCK_HEADER_LEN);

	if (!err)
		err = hand_over(r, h->inflated, sink);
	if (err == -EBADMSG)
		return damaged(r, at, "a damaged block", "what stands before it is reported");
	return err;
}

/* Not a byte of it is ours. */
static int no_records(struct record_reader *r)
{
	const char *command = packed_command(r->buf, r->len);

	if (command)
		snprintf(r->error, sizeof(r->error), "%s: the file is compressed; unpack it first (%s)",
			 r->name, command);
	else if (!r->len)
		snprintf(r->error, sizeof(r->error), "%s: empty; did `derptrace record` run, and was it "
			 "stopped in order?", r->name);
	else
		return damaged(r, 0, "no derptrace records",
			       "name a .dtr, .pcap or .pcapng file, or a pipe from `derptrace record -o -`");
	return -EBADMSG;
}

static int other_format(struct record_reader *r)
{
	snprintf(r->error, sizeof(r->error), "%s: records of format %u, and this derptrace reads format %u "
		 "only; use the version that wrote it", r->name, r->buf[BLOCK_FILE_MAGIC_LEN - 1],
		 BLOCK_FILE_MAGIC[BLOCK_FILE_MAGIC_LEN - 1]);
	return -EBADMSG;
}

static int check_magic(struct record_reader *r, size_t *at)
{
	if (r->begun || r->len < BLOCK_FILE_MAGIC_LEN)
		return 0;
	if (block_file_is(r->buf) == BLOCK_FILE_OTHER_FORMAT)
		return other_format(r);
	if (block_file_is(r->buf) == BLOCK_FILE_FOREIGN)
		return no_records(r);
	r->begun = true;
	*at = BLOCK_FILE_MAGIC_LEN;
	return 0;
}

/* Whole blocks out of the buffer; the rest moves to its front. */
static int take_blocks(struct record_reader *r, const struct record_sink *sink)
{
	struct block_header h;
	size_t at = 0;
	int err = check_magic(r, &at);

	while (!err && r->begun && r->len - at >= BLOCK_HEADER_LEN) {
		h = block_get_header(r->buf + at);
		if (h.magic != BLOCK_MAGIC || h.bytes > BLOCK_MAX_BYTES ||
		    h.inflated > BLOCK_MAX_BYTES)
			return damaged(r, at, "not the start of a block",
				       "what stands before it is reported");
		if (r->len - at - BLOCK_HEADER_LEN < h.bytes)
			break;
		err = take_block(r, at, &h, sink);
		at += BLOCK_HEADER_LEN + h.bytes;
	}
	memmove(r->buf, r->buf + at, r->len - at);
	r->len -= at;
	r->offset += at;
	return err;
}

/* Bytes read; 0 at the end; -errno. */
static ssize_t fill(struct record_reader *r)
{
	uint8_t *grown;
	ssize_t n;

	if (r->size - r->len < READ_BYTES) {
		grown = realloc(r->buf, r->size * 2 + READ_BYTES);
		if (!grown)
			return -ENOMEM;
		r->buf = grown;
		r->size = r->size * 2 + READ_BYTES;
	}
	do {
		n = read(r->fd, r->buf + r->len, READ_BYTES);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	r->len += n;
	return n;
}

/* The agents that have not ended are cut; -ENODATA where there is none and all was whole. */
static int at_end(struct record_reader *r, int err, const struct record_sink *sink)
{
	struct record cut = { .type = RECORD_CUT };
	bool any = false;
	size_t i;

	for (i = 0; i < r->agent_count; i++) {
		if (r->agents[i].final)
			continue;
		any = true;
		cut.agent = r->agents[i].agent;
		cut.time_ns = r->agents[i].time_ns;
		sink->put(sink->ctx, &cut);
	}
	if (err)
		return err;
	if (!r->begun)
		return no_records(r);
	if (r->len)
		return damaged(r, r->len, "cut in the middle of a block",
			       "what stands before it is reported");
	if (!r->agent_count)
		return damaged(r, 0, "ends without a snapshot", "did the recorder trace anything?");
	if (any)
		return damaged(r, 0, "cut before its last snapshot",
			       "what came before it is reported, the rest is untraced");
	return -ENODATA;
}

int record_reader_run(struct record_reader *r, const struct record_sink *sink, bool wait)
{
	struct pollfd fd = { .fd = r->fd, .events = POLLIN };
	ssize_t n;
	int err = 0;

	if (r->ended)
		return r->ended;
	while (wait || poll(&fd, 1, 0) > 0) {
		n = fill(r);
		if (n < 0) {
			snprintf(r->error, sizeof(r->error), "%s: cannot read: %s", r->name,
				 strerror(-n));
			err = n;
		} else {
			err = take_blocks(r, sink);
		}
		if (err || n <= 0) {
			r->ended = at_end(r, err, sink);
			return r->ended;
		}
	}
	return 0;
}
