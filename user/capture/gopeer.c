// SPDX-License-Identifier: BSD-2-Clause
/*
 * Who is on which connection:
 *
 *   net.TCPConn  +0 pointer to netFD; netFD +0 state of its lock (bit 0: closed), +16 descriptor
 *   sclient      ..., s *Server, nc derp.Conn (two words), key [32]byte, ...
 *   Server       ..., privateKey [32]byte, publicKey [32]byte, ...
 *
 * A derp.Conn with 32 bytes of a key behind it also stands on stacks and in what was freed. A
 * server proves itself by its key pair; where one does, only its own peers are believed.
 */
#include "capture/gomem_private.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

enum {
	WRAPPED_BYTES = 256,	/* of a wrapper, where the connection that it wraps may stand */
	WRAPPED_DEPTH = 3,
	FD_MAX = 1 << 24,
	SERVERS_MAX = 64,
	SERVER_BYTES = 1024,
	PROOFS_MAX = 1024,	/* key pairs tried in one pass: 50 us each */
	KEY_BYTES = 32,
};

void goaddrs_add(struct goaddrs *addrs, uint64_t addr)
{
	if (addrs->count == addrs->room) {
		size_t room = addrs->room ? 2 * addrs->room : 256;
		uint64_t *all = room <= addrs->max ? realloc(addrs->all, room * sizeof(*all))
						   : NULL;

		if (!all) {
			addrs->truncated = true;
			return;
		}
		addrs->all = all;
		addrs->room = room;
	}
	addrs->all[addrs->count++] = addr;
}

static int compare(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

void goaddrs_sort(struct goaddrs *addrs)
{
	size_t i, kept = 0;

	if (!addrs->count)
		return;
	qsort(addrs->all, addrs->count, sizeof(*addrs->all), compare);
	for (i = 1; i < addrs->count; i++) {
		if (addrs->all[i] != addrs->all[kept])
			addrs->all[++kept] = addrs->all[i];
	}
	addrs->count = kept + 1;
}

bool goaddrs_has(const struct goaddrs *addrs, uint64_t addr)
{
	return addrs->count &&
	       bsearch(&addr, addrs->all, addrs->count, sizeof(*addrs->all), compare);
}

int gopeer_tcp_fd(const struct goproc *proc, uint64_t tcp_addr)
{
	uint64_t net_fd;
	struct {
		uint64_t lock_state;
		uint64_t semaphores;
		int64_t fd;
	} poll_fd;

	if (goproc_read(proc, tcp_addr, &net_fd, sizeof(net_fd)) || net_fd % 8 ||
	    goproc_read(proc, net_fd, &poll_fd, sizeof(poll_fd)))
		return -1;
	if ((poll_fd.lock_state & 1) || poll_fd.fd == -1)
		return GOMEM_FD_CLOSED;
	return poll_fd.fd >= 0 && poll_fd.fd < FD_MAX ? (int)poll_fd.fd : -1;
}

static int wrapped_fd(const struct goproc *proc, const struct goitabs *itabs,
		      const struct gofound *found, uint64_t itab_addr, uint64_t data, int depth)
{
	const struct goitab *itab = goitabs_get(itabs, itab_addr);
	uint64_t words[WRAPPED_BYTES / 8];
	size_t i, count;

	if (!itab)
		return -1;
	if (itab->concrete == GOITAB_TCP)
		return gopeer_tcp_fd(proc, data);
	if (depth == WRAPPED_DEPTH)
		return -1;
	count = goproc_read_some(proc, data, words, sizeof(words)) / 8;
	for (i = 0; i < count; i++) {
		int fd = -1;

		if (goaddrs_has(&found->tcp, words[i]))
			fd = gopeer_tcp_fd(proc, words[i]);
		else if (i + 1 < count && words[i + 1] != data)
			fd = wrapped_fd(proc, itabs, found, words[i], words[i + 1], depth + 1);
		if (fd != -1)
			return fd;
	}
	return -1;
}

int gopeer_conn_fd(const struct goproc *proc, const struct goitabs *itabs,
		   const struct gofound *found, uint64_t addr)
{
	uint64_t conn[2];

	if (goproc_read(proc, addr, conn, sizeof(conn)))
		return -1;
	return wrapped_fd(proc, itabs, found, conn[0], conn[1], 0);
}

/* --- servers --------------------------------------------------------------------------------- */

struct server {
	uint64_t addr;
	uint32_t hits;
	bool proved;
	uint8_t key[KEY_BYTES];
};

struct servers {
	struct server all[SERVERS_MAX];
	int count;
	int proofs;
	bool any_proved;
};

/* The place of a sclient as it was read: from the word before the connection on. */
struct client_words {
	uint64_t server;
	uint64_t itab, data;
	uint8_t key[KEY_BYTES];
};

static struct server *server_get(struct servers *servers, uint64_t addr)
{
	int i;

	for (i = 0; i < servers->count; i++) {
		if (servers->all[i].addr == addr)
			return &servers->all[i];
	}
	return NULL;
}

static void server_note(struct servers *servers, uint64_t addr)
{
	struct server *server = server_get(servers, addr);

	if (!server && servers->count < SERVERS_MAX) {
		server = &servers->all[servers->count++];
		memset(server, 0, sizeof(*server));
		server->addr = addr;
	}
	if (server)
		server->hits++;
}

/* Is the second half the public key of the first? */
static bool is_key_pair(const uint8_t *pair)
{
	uint8_t public[KEY_BYTES];
	size_t len = sizeof(public);
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, pair, KEY_BYTES);
	bool good = key && EVP_PKEY_get_raw_public_key(key, public, &len) == 1 &&
		    len == KEY_BYTES && !memcmp(public, pair + KEY_BYTES, KEY_BYTES);

	EVP_PKEY_free(key);
	return good;
}

