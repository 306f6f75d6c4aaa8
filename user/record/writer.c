// SPDX-License-Identifier: BSD-2-Clause
#include "base/denied.h"
#include "record/record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "record/block.h"

/* A snapshot that is larger than this is written as several blocks. */
#define FLUSH_BYTES	(1u << 20)

struct record_writer {
	int fd;
	int error;
	uint8_t *raw;
	size_t raw_len, raw_size;
	uint8_t *deflated;
	size_t deflated_size;
};

static int write_all(int fd, const uint8_t *p, size_t len)
{
	ssize_t n;

	while (len) {
		n = write(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= n;
	}
	return 0;
}

/* Where the last whole block ends; -EBADMSG: the file is none of ours, -EPROTONOSUPPORT: another format. */
static int64_t find_end(int fd, int64_t size)
{
	uint8_t buf[BLOCK_HEADER_LEN];
	struct block_header h;
	int64_t at = BLOCK_FILE_MAGIC_LEN;

	if (pread(fd, buf, BLOCK_FILE_MAGIC_LEN, 0) != BLOCK_FILE_MAGIC_LEN ||
	    block_file_is(buf) == BLOCK_FILE_FOREIGN)
		return -EBADMSG;
	if (block_file_is(buf) == BLOCK_FILE_OTHER_FORMAT)
		return -EPROTONOSUPPORT;
	while (pread(fd, buf, sizeof(buf), at) == sizeof(buf)) {
		h = block_get_header(buf);
		if (h.magic != BLOCK_MAGIC || h.bytes > BLOCK_MAX_BYTES ||
		    at + BLOCK_HEADER_LEN + h.bytes > size)
			break;
		at += BLOCK_HEADER_LEN + h.bytes;
	}
	return at;
}

static int prepare_file(int fd)
{
	struct stat st;
	int64_t end;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || !st.st_size)
		return write_all(fd, (const uint8_t *)BLOCK_FILE_MAGIC, BLOCK_FILE_MAGIC_LEN);
	end = find_end(fd, st.st_size);
	if (end < 0)
		return end;
	if (ftruncate(fd, end) || lseek(fd, end, SEEK_SET) < 0)
		return -errno;
	return 0;
}

struct record_writer *record_writer_open(const char *path, char err[static 256])
{
	struct record_writer *w = calloc(1, sizeof(*w));
	int error = -ENOMEM;

	if (!w)
		goto fail;
	w->fd = strcmp(path, "-") ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644) : STDOUT_FILENO;
	if (w->fd < 0) {
		error = -errno;
		goto fail;
	}
	error = prepare_file(w->fd);
	if (!error)
		return w;
fail:
	if (error == -EBADMSG)
		snprintf(err, 256, "%s: exists and is no .dtr file; name another one", path);
	else if (error == -EPROTONOSUPPORT)
		snprintf(err, 256, "%s: exists, and was written by another version of derptrace; name "
			 "another one", path);
	else
		snprintf(err, 256, "%s: cannot write: %s%s", path, strerror(-error), denied_advice(-error));
	if (w && w->fd > STDERR_FILENO)
		close(w->fd);
	free(w);
	return NULL;
}

static int write_block(struct record_writer *w)
{
	uLongf len = compressBound(w->raw_len);
	uint8_t *grown;

	if (w->deflated_size < len + BLOCK_HEADER_LEN) {
		grown = realloc(w->deflated, len + BLOCK_HEADER_LEN);
		if (!grown)
			return -ENOMEM;
		w->deflated = grown;
		w->deflated_size = len + BLOCK_HEADER_LEN;
	}
	if (compress2(w->deflated + BLOCK_HEADER_LEN, &len, w->raw, w->raw_len, 1) != Z_OK)
		return -ENOMEM;
	block_put_word(w->deflated, BLOCK_MAGIC);
	block_put_word(w->deflated + 4, len);
	block_put_word(w->deflated + 8, crc32(0, w->deflated + BLOCK_HEADER_LEN, len));
	block_put_word(w->deflated + 12, w->raw_len);
	w->raw_len = 0;
	return write_all(w->fd, w->deflated, BLOCK_HEADER_LEN + len);
}

static int reserve(struct record_writer *w, size_t len)
{
	size_t size = w->raw_size ? w->raw_size : 64 << 10;
	uint8_t *grown;

	while (size < w->raw_len + len)
		size *= 2;
	if (size == w->raw_size)
		return 0;
	grown = realloc(w->raw, size);
	if (!grown)
		return -ENOMEM;
	w->raw = grown;
	w->raw_size = size;
	return 0;
}

/* More than its wire form takes. */
static size_t room_for(const struct record *r)
{
	const size_t number = 10;	/* of one, at most */
	size_t room = 4096, i;

	if (r->type == RECORD_MARK)
		room += r->mark.pair_count * 96;
	else if (r->type == RECORD_PEERS)
		room += r->peers.count * (KEY_LEN + number);
	else if (r->type == RECORD_PAIRS)
		room += r->pairs.count * 4 * number;
	else if (r->type == RECORD_COUNTS)
		room += r->counts.count * 3 * number;
	for (i = 0; r->type == RECORD_COUNTS && i < RECORD_PAIR_COLUMNS; i++)
		room += r->counts.column[i] ? r->counts.count * number : 0;
	for (i = 0; r->type == RECORD_COUNTS && i < r->counts.count; i++)
		room += r->counts.latency_count[i] * number;
	return room;
}

static int put(struct record_writer *w, const struct record *r)
{
	size_t room = room_for(r), len = 0;
	int err;

	if (room > BLOCK_MAX_RECORD)
		return -E2BIG;
	err = reserve(w, room + 4);
	if (err)
		return err;
	len = record_pack(r, w->raw + w->raw_len + 4, room);
	if (!len)
		return r->type == RECORD_CUT ? 0 : -EINVAL;
	block_put_word(w->raw + w->raw_len, len);
	w->raw_len += 4 + len;
	return r->type == RECORD_AGENT || w->raw_len >= FLUSH_BYTES ? write_block(w) : 0;
}

int record_writer_put(struct record_writer *w, const struct record *r)
{
	if (!w->error)
		w->error = put(w, r);
	return w->error;
}

int record_writer_close(struct record_writer *w)
{
	int error;

	if (!w)
		return 0;
	if (!w->error && w->raw_len)
		w->error = write_block(w);
	if (w->fd > STDERR_FILENO && close(w->fd) && !w->error)
		w->error = -errno;
	error = w->error;
	free(w->raw);
	free(w->deflated);
	free(w);
	return error;
}
