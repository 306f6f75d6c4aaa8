/* SPDX-License-Identifier: BSD-2-Clause */
#include "command.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "flow.h"
#include "frame.h"
#include "peer.h"
#include "text.h"

static int read_options(char **words, int count, struct flow_options *o, const char **match,
			char *err)
{
	const char *kind = NULL;
	struct opt table[] = {
		{ "count", OPT_U64, &o->count, 1, PAYLOAD_SEQ_MAX },
		{ "size", OPT_RANGE, o->size, 1, FRAME_PACKET_MAX },
		{ "kind", OPT_WORD, &kind, 0, 0 },
		{ "rate", OPT_U64, &o->rate, 0, 10000000 },
		{ "id", OPT_NAME, &o->id, 0, 0 },
		{ "burst", OPT_U64, &o->burst, 1, FLOW_BURST_MAX },
		{ "coalesce", OPT_FLAG, &o->coalesce, 0, 0 },
		{ match ? "match" : NULL, OPT_NAME, match, 0, 0 },
		{ 0 },
	};
	int ret;

	*o = (struct flow_options){ .size = { 1200, 1200 }, .burst = 1 };
	ret = text_options(words, count, table, err, COMMAND_ERR_MAX);
	if (ret)
		return ret;
	if (!o->count) {
		snprintf(err, COMMAND_ERR_MAX, "count=N is missing");
		return -EINVAL;
	}
	if (kind && !payload_kind_parse(kind, &o->kind)) {
		snprintf(err, COMMAND_ERR_MAX, "kind=%s: want wg, disco, mixed, wginit or zero",
			 kind);
		return -EINVAL;
	}
	return 0;
}

static struct peer *find(const char *name, char *err)
{
	struct peer *p = peer_find(name);

	if (!p)
		snprintf(err, COMMAND_ERR_MAX, "%.64s: no such peer", name);
	return p;
}

/* A peer's name or a node key. */
static int find_key(const char *word, uint8_t key[static 32], char *err)
{
	struct peer *p = peer_find(word);

	if (p) {
		memcpy(key, p->pub, 32);
		return 0;
	}
	if (!strncmp(word, "nodekey:", 8) && text_key(word, "nodekey:", key))
		return 0;
	snprintf(err, COMMAND_ERR_MAX, "%.80s: neither a peer nor nodekey:<64 hex digits>", word);
	return -ENOENT;
}

int command_send(int argc, char **argv, char *err)
{
	struct flow_options o;
	struct peer *src;
	uint8_t dst[32];
	int ret;

	src = find(argv[0], err);
	if (!src)
		return -ENOENT;
	ret = find_key(argv[1], dst, err);
	if (!ret)
		ret = read_options(argv + 2, argc - 2, &o, NULL, err);
	if (ret)
		return ret;
	return flow_start(src, src->pub, dst, false, &o, NULL, err, COMMAND_ERR_MAX);
}

int command_forward(int argc, char **argv, char *err)
{
	uint8_t src[32], dst[32];
	struct flow_options o;
	struct peer *p;
	int ret;

	p = find(argv[0], err);
	if (!p)
		return -ENOENT;
	ret = find_key(argv[1], src, err);
	if (!ret)
		ret = find_key(argv[2], dst, err);
	if (!ret)
		ret = read_options(argv + 3, argc - 3, &o, NULL, err);
	if (ret)
		return ret;
	return flow_start(p, src, dst, true, &o, NULL, err, COMMAND_ERR_MAX);
}

/* --- pairs --- */

static struct peer *next_match(struct peer *p, const char *match)
{
	while (p && (p->state == PEER_DOWN || p->state == PEER_CLOSING ||
		     strncmp(p->name, match, strlen(match))))
		p = peer_next(p);
	return p;
}

static int start_pair(struct peer *src, struct peer *dst, const struct flow_options *o,
		      struct flow_group *g, char *err)
{
	return flow_start(src, src->pub, dst->pub, false, o, g, err, COMMAND_ERR_MAX);
}

static int start_all(const char *match, const struct flow_options *o, struct flow_group *g,
		     char *err)
{
	struct peer *first = next_match(peer_first(), match), *a, *b;
	int ret = 0;

	for (a = first; a && !ret; a = next_match(peer_next(a), match))
		for (b = first; b && !ret; b = next_match(peer_next(b), match))
			if (a != b)
				ret = start_pair(a, b, o, g, err);
	return ret;
}

static int start_ring(const char *match, const struct flow_options *o, struct flow_group *g,
		      char *err)
{
	struct peer *first = next_match(peer_first(), match), *a, *b;
	int ret = 0;

	for (a = first; a && !ret; a = next_match(peer_next(a), match)) {
		b = next_match(peer_next(a), match);
		ret = start_pair(a, b ? b : first, o, g, err);
	}
	return ret;
}

/* list is cut into its words; nothing is started unless all of it reads well. */
static int start_list(char *list, const struct flow_options *o, struct flow_group *g, bool start,
		      char *err)
{
	struct peer *src, *dst;
	char *at = list, *next, *arrow;
	int ret = 0;

	for (; at && !ret; at = next) {
		next = strchr(at, ',');
		if (next)
			*next = 0;
		arrow = strchr(at, '>');
		if (!arrow) {
			snprintf(err, COMMAND_ERR_MAX, "%.64s: want SRC>DST", at);
			return -EINVAL;
		}
		*arrow = 0;
		src = find(at, err);
		dst = src ? find(arrow + 1, err) : NULL;
		if (!dst)
			return -ENOENT;
		*arrow = '>';
		if (next)
			*next++ = ',';
		if (start)
			ret = start_pair(src, dst, o, g, err);
	}
	return ret;
}

int command_pairs(int argc, char **argv, char *err)
{
	bool list = !strcmp(argv[0], "list"), ring = !strcmp(argv[0], "ring");
	const char *match = "";
	struct flow_options o;
	struct flow_group *g;
	int ret;

	if (!list && !ring && strcmp(argv[0], "all")) {
		snprintf(err, COMMAND_ERR_MAX, "pairs %.32s: want ring, all or list", argv[0]);
		return -EINVAL;
	}
	ret = read_options(argv + 1 + list, argc - 1 - list, &o, list ? NULL : &match, err);
	if (!ret && list)
		ret = start_list(argv[1], &o, NULL, false, err);
	if (ret)
		return ret;
	g = flow_group_begin(o.id);
	if (list)
		ret = start_list(argv[1], &o, g, true, err);
	else if (ring)
		ret = start_ring(match, &o, g, err);
	else
		ret = start_all(match, &o, g, err);
	flow_group_end(g);
	return ret;
}
