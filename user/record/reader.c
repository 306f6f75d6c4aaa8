// SPDX-License-Identifier: BSD-2-Clause
#include "base/denied.h"
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
#define RUN_BLOCKS	256

/* An agent whose records came through here, and whether it has said its last. */
struct reader_agent {
	uint64_t agent;
	uint64_t time_ns;
	bool final;
};

struct record_reader {
	char name[128];
	int fd;
	uint8_t *buf;		/* from @at to @len: what was read and not yet handed over */
	size_t at, len, size;
	uint64_t offset;	/* of buf in the file */
	bool begun;		/* the file's magic was read */
	/* The block at @at, taken out of its wrapping. */
	bool loaded;
	size_t loaded_bytes;	/* of buf that it takes up */
	size_t inflated_len;
	uint64_t loaded_ns;	/* of its snapshot */
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
		snprintf(err, 256, "%s: cannot read: %s%s", path, strerror(errno), denied_advice(errno));
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

/* The record at *at of the block, which moves behind it. */
static bool next_record(struct record_reader *r, size_t *at, struct record *record)
{
	size_t left = r->inflated_len - *at, n;

	if (left < 4)
		return false;
	n = block_get_word(r->inflated + *at);
	*at += 4;
	if (n > left - 4 || n > BLOCK_MAX_RECORD ||
	    !record_unpack(r->inflated + *at, n, record, &r->scratch))
		return false;
	*at += n;
	return true;
}

static int hand_over(struct record_reader *r, const struct record_sink *sink)
{
	struct record record;
	size_t at = 0;
	int err;

	r->loaded = false;
	while (at < r->inflated_len) {
		if (!next_record(r, &at, &record) ||
		    (record.type && !declared_check(&r->declared, &record)))
			return damaged(r, r->at, "a damaged block", "what stands before it is reported");
		if (!record.type)
			continue;
		note_agent(r, &record);
		err = sink->put(sink->ctx, &record);
		if (err)
			return err;
	}
	r->at += r->loaded_bytes;
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

static int check_magic(struct record_reader *r)
{
	if (r->begun || r->len < BLOCK_FILE_MAGIC_LEN)
		return 0;
	if (block_file_is(r->buf) == BLOCK_FILE_OTHER_FORMAT)
		return other_format(r);
	if (block_file_is(r->buf) == BLOCK_FILE_FOREIGN)
		return no_records(r);
	r->begun = true;
	r->at = BLOCK_FILE_MAGIC_LEN;
	return 0;
}

/* The next block out of the buffer: 1; 0: it is not whole yet. */
static int load(struct record_reader *r)
{
	struct block_header h;
	struct record first;
	size_t at = 0;
	int err = check_magic(r);

	if (err || !r->begun || r->len - r->at < BLOCK_HEADER_LEN)
		return err;
	h = block_get_header(r->buf + r->at);
	if (h.magic != BLOCK_MAGIC || h.bytes > BLOCK_MAX_BYTES || h.inflated > BLOCK_MAX_BYTES)
		return damaged(r, r->at, "not the start of a block", "what stands before it is reported");
	if (r->len - r->at - BLOCK_HEADER_LEN < h.bytes)
		return 0;
	err = inflate_block(r, &h, r->buf + r->at + BLOCK_HEADER_LEN);
	if (err == -EBADMSG)
		return damaged(r, r->at, "a damaged block", "what stands before it is reported");
	if (err)
		return err;
	r->loaded = true;
	r->loaded_bytes = BLOCK_HEADER_LEN + h.bytes;
	r->inflated_len = h.inflated;
	r->loaded_ns = next_record(r, &at, &first) ? first.time_ns : 0;
	/* Whatever it says, there is a later time until which it is told. */
	if (r->loaded_ns > INT64_MAX)
		r->loaded_ns = INT64_MAX;
	return 1;
}

/* Bytes read; 0 at the end; -errno. */
static ssize_t fill(struct record_reader *r)
{
	uint8_t *grown;
	ssize_t n;

	if (r->at)
		memmove(r->buf, r->buf + r->at, r->len - r->at);
	r->len -= r->at;
	r->offset += r->at;
	r->at = 0;
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
	if (r->len != r->at)
		return damaged(r, r->len, "cut in the middle of a block",
			       "what stands before it is reported");
	if (!r->agent_count)
		return damaged(r, r->at, "ends without a snapshot", "did the recorder trace anything?");
	if (any)
		return damaged(r, r->at, "cut before its last snapshot",
			       "what came before it is reported, the rest is untraced");
	return -ENODATA;
}

/* 1: the next block is loaded; 0: more may come; -ENODATA: no more; else what went wrong. */
static int next_block(struct record_reader *r, bool wait)
{
	struct pollfd fd = { .fd = r->fd, .events = POLLIN };
	ssize_t n;
	int err;

	while (!r->loaded) {
		err = load(r);
		if (err)
			return err;
		if (!wait && poll(&fd, 1, 0) <= 0)
			return 0;
		n = fill(r);
		if (n < 0)
			snprintf(r->error, sizeof(r->error), "%s: cannot read: %s", r->name,
				 strerror(-n));
		if (n <= 0)
			return n ? n : -ENODATA;
	}
	return 1;
}

static int run(struct record_reader *r, const struct record_sink *sink, bool wait, uint64_t until_ns,
	       size_t blocks)
{
	int err;

	if (r->ended)
		return r->ended;
	while ((err = next_block(r, wait)) == 1) {
		if (r->loaded_ns >= until_ns || !blocks--)
			return 0;
		err = hand_over(r, sink);
		if (err)
			break;
	}
	if (err)
		r->ended = at_end(r, err == -ENODATA ? 0 : err, sink);
	return r->ended;
}

int record_reader_run(struct record_reader *r, const struct record_sink *sink, bool wait)
{
	return run(r, sink, wait, UINT64_MAX, SIZE_MAX);
}

bool record_reader_is_file(const struct record_reader *r)
{
	struct stat st;

	return !fstat(r->fd, &st) && S_ISREG(st.st_mode);
}

uint64_t record_reader_next_ns(struct record_reader *r)
{
	return !r->ended && next_block(r, true) == 1 ? r->loaded_ns : 0;
}

int record_reader_run_until(struct record_reader *r, const struct record_sink *sink, uint64_t until_ns)
{
	return run(r, sink, true, until_ns, RUN_BLOCKS);
}
