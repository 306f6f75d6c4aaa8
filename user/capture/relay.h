/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * relay: which processes of this host are DERP relays, and where they listen.
 *
 * A relay is a process that serves DERP: a Go program with a DERP server in it and a listening TCP
 * socket of its own. Programs that merely link the same packages (VPN clients and agents, which
 * often listen too, and may even keep a server that serves nobody) look the same: where neither
 * its program's name nor the user tells, it has yet to prove itself by a client that it serves.
 */
#ifndef DT_CAPTURE_RELAY_H
#define DT_CAPTURE_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "capture/capture.h"
#include "capture/sockdiag.h"

struct gobin;

#define RELAY_LISTENERS_MAX	64

struct relay_listener {
	struct addr addr;
	uint64_t cookie;
	uint32_t inode;
	uint32_t waiting, backlog; /* connections that wait to be accepted; at most so many */
};

/* The network namespace of a relay, shared by all relays in it. */
struct relay_netns {
	uint64_t dev, ino;
	int fd;
	long optmem_max;	/* net.core.optmem_max in there, -1: not readable */
	struct sockdiag *sockdiag;
	unsigned int users;
	struct relay_netns *next;
};

struct relay {
	pid_t pid;
	int pidfd;		/* readable once the process has ended */
	char comm[17];
	bool proved;		/* it is called derper, or was asked for by its pid */
	struct gobin *bin;
	struct relay_netns *netns;
	struct relay_listener listeners[RELAY_LISTENERS_MAX];
	size_t listener_count;
	uint64_t listening_sum;	/* of all listeners in its namespace: changes when they do */
};

/*
 * Run @run in a namespace, in a thread of its own: entering one changes the calling thread. 0, or
 * -errno where it was not run.
 */
int relay_netns_run(const struct relay_netns *ns, void (*run)(void *arg), void *arg);

struct relay_finder;

struct relay_finder *relay_finder_new(const struct capture_filter *filter);
void relay_finder_free(struct relay_finder *finder);

/*
 * Look through /proc for what may be a relay and was not found before. Each goes to @found, which owns it from
 * then on. Cheap where nothing is new. 0, or -errno where /proc cannot be read.
 */
int relay_find(struct relay_finder *finder, void (*found)(void *ctx, struct relay *relay),
	       void *ctx);

/*
 * Why a process that was asked for by pid is none, or why no relay was found though processes came
 * close: one line, empty where there is nothing to say.
 */
void relay_finder_explain(const struct relay_finder *finder, char *text, size_t size);

/* A relay in our hands ended, or will not be traced: another process may come with its pid. */
void relay_free(struct relay_finder *finder, struct relay *relay);

/* Read its listeners again: some may have come or gone. Cheap where not. 0, or -errno. */
int relay_listeners_update(struct relay *relay);

/*
 * What the process was told with -hostname, printable ASCII; false where it was not. Clients and mesh
 * peers must reach it by this name: TLS refuses others.
 */
bool relay_hostname(pid_t pid, char *name, size_t size);

/* Inodes of the sockets that a process holds: sorted, *inodes to be freed. 0, or -errno. */
int relay_socket_inodes(pid_t pid, uint32_t **inodes, size_t *count);
bool relay_holds_inode(const uint32_t *inodes, size_t count, uint32_t inode);

/* Is @local one that a listener of the relay accepts on? NULL where not. */
const struct relay_listener *relay_listener_of(const struct relay *relay,
					       const struct addr *local);

/* Do the parts of the filter hold that a process tells by itself: comm, unit, cgroup? */
bool relay_filter_process(const struct capture_filter *filter, pid_t pid, const char *comm);
/* Does a cgroup path name @unit ("derper" is "derper.service")? */
bool relay_cgroup_has_unit(const char *path, const char *unit);
/* Is @path below the cgroup @wanted, or it? Slashes at either end of @wanted do not count. */
bool relay_cgroup_is_below(const char *path, const char *wanted);

#endif
