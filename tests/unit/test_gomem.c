/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A relay's memory, built in this process's own: the runtime's tables, two TLS connections, a
 * plain and a WebSocket one, a server with its key pair. The same scan then with damaged memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "capture/gobin.h"
#include "capture/gomem.h"
#include "go_fixture.h"

enum {
	IMAGE_LEN = 128 << 10,
	DATA_OFF = 64 << 10,	/* of the writable segment in the image */
	HEAP_LEN = 64 << 10,
	NAMES_OFF = 0x10,	/* in types */
	TABLE_SLOTS = 512,
	FILLERS = 8,
};

static struct go_fixture fixture;
static uint8_t *image, *heap;
static size_t types_used, data_used, heap_used;
static int sockets[4];

static uint64_t at(const void *p)
{
	return (uint64_t)(uintptr_t)p;
}

static uint64_t *carve(uint8_t *from, size_t *used, size_t len)
{
	uint8_t *p = from + *used;

	*used += (len + 15) & ~15ul;
	return (uint64_t *)(void *)p;
}

#define TYPES (image + (32 << 10))
#define ON_HEAP(len) carve(heap, &heap_used, len)
#define IN_DATA(len) carve(image + DATA_OFF, &data_used, len)

static void fill_random(void *p, size_t len)
{
	assert_int_equal(getentropy(p, len < 256 ? len : 256), 0);	/* its limit */
}

/* --- the runtime ------------------------------------------------------------------------------ */

static uint64_t *make_type(const char *name, bool interface)
{
	static uint32_t hash = 0x1000;
	uint8_t *text = (uint8_t *)carve(TYPES, &types_used, strlen(name) + 2);
	uint64_t *type = carve(TYPES, &types_used, 80);
	int32_t name_off = (int32_t)(text - TYPES);

	text[1] = (uint8_t)strlen(name);
	memcpy(text + 2, name, strlen(name));
	hash += 7;
	memcpy((uint8_t *)type + 16, &hash, 4);
	((uint8_t *)type)[23] = interface ? 20 : 22;
	memcpy((uint8_t *)type + 40, &name_off, 4);
	return type;
}

static uint64_t *make_itab(const uint64_t *interface, const uint64_t *type, bool by_linker)
{
	uint64_t *itab = by_linker ? IN_DATA(32) : ON_HEAP(32);

	itab[0] = at(interface);
	itab[1] = at(type);
	memcpy(&itab[2], (const uint8_t *)type + 16, by_linker ? 4 : 0);
	itab[3] = at(image + GO_FIXTURE_TEXT);
	return itab;
}

static struct {
	uint64_t *tcp, *tls, *derp_tcp, *derp_tls, *derp_ws;
} itabs;

static void make_runtime(void)
{
	uint64_t *net_conn = make_type("net.Conn", true), *derp_conn = make_type("derp.Conn", true);
	uint64_t *writer = make_type("io.Writer", true), *file = make_type("*os.File", false);
	uint64_t *tcp = make_type("*net.TCPConn", false), *tls = make_type("*tls.Conn", false);
	uint64_t *ws = make_type("*wsconn.netConn", false);
	uint64_t *module = IN_DATA(0x300), *links = IN_DATA(64 * 8), *table, *var = IN_DATA(8);
	uint64_t count = 0, i;

	itabs.tcp = make_itab(net_conn, tcp, true);
	itabs.tls = make_itab(net_conn, tls, true);
	itabs.derp_tcp = make_itab(derp_conn, tcp, true);
	itabs.derp_tls = make_itab(derp_conn, tls, true);
	for (i = 0; i < FILLERS; i++)
		links[count++] = at(make_itab(writer, file, true));
	links[count++] = at(itabs.tcp);
	links[count++] = at(itabs.tls);
	links[count++] = at(itabs.derp_tcp);
	links[count++] = at(itabs.derp_tls);
	/* The runtime's own table has those, and one more. */
	table = ON_HEAP((TABLE_SLOTS + 2) * 8);
	table[0] = TABLE_SLOTS;
	table[1] = count + 1;
	for (i = 0; i < count; i++)
		table[2 + i * 7] = links[i];
	itabs.derp_ws = make_itab(derp_conn, ws, false);
	table[2 + 511] = at(itabs.derp_ws);
	*var = at(table);

	module[0] = at(image + fixture.pclntab_off);
	module[1] = module[0] + 72;
	module[2] = module[3] = 100;
	module[37] = at(TYPES);
	module[38] = at(TYPES + types_used);
	module[47] = at(links);
	module[48] = module[49] = count;
	fixture.module_addr = at(module);
}

