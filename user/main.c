// SPDX-License-Identifier: BSD-2-Clause
/* The table of verbs; usage comes from it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
} verbs[] = {
	{ "report", cmd_report, "who lost what, where, why: text, --json, --html; -f follows" },
	{ "top", cmd_top, "live: nodes, links, pairs (the default)" },
	{ "record", cmd_record, "keep records, or ship them: -o FILE, -o - for a pipe" },
	{ "pcap", cmd_pcap, "the packets themselves, for Wireshark: -o FILE" },
	{ "serve", cmd_serve, "continuous: OpenMetrics on loopback" },
	{ "map", cmd_map, "check or fix a DERP map" },
	{ "doctor", cmd_doctor, "can this host trace? what is missing, and the fix" },
};

#define VERBS (sizeof(verbs) / sizeof(verbs[0]))

static int usage(FILE *out, int status)
{
	size_t i;

	fputs("Usage: derptrace [VERB] [OPTION]... [SOURCE]...\n\n"
	      "Follows every packet that the DERP relays of this host forward, and names those\n"
	      "that enter one node of a region and never leave its mesh peer. Restarts nothing.\n\n"
	      "Examples:\n"
	      "  derptrace report --duration 10s        every relay here, ten seconds, a report\n"
	      "  derptrace report --json --pid 4242     one relay, until Ctrl-C, for programs\n"
	      "  ssh derp2 derptrace record -o - | derptrace report live -\n"
	      "  derptrace pcap -o derp.pcapng          for Wireshark\n"
	      "  derptrace map check derpmap.json       public and private nodes in one region?\n\n"
	      "Verbs:\n", out);
	for (i = 0; i < VERBS; i++)
		fprintf(out, "  %-8s %s\n", verbs[i].name, verbs[i].help);
	fputs("\n`derptrace VERB --help` says more; so do the manual pages, derptrace(1) first.\n", out);
	return status;
}

static int run(int argc, char **argv)
{
	static char *top[] = { "top", NULL }, *help[] = { NULL, "--help", NULL };
	size_t i;

	if (argc < 2)
		return cmd_top(1, top);
	if (!strcmp(argv[1], "help") && argc > 2) {
		help[0] = argv[2];
		for (i = 0; i < VERBS; i++) {
			if (!strcmp(argv[2], verbs[i].name))
				return verbs[i].run(2, help);
		}
		argv++;
	} else if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		return usage(stdout, EXIT_NOTHING_FOUND);
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		puts("derptrace " DERPTRACE_VERSION);
		return EXIT_NOTHING_FOUND;
	}
	for (i = 0; i < VERBS; i++) {
		if (!strcmp(argv[1], verbs[i].name))
			return verbs[i].run(argc - 1, argv + 1);
	}
	if (argv[1][0] == '-')
		return cmd_top(argc, argv);
	fprintf(stderr, "derptrace: no such verb: '%s'; see `derptrace --help`\n", argv[1]);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	int status = run(argc, argv);

	/* A verb that saw it has said so. Who closes the pipe has read enough. */
	if ((fflush(stdout) || ferror(stdout)) && errno != EPIPE && status != EXIT_CANNOT) {
		fprintf(stderr, "derptrace: standard output: cannot write: %s\n", strerror(errno));
		status = EXIT_CANNOT;
	}
	return status;
}
