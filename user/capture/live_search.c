// SPDX-License-Identifier: BSD-2-Clause
/*
 * Searching the memory of relays, which takes a good part of a second: in a thread of its own per
 * node, while the ring is drained. What it finds is told by the caller's thread.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "capture/gobin.h"
#include "capture/gomem.h"
#include "capture/live.h"

#define FOUND_MAX	(1u << 20)

struct found {
	enum { FOUND_TLS, FOUND_PEER, FOUND_SERVER } kind;
	uint64_t inode;			/* of the socket; 0: none */
	union {
		struct gomem_tls tls;
		uint8_t key[32];
	};
};

struct live_search {
	pthread_t thread;
	pid_t pid;
	const struct gobin *bin;
	int done_fd;
	atomic_bool done;
	enum gomem_error error;
	struct found *found;
	size_t count, room;
};

/* --- in the thread --------------------------------------------------------------------------- */

static struct found *found_add(struct live_search *search, int kind, int fd)
{
	struct found *bigger, *f;
	uint64_t inode = 0;
	size_t room;

	if (fd >= 0 && gomem_fd_inode(search->pid, fd, &inode))
		inode = 0;
	if (search->count == search->room) {
		room = search->room ? search->room * 2 : 64;
		bigger = room <= FOUND_MAX ? malloc(room * sizeof(*bigger)) : NULL;
		if (!bigger)
			return NULL;
		/* No realloc: it would leave secrets behind. */
		if (search->count) {
			memcpy(bigger, search->found, search->count * sizeof(*bigger));
			explicit_bzero(search->found, search->count * sizeof(*bigger));
		}
		free(search->found);
		search->found = bigger;
		search->room = room;
	}
	f = &search->found[search->count++];
	memset(f, 0, sizeof(*f));
	f->kind = kind;
	f->inode = inode;
	return f;
}

static void found_tls(void *ctx, const struct gomem_tls *tls)
{
	struct found *f = tls->fd < 0 ? NULL : found_add(ctx, FOUND_TLS, tls->fd);

	if (f)
		f->tls = *tls;
}

static void found_peer(void *ctx, const struct gomem_peer *peer)
{
	struct found *f = peer->fd < 0 ? NULL : found_add(ctx, FOUND_PEER, peer->fd);

	if (f)
		memcpy(f->key, peer->key, sizeof(f->key));
}

static void found_server(void *ctx, uint64_t server_addr, const uint8_t key[static 32])
{
	struct found *f = found_add(ctx, FOUND_SERVER, -1);

	(void)server_addr;
	if (f)
		memcpy(f->key, key, sizeof(f->key));
}

static void *search_run(void *arg)
{
	struct live_search *search = arg;
	struct gomem_sink sink = {
		.context = search, .tls = found_tls, .peer = found_peer, .server = found_server,
	};
	uint64_t one = 1;
	struct gomem *mem = gomem_open(search->pid, search->bin, &search->error);

	if (mem)
		search->error = gomem_scan(mem, &sink, NULL);
	gomem_close(mem);
	atomic_store(&search->done, true);
	/* Should that fail, the tick finds it done. */
	if (write(search->done_fd, &one, sizeof(one)) < 0)
		return NULL;
	return NULL;
}

/* --- beginning and end ----------------------------------------------------------------------- */

static void search_free(struct live_search *search)
{
	if (search->found)
		explicit_bzero(search->found, search->count * sizeof(*search->found));
	free(search->found);
	free(search);
}

void live_search_check(struct live *live, struct live_node *node)
{
	enum gomem_error error;
	struct gomem *mem = gomem_open(node->relay->pid, node->relay->bin, &error);

	if (!mem && !node->provisional)
		live_warn(live, "%s (pid %d): who is on its open connections, and their TLS "
			  "secrets, cannot be read from its memory: %s", node->relay->comm,
			  (int)node->relay->pid, gomem_error_text(error));
	gomem_close(mem);
}

