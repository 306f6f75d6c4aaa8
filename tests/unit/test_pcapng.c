// SPDX-License-Identifier: BSD-2-Clause
/* What is written as pcapng, read again: by our own parser, and as a source. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "capture/pcap.h"
#include "pcap_help.h"
#include "view/pcapng.h"

#define SOURCE 99
#define MAX_PACKETS 64

struct read_packet {
	struct pcap_packet p;
	uint8_t data[512];
	size_t secrets;		/* bytes of secrets that stood before it */
};

static struct read_packet packets[MAX_PACKETS];
static size_t packet_count, secret_bytes;
static struct pcap_interface interfaces[8];
static struct pcapng *writer;
static struct pcapng_counts counts;
static uint64_t now_ns;
static int fd;

/* --- writing ------------------------------------------------------------------------------ */

static void tell(enum capture_type type, uint32_t node, uint64_t conn, struct capture_event *e)
{
	e->type = type;
	e->time_ns = now_ns += MS;
	e->node = node;
	e->conn = conn;
	pcapng_event(writer, SOURCE, e);
}

static void begin(bool secrets, bool payload)
{
	const struct pcapng_options options = { .secrets = secrets, .payload = payload };
	struct capture_event e = { .node_up = { .pid = 7, .name = "derper" } };

	fd = memfd_create("pcapng", MFD_CLOEXEC);
	assert_true(fd >= 0);
	now_ns = T0;
	writer = pcapng_new(dup(fd), &options);
	assert_non_null(writer);
	tell(CAPTURE_NODE_UP, 1, 0, &e);
}

static void open_conn(uint64_t conn, enum capture_role role, bool from_start, const char *ip)
{
	struct capture_event e = {
		.open = {
			.role = role, .from_start = from_start, .in_isn = 1000, .out_isn = 2000,
			.local = pcap_script_addr(ip, 443), .remote = pcap_script_addr(ip, 50000),
		},
	};

	tell(CAPTURE_CONN_OPEN, 1, conn, &e);
}

static void say(uint64_t conn, enum capture_dir dir, uint32_t seq, const void *data, uint32_t len,
		uint8_t flags)
{
	const struct capture_facts facts = { .has_seq = true, .rcv_nxt = 1000, .snd_una = 2000 };
	struct capture_event e = {
		.facts = &facts,
		.segment = { .dir = dir, .seq = seq, .len = len, .captured = len, .data = data,
			     .flags = flags },
	};

	tell(CAPTURE_SEGMENT, 1, conn, &e);
}

static void tell_secret(const char *label, uint8_t random)
{
	struct capture_event e = { .secret = { .label = label, .len = 32 } };

	memset(e.secret.random, random, 32);
	memset(e.secret.secret, 0x55, 32);
	tell(CAPTURE_SECRET, 1, 0, &e);
}

static void tell_frame(uint64_t conn, uint8_t type, const void *payload, uint32_t len)
{
	uint8_t bytes[2000] = { type, 0, 0, (uint8_t)(len >> 8), (uint8_t)len };
	struct stream_frame f = {
		.node = 1, .conn = conn, .time_ns = now_ns, .dir = CAPTURE_OUT, .type = type, .len = len,
		.derp_off = 77,
	};

	memcpy(bytes + 5, payload, len);
	pcapng_frame(writer, SOURCE, &f, bytes, 5 + len);
}

/* --- reading again ------------------------------------------------------------------------ */

static void on_keylog(void *ctx, const char *text, size_t len, uint64_t offset)
{
	(void)ctx;
	(void)text;
	(void)offset;
	secret_bytes += len;
}