static void server_prove(const struct goproc *proc, struct servers *servers, struct server *server)
{
	uint8_t bytes[SERVER_BYTES];
	size_t i, len = goproc_read_some(proc, server->addr, bytes, sizeof(bytes));

	for (i = 0; i + 2 * KEY_BYTES <= len && !server->proved; i += 8) {
		if (!gomem_looks_random(bytes + i, KEY_BYTES) ||
		    !gomem_looks_random(bytes + i + KEY_BYTES, KEY_BYTES))
			continue;
		if (servers->proofs++ >= PROOFS_MAX)
			break;
		if (is_key_pair(bytes + i)) {
			server->proved = servers->any_proved = true;
			memcpy(server->key, bytes + i + KEY_BYTES, KEY_BYTES);
		}
	}
	explicit_bzero(bytes, sizeof(bytes));
}

static int by_hits(const void *a, const void *b)
{
	const struct server *x = a, *y = b;

	return x->hits < y->hits ? 1 : x->hits > y->hits ? -1 : compare(&x->addr, &y->addr);
}

/* --- peers ------------------------------------------------------------------------------------ */

static bool read_client(const struct goproc *proc, const struct goitabs *itabs, uint64_t derp_addr,
			struct client_words *client, const struct goitab **itab)
{
	if (goproc_read(proc, derp_addr - sizeof(client->server), client, sizeof(*client)))
		return false;
	*itab = goitabs_get(itabs, client->itab);
	return *itab && (*itab)->kind == GOITAB_DERP && client->data && client->server &&
	       client->server % 8 == 0 && gomem_looks_random(client->key, KEY_BYTES);
}

/*
 * A connection below another layer (WebSocket): the nearest pointer, breadth first, to a tls.Conn
 * or net.TCPConn that is known.
 */
static bool find_below(const struct goproc *proc, const struct gofound *found, uint64_t data,
		       int depth, uint64_t *tls, uint64_t *tcp)
{
	uint64_t words[WRAPPED_BYTES / 8];
	size_t i, count = goproc_read_some(proc, data, words, sizeof(words)) / 8;

	for (i = 0; i < count; i++) {
		if (goaddrs_has(&found->tls, words[i])) {
			*tls = words[i];
			return true;
		}
		/* Old stacks leave addresses behind at which something else stands by now. */
		if (goaddrs_has(&found->tcp, words[i]) && gopeer_tcp_fd(proc, words[i]) != -1) {
			*tcp = words[i];
			return true;
		}
	}
	for (i = 0; depth && i < count && i < 8; i++) {
		if (words[i] != data && words[i] % 8 == 0 && words[i] >= 4096 &&
		    find_below(proc, found, words[i], depth - 1, tls, tcp))
			return true;
	}
	return false;
}

static void bind_peer(const struct goproc *proc, const struct goitabs *itabs,
		      const struct gofound *found, const struct goitab *itab,
		      struct gomem_peer *peer)
{
	uint64_t tcp = 0;

	peer->fd = -1;
	if (itab->concrete == GOITAB_TCP)
		tcp = peer->conn_addr;
	else if (itab->concrete == GOITAB_TLS)
		peer->tls_addr = peer->conn_addr;
	else
		find_below(proc, found, peer->conn_addr, 1, &peer->tls_addr, &tcp);
	peer->tls = peer->tls_addr != 0;
	if (peer->tls)
		peer->fd = gopeer_conn_fd(proc, itabs, found, peer->tls_addr);
	else if (tcp)
		peer->fd = gopeer_tcp_fd(proc, tcp);
}

static uint32_t yield_peers(const struct goproc *proc, const struct goitabs *itabs,
			    const struct gofound *found, struct servers *servers,
			    const struct gomem_sink *sink)
{
	uint32_t count = 0;
	size_t i;

	for (i = 0; i < found->derp.count; i++) {
		const struct goitab *itab;
		struct client_words client;
		struct gomem_peer peer = {0};
		struct server *server;

		if (!read_client(proc, itabs, found->derp.all[i], &client, &itab))
			continue;
		server = server_get(servers, client.server);
		if (servers->any_proved && !(server && server->proved))
			continue;
		memcpy(peer.key, client.key, KEY_BYTES);
		memcpy(peer.conn_type, itab->type, sizeof(peer.conn_type));
		peer.conn_addr = client.data;
		peer.server_addr = client.server;
		bind_peer(proc, itabs, found, itab, &peer);
		if (peer.fd == GOMEM_FD_CLOSED)
			continue;
		count++;
		if (sink->peer)
			sink->peer(sink->context, &peer);
	}
	return count;
}

uint32_t gopeer_yield(const struct goproc *proc, const struct goitabs *itabs,
		      const struct gofound *found, const struct gomem_sink *sink)
{
	struct servers *servers = calloc(1, sizeof(*servers));
	uint32_t peers;
	size_t k;
	int i;

	if (!servers)
		return 0;
	for (k = 0; k < found->derp.count; k++) {
		const struct goitab *itab;
		struct client_words client;

		if (read_client(proc, itabs, found->derp.all[k], &client, &itab))
			server_note(servers, client.server);
	}
	qsort(servers->all, (size_t)servers->count, sizeof(servers->all[0]), by_hits);
	for (i = 0; i < servers->count; i++) {
		struct server *server = &servers->all[i];

		server_prove(proc, servers, server);
		if (server->proved && sink->server)
			sink->server(sink->context, server->addr, server->key);
	}
	peers = yield_peers(proc, itabs, found, servers, sink);
	free(servers);
	return peers;
}
