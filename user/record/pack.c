// SPDX-License-Identifier: BSD-2-Clause
/* Records to their wire form: protobuf messages built on the stack, pointing into the record. */
#include "record/record.h"

#include <stdlib.h>
#include <string.h>

#include "record/fields.h"
#include "record/private.h"
#include "record/record.pb-c.h"

#define NUMBER(field) m->field = from->field;
#define STRING(field) m->field = (char *)from->field;
#define KEY(field) m->field = pack_key(&from->field);

/* A key of zeroes is one that is not known: left out. */
static ProtobufCBinaryData pack_key(const struct key *key)
{
	ProtobufCBinaryData data = { KEY_LEN, (uint8_t *)key->b };

	if (key_is_zero(key))
		data.len = 0;
	return data;
}

static Derptrace__Addr *pack_addr(Derptrace__Addr *m, const struct addr *from)
{
	derptrace__addr__init(m);
	if (!from->family)
		return NULL;
	m->ip.len = from->family == 4 ? 4 : 16;
	m->ip.data = (uint8_t *)from->ip;
	m->port = from->port;
	return m;
}

static Derptrace__Books *pack_books(Derptrace__Books *m, const struct record_books *from)
{
	derptrace__books__init(m);
	BOOKS_NUMBERS(NUMBER)
	return m;
}

static size_t finish(Derptrace__Record *m, uint8_t *buf, size_t len)
{
	size_t need = derptrace__record__get_packed_size(m);

	return need <= len ? derptrace__record__pack(m, buf) : 0;
}

static size_t pack_node(Derptrace__Record *record, const struct record_node *from, uint8_t *buf,
			size_t len)
{
	Derptrace__Node node, *m = &node;
	Derptrace__Addr addrs[4], *serves[4];
	Derptrace__Books books;
	uint32_t i;

	derptrace__node__init(m);
	NODE_NUMBERS(NUMBER)
	NODE_STRINGS(STRING)
	NODE_KEYS(KEY)
	for (i = 0; i < from->serves_count && i < 4; i++) {
		serves[i] = &addrs[i];
		pack_addr(serves[i], &from->serves[i]);
	}
	m->n_serves = i;
	m->serves = serves;
	m->books = pack_books(&books, &from->books);
	record->body_case = DERPTRACE__RECORD__BODY_NODE_INFO;
	record->node_info = m;
	return finish(record, buf, len);
}

static size_t pack_conn(Derptrace__Record *record, const struct record_conn *from, uint8_t *buf,
			size_t len)
{
	Derptrace__Conn conn, *m = &conn;
	Derptrace__Addr local, remote;

	derptrace__conn__init(m);
	CONN_NUMBERS(NUMBER)
	CONN_STRINGS(STRING)
	CONN_KEYS(KEY)
	m->local = pack_addr(&local, &from->local);
	m->remote = pack_addr(&remote, &from->remote);
	record->body_case = DERPTRACE__RECORD__BODY_CONN;
	record->conn = m;
	return finish(record, buf, len);
}

static size_t pack_link(Derptrace__Record *record, const struct record_link *from, uint8_t *buf,
			size_t len)
{
	Derptrace__Link link, *m = &link;

	derptrace__link__init(m);
	LINK_NUMBERS(NUMBER)
	LINK_KEYS(KEY)
	record->body_case = DERPTRACE__RECORD__BODY_LINK;
	record->link = m;
	return finish(record, buf, len);
}

static void pack_mark_pair(Derptrace__MarkPair *m, const struct record_mark_pair *from)
{
	derptrace__mark_pair__init(m);
	KEY(src)
	KEY(dst)
	NUMBER(frames)
}

static size_t pack_mark(Derptrace__Record *record, const struct record_mark *from, uint8_t *buf,
			size_t len)
{
	Derptrace__Mark mark, *m = &mark;
	Derptrace__MarkPair *pairs = NULL, **pointers = NULL;
	size_t i, packed = 0;

	derptrace__mark__init(m);
	MARK_NUMBERS(NUMBER)
	MARK_KEYS(KEY)
	pairs = calloc(from->pair_count + 1, sizeof(*pairs));
	pointers = calloc(from->pair_count + 1, sizeof(*pointers));
	if (!pairs || !pointers)
		goto cleanup;
	for (i = 0; i < from->pair_count; i++) {
		pack_mark_pair(&pairs[i], &from->pairs[i]);
		pointers[i] = &pairs[i];
	}
	m->n_pairs = from->pair_count;
	m->pairs = pointers;
	record->body_case = DERPTRACE__RECORD__BODY_MARK;
	record->mark = m;
	packed = finish(record, buf, len);
cleanup:
	free(pairs);
	free(pointers);
	return packed;
}

