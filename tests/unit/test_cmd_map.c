/* SPDX-License-Identifier: BSD-2-Clause */
/* derptrace map: output to the letter, exit status, files written and left alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "derpmap_maps.h"

static const char broken[] = MAP_BROKEN;
static const char coder[] = MAP_CODER;

static char dir[] = "/tmp/dt-derpmap-XXXXXX";

static void put_file(const char *name, const char *text)
{
	FILE *file;

	assert_int_equal(chdir(dir), 0);
	file = fopen(name, "w");
	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}

static void get_file(const char *name, char *text, size_t size)
{
	FILE *file = fopen(name, "r");
	size_t len;

	assert_non_null(file);
	len = fread(text, 1, size - 1, file);
	text[len] = '\0';
	fclose(file);
}

/* Runs the verb with standard output and error in the files out and err; words end with NULL. */
static int run(const char *word, ...)
{
	char *argv[16] = { (char *)"map" };
	int argc = 1, saved[2], status, i;
	const char *names[] = { "out", "err" };
	va_list words;

	va_start(words, word);
	for (; word; word = va_arg(words, const char *))
		argv[argc++] = (char *)word;
	va_end(words);
	fflush(NULL);
	for (i = 0; i < 2; i++) {
		int fd = open(names[i], O_WRONLY | O_CREAT | O_TRUNC, 0600);

		saved[i] = dup(i + 1);
		dup2(fd, i + 1);
		close(fd);
	}
	status = cmd_map(argc, argv);
	fflush(NULL);
	for (i = 0; i < 2; i++) {
		dup2(saved[i], i + 1);
		close(saved[i]);
	}
	return status;
}

static void test_verb_check(void **state)
{
	static const char expected[] =
		"broken.json:3: fault DTM001: region 1 \"us-west\" mixes publicly and privately\n"
		"  routable relays: they cannot reach each other, so packets between clients on\n"
		"  different nodes are lost\n"
		"  node \"public-derp\" derp1.tailscale.com:443 is public: a relay of Tailscale's\n"
		"  node \"internal-derp\" internal-derp.example.com:8443 is private: by its name,\n"
		"  the label internal-derp\n"
		"  Tailscale's relays hold a mesh key of their own: a route between the nodes\n"
		"  would not mend it\n"
		"  fix: give the private relays a region of their own, 900:\n"
		"       derptrace map fix broken.json -o FIXED\n"
		"       or remove the public relays and set \"OmitDefaultRegions\": true, where\n"
		"       every client is inside\n"
		"broken.json:1: note DTM008: Tailscale's default regions stay in use beside the\n"
		"  private region 1 \"us-west\": a client may take one as its home that others\n"
		"  cannot reach\n"
		"  fix: where every client is inside, set \"OmitDefaultRegions\": true (map fix\n"
		"       --omit-default)\n"
		"broken.json:14: note DTM006: node \"internal-derp\""
		" is dialled at port 8443: with\n"
		"  its defaults derper has TLS on port 443 only, and plain HTTP on any other\n"
		"  fix: if it is derper:\n"
		"       derper -a :8443 -hostname internal-derp.example.com"
		" -certmode manual -certdir DIR\n"
		"broken.json: 1 fault, 0 warnings, 2 notes in 1 region of 2 nodes\n";
	char text[8192];

	(void)state;
	put_file("broken.json", broken);
	put_file("good.json", coder);
	assert_int_equal(run("check", "broken.json", NULL), EXIT_FOUND);
	get_file("out", text, sizeof(text));
	assert_string_equal(text, expected);
	assert_int_equal(run("check", "good.json", NULL), EXIT_NOTHING_FOUND);
	get_file("out", text, sizeof(text));
	assert_string_equal(text,
			    "good.json: 0 faults, 0 warnings, 0 notes in 1 region of 1 node\n");
	assert_int_equal(run("check", "--json", "broken.json", NULL), EXIT_FOUND);
	get_file("out", text, sizeof(text));
	assert_non_null(strstr(text, "\"code\": \"DTM001\",\n      \"level\": \"fault\","));
	assert_non_null(strstr(text, "\"path\": \"Regions[\\\"1\\\"].Nodes[1]\""));
	get_file("err", text, sizeof(text));
	assert_string_equal(text, "");
}

