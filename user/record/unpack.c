// SPDX-License-Identifier: BSD-2-Clause
/*
 * Records from their wire form. The bytes are hostile: lengths, ranges and text are checked here, so
 * that nothing behind this door has to.
 */
#include "capture/capture.h"
#include "latency.h"
#include "record/record.h"

#include <stdlib.h>
#include <string.h>

#include "record/fields.h"
#include "record/private.h"
#include "record/record.pb-c.h"

struct record_scratch {
	void *v;		/* grows */
	size_t size;
	Derptrace__Record *message; /* the last one, where the record points into it */
};

#define NUMBER(field) to->field = m->field;
#define STRING(field) unpack_string(to->field, sizeof(to->field), m->field);
#define KEY(field) ok &= unpack_key(&to->field, &m->field);

static bool unpack_key(struct key *to, const ProtobufCBinaryData *data)
{
	memset(to, 0, sizeof(*to));
	if (!data->len)
		return true;
	if (data->len != KEY_LEN)
		return false;
	memcpy(to->b, data->data, KEY_LEN);
	return true;
}

/* Printable ASCII only: it may reach a terminal. */
static void unpack_string(char *to, size_t size, const char *from)
{
	size_t i;

	for (i = 0; from && from[i] && i < size - 1; i++)
		to[i] = from[i] >= 0x20 && from[i] < 0x7f ? from[i] : '?';
	to[i] = '\0';
}

static bool unpack_addr(struct addr *to, const Derptrace__Addr *m)
{
	memset(to, 0, sizeof(*to));
	if (!m)
		return true;
	if ((m->ip.len != 4 && m->ip.len != 16) || m->port > UINT16_MAX)
		return false;
	addr_set(to, m->ip.len == 4 ? 4 : 6, m->ip.data, m->port);
	return true;
}

static void unpack_books(struct record_books *to, const Derptrace__Books *m)
{
	if (m) {
		BOOKS_NUMBERS(NUMBER)
	}
}

static bool unpack_node(struct record_node *to, const Derptrace__Node *m)
{
	bool ok = m->n_serves <= 4;
	size_t i;

	NODE_NUMBERS(NUMBER)
	NODE_STRINGS(STRING)
	NODE_KEYS(KEY)
	unpack_books(&to->books, m->books);
	for (i = 0; ok && i < m->n_serves; i++)
		ok = unpack_addr(&to->serves[i], m->serves[i]);
	to->serves_count = i;
	return ok;
}

static bool unpack_conn(struct record_conn *to, const Derptrace__Conn *m)
{
	bool ok = m->kind <= CONN_OTHER && m->how <= UINT8_MAX && m->tls_alert <= UINT8_MAX &&
		  m->http_status <= UINT16_MAX;

	CONN_NUMBERS(NUMBER)
	CONN_STRINGS(STRING)
	CONN_KEYS(KEY)
	return ok && unpack_addr(&to->local, m->local) && unpack_addr(&to->remote, m->remote);
}

static bool unpack_link(struct record_link *to, const Derptrace__Link *m)
{
	bool ok = true;

	LINK_NUMBERS(NUMBER)
	LINK_KEYS(KEY)
	return ok;
}

/* For @count elements of @size bytes, at least one. NULL without memory. */
static void *scratch_room(struct record_scratch *scratch, size_t count, size_t size)
{
	void *grown;

	if (scratch->v && count * size <= scratch->size)
		return scratch->v;
	grown = reallocarray(scratch->v, count + 1, size);
	if (!grown)
		return NULL;
	scratch->v = grown;
	scratch->size = (count + 1) * size;
	return grown;
}

static bool unpack_mark_pair(struct record_mark_pair *to, const Derptrace__MarkPair *m)
{
	bool ok = true;

	KEY(src)
	KEY(dst)
	NUMBER(frames)
	return ok;
}

static bool unpack_mark(struct record_mark *to, const Derptrace__Mark *m,
			struct record_scratch *scratch)
{
	struct record_mark_pair *pairs = scratch_room(scratch, m->n_pairs, sizeof(*pairs));
	bool ok = pairs != NULL;
	size_t i;

