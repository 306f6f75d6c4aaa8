// SPDX-License-Identifier: BSD-2-Clause
/* A ledger's life, the events of capture that are about its node, and time. */
#include "ledger/tell.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#define MAX_CONNECTIONS	65536u
#define MAX_PAIRS	262144u
#define MAX_IN_FLIGHT	262144u
#define MIN_IN_FLIGHT	16u
#define MAX_ITEMS	(1u << 28)

static void set_limits(struct ledger *l, const struct ledger_limits *limits)
{
	if (limits)
		l->limits = *limits;
	if (!l->limits.max_connections)
		l->limits.max_connections = MAX_CONNECTIONS;
	if (!l->limits.max_pairs)
		l->limits.max_pairs = MAX_PAIRS;
	if (!l->limits.max_in_flight)
		l->limits.max_in_flight = MAX_IN_FLIGHT;
	if (l->limits.max_in_flight < MIN_IN_FLIGHT)
		l->limits.max_in_flight = MIN_IN_FLIGHT;
	if (l->limits.max_in_flight > MAX_ITEMS)
		l->limits.max_in_flight = MAX_ITEMS;
}

static void copy_text(char *to, size_t size, const char *from)
{
	if (from)
		strncpy(to, from, size - 1);
}

struct ledger *ledger_new(uint32_t node, uint64_t agent, const struct capture_node_up *up,
			  uint64_t now_ns, const struct ledger_limits *limits)
{
	struct ledger *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	set_limits(l, limits);
	l->node = node;
	l->agent = agent;
	l->start_ns = l->now_ns = l->alive_ns = now_ns;
	l->info.since_ns = now_ns;
	l->node_dirty = true;
	if (up) {
		l->info.pid = up->pid;
		copy_text(l->info.name, sizeof(l->info.name), up->name);
		copy_text(l->info.software, sizeof(l->info.software), up->software);
		copy_text(l->info.tls_name, sizeof(l->info.tls_name), up->hostname);
	}
	if (getrandom(&l->seed, sizeof(l->seed), 0) != sizeof(l->seed) || ledger_items_init(l))
		goto fail;
	shared_init(&l->names, sizeof(struct stream_names), l->seed.w[0]);
	l->nobody = ledger_peer_unknown(l);
	l->other = l->nobody ? ledger_pair_get(l, l->nobody, l->nobody) : NULL;
	if (!l->other)
		goto fail;
	return l;
fail:
	ledger_free(l);
	return NULL;
}

static void free_pairs(struct ledger *l, struct chains *t)
{
	struct chain *c, *next;

	for (c = chains_first(t); c; c = next) {
		next = chains_next(t, c);
		chains_del(t, c);
		ledger_pair_free(l, ITEM_OF(c, struct pair, chain));
	}
	chains_free(t);
}

void ledger_free(struct ledger *l)
{
	struct list *lists[] = { &l->entries, &l->waiting, &l->ghosts, &l->gones };
	struct chain *c, *next;
	size_t i;

	if (!l)
		return;
	for (i = 0; l->items && i < sizeof(lists) / sizeof(lists[0]); i++) {
		while (lists[i]->head)
			ledger_item_del(l, lists[i]->head);
	}
	for (c = chains_first(&l->conns); c; c = next) {
		next = chains_next(&l->conns, c);
		ledger_conn_free(l, ITEM_OF(c, struct conn, chain));
	}
	ledger_conn_free(l, l->overflow);
	ledger_dormant_free(l);
	shared_clear(&l->names);
	ledger_resting_free(l);
	free_pairs(l, &l->pairs);
	free_pairs(l, &l->unknown_pairs);
	ledger_rows_free(l);
	ledger_losses_free(l);
	if (l->nobody)
		ledger_peer_put(l, l->nobody);
	chains_free(&l->conns);
	chains_free(&l->peers);
	chains_free(&l->presences);
	chains_free(&l->links);
	numbers_free(&l->peer_numbers);
	free(l->resting.numbered);
	numbers_free(&l->pair_numbers);
	free(l->same);
	free(l->by_digest);
	free(l->items);
	free(l);
}

void ledger_server_key(struct ledger *l, const struct key *key)
{
	if (key_is_zero(key) || key_equal(&l->info.key, key))
		return;
	l->info.key = *key;
	l->node_dirty = true;
}

static void on_peer(struct ledger *l, const struct capture_event *e)
{
	struct conn *c = ledger_conn_get(l, e->conn, e->time_ns);

	if (!c || c->shared)
		return;
	if (e->peer.is_server)
		ledger_conn_role(c, CAPTURE_DIALLED);
	else
		ledger_conn_role(c, CAPTURE_ACCEPTED);
	ledger_conn_kind(l, c, c->role == CAPTURE_DIALLED ? CONN_MESH_OUT : CONN_CLIENT);
	ledger_conn_identify(l, c, &e->peer.key, IDENTITY_CLAIM, e->time_ns);
}

static void on_ended(struct ledger *l, uint64_t time_ns)
{
	l->info.ended_ns = time_ns;
	l->node_dirty = true;
}

