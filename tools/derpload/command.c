/* SPDX-License-Identifier: BSD-2-Clause */
#include "command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flow.h"
#include "frame.h"
#include "input.h"
#include "loop.h"
#include "mem.h"
#include "out.h"
#include "peer.h"
#include "stats.h"
#include "text.h"
#include "wait.h"

#define TIME_MAX_MS (24 * 3600 * 1000ull)

static bool quitting;

static int wrong(char *err, const char *what, const char *want)
{
	snprintf(err, COMMAND_ERR_MAX, "%.64s: %s", what, want);
	return -EINVAL;
}

static int find(const char *name, bool up, struct peer **p, char *err)
{
	*p = peer_find(name);
	if (!*p)
		return wrong(err, name, "no such peer");
	if (up && (*p)->state != PEER_UP)
		return wrong(err, name, "peer is not up");
	return 0;
}

static int read_timeout(int argc, char **argv, uint64_t *ms, char *err)
{
	struct opt table[] = { { "timeout", OPT_U64, ms, 1, TIME_MAX_MS }, { 0 } };

	*ms = 0;
	return text_options(argv, argc, table, err, COMMAND_ERR_MAX);
}

/* --- one peer --- */

static int do_pause(int argc, char **argv, char *err)
{
	struct peer *p;

	(void)argc;
	if (find(argv[0], true, &p, err))
		return -EINVAL;
	io_pause(p, true);
	return 0;
}

static int do_resume(int argc, char **argv, char *err)
{
	struct peer *p;

	(void)argc;
	if (find(argv[0], true, &p, err))
		return -EINVAL;
	io_drip(p, 0);
	io_pause(p, false);
	return 0;
}

static int do_drip(int argc, char **argv, char *err)
{
	struct peer *p;
	uint64_t rate;

	(void)argc;
	if (find(argv[0], true, &p, err))
		return -EINVAL;
	if (!text_u64(argv[1], 1, 1000000000, &rate))
		return wrong(err, argv[1], "want bytes per second");
	io_drip(p, rate);
	io_pause(p, false);
	return 0;
}

static int do_close(int argc, char **argv, char *err)
{
	const char *how = "fin";
	struct opt table[] = { { "how", OPT_WORD, &how, 0, 0 }, { 0 } };
	enum peer_close kind = PEER_FIN;
	struct peer *p;

	if (find(argv[0], false, &p, err) ||
	    text_options(argv + 1, argc - 1, table, err, COMMAND_ERR_MAX))
		return -EINVAL;
	if (!strcmp(how, "rst"))
		kind = PEER_RST;
	else if (!strcmp(how, "silent"))
		kind = PEER_SILENT;
	else if (strcmp(how, "fin"))
		return wrong(err, how, "want how=fin, rst or silent");
	if (p->state == PEER_DOWN)
		return wrong(err, argv[0], "peer is down already");
	peer_close(p, kind);
	return 0;
}

static int do_raw(int argc, char **argv, char *err)
{
	size_t len = strlen(argv[1]) / 2;
	struct peer *p;
	uint8_t *bytes;

	(void)argc;
	if (find(argv[0], true, &p, err))
		return -EINVAL;
	bytes = mem_zero(len, 1);
	if (!len || !text_hex(argv[1], bytes, len)) {
		free(bytes);
		return wrong(err, argv[1], "want pairs of hex digits");
	}
	session_send_raw(p, bytes, len);
	free(bytes);
	return 0;
}

static int do_keyupdate(int argc, char **argv, char *err)
{
	struct peer *p;

	(void)argc;
	if (find(argv[0], true, &p, err))
		return -EINVAL;
	if (!p->link.ssl || SSL_version(p->link.ssl) < TLS1_3_VERSION)
		return wrong(err, argv[0], "no TLS 1.3 connection");
	p->key_update = true;
	io_wake(p);
	return 0;
}

