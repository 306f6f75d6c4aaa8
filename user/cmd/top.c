// SPDX-License-Identifier: BSD-2-Clause
/* derptrace top: the report, live, on a terminal that is drawn anew each interval. */
#include <errno.h>
#include <fcntl.h>
#include <ncurses.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "cmd/findings.h"
#include "cmd/session.h"
#include "view/view.h"

#define EVENTS	3		/* of what was said last so many lines stand at the bottom */

struct top_cmd {
	struct findings findings;
	bool terminal;			/* there is one that can be drawn on */
	bool drawn;			/* the screen is ours */
	struct session_hooks *hooks;
	FILE *said;			/* what standard error was told meanwhile */
	int stderr_fd;
	off_t said_read;		/* of it so much is in events */
	char events[EVENTS][256];	/* the newest last */
	int event_count;
	int scroll;
	char *text;
	size_t text_len;
	bool found;
};

static const struct verb verb = {
	.name = "top",
	.usage = "[OPTION]... [SOURCE]...",
	.about = "Live: verdicts, links, landings and pairs, each interval anew. Keys: up, down,\n"
		 "space scroll; q ends. What happens meanwhile (an interface that goes down, a\n"
		 "relay that comes back) stands at the bottom, and on standard error at the end.\n"
		 "Without a terminal it prints a report per interval.",
	.examples = "  derptrace top\n"
		    "  derptrace top --interval 2s --map derpmap.json\n",
};

static int render(struct top_cmd *cmd)
{
	struct view_text_options options = { .rows = 1000 };
	struct report r;
	char *text = NULL;
	size_t len = 0;
	FILE *out;

	if (correlate_report(cmd->findings.correlate, &r))
		return -ENOMEM;
	cmd->found = findings_status(&r);
	if (!cmd->terminal)
		options.rows = 10;
	out = open_memstream(&text, &len);
	if (out) {
		view_text(&r, out, &options);
		fclose(out);
	}
	report_free(&r);
	if (!text)
		return -ENOMEM;
	free(cmd->text);
	cmd->text = text;
	cmd->text_len = len;
	return 0;
}

static void add_event(struct top_cmd *cmd, const char *line, size_t len)
{
	time_t now = time(NULL);
	struct tm tm;
	char *to;

	if (cmd->event_count == EVENTS)
		memmove(cmd->events[0], cmd->events[1], (EVENTS - 1) * sizeof(cmd->events[0]));
	else
		cmd->event_count++;
	to = cmd->events[cmd->event_count - 1];
	localtime_r(&now, &tm);
	strftime(to, sizeof(cmd->events[0]), "%H:%M:%S ", &tm);
	snprintf(to + strlen(to), sizeof(cmd->events[0]) - strlen(to), "%.*s", (int)len, line);
}

/* Standard error writes where the file's one offset stands; it is not to be moved. */
static void take_events(struct top_cmd *cmd)
{
	char bytes[sizeof(cmd->events[0])], *end;
	ssize_t n;

	while (cmd->said && (n = pread(fileno(cmd->said), bytes, sizeof(bytes), cmd->said_read)) > 0) {
		end = memchr(bytes, '\n', n);
		if (!end && n < (ssize_t)sizeof(bytes))
			return;
		add_event(cmd, bytes, end ? end - bytes : n);
		cmd->said_read += end ? end - bytes + 1 : n;
	}
}

static void draw_events(const struct top_cmd *cmd)
{
	int i;

	attron(A_BOLD);
	for (i = 0; i < cmd->event_count; i++)
		mvaddnstr(LINES - cmd->event_count + i, 0, cmd->events[i], COLS);
	attroff(A_BOLD);
}

static void draw(struct top_cmd *cmd)
{
	const char *line = cmd->text, *end;
	int row = 0, skip, last = -LINES / 2;

	if (!line)
		return;
	for (end = line; (end = strchr(end, '\n')); end++)
		last++;
	if (last < 0)
		last = 0;
	erase();
	cmd->scroll = cmd->scroll < last ? cmd->scroll : last;
	skip = cmd->scroll;
	while (*line && row < LINES - cmd->event_count) {
		end = strchrnul(line, '\n');
		if (skip-- <= 0)
			mvaddnstr(row++, 0, line, end - line < COLS ? end - line : COLS);
		line = *end ? end + 1 : end;
	}
	draw_events(cmd);
	refresh();
}

