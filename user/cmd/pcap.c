// SPDX-License-Identifier: BSD-2-Clause
/* derptrace pcap: the packets themselves, for Wireshark. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/denied.h"
#include "cmd/cmd.h"
#include "cmd/session.h"
#include "cmd/source.h"
#include "view/pcapng.h"

struct pcap_cmd {
	const char *path;
	struct pcapng_options options;
	struct pcapng *pcapng;
	bool created;
};

enum { OPT_WITH_SECRETS = 2000, OPT_PAYLOAD };

static const struct option_row rows[] = {
	{ { "output", required_argument, NULL, 'o' }, "FILE", "the .pcapng file; - is standard output", NULL },
	{ { "with-secrets", no_argument, NULL, OPT_WITH_SECRETS }, NULL,
	  "put the TLS secrets inside: whoever reads FILE reads the traffic", NULL },
	{ { "payload", no_argument, NULL, OPT_PAYLOAD }, NULL,
	  "decrypted frames whole; else relayed packets are cut to their clear heads", NULL },
	{ { 0 }, NULL, NULL, NULL },
};

static bool take(void *ctx, int val, const char *argument)
{
	struct pcap_cmd *cmd = ctx;

	switch (val) {
	case 'o':
		cmd->path = argument;
		return argument[0];
	case OPT_WITH_SECRETS:
		cmd->options.secrets = true;
		return true;
	case OPT_PAYLOAD:
		cmd->options.payload = true;
		return true;
	}
	return false;
}

static const struct verb verb = {
	.name = "pcap",
	.usage = "-o FILE [OPTION]... [SOURCE]...",
	.about = "Writes each node's TCP segments as pcapng, an interface per node. With\n"
		 "--with-secrets a stock Wireshark decrypts every connection that was opened\n"
		 "since; connections that were open before, and without it all, are written as\n"
		 "decrypted DERP frames on an interface of their own, which derp.lua shows:\n"
		 "PREFIX/share/derptrace/derp.lua, in the sources tools/wireshark/derp.lua.",
	.examples = "  derptrace pcap -o derp.pcapng --duration 10s\n"
		    "  derptrace pcap -o derp.pcapng --with-secrets --pid 4242\n"
		    "  derptrace pcap -o - | tshark -r - -X lua_script:derp.lua\n"
		    "  derptrace pcap -o out.pcapng --with-secrets --keylog keys.txt in.pcap\n",
	.rows = rows,
	.take = take,
	/* It counts nothing, neither here nor in the kernel: what is counted is not copied. */
	.without = OPTIONS_INTERVAL | OPTIONS_MAP | OPTIONS_COUNT,
};

static const char *name_of(const struct pcap_cmd *cmd)
{
	return strcmp(cmd->path, "-") ? cmd->path : "standard output";
}

static int refuse(const struct pcap_cmd *cmd, const char *why)
{
	fprintf(stderr, "derptrace pcap: %s: %s\n", name_of(cmd), why);
	return -1;
}

/* Nobody else may read secrets: neither who may read an old file of this name, nor who owns it. */
static bool is_private(const struct stat *st)
{
	return !S_ISREG(st->st_mode) || (!(st->st_mode & 077) && st->st_uid == geteuid());
}

static int open_output(struct pcap_cmd *cmd, const struct options *o)
{
	int flags = O_WRONLY | O_CREAT | O_CLOEXEC, fd;
	struct stat st;
	char why[160];

	if (!strcmp(cmd->path, "-")) {
		fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	} else {
		cmd->created = true;
		fd = open(cmd->path, flags | O_EXCL, cmd->options.secrets ? 0600 : 0644);
		if (fd < 0 && errno == EEXIST) {
			cmd->created = false;
			fd = open(cmd->path, flags | (cmd->options.secrets ? O_NOFOLLOW : 0), 0600);
		}
	}
	if (fd < 0 || fstat(fd, &st)) {
		snprintf(why, sizeof(why), "cannot write: %s%s", strerror(errno), denied_advice(errno));
		refuse(cmd, why);
	} else if (cmd->options.secrets && !is_private(&st)) {
		refuse(cmd, "others may read it, so no secrets go there; remove it, or name another");
	} else if (S_ISREG(st.st_mode) && options_is_source(o, &st)) {
		refuse(cmd, "it is a source, too; name another file");
	} else if (strcmp(cmd->path, "-") && S_ISREG(st.st_mode) && ftruncate(fd, 0)) {
		refuse(cmd, strerror(errno));
	} else {
		return fd;
	}
	if (fd >= 0)
		close(fd);
	return -1;
}

