// SPDX-License-Identifier: BSD-2-Clause
/* Records: each kind through its wire form and back; files whole, cut, damaged, appended to. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "latency.h"
#include "record/record.h"

#define MAX_RECORDS 64

struct seen {
	struct record records[MAX_RECORDS];
	int count;
	int fail_at;
};

static int put(void *ctx, const struct record *r)
{
	struct seen *s = ctx;

	assert_true(s->count < MAX_RECORDS);
	if (s->fail_at && s->count == s->fail_at)
		return -ENOSPC;
	s->records[s->count++] = *r;
	return 0;
}

static char path[] = "/tmp/dt-test-record-XXXXXX";

static int make_path(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	close(fd);
	return unlink(path);
}

static int drop_path(void **state)
{
	(void)state;
	unlink(path);
	strcpy(path + strlen(path) - 6, "XXXXXX");
	return 0;
}

static void fill_key(struct key *k, uint8_t v)
{
	memset(k->b, v, KEY_LEN);
}

static struct record make_agent(uint64_t agent, bool final)
{
	struct record r = { .type = RECORD_AGENT, .agent = agent, .time_ns = 77 };

	strcpy(r.agent_info.host, "derp1");
	strcpy(r.agent_info.mode, "full");
	r.agent_info.final = final;
	r.agent_info.cpu_percent = 0.5;
	r.agent_info.segments_lost = UINT64_MAX;
	return r;
}

/* One sample at each end, and a hostile count. */
static const struct buckets *make_latency(void)
{
	static struct buckets *b;

	if (!b) {
		assert_true(buckets_add(&b, 2, 7));
		assert_true(buckets_add(&b, LATENCY_BUCKETS - 1, UINT32_MAX));
	}
	return b;
}

static struct record make_pair(void)
{
	struct record r = { .type = RECORD_PAIR, .agent = 9, .node = 2, .time_ns = 76 };
	int i;

	fill_key(&r.pair.src, 1);
	r.pair.books = (struct record_books){ 10, 5, 2, 2, 1 };
	for (i = 0; i < HOP_COUNT; i++) {
		r.pair.frames[i] = i + 1;
		r.pair.bytes[i] = 1ULL << (40 + i);
	}
	r.pair.latency = make_latency();
	return r;
}

static void round_trip(const struct record *r, struct record *back, struct record_scratch **scratch)
{
	uint8_t buf[8192];
	size_t len = record_pack(r, buf, sizeof(buf));

	assert_true(len > 0);
	assert_int_equal(record_pack(r, buf, len - 1), 0);
	len = record_pack(r, buf, sizeof(buf));
	assert_true(record_unpack(buf, len, back, scratch));
}

