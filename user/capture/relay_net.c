// SPDX-License-Identifier: BSD-2-Clause
/* A relay's sockets: its network namespace, its listeners, the inodes of its descriptors. */
#include "capture/relay_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INODES_MAX	(1u << 22)

/* --- network namespaces ---------------------------------------------------------------------- */

static long read_optmem_max(void)
{
	FILE *f = fopen("/proc/sys/net/core/optmem_max", "re");
	long value = -1;

	if (!f)
		return -1;
	if (fscanf(f, "%ld", &value) != 1)
		value = -1;
	fclose(f);
	return value;
}

struct visit {
	int fd, err;
	void (*run)(void *arg);
	void *arg;
};

static void *enter(void *arg)
{
	struct visit *visit = arg;

	if (setns(visit->fd, CLONE_NEWNET))
		visit->err = -errno;
	else
		visit->run(visit->arg);
	return NULL;
}

int relay_netns_run(const struct relay_netns *ns, void (*run)(void *arg), void *arg)
{
	struct visit visit = { .fd = ns->fd, .run = run, .arg = arg };
	pthread_t thread;
	int err = pthread_create(&thread, NULL, enter, &visit);

	if (err)
		return -err;
	pthread_join(thread, NULL);
	return visit.err;
}

static void look_around(void *arg)
{
	struct relay_netns *ns = arg;

	ns->sockdiag = sockdiag_open();
	ns->optmem_max = read_optmem_max();
}

static int netns_enter(struct relay_netns *ns)
{
	int err = relay_netns_run(ns, look_around, ns);

	return err || ns->sockdiag ? err : -EMFILE;
}

static void netns_free(struct relay_netns *ns)
{
	sockdiag_close(ns->sockdiag);
	if (ns->fd >= 0)
		close(ns->fd);
	free(ns);
}

int relay_netns_get(struct relay_netns **all, pid_t pid, struct relay_netns **result)
{
	struct relay_netns *ns;
	char path[32];
	struct stat st;
	int fd, err;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st)) {
		err = -errno;
		close(fd);
		return err;
	}
	for (ns = *all; ns; ns = ns->next) {
		if (ns->dev == st.st_dev && ns->ino == st.st_ino) {
			close(fd);
			ns->users++;
			*result = ns;
			return 0;
		}
	}
	ns = calloc(1, sizeof(*ns));
	if (!ns) {
		close(fd);
		return -ENOMEM;
	}
	*ns = (struct relay_netns){ .dev = st.st_dev, .ino = st.st_ino, .fd = fd, .users = 1,
				    .optmem_max = -1 };
	err = netns_enter(ns);
	if (err) {
		netns_free(ns);
		return err;
	}
	ns->next = *all;
	*all = ns;
	*result = ns;
	return 0;
}

void relay_netns_put(struct relay_netns **all, struct relay_netns *ns)
{
	if (!ns || --ns->users)
		return;
	while (*all && *all != ns)
		all = &(*all)->next;
	if (*all)
		*all = ns->next;
	netns_free(ns);
}

/* --- descriptors ----------------------------------------------------------------------------- */

static int compare_inodes(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static int add_inode(uint32_t **inodes, size_t *count, size_t *room, uint32_t inode)
{
	uint32_t *bigger;

	if (*count == *room) {
		if (*room >= INODES_MAX)
			return -E2BIG;
		*room = *room ? *room * 2 : 64;
		bigger = realloc(*inodes, *room * sizeof(**inodes));
		if (!bigger)
			return -ENOMEM;
		*inodes = bigger;
	}
	(*inodes)[(*count)++] = inode;
	return 0;
}

int relay_socket_inodes(pid_t pid, uint32_t **inodes, size_t *count)
{
	struct dirent *entry;
	char link[64];
	size_t room = 0;
	unsigned int inode;
	ssize_t n;
	int err = 0;
	DIR *dir;

	*inodes = NULL;
	*count = 0;
	snprintf(link, sizeof(link), "/proc/%d/fd", (int)pid);
	dir = opendir(link);
	if (!dir)
		return -errno;
	while (!err && (entry = readdir(dir))) {
		n = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);
		if (n <= 0)
			continue;
		link[n] = '\0';
		if (sscanf(link, "socket:[%u]", &inode) == 1)
			err = add_inode(inodes, count, &room, inode);
	}
	closedir(dir);
	if (err) {
		free(*inodes);
		*inodes = NULL;
		*count = 0;
	} else if (*count) {
		qsort(*inodes, *count, sizeof(**inodes), compare_inodes);
	}
	return err;
}