/* A process that has ended holds nothing any more. */
static void on_down(struct ledger *l, uint64_t time_ns)
{
	struct conn *c;

	l->down = true;
	if (!l->info.ended_ns)
		on_ended(l, time_ns);
	ledger_dormant_wake_all(l);
	EACH_CONN(l, c) {
		struct capture_event e = { .type = CAPTURE_CONN_CLOSE, .time_ns = time_ns,
					   .conn = c->id };

		e.close.how = CAPTURE_CLOSED_UNKNOWN;
		if (!c->closed_ns)
			ledger_conn_close(l, &e);
	}
	ledger_end(l, time_ns);
	ledger_conns_tick(l);
	ledger_fate_tick(l, true);
}

void ledger_event(struct ledger *l, const struct capture_event *e)
{
	if (e->time_ns > l->now_ns)
		l->now_ns = e->time_ns;
	switch (e->type) {
	case CAPTURE_NODE_ENDED:
		on_ended(l, e->time_ns);
		break;
	case CAPTURE_NODE_DOWN:
		on_down(l, e->time_ns);
		break;
	case CAPTURE_CONN_OPEN:
		ledger_conn_open(l, e);
		break;
	case CAPTURE_SEGMENT:
		ledger_segment(l, e);
		break;
	case CAPTURE_CONN_CLOSE:
		ledger_conn_close(l, e);
		break;
	case CAPTURE_PEER:
		on_peer(l, e);
		break;
	case CAPTURE_SERVER_KEY:
		ledger_server_key(l, &e->server_key);
		break;
	case CAPTURE_DROP:
		ledger_drop(l, e);
		break;
	case CAPTURE_LATENCY:
		ledger_latency(l, e);
		break;
	case CAPTURE_NIC:
		ledger_nic(l, &e->nic);
		break;
	case CAPTURE_NIC_DROP:
		ledger_nic_drop(l, e);
		break;
	case CAPTURE_LOST:
		/* A connection, and who is on it, may have come unseen. */
		if (e->lost.segments)
			l->ambiguous_ns = l->now_ns;
		break;
	case CAPTURE_STEP:
		l->deaf = e->step.to == CAPTURE_LEVEL_OFF;
		l->ambiguous_ns = l->now_ns;
		break;
	default:
		break;
	}
}

static void sweep(struct ledger *l)
{
	if (l->now_ns < l->swept_ns + SECOND_NS)
		return;
	l->swept_ns = l->now_ns;
	ledger_conns_sweep(l);
	ledger_dormant_sweep(l);
	ledger_presences_sweep(l);
	ledger_resting_sweep(l);
}

void ledger_tick(struct ledger *l, uint64_t now_ns)
{
	if (now_ns > l->now_ns)
		l->now_ns = now_ns;
	l->tick++;
	l->tick_before_ns = l->tick_ns;
	l->tick_ns = l->now_ns;
	if (l->deaf)
		l->ambiguous_ns = l->now_ns;
	ledger_conns_tick(l);
	ledger_still_tick(l);
	ledger_waiting_tick(l, false);
	ledger_fate_tick(l, l->down);
	sweep(l);
}

static uint32_t key_word(const struct key *key)
{
	uint32_t w;

	memcpy(&w, key->b, sizeof(w));
	return w ? w : 1;
}

void ledger_meet(struct peer *a, struct peer *b)
{
	if (!a->group && !b->group && !key_is_zero(&a->key) && !key_is_zero(&b->key))
		a->group = b->group = key_word(key_compare(&a->key, &b->key) < 0 ? &a->key : &b->key);
	if (!a->group && !key_is_zero(&a->key))
		a->group = key_word(&a->key);
	if (!b->group && !key_is_zero(&b->key))
		b->group = key_word(&b->key);
}

uint32_t ledger_group(struct ledger *l, uint64_t conn, bool *link)
{
	struct conn resting;
	const struct conn *c = ledger_dormant_look(l, conn, &resting) ? &resting :
								       ledger_conn_known(l, conn);
	uint32_t own = key_word(&l->info.key);

	*link = c && (c->kind == CONN_MESH_IN || c->kind == CONN_MESH_OUT);
	if (!c)
		return 0;
	if (c->kind == CONN_MESH_OUT)
		return c->server ? own + key_word(c->server) : 0;
	if (!c->peer)
		return 0;
	return c->kind == CONN_MESH_IN ? own + key_word(&c->peer->key) : c->peer->group;
}

void ledger_end(struct ledger *l, uint64_t now_ns)
{
	if (now_ns > l->now_ns)
		l->now_ns = now_ns;
	ledger_waiting_tick(l, true);
	ledger_passed_tick(l, true);
}

uint64_t ledger_oldest_ns(const struct ledger *l)
{
	uint64_t oldest_ns = UINT64_MAX;

	if (l->entries.head)
		oldest_ns = l->items[l->entries.head].time_ns;
	if (l->passed.head && l->items[l->passed.head].time_ns < oldest_ns)
		oldest_ns = l->items[l->passed.head].time_ns;
	return oldest_ns;
}