static size_t pack_peers(Derptrace__Record *record, const struct record_peers *from, uint8_t *buf,
			 size_t len)
{
	Derptrace__Peers peers, *m = &peers;
	uint8_t *keys = malloc((from->count + 1) * KEY_LEN);
	uint32_t *no = malloc((from->count + 1) * sizeof(*no));
	size_t i, packed = 0;

	derptrace__peers__init(m);
	for (i = 0; keys && no && i < from->count; i++) {
		no[i] = from->v[i].no;
		memcpy(keys + i * KEY_LEN, from->v[i].key.b, KEY_LEN);
	}
	m->no = no;
	m->n_no = from->count;
	m->keys = (ProtobufCBinaryData){ from->count * KEY_LEN, keys };
	record->body_case = DERPTRACE__RECORD__BODY_PEERS;
	record->peers = m;
	if (keys && no)
		packed = finish(record, buf, len);
	free(keys);
	free(no);
	return packed;
}

static size_t pack_pairs(Derptrace__Record *record, const struct record_pairs *from, uint8_t *buf,
			 size_t len)
{
	Derptrace__Pairs pairs, *m = &pairs;
	uint32_t *numbers = malloc((from->count + 1) * 3 * sizeof(*numbers));
	uint64_t *ages = malloc((from->count + 1) * sizeof(*ages));
	size_t i, packed = 0;

	derptrace__pairs__init(m);
	m->n_no = m->n_src = m->n_dst = m->n_first_age_ns = from->count;
	m->no = numbers;
	m->src = numbers + from->count;
	m->dst = numbers + 2 * from->count;
	m->first_age_ns = ages;
	for (i = 0; numbers && ages && i < from->count; i++) {
		m->no[i] = from->v[i].no;
		m->src[i] = from->v[i].src;
		m->dst[i] = from->v[i].dst;
		ages[i] = record->time_ns - from->v[i].first_ns;
	}
	record->body_case = DERPTRACE__RECORD__BODY_PAIRS;
	record->pairs = m;
	if (numbers && ages)
		packed = finish(record, buf, len);
	free(numbers);
	free(ages);
	return packed;
}

/* Times as ages, in a copy. NULL without memory. */
static uint64_t *pack_ages(const uint64_t *times, size_t count, uint64_t now_ns)
{
	uint64_t *ages = malloc((count + 1) * sizeof(*ages));
	size_t i;

	for (i = 0; ages && i < count; i++)
		ages[i] = now_ns - times[i];
	return ages;
}

static size_t pack_counts(Derptrace__Record *record, const struct record_counts *from, uint8_t *buf,
			  size_t len)
{
	Derptrace__Counts counts, *m = &counts;
	Derptrace__Column columns[RECORD_PAIR_COLUMNS], *pointers[RECORD_PAIR_COLUMNS], *to;
	uint64_t *ages[RECORD_PAIR_COLUMNS] = { NULL };
	size_t i, packed = 0;

	derptrace__counts__init(m);
	for (i = 0; i < RECORD_PAIR_COLUMNS; i++) {
		if (!from->column[i])
			continue;
		to = pointers[m->n_columns] = &columns[m->n_columns];
		m->n_columns++;
		derptrace__column__init(to);
		to->what = i;
		to->n_value = from->count;
		to->value = (uint64_t *)from->column[i];
		if (!record_column_is_time(i))
			continue;
		to->value = ages[i] = pack_ages(from->column[i], from->count, record->time_ns);
		if (!to->value)
			goto cleanup;
	}
	m->n_pair = from->count;
	m->pair = (uint32_t *)from->pair;
	m->columns = pointers;
	m->n_latency_first = m->n_latency_count = from->count;
	m->latency_first = (uint32_t *)from->latency_first;
	m->latency_count = (uint32_t *)from->latency_count;
	for (i = 0; i < from->count; i++)
		m->n_latency += from->latency_count[i];
	m->latency = (uint32_t *)from->latency;
	record->body_case = DERPTRACE__RECORD__BODY_COUNTS;
	record->counts = m;
	packed = finish(record, buf, len);
cleanup:
	for (i = 0; i < RECORD_PAIR_COLUMNS; i++)
		free(ages[i]);
	return packed;
}

