// SPDX-License-Identifier: BSD-2-Clause
#include "cmd/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/number.h"
#include "cmd/source.h"

enum {
	OPT_PID = 1000, OPT_UNIT, OPT_COMM, OPT_CGROUP, OPT_PORT, OPT_KEYLOG, OPT_MAP, OPT_READY,
	OPT_DURATION, OPT_INTERVAL, OPT_RING, OPT_MAX_CONNECTIONS, OPT_MAX_PAIRS,
	OPT_XDP, OPT_BUDGET, OPT_COUNT,
};

static const struct option_row shared_rows[] = {
	{ { "pid", required_argument, NULL, OPT_PID }, "PID", "this relay only; may be repeated",
	  "a process ID; 256 of them at most" },
	{ { "unit", required_argument, NULL, OPT_UNIT }, "UNIT", "relays of this systemd unit", NULL },
	{ { "comm", required_argument, NULL, OPT_COMM }, "NAME", "relays whose process has this name", NULL },
	{ { "cgroup", required_argument, NULL, OPT_CGROUP }, "PATH", "relays below this cgroup", NULL },
	{ { "port", required_argument, NULL, OPT_PORT }, "PORT", "relays that listen on this port",
	  "1 to 65535" },
	{ { "keylog", required_argument, NULL, OPT_KEYLOG }, "FILE",
	  "TLS secrets for capture files (SSLKEYLOGFILE format)", NULL },
	{ { "map", required_argument, NULL, OPT_MAP }, "FILE",
	  "the DERP map: names, regions (without it all nodes are one region)", NULL },
	{ { "duration", required_argument, NULL, OPT_DURATION }, "TIME",
	  "end a live trace after TIME (10s, 500ms, 5m); else Ctrl-C or SIGTERM ends it",
	  "a time, such as 10s, 500ms or 5m" },
	{ { "interval", required_argument, NULL, OPT_INTERVAL }, "TIME",
	  "time between two reports, one after the other (default 1s)",
	  "a time of 100ms or longer" },
	{ { "ready-file", required_argument, NULL, OPT_READY }, "FILE",
	  "removed at start, created when what enters is in the books", NULL },
	{ { "count", required_argument, NULL, OPT_COUNT }, "WHERE",
	  "plain HTTP connections' packets: kernel (counted there; default), user (copied)",
	  "kernel or user" },
	{ { "ring", required_argument, NULL, OPT_RING }, "SIZE",
	  "ring buffer between kernel and tracer (default 16M)",
	  "4K to 1G" },
	{ { "xdp", required_argument, NULL, OPT_XDP }, "MODE",
	  "count at the network card: auto, native, generic or off (default auto; with record and "
	  "serve off)",
	  "auto, native, generic or off" },
	{ { "budget", required_argument, NULL, OPT_BUDGET }, "PERCENT",
	  "of all CPUs' time for tracing (serve, record: 1%), or off; over it less is traced",
	  "more than 0% and at most 100%, or off" },
	{ { "max-connections", required_argument, NULL, OPT_MAX_CONNECTIONS }, "N",
	  "bound of memory (default 65536)",
	  "1 to 268435456" },
	{ { "max-pairs", required_argument, NULL, OPT_MAX_PAIRS }, "N",
	  "bound of memory (default 262144); over it: an exact 'other' row",
	  "1 to 268435456" },
	{ { "help", no_argument, NULL, 'h' }, NULL, "this text", NULL },
	{ { 0 }, NULL, NULL, NULL },
};

#define MAX_ROWS 64
#define HELP_COLUMNS 80
#define HELP_MARGIN 29
/* So much holds a fifth of a second of a relay's busiest traffic. */
#define RING_BYTES (16 << 20)
/* One hundredth of what the host can do is not noticed. */
#define BUDGET_PPM 10000

/* What is of no use to a verb is not in its help; whose script gives it to all verbs is heard out. */
static bool takes_shared(const struct verb *verb, int val)
{
	return val == 'h' ||
	       (!verb->no_sources && !(val == OPT_INTERVAL && verb->without & OPTIONS_INTERVAL) &&
		!(val == OPT_MAP && verb->without & OPTIONS_MAP) &&
		!(val == OPT_COUNT && verb->without & OPTIONS_COUNT));
}

