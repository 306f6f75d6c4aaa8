// SPDX-License-Identifier: BSD-2-Clause
/* The parts of live capture that need no kernel. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <linux/bpf.h>
#include <linux/capability.h>

#include "capture/live.h"
#include "capture/relay.h"
#include "capture/rights.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* --- which processes were asked for ---------------------------------------------------------- */

static void test_unit(void **state)
{
	static const struct {
		const char *path, *unit;
		bool is;
	} rows[] = {
		{ "/system.slice/derper.service", "derper", true },
		{ "/system.slice/derper.service", "derper.service", true },
		{ "/system.slice/derper.service/inner", "derper", true },
		{ "/system.slice/derper2.service", "derper", false },
		{ "/system.slice/derper.scope", "derper", false },
		{ "/system.slice/derper.scope", "derper.scope", true },
		{ "/derper", "derper", true },
		{ "/system.slice/my-derper.service", "derper", false },
		{ "/", "derper", false },
		{ "/system.slice/derper.service", "", false },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		assert_int_equal(relay_cgroup_has_unit(rows[i].path, rows[i].unit), rows[i].is);
}

static void test_cgroup(void **state)
{
	static const struct {
		const char *path, *wanted;
		bool is;
	} rows[] = {
		{ "/a/b/c", "/a/b", true },	{ "/a/b/c", "a/b/", true },
		{ "/a/b", "/a/b", true },	{ "/a/bc", "/a/b", false },
		{ "/a", "/a/b", false },	{ "/a", "/", true },
		{ "/", "/", true },		{ "/", "/a", false },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		assert_int_equal(relay_cgroup_is_below(rows[i].path, rows[i].wanted), rows[i].is);
}

static void test_listener(void **state)
{
	static const uint8_t any[16], one[4] = { 10, 0, 0, 1 }, two[4] = { 10, 0, 0, 2 };
	struct relay relay = { .listener_count = 2 };
	struct addr a;

	(void)state;
	addr_set(&relay.listeners[0].addr, 6, any, 443);
	addr_set(&relay.listeners[1].addr, 4, one, 80);
	addr_set(&a, 4, two, 443);
	assert_ptr_equal(relay_listener_of(&relay, &a), &relay.listeners[0]);
	addr_set(&a, 4, one, 80);
	assert_ptr_equal(relay_listener_of(&relay, &a), &relay.listeners[1]);
	addr_set(&a, 4, two, 80);
	assert_null(relay_listener_of(&relay, &a));
	addr_set(&a, 4, two, 8080);
	assert_null(relay_listener_of(&relay, &a));
}

static void test_inodes(void **state)
{
	static const uint32_t inodes[] = { 3, 7, 4000000000u };

	(void)state;
	assert_true(relay_holds_inode(inodes, 3, 7));
	assert_true(relay_holds_inode(inodes, 3, 4000000000u));
	assert_false(relay_holds_inode(inodes, 3, 8));
	assert_false(relay_holds_inode(inodes, 3, 0));
	assert_false(relay_holds_inode(NULL, 0, 7));
}

/* --- what was handed over -------------------------------------------------------------------- */

/* Pieces in the order in which they come; how far all was handed over after each. */
static void check_handed(uint32_t base, const uint32_t (*rows)[3], size_t count)
{
	struct live_conn conn = { 0 };
	size_t i;

	for (i = 0; i < count; i++) {
		live_record_handed(&conn, base + rows[i][0], base + rows[i][1]);
		assert_int_equal(conn.handed, (uint32_t)(base + rows[i][2]));
	}
}

static void test_handed(void **state)
{
	static const uint32_t in_order[][3] = {
		{ 0, 100, 100 }, { 100, 250, 250 }, { 50, 150, 250 }, { 200, 300, 300 },
	};
	static const uint32_t hole[][3] = {
		{ 0, 100, 100 }, { 200, 300, 100 }, { 300, 400, 100 }, { 150, 250, 100 },
		{ 100, 150, 400 }, { 400, 500, 500 },
	};
	static const uint32_t told[][3] = {
		/* TCP says it has all up to 300: what was missing is lost, not still to come. */
		{ 0, 100, 100 }, { 200, 250, 100 }, { 300, 300, 300 }, { 300, 400, 400 },
	};
	static const uint32_t bases[] = { 0, 1000, UINT32_MAX - 120, 0x7fffff80 };
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(bases); i++) {
		check_handed(bases[i], in_order, COUNT(in_order));
		check_handed(bases[i], hole, COUNT(hole));
		check_handed(bases[i], told, COUNT(told));
	}
}

static struct capture_facts facts_at(uint32_t base, uint32_t copied, uint32_t received,
				     uint32_t acked, uint32_t sent, uint32_t written)
{
	return (struct capture_facts){
		.has_seq = true, .has_read = true, .has_queues = true,
		.copied_seq = base + copied, .rcv_nxt = base + received,
		.snd_una = base + acked, .snd_nxt = base + sent, .write_seq = base + written,
	};
}

static void test_facts_grow(void **state)
{
	const uint32_t base = UINT32_MAX - 50;
	struct capture_facts facts = { .tcp_state = 1 }, newer;

	(void)state;
	newer = facts_at(base, 10, 40, 5, 20, 30);
	live_facts_merge(&facts, &newer);
	assert_int_equal(facts.rcv_nxt, (uint32_t)(base + 40));
	/* An answer that is older than what a record said, in part. */
	newer = facts_at(base, 60, 20, 15, 10, 90);
	live_facts_merge(&facts, &newer);
	assert_int_equal(facts.copied_seq, (uint32_t)(base + 60));
	assert_int_equal(facts.rcv_nxt, (uint32_t)(base + 60));
	assert_int_equal(facts.unread, 0);
	assert_int_equal(facts.snd_una, (uint32_t)(base + 15));
	assert_int_equal(facts.snd_nxt, (uint32_t)(base + 20));
	assert_int_equal(facts.write_seq, (uint32_t)(base + 90));
	assert_int_equal(facts.notsent, 70);
	assert_int_equal(facts.unacked, 5);
	/* One that knows no numbers leaves them. */
	newer = (struct capture_facts){ .tcp_state = 1 };
	live_facts_merge(&facts, &newer);
	assert_true(facts.has_seq);
	assert_int_equal(facts.write_seq, (uint32_t)(base + 90));
}

/* The last segment of a connection brings an acknowledgement that no socket is left to be asked for. */
static void test_last_ack(void **state)
{
	const uint32_t in = UINT32_MAX - 20, out = UINT32_MAX - 500;
	const struct {
		uint32_t seq, len, ack;
		uint8_t flags, dir;
		uint32_t acked;	/* 0: nothing new */
	} rows[] = {
		{ 0, 0, 900, ABI_TCP_FIN | ABI_TCP_ACK, ABI_IN, 900 },
		{ 0, 100, 700, ABI_TCP_ACK, ABI_IN, 700 },
		{ 0, 0, 700, ABI_TCP_RST | ABI_TCP_ACK, ABI_IN, 700 },
		{ 0, 0, 700, ABI_TCP_RST, ABI_IN, 0 },		/* its number means nothing */
		{ 0, 0, 1001, ABI_TCP_FIN | ABI_TCP_ACK, ABI_IN, 0 },	/* never sent */
		{ 0, 0, 300, ABI_TCP_FIN | ABI_TCP_ACK, ABI_IN, 0 },	/* old */
		{ 5000, 0, 700, ABI_TCP_RST | ABI_TCP_ACK, ABI_IN, 0 },	/* beyond the window */
		{ -9u, 4, 700, ABI_TCP_ACK, ABI_IN, 0 },	/* before it */
		{ 0, 100, 700, ABI_TCP_ACK, ABI_OUT, 0 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		struct live_conn conn = { .facts = facts_at(in, 0, 0, 0, 0, 0) };
		struct abi_segment s = {
			.dir = rows[i].dir, .flags = rows[i].flags, .has = ABI_HAS_FACTS | ABI_ALL_FACTS,
			.seq = in + rows[i].seq, .len = rows[i].len, .ack = out + rows[i].ack,
			.rcv_nxt = in, .rcv_wnd = 4000, .snd_una = out + 300, .snd_nxt = out + 1000,
		};

		conn.facts.snd_una = s.snd_una;
		conn.facts.snd_nxt = s.snd_nxt;
		live_conn_note_ack(&conn, &s);
		assert_int_equal(live_conn_take_ack(&conn), rows[i].acked != 0);
		assert_int_equal(conn.facts.snd_una, (uint32_t)(out + (rows[i].acked ? rows[i].acked : 300)));
		/* A newer answer of the socket's stands. */
		conn.facts.snd_una = out + 950;
		assert_false(live_conn_take_ack(&conn));
	}
}

/* --- rights ---------------------------------------------------------------------------------- */

/* libbpf finds out by the way that a map cannot be made, and takes it for another fault. */
static void test_descriptors(void **state)
{
	static const char said[] = "libbpf: Error in probe_kern_global_data():Too many open files(24). "
				   "Couldn't create simple array map.";

	(void)state;
	assert_null(rights_descriptors(-EINVAL, ""));
	assert_null(rights_descriptors(-EINVAL, "libbpf: Error in something():Invalid argument(22)"));
	assert_non_null(rights_descriptors(-EMFILE, ""));
	assert_non_null(rights_descriptors(-EINVAL, said));
	assert_non_null(strstr(rights_descriptors(-EINVAL, said), "ulimit -n"));
	assert_null(strstr(rights_descriptors(-EINVAL, said), "libbpf"));
}

static void test_rights(void **state)
{
	const uint64_t all = ~0ull, admin = 1ull << CAP_SYS_ADMIN;
	const struct right *r;
	size_t n = 0;

	(void)state;
	assert_null(rights_missing(all, NULL));
	for (r = rights_missing(0, NULL); r; r = rights_missing(0, r))
		n++;
	assert_int_equal(n, 5);
	/* What stands for others is not missed in their place. */
	r = rights_missing(admin, NULL);
	assert_non_null(r);
	assert_string_equal(r->name, "CAP_SYS_PTRACE");
	assert_false(r->needed);
	assert_null(rights_missing(admin, r));
	r = rights_missing(all & ~(admin | 1ull << CAP_PERFMON), NULL);
	assert_non_null(r);
	assert_string_equal(r->name, "CAP_PERFMON");
	assert_true(r->needed);
}

/* --- checksums ------------------------------------------------------------------------------- */

/* As RFC 1071 has it: big-endian words. */
static uint16_t checksum(const uint8_t *bytes, size_t len)
{
	uint32_t sum = 0;
	size_t i;

	for (i = 0; i < len; i++)
		sum += (uint32_t)bytes[i] << (i & 1 ? 0 : 8);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* What the kernel adds up: pseudo-header and header, in words of memory. */
static uint16_t header_sum(const uint8_t *bytes, size_t len)
{
	uint32_t sum = 0;
	uint16_t word;
	size_t i;

	for (i = 0; i < len; i += sizeof(word)) {
		memcpy(&word, bytes + i, sizeof(word));
		sum += word;
	}
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

#define HEADERS	(12 + 32)	/* IPv4 pseudo-header, TCP header with timestamps */

static void test_checksum(void **state)
{
	uint8_t packet[HEADERS + 1500], *payload = packet + HEADERS;
	struct abi_segment s = { .check = ABI_CHECK_PENDING };
	uint16_t check;
	size_t i, len;

	(void)state;
	for (len = 1; len <= 1500; len += 1 + len / 7) {
		for (i = 0; i < sizeof(packet); i++)
			packet[i] = (uint8_t)(i * i + 7 * len);
		packet[12 + 16] = packet[12 + 17] = 0;
		check = checksum(packet, HEADERS + len);
		packet[12 + 16] = (uint8_t)(check >> 8);
		packet[12 + 17] = (uint8_t)check;
		s.len = s.captured = (uint32_t)len;
		s.sum = header_sum(packet, HEADERS);
		assert_int_equal(live_check_sum(&s, payload), CAPTURE_SUM_RIGHT);
		assert_false(live_check_refuses(&s, CAPTURE_SUM_RIGHT));
		payload[len - 1] ^= 0x10;
		assert_int_equal(live_check_sum(&s, payload), CAPTURE_SUM_WRONG);
		/* The sum tells nothing of a part, or of what could not be copied. */
		s.len++;
		assert_int_equal(live_check_sum(&s, payload), CAPTURE_SUM_UNKNOWN);
		s.len--;
		s.has = ABI_UNREADABLE;
		assert_int_equal(live_check_sum(&s, payload), CAPTURE_SUM_UNKNOWN);
		s.has = 0;
	}
}

/* Only where the kernel says that TCP will look is it certain what TCP will do. */
static void test_checksum_refuses(void **state)
{
	static const struct {
		enum abi_check check;
		enum capture_sum sum;
		bool refuses;
	} rows[] = {
		{ ABI_CHECK_NONE, CAPTURE_SUM_UNKNOWN, false },
		{ ABI_CHECK_HOLDS, CAPTURE_SUM_RIGHT, false },
		{ ABI_CHECK_PENDING, CAPTURE_SUM_WRONG, true },
		{ ABI_CHECK_UNTOLD, CAPTURE_SUM_WRONG, false },
	};
	struct abi_segment s = { .sum = 1, .len = 3, .captured = 3 };
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		s.check = (uint8_t)rows[i].check;
		assert_int_equal(live_check_sum(&s, (const uint8_t *)"abc"), rows[i].sum);
		assert_int_equal(live_check_refuses(&s, rows[i].sum), rows[i].refuses);
	}
}

/* --- the ring -------------------------------------------------------------------------------- */

#define RING	256

struct fake {
	unsigned long consumer, producer;
	/* The kernel maps it twice in a row. */
	_Alignas(8) uint8_t data[2 * RING];
};

static void put(struct fake *fake, uint32_t len, uint32_t bits, uint8_t fill)
{
	uint32_t head = len | bits;
	size_t i, at = fake->producer % RING;

	memcpy(fake->data + at, &head, sizeof(head));
	for (i = 0; i < len; i++)
		fake->data[(at + BPF_RINGBUF_HDR_SZ + i) % RING] = fill;
	memcpy(fake->data + RING, fake->data, RING);
	fake->producer += (len + BPF_RINGBUF_HDR_SZ + 7) & ~7ul;
}

static void test_ring(void **state)
{
	struct fake fake = { .consumer = 200, .producer = 200 };
	struct live_ring ring = {
		.size = RING, .consumer = &fake.consumer, .producer = &fake.producer,
		.data = fake.data,
	};
	unsigned long pos = live_ring_begin(&ring), end;
	const uint8_t *record;
	uint32_t len;

	(void)state;
	put(&fake, 70, 0, 1);
	put(&fake, 5, BPF_RINGBUF_DISCARD_BIT, 2);
	put(&fake, 9, 0, 3);
	put(&fake, 9, BPF_RINGBUF_BUSY_BIT, 4);
	put(&fake, 9, 0, 5);
	end = live_ring_end(&ring);
	/* It runs over the end of the ring and is read in one piece. */
	record = live_ring_next(&ring, &pos, end, &len);
	assert_non_null(record);
	assert_int_equal(len, 70);
	assert_int_equal(record[69], 1);
	record = live_ring_next(&ring, &pos, end, &len);
	assert_non_null(record);
	assert_int_equal(record[0], 3);
	/* Nothing is taken past one that is still being written. */
	assert_null(live_ring_next(&ring, &pos, end, &len));
	live_ring_release(&ring, pos);
	assert_int_equal(fake.consumer, 200 + 80 + 16 + 24);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unit),
		cmocka_unit_test(test_cgroup),
		cmocka_unit_test(test_listener),
		cmocka_unit_test(test_inodes),
		cmocka_unit_test(test_handed),
		cmocka_unit_test(test_facts_grow),
		cmocka_unit_test(test_last_ack),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_rights),
		cmocka_unit_test(test_checksum),
		cmocka_unit_test(test_checksum_refuses),
		cmocka_unit_test(test_ring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
