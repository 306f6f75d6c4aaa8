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
#define MAX_TAIL 4

struct tail {
	struct record_peer peers[MAX_TAIL];
	struct record_pair_ends pairs[MAX_TAIL];
	uint32_t pair[MAX_TAIL];
	uint64_t v[RECORD_PAIR_COLUMNS][MAX_TAIL];
	uint32_t latency_first[MAX_TAIL], latency_count[MAX_TAIL];
	uint32_t latency[MAX_TAIL * LATENCY_BUCKETS];
};

struct seen {
	struct record records[MAX_RECORDS];
	struct tail tails[MAX_RECORDS];
	int count;
	int fail_at;
};

static void keep_latency(struct record_counts *c, struct tail *t)
{
	size_t i, total = 0;

	for (i = 0; i < c->count; i++) {
		t->latency_first[i] = c->latency_first[i];
		t->latency_count[i] = c->latency_count[i];
		total += c->latency_count[i];
	}
	memcpy(t->latency, c->latency, total * sizeof(t->latency[0]));
	c->latency_first = t->latency_first;
	c->latency_count = t->latency_count;
	c->latency = t->latency;
}

/* What a record points to is gone after the call. */
static void keep_tail(struct seen *s, struct record *r)
{
	struct tail *t = &s->tails[s->count];
	size_t i;

	if (r->type == RECORD_PEERS) {
		assert_true(r->peers.count <= MAX_TAIL);
		memcpy(t->peers, r->peers.v, r->peers.count * sizeof(t->peers[0]));
		r->peers.v = t->peers;
	} else if (r->type == RECORD_PAIRS) {
		assert_true(r->pairs.count <= MAX_TAIL);
		memcpy(t->pairs, r->pairs.v, r->pairs.count * sizeof(t->pairs[0]));
		r->pairs.v = t->pairs;
	} else if (r->type == RECORD_COUNTS) {
		assert_true(r->counts.count <= MAX_TAIL);
		memcpy(t->pair, r->counts.pair, r->counts.count * sizeof(t->pair[0]));
		r->counts.pair = t->pair;
		keep_latency(&r->counts, t);
		for (i = 0; i < RECORD_PAIR_COLUMNS; i++) {
			if (!r->counts.column[i])
				continue;
			memcpy(t->v[i], r->counts.column[i], r->counts.count * sizeof(t->v[i][0]));
			r->counts.column[i] = t->v[i];
		}
	}
}

