/* SPDX-License-Identifier: BSD-2-Clause */
#include "command.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "frame.h"
#include "mem.h"
#include "peer.h"
#include "text.h"

static struct resolved {
	struct resolved *next;
	char *name;
	struct transport_addr addr;
} *resolved;

bool command_resolve(const char *pair)
{
	const char *eq = strchr(pair, '=');
	struct transport_addr a;
	struct resolved *r;

	if (!eq || eq == pair || !transport_addr_parse(eq + 1, &a))
		return false;
	r = mem_zero(1, sizeof(*r));
	r->name = mem_string(pair);
	r->name[eq - pair] = 0;
	r->addr = a;
	r->next = resolved;
	resolved = r;
	return true;
}

static void set_port(struct transport_addr *a, uint16_t port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&a->ss;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a->ss;

	if (a->ss.ss_family == AF_INET6)
		v6->sin6_port = htons(port);
	else
		v4->sin_port = htons(port);
}

static int look_up(const struct http_url *u, struct transport_addr *a)
{
	for (struct resolved *r = resolved; r; r = r->next) {
		if (!strcasecmp(r->name, u->host)) {
			*a = r->addr;
			set_port(a, u->port);
			return 0;
		}
	}
	return transport_addr_lookup(u->host, u->port, a);
}

/* Hex, as derper has it since 1.86, or any word, as older ones and Coder do. */
static bool mesh_key_ok(const char *s)
{
	size_t n = 0;

	for (; s[n]; n++)
		if (n >= FRAME_MESH_KEY_MAX || !isalnum((unsigned char)s[n]))
			return false;
	return n > 0;
}

struct words {
	const char *key, *proto, *mesh, *bind, *sni;
};

static int check(const struct words *w, struct peer_config *cfg, const char *name, char *err)
{
	if (w->key && !text_key(w->key, "privkey:", cfg->priv)) {
		snprintf(err, COMMAND_ERR_MAX, "key=: want 64 hex digits");
		return -EINVAL;
	}
	if (!w->key)
		peer_derive_key(name, cfg->priv);
	if (w->proto && strcmp(w->proto, "derp") && strcmp(w->proto, "ws")) {
		snprintf(err, COMMAND_ERR_MAX, "proto=%s: want derp or ws", w->proto);
		return -EINVAL;
	}
	cfg->websocket = w->proto && !strcmp(w->proto, "ws");
	if (cfg->websocket && cfg->fast_start) {
		snprintf(err, COMMAND_ERR_MAX, "faststart=1 goes with proto=derp only");
		return -EINVAL;
	}
	if (w->mesh && !mesh_key_ok(w->mesh)) {
		snprintf(err, COMMAND_ERR_MAX, "meshkey=: want up to %d letters and digits",
			 FRAME_MESH_KEY_MAX);
		return -EINVAL;
	}
	snprintf(cfg->mesh_key, sizeof(cfg->mesh_key), "%s", w->mesh ? w->mesh : "");
	if (w->bind && !transport_addr_parse(w->bind, &cfg->sock.from)) {
		snprintf(err, COMMAND_ERR_MAX, "bind=%s: want ADDR[:PORT]", w->bind);
		return -EINVAL;
	}
	if (w->sni && strlen(w->sni) >= sizeof(cfg->sni)) {
		snprintf(err, COMMAND_ERR_MAX, "sni=: too long");
		return -EINVAL;
	}
	snprintf(cfg->sni, sizeof(cfg->sni), "%s", w->sni ? w->sni : "");
	return 0;
}

int command_peer(int argc, char **argv, char *err)
{
	struct peer_config cfg = { 0 };
	struct words w = { 0 };
	struct opt table[] = {
		{ "key", OPT_WORD, &w.key, 0, 0 },
		{ "proto", OPT_WORD, &w.proto, 0, 0 },
		{ "meshkey", OPT_WORD, &w.mesh, 0, 0 },
		{ "prefer", OPT_FLAG, &cfg.prefer, 0, 0 },
		{ "rcvbuf", OPT_U64, &cfg.sock.rcvbuf, 1, 1 << 30 },
		{ "sndbuf", OPT_U64, &cfg.sock.sndbuf, 1, 1 << 30 },
		{ "bind", OPT_WORD, &w.bind, 0, 0 },
		{ "faststart", OPT_FLAG, &cfg.fast_start, 0, 0 },
		{ "pings", OPT_FLAG, &cfg.pings, 0, 0 },
		{ "sni", OPT_WORD, &w.sni, 0, 0 },
		{ 0 },
	};
	int ret;

	if (!text_name(argv[0])) {
		snprintf(err, COMMAND_ERR_MAX,
			 "NAME: want 1 to %d letters, digits, '.', '_', '-'", TEXT_NAME_MAX);
		return -EINVAL;
	}
	if (!http_url_parse(argv[1], &cfg.url)) {
		snprintf(err, COMMAND_ERR_MAX, "%.100s: want http[s]://HOST[:PORT][/PATH]", argv[1]);
		return -EINVAL;
	}
	ret = text_options(argv + 2, argc - 2, table, err, COMMAND_ERR_MAX);
	if (!ret)
		ret = check(&w, &cfg, argv[0], err);
	if (ret)
		return ret;
	if (look_up(&cfg.url, &cfg.sock.to)) {
		snprintf(err, COMMAND_ERR_MAX, "%s: no address (see --resolve)", cfg.url.host);
		return -ENOENT;
	}
	return peer_open(argv[0], &cfg, err, COMMAND_ERR_MAX) ? 0 : -EEXIST;
}
