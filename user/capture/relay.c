// SPDX-License-Identifier: BSD-2-Clause
/* Finding relays among the processes of this host. */
#include "capture/relay_private.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <uthash.h>
#include <unistd.h>

#include "capture/gobin.h"

#define PROGRAMS_MAX	4096		/* remembered; more are read again each time */

/* A file that was looked into: is there a DERP server in it? */
struct program {
	struct {
		uint64_t dev, ino, size;
		int64_t changed_sec, changed_nsec;
	} id;
	bool derp_server;
	enum gobin_error error;
	UT_hash_handle hh;
};

enum standing {
	STANDING_NONE,		/* no relay for as long as it runs this program */
	STANDING_CANDIDATE,
	STANDING_FOUND,
};

struct process {
	pid_t pid;
	uint64_t exe_dev, exe_ino;
	enum standing standing;
	bool seen;		/* in this look through /proc */
	const char *lacks;	/* what it lacks, for people */
	UT_hash_handle hh;
};

struct relay_finder {
	struct capture_filter filter;
	struct program *programs;
	struct process *processes;
	struct relay_netns *namespaces;
};

struct relay_finder *relay_finder_new(const struct capture_filter *filter)
{
	struct relay_finder *finder = calloc(1, sizeof(*finder));

	if (finder)
		finder->filter = *filter;
	return finder;
}

void relay_finder_free(struct relay_finder *finder)
{
	struct process *process, *next_process;
	struct program *program, *next_program;

	if (!finder)
		return;
	HASH_ITER(hh, finder->processes, process, next_process) {
		HASH_DEL(finder->processes, process);
		free(process);
	}
	HASH_ITER(hh, finder->programs, program, next_program) {
		HASH_DEL(finder->programs, program);
		free(program);
	}
	free(finder);
}

/* --- programs -------------------------------------------------------------------------------- */

static bool program_read(pid_t pid, enum gobin_error *error)
{
	struct gobin *bin = gobin_open(pid, error);
	bool derp_server = bin && gobin_info(bin)->derp_server;

	gobin_close(bin);
	return derp_server;
}

/* Only these are no answer: the rest is as it will be the next time. */
static bool was_read(enum gobin_error error)
{
	return error != GOBIN_NO_PROCESS && error != GOBIN_NO_PERMISSION &&
	       error != GOBIN_READ_FAILED;
}

/* What is inside cannot be told: it may be a relay all the same. */
static bool may_have_server(enum gobin_error error)
{
	return !was_read(error) || error == GOBIN_BAD_MACHINE || error == GOBIN_NO_SECTIONS ||
	       error == GOBIN_NO_PCLNTAB;
}

static bool program_has_server(struct relay_finder *finder, pid_t pid, const struct stat *st,
			       enum gobin_error *error)
{
	struct program key, *program;
	bool derp_server;

	memset(&key, 0, sizeof(key));
	key.id.dev = st->st_dev;
	key.id.ino = st->st_ino;
	key.id.size = st->st_size;
	key.id.changed_sec = st->st_ctim.tv_sec;
	key.id.changed_nsec = st->st_ctim.tv_nsec;
	HASH_FIND(hh, finder->programs, &key.id, sizeof(key.id), program);
	if (program) {
		*error = program->error;
		return program->derp_server;
	}
	derp_server = program_read(pid, error);
	if (!was_read(*error) || HASH_COUNT(finder->programs) >= PROGRAMS_MAX)
		return derp_server;
	program = malloc(sizeof(*program));
	if (program) {
		*program = key;
		program->derp_server = derp_server;
		program->error = *error;
		HASH_ADD(hh, finder->programs, id, sizeof(program->id), program);
	}
	return derp_server;
}

/* --- proof ----------------------------------------------------------------------------------- */

/* "tailscale.com/cmd/derper v1.102.5": the program's own path ends in the relay's name. */
static bool is_called_derper(const struct gobin *bin)
{
	const char *path = gobin_info(bin)->software;
	size_t len = strcspn(path, " ");

	return len >= 6 && !strncmp(path + len - 6, "derper", 6);
}

static bool was_asked_for(const struct capture_filter *filter, pid_t pid)
{
	size_t i;

	for (i = 0; i < filter->pid_count; i++) {
		if (filter->pids[i] == pid)
			return true;
	}
	return false;
}

/* --- processes ------------------------------------------------------------------------------- */

static int read_comm(pid_t pid, char comm[static 17])
{
	char path[32];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, comm, 16);
	close(fd);
	if (n <= 0)
		return -ESRCH;
	comm[n] = '\0';
	comm[strcspn(comm, "\n")] = '\0';
	return 0;
}

static bool listens_on(const struct relay *relay, uint16_t port)
{
	size_t i;

	for (i = 0; i < relay->listener_count; i++) {
		if (!port || relay->listeners[i].addr.port == port)
			return true;
	}
	return false;
}

/* The last thing a process may lack. */
static const char no_client[] = "no client has spoken DERP with it so far (--pid takes it at its "
				"word)";

/* A relay if the candidate is one by now; NULL where not, process->lacks says what it lacks. */
static struct relay *process_look(struct relay_finder *finder, struct process *process)
{
	struct relay *relay = calloc(1, sizeof(*relay));
	enum gobin_error error;
	int err;