void live_search_start(struct live *live, struct live_node *node)
{
	struct live_search *search;

	if (node->search || node->ended)
		return;
	search = calloc(1, sizeof(*search));
	if (search) {
		search->pid = node->relay->pid;
		search->bin = node->relay->bin;
		search->done_fd = live->search_fd;
		if (!pthread_create(&search->thread, NULL, search_run, search)) {
			node->search = search;
			return;
		}
		free(search);
	}
	node->searched = true;
	live_warn(live, "%s (pid %d): its memory is not searched: no thread for it",
		  node->relay->comm, (int)node->relay->pid);
}

void live_search_cancel(struct live_node *node)
{
	if (!node->search)
		return;
	pthread_join(node->search->thread, NULL);
	search_free(node->search);
	node->search = NULL;
}

/* --- telling --------------------------------------------------------------------------------- */

struct socket_of {
	uint32_t inode;
	struct live_conn *conn;
};

struct sockets {
	struct socket_of *all;
	size_t count;
};

static int compare_sockets(const void *a, const void *b)
{
	uint32_t x = ((const struct socket_of *)a)->inode, y = ((const struct socket_of *)b)->inode;

	return x < y ? -1 : x > y;
}

static void sockets_of(struct live *live, const struct live_node *node, struct sockets *sockets)
{
	struct live_conn *conn;

	sockets->count = 0;
	sockets->all = calloc(node->connections + 1, sizeof(*sockets->all));
	if (!sockets->all)
		return;
	LIVE_EACH_CONN(live, conn) {
		if (conn->node == node && !conn->closed && conn->inode &&
		    sockets->count < node->connections)
			sockets->all[sockets->count++] = (struct socket_of){ conn->inode, conn };
	}
	qsort(sockets->all, sockets->count, sizeof(*sockets->all), compare_sockets);
}

static struct live_conn *conn_of(const struct sockets *sockets, uint64_t inode)
{
	struct socket_of key = { .inode = (uint32_t)inode }, *found;

	if (!inode || !sockets->count)
		return NULL;
	found = bsearch(&key, sockets->all, sockets->count, sizeof(key), compare_sockets);
	return found ? found->conn : NULL;
}

static void tell_candidate(struct live *live, const struct live_conn *conn,
			   const struct gomem_tls *tls, const struct capture_candidate *candidate)
{
	struct capture_event event = live_conn_event(conn, CAPTURE_CANDIDATE, clock_now_ns());

	event.candidate = *candidate;
	event.candidate.version = tls->version;
	event.candidate.cipher = tls->cipher_suite;
	live_emit(live, &event);
	explicit_bzero(&event, sizeof(event));
}

static void tell_master(struct live *live, const struct live_conn *conn,
			const struct gomem_tls *tls)
{
	struct capture_candidate candidate = { .len = 48, .is_master = true, .seq = tls->in_seq };

	memcpy(candidate.secret, tls->master, 48);
	memcpy(candidate.randoms, tls->client_random, 32);
	memcpy(candidate.randoms + 32, tls->server_random, 32);
	tell_candidate(live, conn, tls, &candidate);
	/* Both directions come from the one secret, each with a count of its own. */
	if (tls->out_seq != tls->in_seq) {
		candidate.seq = tls->out_seq;
		tell_candidate(live, conn, tls, &candidate);
	}
	explicit_bzero(&candidate, sizeof(candidate));
}

static void tell_tls(struct live *live, const struct live_conn *conn, const struct gomem_tls *tls)
{
	struct capture_candidate candidate = { 0 };
	int i;

	for (i = 0; i < tls->secret_count && i < GOMEM_SECRETS_MAX; i++) {
		memcpy(candidate.secret, tls->secrets[i].bytes, sizeof(candidate.secret));
		candidate.len = tls->secrets[i].len;
		candidate.seq = tls->secrets[i].seq;
		tell_candidate(live, conn, tls, &candidate);
	}
	explicit_bzero(&candidate, sizeof(candidate));
	if (tls->has_master)
		tell_master(live, conn, tls);
}