/* --- the connections ------------------------------------------------------------------------- */

static uint64_t *make_tcp(int fd)
{
	uint64_t *tcp = ON_HEAP(8), *net_fd = ON_HEAP(176);

	tcp[0] = at(net_fd);
	net_fd[0] = fd < 0 ? 1 : 8;
	net_fd[2] = (uint64_t)(int64_t)fd;
	return tcp;
}

static void put_slice(uint64_t *slice, size_t len, size_t cap)
{
	uint64_t *bytes = ON_HEAP(cap);

	fill_random(bytes, cap);
	slice[0] = at(bytes);
	slice[1] = len;
	slice[2] = cap;
}

static void put_half(uint64_t *half, uint16_t version, size_t secret_len, uint64_t seq)
{
	half[3] = version;
	half[4] = half[5] = at(heap);
	half[8] = __builtin_bswap64(seq);
	if (secret_len)
		put_slice(half + 16, secret_len, secret_len);
}

/* {conn, isClient, handshakeFn}, version, suite, [ekm], [resumption secret], in, out. */
static uint64_t *make_tls(const uint64_t *tcp, bool is_client, uint16_t version, uint16_t suite)
{
	const size_t secret_len = version == 0x0303 ? 0 : suite == 0x1302 ? 48 : 32;
	uint64_t *tls = ON_HEAP(1152);

	tls[0] = at(itabs.tcp);
	tls[1] = at(tcp);
	tls[2] = is_client;
	tls[3] = at(heap);
	tls[9] = 1ull << 16 | version;
	tls[10] = at(heap);
	tls[12] = (uint64_t)suite << 32 | 1;
	if (secret_len)
		put_slice(tls + 30, secret_len, secret_len);
	put_half(tls + 60, version, secret_len, 1000);
	put_half(tls + 79, version, secret_len, 2000);
	return tls;
}

static void put_ekm(uint64_t *tls)
{
	uint64_t *closure = ON_HEAP(120);

	closure[0] = at(image + GO_FIXTURE_TEXT + 16);
	closure[1] = at(heap);
	put_slice(closure + 2, 48, 48);
	put_slice(closure + 5, 32, 32);
	put_slice(closure + 8, 32, 600);
	tls[28] = at(closure);
}

static uint64_t *make_server(void)
{
	uint64_t *server = ON_HEAP(512);
	uint8_t *pair = (uint8_t *)(server + 1);
	size_t len = 32;
	EVP_PKEY *key;

	fill_random(pair, 32);
	key = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, pair, 32);
	assert_int_equal(EVP_PKEY_get_raw_public_key(key, pair + 32, &len), 1);
	EVP_PKEY_free(key);
	return server;
}

static uint64_t *make_client(const uint64_t *server, const uint64_t *itab, const uint64_t *conn)
{
	uint64_t *client = ON_HEAP(256);

	client[0] = 7;
	client[1] = at(server);
	client[2] = at(itab);
	client[3] = at(conn);
	fill_random(client + 4, 32);
	return client;
}

static struct {
	uint64_t *tls13, *tls12, *mesh, *closed, *server;
	uint64_t *by_tls, *by_tcp, *by_ws, *gone, *stranger;
} relay;