static int put(void *ctx, const struct record *r)
{
	struct seen *s = ctx;

	assert_true(s->count < MAX_RECORDS);
	if (s->fail_at && s->count == s->fail_at)
		return -ENOSPC;
	s->records[s->count] = *r;
	keep_tail(s, &s->records[s->count]);
	s->count++;
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

static struct record_pair counts_of(uint64_t frames)
{
	struct record_pair p = { .books = { 10, 5, 2, 2, 1 }, .last_ns = 70, .first_seen = frames };
	int i;

	for (i = 0; i < HOP_COUNT; i++) {
		p.frames[i] = frames + i;
		p.bytes[i] = 1ULL << (40 + i);
	}
	p.latency = make_latency();
	p.wg_response_last_ns = 80;	/* later than the snapshot */
	return p;
}

/* What a node tells of two pairs, one end of the second of which is not known. */
static void put_pairs(const struct record_sink *sink, uint64_t agent, bool declare, uint64_t frames)
{
	const struct record head = { .agent = agent, .node = 2, .time_ns = 76 };
	struct record_batch *b = record_batch_new(&head, sink);
	struct record_pair counts = counts_of(frames), none = { .last_ns = 0 };
	struct record_peer peer = { .no = 1 };

	assert_non_null(b);
	if (declare) {
		fill_key(&peer.key, 1);
		record_batch_peer(b, &peer);
		peer.no = 2;
		fill_key(&peer.key, 2);
		record_batch_peer(b, &peer);
		record_batch_pair(b, &(struct record_pair_ends){ 1, 1, 2, 60 });
		record_batch_pair(b, &(struct record_pair_ends){ 2, 0, 1, 0 });
	}
	record_batch_counts(b, 1, &counts);
	record_batch_counts(b, 2, &none);
	assert_int_equal(record_batch_flush(b), 0);
	record_batch_free(b);
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
	r.loss.back = 3;
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

/* Peers, pairs and counts as a batch tells them, through their wire form and back. */
static void test_columns_come_back(void **state)
{
	struct record_scratch *scratch = NULL;
	static struct seen seen;
	const struct record_sink sink = { &seen, put };
	const struct record_pair counts = counts_of(3);
	const uint64_t *v = (const uint64_t *)&counts;
	struct record back;
	size_t i;

	(void)state;
	memset(&seen, 0, sizeof(seen));
	put_pairs(&sink, 9, true, 3);
	assert_int_equal(seen.count, 3);
	round_trip(&seen.records[0], &back, &scratch);
	assert_int_equal(back.type, RECORD_PEERS);
	assert_int_equal(back.peers.count, 2);
	assert_memory_equal(back.peers.v, seen.tails[0].peers, 2 * sizeof(*back.peers.v));
	round_trip(&seen.records[1], &back, &scratch);
	assert_int_equal(back.type, RECORD_PAIRS);
	assert_int_equal(back.pairs.count, 2);
	assert_int_equal(back.pairs.v[0].no, 1);
	assert_int_equal(back.pairs.v[0].src, 1);
	assert_int_equal(back.pairs.v[0].dst, 2);
	assert_int_equal(back.pairs.v[0].first_ns, 60);
	assert_int_equal(back.pairs.v[1].src, 0);
	assert_int_equal(back.pairs.v[1].first_ns, 0);
	round_trip(&seen.records[2], &back, &scratch);
	assert_int_equal(back.type, RECORD_COUNTS);
	assert_int_equal(back.node, 2);
	assert_int_equal(back.counts.count, 2);
	assert_int_equal(back.counts.pair[1], 2);
	for (i = 0; i < RECORD_PAIR_COLUMNS; i++) {
		assert_int_equal(back.counts.column[i] != NULL, v[i] != 0);
		if (v[i])
			assert_int_equal(back.counts.column[i][0], v[i]);
		if (v[i])
			assert_int_equal(back.counts.column[i][1], 0);
	}
	assert_int_equal(back.counts.latency_first[0], 2);
	assert_int_equal(back.counts.latency_count[0], LATENCY_BUCKETS - 2);
	assert_int_equal(back.counts.latency[0], 7);
	assert_int_equal(back.counts.latency[LATENCY_BUCKETS - 3], UINT32_MAX);
	assert_int_equal(back.counts.latency_count[1], 0);
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

/* Wire forms by hand: what a damaged or hostile file may hold. */
static bool unpacks(const char *bytes, size_t len)
{
	struct record_scratch *scratch = NULL;
	struct record r;
	bool ok = record_unpack((const uint8_t *)bytes, len, &r, &scratch);

	record_scratch_free(scratch);
	return ok;
}
#define UNPACKS(text) unpacks(text, sizeof(text) - 1)

static void test_hostile_columns_are_refused(void **state)
{
	(void)state;
	/* Counts (16): pair 1, 2; column 0: 5, 6; of the first one bucket, number 3. */
	assert_true(UNPACKS("\x82\x01\x17\x0a\x02\x01\x02\x12\x06\x08\x00\x12\x02\x05\x06"
			    "\x1a\x02\x03\x00\x22\x02\x01\x00\x2a\x01\x09"));
	/* A bucket that nobody has, or that no pair has; one beyond the last. */
	assert_false(UNPACKS("\x82\x01\x14\x0a\x02\x01\x02\x12\x06\x08\x00\x12\x02\x05\x06"
			     "\x1a\x02\x03\x00\x22\x02\x01\x00"));
	assert_false(UNPACKS("\x82\x01\x17\x0a\x02\x01\x02\x12\x06\x08\x00\x12\x02\x05\x06"
			     "\x1a\x02\x03\x00\x22\x02\x00\x00\x2a\x01\x09"));
	assert_false(UNPACKS("\x82\x01\x17\x0a\x02\x01\x02\x12\x06\x08\x00\x12\x02\x05\x06"
			     "\x1a\x02\x70\x00\x22\x02\x01\x00\x2a\x01\x09"));
	/* A column that is shorter than the others, or there twice; a later version's is passed over. */
	assert_false(UNPACKS("\x82\x01\x13\x0a\x02\x01\x02\x12\x05\x08\x00\x12\x01\x05"
			     "\x1a\x02\x00\x00\x22\x02\x00\x00"));
	assert_false(UNPACKS("\x82\x01\x17\x0a\x01\x01\x12\x05\x08\x00\x12\x01\x05"
			     "\x12\x05\x08\x00\x12\x01\x05\x1a\x01\x00\x22\x01\x00"));
	assert_true(UNPACKS("\x82\x01\x11\x0a\x01\x01\x12\x06\x08\x40\x12\x02\x05\x06"
			    "\x1a\x01\x00\x22\x01\x00"));
	/* Pairs (15): two numbers, one source. Peers (8): a number, and half a key. */
	assert_false(UNPACKS("\x7a\x0c\x0a\x02\x01\x02\x12\x01\x00\x1a\x02\x00\x00"));
	assert_false(UNPACKS("\x42\x07\x0a\x01\x01\x12\x02\x09\x09"));
}

static int write_one(void *ctx, const struct record *r)
{
	return record_writer_put(ctx, r);
}

static void write_file(int snapshots, bool final)
{
	struct record r;
	char err[256];
	struct record_writer *w = record_writer_open(path, err);
	const struct record_sink sink = { w, write_one };
	int i;

	assert_non_null(w);
	for (i = 0; i < snapshots; i++) {
		put_pairs(&sink, 9, !i, i + 1);
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
	static struct seen seen;
	char error[256];

	(void)state;
	write_file(3, true);
	assert_int_equal(read_file(&seen, error), -ENODATA);
	assert_int_equal(seen.count, 8);
	/* Appended to: another run's records behind the first's. */
	write_file(2, true);
	assert_int_equal(read_file(&seen, error), -ENODATA);
	assert_int_equal(seen.count, 14);
}

/* Cut at every byte: what was whole is handed over, and the cut is said. */
static void test_cut_anywhere(void **state)
{
	static struct seen seen;
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
		assert_true(records == 7 || records == 5 || records == 0);
		last = records;
	}
	assert_int_equal(last, 0);
}

/* Numbers that were not told, or far above those that were: they are indexes to whoever reads. */
static void test_numbers_out_of_range(void **state)
{
	static struct seen seen;
	const struct record_peer peer = { .no = 3 };
	const struct record_pair_ends unknown_peer = { 1, 1, 0, 0 }, far = { 1u << 30, 0, 0, 0 };
	const uint32_t pair = 1, none = 0;
	const struct record bad[] = {
		{ .type = RECORD_PEERS, .agent = 9, .node = 7, .peers = { &peer, 1 } },
		{ .type = RECORD_PAIRS, .agent = 9, .node = 7, .pairs = { &unknown_peer, 1 } },
		{ .type = RECORD_PAIRS, .agent = 9, .node = 7, .pairs = { &far, 1 } },
		{ .type = RECORD_COUNTS, .agent = 9, .node = 7,
		  .counts = { .pair = &pair, .latency_first = &none, .latency_count = &none, .count = 1 } },
	};
	struct record_writer *w;
	char error[256];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		unlink(path);
		write_file(1, false);
		w = record_writer_open(path, error);
		assert_non_null(w);
		assert_int_equal(record_writer_put(w, &bad[i]), 0);
		assert_int_equal(record_writer_close(w), 0);
		assert_int_equal(read_file(&seen, error), -EBADMSG);
		assert_non_null(strstr(error, "a damaged block at byte "));
		/* What stands before it, and that it was cut. */
		assert_int_equal(seen.count, 5);
	}
}

/* Of another version's file nothing is read, nor written behind it. */
static void test_other_format(void **state)
{
	static struct seen seen;
	char error[256];
	int fd;

	(void)state;
	write_file(1, true);
	fd = open(path, O_RDWR);
	assert_int_equal(pwrite(fd, "\1", 1, 7), 1);
	close(fd);
	assert_int_equal(read_file(&seen, error), -EBADMSG);
	assert_int_equal(seen.count, 0);
	assert_non_null(strstr(error, "records of format 1"));
	assert_null(record_writer_open(path, error));
	assert_non_null(strstr(error, "another version"));
}

static void test_append_after_crash(void **state)
{
	static struct seen seen;
	struct stat st;
	char error[256];

	(void)state;
	write_file(3, false);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(truncate(path, st.st_size - 5), 0);
	write_file(1, true);
	assert_int_equal(read_file(&seen, error), -ENODATA);
	assert_int_equal(seen.count, 10);
}

static void check_same(const struct seen *a, const struct seen *b, int i)
{
	const struct record *x = &a->records[i], *y = &b->records[i];

	assert_int_equal(x->type, y->type);
	assert_int_equal(x->agent, y->agent);
	assert_int_equal(x->time_ns, y->time_ns);
	assert_memory_equal(&a->tails[i], &b->tails[i], sizeof(a->tails[i]));
	if (x->type == RECORD_AGENT)
		assert_memory_equal(&x->agent_info, &y->agent_info, sizeof(x->agent_info));
}

/* One byte turned over anywhere is found: no wrong record is ever handed over. */
static void test_any_byte_damaged(void **state)
{
	static struct seen seen, whole;
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
			check_same(&seen, &whole, i);
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
		cmocka_unit_test(test_columns_come_back),
		cmocka_unit_test(test_hostile_columns_are_refused),
		cmocka_unit_test(test_hostile_fields_are_refused),
		cmocka_unit_test_setup_teardown(test_whole_file, make_path, drop_path),
		cmocka_unit_test_setup_teardown(test_cut_anywhere, make_path, drop_path),
		cmocka_unit_test_setup_teardown(test_numbers_out_of_range, make_path, drop_path),
		cmocka_unit_test_setup_teardown(test_other_format, make_path, drop_path),
		cmocka_unit_test_setup_teardown(test_append_after_crash, make_path, drop_path),
		cmocka_unit_test_setup_teardown(test_any_byte_damaged, make_path, drop_path),
		cmocka_unit_test_setup_teardown(test_foreign_file_is_kept, make_path, drop_path),
		cmocka_unit_test(test_full_disk_is_said),
	};

	return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
