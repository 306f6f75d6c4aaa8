// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * TLS secrets of new connections: Go calls crypto/tls.(*Config).writeKeyLog(label string,
 * clientRandom, secret []byte) error on every handshake, whether a key log is wanted or not.
 */
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

#include "abi.h"
#include "maps.bpf.h"
#include "emit.bpf.h"
#include "relay.bpf.h"
#include "goregs.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("uprobe")
int secrets_write_key_log(struct pt_regs *ctx)
{
	__u64 label_len = GO_ARG2(ctx), random_len = GO_ARG4(ctx), secret_len = GO_ARG7(ctx);
	__u32 slot = relay_slot(false);
	struct abi_secret *r;

	if (!slot || slot_is_muted(slot) || label_len > ABI_LABEL_LEN || random_len != sizeof(r->random) ||
	    secret_len > ABI_SECRET_LEN)
		return 0;
	r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);
	if (!r) {
		__sync_fetch_and_add(&lost.secrets, 1);
		return 0;
	}
	__builtin_memset(r, 0, sizeof(*r));
	r->type = ABI_SECRET;
	r->label_len = label_len;
	r->random_len = random_len;
	r->secret_len = secret_len;
	r->slot = slot;
	r->time_ns = bpf_ktime_get_ns();
	/* Whole fields are read where the page allows: lengths say what is meant. */
	if (bpf_probe_read_user(r->label, sizeof(r->label), (void *)GO_ARG1(ctx)) &&
	    bpf_probe_read_user(r->label, 24, (void *)GO_ARG1(ctx)))
		r->label_len = 0;
	if (bpf_probe_read_user(r->random, sizeof(r->random), (void *)GO_ARG3(ctx)))
		r->random_len = 0;
	if (secret_len == 32 ? bpf_probe_read_user(r->secret, 32, (void *)GO_ARG6(ctx)) :
			       bpf_probe_read_user(r->secret, 48, (void *)GO_ARG6(ctx)))
		r->secret_len = 0;
	emit_submit(r);
	return 0;
}