static void make_relay(void)
{
	uint64_t *tcp = make_tcp(sockets[2]), *ws = ON_HEAP(160), *socket = ON_HEAP(512);

	relay.tls13 = make_tls(make_tcp(sockets[0]), false, 0x0304, 0x1302);
	relay.tls12 = make_tls(make_tcp(sockets[1]), false, 0x0303, 0xc02f);
	put_ekm(relay.tls12);
	relay.mesh = make_tls(make_tcp(sockets[3]), true, 0x0304, 0x1301);
	relay.closed = make_tls(make_tcp(-1), false, 0x0304, 0x1301);
	relay.server = make_server();
	relay.by_tls = make_client(relay.server, itabs.derp_tls, relay.tls13);
	relay.by_tcp = make_client(relay.server, itabs.derp_tcp, tcp);
	relay.gone = make_client(relay.server, itabs.derp_tls, relay.closed);
	ws[0] = at(socket);
	socket[0] = at(heap);
	socket[1] = 4;
	socket[3] = at(relay.tls12);
	relay.by_ws = make_client(relay.server, itabs.derp_ws, ws);
	/* A connection and random bytes, on a stack: no server stands before it. */
	relay.stranger = make_client(ON_HEAP(512), itabs.derp_tls, relay.tls13);
}

static void make_world(void)
{
	memset(image, 0, IMAGE_LEN);
	memset(heap, 0, HEAP_LEN);
	types_used = NAMES_OFF;
	data_used = 0;
	heap_used = 64;
	go_fixture_init(&fixture);
	fixture.version = 26;
	fixture.base = at(image);
	fixture.entry = getauxval(AT_ENTRY);	/* so that nothing was moved */
	fixture.data_addr = at(image + DATA_OFF);
	fixture.data_len = IMAGE_LEN - DATA_OFF;
	go_fixture_build(&fixture);	/* for the pclntab's place */
	go_fixture_close(&fixture);
	make_runtime();
	make_relay();
	fixture.base = at(image);
	go_fixture_build(&fixture);
	memcpy(image, fixture.bytes, fixture.len);
	assert_true(heap_used <= HEAP_LEN && types_used <= 32 << 10);
}

/* --- what the scan says ---------------------------------------------------------------------- */

static struct {
	struct gomem_tls tls[16];
	struct gomem_peer peers[16];
	int tls_count, peer_count, server_count;
	uint8_t server_key[32];
} seen;

static void on_tls(void *context, const struct gomem_tls *tls)
{
	(void)context;
	/* What this test was told must not look like another connection in the next pass. */
	if (tls->addr >= at(heap) && tls->addr < at(heap) + HEAP_LEN && seen.tls_count < 16)
		seen.tls[seen.tls_count++] = *tls;
}

static void on_peer(void *context, const struct gomem_peer *peer)
{
	(void)context;
	if (seen.peer_count < 16)
		seen.peers[seen.peer_count++] = *peer;
}

static void on_server(void *context, uint64_t addr, const uint8_t key[static 32])
{
	(void)context;
	(void)addr;
	seen.server_count++;
	memcpy(seen.server_key, key, 32);
}

static enum gomem_error scan(struct gomem_stats *stats)
{
	static const struct gomem_sink sink = {.tls = on_tls, .peer = on_peer,
					       .server = on_server};
	enum gobin_error bin_error;
	enum gomem_error error;
	struct gobin *bin = gobin_open_fd(fixture.fd, &bin_error);
	struct gomem *mem;

	assert_non_null(bin);
	memset(&seen, 0, sizeof(seen));
	mem = gomem_open(getpid(), bin, &error);
	gobin_close(bin);
	assert_non_null(mem);
	error = gomem_scan(mem, &sink, stats);
	gomem_close(mem);
	return error;
}

static const struct gomem_tls *seen_tls(const uint64_t *addr)
{
	int i;

	for (i = 0; i < seen.tls_count; i++) {
		if (seen.tls[i].addr == at(addr))
			return &seen.tls[i];
	}
	return NULL;
}

static const struct gomem_peer *seen_peer(const uint64_t *client)
{
	int i;

	for (i = 0; i < seen.peer_count; i++) {
		if (!memcmp(seen.peers[i].key, client + 4, 32))
			return &seen.peers[i];
	}
	return NULL;
}