static int do_watch(int argc, char **argv, char *err)
{
	struct peer *p;

	(void)argc;
	if (find(argv[0], true, &p, err))
		return -EINVAL;
	if (!*p->cfg.mesh_key)
		return wrong(err, argv[0], "peer has no meshkey=");
	session_send(p, FRAME_WATCH_CONNS, NULL, 0);
	return 0;
}

static int do_ping(int argc, char **argv, char *err)
{
	uint8_t payload[8];
	struct peer *p;

	(void)argc;
	if (find(argv[0], true, &p, err))
		return -EINVAL;
	p->ping_at = loop_clock();
	memcpy(payload, &p->ping_at, sizeof(payload));
	session_send(p, FRAME_PING, payload, sizeof(payload));
	return 0;
}

/* --- all of them --- */

static int do_stop(int argc, char **argv, char *err)
{
	(void)err;
	flow_stop(argc ? argv[0] : NULL);
	return 0;
}

static int do_stats(int argc, char **argv, char *err)
{
	bool pairs = true, peers = true;
	struct opt table[] = {
		{ "pairs", OPT_FLAG, &pairs, 0, 0 }, { "peers", OPT_FLAG, &peers, 0, 0 }, { 0 },
	};

	if (text_options(argv, argc, table, err, COMMAND_ERR_MAX))
		return -EINVAL;
	stats_print(pairs, peers);
	return 0;
}

static int do_expect(int argc, char **argv, char *err)
{
	uint64_t count = 0, timeout = 0;
	struct opt table[] = {
		{ "count", OPT_U64, &count, 1, UINT64_MAX },
		{ "timeout", OPT_U64, &timeout, 1, TIME_MAX_MS }, { 0 },
	};
	struct peer *p;

	if (find(argv[0], false, &p, err) ||
	    text_options(argv + 1, argc - 1, table, err, COMMAND_ERR_MAX))
		return -EINVAL;
	if (!count)
		return wrong(err, argv[0], "count=N is missing");
	wait_expect(p, count, timeout);
	return 0;
}

static int do_quiet(int argc, char **argv, char *err)
{
	uint64_t ms, timeout;

	if (!text_u64(argv[0], 1, TIME_MAX_MS, &ms))
		return wrong(err, argv[0], "want milliseconds");
	if (read_timeout(argc - 1, argv + 1, &timeout, err))
		return -EINVAL;
	wait_quiet(ms, timeout);
	return 0;
}

/* --- the order of things --- */

static void go_on(void)
{
	input_hold(false);
}

static int do_barrier(int argc, char **argv, char *err)
{
	uint64_t timeout;

	if (!text_name(argv[0]))
		return wrong(err, argv[0], "want a tag of letters, digits, '.', '_', '-'");
	if (read_timeout(argc - 1, argv + 1, &timeout, err))
		return -EINVAL;
	input_hold(true);
	wait_barrier(argv[0], timeout, go_on);
	return 0;
}

static void slept(struct loop_timer *t)
{
	(void)t;
	input_hold(false);
}

static int do_sleep(int argc, char **argv, char *err)
{
	static struct loop_timer timer = { .fire = slept };
	uint64_t ms;

	(void)argc;
	if (!text_u64(argv[0], 1, TIME_MAX_MS, &ms))
		return wrong(err, argv[0], "want milliseconds");
	input_hold(true);
	loop_timer_set(&timer, loop_clock() + ms * NSEC_PER_MSEC);
	return 0;
}

static int do_quit(int argc, char **argv, char *err)
{
	(void)argc;
	(void)argv;
	(void)err;
	input_hold(true);
	quitting = true;
	return 0;
}

#define TRAFFIC "count=N [size=MIN[-MAX]] [kind=wg|disco|mixed|wginit|zero] [rate=PPS] [id=TAG]" \
	" [burst=K] [coalesce=1]"

