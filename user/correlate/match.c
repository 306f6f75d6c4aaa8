/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The two ends of one TCP connection between nodes, each told by its own node. What proves it, best
 * first: the same TLS client random (proxies and NAT leave it alone), mirrored addresses at one time
 * (network namespaces may use the same ones), the same packets on both, the two server keys.
 * Where several would fit, the pair whose beginnings are nearest is taken first.
 */
#include "correlate/analysis.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Clocks of one host agree; those of two may be off by this much before addresses prove nothing. */
#define SLACK_HOST_NS	(2 * NSEC_PER_SEC)
#define SLACK_HOSTS_NS	(600 * NSEC_PER_SEC)

enum proof { BY_TAG, BY_TUPLE, BY_MARKS, BY_KEYS };

struct fit {
	enum proof proof;
	uint64_t apart;		/* smaller is better */
	uint32_t dial, accept;	/* places in the lists */
};

struct lists {
	struct conn **dials, **accepts;
	size_t dial_count, dial_cap, accept_count, accept_cap;
	uint32_t *next;		/* of each dial: the next with the same number in the table */
	struct table table;
	struct fit *fits;
	size_t fit_count, fit_cap;
	bool *dial_taken, *accept_taken;
};

static uint64_t tuple_hash(const struct addr *near, const struct addr *far)
{
	uint64_t h = near->port * 0x10001ull + far->port, w;
	int i;

	for (i = 0; i < 16; i += 8) {
		memcpy(&w, near->ip + i, 8);
		h = (h ^ w) * 0x9fb21c651e98df25ull;
		h ^= h >> 32;
		memcpy(&w, far->ip + i, 8);
		h = (h ^ w) * 0xd6e8feb86659fd93ull;
		h ^= h >> 29;
	}
	return h >> 1;
}

static uint64_t conn_end(const struct conn *conn)
{
	return conn->rec.closed_ns ? conn->rec.closed_ns : conn->told_ns;
}

static bool at_one_time(const struct analysis *a, const struct conn *x, const struct conn *y)
{
	uint64_t slack = a->c->lives[x->life]->agent == a->c->lives[y->life]->agent ?
			 SLACK_HOST_NS : SLACK_HOSTS_NS;

	return x->rec.opened_ns <= conn_end(y) + slack && y->rec.opened_ns <= conn_end(x) + slack;
}

static uint64_t apart(const struct conn *x, const struct conn *y)
{
	return x->rec.opened_ns > y->rec.opened_ns ? x->rec.opened_ns - y->rec.opened_ns :
						     y->rec.opened_ns - x->rec.opened_ns;
}

static int fit_add(struct lists *l, enum proof proof, uint64_t distance, uint32_t dial,
		   uint32_t accept)
{
	if (!VEC_ROOM(l->fits, l->fit_count, l->fit_cap))
		return -ENOMEM;
	l->fits[l->fit_count++] = (struct fit){ proof, distance, dial, accept };
	return 0;
}

/* Puts the dials into the table under numbers of which 0 means none. */
static int table_fill(struct lists *l, uint64_t (*number)(const struct conn *))
{
	uint32_t *head;
	size_t i;

	table_free(&l->table);
	for (i = l->dial_count; i-- > 0;) {
		uint64_t key = l->dial_taken[i] ? 0 : number(l->dials[i]);

		l->next[i] = NONE;
		if (!key)
			continue;
		head = table_find(&l->table, key);
		if (head)
			l->next[i] = *head;
		if (table_put(&l->table, key, i) < 0)
			return -ENOMEM;
	}
	return 0;
}

static uint64_t dial_tuple(const struct conn *conn)
{
	return tuple_hash(&conn->rec.remote, &conn->rec.local);
}

static uint64_t accept_tuple(const struct conn *conn)
{
	return tuple_hash(&conn->rec.local, &conn->rec.remote);
}

static uint64_t conn_tag(const struct conn *conn)
{
	return conn->rec.tag;
}

static bool fits_tag(const struct analysis *a, const struct conn *dial, const struct conn *accept)
{
	(void)a;
	return dial->rec.tag == accept->rec.tag;
}

static bool fits_tuple(const struct analysis *a, const struct conn *dial, const struct conn *accept)
{
	if (dial->rec.tag && accept->rec.tag && dial->rec.tag != accept->rec.tag)
		return false;
	return addr_equal(&dial->rec.local, &accept->rec.remote) &&
	       addr_equal(&dial->rec.remote, &accept->rec.local) && at_one_time(a, dial, accept);
}