static void check_secret(const struct gomem_secret *secret, const uint64_t *half, uint64_t seq)
{
	assert_int_equal(secret->len, half[17]);
	assert_memory_equal(secret->bytes, (const void *)(uintptr_t)half[16], secret->len);
	assert_int_equal(secret->seq, seq);
	assert_int_equal(secret->seq_addr, at(half + 8));
}

static void test_tls(void **state)
{
	struct gomem_stats stats;
	const struct gomem_tls *tls;

	(void)state;
	make_world();
	assert_int_equal(scan(&stats), GOMEM_OK);
	assert_int_equal(stats.itabs_conn, 2);
	assert_int_equal(stats.itabs_derp, 3);
	assert_false(stats.truncated);
	assert_true(stats.read_bytes > 0);

	tls = seen_tls(relay.tls13);
	assert_non_null(tls);
	assert_int_equal(tls->fd, sockets[0]);
	assert_false(tls->is_client);
	assert_int_equal(tls->version, 0x0304);
	assert_int_equal(tls->cipher_suite, 0x1302);
	assert_int_equal(tls->secret_count, 3);
	assert_int_equal(tls->in_index, 1);
	assert_int_equal(tls->out_index, 2);
	check_secret(&tls->secrets[1], relay.tls13 + 60, 1000);
	check_secret(&tls->secrets[2], relay.tls13 + 79, 2000);

	tls = seen_tls(relay.mesh);
	assert_non_null(tls);
	assert_true(tls->is_client);
	assert_int_equal(tls->fd, sockets[3]);
	assert_null(seen_tls(relay.closed));
	go_fixture_close(&fixture);
}

static void test_tls12(void **state)
{
	const uint64_t *closure;
	const struct gomem_tls *tls;

	(void)state;
	make_world();
	assert_int_equal(scan(NULL), GOMEM_OK);
	tls = seen_tls(relay.tls12);
	assert_non_null(tls);
	assert_int_equal(tls->version, 0x0303);
	assert_int_equal(tls->cipher_suite, 0xc02f);
	assert_int_equal(tls->in_seq, 1000);
	assert_int_equal(tls->out_seq, 2000);
	assert_int_equal(tls->out_seq_addr, at(relay.tls12 + 79 + 8));
	assert_true(tls->has_master);
	closure = (const uint64_t *)(uintptr_t)relay.tls12[28];
	assert_memory_equal(tls->master, (void *)(uintptr_t)closure[2], 48);
	assert_memory_equal(tls->server_random, (void *)(uintptr_t)closure[5], 32);
	assert_memory_equal(tls->client_random, (void *)(uintptr_t)closure[8], 32);

	/* A server that could have spoken 1.3 says so in its random, wherever that stands. */
	memcpy((uint8_t *)(uintptr_t)closure[8] + 24, "DOWNGRD\x01", 8);
	assert_int_equal(scan(NULL), GOMEM_OK);
	tls = seen_tls(relay.tls12);
	assert_memory_equal(tls->client_random, (void *)(uintptr_t)closure[5], 32);
	go_fixture_close(&fixture);
}

static void test_peers(void **state)
{
	const struct gomem_peer *peer;

	(void)state;
	make_world();
	assert_int_equal(scan(NULL), GOMEM_OK);
	assert_int_equal(seen.server_count, 1);
	assert_memory_equal(seen.server_key, relay.server + 5, 32);
	assert_int_equal(seen.peer_count, 3);

	peer = seen_peer(relay.by_tls);
	assert_non_null(peer);
	assert_true(peer->tls);
	assert_int_equal(peer->tls_addr, at(relay.tls13));
	assert_int_equal(peer->fd, sockets[0]);
	assert_int_equal(peer->server_addr, at(relay.server));
	peer = seen_peer(relay.by_tcp);
	assert_non_null(peer);
	assert_false(peer->tls);
	assert_int_equal(peer->fd, sockets[2]);
	assert_string_equal(peer->conn_type, "*net.TCPConn");
	peer = seen_peer(relay.by_ws);
	assert_non_null(peer);
	assert_int_equal(peer->tls_addr, at(relay.tls12));
	assert_int_equal(peer->fd, sockets[1]);
	assert_string_equal(peer->conn_type, "*wsconn.netConn");
	assert_null(seen_peer(relay.gone));
	assert_null(seen_peer(relay.stranger));
	go_fixture_close(&fixture);
}