/* Of a terminal that is not known, or cannot be drawn on, nothing is asked but lines. */
static bool can_draw(void)
{
	const char *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && isatty(STDIN_FILENO) && term && strcmp(term, "dumb");
}

/*
 * Not before there is something to draw: what went wrong until then would be gone with the screen.
 * What is said later is kept until its end.
 */
static bool begin_screen(struct top_cmd *cmd)
{
	if (!newterm(NULL, stdout, stdin))
		return false;
	cbreak();
	noecho();
	nodelay(stdscr, TRUE);
	keypad(stdscr, TRUE);
	curs_set(0);
	cmd->said = tmpfile();
	cmd->stderr_fd = cmd->said ? fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3) : -1;
	if (cmd->stderr_fd >= 0)
		dup2(fileno(cmd->said), STDERR_FILENO);
	return true;
}

static void end_screen(struct top_cmd *cmd)
{
	int c;

	endwin();
	if (cmd->stderr_fd >= 0) {
		dup2(cmd->stderr_fd, STDERR_FILENO);
		close(cmd->stderr_fd);
		rewind(cmd->said);
		while ((c = fgetc(cmd->said)) != EOF)
			fputc(c, stderr);
	}
	if (cmd->said)
		fclose(cmd->said);
}

static int interval(void *ctx, uint64_t now_ns)
{
	struct top_cmd *cmd = ctx;
	int err = render(cmd);

	(void)now_ns;
	if (err)
		return err;
	if (cmd->terminal && !cmd->drawn) {
		cmd->drawn = cmd->terminal = begin_screen(cmd);
		cmd->hooks->fd = cmd->drawn ? STDIN_FILENO : -1;
	}
	if (cmd->drawn) {
		take_events(cmd);
		draw(cmd);
		return 0;
	}
	if (fwrite(cmd->text, 1, cmd->text_len, stdout) != cmd->text_len || fflush(stdout))
		return -EIO;
	return 0;
}

static int key_ready(void *ctx)
{
	struct top_cmd *cmd = ctx;
	int key;

	while ((key = getch()) != ERR) {
		if (key == 'q')
			return 1;
		if (key == KEY_DOWN || key == 'j')
			cmd->scroll++;
		if ((key == KEY_UP || key == 'k') && cmd->scroll)
			cmd->scroll--;
		if (key == ' ' || key == KEY_NPAGE)
			cmd->scroll += LINES / 2;
		if (key == KEY_PPAGE)
			cmd->scroll = cmd->scroll > LINES / 2 ? cmd->scroll - LINES / 2 : 0;
	}
	draw(cmd);
	return 0;
}

int cmd_top(int argc, char **argv)
{
	struct top_cmd cmd = { 0 };
	struct session_hooks hooks = { .verb = "top", .fd = -1, .interval = interval, .ctx = &cmd,
				       .at_once = true };
	struct options o;
	int status;

	status = options_parse(argc, argv, &verb, &cmd, &o);
	if (status)
		return status == 1 ? EXIT_NOTHING_FOUND : EXIT_USAGE;
	cmd.terminal = can_draw();
	cmd.hooks = &hooks;
	status = findings_open(&cmd.findings, &o, verb.name);
	if (status)
		return status;
	hooks.sink = &cmd.findings.sink;
	hooks.ready = key_ready;
	status = session_run(&o, &hooks);
	if (session_had_source() && !render(&cmd) && !status)
		status = cmd.found ? EXIT_FOUND : EXIT_NOTHING_FOUND;
	if (cmd.drawn)
		end_screen(&cmd);
	/* What was last on the screen stays readable when it is gone. */
	if (session_had_source() && cmd.text)
		fwrite(cmd.text, 1, cmd.text_len, stdout);
	findings_close(&cmd.findings);
	free(cmd.text);
	return status;
}