/* By equal numbers: tags, or addresses. */
static int fit_numbers(const struct analysis *a, struct lists *l, enum proof proof,
		       uint64_t (*dial_number)(const struct conn *),
		       uint64_t (*accept_number)(const struct conn *),
		       bool (*fits)(const struct analysis *, const struct conn *, const struct conn *))
{
	size_t i;

	if (table_fill(l, dial_number) < 0)
		return -ENOMEM;
	for (i = 0; i < l->accept_count; i++) {
		uint64_t key = l->accept_taken[i] ? 0 : accept_number(l->accepts[i]);
		uint32_t *at = key ? table_find(&l->table, key) : NULL, d;

		for (d = at ? *at : NONE; d != NONE; d = l->next[d]) {
			if (fits(a, l->dials[d], l->accepts[i]) &&
			    fit_add(l, proof, apart(l->dials[d], l->accepts[i]), d, i) < 0)
				return -ENOMEM;
		}
	}
	return 0;
}

static bool same_packet(const struct mark *x, const struct mark *y)
{
	return x->digest == y->digest && x->len == y->len && x->pair == y->pair;
}

/* Of several alike, as a peer sends that repeats itself, nobody can tell which is which. */
static int marks_index(const struct marks *m, struct table *t)
{
	uint32_t *at;
	size_t i;

	for (i = 0; i < m->count; i++) {
		at = table_find(t, m->v[i].digest >> 1);
		if (at)
			*at = NONE;
		else if (table_put(t, m->v[i].digest >> 1, i) < 0)
			return -ENOMEM;
	}
	return 0;
}

int match_each_mark(const struct conn *out, const struct conn *in, match_mark_fn *each, void *ctx)
{
	const struct marks *sent = &out->mesh->marks, *arrived = &in->mesh->marks;
	struct table at_out = { 0 }, at_in = { 0 };
	int err = marks_index(sent, &at_out);
	uint32_t *x, *y;
	size_t i;

	if (!err)
		err = marks_index(arrived, &at_in);
	for (i = 0; !err && i < arrived->count; i++) {
		x = table_find(&at_out, arrived->v[i].digest >> 1);
		y = table_find(&at_in, arrived->v[i].digest >> 1);
		if (x && *x != NONE && y && *y == i && same_packet(&sent->v[*x], &arrived->v[i]))
			each(ctx, &sent->v[*x], &arrived->v[i]);
	}
	table_free(&at_out);
	table_free(&at_in);
	return err;
}

struct latest {
	const struct mark *out, *in;
};

static void latest_set(void *ctx, const struct mark *out, const struct mark *in)
{
	*(struct latest *)ctx = (struct latest){ out, in };
}

bool match_marks(const struct conn *out, const struct conn *in, const struct mark **at_out,
		 const struct mark **at_in)
{
	struct latest latest = { NULL, NULL };

	if (match_each_mark(out, in, latest_set, &latest) < 0 || !latest.out)
		return false;
	*at_out = latest.out;
	*at_in = latest.in;
	return true;
}

static bool is_mesh_end(const struct conn *conn)
{
	return conn->rec.kind == CONN_MESH_OUT || conn->rec.kind == CONN_MESH_IN;
}

/* Two mesh ends that no address joins, in front of and behind a proxy: few, so each with each. */
static int fit_rest(const struct analysis *a, struct lists *l, enum proof proof)
{
	const struct mark *x, *y;
	size_t i, j;

	for (i = 0; i < l->dial_count; i++) {
		const struct conn *dial = l->dials[i];
		const struct key *own = &a->c->lives[dial->life]->info.key;

		if (l->dial_taken[i] || !is_mesh_end(dial))
			continue;
		for (j = 0; j < l->accept_count; j++) {
			const struct conn *accept = l->accepts[j];
			const struct key *far = &a->c->lives[accept->life]->info.key;

			if (l->accept_taken[j] || !is_mesh_end(accept) ||
			    dial->life == accept->life || !at_one_time(a, dial, accept))
				continue;
			if (proof == BY_MARKS ? !match_marks(dial, accept, &x, &y) :
			    key_is_zero(own) || key_is_zero(far) ||
			    !key_equal(&a->c->peers[accept->peer], own) || !key_equal(&a->c->peers[dial->peer], far))
				continue;
			if (fit_add(l, proof, apart(dial, accept), i, j) < 0)
				return -ENOMEM;
		}
	}
	return 0;
}

