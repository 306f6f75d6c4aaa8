// SPDX-License-Identifier: BSD-2-Clause
/*
 * What is foretold of TLS records, for the programs: bpf/heads.h. There are windows for as many
 * directions as talk at once on a busy relay; where all are in use, the one that nothing was foretold
 * in for the longest time goes to the next who asks. A program that still looks at a window that is
 * somebody else's by now finds nothing there that fits.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/clock.h"
#include "capture/live.h"
#include "heads.h"

#include "derptrace.skel.h"

#define STEAL_AFTER_NS	(5 * NSEC_PER_SEC)	/* nothing was foretold in it for so long */
#define LOOKS		16			/* windows that are looked at for one that may be stolen */

struct live_window {
	struct live_conn *conn;		/* NULL: free */
	uint8_t dir;			/* enum abi_dir */
	uint64_t told_ns;
};

struct live_heads {
	struct abi_masks *masks;	/* ABI_WINDOWS, shared with the kernel */
	struct live_window windows[ABI_WINDOWS];
	uint32_t next;			/* is looked at next */
};

static size_t mapped_bytes(void)
{
	return ABI_WINDOWS * sizeof(struct abi_masks);
}

int live_heads_open(struct live *live)
{
	struct live_heads *h = calloc(1, sizeof(*h));
	void *p;

	if (!h)
		return -ENOMEM;
	p = mmap(NULL, mapped_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED,
		 bpf_map__fd(live->skel->maps.masks), 0);
	if (p == MAP_FAILED) {
		free(h);
		return -errno;
	}
	h->masks = p;
	live->heads = h;
	return 0;
}

void live_heads_close(struct live *live)
{
	if (!live->heads)
		return;
	/* They are made of keys. */
	explicit_bzero(live->heads->masks, mapped_bytes());
	munmap(live->heads->masks, mapped_bytes());
	free(live->heads);
	live->heads = NULL;
}

static void changed(struct live *live)
{
	__atomic_add_fetch(&live->skel->bss->foretellings, 1, __ATOMIC_RELEASE);
}

static void window_free(struct live *live, struct live_window *w)
{
	size_t number = (size_t)(w - live->heads->windows);
	struct abi_agreed_key key = { .cookie = w->conn->cookie, .dir = w->dir };

	bpf_map__delete_elem(live->skel->maps.foretold, &key, sizeof(key), 0);
	explicit_bzero(&live->heads->masks[number], sizeof(live->heads->masks[number]));
	w->conn->walks[w->dir].window = 0;
	w->conn = NULL;
}

/* NULL: all are in use. */
static struct live_window *window_find(struct live *live, uint64_t now_ns)
{
	struct live_heads *h = live->heads;
	struct live_window *w;
	int i;

	for (i = 0; i < LOOKS; i++) {
		w = &h->windows[h->next++ % ABI_WINDOWS];
		if (w->conn && now_ns - w->told_ns > STEAL_AFTER_NS)
			window_free(live, w);
		if (!w->conn)
			return w;
	}
	return NULL;
}

static struct live_window *window_of(struct live *live, struct live_conn *conn, uint8_t dir)
{
	struct live_walk *walk = live_conn_walk_get(conn, dir);
	struct live_window *w;

	if (walk && walk->window)
		return &live->heads->windows[walk->window - 1];
	w = walk ? window_find(live, live->read_ns) : NULL;
	if (!w)
		return NULL;
	*w = (struct live_window){ .conn = conn, .dir = dir };
	walk->window = (uint32_t)(w - live->heads->windows) + 1;
	walk->told = false;
	return w;
}

static bool tell_window(struct live *live, struct live_conn *conn, uint8_t dir, uint32_t epoch)
{
	struct live_walk *walk = &conn->walks[dir];
	struct abi_foretold value = { .window = walk->window - 1, .epoch = epoch };
	struct abi_agreed_key key = { .cookie = conn->cookie, .dir = dir };

	if (walk->told && walk->epoch == epoch)
		return true;
	if (bpf_map__update_elem(live->skel->maps.foretold, &key, sizeof(key), &value,
				 sizeof(value), BPF_ANY))
		return false;
	walk->told = true;
	walk->epoch = epoch;
	changed(live);
	return true;
}

bool live_heads_foretell(struct live *live, uint64_t id, const struct capture_masks *m)
{
	uint8_t dir = m->dir == CAPTURE_IN ? ABI_IN : ABI_OUT;
	struct abi_masks *masks;
	struct live_window *w;
	struct live_conn *conn;
	uint32_t i;

	conn = live_conn_find(live, id);
	if (!conn || conn->closed || !m->count)
		return false;
	w = window_of(live, conn, dir);
	if (!w)
		return false;
	w->told_ns = live->read_ns;
	masks = &live->heads->masks[w - live->heads->windows];
	for (i = 0; i < m->count; i++)
		__atomic_store_n(&masks->entries[(m->mark + i) % ABI_MASKS],
				 heads_entry(m->mark + i, m->masks[i]), __ATOMIC_RELAXED);
	return tell_window(live, conn, dir, m->mark / HEADS_EPOCH);
}

void live_heads_forget(struct live *live, struct live_conn *conn)
{
	int dir;

	for (dir = ABI_IN; dir <= ABI_OUT; dir++) {
		if (conn->walks && conn->walks[dir].window)
			window_free(live, &live->heads->windows[conn->walks[dir].window - 1]);
	}
}