	MARK_NUMBERS(NUMBER)
	MARK_KEYS(KEY)
	for (i = 0; ok && i < m->n_pairs; i++)
		ok = unpack_mark_pair(&pairs[i], m->pairs[i]);
	to->pairs = pairs;
	to->pair_count = m->n_pairs;
	return ok;
}

static bool unpack_peers(struct record_peers *to, const Derptrace__Peers *m,
			 struct record_scratch *scratch)
{
	struct record_peer *peers;
	size_t i;

	if (m->keys.len != m->n_no * KEY_LEN)
		return false;
	peers = scratch_room(scratch, m->n_no, sizeof(*peers));
	for (i = 0; peers && i < m->n_no; i++) {
		peers[i].no = m->no[i];
		memcpy(peers[i].key.b, m->keys.data + i * KEY_LEN, KEY_LEN);
	}
	*to = (struct record_peers){ peers, m->n_no };
	return peers;
}

static bool unpack_pairs(struct record_pairs *to, const Derptrace__Pairs *m, uint64_t time_ns,
			 struct record_scratch *scratch)
{
	struct record_pair_ends *pairs;
	size_t i;

	if (m->n_src != m->n_no || m->n_dst != m->n_no || m->n_first_age_ns != m->n_no)
		return false;
	pairs = scratch_room(scratch, m->n_no, sizeof(*pairs));
	for (i = 0; pairs && i < m->n_no; i++)
		pairs[i] = (struct record_pair_ends){ m->no[i], m->src[i], m->dst[i],
						      time_ns - m->first_age_ns[i] };
	*to = (struct record_pairs){ pairs, m->n_no };
	return pairs;
}

static bool unpack_latency(struct record_counts *to, const Derptrace__Counts *m)
{
	size_t i, left = m->n_latency;

	if (m->n_latency_first != m->n_pair || m->n_latency_count != m->n_pair)
		return false;
	for (i = 0; i < m->n_pair; i++) {
		if (m->latency_first[i] > LATENCY_BUCKETS || m->latency_count[i] > left ||
		    m->latency_count[i] > LATENCY_BUCKETS - m->latency_first[i])
			return false;
		left -= m->latency_count[i];
	}
	to->latency_first = m->latency_first;
	to->latency_count = m->latency_count;
	to->latency = m->latency;
	return !left;
}

/* The columns stay where protobuf has put them; a column of a later version is passed over. */
static bool unpack_counts(struct record_counts *to, const Derptrace__Counts *m, uint64_t time_ns)
{
	size_t i, k;

	*to = (struct record_counts){ .pair = m->pair, .count = m->n_pair };
	for (i = 0; i < m->n_columns; i++) {
		const Derptrace__Column *column = m->columns[i];

		if (column->what >= RECORD_PAIR_COLUMNS)
			continue;
		if (column->n_value != m->n_pair || to->column[column->what])
			return false;
		if (record_column_is_time(column->what)) {
			for (k = 0; k < column->n_value; k++)
				column->value[k] = time_ns - column->value[k];
		}
		to->column[column->what] = column->value;
	}
	return unpack_latency(to, m);
}

static bool unpack_loss(struct record_loss *to, const Derptrace__Loss *m)
{
	bool ok = m->reason >= REASON_UNKNOWN_DEST && m->reason < REASON_COUNT &&
		  m->basis <= BASIS_UNKNOWN;

	LOSS_NUMBERS(NUMBER)
	LOSS_KEYS(KEY)
	return ok;
}

static bool unpack_presence(struct record_presence *to, const Derptrace__Presence *m)
{
	bool ok = m->flags <= UINT8_MAX;

	PRESENCE_NUMBERS(NUMBER)
	PRESENCE_KEYS(KEY)
	return ok && unpack_addr(&to->addr, m->addr);
}

static bool unpack_nic(struct record_nic *to, const Derptrace__Nic *m)
{
	NIC_NUMBERS(NUMBER)
	NIC_STRINGS(STRING)
	return true;
}