static void finish(void)
{
	const struct pcap_file_sink sink = { NULL, on_keylog };
	struct capture_error err;
	struct pcap_packet p;
	struct pcap_file *f;
	char path[32];
	uint32_t i;
	int n;

	assert_int_equal(pcapng_close(writer, &counts), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	f = pcap_file_open(path, &sink, &err);
	assert_non_null(f);
	packet_count = secret_bytes = 0;
	while ((n = pcap_file_next(f, &p)) == 1) {
		assert_true(packet_count < MAX_PACKETS);
		packets[packet_count].p = p;
		packets[packet_count].secrets = secret_bytes;
		memcpy(packets[packet_count++].data, p.data, p.captured < 512 ? p.captured : 512);
	}
	assert_int_equal(n, 0);
	assert_true(pcap_file_is_ours(f));
	for (i = 0; i < pcap_file_interfaces(f) && i < 8; i++)
		interfaces[i] = *pcap_file_interface(f, i);
	pcap_file_close(f);
	close(fd);
}

static uint32_t sum(const uint8_t *p, size_t len)
{
	uint32_t total = 0;
	size_t i;

	for (i = 0; i < len; i++)
		total += i % 2 ? p[i] : (uint32_t)p[i] << 8;
	return total;
}

static uint16_t folded(uint32_t total)
{
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return (uint16_t)total;
}

static void assert_sums(const struct read_packet *r)
{
	bool four = r->data[0] == 0x45;
	size_t ip = four ? 20 : 40, addr = four ? 12 : 8, tcp = r->p.captured - ip;

	if (four)
		assert_int_equal(folded(sum(r->data, 20)), 0xffff);
	assert_int_equal(folded(sum(r->data + addr, ip - addr) + sum(r->data + ip, tcp) + 6 +
				(uint32_t)tcp), 0xffff);
}

static void assert_packet(size_t n, uint8_t flags, uint32_t seq, uint32_t ack, size_t payload)
{
	const struct read_packet *r = &packets[n];
	size_t ip = r->data[0] == 0x45 ? 20 : 40;
	const uint8_t *t = r->data + ip;

	assert_true(n < packet_count);
	assert_sums(r);
	assert_int_equal(t[13], flags);
	assert_int_equal(t[4] << 24 | t[5] << 16 | t[6] << 8 | t[7], seq);
	assert_int_equal(t[8] << 24 | t[9] << 16 | t[10] << 8 | t[11], ack);
	assert_int_equal(r->p.len - ip - (t[12] >> 4) * 4u, payload);
}

/* --- the tests ---------------------------------------------------------------------------- */

/* A handshake that nobody saw, data, the end; what was acknowledged is said at the tick. */
static void test_segments(void **state)
{
	const struct capture_facts facts = { .has_seq = true, .rcv_nxt = 1004, .snd_una = 2003 };
	struct capture_event e = { .facts = &facts }, tick = { 0 }, end = { 0 };
	const char *ip = *state;

	begin(false, false);
	open_conn(5, CAPTURE_ACCEPTED, true, ip);
	say(5, CAPTURE_IN, 1000, "abcd", 4, 0);
	say(5, CAPTURE_OUT, 2000, "efg", 3, 0);
	tell(CAPTURE_FACTS, 1, 5, &e);
	tell(CAPTURE_TICK, 0, 0, &tick);
	say(5, CAPTURE_OUT, 2003, NULL, 0, CAPTURE_FIN);
	say(5, CAPTURE_IN, 1004, NULL, 0, CAPTURE_RST);
	tell(CAPTURE_CONN_CLOSE, 1, 5, &end);
	finish();
	assert_int_equal(packet_count, 9);
	assert_packet(0, 0x02, 999, 0, 0);
	assert_packet(1, 0x12, 1999, 1000, 0);
	assert_packet(2, 0x10, 1000, 2000, 0);
	assert_packet(3, 0x18, 1000, 2000, 4);
	assert_packet(4, 0x18, 2000, 1000, 3);
	assert_packet(5, 0x10, 1004, 2003, 0);
	assert_packet(6, 0x10, 2003, 1004, 0);
	assert_packet(7, 0x11, 2003, 1004, 0);
	assert_packet(8, 0x14, 1004, 2003, 0);
	assert_int_equal(packets[0].p.direction, PCAP_INBOUND);
	assert_int_equal(packets[1].p.direction, PCAP_OUTBOUND);
	assert_int_equal(packets[3].p.time_ns, T0 + 3 * MS);
	assert_string_equal(interfaces[0].name, "derper:7");
	assert_int_equal(interfaces[0].linktype, 101);
	assert_int_equal(counts.packets, 9);
	assert_int_equal(counts.nodes, 1);
}

/* Longer than an IP packet may be, and only its start was kept. */
static void test_long(void **state)
{
	struct capture_event e;
	uint8_t *data = calloc(1, 150000);
	size_t i, sum_len = 0, sum_captured = 0;

	(void)state;
	assert_non_null(data);
	begin(false, false);
	open_conn(5, CAPTURE_ACCEPTED, false, "10.0.0.1");
	e = (struct capture_event){
		.segment = { .dir = CAPTURE_OUT, .seq = 0xffff0000, .len = 150000, .captured = 70000,
			     .data = data },
	};
	tell(CAPTURE_SEGMENT, 1, 5, &e);
	finish();
	for (i = 0; i < packet_count; i++) {
		sum_len += packets[i].p.len - 40;
		sum_captured += packets[i].p.captured - 40;
	}
	assert_int_equal(packet_count, 3);
	assert_int_equal(sum_len, 150000);
	assert_int_equal(sum_captured, 70000);
	free(data);
}

/* Secrets stand before the packets that they decrypt, though they come later; strangers' never. */
static void test_secrets(void **state)
{
	uint8_t hello[300];
	uint32_t len = (uint32_t)pcap_script_hello(hello, 7, NULL);
	size_t each = strlen("CLIENT_TRAFFIC_SECRET_0") + 1 + 64 + 1 + 64 + 1;

	(void)state;
	begin(true, false);
	tell_secret("CLIENT_TRAFFIC_SECRET_0", 9);
	open_conn(5, CAPTURE_DIALLED, true, "10.0.0.1");
	say(5, CAPTURE_OUT, 2000, hello, len, 0);
	say(5, CAPTURE_IN, 1000, "\x16\x03\x03 sealed", 10, 0);
	tell_secret("CLIENT_TRAFFIC_SECRET_0", 7);
	tell_frame(5, 0x06, "", 0);
	tell_secret("SERVER_TRAFFIC_SECRET_0", 7);
	tell_frame(5, 0x06, "", 0);
	finish();
	assert_int_equal(secret_bytes, 2 * each);
	assert_int_equal(packets[0].secrets, 2 * each);
	/* The frame that came before its secrets were whole is there, the other is not needed. */
	assert_int_equal(counts.frames, 1);
	assert_int_equal(counts.as_frames, 1);
}

static void test_no_secrets(void **state)
{
	uint8_t hello[300];
	uint32_t len = (uint32_t)pcap_script_hello(hello, 7, NULL);

	(void)state;
	begin(false, false);
	open_conn(5, CAPTURE_DIALLED, true, "10.0.0.1");
	say(5, CAPTURE_OUT, 2000, hello, len, 0);
	tell_secret("CLIENT_TRAFFIC_SECRET_0", 7);
	finish();
	assert_int_equal(secret_bytes, 0);
	assert_int_equal(counts.unread, 1);
}

/* What peers say to each other is cut away, unless it is asked for. */
static void test_frames(void **state)
{
	static const uint8_t disco[] = { 'T', 'S', 0xf0, 0x9f, 0x92, 0xac };
	uint8_t payload[1000];
	bool whole = *state;
	const uint8_t *d;

	memset(payload, 'p', sizeof(payload));
	begin(false, whole);
	open_conn(5, CAPTURE_DIALLED, false, "fd00::1");
	say(5, CAPTURE_OUT, 2000, "x", 1, 0);
	tell_frame(5, 0x04, payload, 1000);
	tell_frame(5, 0x0a, payload, 1000);
	tell_frame(5, 0x08, payload, 33);
	memcpy(payload + 32, disco, sizeof(disco));
	tell_frame(5, 0x05, payload, 1000);
	finish();
	assert_int_equal(packet_count, 5);
	assert_int_equal(packets[1].p.len, 136 + 5 + 1000);
	assert_int_equal(packets[1].p.captured, 136 + 5 + (whole ? 1000 : 32 + 32));
	assert_int_equal(packets[2].p.captured, 136 + 5 + (whole ? 1000 : 64 + 32));
	assert_int_equal(packets[3].p.captured, 136 + 5 + 33);
	assert_int_equal(packets[4].p.captured, 136 + 5 + (whole ? 1000 : 32 + 62));
	assert_int_equal(packets[1].p.interface, 1);
	assert_int_equal(interfaces[1].linktype, 147);
	assert_string_equal(interfaces[1].name, "derper:7 frames");
	d = packets[1].data;
	assert_memory_equal(d, "\2\1\6\2\1\xbb\xc3\x50" "\0\0\0\1" "\0\0\0\0\0\0\0\1" "\0\0\0\0\0\0\0M", 28);
	assert_int_equal(d[28], 0xfd);
	assert_int_equal(d[136], 0x04);
	assert_int_equal(counts.as_frames, 1);
}

struct seen_drop {
	struct capture_drop drop;
	char reason[32];
	uint64_t time_ns;
	uint32_t node, count;
};

static void on_event(void *ctx, const struct capture_event *e)
{
	struct seen_drop *seen = ctx;

	if (e->type != CAPTURE_DROP)
		return;
	seen->drop = e->drop;
	snprintf(seen->reason, sizeof(seen->reason), "%s", e->drop.reason);
	seen->time_ns = e->time_ns;
	seen->node = e->node;
	seen->count++;
}

/* What a relay said that it dropped is read back as it was told. */
static void test_drops(void **state)
{
	struct capture_event e = {
		.drop = { .reason = "queue_head", .len = 1234, .digest = 0x1122334455667788, .disco = true },
	};
	struct seen_drop seen = { .count = 0 };
	const struct capture_sink sink = { .ctx = &seen, .event = on_event };
	struct capture_error err;
	struct capture *c;
	char path[32];

	(void)state;
	memset(e.drop.src.b, 0x51, KEY_LEN);
	memset(e.drop.dst.b, 0x52, KEY_LEN);
	begin(false, false);
	open_conn(5, CAPTURE_ACCEPTED, true, "10.0.0.1");
	say(5, CAPTURE_IN, 1000, "GET ", 4, 0);
	tell(CAPTURE_DROP, 1, 0, &e);
	e.drop.reason = "a word that is longer than any that there is";
	tell(CAPTURE_DROP, 1, 0, &e);
	tell(CAPTURE_DROP, 2, 0, &e);	/* of no node */
	e.drop.reason = "unknown_dest";
	e.drop.has_src = true;
	e.drop.disco = false;
	tell(CAPTURE_DROP, 1, 0, &e);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", dup(fd));
	finish();
	assert_int_equal(counts.drops, 3);
	assert_int_equal(packets[packet_count - 1].p.captured, 136 + 5 + 64);
	assert_int_equal(packets[packet_count - 1].p.len, 136 + 5 + 64 + 1234);
	c = capture_file_open(path, NULL, &err);
	assert_non_null(c);
	while (!c->ops->run(c, &sink))
		;
	assert_null(c->ops->complaints(c));
	c->ops->close(c);
	assert_int_equal(seen.count, 3);
	assert_string_equal(seen.reason, "unknown_dest");
	assert_true(seen.drop.has_src && !seen.drop.disco);
	assert_int_equal(seen.node, 1);
	assert_int_equal(seen.time_ns, now_ns);
	assert_int_equal(seen.drop.len, 1234);
	assert_int_equal(seen.drop.digest, 0x1122334455667788);
	assert_memory_equal(&seen.drop.src, &e.drop.src, KEY_LEN);
	assert_memory_equal(&seen.drop.dst, &e.drop.dst, KEY_LEN);
	close(atoi(strrchr(path, '/') + 1));
}

/* Losses of the ring stand in the statistics, which our parser passes over: look at the bytes. */
static void test_losses(void **state)
{
	struct capture_event e = { .lost = { .segments = 0x1234567 } }, tick = { 0 };
	uint8_t bytes[4096];
	ssize_t n;

	(void)state;
	begin(false, false);
	tell(CAPTURE_LOST, 0, 0, &e);
	now_ns += 2000 * MS;
	tell(CAPTURE_TICK, 0, 0, &tick);
	/* Before the end, too: a file that is cut off tells. */
	n = pread(fd, bytes, sizeof(bytes), 0);
	assert_true(n > 0);
	assert_non_null(memmem(bytes, (size_t)n, "\5\0\10\0\x67\x45\x23\1\0\0\0\0", 12));
	finish();
	assert_int_equal(counts.lost, 0x1234567);
}

/* Two nodes of one name, two sources of the same numbers. */
static void test_names(void **state)
{
	struct addr listener = pcap_script_addr("10.0.0.2", 443);
	struct capture_event e = {
		.type = CAPTURE_NODE_UP, .node = 1,
		.node_up = { .name = "a.pcap", .listeners = &listener, .listener_count = 1 },
	};

	(void)state;
	begin(false, false);
	pcapng_event(writer, 1, &e);
	pcapng_event(writer, 2, &e);
	pcapng_event(writer, 2, &e);
	e.node = 2;
	pcapng_event(writer, 2, &e);
	finish();
	assert_int_equal(counts.nodes, 4);
	assert_string_equal(interfaces[1].name, "a.pcap");
	assert_string_equal(interfaces[2].name, "a.pcap 10.0.0.2:443");
	assert_string_equal(interfaces[3].name, "a.pcap 2");
	assert_string_equal(interfaces[3].description, "DERP relay on 10.0.0.2:443");
}

static void test_full_disk(void **state)
{
	const struct pcapng_options options = { 0 };
	struct pcapng *p = pcapng_new(open("/dev/full", O_WRONLY | O_CLOEXEC), &options);
	struct capture_event e = { .type = CAPTURE_TICK };

	(void)state;
	assert_non_null(p);
	pcapng_event(p, 1, &e);
	assert_int_equal(pcapng_error(p), -ENOSPC);
	assert_int_equal(pcapng_close(p, &counts), -ENOSPC);
}

int main(void)
{
	static bool yes = true;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(test_segments, (void *)"10.0.0.1"),
		cmocka_unit_test_prestate(test_segments, (void *)"fd00::1"),
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_secrets),
		cmocka_unit_test(test_no_secrets),
		cmocka_unit_test(test_frames),
		cmocka_unit_test_prestate(test_frames, &yes),
		cmocka_unit_test(test_drops),
		cmocka_unit_test(test_losses),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_full_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
