/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * derpload: many DERP clients in one process, which send known packets and say exactly what was
 * sent and what arrived.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "command.h"
#include "loop.h"
#include "out.h"
#include "peer.h"
#include "stats.h"
#include "text.h"
#include "transport.h"
#include "wait.h"

#ifndef DERPTRACE_VERSION
#define DERPTRACE_VERSION "unknown"
#endif

enum { EXIT_USAGE = 2 };

static bool stopped;			/* by a signal */

static void usage(void)
{
	fputs("usage: derpload [OPTION]... < COMMANDS\n"
	      "DERP clients for tests: reads commands, a line each, writes JSON, a line each.\n"
	      "\n"
	      "  --resolve NAME=ADDR    this host name is at this address (may be repeated)\n"
	      "  --cafile FILE          trust these certificates (PEM) instead of the system's\n"
	      "  --insecure             trust any certificate\n"
	      "  --tls12                no newer TLS than 1.2\n"
	      "  --ciphersuites LIST    TLS 1.3 suites, e.g. TLS_CHACHA20_POLY1305_SHA256\n"
	      "  --ciphers LIST         TLS 1.2 ciphers, in OpenSSL's names\n"
	      "  --keylog FILE          append the TLS secrets (SSLKEYLOGFILE format)\n"
	      "  --seed N               keys and payloads are made from it (default 1)\n"
	      "  --parallel N           connections being made at a time (default 64)\n"
	      "  --connect-timeout S    from TCP connect to ServerInfo (default 30)\n"
	      "  --rate-report[=S]      a rate event every S seconds (default 1)\n"
	      "  --help, --version\n"
	      "\n"
	      "Commands:\n", stdout);
	command_usage();
	fputs("\n"
	      "Examples:\n"
	      "  printf '%s\\n' 'peer a http://127.0.0.1:3340' 'peer b http://127.0.0.1:3340' \\\n"
	      "    'send a b count=1000 size=1-1400 kind=mixed' 'barrier sent' 'quiet 300' \\\n"
	      "    'barrier arrived' stats | derpload\n"
	      "  derpload --cafile ca.crt --resolve derp1.lab=127.0.0.1 < commands\n"
	      "\n"
	      "Exits 0 after quit or the end of input, 1 when it cannot go on, 2 on bad options.\n",
	      stdout);
}

static _Noreturn void bad(const char *what, const char *value)
{
	fprintf(stderr, "derpload: %s%s%s (try --help)\n", what, value ? ": " : "",
		value ? value : "");
	exit(EXIT_USAGE);
}

static uint64_t number(const char *option, const char *s, uint64_t min, uint64_t max)
{
	uint64_t v;

	if (!text_u64(s, min, max, &v))
		bad(option, s);
	return v;
}

enum {
	OPTION_RESOLVE = 256, OPTION_CAFILE, OPTION_INSECURE, OPTION_TLS12, OPTION_CIPHERSUITES,
	OPTION_CIPHERS, OPTION_KEYLOG, OPTION_SEED, OPTION_PARALLEL, OPTION_TIMEOUT,
	OPTION_RATE_REPORT, OPTION_HELP, OPTION_VERSION,
};

static const struct option options[] = {
	{ "resolve", required_argument, NULL, OPTION_RESOLVE },
	{ "cafile", required_argument, NULL, OPTION_CAFILE },
	{ "insecure", no_argument, NULL, OPTION_INSECURE },
	{ "tls12", no_argument, NULL, OPTION_TLS12 },
	{ "ciphersuites", required_argument, NULL, OPTION_CIPHERSUITES },
	{ "ciphers", required_argument, NULL, OPTION_CIPHERS },
	{ "keylog", required_argument, NULL, OPTION_KEYLOG },
	{ "seed", required_argument, NULL, OPTION_SEED },
	{ "parallel", required_argument, NULL, OPTION_PARALLEL },
	{ "connect-timeout", required_argument, NULL, OPTION_TIMEOUT },
	{ "rate-report", optional_argument, NULL, OPTION_RATE_REPORT },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ "version", no_argument, NULL, OPTION_VERSION },
	{ 0 },
};