static void test_small_doors(void **state)
{
	enum gobin_error bin_error;
	enum gomem_error error;
	uint64_t inode, seq;
	struct gobin *bin;
	struct gomem *mem;
	struct stat st;

	(void)state;
	make_world();
	bin = gobin_open_fd(fixture.fd, &bin_error);
	mem = gomem_open(getpid(), bin, &error);
	assert_int_equal(gomem_tls_seq(mem, at(relay.tls13 + 60 + 8), &seq), 0);
	assert_int_equal(seq, 1000);
	assert_int_equal(gomem_tls_seq(mem, 8, &seq), -EIO);
	assert_int_equal(gomem_tls_seq(mem, UINT64_MAX - 2, &seq), -EIO);
	gomem_close(mem);
	assert_null(gomem_open(0x7ffffff0, bin, &error));
	assert_int_equal(error, GOMEM_NO_PROCESS);
	gobin_close(bin);
	assert_int_equal(fstat(sockets[0], &st), 0);
	assert_int_equal(gomem_fd_inode(getpid(), sockets[0], &inode), 0);
	assert_int_equal(inode, st.st_ino);
	assert_int_equal(gomem_fd_inode(getpid(), fixture.fd, &inode), -ENOTSOCK);
	assert_int_equal(gomem_fd_inode(getpid(), 9999, &inode), -ENOENT);
	for (error = GOMEM_OK; error <= GOMEM_READ_FAILED; error++)
		assert_string_not_equal(gomem_error_text(error), "unknown error");
	go_fixture_close(&fixture);
}

static void test_nothing_there(void **state)
{
	(void)state;
	make_world();
	/* No interface is called so: a program without network. */
	memcpy(memmem(TYPES, 4096, "net.Conn", 8), "net.Bonn", 8);
	assert_int_equal(scan(NULL), GOMEM_NO_CONN);
	memset(image + DATA_OFF, 0, IMAGE_LEN - DATA_OFF);
	assert_int_equal(scan(NULL), GOMEM_NO_MODULE);
	go_fixture_close(&fixture);
}

/* Each round some words of the tables or objects are wrong: other findings, no fault, an end. */
static void test_damaged(void **state)
{
	static const uint64_t bad[] = {0, 1, 8, 0x7ffffffffff8, UINT64_MAX, 1ull << 47, 48, 512};
	struct gomem_stats stats;
	int round, i;

	(void)state;
	srand(20);
	for (round = 0; round < 200; round++) {
		make_world();
		for (i = 0; i < 12; i++) {
			uint64_t *words = (uint64_t *)(void *)(i & 1 ? heap : image + DATA_OFF);
			size_t count = (i & 1 ? heap_used : data_used) / 8;

			words[(size_t)rand() % count] =
				i < 8 ? bad[rand() % 8] : at(heap) + (uint64_t)rand() % HEAP_LEN;
		}
		scan(&stats);
		assert_true(seen.tls_count <= 8 && seen.peer_count <= 8);
		go_fixture_close(&fixture);
	}
}

static int set_up(void **state)
{
	(void)state;
	image = mmap(NULL, IMAGE_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	heap = mmap(NULL, HEAP_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return image == MAP_FAILED || heap == MAP_FAILED ||
	       socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) ||
	       socketpair(AF_UNIX, SOCK_STREAM, 0, sockets + 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tls),
		cmocka_unit_test(test_tls12),
		cmocka_unit_test(test_peers),
		cmocka_unit_test(test_small_doors),
		cmocka_unit_test(test_nothing_there),
		cmocka_unit_test(test_damaged),
	};

	return cmocka_run_group_tests_name("gomem", tests, set_up, NULL);
}
