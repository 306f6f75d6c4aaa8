/* SPDX-License-Identifier: BSD-2-Clause */
/* derptrace map check|fix: the DERP map read, its findings printed, the corrected map written. */
#include "cmd/cmd.h"
#include "cmd/options.h"
#include "derpmap/derpmap.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COLUMNS		80

enum { OPT_JSON = 256, OPT_RESOLVE, OPT_OMIT_DEFAULT };

struct map_options {
	bool json;
	bool resolve;
	bool omit_default;
	const char *output;	/* NULL = standard output */
};

static bool take_option(void *ctx, int val, const char *argument)
{
	struct map_options *options = ctx;

	switch (val) {
	case OPT_JSON:
		options->json = true;
		return true;
	case OPT_RESOLVE:
		options->resolve = true;
		return true;
	case OPT_OMIT_DEFAULT:
		options->omit_default = true;
		return true;
	case 'o':
		options->output = argument;
		return *argument != '\0';
	}
	return false;
}

#define ROW_RESOLVE { { "resolve", no_argument, NULL, OPT_RESOLVE }, NULL, \
	"ask DNS where names of unknown class are (64 names)", NULL }

static const struct option_row check_rows[] = {
	{ { "json", no_argument, NULL, OPT_JSON }, NULL, "print the findings as JSON", NULL },
	ROW_RESOLVE,
	{ { 0 }, NULL, NULL, NULL },
};

static const struct option_row fix_rows[] = {
	{ { "output", required_argument, NULL, 'o' }, "FILE",
	  "write here (FILE may be the input); else standard output", NULL },
	{ { "omit-default", no_argument, NULL, OPT_OMIT_DEFAULT }, NULL,
	  "set OmitDefaultRegions: no relay of Tailscale's", NULL },
	ROW_RESOLVE,
	{ { 0 }, NULL, NULL, NULL },
};

static const struct verb check_verb = {
	.name = "map check",
	.usage = "[OPTION]... FILE",
	.about =
		"Checks the DERP map in FILE (- is standard input): JSON as Coder takes it by\n"
		"--derp-config-path and --derp-config-url, or Tailscale's. Faults, warnings and\n"
		"notes go to standard output, worst first, each with its code, place and fix.\n\n"
		"A relay is public or private by its addresses, else by a name that says so; what\n"
		"neither tells is unknown, and not accused.\n\n"
		"Exit status: 0 no fault and no warning (there may be notes), 1 a fault or a\n"
		"warning, 2 usage, 3 FILE cannot be read or is no DERP map.",
	.examples =
		"  derptrace map check derpmap.json\n"
		"  derptrace map check --json derpmap.json\n"
		"  curl -s https://controlplane.tailscale.com/derpmap/default |\n"
		"    derptrace map check -\n",
	.rows = check_rows,
	.take = take_option,
	.no_sources = true,
};

static const struct verb fix_verb = {
	.name = "map fix",
	.usage = "[OPTION]... FILE",
	.about = "Writes the DERP map in FILE (- is standard input) corrected: relays that cannot\n"
		 "mesh with the rest of their region get a region of their own (900 or the next\n"
		 "free id), missing and wrong RegionIDs are set. All else stays as it is. Each\n"
		 "change is told on standard error, and what is left for you.\n\n"
		 "Exit status: 0 the map written has no fault and no warning, 1 some are left,\n"
		 "2 usage, 3 FILE cannot be read or the output not written.",
	.examples = "  derptrace map fix derpmap.json -o fixed.json\n"
		    "  derptrace map fix --omit-default derpmap.json -o derpmap.json\n"
		    "  derptrace map fix derpmap.json | diff derpmap.json -\n",
	.rows = fix_rows,
	.take = take_option,
	.no_sources = true,
};

/* Prints one line's words, broken at COLUMNS; further lines start with indent spaces. */
static void print_wrapped(FILE *out, const char *line, size_t len, size_t column, int indent)
{
	const char *end = line + len;
	bool first = true;

	while (line < end) {
		size_t word = 0, width = 0;

		while (line + word < end && line[word] != ' ') {
			width += ((unsigned char)line[word] & 0xc0) != 0x80;
			word++;
		}
		if (!first && column + 1 + width > COLUMNS) {
			fprintf(out, "\n%*s", indent, "");
			column = (size_t)indent;
		} else if (!first) {
			fputc(' ', out);
			column++;
		}
		fwrite(line, 1, word, out);
		column += width;
		first = false;
		line += word + (line + word < end);
	}
	fputc('\n', out);
}