static size_t pack_loss(Derptrace__Record *record, const struct record_loss *from, uint8_t *buf,
			size_t len)
{
	Derptrace__Loss loss, *m = &loss;

	derptrace__loss__init(m);
	LOSS_NUMBERS(NUMBER)
	LOSS_KEYS(KEY)
	record->body_case = DERPTRACE__RECORD__BODY_LOSS;
	record->loss = m;
	return finish(record, buf, len);
}

static size_t pack_presence(Derptrace__Record *record, const struct record_presence *from,
			    uint8_t *buf, size_t len)
{
	Derptrace__Presence presence, *m = &presence;
	Derptrace__Addr addr;

	derptrace__presence__init(m);
	PRESENCE_NUMBERS(NUMBER)
	PRESENCE_KEYS(KEY)
	m->addr = pack_addr(&addr, &from->addr);
	record->body_case = DERPTRACE__RECORD__BODY_PRESENCE;
	record->presence = m;
	return finish(record, buf, len);
}

static size_t pack_nic(Derptrace__Record *record, const struct record_nic *from, uint8_t *buf,
		       size_t len)
{
	Derptrace__Nic nic, *m = &nic;

	derptrace__nic__init(m);
	NIC_NUMBERS(NUMBER)
	NIC_STRINGS(STRING)
	record->body_case = DERPTRACE__RECORD__BODY_NIC;
	record->nic = m;
	return finish(record, buf, len);
}

static size_t pack_nic_drop(Derptrace__Record *record, const struct record_nic_drop *from, uint8_t *buf,
			    size_t len)
{
	Derptrace__NicDrop drop, *m = &drop;
	Derptrace__Addr local, remote;

	derptrace__nic_drop__init(m);
	NIC_DROP_NUMBERS(NUMBER)
	m->local = pack_addr(&local, &from->local);
	m->remote = pack_addr(&remote, &from->remote);
	record->body_case = DERPTRACE__RECORD__BODY_NIC_DROP;
	record->nic_drop = m;
	return finish(record, buf, len);
}

static size_t pack_agent(Derptrace__Record *record, const struct record_agent *from, uint8_t *buf,
			 size_t len)
{
	Derptrace__Agent agent, *m = &agent;

	derptrace__agent__init(m);
	AGENT_NUMBERS(NUMBER)
	AGENT_STRINGS(STRING)
	record->body_case = DERPTRACE__RECORD__BODY_AGENT_INFO;
	record->agent_info = m;
	return finish(record, buf, len);
}

static size_t pack_step(Derptrace__Record *record, const struct record_step *from, uint8_t *buf,
			size_t len)
{
	Derptrace__Step step, *m = &step;

	derptrace__step__init(m);
	STEP_NUMBERS(NUMBER)
	record->body_case = DERPTRACE__RECORD__BODY_STEP;
	record->step = m;
	return finish(record, buf, len);
}

size_t record_pack(const struct record *r, uint8_t *buf, size_t len)
{
	Derptrace__Record record, *m = &record;

	derptrace__record__init(m);
	m->agent = r->agent;
	m->node = r->node;
	m->time_ns = r->time_ns;
	switch (r->type) {
	case RECORD_NODE:
		return pack_node(m, &r->node_info, buf, len);
	case RECORD_CONN:
		return pack_conn(m, &r->conn, buf, len);
	case RECORD_LINK:
		return pack_link(m, &r->link, buf, len);
	case RECORD_MARK:
		return pack_mark(m, &r->mark, buf, len);
	case RECORD_PEERS:
		return pack_peers(m, &r->peers, buf, len);
	case RECORD_PAIRS:
		return pack_pairs(m, &r->pairs, buf, len);
	case RECORD_COUNTS:
		return pack_counts(m, &r->counts, buf, len);
	case RECORD_LOSS:
		return pack_loss(m, &r->loss, buf, len);
	case RECORD_PRESENCE:
		return pack_presence(m, &r->presence, buf, len);
	case RECORD_NIC:
		return pack_nic(m, &r->nic, buf, len);
	case RECORD_NIC_DROP:
		return pack_nic_drop(m, &r->nic_drop, buf, len);
	case RECORD_AGENT:
		return pack_agent(m, &r->agent_info, buf, len);
	case RECORD_STEP:
		return pack_step(m, &r->step, buf, len);
	case RECORD_CUT:
		break;	/* made by readers, never sent */
	}
	return 0;
}