static bool unpack_nic_drop(struct record_nic_drop *to, const Derptrace__NicDrop *m)
{
	NIC_DROP_NUMBERS(NUMBER)
	return m->kind < CAPTURE_NIC_DROP_KINDS && unpack_addr(&to->local, m->local) &&
	       unpack_addr(&to->remote, m->remote);
}

static bool unpack_agent(struct record_agent *to, const Derptrace__Agent *m)
{
	AGENT_NUMBERS(NUMBER)
	AGENT_STRINGS(STRING)
	return true;
}

static bool unpack_step(struct record_step *to, const Derptrace__Step *m)
{
	STEP_NUMBERS(NUMBER)
	return m->from < LEVEL_COUNT && m->to < LEVEL_COUNT;
}

static bool unpack_body(const Derptrace__Record *m, struct record *r, struct record_scratch *scratch)
{
	switch (m->body_case) {
	case DERPTRACE__RECORD__BODY_NODE_INFO:
		r->type = RECORD_NODE;
		return unpack_node(&r->node_info, m->node_info);
	case DERPTRACE__RECORD__BODY_CONN:
		r->type = RECORD_CONN;
		return unpack_conn(&r->conn, m->conn);
	case DERPTRACE__RECORD__BODY_LINK:
		r->type = RECORD_LINK;
		return unpack_link(&r->link, m->link);
	case DERPTRACE__RECORD__BODY_MARK:
		r->type = RECORD_MARK;
		return unpack_mark(&r->mark, m->mark, scratch);
	case DERPTRACE__RECORD__BODY_PEERS:
		r->type = RECORD_PEERS;
		return unpack_peers(&r->peers, m->peers, scratch);
	case DERPTRACE__RECORD__BODY_PAIRS:
		r->type = RECORD_PAIRS;
		return unpack_pairs(&r->pairs, m->pairs, m->time_ns, scratch);
	case DERPTRACE__RECORD__BODY_COUNTS:
		r->type = RECORD_COUNTS;
		return unpack_counts(&r->counts, m->counts, m->time_ns);
	case DERPTRACE__RECORD__BODY_LOSS:
		r->type = RECORD_LOSS;
		return unpack_loss(&r->loss, m->loss);
	case DERPTRACE__RECORD__BODY_PRESENCE:
		r->type = RECORD_PRESENCE;
		return unpack_presence(&r->presence, m->presence);
	case DERPTRACE__RECORD__BODY_NIC:
		r->type = RECORD_NIC;
		return unpack_nic(&r->nic, m->nic);
	case DERPTRACE__RECORD__BODY_NIC_DROP:
		r->type = RECORD_NIC_DROP;
		return unpack_nic_drop(&r->nic_drop, m->nic_drop);
	case DERPTRACE__RECORD__BODY_AGENT_INFO:
		r->type = RECORD_AGENT;
		return unpack_agent(&r->agent_info, m->agent_info);
	case DERPTRACE__RECORD__BODY_STEP:
		r->type = RECORD_STEP;
		return unpack_step(&r->step, m->step);
	default:
		return true;	/* of a later version: no type, passed over */
	}
}

static void scratch_release(struct record_scratch *scratch)
{
	if (scratch->message)
		derptrace__record__free_unpacked(scratch->message, NULL);
	scratch->message = NULL;
}

bool record_unpack(const uint8_t *buf, size_t len, struct record *r, struct record_scratch **scratch)
{
	Derptrace__Record *m;
	bool ok;

	if (!*scratch)
		*scratch = calloc(1, sizeof(**scratch));
	if (!*scratch)
		return false;
	scratch_release(*scratch);
	m = derptrace__record__unpack(NULL, len, buf);
	if (!m)
		return false;
	memset(r, 0, sizeof(*r));
	r->agent = m->agent;
	r->node = m->node;
	r->time_ns = m->time_ns;
	ok = unpack_body(m, r, *scratch);
	(*scratch)->message = m;
	if (!ok || r->type != RECORD_COUNTS)
		scratch_release(*scratch);
	return ok;
}

void record_scratch_free(struct record_scratch *scratch)
{
	if (!scratch)
		return;
	scratch_release(scratch);
	free(scratch->v);
	free(scratch);
}