/* Lines that each end with \n. Commands are not broken: they are there to be copied. */
static void print_lines(FILE *out, const char *text, const char *head)
{
	int indent = (int)strlen(head);
	const char *end;

	for (; (end = strchr(text, '\n')); text = end + 1) {
		fputs(head, out);
		if (strncmp(text, "derper ", 7) == 0 || strncmp(text, "derptrace ", 10) == 0)
			fprintf(out, "%.*s\n", (int)(end - text), text);
		else
			print_wrapped(out, text, (size_t)(end - text), (size_t)indent, indent);
		head = "       " + (indent > 7 ? 0 : 7 - indent);
	}
}

static void print_finding(FILE *out, const char *file, const struct derpmap_finding *finding)
{
	char *head = NULL;

	if (asprintf(&head, "%s:%u: %s %s: %s", file, finding->place.line,
		     derpmap_level_name(finding->level), finding->code, finding->text) < 0)
		return;
	print_wrapped(out, head, strlen(head), 0, 2);
	free(head);
	print_lines(out, finding->evidence, "  ");
	print_lines(out, finding->fix, "  fix: ");
}

static const char *plural(size_t count)
{
	return count == 1 ? "" : "s";
}

static void print_sum(FILE *out, const char *file, const struct derpmap *map,
		      const struct derpmap_findings *findings)
{
	const size_t *n = findings->by_level;

	fprintf(out, "%s: %zu fault%s, %zu warning%s, %zu note%s in %zu region%s of %zu node%s\n",
		file, n[DERPMAP_FAULT], plural(n[DERPMAP_FAULT]), n[DERPMAP_WARNING],
		plural(n[DERPMAP_WARNING]), n[DERPMAP_NOTE], plural(n[DERPMAP_NOTE]),
		map->nr_regions, plural(map->nr_regions), map->nr_nodes, plural(map->nr_nodes));
}

static json_t *lines_json(const char *text)
{
	json_t *list = json_array();
	const char *end;

	for (; (end = strchr(text, '\n')); text = end + 1)
		json_array_append_new(list, json_stringn(text, (size_t)(end - text)));
	return list;
}

static json_t *finding_json(const struct derpmap_finding *finding)
{
	json_t *json = json_pack("{s:s,s:s,s:s,s:o,s:o,s:s,s:i,s:i}", "code", finding->code,
				 "level", derpmap_level_name(finding->level), "text", finding->text,
				 "evidence", lines_json(finding->evidence), "fix",
				 lines_json(finding->fix), "path", finding->path, "line",
				 (int)finding->place.line, "column", (int)finding->place.column);

	if (finding->has_region)
		json_object_set_new(json, "region", json_integer(finding->region_id));
	return json;
}

/* false where memory ran out: then nothing is printed. */
static bool print_json(const char *file, const struct derpmap *map,
		       const struct derpmap_findings *findings)
{
	json_t *root, *list = json_array();
	const size_t *n = findings->by_level;
	bool ok;
	size_t i;

	for (i = 0; i < findings->count; i++)
		json_array_append_new(list, finding_json(&findings->list[i]));
	ok = json_array_size(list) == findings->count;
	root = json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:o}", "file", file, "regions",
			 (json_int_t)map->nr_regions, "nodes", (json_int_t)map->nr_nodes, "faults",
			 (json_int_t)n[DERPMAP_FAULT], "warnings", (json_int_t)n[DERPMAP_WARNING],
			 "notes", (json_int_t)n[DERPMAP_NOTE], "findings", list);
	ok = ok && root && json_dumpf(root, stdout, JSON_INDENT(2)) == 0;
	json_decref(root);
	if (ok)
		putchar('\n');
	return ok;
}

static int say_error(const char *verb, const char *message)
{
	fprintf(stderr, "derptrace %s: %s\n", verb, message);
	return EXIT_CANNOT;
}

/* 0, or EXIT_CANNOT after saying why. */
static int load(const struct verb *verb, const struct map_options *options, const char *path,
		struct derpmap **map)
{
	struct derpmap_error err;