static void test_each_kind_comes_back(void **state)
{
	struct record_scratch *scratch = NULL;
	struct record_mark_pair pairs[2] = { { .frames = 3 }, { .frames = 4 } };
	struct record r, back;

	(void)state;
	r = make_pair();
	round_trip(&r, &back, &scratch);
	assert_non_null(back.pair.latency);
	assert_memory_equal(r.pair.latency, back.pair.latency, buckets_size(r.pair.latency));
	back.pair.latency = r.pair.latency;
	assert_memory_equal(&r.pair, &back.pair, sizeof(r.pair));
	assert_int_equal(back.node, 2);

	r = make_agent(1, true);
	round_trip(&r, &back, &scratch);
	assert_memory_equal(&r.agent_info, &back.agent_info, sizeof(r.agent_info));

	memset(&r, 0, sizeof(r));
	r.type = RECORD_CONN;
	r.conn.kind = CONN_MESH_OUT;
	r.conn.dialled = true;
	addr_set(&r.conn.local, 4, "\x0a\0\0\1", 443);
	addr_set(&r.conn.remote, 6, "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 65535);
	strcpy(r.conn.sni, "derp1.lab");
	r.conn.tag = UINT64_MAX;
	round_trip(&r, &back, &scratch);
	assert_memory_equal(&r.conn, &back.conn, sizeof(r.conn));

	memset(&r, 0, sizeof(r));
	r.type = RECORD_MARK;
	fill_key(&pairs[1].dst, 7);
	r.mark = (struct record_mark){ .conn = 1, .no = 2, .digest = 3, .len = 4, .seen_ns = 5,
				       .pairs = pairs, .pair_count = 2 };
	round_trip(&r, &back, &scratch);
	assert_int_equal(back.mark.pair_count, 2);
	assert_memory_equal(back.mark.pairs, pairs, sizeof(pairs));
	assert_int_equal(back.mark.seen_ns, 5);

	memset(&r, 0, sizeof(r));
	r.type = RECORD_LOSS;
	r.loss.reason = REASON_UNFLUSHED;
	r.loss.basis = BASIS_INFERRED;
	r.loss.count = 12;
	round_trip(&r, &back, &scratch);
	assert_memory_equal(&r.loss, &back.loss, sizeof(r.loss));

	memset(&r, 0, sizeof(r));
	r.type = RECORD_NODE;
	r.node_info.pid = 42;
	r.node_info.serves_count = 1;
	addr_set(&r.node_info.serves[0], 4, "\x0a\0\0\1", 443);
	strcpy(r.node_info.software, "derper");
	round_trip(&r, &back, &scratch);
	assert_memory_equal(&r.node_info, &back.node_info, sizeof(r.node_info));
	record_scratch_free(scratch);
}

/* What comes from elsewhere may reach a terminal, an index or a loop: it is checked at the door. */
static void test_hostile_fields_are_refused(void **state)
{
	struct record_scratch *scratch = NULL;
	struct record r, back;
	uint8_t buf[8192];
	size_t len;

	(void)state;
	memset(&r, 0, sizeof(r));
	r.type = RECORD_LOSS;
	r.loss.reason = REASON_COUNT;
	len = record_pack(&r, buf, sizeof(buf));
	assert_false(record_unpack(buf, len, &back, &scratch));

	memset(&r, 0, sizeof(r));
	r.type = RECORD_CONN;
	r.conn.kind = CONN_OTHER + 1;
	len = record_pack(&r, buf, sizeof(buf));
	assert_false(record_unpack(buf, len, &back, &scratch));

	memset(&r, 0, sizeof(r));
	r.type = RECORD_AGENT;
	strcpy(r.agent_info.host, "\x1b[31mred");
	len = record_pack(&r, buf, sizeof(buf));
	assert_true(record_unpack(buf, len, &back, &scratch));
	assert_string_equal(back.agent_info.host, "?[31mred");
	record_scratch_free(scratch);
}

static void write_file(int snapshots, bool final)
{
	struct record r;
	char err[256];
	struct record_writer *w = record_writer_open(path, err);
	int i;

	assert_non_null(w);
	for (i = 0; i < snapshots; i++) {
		r = make_pair();
		assert_int_equal(record_writer_put(w, &r), 0);
		r = make_agent(9, final && i == snapshots - 1);
		assert_int_equal(record_writer_put(w, &r), 0);
	}
	assert_int_equal(record_writer_close(w), 0);
}

static int read_file(struct seen *seen, char error[static 256])
{
	const struct record_sink sink = { seen, put };
	struct record_reader *reader;
	int err;

	memset(seen, 0, sizeof(*seen));
	reader = record_reader_open(path, error);
	assert_non_null(reader);
	err = record_reader_run(reader, &sink, true);
	snprintf(error, 256, "%s", record_reader_error(reader));
	record_reader_close(reader);
	return err;
}

static void test_whole_file(void **state)
{
	struct seen seen;
	char error[256];

	(void)state;
	write_file(3, true);
	assert_int_equal(read_file(&seen, error), -ENODATA);
	assert_int_equal(seen.count, 6);
	/* Appended to: another run's records behind the first's. */
	write_file(2, true);
	assert_int_equal(read_file(&seen, error), -ENODATA);
	assert_int_equal(seen.count, 10);
}

/* Cut at every byte: what was whole is handed over, and the cut is said. */
static void test_cut_anywhere(void **state)
{
	struct seen seen;
	struct stat st;
	char error[256];
	off_t at;
	int records, last = 0;

	(void)state;
	write_file(3, true);
	assert_int_equal(stat(path, &st), 0);
	for (at = st.st_size - 1; at >= 0; at--) {
		assert_int_equal(truncate(path, at), 0);
		assert_int_equal(read_file(&seen, error), -EBADMSG);
		assert_true(strlen(error) > 10);
		records = seen.count;
		if (records)
			assert_int_equal(seen.records[records - 1].type, RECORD_CUT);
		assert_true(records == 5 || records == 3 || records == 0);
		last = records;
	}
	assert_int_equal(last, 0);
}

static void test_append_after_crash(void **state)
{
	struct seen seen;
	struct stat st;
	char error[256];

	(void)state;
	write_file(3, false);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(truncate(path, st.st_size - 5), 0);
	write_file(1, true);
	assert_int_equal(read_file(&seen, error), -ENODATA);
	assert_int_equal(seen.count, 6);
}

/* One byte turned over anywhere is found: no wrong record is ever handed over. */
static void test_any_byte_damaged(void **state)
{
	struct seen seen, whole;
	struct stat st;
	char error[256];
	uint8_t byte;
	off_t at;
	int fd, i;

	(void)state;
	write_file(2, true);
	read_file(&whole, error);
	assert_int_equal(stat(path, &st), 0);
	fd = open(path, O_RDWR);
	for (at = 0; at < st.st_size; at++) {
		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 0x41;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		assert_int_equal(read_file(&seen, error), -EBADMSG);
		for (i = 0; i < seen.count && seen.records[i].type != RECORD_CUT; i++)
			assert_memory_equal(&seen.records[i], &whole.records[i], sizeof(whole.records[i]));
		byte ^= 0x41;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	}
	close(fd);
}

static void test_foreign_file_is_kept(void **state)
{
	static const char text[] = "somebody's notes";
	char err[256], back[sizeof(text)];
	int fd = open(path, O_RDWR | O_CREAT, 0600);

	(void)state;
	assert_int_equal(write(fd, text, sizeof(text)), sizeof(text));
	assert_null(record_writer_open(path, err));
	assert_non_null(strstr(err, "no .dtr"));
	assert_int_equal(pread(fd, back, sizeof(back), 0), sizeof(text));
	assert_string_equal(back, text);
	close(fd);
}

static void test_full_disk_is_said(void **state)
{
	struct record_writer *w;
	struct record r = make_agent(1, true);
	char err[256];

	(void)state;
	w = record_writer_open("/dev/full", err);
	if (w) {
		record_writer_put(w, &r);
		assert_int_equal(record_writer_close(w), -ENOSPC);
	} else {
		assert_non_null(strstr(err, "No space"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_kind_comes_back),
		cmocka_unit_test(test_hostile_fields_are_refused),
		cmocka_unit_test_setup_teardown(test_whole_file, make_path, drop_path),
		cmocka_unit_test_setup_teardown(test_cut_anywhere, make_path, drop_path),
		cmocka_unit_test_setup_teardown(test_append_after_crash, make_path, drop_path),
		cmocka_unit_test_setup_teardown(test_any_byte_damaged, make_path, drop_path),
		cmocka_unit_test_setup_teardown(test_foreign_file_is_kept, make_path, drop_path),
		cmocka_unit_test(test_full_disk_is_said),
	};

	return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
