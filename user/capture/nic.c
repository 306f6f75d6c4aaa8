// SPDX-License-Identifier: BSD-2-Clause
#include "capture/nic.h"

#include <errno.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/clock.h"

#include "derptrace.skel.h"
#include "wire.skel.h"

#define LOOK_NS		NSEC_PER_SEC		/* between looks at interfaces that keep changing */
#define LOOK_ANYWAY_NS	(10 * NSEC_PER_SEC)

/* --- namespaces ------------------------------------------------------------------------------ */

/* Kernels since 5.18 hand over long packets in parts, older ones copy them into one. */
static struct wire_bpf *load(bool parts)
{
	struct wire_bpf *skel = wire_bpf__open();
	struct bpf_program *prog;
	int err;

	if (!skel)
		return NULL;
	skel->rodata->has_parts = parts;
	bpf_object__for_each_program(prog, skel->obj) {
		if (parts)
			bpf_program__set_flags(prog, BPF_F_XDP_HAS_FRAGS);
	}
	err = wire_bpf__load(skel);
	if (!err)
		return skel;
	wire_bpf__destroy(skel);
	errno = -err;
	return NULL;
}

static uint32_t prog_id(const struct bpf_program *prog)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);

	return bpf_obj_get_info_by_fd(bpf_program__fd(prog), &info, &len) ? 0 : info.id;
}

uint64_t nic_run_ns(const void *ctx)
{
	const struct live *live = ctx;
	const struct nic_space *space;
	struct bpf_prog_info info;
	struct bpf_program *prog;
	uint64_t sum_ns = 0;
	uint32_t len;

	for (space = live->nics; space; space = space->next) {
		bpf_object__for_each_program(prog, space->skel->obj) {
			info = (struct bpf_prog_info){ 0 };
			len = sizeof(info);
			if (!bpf_obj_get_info_by_fd(bpf_program__fd(prog), &info, &len))
				sum_ns += info.run_time_ns;
		}
	}
	return sum_ns;
}

static void open_netifs(void *arg)
{
	struct nic_space *space = arg;

	space->netifs = netifs_open();
}

static void space_free(struct live *live, struct nic_space *space)
{
	struct nic_space **at = &live->nics;

	while (*at && *at != space)
		at = &(*at)->next;
	if (*at)
		*at = space->next;
	nic_detach(space);
	nic_stun_free(live, space);
	nic_flows_free(space);
	nic_endpoints_free(space);
	netifs_close(space->netifs);
	wire_bpf__destroy(space->skel);
	free(space);
}

static struct nic_space *space_new(struct live *live, const struct relay_netns *netns)
{
	struct nic_space *space = calloc(1, sizeof(*space));
	int err = -ENOMEM;

	if (!space)
		goto fail;
	space->netns = netns;
	space->skel = load(true);
	if (!space->skel)
		space->skel = load(false);
	err = space->skel ? relay_netns_run(netns, open_netifs, space) : -errno;
	if (!err && !space->netifs)
		err = -EMFILE;
	if (!err)
		err = netifs_look(space->netifs);
	if (err)
		goto fail;
	space->prog_ids[0] = prog_id(space->skel->progs.wire_ethernet);
	space->prog_ids[1] = prog_id(space->skel->progs.wire_bare);
	space->looked_ns = clock_now_ns();
	space->next = live->nics;
	live->nics = space;
	return space;
fail:
	if (!live->nic_refused)
		live_say(live, live->options.xdp != CAPTURE_XDP_AUTO, "network cards are not watched: no "
			 "XDP: %s; all else is traced", strerror(-err));
	live->nic_refused = true;
	if (space)
		space_free(live, space);
	return NULL;
}

static struct nic_space *space_of(struct live *live, const struct relay_netns *netns)
{
	struct nic_space *space;

	for (space = live->nics; space; space = space->next) {
		if (space->netns == netns)
			return space;
	}
	return space_new(live, netns);
}

/* --- counters -------------------------------------------------------------------------------- */

static int read_totals(const struct nic_space *space, uint32_t number, struct abi_wire_totals *sum)
{
	struct abi_wire_totals *each;
	int cpus = libbpf_num_possible_cpus(), i, err;

	memset(sum, 0, sizeof(*sum));
	each = cpus > 0 ? calloc((size_t)cpus, sizeof(*each)) : NULL;
	if (!each)
		return -ENOMEM;
	err = bpf_map_lookup_elem(bpf_map__fd(space->skel->maps.totals), &number, each);
	for (i = 0; !err && i < cpus; i++) {
		sum->packets += each[i].packets;
		sum->bytes += each[i].bytes;
		sum->syn += each[i].syn;
		sum->rst += each[i].rst;
		sum->fin += each[i].fin;
		sum->duplicates += each[i].duplicates;
		sum->stun += each[i].stun;
		sum->partial += each[i].partial;
	}
	free(each);
	return err;
}

static const char *mode_of(const struct nic_space *space)
{
	const struct nic_interface *i;
	bool native = false, generic = false;

	for (i = space->interfaces; i; i = i->next) {
		native |= i->link_fd >= 0 && i->native;
		generic |= i->link_fd >= 0 && !i->native;
	}
	return native ? generic ? "mixed" : "native" : generic ? "generic" : "off";
}

