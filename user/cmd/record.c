// SPDX-License-Identifier: BSD-2-Clause
/* derptrace record: what was seen, to a file or a pipe. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "cmd/session.h"

struct record_cmd {
	const char *path;
	struct record_writer *writer;
};

static const struct option_row rows[] = {
	{ { "output", required_argument, NULL, 'o' }, "FILE", "the .dtr file; - is standard output", NULL },
	{ { 0 }, NULL, NULL, NULL },
};

static bool take(void *ctx, int val, const char *argument)
{
	struct record_cmd *cmd = ctx;

	(void)val;
	cmd->path = argument;
	return argument[0];
}

static const struct verb verb = {
	.name = "record",
	.usage = "-o FILE [OPTION]... [SOURCE]...",
	.about = "Keeps what was seen: counts, connections, losses; no payload byte and no secret.\n"
		 "A report can be made of it later, or on another host, together with other hosts'\n"
		 "records.",
	.examples = "  derptrace record -o derp1.dtr --duration 1m\n"
		    "  ssh derp2 derptrace record -o - | derptrace report live -\n",
	.rows = rows,
	.continuous = true,
	.take = take,
	/* It tells what it saw as it is; what that means a report says. */
	.without = OPTIONS_INTERVAL | OPTIONS_MAP,
};

static int put(void *ctx, const struct record *r)
{
	struct record_cmd *cmd = ctx;

	return record_writer_put(cmd->writer, r);
}

int cmd_record(int argc, char **argv)
{
	struct record_cmd cmd = { 0 };
	const struct record_sink sink = { &cmd, put };
	struct session_hooks hooks = { .verb = "record", .fd = -1, .sink = &sink, .ctx = &cmd };
	struct options o;
	char err[256];
	int status, error;
	struct stat st;

	status = options_parse(argc, argv, &verb, &cmd, &o);
	if (status)
		return status == 1 ? EXIT_NOTHING_FOUND : EXIT_USAGE;
	if (!cmd.path || (!strcmp(cmd.path, "-") && isatty(STDOUT_FILENO))) {
		fprintf(stderr, "derptrace record: name a file with -o, or a pipe with -o -\n");
		return EXIT_USAGE;
	}
	if (!stat(cmd.path, &st) && S_ISREG(st.st_mode) && options_is_source(&o, &st)) {
		fprintf(stderr, "derptrace record: %s: it is a source, too; name another file\n", cmd.path);
		return EXIT_CANNOT;
	}
	cmd.writer = record_writer_open(cmd.path, err);
	if (!cmd.writer) {
		fprintf(stderr, "derptrace record: %s\n", err);
		return EXIT_CANNOT;
	}
	status = session_run(&o, &hooks);
	error = record_writer_close(cmd.writer);
	if (error == -EPIPE) {
		fputs("derptrace record: nobody reads standard output any more\n", stderr);
	} else if (error) {
		fprintf(stderr, "derptrace record: %s: cannot write: %s; what was written before is whole\n",
			cmd.path, strerror(-error));
		status = EXIT_CANNOT;
	}
	return status;
}
