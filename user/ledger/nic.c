// SPDX-License-Identifier: BSD-2-Clause
/* What reached the node's network card: its counters as they are, and of what was dropped the newest. */
#include "ledger/internal.h"

#include <string.h>

static void copy_text(char *to, size_t size, const char *from)
{
	if (from)
		strncpy(to, from, size - 1);
}

void ledger_nic(struct ledger *l, const struct capture_nic *nic)
{
	struct record_nic now;

	memset(&now, 0, sizeof(now));
	now.packets = nic->packets;
	now.bytes = nic->bytes;
	now.syn = nic->syn;
	now.rst = nic->rst;
	now.fin = nic->fin;
	now.duplicates = nic->duplicates;
	now.stun_in = nic->stun_in;
	now.stun_heard = nic->stun_heard;
	now.stun_out = nic->stun_out;
	now.stun_listens = nic->stun_listens;
	now.drops = nic->drops;
	copy_text(now.mode, sizeof(now.mode), nic->mode);
	copy_text(now.interfaces, sizeof(now.interfaces), nic->interfaces);
	l->nic_dirty |= !l->has_nic || memcmp(&now, &l->nic, sizeof(now));
	l->has_nic = true;
	l->nic = now;
}

static struct nic_drop *place(struct ledger *l, const struct capture_nic_drop *drop)
{
	struct nic_drop *d, *oldest = &l->nic_drops[0];
	size_t i;

	for (i = 0; i < l->nic_drop_count; i++) {
		d = &l->nic_drops[i];
		if (addr_equal(&d->rec.remote, &drop->remote) &&
		    addr_equal(&d->rec.local, &drop->local))
			return d;
		if (d->rec.last_ns < oldest->rec.last_ns)
			oldest = d;
	}
	return l->nic_drop_count < NIC_DROPS_KEPT ? &l->nic_drops[l->nic_drop_count++] : oldest;
}

void ledger_nic_drop(struct ledger *l, const struct capture_event *e)
{
	const struct capture_nic_drop *drop = &e->nic_drop;
	struct nic_drop *d = place(l, drop);

	d->rec = (struct record_nic_drop){
		.kind = drop->kind, .conn = e->conn, .local = drop->local, .remote = drop->remote,
		.packets = drop->packets, .bytes = drop->bytes,
		.first_ns = drop->first_ns, .last_ns = drop->last_ns,
	};
	d->dirty = true;
}

int ledger_nic_tell(struct ledger *l, struct record *r, bool all, const struct record_sink *sink)
{
	size_t i;
	int err = 0;

	if (l->has_nic && (l->nic_dirty || all)) {
		l->nic_dirty = false;
		r->type = RECORD_NIC;
		r->nic = l->nic;
		err = sink->put(sink->ctx, r);
	}
	for (i = 0; !err && i < l->nic_drop_count; i++) {
		if (!l->nic_drops[i].dirty && !all)
			continue;
		l->nic_drops[i].dirty = false;
		r->type = RECORD_NIC_DROP;
		r->nic_drop = l->nic_drops[i].rec;
		err = sink->put(sink->ctx, r);
	}
	return err;
}