	if (derpmap_load(path, map, &err))
		return say_error(verb->name, err.message);
	if (options->resolve && derpmap_resolve(*map) < 0)
		return say_error(verb->name, "out of memory; free some, or leave out --resolve");
	return 0;
}

/* A full disk or a closed pipe must not look like success. */
static int flush_output(const struct verb *verb, int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	fprintf(stderr,
		"derptrace %s: standard output: %s; is the disk full, or the reader gone?\n",
		verb->name, strerror(errno));
	return EXIT_CANNOT;
}

static int status_of(const struct derpmap_findings *findings)
{
	return findings->by_level[DERPMAP_FAULT] + findings->by_level[DERPMAP_WARNING] ?
		EXIT_FOUND : EXIT_NOTHING_FOUND;
}

static int run_check(const struct map_options *options, const char *path)
{
	struct derpmap_findings findings = { 0 };
	struct derpmap *map = NULL;
	char *file = derpmap_escape(strcmp(path, "-") == 0 ? "standard input" : path);
	int status;
	size_t i;

	status = load(&check_verb, options, path, &map);
	if (status)
		goto cleanup;
	if (!file || derpmap_check(map, &findings)) {
		status = say_error(check_verb.name,
				   "out of memory; free some, or give a smaller map");
		goto cleanup;
	}
	status = status_of(&findings);
	if (options->json) {
		if (!print_json(file, map, &findings))
			status = say_error(check_verb.name, "the JSON could not be written");
	} else {
		for (i = 0; i < findings.count; i++)
			print_finding(stdout, file, &findings.list[i]);
		print_sum(stdout, file, map, &findings);
	}
	status = flush_output(&check_verb, status);
cleanup:
	derpmap_findings_free(&findings);
	derpmap_free(map);
	free(file);
	return status;
}

static int write_all(int fd, const char *bytes, size_t len)
{
	ssize_t wrote;

	while (len) {
		wrote = write(fd, bytes, len);
		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote < 0)
			return -errno;
		bytes += wrote;
		len -= (size_t)wrote;
	}
	return 0;
}

/* The mode of the file that is replaced; of a new file, what the user's mask leaves. */
static mode_t output_mode(const char *path)
{
	struct stat st;
	mode_t mask;

	if (stat(path, &st) == 0)
		return st.st_mode & 07777;
	mask = umask(0);
	umask(mask);
	return 0666 & ~mask;
}

/* The file is replaced whole or not at all: a server may read it at any time. */
static int write_replacing(const char *path, const char *bytes, size_t len)
{
	char *temp = NULL;
	int fd, ret;

	if (asprintf(&temp, "%s.XXXXXX", path) < 0)
		return -ENOMEM;
	fd = mkostemp(temp, O_CLOEXEC);
	if (fd < 0) {
		ret = -errno;
		free(temp);
		return ret;
	}
	ret = write_all(fd, bytes, len);
	if (!ret && (fchmod(fd, output_mode(path)) || fsync(fd)))
		ret = -errno;
	if (close(fd) && !ret)
		ret = -errno;
	if (!ret && rename(temp, path))
		ret = -errno;
	if (ret)
		unlink(temp);
	free(temp);
	return ret;
}

static int write_output(const char *path, const char *bytes, size_t len)
{
	char real[PATH_MAX];
	struct stat st;
	int fd, ret;

	if (stat(path, &st) != 0)
		return write_replacing(path, bytes, len);
	if (S_ISREG(st.st_mode))
		return realpath(path, real) ? write_replacing(real, bytes, len) : -errno;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = write_all(fd, bytes, len);
	if (close(fd) && !ret)
		ret = -errno;
	return ret;
}

/* What is left in the corrected map. Its status, or EXIT_CANNOT after saying why. */
static int tell_rest(const struct derpmap_fixed *fixed, const char *file)
{
	struct derpmap_findings findings = { 0 };
	struct derpmap *map = NULL;
	struct derpmap_error err;
	int status = EXIT_CANNOT;
	size_t i;

	if (derpmap_parse(fixed->json, fixed->json_len, file, &map, &err) ||
	    derpmap_check(map, &findings)) {
		say_error(fix_verb.name, "the corrected map could not be checked");
		goto cleanup;
	}
	for (i = 0; i < findings.count; i++)
		if (findings.list[i].level != DERPMAP_NOTE)
			print_finding(stderr, file, &findings.list[i]);
	print_sum(stderr, file, map, &findings);
	status = status_of(&findings);
cleanup:
	derpmap_findings_free(&findings);
	derpmap_free(map);
	return status;
}

