// SPDX-License-Identifier: BSD-2-Clause
/*
 * derptrace serve: continuous. OpenMetrics on loopback, made once per interval and handed out as often
 * as it is asked for; a verdict is said on standard error (the journal) when it is new.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/number.h"
#include "cmd/cmd.h"
#include "cmd/findings.h"
#include "cmd/said.h"
#include "cmd/session.h"
#include "view/view.h"

#define MAX_METRIC_PAIRS	1000
#define CONTENT_TYPE		"application/openmetrics-text; version=1.0.0; charset=utf-8"

struct serve_cmd {
	struct findings findings;
	struct sockaddr_storage listen;
	bool has_listen;
	struct MHD_Daemon *daemon;
	char *text;		/* the last interval's */
	size_t text_len;
	struct said *said;	/* verdicts that were */
	bool found;
};

enum { OPT_LISTEN = 2000 };

static const struct option_row rows[] = {
	{ { "listen", required_argument, NULL, OPT_LISTEN }, "ADDR:PORT",
	  "answer GET /metrics there (default 127.0.0.1:9469)",
	  "an address and a port, such as 127.0.0.1:9469" },
	{ { 0 }, NULL, NULL, NULL },
};

static bool parse_listen(const char *text, struct sockaddr_storage *ss)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;
	struct sockaddr_in *in = (struct sockaddr_in *)ss;
	const char *colon = strrchr(text, ':');
	char host[64];
	uint64_t port;
	size_t len;

	memset(ss, 0, sizeof(*ss));
	if (!colon || !number_parse(colon + 1, 1, 65535, &port))
		return false;
	len = colon - text;
	if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
		text++;
		len -= 2;
	}
	if (!len || len >= sizeof(host))
		return false;
	memcpy(host, text, len);
	host[len] = '\0';
	if (inet_pton(AF_INET, host, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		return true;
	}
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(port);
	return inet_pton(AF_INET6, host, &in6->sin6_addr) == 1;
}

static bool take(void *ctx, int val, const char *argument)
{
	struct serve_cmd *cmd = ctx;

	(void)val;
	cmd->has_listen = true;
	return parse_listen(argument, &cmd->listen);
}

static const struct verb verb = {
	.name = "serve",
	.usage = "[OPTION]... [SOURCE]...",
	.about = "Traces until it is stopped; waits for relays that do not run yet. Answers GET\n"
		 "/metrics, and writes each new verdict to standard error, a line each.",
	.examples = "  derptrace serve\n"
		    "  derptrace serve --listen 127.0.0.1:9469 --map derpmap.json\n"
		    "  curl http://127.0.0.1:9469/metrics\n",
	.rows = rows,
	.continuous = true,
	.take = take,
};