static bool take_pid(struct options *o, const char *argument)
{
	uint64_t v;

	if (o->live.filter.pid_count == OPTIONS_MAX_PIDS || !number_parse(argument, 1, 1 << 22, &v))
		return false;
	o->pids[o->live.filter.pid_count++] = v;
	o->live.filter.pids = o->pids;
	return true;
}

static bool take_u32(const char *argument, uint32_t *value)
{
	uint64_t v;

	if (!number_parse(argument, 1, 1 << 28, &v))
		return false;
	*value = v;
	return true;
}

static bool take_count(struct options *o, const char *argument)
{
	o->live.count = !strcmp(argument, "kernel");
	return o->live.count || !strcmp(argument, "user");
}

static bool take_ring(struct options *o, const char *argument)
{
	uint64_t v;

	if (!number_parse_size(argument, 4096, 1 << 30, &v))
		return false;
	o->live.ring_bytes = v;
	return true;
}

static bool take_xdp(struct options *o, const char *argument)
{
	static const char *const modes[] = {
		[CAPTURE_XDP_OFF] = "off", [CAPTURE_XDP_AUTO] = "auto",
		[CAPTURE_XDP_NATIVE] = "native", [CAPTURE_XDP_GENERIC] = "generic",
	};
	size_t i;

	for (i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (!strcmp(argument, modes[i])) {
			o->live.xdp = i;
			return true;
		}
	}
	return false;
}

static bool take_budget(struct options *o, const char *argument)
{
	o->live.budget_ppm = 0;
	return !strcmp(argument, "off") ||
	       (number_parse_percent(argument, &o->live.budget_ppm) && o->live.budget_ppm);
}

static bool take_port(struct options *o, const char *argument)
{
	uint64_t v;

	if (!number_parse(argument, 1, 65535, &v))
		return false;
	o->live.filter.port = v;
	return true;
}

static bool take_shared(struct options *o, int val, const char *argument)
{
	switch (val) {
	case OPT_PID:
		return take_pid(o, argument);
	case OPT_UNIT:
		o->live.filter.unit = argument;
		return *argument;
	case OPT_COMM:
		o->live.filter.comm = argument;
		return *argument;
	case OPT_CGROUP:
		o->live.filter.cgroup = argument;
		return *argument;
	case OPT_PORT:
		return take_port(o, argument);
	case OPT_KEYLOG:
		o->keylog = argument;
		return *argument;
	case OPT_MAP:
		o->map = argument;
		return *argument;
	case OPT_READY:
		o->ready_file = argument;
		return *argument;
	case OPT_DURATION:
		return number_parse_duration(argument, &o->duration_ns) && o->duration_ns;
	case OPT_INTERVAL:
		o->has_interval = true;
		return number_parse_duration(argument, &o->interval_ns) &&
		       o->interval_ns >= 100 * NSEC_PER_MSEC;
	case OPT_COUNT:
		return take_count(o, argument);
	case OPT_RING:
		return take_ring(o, argument);
	case OPT_XDP:
		return take_xdp(o, argument);
	case OPT_BUDGET:
		return take_budget(o, argument);
	case OPT_MAX_CONNECTIONS:
		return take_u32(argument, &o->max_connections);
	case OPT_MAX_PAIRS:
		return take_u32(argument, &o->max_pairs);
	}
	return false;
}

/* @text behind the columns that the options stand in, on as many lines as it takes. */
static void print_wrapped(const char *text)
{
	size_t len = strlen(text), cut;

	while (len > HELP_COLUMNS - HELP_MARGIN) {
		for (cut = HELP_COLUMNS - HELP_MARGIN; cut && text[cut] != ' ';)
			cut--;
		if (!cut)
			break;
		printf("%.*s\n%*s", (int)cut, text, HELP_MARGIN, "");
		text += cut + 1;
		len -= cut + 1;
	}
	puts(text);
}

static void print_row(const struct option_row *row)
{
	char left[48], brief[8] = "    ";

	if (row->option.val < 256)
		snprintf(brief, sizeof(brief), "-%c, ", row->option.val);
	snprintf(left, sizeof(left), "%s--%s%s%s", brief, row->option.name,
		 row->argument ? " " : "", row->argument ? row->argument : "");
	if (strlen(left) > HELP_MARGIN - 3)
		printf("  %s\n%*s", left, HELP_MARGIN, "");
	else
		printf("  %-*s", HELP_MARGIN - 2, left);
	print_wrapped(row->help);
}