#define CMP(x, y) do { if ((x) != (y)) return (x) < (y) ? -1 : 1; } while (0)

static int best_first(const void *pa, const void *pb)
{
	const struct fit *x = pa, *y = pb;

	CMP(x->apart, y->apart);
	CMP(x->dial, y->dial);
	CMP(x->accept, y->accept);
	return 0;
}

/* Takes the fits that were found, nearest first. */
static int fits_take(struct analysis *a, struct lists *l)
{
	size_t i;

	if (l->fit_count)
		qsort(l->fits, l->fit_count, sizeof(*l->fits), best_first);
	for (i = 0; i < l->fit_count; i++) {
		const struct fit *f = &l->fits[i];

		if (l->dial_taken[f->dial] || l->accept_taken[f->accept])
			continue;
		if (!VEC_ROOM(a->mates, a->mate_count, a->mate_cap) ||
		    table_put(&a->mate_of, (uintptr_t)l->dials[f->dial], a->mate_count) < 0 ||
		    table_put(&a->mate_of, (uintptr_t)l->accepts[f->accept], a->mate_count) < 0)
			return -ENOMEM;
		a->mates[a->mate_count].dial = l->dials[f->dial];
		a->mates[a->mate_count++].accept = l->accepts[f->accept];
		l->dial_taken[f->dial] = l->accept_taken[f->accept] = true;
	}
	l->fit_count = 0;
	return 0;
}

/* In the nodes' order, so that the order in which they were told decides nothing. */
static int lists_fill(struct analysis *a, struct lists *l)
{
	size_t i, j;

	for (i = 0; i < a->traced_count; i++) {
		const struct life *life = a->nodes[i].life;

		for (j = 0; j < life->conn_count; j++) {
			struct conn *conn = life->conns[j];

			if (conn->rec.dialled) {
				if (!VEC_ROOM(l->dials, l->dial_count, l->dial_cap))
					return -ENOMEM;
				l->dials[l->dial_count++] = conn;
			} else {
				if (!VEC_ROOM(l->accepts, l->accept_count, l->accept_cap))
					return -ENOMEM;
				l->accepts[l->accept_count++] = conn;
			}
		}
	}
	l->next = calloc(l->dial_count + 1, sizeof(*l->next));
	l->dial_taken = calloc(l->dial_count + 1, sizeof(*l->dial_taken));
	l->accept_taken = calloc(l->accept_count + 1, sizeof(*l->accept_taken));
	return l->next && l->dial_taken && l->accept_taken ? 0 : -ENOMEM;
}

int match_conns(struct analysis *a)
{
	struct lists l = { 0 };
	int err = lists_fill(a, &l);

	if (!err)
		err = fit_numbers(a, &l, BY_TAG, conn_tag, conn_tag, fits_tag);
	if (!err)
		err = fits_take(a, &l);
	if (!err)
		err = fit_numbers(a, &l, BY_TUPLE, dial_tuple, accept_tuple, fits_tuple);
	if (!err)
		err = fits_take(a, &l);
	if (!err)
		err = fit_rest(a, &l, BY_MARKS);
	if (!err)
		err = fits_take(a, &l);
	if (!err)
		err = fit_rest(a, &l, BY_KEYS);
	if (!err)
		err = fits_take(a, &l);
	table_free(&l.table);
	free(l.dials);
	free(l.accepts);
	free(l.next);
	free(l.dial_taken);
	free(l.accept_taken);
	free(l.fits);
	return err;
}

static struct mate *mate_find(const struct analysis *a, const struct conn *conn)
{
	uint32_t *at = table_find(&a->mate_of, (uintptr_t)conn);

	return at ? &a->mates[*at] : NULL;
}

struct conn *match_accepted(const struct analysis *a, const struct conn *dial)
{
	struct mate *m = mate_find(a, dial);

	return m ? m->accept : NULL;
}

struct conn *match_dialled(const struct analysis *a, const struct conn *accept)
{
	struct mate *m = mate_find(a, accept);

	return m ? m->dial : NULL;
}