/* What would write nothing is not begun. */
static const char *without_packets(const struct options *o)
{
	int i;

	for (i = 0; i < o->source_count; i++) {
		if (source_kind(o->sources[i]) == SOURCE_RECORDS)
			return o->sources[i];
	}
	return NULL;
}

static int put(void *ctx, const struct record *r)
{
	(void)ctx;
	(void)r;
	return 0;
}

static void on_event(void *ctx, uint64_t agent, const struct capture_event *event)
{
	pcapng_event(((struct pcap_cmd *)ctx)->pcapng, agent, event);
}

static void on_whole(void *ctx, uint64_t agent, const struct stream_frame *frame,
		     const uint8_t *bytes, size_t len)
{
	pcapng_frame(((struct pcap_cmd *)ctx)->pcapng, agent, frame, bytes, len);
}

static int interval(void *ctx, uint64_t now_ns)
{
	(void)now_ns;
	return pcapng_error(((struct pcap_cmd *)ctx)->pcapng);
}

static void say_counts(const struct pcap_cmd *cmd, const struct pcapng_counts *n)
{
	fprintf(stderr, "derptrace pcap: %s: %llu packets of %u node%s, %llu decrypted frames\n",
		name_of(cmd), (unsigned long long)n->packets, n->nodes, n->nodes == 1 ? "" : "s",
		(unsigned long long)n->frames);
	fprintf(stderr,
		"derptrace pcap: connections: %llu %s, %llu as decrypted frames, %llu not readable\n",
		(unsigned long long)n->readable,
		cmd->options.secrets ? "with their secrets inside (or plain)" : "plain, without a frame",
		(unsigned long long)n->as_frames, (unsigned long long)n->unread);
	if (n->drops)
		fprintf(stderr, "derptrace pcap: %llu packets that a relay dropped, with its reasons\n",
			(unsigned long long)n->drops);
	if (n->lost)
		fprintf(stderr, "derptrace pcap: %llu segments were lost by the tracer; a larger --ring helps\n",
			(unsigned long long)n->lost);
}

static int finish(struct pcap_cmd *cmd, int status)
{
	struct pcapng_counts counts;
	int err = pcapng_close(cmd->pcapng, &counts);

	if (err == -EPIPE) {
		fputs("derptrace pcap: nobody reads standard output any more\n", stderr);
		return status;
	}
	if (err) {
		fprintf(stderr, "derptrace pcap: %s: cannot write: %s; what was written before is whole\n",
			name_of(cmd), strerror(-err));
		return EXIT_CANNOT;
	}
	if (!session_had_source() && cmd->created)
		unlink(cmd->path);
	else
		say_counts(cmd, &counts);
	return status;
}

int cmd_pcap(int argc, char **argv)
{
	struct pcap_cmd cmd = { 0 };
	const struct record_sink sink = { &cmd, put };
	const struct tracer_taps taps = { &cmd, on_event, on_whole };
	const struct session_hooks hooks = {
		.verb = "pcap", .fd = -1, .sink = &sink, .taps = &taps, .interval = interval, .ctx = &cmd,
	};
	const char *records;
	struct options o;
	int status, fd;

	status = options_parse(argc, argv, &verb, &cmd, &o);
	if (status)
		return status == 1 ? EXIT_NOTHING_FOUND : EXIT_USAGE;
	o.live.count = false;
	if (!cmd.path || (!strcmp(cmd.path, "-") && isatty(STDOUT_FILENO))) {
		fputs("derptrace pcap: name a file with -o, or a pipe with -o -\n", stderr);
		return EXIT_USAGE;
	}
	records = without_packets(&o);
	if (records) {
		fprintf(stderr, "derptrace pcap: %s: records hold no packets; name a .pcap or .pcapng file, or "
			"live\n", records);
		return EXIT_USAGE;
	}
	fd = open_output(&cmd, &o);
	if (fd < 0)
		return EXIT_CANNOT;
	if (cmd.options.secrets)
		fprintf(stderr, "derptrace pcap: WARNING: %s will hold the TLS secrets of these connections: "
			"whoever has it can read all that passed on them. Keep it private, and delete it soon.\n",
			name_of(&cmd));
	cmd.pcapng = pcapng_new(fd, &cmd.options);
	if (!cmd.pcapng) {
		fputs("derptrace pcap: out of memory\n", stderr);
		return EXIT_CANNOT;
	}
	status = session_run(&o, &hooks);
	return finish(&cmd, status);
}