static enum MHD_Result respond(struct MHD_Connection *c, unsigned int status, const char *text,
			       size_t len, const char *type)
{
	struct MHD_Response *response;
	enum MHD_Result result;

	response = MHD_create_response_from_buffer(len, (void *)text, MHD_RESPMEM_MUST_COPY);
	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, "Content-Type", type);
	result = MHD_queue_response(c, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result answer(void *ctx, struct MHD_Connection *c, const char *url,
			      const char *method, const char *version, const char *data,
			      size_t *data_len, void **state)
{
	static const char not_found[] = "there is /metrics\n", not_allowed[] = "GET only\n";
	struct serve_cmd *cmd = ctx;

	(void)version;
	(void)data;
	(void)state;
	*data_len = 0;
	if (strcmp(method, "GET") && strcmp(method, "HEAD"))
		return respond(c, MHD_HTTP_METHOD_NOT_ALLOWED, not_allowed, sizeof(not_allowed) - 1,
			       "text/plain");
	if (strcmp(url, "/metrics"))
		return respond(c, MHD_HTTP_NOT_FOUND, not_found, sizeof(not_found) - 1, "text/plain");
	return respond(c, MHD_HTTP_OK, cmd->text, cmd->text_len, CONTENT_TYPE);
}

static const char *node_name(const struct report *r, int node)
{
	return node < 0 ? "" : r->nodes[node].name;
}

/* Counts and evidence change; what is wrong, and where, makes it the same verdict. */
static bool is_new(struct serve_cmd *cmd, const struct report *r, const struct report_verdict *v)
{
	char text[1024];

	snprintf(text, sizeof(text), "%s\n%s\n%s\n%s\n%s", verdict_class_code(v->class), v->reason,
		 node_name(r, v->node), node_name(r, v->link_from), node_name(r, v->link_to));
	return said_first(&cmd->said, text);
}

static void say_verdicts(struct serve_cmd *cmd, const struct report *r)
{
	const struct report_verdict *v;
	size_t i;

	for (i = 0; i < r->verdict_count; i++) {
		v = &r->verdicts[i];
		if (is_new(cmd, r, v))
			fprintf(stderr, "%s %s: %s fix: %s\n", verdict_class_code(v->class),
				verdict_class_name(v->class), v->summary, v->fix);
	}
}

static int render(struct serve_cmd *cmd)
{
	struct report r;
	char *text = NULL;
	size_t len = 0;
	FILE *out;
	int err;

	err = correlate_report(cmd->findings.correlate, &r);
	if (err)
		return err;
	say_verdicts(cmd, &r);
	cmd->found = findings_status(&r);
	out = open_memstream(&text, &len);
	err = out ? view_metrics(&r, out, MAX_METRIC_PAIRS) : -ENOMEM;
	if (out && fclose(out) && !err)
		err = -ENOMEM;
	report_free(&r);
	if (err) {
		free(text);
		return err;
	}
	free(cmd->text);
	cmd->text = text;
	cmd->text_len = len;
	return 0;
}

static int interval(void *ctx, uint64_t now_ns)
{
	(void)now_ns;
	return render(ctx);
}

static int web_ready(void *ctx)
{
	struct serve_cmd *cmd = ctx;

	MHD_run(cmd->daemon);
	return 0;
}

static int start_web(struct serve_cmd *cmd)
{
	const union MHD_DaemonInfo *info;
	unsigned int flags = MHD_USE_EPOLL;

	if (cmd->listen.ss_family == AF_INET6)
		flags |= MHD_USE_IPv6;
	errno = 0;
	cmd->daemon = MHD_start_daemon(flags, 0, NULL, NULL, answer, cmd, MHD_OPTION_SOCK_ADDR,
				       (struct sockaddr *)&cmd->listen,
				       MHD_OPTION_CONNECTION_LIMIT, 64U,
				       MHD_OPTION_CONNECTION_TIMEOUT, 10U, MHD_OPTION_END);
	if (!cmd->daemon) {
		fprintf(stderr, "derptrace serve: cannot listen: %s; choose another --listen\n",
			strerror(errno ? errno : EINVAL));
		return -1;
	}
	info = MHD_get_daemon_info(cmd->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	return info ? info->epoll_fd : -1;
}

int cmd_serve(int argc, char **argv)
{
	struct serve_cmd cmd = { 0 };
	struct session_hooks hooks = {
		.verb = "serve", .interval = interval, .ready = web_ready, .ctx = &cmd,
	};
	struct options o;
	int status;

	status = options_parse(argc, argv, &verb, &cmd, &o);
	if (status)
		return status == 1 ? EXIT_NOTHING_FOUND : EXIT_USAGE;
	if (!cmd.has_listen)
		parse_listen("127.0.0.1:9469", &cmd.listen);
	o.live.wait = true;
	status = findings_open(&cmd.findings, &o, verb.name);
	if (status)
		return status;
	hooks.sink = &cmd.findings.sink;
	hooks.fd = render(&cmd) ? -1 : start_web(&cmd);
	if (hooks.fd < 0) {
		status = EXIT_CANNOT;
		goto cleanup;
	}
	status = session_run(&o, &hooks);
	if (!status && !render(&cmd))
		status = cmd.found ? EXIT_FOUND : EXIT_NOTHING_FOUND;
cleanup:
	if (cmd.daemon)
		MHD_stop_daemon(cmd.daemon);
	findings_close(&cmd.findings);
	free(cmd.text);
	said_free(&cmd.said);
	return status;
}