static int put_fixed(const struct map_options *options, const struct derpmap_fixed *fixed)
{
	char *file;
	int ret;

	if (!options->output || strcmp(options->output, "-") == 0) {
		fwrite(fixed->json, 1, fixed->json_len, stdout);
		return flush_output(&fix_verb, 0);
	}
	ret = write_output(options->output, fixed->json, fixed->json_len);
	if (!ret)
		return 0;
	file = derpmap_escape(options->output);
	fprintf(stderr, "derptrace map fix: %s: cannot be written: %s; nothing was replaced, choose"
		" another place with -o\n", file ? file : "output", strerror(-ret));
	free(file);
	return EXIT_CANNOT;
}

static int run_fix(const struct map_options *options, const char *path)
{
	struct derpmap_fixed fixed = { 0 };
	struct derpmap *map = NULL;
	char *file = derpmap_escape(options->output ? options->output : "corrected map");
	int status;
	size_t i;

	status = load(&fix_verb, options, path, &map);
	if (status)
		goto cleanup;
	if (!file || derpmap_fix(map, options->omit_default, &fixed)) {
		status =
			say_error(fix_verb.name, "out of memory; free some, or give a smaller map");
		goto cleanup;
	}
	status = put_fixed(options, &fixed);
	if (status)
		goto cleanup;
	for (i = 0; i < fixed.nr_changes; i++)
		fprintf(stderr, "changed: %s\n", fixed.changes[i]);
	if (!fixed.nr_changes)
		fprintf(stderr, "nothing to change\n");
	status = tell_rest(&fixed, file);
cleanup:
	derpmap_fixed_free(&fixed);
	derpmap_free(map);
	free(file);
	return status;
}

static int usage(const char *what)
{
	fprintf(stderr, "derptrace map: %s; see `derptrace map --help`\n", what);
	return EXIT_USAGE;
}

static int help(void)
{
	const struct derpmap_rule *rules;
	size_t count, i;

	printf("Usage: derptrace map check [OPTION]... FILE\n"
	       "       derptrace map fix [OPTION]... FILE\n\n"
	       "Checks or corrects a DERP map, the JSON that tells clients where the relays are.\n"
	       "`derptrace map check --help` and `derptrace map fix --help` tell the options.\n\n"
	       "Examples:\n"
	       "  derptrace map check derpmap.json\n"
	       "  derptrace map fix derpmap.json -o fixed.json\n\n"
	       "Findings:\n");
	rules = derpmap_rules(&count);
	for (i = 0; i < count; i++)
		printf("  %s %-7s %s\n", rules[i].code, derpmap_level_name(rules[i].level),
		       rules[i].summary);
	return EXIT_NOTHING_FOUND;
}

int cmd_map(int argc, char **argv)
{
	struct map_options options = { 0 };
	const struct verb *verb;
	struct options shared;
	int ret;

	if (argc < 2)
		return usage("say check or fix, and a FILE");
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return help();
	if (strcmp(argv[1], "check") == 0)
		verb = &check_verb;
	else if (strcmp(argv[1], "fix") == 0)
		verb = &fix_verb;
	else
		return usage("it does check or fix, nothing else");
	argc--;
	argv++;
	ret = options_parse(argc, argv, verb, &options, &shared);
	if (ret)
		return ret == 1 ? EXIT_NOTHING_FOUND : EXIT_USAGE;
	/* Without a source the shared parser puts a word of its own, which is not in argv. */
	if (shared.source_count != 1 || shared.sources[0] != argv[argc - 1]) {
		fprintf(stderr, "derptrace %s: give exactly one FILE, or - for standard input;"
			" see `derptrace %s --help`\n", verb->name, verb->name);
		return EXIT_USAGE;
	}
	return verb == &check_verb ? run_check(&options, shared.sources[0]) :
				     run_fix(&options, shared.sources[0]);
}
