// SPDX-License-Identifier: BSD-2-Clause
/* derptrace report: who lost what, where, why. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/number.h"
#include "cmd/cmd.h"
#include "cmd/findings.h"
#include "cmd/session.h"
#include "view/view.h"

enum report_form { FORM_TEXT, FORM_JSON = 1, FORM_HTML = 2, FORM_BOTH = FORM_JSON | FORM_HTML };

struct report_cmd {
	struct findings findings;
	enum report_form form;
	bool follow, once_shown;
	bool terminal, draws;		/* a person reads it; and control sequences do something there */
	uint64_t rows;
	uint64_t start_ns;		/* of the window, as it was shown first */
	int write_error;
};

enum { OPT_JSON = 2000, OPT_HTML, OPT_ROWS };

static const struct option_row rows[] = {
	{ { "json", no_argument, NULL, OPT_JSON }, NULL, "one JSON object (an object a line with -f)", NULL },
	{ { "html", no_argument, NULL, OPT_HTML }, NULL, "one page", NULL },
	{ { "follow", no_argument, NULL, 'f' }, NULL, "a report per interval, totals since the start", NULL },
	{ { "rows", required_argument, NULL, OPT_ROWS }, "N", "pairs shown one by one (default 10)",
	  "0 to 100000" },
	{ { 0 }, NULL, NULL, NULL },
};

static bool take(void *ctx, int val, const char *argument)
{
	struct report_cmd *cmd = ctx;

	switch (val) {
	case OPT_JSON:
		cmd->form |= FORM_JSON;
		return true;
	case OPT_HTML:
		cmd->form |= FORM_HTML;
		return true;
	case 'f':
		cmd->follow = true;
		return true;
	case OPT_ROWS:
		return number_parse(argument, 0, 100000, &cmd->rows);
	}
	return false;
}

static const struct verb verb = {
	.name = "report",
	.usage = "[OPTION]... [SOURCE]...",
	.about = "Follows the packets through the relay nodes and says which of them entered a\n"
		 "node and never left its mesh peer: at which hop, why, with the evidence and the\n"
		 "fix.",
	.examples = "  derptrace report                      every relay here, until Ctrl-C\n"
		    "  derptrace report --duration 10s --json\n"
		    "  derptrace report -f --pid 4242        a report a second\n"
		    "  derptrace report a.dtr b.dtr          what two hosts recorded\n"
		    "  derptrace report --keylog keys.txt a.pcapng b.pcapng\n",
	.rows = rows,
	.take = take,
};

static int show(struct report_cmd *cmd, struct report *r, bool following)
{
	const char *no_colour = getenv("NO_COLOR");
	struct view_text_options text = {
		.colour = cmd->draws && !(no_colour && *no_colour),
		.rows = cmd->rows,
		.clear = following && cmd->draws,
	};
	int err;

	/* Another host's clock is known better later; the window's start is one moment all the same. */
	if (!cmd->start_ns)
		cmd->start_ns = r->start_ns;
	r->start_ns = cmd->start_ns;
	switch (cmd->form) {
	case FORM_JSON:
		err = view_json(r, stdout, cmd->follow);
		break;
	case FORM_HTML:
		err = view_html(r, stdout);
		break;
	default:
		err = view_text(r, stdout, &text);
	}
	if (!err && fflush(stdout))
		err = -errno;
	return err;
}

static int interval(void *ctx, uint64_t now_ns)
{
	struct report_cmd *cmd = ctx;
	struct report r;

	(void)now_ns;
	/* A person sees the first table at once; a program asked for one report. */
	if (!cmd->follow && (cmd->once_shown || !cmd->terminal || cmd->form != FORM_TEXT))
		return 0;
	/* One start for all lines: that of all sources. A person may see what is there so far. */
	if (cmd->form == FORM_JSON && !session_is_whole())
		return 0;
	cmd->once_shown = true;
	if (correlate_report(cmd->findings.correlate, &r))
		return 1;
	cmd->write_error = show(cmd, &r, true);
	report_free(&r);
	return cmd->write_error;
}

static int last_report(struct report_cmd *cmd, int status)
{
	struct report r;

	if (correlate_report(cmd->findings.correlate, &r)) {
		fprintf(stderr, "derptrace report: out of memory\n");
		return EXIT_CANNOT;
	}
	if (!cmd->write_error)
		cmd->write_error = show(cmd, &r, cmd->follow);
	if (!status)
		status = findings_status(&r);
	report_free(&r);
	if (cmd->write_error && cmd->write_error != -EPIPE) {
		fprintf(stderr, "derptrace report: standard output: cannot write: %s\n", strerror(-cmd->write_error));
		status = EXIT_CANNOT;
	}
	return status;
}

/* Options that exclude each other; NULL: none do. */
static const char *excluded(const struct report_cmd *cmd)
{
	if (cmd->form == FORM_BOTH)
		return "--json and --html are two forms of one report; name one, and make the other from "
		       "records (derptrace record)";
	if (cmd->form == FORM_HTML && cmd->follow)
		return "--html is one page, it cannot follow; leave out -f and --interval";
	return NULL;
}

int cmd_report(int argc, char **argv)
{
	struct report_cmd cmd = { .rows = 10 };
	const char *term = getenv("TERM");
	struct options o;
	struct session_hooks hooks = { .verb = "report", .fd = -1, .interval = interval, .ctx = &cmd };
	const char *why;
	int status;

	status = options_parse(argc, argv, &verb, &cmd, &o);
	if (status)
		return status == 1 ? EXIT_NOTHING_FOUND : EXIT_USAGE;
	cmd.follow |= o.has_interval;
	why = excluded(&cmd);
	if (why) {
		fprintf(stderr, "derptrace report: %s\n", why);
		return EXIT_USAGE;
	}
	cmd.terminal = isatty(STDOUT_FILENO);
	cmd.draws = cmd.terminal && term && strcmp(term, "dumb");
	status = findings_open(&cmd.findings, &o, verb.name);
	if (status)
		return status;
	hooks.sink = &cmd.findings.sink;
	hooks.at_once = cmd.follow;
	status = session_run(&o, &hooks);
	if (session_had_source())
		status = last_report(&cmd, status);
	findings_close(&cmd.findings);
	return status;
}
