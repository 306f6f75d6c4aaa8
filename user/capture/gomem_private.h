/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Inside gomem only: reading a process, the runtime's interface tables, the forms of the objects.
 * Addresses are the process's. Whatever was read may be torn or forged: nothing read is used as a
 * length or an index unchecked.
 */
#ifndef DT_CAPTURE_GOMEM_PRIVATE_H
#define DT_CAPTURE_GOMEM_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "capture/gobin.h"
#include "capture/gomem.h"

/* --- goproc.c: bytes of a process ----------------------------------------------------------- */

struct goproc {
	pid_t pid;
	int mem_fd;
	int pagemap_fd;		/* -1: the kernel has none, all pages count as present */
	uint64_t page_bytes;
};

int goproc_open(struct goproc *proc, pid_t pid);
void goproc_close(struct goproc *proc);

/* Exactly len bytes: 0, -ESRCH if the process has no memory any more, -EIO where nothing is. */
int goproc_read(const struct goproc *proc, uint64_t addr, void *buf, size_t len);

/* As much as can be read from addr on, up to len: how many bytes. */
size_t goproc_read_some(const struct goproc *proc, uint64_t addr, void *buf, size_t len);

/* How far the program was moved when it was loaded (PIE): address minus linked address. */
int goproc_bias(const struct goproc *proc, const struct gobin_layout *layout, uint64_t *bias);

/*
 * Present, contiguous memory, page aligned, at most 1 MiB a call; false ends the walk. The buffer
 * may be written by the callee.
 */
typedef bool goproc_piece(void *context, uint64_t addr, uint8_t *bytes, size_t len);

struct goproc_walked {
	uint64_t read_bytes;
	uint64_t skipped_bytes;
	bool stopped;		/* by the callee, or by the bound on all bytes */
};

/* Walk one range of addresses; what cannot be read is skipped. */
int goproc_walk_range(const struct goproc *proc, uint64_t start, uint64_t end, goproc_piece *piece,
		      void *context, struct goproc_walked *walked);

/* Walk all private, writable, anonymous memory: the Go heap and what else is there. */
int goproc_walk_heap(const struct goproc *proc, goproc_piece *piece, void *context,
		     struct goproc_walked *walked);

/* --- goitab.c: which word in memory begins an interface value of which kind ------------------ */

enum goitab_kind {
	GOITAB_CONN,		/* net.Conn */
	GOITAB_DERP,		/* derp.Conn */
};

enum goitab_concrete {
	GOITAB_OTHER,
	GOITAB_TLS,		/* *tls.Conn */
	GOITAB_TCP,		/* *net.TCPConn */
};

struct goitab {
	uint64_t addr;
	enum goitab_kind kind;
	enum goitab_concrete concrete;
	char type[48];		/* of the concrete type: "*tls.Conn" */
};

enum {
	GOITABS_MAX = 256,
	GOITABS_SLOTS = 1024,	/* a power of two, well above GOITABS_MAX */
};

struct goitabs {
	struct goitab all[GOITABS_MAX];
	unsigned int count;
	unsigned int conn_count;
	unsigned int derp_count;
	bool truncated;
	int16_t slots[GOITABS_SLOTS];	/* index in all, or -1 */
	uint64_t table_var;		/* where runtime.itabTable was found the last time */
};

/* Read the tables of the process anew. table_var is kept between calls: start from zeroes. */
enum gomem_error goitabs_read(struct goitabs *itabs, const struct goproc *proc,
			      const struct gobin_layout *layout, uint64_t bias);

static inline unsigned int goitab_slot(uint64_t addr)
{
	return (unsigned int)((addr >> 3) * 0x9e3779b97f4a7c15ull >> 54);
}

/* The interface table at an address, or NULL: asked for every word of the heap. */
static inline const struct goitab *goitabs_get(const struct goitabs *itabs, uint64_t addr)
{
	unsigned int slot = goitab_slot(addr);

	while (itabs->slots[slot] >= 0) {
		if (itabs->all[itabs->slots[slot]].addr == addr)
			return &itabs->all[itabs->slots[slot]];
		slot = (slot + 1) % GOITABS_SLOTS;
	}
	return NULL;
}

/* --- gotls.c: a tls.Conn --------------------------------------------------------------------- */

/* Does what stands at addr look like a tls.Conn? Fills all of tls but fd. Wipe tls after use. */
bool gotls_read(const struct goproc *proc, uint64_t addr, uint64_t text_start, uint64_t text_end,
		struct gomem_tls *tls);

/* Bytes as random as a key or a secret: no zeroes, no text, no pointers. */
bool gomem_looks_random(const uint8_t *bytes, size_t len);

/* --- gopeer.c: connections to descriptors, peers, the server's key --------------------------- */

enum { GOMEM_FD_CLOSED = -2 };

/* Addresses of objects whose kind is known, sorted. */
struct goaddrs {
	uint64_t *all;
	size_t count, room, max;
	bool truncated;
};

void goaddrs_add(struct goaddrs *addrs, uint64_t addr);
void goaddrs_sort(struct goaddrs *addrs);	/* and let go of duplicates */
bool goaddrs_has(const struct goaddrs *addrs, uint64_t addr);

/* What the pass over the heap has found. */
struct gofound {
	struct goaddrs tls_maybe;	/* places that may begin a tls.Conn */
	struct goaddrs tls;		/* those that do */
	struct goaddrs tcp;		/* *net.TCPConn */
	struct goaddrs derp;		/* interface values derp.Conn */
};

/* The descriptor of a net.TCPConn: -1 if it cannot be read, GOMEM_FD_CLOSED. */
int gopeer_tcp_fd(const struct goproc *proc, uint64_t tcp_addr);

/* The descriptor below the interface value net.Conn at addr, through wrappers that hold another. */
int gopeer_conn_fd(const struct goproc *proc, const struct goitabs *itabs,
		   const struct gofound *found, uint64_t addr);

/* Yield servers and peers from found: how many peers. */
uint32_t gopeer_yield(const struct goproc *proc, const struct goitabs *itabs,
		      const struct gofound *found, const struct gomem_sink *sink);

#endif