static void print_help(const struct verb *verb)
{
	const struct option_row *row;

	printf("Usage: derptrace %s%s%s\n\n%s\n\nExamples:\n%s\nOptions:\n", verb->name,
	       *verb->usage ? " " : "", verb->usage, verb->about, verb->examples);
	for (row = verb->rows; row && row->option.name; row++)
		print_row(row);
	for (row = shared_rows; row->option.name; row++) {
		if (takes_shared(verb, row->option.val))
			print_row(row);
	}
	if (!verb->no_sources)
		printf("\nSOURCE is live (default: every relay on this host), a .dtr file, a .pcap or\n"
		       ".pcapng file, or - (records on standard input). Memory: about 64 MiB, 1 KiB per\n"
		       "connection and 128 bytes per pair and node, more of those that are talking; both\n"
		       "are bounded.\n\n"
		       "Exit status: 0 nothing found, 1 a verdict or a proven loss, 2 usage, 3 could not\n"
		       "trace, or not all that was asked.\n");
}

static int gather(const struct verb *verb, struct option long_options[MAX_ROWS], char shorts[MAX_ROWS * 2])
{
	const struct option_row *tables[2] = { verb->rows, shared_rows };
	const struct option_row *row;
	char *s = shorts;
	int n = 0, t;

	*s++ = ':';
	for (t = 0; t < 2; t++) {
		for (row = tables[t]; row && row->option.name && n < MAX_ROWS - 1; row++) {
			if (t == 1 && verb->no_sources && row->option.val != 'h')
				continue;
			long_options[n++] = row->option;
			if (row->option.val < 256) {
				*s++ = row->option.val;
				if (row->option.has_arg == required_argument)
					*s++ = ':';
			}
		}
	}
	*s = '\0';
	memset(&long_options[n], 0, sizeof(long_options[n]));
	return n;
}

static const struct option_row *find_row(const struct option_row *rows, int val)
{
	for (; rows && rows->option.name; rows++) {
		if (rows->option.val == val)
			return rows;
	}
	return NULL;
}

static int usage_error(const struct verb *verb, const char *what, const char *which)
{
	fprintf(stderr, "derptrace %s: %s%s; see `derptrace %s --help`\n", verb->name, what, which,
		verb->name);
	return 2;
}

static int bad_argument(const struct verb *verb, int val, const char *argument)
{
	const struct option_row *row = find_row(verb->rows, val);

	if (!row)
		row = find_row(shared_rows, val);
	fprintf(stderr, "derptrace %s: --%s takes %s, not '%s'; see `derptrace %s --help`\n",
		verb->name, row->option.name, row->takes ? row->takes : "a name", argument,
		verb->name);
	return 2;
}

/* The options that were given, by their place in both tables: the verb's own first. */
struct given {
	bool shared[sizeof(shared_rows) / sizeof(shared_rows[0])];
	bool own[MAX_ROWS];
};

/* Never silent: what was asked for and is not done. */
static void say_of(const struct verb *verb, const struct option_row *row, const char *what)
{
	fprintf(stderr, "derptrace %s: --%s is %s\n", verb->name, row->option.name, what);
}

static void note_given(struct given *given, const struct verb *verb, int val)
{
	const struct option_row *own = find_row(verb->rows, val);
	const struct option_row *row = own ? own : find_row(shared_rows, val);
	bool *seen = own ? &given->own[own - verb->rows] : &given->shared[row - shared_rows];

	if (*seen && row->option.has_arg == required_argument && val != OPT_PID)
		say_of(verb, row, "given twice: the last counts");
	*seen = true;
}

static bool is_file(const char *name, const struct stat *file)
{
	struct stat st;

	return !stat(name, &st) && st.st_dev == file->st_dev && st.st_ino == file->st_ino;
}

static bool is_same(const char *x, const char *y)
{
	struct stat st;

	return !strcmp(x, y) || (!stat(x, &st) && S_ISREG(st.st_mode) && is_file(y, &st));
}