static void parse(int argc, char **argv, struct transport_tls *tls, uint64_t *report_s)
{
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		switch (c) {
		case OPTION_RESOLVE:
			if (!command_resolve(optarg))
				bad("--resolve wants NAME=ADDR", optarg);
			break;
		case OPTION_CAFILE:
			tls->cafile = optarg;
			break;
		case OPTION_INSECURE:
			tls->insecure = true;
			break;
		case OPTION_TLS12:
			tls->tls12 = true;
			break;
		case OPTION_CIPHERSUITES:
			tls->ciphersuites = optarg;
			break;
		case OPTION_CIPHERS:
			tls->ciphers = optarg;
			break;
		case OPTION_KEYLOG:
			tls->keylog = optarg;
			break;
		case OPTION_SEED:
			peer_settings.seed = number("--seed wants a number", optarg, 0, UINT64_MAX);
			break;
		case OPTION_PARALLEL:
			peer_settings.parallel = number("--parallel wants 1 to 100000", optarg, 1,
							100000);
			break;
		case OPTION_TIMEOUT:
			peer_settings.connect_timeout_ns = NSEC_PER_SEC *
				number("--connect-timeout wants seconds", optarg, 1, 3600);
			break;
		case OPTION_RATE_REPORT:
			*report_s = optarg ? number("--rate-report wants seconds", optarg, 1, 3600)
					   : 1;
			break;
		case OPTION_HELP:
			usage();
			exit(0);
		case OPTION_VERSION:
			puts("derpload " DERPTRACE_VERSION);
			exit(0);
		case ':':
			bad("option wants a value", argv[optind - 1]);
		default:
			bad("no such option", argv[optind - 1]);
		}
	}
	if (optind < argc)
		bad("commands come on standard input, not as arguments", argv[optind]);
}

static void signalled(struct loop_fd *w, uint32_t events)
{
	struct signalfd_siginfo si;

	(void)events;
	if (read(w->fd, &si, sizeof(si)) == sizeof(si))
		stopped = true;
}

static int catch_signals(void)
{
	static struct loop_fd w = { .ready = signalled };
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	w.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (w.fd < 0)
		return -errno;
	return loop_watch(&w, EPOLLIN);
}

/* Thousands of peers are thousands of sockets. */
static void raise_file_limit(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim))
		return;
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
}

static int rounds(bool (*over)(void))
{
	int err = 0;

	while (!err && !over()) {
		out_flush();
		err = loop_round();
		wait_check();
	}
	return err;
}

static bool told_to_quit(void)
{
	return stopped || command_quit();
}

static bool all_closed(void)
{
	return !peer_busy();
}

int main(int argc, char **argv)
{
	struct transport_tls tls = { 0 };
	uint64_t report_s = 0;
	char err[256];
	int ret;

	peer_settings.seed = 1;
	peer_settings.parallel = 64;
	peer_settings.connect_timeout_ns = 30 * NSEC_PER_SEC;
	parse(argc, argv, &tls, &report_s);
	if (sodium_init() < 0) {
		fputs("derpload: libsodium does not start\n", stderr);
		return 1;
	}
	if (transport_init(&tls, err, sizeof(err)))
		bad(err, NULL);
	raise_file_limit();
	ret = loop_init();
	if (!ret)
		ret = catch_signals();
	if (!ret)
		ret = command_start(STDIN_FILENO);
	if (ret)
		goto cleanup;
	if (report_s)
		stats_report_rates(report_s);
	ret = rounds(told_to_quit);
	for (struct peer *p = peer_first(); p; p = peer_next(p))
		peer_close(p, PEER_FIN);
	if (!ret)
		ret = rounds(all_closed);
cleanup:
	out_flush();
	if (ret)
		fprintf(stderr, "derpload: %s\n", strerror(-ret));
	return ret ? 1 : 0;
}
