// SPDX-License-Identifier: BSD-2-Clause
/*
 * Probes in a relay's own code: TLS secrets of new connections, and its drop path. Each sits where
 * the kernel emulates the instruction. A relay that drops tens of thousands of packets a second
 * would feel even that: then the probe is taken away for a while.
 *
 * The kernel takes a tenth of a second to place or remove one. That is done in a thread, while the
 * ring is drained; a probe whose thread runs is touched by nobody else.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <bpf/libbpf.h>

#include "base/clock.h"
#include "capture/gobin.h"
#include "capture/live.h"

#include "derptrace.skel.h"

/*
 * Where the kernel emulates the probed instruction a hit costs 0.7 us, and knowing each drop is
 * worth 1.4 % of a core; where it is single-stepped, 25 us.
 */
#if defined(__x86_64__)
#define DROPS_PER_SECOND	20000
#else
#define DROPS_PER_SECOND	2000
#endif
#define DROPS_WINDOW_NS		(NSEC_PER_SEC / 10)
#define DROPS_BACK_NS		(5 * NSEC_PER_SEC)	/* after a flood, doubled with each ... */
#define DROPS_BACK_MAX		4			/* ... up to 80 s */

static const char *const key_log[] = { "crypto/tls.(*Config).writeKeyLog", NULL };
static const char *const record_drop[] = {
	"derpserver.(*Server).recordDrop", "derp.(*Server).recordDrop", NULL,
};

/* --- one probe ------------------------------------------------------------------------------- */

static void *place(void *arg)
{
	struct live_probe *probe = arg;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)probe->pid);
	probe->link = bpf_program__attach_uprobe(probe->prog, false, probe->pid, path,
						 probe->file_off);
	probe->err = probe->link ? 0 : -errno;
	atomic_store(&probe->done, true);
	return NULL;
}

static void *take_away(void *arg)
{
	struct live_probe *probe = arg;

	bpf_link__destroy(probe->link);
	probe->link = NULL;
	atomic_store(&probe->done, true);
	return NULL;
}

static void begin(struct live_probe *probe, void *(*work)(void *))
{
	atomic_store(&probe->done, false);
	probe->working = !pthread_create(&probe->thread, NULL, work, probe);
	if (!probe->working)
		work(probe);
}

static void wait_for(struct live_probe *probe)
{
	if (probe->working)
		pthread_join(probe->thread, NULL);
	probe->working = false;
}

static bool is_idle(struct live_probe *probe)
{
	if (probe->working && atomic_load(&probe->done))
		wait_for(probe);
	return !probe->working;
}

static void begin_detach(struct live_probe *probe)
{
	wait_for(probe);
	if (probe->link)
		begin(probe, take_away);
}

static void find(const struct live_node *node, struct live_probe *probe,
		 const char *const *names)
{
	struct gobin_function function;

	probe->pid = node->relay->pid;
	probe->err = -ENOENT;
	for (; *names && probe->err; names++)
		probe->err = gobin_function(node->relay->bin, *names, &function);
	if (!probe->err) {
		probe->err = gobin_probe_offset(node->relay->bin, &function, &probe->file_off);
		if (probe->err == -ENOENT)
			probe->err = -ENOTSUP;
	}
	probe->wanted = !probe->err;
}

static const char *why(int err)
{
	switch (err) {
	case -ENOENT:
		return "the function is not in the program";
	case -ENOTSUP:
		return "the function does not begin as Go 1.17 and later have it";
	}
	return strerror(-err);
}

static void warn_if_failed(struct live *live, const struct live_node *node,
			   const struct live_probe *probe, const char *without)
{
	if (probe->err)
		live_warn(live, "%s (pid %d): %s (%s)", node->relay->comm, (int)probe->pid,
			  without, why(probe->err));
}

/* --- a node's -------------------------------------------------------------------------------- */

void live_probes_attach(struct live *live, struct live_node *node)
{
	find(node, &node->secrets, key_log);
	find(node, &node->drops, record_drop);
	node->secrets.prog = live->skel->progs.secrets_write_key_log;
	node->drops.prog = live->skel->progs.drops_record;
	if (node->secrets.wanted)
		begin(&node->secrets, place);
	if (node->drops.wanted)
		begin(&node->drops, place);
}

void live_probes_wait(struct live *live, struct live_node *node)
{
	wait_for(&node->secrets);
	wait_for(&node->drops);
	warn_if_failed(live, node, &node->secrets,
		       "TLS secrets are taken from its memory alone, no probe");
	warn_if_failed(live, node, &node->drops, "reasons of drops are inferred, no probe");
}

void live_probes_detach(struct live_node *node)
{
	begin_detach(&node->secrets);
	begin_detach(&node->drops);
}

bool live_probes_are_idle(struct live_node *node)
{
	return is_idle(&node->secrets) && is_idle(&node->drops);
}

bool live_probes_are_gone(struct live_node *node)
{
	return is_idle(&node->secrets) && is_idle(&node->drops) && !node->secrets.link &&
	       !node->drops.link;
}

void live_probes_free(struct live_node *node)
{
	live_probes_detach(node);
	wait_for(&node->secrets);
	wait_for(&node->drops);
}

static void tell_detached(struct live *live, struct live_node *node, bool detached)
{
	struct capture_event event = {
		.type = CAPTURE_LOST, .time_ns = clock_now_ns(), .node = node->id,
		.lost = { .drops_detached = detached },
	};

	live_emit(live, &event);
}

void live_probes_count_drop(struct live *live, struct live_node *node)
{
	uint64_t now_ns = clock_now_ns();

	if (now_ns - node->drops_since_ns > DROPS_WINDOW_NS) {
		node->drops_since_ns = now_ns;
		node->drops_counted = 0;
	}
	node->drops_counted++;
	if (!is_idle(&node->drops) || !node->drops.link ||
	    node->drops_counted <= DROPS_PER_SECOND * DROPS_WINDOW_NS / NSEC_PER_SEC)
		return;
	begin_detach(&node->drops);
	node->drops_back_ns = now_ns + (DROPS_BACK_NS << node->drops_floods);
	if (node->drops_floods < DROPS_BACK_MAX)
		node->drops_floods++;
	tell_detached(live, node, true);
}

void live_probes_tick(struct live *live, struct live_node *node, uint64_t now_ns)
{
	if (!is_idle(&node->drops) || !node->drops_floods)
		return;
	if (node->drops.link) {
		if (node->drops_back_ns)
			tell_detached(live, node, false);
		/* A minute without a flood: the next one begins anew. */
		if (node->drops_back_ns || !node->drops_calm_ns)
			node->drops_calm_ns = now_ns;
		node->drops_back_ns = 0;
		if (now_ns - node->drops_calm_ns > 60 * NSEC_PER_SEC)
			node->drops_floods = 0;
	} else if (now_ns >= node->drops_back_ns) {
		node->drops_back_ns = now_ns + DROPS_BACK_NS;
		begin(&node->drops, place);
	}
}
