// SPDX-License-Identifier: BSD-2-Clause
/* Lost packets: booked one by one, told once, taken together by pair, cause and connections. */
#include "ledger/internal.h"

#include <stdlib.h>

#define LOSS_ROWS	65536u	/* more kinds than that in one snapshot are told of no connection */

static uint64_t loss_hash(const struct ledger *l, const struct record_loss *rec)
{
	return hash_words(&l->seed, hash_key(&l->seed, &rec->src) + rec->in_conn,
			  hash_key(&l->seed, &rec->dst) + rec->out_conn,
			  rec->reason << 8 | rec->basis << 4 | rec->from_mesh);
}

static struct loss *loss_find(const struct ledger *l, const struct record_loss *rec, uint64_t hash)
{
	struct chain *c;

	for (c = chains_find(&l->losses, hash); c; c = chains_again(c)) {
		struct loss *loss = ITEM_OF(c, struct loss, chain);

		if (key_equal(&loss->rec.src, &rec->src) && key_equal(&loss->rec.dst, &rec->dst) &&
		    loss->rec.reason == rec->reason && loss->rec.basis == rec->basis &&
		    loss->rec.from_mesh == rec->from_mesh && loss->rec.in_conn == rec->in_conn &&
		    loss->rec.out_conn == rec->out_conn)
			return loss;
	}
	return NULL;
}

static struct loss *loss_get(struct ledger *l, struct record_loss *rec)
{
	uint64_t hash = loss_hash(l, rec);
	struct loss *loss = loss_find(l, rec, hash);

	if (loss)
		return loss;
	if (l->losses.count >= LOSS_ROWS) {
		memset(&rec->src, 0, sizeof(rec->src));
		memset(&rec->dst, 0, sizeof(rec->dst));
		rec->in_conn = rec->out_conn = 0;
		hash = loss_hash(l, rec);
		loss = loss_find(l, rec, hash);
		if (loss)
			return loss;
	}
	loss = calloc(1, sizeof(*loss));
	if (!loss || !chains_add(&l->losses, &loss->chain, hash)) {
		free(loss);
		return NULL;
	}
	loss->rec = *rec;
	if (l->loss_last)
		l->loss_last->next = loss;
	else
		l->loss_list = loss;
	l->loss_last = loss;
	return loss;
}

static struct loss *loss_of(struct ledger *l, const struct item *i, enum record_reason reason,
			    enum record_basis basis, uint64_t out_conn)
{
	struct record_loss rec = {
		.src = i->pair->src->key,
		.dst = i->pair->dst->key,
		.reason = reason,
		.basis = basis,
		.from_mesh = i->hop == HOP_MESH_IN,
		.in_conn = i->conn ? i->conn->id : 0,
		.out_conn = out_conn,
		.first_ns = i->time_ns,
	};

	/* Of a pair without a row it is told all the same whom it was for: why depends on where that one was. */
	if (i->pair == l->other && i->dst)
		rec.dst = i->dst->key;
	return loss_get(l, &rec);
}

static void book(struct ledger *l, struct pair *p)
{
	l->node_dirty = true;
	ledger_pair_dirty(l, p);
}

void ledger_book_lost(struct ledger *l, const struct item *i, enum record_reason reason,
		      enum record_basis basis, const struct conn *out)
{
	uint32_t packets = item_packets(i);
	struct loss *loss;

	l->books.lost += packets;
	l->unflushed += reason == REASON_UNFLUSHED ? packets : 0;
	i->pair->lost += packets;
	book(l, i->pair);
	loss = loss_of(l, i, reason, basis, out ? out->id : 0);
	if (!loss)
		return;
	loss->rec.count += packets;
	loss->rec.bytes += item_bytes(i);
	if (i->time_ns < loss->rec.first_ns)
		loss->rec.first_ns = i->time_ns;
	if (i->time_ns > loss->rec.last_ns)
		loss->rec.last_ns = i->time_ns;
}

void ledger_book_back(struct ledger *l, const struct item *gone, uint32_t packets, uint64_t bytes)
{
	struct pair *p = gone->pair;
	struct loss *loss;

	book(l, p);
	if (!gone->no) {
		l->books.untraced -= packets;
		p->untraced -= packets;
		return;
	}
	l->books.lost -= packets;
	l->unflushed -= gone->no == REASON_UNFLUSHED ? packets : 0;
	p->lost -= packets;
	loss = loss_of(l, gone, gone->no, gone->unclean ? BASIS_WIRE : BASIS_INFERRED, gone->pos);
	if (!loss)
		return;
	/* Of those that are not told yet first. */
	if (loss->rec.count < packets) {
		loss->rec.back += packets - (uint32_t)loss->rec.count;
		packets = loss->rec.count;
	}
	loss->rec.count -= packets;
	loss->rec.bytes -= bytes < loss->rec.bytes && loss->rec.count ? bytes : loss->rec.bytes;
}

int ledger_losses_tell(struct ledger *l, struct record *r, const struct record_sink *sink)
{
	struct loss *loss;
	int err = 0;

	r->type = RECORD_LOSS;
	while ((loss = l->loss_list)) {
		l->loss_list = loss->next;
		r->loss = loss->rec;
		if (!err && (r->loss.count || r->loss.back))
			err = sink->put(sink->ctx, r);
		free(loss);
	}
	l->loss_last = NULL;
	chains_free(&l->losses);
	return err;
}

void ledger_losses_free(struct ledger *l)
{
	struct loss *loss;

	while ((loss = l->loss_list)) {
		l->loss_list = loss->next;
		free(loss);
	}
	chains_free(&l->losses);
}