static int take_sources(int argc, char **argv, const struct verb *verb, struct options *o)
{
	int i;

	if (verb->no_operands && optind < argc)
		return usage_error(verb, "takes no operand: ", argv[optind]);
	while (optind < argc) {
		if (o->source_count == OPTIONS_MAX_SOURCES)
			return usage_error(verb, "too many sources, at most 64", "");
		if (!*argv[optind])
			return usage_error(verb, "a source without a name", "");
		for (i = 0; i < o->source_count && !verb->no_sources; i++) {
			if (is_same(o->sources[i], argv[optind]))
				return usage_error(verb, "named twice, it would count double: ", argv[optind]);
		}
		o->sources[o->source_count++] = argv[optind++];
	}
	if (!o->source_count)
		o->sources[o->source_count++] = "live";
	return 0;
}

/* What sources there are. */
struct sources_are {
	bool kinds[SOURCE_RECORDS + 1];
	bool going_on;		/* one is no file that is read to its end */
};

static struct sources_are look_at_sources(const struct options *o)
{
	struct sources_are are = { 0 };
	enum source_kind kind;
	struct stat st;
	int i;

	for (i = 0; i < o->source_count; i++) {
		kind = source_kind(o->sources[i]);
		are.kinds[kind] = true;
		are.going_on |= kind == SOURCE_LIVE || !strcmp(o->sources[i], "-") ||
				stat(o->sources[i], &st) || !S_ISREG(st.st_mode);
	}
	return are;
}

/* Why a shared option is heeded by no source; NULL: it is. */
static const char *why_unheeded(int val, const struct sources_are *are)
{
	switch (val) {
	case OPT_PID: case OPT_UNIT: case OPT_COMM: case OPT_CGROUP: case OPT_PORT:
	case OPT_COUNT: case OPT_RING: case OPT_XDP: case OPT_BUDGET:
		return are->kinds[SOURCE_LIVE] ? NULL : "for a live trace, and no source is live: not heeded";
	case OPT_MAX_CONNECTIONS:
		return are->kinds[SOURCE_LIVE] || are->kinds[SOURCE_CAPTURE] ? NULL :
		       "for those who trace, and all sources are records: not heeded";
	case OPT_KEYLOG:
		return are->kinds[SOURCE_CAPTURE] ? NULL : "for capture files, and no source is one: not heeded";
	case OPT_DURATION: case OPT_INTERVAL:
		return are->going_on ? NULL : "for what goes on, and files are read to their ends: not heeded";
	}
	return NULL;
}

static void say_unheeded(const struct given *given, const struct verb *verb, const struct options *o)
{
	const struct sources_are are = look_at_sources(o);
	const struct option_row *row;
	const char *why;

	for (row = shared_rows; row->option.name; row++) {
		if (!given->shared[row - shared_rows])
			continue;
		why = takes_shared(verb, row->option.val) ? why_unheeded(row->option.val, &are) :
		      "of no use here: not heeded";
		if (why)
			say_of(verb, row, why);
	}
}

bool options_is_source(const struct options *o, const struct stat *file)
{
	int i;

	for (i = 0; i < o->source_count; i++) {
		if (is_file(o->sources[i], file))
			return true;
	}
	return false;
}

int options_parse(int argc, char **argv, const struct verb *verb, void *ctx, struct options *o)
{
	struct option long_options[MAX_ROWS];
	char shorts[MAX_ROWS * 2];
	struct given given = { 0 };
	int val, status;
	bool ok;

	memset(o, 0, sizeof(*o));
	o->interval_ns = NSEC_PER_SEC;
	o->live.ring_bytes = RING_BYTES;
	o->live.count = true;
	o->live.xdp = verb->continuous ? CAPTURE_XDP_OFF : CAPTURE_XDP_AUTO;
	o->live.budget_ppm = verb->continuous ? BUDGET_PPM : 0;
	gather(verb, long_options, shorts);
	optind = 1;
	while ((val = getopt_long(argc, argv, shorts, long_options, NULL)) != -1) {
		if (val == 'h') {
			print_help(verb);
			return 1;
		}
		if (val == '?')
			return usage_error(verb, "no such option: ", argv[optind - 1]);
		if (val == ':')
			return usage_error(verb, "needs an argument: ", argv[optind - 1]);
		note_given(&given, verb, val);
		ok = find_row(verb->rows, val) ? verb->take(ctx, val, optarg) : take_shared(o, val, optarg);
		if (!ok)
			return bad_argument(verb, val, optarg);
	}
	status = take_sources(argc, argv, verb, o);
	if (status || verb->no_sources)
		return status;
	say_unheeded(&given, verb, o);
	return 0;
}