static void test_verb_fix(void **state)
{
	char text[8192], file[8192];
	struct stat st;

	(void)state;
	put_file("broken.json", broken);
	chmod("broken.json", 0640);
	assert_int_equal(run("fix", "broken.json", NULL), EXIT_NOTHING_FOUND);
	get_file("broken.json", file, sizeof(file));
	assert_string_equal(file, broken);
	get_file("out", text, sizeof(text));
	assert_int_equal(run("fix", "-o", "new.json", "broken.json", NULL), EXIT_NOTHING_FOUND);
	get_file("new.json", file, sizeof(file));
	assert_string_equal(file, text);
	get_file("broken.json", file, sizeof(file));
	assert_string_equal(file, broken);
	assert_int_equal(run("check", "new.json", NULL), EXIT_NOTHING_FOUND);
	/* In place, through a link: the file behind it changes, its mode and the link stay. */
	assert_int_equal(symlink("broken.json", "link.json"), 0);
	assert_int_equal(run("fix", "link.json", "-o", "link.json", NULL), EXIT_NOTHING_FOUND);
	get_file("broken.json", file, sizeof(file));
	assert_string_equal(file, text);
	assert_int_equal(lstat("link.json", &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(stat("broken.json", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	get_file("err", text, sizeof(text));
	assert_string_equal(text, "changed: node \"internal-derp\" (private: by its name, the label"
			    " internal-derp) moved from region 1 to the new region 900"
			    " \"us-west-internal\"\n"
			    "link.json: 0 faults, 0 warnings, 2 notes in 2 regions of 2 nodes\n");
}

static void test_verb_errors(void **state)
{
	static const struct { const char *words[4]; int status; const char *said;
	} cases[] = {
		{{NULL}, EXIT_USAGE, "say check or fix"},
		{{"mend", "x"}, EXIT_USAGE, "check or fix"},
		{{"check"}, EXIT_USAGE, "exactly one FILE"},
		{{"check", "a", "b"}, EXIT_USAGE, "exactly one FILE"},
		{{"check", "--json"}, EXIT_USAGE, "exactly one FILE"},
		{{"check", "--omit-default", "a"}, EXIT_USAGE, "no such option"},
		{{"fix", "-o"}, EXIT_USAGE, "needs an argument"},
		{{"check", "missing.json"},
		 EXIT_CANNOT,
		 "missing.json: cannot be read: No such file"},
		{{"check", "."}, EXIT_CANNOT, "Is a directory"},
		{{"check", "/dev/zero"}, EXIT_CANNOT, "larger than 64 MiB; a DERP map"},
		{{"check", "cut.json"}, EXIT_CANNOT, "cut.json:1:10: "},
		{{"fix", "cut.json"}, EXIT_CANNOT, "the file is cut off"},
		{{"fix", "good.json", "-o", "no/such/dir.json"},
		 EXIT_CANNOT,
		 "nothing was replaced"},
		{{"--help"}, EXIT_NOTHING_FOUND, ""},
		{{"check", "--help"}, EXIT_NOTHING_FOUND, ""},
		{{"fix", "-h"}, EXIT_NOTHING_FOUND, ""},
	};
	char text[8192];
	size_t i;

	(void)state;
	put_file("cut.json", "{\"Regions\"");
	put_file("good.json", coder);
	for (i = 0; i < COUNT(cases); i++) {
		const char *const *w = cases[i].words;
		int status = run(w[0], w[1], w[2], w[3], NULL);

		get_file("err", text, sizeof(text));
		if (status != cases[i].status || !strstr(text, cases[i].said))
			fail_msg("%s %s: %d, \"%s\"", w[0] ? w[0] : "", w[0] && w[1] ? w[1] : "",
				 status, text);
		get_file("out", text, sizeof(text));
		assert_int_equal(*text != '\0', status == EXIT_NOTHING_FOUND);
	}
}

/* Names from the map reach no terminal as they are. */
static void test_verb_hostile(void **state)
{
	static const char *const forms[] = { "check", "--json", "fix" };
	char text[16384];
	size_t i;

	(void)state;
	put_file("evil.json",
		 "{\"Regions\": {\"1\": {\"RegionCode\": \"\\u001b]0;x\\u0007\", \"Nodes\": ["
		 "{\"Name\": \"\\u202e\\u009b2J\\n\", \"HostName\": \"10.0.0.1\", \"RegionID\": 2},"
		 "{\"Name\": \"%s%n\", \"HostName\": \"192.0.2.1\"},"
		 "{\"Name\": \"q\", \"HostName\": \"a;rm -rf\\u001b[m\"}]}}}");
	for (i = 0; i < COUNT(forms); i++) {
		int status = i == 1 ? run("check", "--json", "evil.json", NULL) :
			     i == 2 ? run("fix", "-o", "evil.out", "evil.json", NULL) :
				      run("check", "evil.json", NULL);

		assert_int_equal(status, EXIT_FOUND);
		get_file(i == 2 ? "err" : "out", text, sizeof(text));
		assert_non_null(strstr(text, "u202e"));
		assert_null(strpbrk(text, "\x1b\x07"));
		assert_null(strstr(text, "\xc2\x9b"));
		assert_null(strstr(text, "\xe2\x80\xae"));
	}
}

static int make_dir(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	static const char *const names[] = { "out", "err", "broken.json", "good.json", "new.json",
		"link.json", "cut.json", "evil.json", "evil.out" };
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(names) && chdir(dir) == 0; i++)
		unlink(names[i]);
	return chdir("/") || rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_verb_check),
		cmocka_unit_test(test_verb_fix),
		cmocka_unit_test(test_verb_errors),
		cmocka_unit_test(test_verb_hostile),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