	if (!relay)
		return NULL;
	process->lacks = "ended, or may not be read";
	relay->pid = process->pid;
	relay->pidfd = (int)syscall(SYS_pidfd_open, process->pid, 0);
	if (relay->pidfd < 0 || read_comm(relay->pid, relay->comm))
		goto cleanup;
	if (!relay_filter_process(&finder->filter, relay->pid, relay->comm)) {
		process->lacks = NULL;
		goto cleanup;
	}
	err = relay_netns_get(&finder->namespaces, relay->pid, &relay->netns);
	if (err == -EPERM || err == -EACCES)
		process->lacks = "its network namespace may not be entered";
	if (err || relay_listeners_update(relay))
		goto cleanup;
	process->lacks = finder->filter.port ? "does not listen on that port" : "does not listen";
	if (!listens_on(relay, finder->filter.port))
		goto cleanup;
	process->lacks = "its executable cannot be read";
	relay->bin = gobin_open(relay->pid, &error);
	if (!relay->bin)
		goto cleanup;
	relay->proved = was_asked_for(&finder->filter, relay->pid) || is_called_derper(relay->bin);
	process->lacks = relay->proved ? NULL : no_client;
	process->standing = STANDING_FOUND;
	return relay;
cleanup:
	relay_free(finder, relay);
	return NULL;
}

/* What runs as @pid now. Its program may have changed since the last look: a shell that exec'd. */
static struct process *process_get(struct relay_finder *finder, pid_t pid)
{
	struct process *process;
	enum gobin_error error;
	char path[32];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	HASH_FIND(hh, finder->processes, &pid, sizeof(pid), process);
	if (stat(path, &st)) {
		/* A kernel thread, or it has ended, or may not be looked at. */
		if (process)
			process->seen = process->standing == STANDING_FOUND;
		return NULL;
	}
	if (!process) {
		process = calloc(1, sizeof(*process));
		if (!process)
			return NULL;
		process->pid = pid;
		HASH_ADD(hh, finder->processes, pid, sizeof(pid), process);
	}
	process->seen = true;
	if (process->standing == STANDING_FOUND ||
	    (process->exe_dev == st.st_dev && process->exe_ino == st.st_ino))
		return process;
	process->exe_dev = st.st_dev;
	process->exe_ino = st.st_ino;
	process->standing = program_has_server(finder, pid, &st, &error) ? STANDING_CANDIDATE :
									   STANDING_NONE;
	if (process->standing == STANDING_NONE)
		process->lacks = may_have_server(error) ? gobin_error_text(error) :
							  "no DERP server is in its program";
	return process;
}

int relay_find(struct relay_finder *finder, void (*found)(void *ctx, struct relay *relay),
	       void *ctx)
{
	struct process *process, *next;
	struct dirent *entry;
	struct relay *relay;
	DIR *dir = opendir("/proc");
	pid_t pid;

	if (!dir)
		return -errno;
	HASH_ITER(hh, finder->processes, process, next)
		process->seen = false;
	while ((entry = readdir(dir))) {
		pid = isdigit((unsigned char)entry->d_name[0]) ? atoi(entry->d_name) : 0;
		/* Where pids were asked for, what becomes of another process is nobody's concern. */
		if (!pid || (finder->filter.pid_count && !was_asked_for(&finder->filter, pid)))
			continue;
		process = process_get(finder, pid);
		if (!process || process->standing != STANDING_CANDIDATE)
			continue;
		relay = process_look(finder, process);
		if (relay)
			found(ctx, relay);
	}
	closedir(dir);
	HASH_ITER(hh, finder->processes, process, next) {
		if (!process->seen) {
			HASH_DEL(finder->processes, process);
			free(process);
		}
	}
	return 0;
}

void relay_free(struct relay_finder *finder, struct relay *relay)
{
	struct process *process;

	if (!relay)
		return;
	HASH_FIND(hh, finder->processes, &relay->pid, sizeof(relay->pid), process);
	if (process && process->standing == STANDING_FOUND) {
		HASH_DEL(finder->processes, process);
		free(process);
	}
	if (relay->pidfd >= 0)
		close(relay->pidfd);
	gobin_close(relay->bin);
	relay_netns_put(&finder->namespaces, relay->netns);
	free(relay);
}

void relay_finder_explain(const struct relay_finder *finder, char *text, size_t size)
{
	struct process *process, *next, *closest = NULL;
	size_t i;
	pid_t pid;

	text[0] = '\0';
	for (i = 0; i < finder->filter.pid_count; i++) {
		pid = finder->filter.pids[i];
		HASH_FIND(hh, finder->processes, &pid, sizeof(pid), process);
		if (process && process->standing == STANDING_FOUND)
			continue;
		if (!process)
			snprintf(text, size, "there is no process %d, or it may not be looked at",
				 (int)pid);
		else
			snprintf(text, size, "process %d is no relay: %s", (int)pid,
				 process->lacks ? process->lacks : "the other options exclude it");
		return;
	}
	HASH_ITER(hh, finder->processes, process, next) {
		if (process->standing == STANDING_NONE || !process->lacks ||
		    (closest && process->lacks != no_client))
			continue;
		closest = process;
	}
	if (closest)
		snprintf(text, size, "process %d could be one, but: %s", (int)closest->pid,
			 closest->lacks);
	else if (finder->filter.comm)
		snprintf(text, size, "none is called %.100s", finder->filter.comm);
	else if (finder->filter.unit)
		snprintf(text, size, "none runs in the unit %.100s", finder->filter.unit);
	else if (finder->filter.cgroup)
		snprintf(text, size, "none runs below the cgroup %.100s", finder->filter.cgroup);
}