static void tell_found(struct live *live, struct live_node *node, const struct sockets *sockets,
		       const struct found *f)
{
	struct live_conn *conn = conn_of(sockets, f->inode);
	struct capture_event event;

	if (f->kind == FOUND_SERVER) {
		event = (struct capture_event){
			.type = CAPTURE_SERVER_KEY, .time_ns = clock_now_ns(), .node = node->id,
		};
		memcpy(event.server_key.b, f->key, KEY_LEN);
		live_emit(live, &event);
	} else if (conn && f->kind == FOUND_TLS) {
		live_conn_announce(live, conn, clock_now_ns());
		tell_tls(live, conn, &f->tls);
	} else if (conn && f->kind == FOUND_PEER) {
		live_conn_announce(live, conn, clock_now_ns());
		event = live_conn_event(conn, CAPTURE_PEER, clock_now_ns());
		memcpy(event.peer.key.b, f->key, KEY_LEN);
		event.peer.is_server = conn->role == CAPTURE_DIALLED;
		live_emit(live, &event);
	}
}

static bool has_server(const struct live_search *search)
{
	size_t i;

	for (i = 0; i < search->count; i++) {
		if (search->found[i].kind == FOUND_SERVER)
			return true;
	}
	return false;
}

static void search_tell(struct live *live, struct live_node *node)
{
	struct live_search *search = node->search;
	struct sockets sockets;
	size_t i;

	/* Descriptors of connections that were accepted since the last dump are learnt here. */
	live_ask_node(live, node, NULL);
	live_drain(live);
	live_ask_tell(live);
	sockets_of(live, node, &sockets);
	for (i = 0; i < search->count; i++)
		tell_found(live, node, &sockets, &search->found[i]);
	free(sockets.all);
}

static bool has_ended(const struct live_node *node)
{
	struct pollfd end = { .fd = node->relay->pidfd, .events = POLLIN };

	return node->ended || poll(&end, 1, 0) > 0;
}

/* What could be opened, but not be made sense of: said once. A relay may end while it is read. */
static void warn_if_failed(struct live *live, const struct live_node *node)
{
	const char *built_by = gobin_info(node->relay->bin)->go_version;
	const enum gomem_error error = node->search->error;

	if (node->searched || node->provisional || error == GOMEM_OK || error == GOMEM_NO_CONN ||
	    error == GOMEM_NO_PERMISSION || error == GOMEM_NO_PROCESS || has_ended(node))
		return;
	live_warn(live, "%s (pid %d): connections that are open already are not decrypted, nor their "
		  "peers named: %s%s%s", node->relay->comm, (int)node->relay->pid,
		  gomem_error_text(error), built_by[0] ? "; it was built by " : "", built_by);
}

void live_search_finish(struct live *live)
{
	struct live_node *node;

	for (node = live->nodes; node; node = node->next) {
		if (!node->search || !atomic_load(&node->search->done))
			continue;
		pthread_join(node->search->thread, NULL);
		if (node->provisional && has_server(node->search))
			live_node_prove(live, node);
		warn_if_failed(live, node);
		if (!node->provisional)
			search_tell(live, node);
		search_free(node->search);
		node->search = NULL;
		node->searched = true;
	}
}

bool live_search_proves(struct live *live)
{
	struct live_node *node;
	bool proved = false;

	for (node = live->nodes; node; node = node->next)
		live_search_start(live, node);
	for (node = live->nodes; node; node = node->next) {
		if (!node->search)
			continue;
		pthread_join(node->search->thread, NULL);
		/* It is told by the next search: nobody listens yet. */
		if (has_server(node->search)) {
			node->provisional = false;
			proved = true;
		}
		search_free(node->search);
		node->search = NULL;
	}
	return proved;
}