static const struct command {
	const char *name;
	int min, max;			/* operands */
	int (*run)(int argc, char **argv, char *err);
	const char *operands, *help;
} commands[] = {
	{ "peer", 2, 64, command_peer, "NAME URL [key=PRIVHEX] [proto=derp|ws] [meshkey=KEY] "
	  "[prefer=1] [rcvbuf=BYTES] [sndbuf=BYTES] [bind=ADDR[:PORT]] [faststart=1] [pings=1] "
	  "[sni=NAME]", "connect a client; event up, later down" },
	{ "send", 2, 64, command_send, "SRC DST " TRAFFIC,
	  "packets from a peer to a peer or nodekey:HEX; event sent" },
	{ "pairs", 1, 64, command_pairs, "ring|all|list SRC>DST,... [match=PREFIX] " TRAFFIC,
	  "the same for many pairs; a sent each, then sent_all" },
	{ "forward", 3, 64, command_forward, "NAME SRC DST " TRAFFIC,
	  "ForwardPacket frames of a mesh peer; event sent" },
	{ "stop", 0, 1, do_stop, "[TAG]", "end the flows of this id, or all, now" },
	{ "pause", 1, 1, do_pause, "NAME", "read no more from the socket" },
	{ "resume", 1, 1, do_resume, "NAME", "read on, at full speed" },
	{ "drip", 2, 2, do_drip, "NAME BYTES_PER_S", "read on, no faster than this" },
	{ "close", 1, 2, do_close, "NAME [how=fin|rst|silent]",
	  "end the connection, or leave it open and untouched; event down" },
	{ "raw", 2, 2, do_raw, "NAME HEX", "write these bytes into the DERP stream" },
	{ "keyupdate", 1, 1, do_keyupdate, "NAME", "new TLS 1.3 keys both ways" },
	{ "watch", 1, 1, do_watch, "NAME", "WatchConns; events present and gone" },
	{ "ping", 1, 1, do_ping, "NAME", "ping the relay; event pong" },
	{ "stats", 0, 2, do_stats, "[pairs=0] [peers=0]", "the books; event stats" },
	{ "expect", 2, 3, do_expect, "NAME count=N [timeout=MS]",
	  "event when NAME has received N packets in all" },
	{ "quiet", 1, 2, do_quiet, "MS [timeout=MS]",
	  "event when no peer has received a packet for MS" },
	{ "barrier", 1, 2, do_barrier, "TAG [timeout=MS]",
	  "event when all before it is done; later commands wait for it" },
	{ "sleep", 1, 1, do_sleep, "MS", "later commands wait so long" },
	{ "quit", 0, 0, do_quit, "", "close all and exit; so does the end of input" },
};

#define COMMANDS (sizeof(commands) / sizeof(*commands))
#define WORDS_MAX 66

void command_usage(void)
{
	for (size_t i = 0; i < COMMANDS; i++)
		printf("  %s %s\n        %s\n", commands[i].name, commands[i].operands,
		       commands[i].help);
}

static void run(char **words, int count, uint64_t number)
{
	char err[COMMAND_ERR_MAX] = "";
	const struct command *c = commands;

	while (c < commands + COMMANDS && strcmp(c->name, words[0]))
		c++;
	if (c == commands + COMMANDS) {
		out_error(number, "%.64s: no such command", words[0]);
		return;
	}
	count--;
	if (count < c->min || count > c->max) {
		out_error(number, "want: %s %s", c->name, c->operands);
		return;
	}
	if (c->run(count, words + 1, err))
		out_error(number, "%s: %s", c->name, err);
}

static void line(char *text, uint64_t number)
{
	char *words[WORDS_MAX], *save = NULL, *w;
	int count = 0;

	if (!text) {
		quitting = true;
		return;
	}
	for (w = strtok_r(text, " \t\r", &save); w; w = strtok_r(NULL, " \t\r", &save)) {
		if (count == WORDS_MAX) {
			out_error(number, "more than %d words", WORDS_MAX);
			return;
		}
		words[count++] = w;
	}
	if (count && words[0][0] != '#')
		run(words, count, number);
}

int command_start(int fd)
{
	return input_start(fd, line);
}

bool command_quit(void)
{
	return quitting;
}