static void name_interfaces(const struct nic_space *space, char *text, size_t size)
{
	const struct nic_interface *i;
	size_t len = 0, n;

	text[0] = '\0';
	for (i = space->interfaces; i; i = i->next) {
		n = strlen(i->name);
		if (i->link_fd < 0 || len + n + 3 > size)
			continue;
		if (len) {
			memcpy(text + len, ", ", 2);
			len += 2;
		}
		memcpy(text + len, i->name, n + 1);
		len += n;
	}
}

static void tell(struct live *live, struct nic_space *space, struct live_node *node)
{
	const struct abi_wire_totals *base = &space->base[node->nic_number];
	struct capture_event event = { .type = CAPTURE_NIC, .time_ns = clock_now_ns(), .node = node->id };
	struct abi_wire_totals now;
	char interfaces[128];

	if (read_totals(space, node->nic_number, &now))
		return;
	nic_stun_read(live, space);
	name_interfaces(space, interfaces, sizeof(interfaces));
	event.nic = (struct capture_nic){
		.mode = mode_of(space), .interfaces = interfaces,
		.packets = now.packets - base->packets, .bytes = now.bytes - base->bytes,
		.syn = now.syn - base->syn, .rst = now.rst - base->rst, .fin = now.fin - base->fin,
		.duplicates = now.duplicates - base->duplicates,
		.stun_in = now.stun - base->stun,
		.stun_heard = space->stun_sums[node->nic_number].requests,
		.stun_out = space->stun_sums[node->nic_number].answers,
		.stun_listens = nic_stun_listens(space, node->nic_number),
		.drops = space->drop_counts[node->nic_number],
	};
	/* One whose cards were never watched has nothing to tell. */
	if (!node->nic_told && !interfaces[0])
		return;
	node->nic_told = true;
	live_emit(live, &event);
}

/* --- nodes ----------------------------------------------------------------------------------- */

void nic_node_up(struct live *live, struct live_node *node)
{
	struct nic_space *space;
	struct live_conn *conn;
	uint32_t number;

	if (live->options.xdp == CAPTURE_XDP_OFF || node->nic)
		return;
	space = space_of(live, node->relay->netns);
	if (!space)
		return;
	for (number = 0; number < ABI_WIRE_NODES && space->nodes[number]; number++)
		;
	if (number == ABI_WIRE_NODES) {
		live_say(live, false, "%s (pid %d): more relays in its network namespace than %d: its "
			 "network card is not watched for it", node->relay->comm, (int)node->relay->pid,
			 ABI_WIRE_NODES);
		return;
	}
	space->nodes[number] = node;
	node->nic = space;
	node->nic_number = number;
	read_totals(space, number, &space->base[number]);
	space->stun_sums[number] = (struct nic_stun_sum){ 0, 0 };
	space->drop_counts[number] = 0;
	live->skel->bss->handshakes_wanted = 1;
	nic_stun_update(live, space, true);
	nic_endpoints_update(live, space);
	nic_attach(live, space);
	LIVE_EACH_CONN(live, conn) {
		if (conn->node == node && !conn->closed)
			nic_dial(live, conn);
	}
}

void nic_node_gone(struct live *live, struct live_node *node)
{
	struct nic_space *space = node->nic;
	uint32_t number;

	if (!space)
		return;
	space->nodes[node->nic_number] = NULL;
	node->nic = NULL;
	for (number = 0; number < ABI_WIRE_NODES; number++) {
		if (space->nodes[number])
			return;
	}
	space_free(live, space);
}

static uint64_t sum_listeners(const struct nic_space *space)
{
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < ABI_WIRE_NODES; i++) {
		if (space->nodes[i])
			sum += space->nodes[i]->relay->listening_sum * (i + 1);
	}
	return sum;
}

static void follow(struct live *live, struct nic_space *space, uint64_t now_ns)
{
	uint64_t sum = sum_listeners(space);
	bool stun = now_ns - space->udp_ns >= LOOK_NS && nic_stun_update(live, space, false);
	uint64_t after_ns = netifs_changed(space->netifs) ? LOOK_NS : LOOK_ANYWAY_NS;

	if (now_ns - space->udp_ns >= LOOK_NS)
		space->udp_ns = now_ns;
	if (sum == space->listening_sum && !stun && now_ns - space->looked_ns < after_ns)
		return;
	space->listening_sum = sum;
	space->looked_ns = now_ns;
	if (netifs_look(space->netifs))
		return;
	nic_endpoints_update(live, space);
	nic_attach(live, space);
}

void nic_tick(struct live *live, uint64_t now_ns)
{
	struct nic_space *space;
	uint32_t number;

	for (space = live->nics; space; space = space->next) {
		follow(live, space, now_ns);
		nic_flows_look(live, space, now_ns);
		for (number = 0; number < ABI_WIRE_NODES; number++) {
			if (space->nodes[number])
				tell(live, space, space->nodes[number]);
		}
	}
}