bool relay_holds_inode(const uint32_t *inodes, size_t count, uint32_t inode)
{
	return inode && count &&
	       bsearch(&inode, inodes, count, sizeof(*inodes), compare_inodes);
}

/* --- listeners ------------------------------------------------------------------------------- */

/* All that listen in a namespace. */
struct listening {
	struct relay_listener *all;
	size_t count, room;
	uint64_t sum;
	int err;
};

static void found_listener(void *ctx, const struct sockdiag_socket *s)
{
	struct listening *l = ctx;
	struct relay_listener *bigger;

	if (l->count == l->room) {
		l->room = l->room ? l->room * 2 : 64;
		bigger = realloc(l->all, l->room * sizeof(*bigger));
		if (!bigger) {
			l->room = l->count;
			l->err = -ENOMEM;
			return;
		}
		l->all = bigger;
	}
	l->all[l->count++] = (struct relay_listener){
		.addr = s->local, .cookie = s->cookie, .inode = s->inode,
		.waiting = s->rqueue, .backlog = s->wqueue,
	};
	l->sum += s->cookie * 0x9e3779b97f4a7c15ull + s->inode;
}

static int pick_listeners(struct relay *relay, const struct listening *l)
{
	size_t i, inode_count;
	uint32_t *inodes;
	int err = relay_socket_inodes(relay->pid, &inodes, &inode_count);

	if (err)
		return err;
	relay->listener_count = 0;
	for (i = 0; i < l->count && relay->listener_count < RELAY_LISTENERS_MAX; i++) {
		if (relay_holds_inode(inodes, inode_count, l->all[i].inode))
			relay->listeners[relay->listener_count++] = l->all[i];
	}
	free(inodes);
	return 0;
}

static void update_queues(struct relay *relay, const struct listening *l)
{
	size_t i, j;

	for (i = 0; i < relay->listener_count; i++) {
		for (j = 0; j < l->count; j++) {
			if (l->all[j].cookie != relay->listeners[i].cookie)
				continue;
			relay->listeners[i].waiting = l->all[j].waiting;
			relay->listeners[i].backlog = l->all[j].backlog;
			break;
		}
	}
}

int relay_listeners_update(struct relay *relay)
{
	struct listening l = { .sum = 1 };
	int err = sockdiag_dump(relay->netns->sockdiag, SOCKDIAG_LISTEN, NULL, 0,
				found_listener, &l);

	if (!err)
		err = l.err;
	/* Descriptors are many: they are read only when there is something to look for. */
	if (!err && l.sum != relay->listening_sum) {
		err = pick_listeners(relay, &l);
		if (!err)
			relay->listening_sum = l.sum;
	} else if (!err) {
		update_queues(relay, &l);
	}
	free(l.all);
	return err;
}

static bool is_any(const struct addr *a)
{
	static const uint8_t zero[16];

	return !memcmp(a->ip, zero, sizeof(zero));
}

const struct relay_listener *relay_listener_of(const struct relay *relay, const struct addr *local)
{
	const struct relay_listener *l;

	for (l = relay->listeners; l < relay->listeners + relay->listener_count; l++) {
		if (l->addr.port != local->port)
			continue;
		/* One that listens on [::] may take IPv4 as well. */
		if (addr_equal_ip(&l->addr, local) ||
		    (is_any(&l->addr) && (l->addr.family == local->family || l->addr.family == 6)))
			return l;
	}
	return NULL;
}
