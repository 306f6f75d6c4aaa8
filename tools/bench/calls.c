// SPDX-License-Identifier: BSD-2-Clause
/*
 * The stand-in's other half: `calls PROGRAM` places probes at the entry of PROGRAM's crypto/tls
 * Read and Write, says "ready", takes what they hand over until SIGTERM, and says how much that was.
 */
#include <signal.h>
#include <stdio.h>

#include <bpf/libbpf.h>
#include <linux/types.h>

#include "calls.skel.h"

static volatile sig_atomic_t ended;
static unsigned long long calls, bytes;

static void on_signal(int number)
{
	(void)number;
	ended = 1;
}

static int on_call(void *ctx, void *data, size_t len)
{
	(void)ctx;
	calls++;
	bytes += ((const __u64 *)data)[1] > len ? len : ((const __u64 *)data)[1];
	return 0;
}

static int attach(struct bpf_program *prog, struct bpf_link **link, const char *path,
		  const char *function)
{
	LIBBPF_OPTS(bpf_uprobe_opts, opts, .func_name = function);

	*link = bpf_program__attach_uprobe_opts(prog, -1, path, 0, &opts);
	return *link ? 0 : -1;
}

int main(int argc, char **argv)
{
	struct ring_buffer *ring = NULL;
	struct calls *skel;
	int ret = 1;

	if (argc != 2) {
		fprintf(stderr, "usage: calls PROGRAM\n");
		return 2;
	}
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	skel = calls__open_and_load();
	if (!skel)
		goto cleanup;
	ring = ring_buffer__new(bpf_map__fd(skel->maps.ring), on_call, NULL, NULL);
	if (!ring ||
	    attach(skel->progs.call_write, &skel->links.call_write, argv[1],
		   "crypto/tls.(*Conn).Write") ||
	    attach(skel->progs.call_read, &skel->links.call_read, argv[1], "crypto/tls.(*Conn).Read"))
		goto cleanup;
	puts("ready");
	fflush(stdout);
	while (!ended && ring_buffer__poll(ring, 100) >= 0)
		;
	printf("%llu calls, %llu bytes, %llu lost\n", calls, bytes,
	       (unsigned long long)skel->bss->lost);
	ret = 0;
cleanup:
	ring_buffer__free(ring);
	calls__destroy(skel);
	return ret;
}
