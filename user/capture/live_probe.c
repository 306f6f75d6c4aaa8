// SPDX-License-Identifier: BSD-2-Clause
/*
 * Probes in a relay's own code: TLS secrets of new connections, and its drop path. Each sits where
 * the kernel emulates the instruction. A relay that drops tens of thousands of packets a
 * second would feel even that: then the probe is taken away for a while.
 */
#include <errno.h>
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

static int attach(struct live_node *node, struct live_probe *probe, const struct bpf_program *prog)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)node->relay->pid);
	probe->link = bpf_program__attach_uprobe(prog, false, node->relay->pid, path,
						 probe->file_off);
	return probe->link ? 0 : -errno;
}

static void find_and_attach(struct live *live, struct live_node *node, struct live_probe *probe,
			    const struct bpf_program *prog, const char *const *names,
			    const char *without)
{
	struct gobin_function function;
	int err = -ENOENT;

	for (; *names && err; names++)
		err = gobin_function(node->relay->bin, *names, &function);
	if (!err)
		err = gobin_probe_offset(node->relay->bin, &function, &probe->file_off);
	probe->wanted = !err;
	if (!err)
		err = attach(node, probe, prog);
	if (err)
		live_warn(live, "%s (pid %d): %s (%s)", node->relay->comm, (int)node->relay->pid,
			  without, err == -ENOENT ? "the function is not in the program" :
						    strerror(-err));
}

void live_probes_attach(struct live *live, struct live_node *node)
{
	find_and_attach(live, node, &node->secrets, live->skel->progs.secrets_write_key_log,
			key_log, "TLS secrets are taken from its memory alone, no probe");
	find_and_attach(live, node, &node->drops, live->skel->progs.drops_record, record_drop,
			"reasons of drops are inferred, no probe");
}

static void detach(struct live_probe *probe)
{
	bpf_link__destroy(probe->link);
	probe->link = NULL;
}

void live_probes_detach(struct live_node *node)
{
	detach(&node->secrets);
	detach(&node->drops);
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
	if (!node->drops.link ||
	    node->drops_counted <= DROPS_PER_SECOND * DROPS_WINDOW_NS / NSEC_PER_SEC)
		return;
	detach(&node->drops);
	node->drops_back_ns = now_ns + (DROPS_BACK_NS << node->drops_floods);
	if (node->drops_floods < DROPS_BACK_MAX)
		node->drops_floods++;
	tell_detached(live, node, true);
}

void live_probes_tick(struct live *live, struct live_node *node, uint64_t now_ns)
{
	if (node->drops.link) {
		/* A minute without a flood: the next one begins anew. */
		if (node->drops_floods && now_ns > node->drops_back_ns + 60 * NSEC_PER_SEC)
			node->drops_floods = 0;
		return;
	}
	if (!node->drops.wanted || !node->drops_floods || node->ended ||
	    now_ns < node->drops_back_ns)
		return;
	if (!attach(node, &node->drops, live->skel->progs.drops_record))
		tell_detached(live, node, false);
	else
		node->drops_back_ns = now_ns + DROPS_BACK_NS;
}
