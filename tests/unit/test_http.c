// SPDX-License-Identifier: BSD-2-Clause
/* Requests and answers up to the upgrade, in pieces of every size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "stream/http.h"
#include "stream/names.h"

#define KEY "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

struct lab {
	struct http http;
	struct budget budget;
	struct stream_info info;
	struct shared names;
	size_t used;		/* of the last text */
};

/* Feeds @text in pieces of @piece bytes. */
static enum http_result feed(struct lab *l, int side, const char *text, size_t piece)
{
	enum http_result result = HTTP_MORE;
	size_t len = strlen(text), n, used;

	for (l->used = 0; l->used < len && result == HTTP_MORE; l->used += used) {
		n = len - l->used < piece ? len - l->used : piece;
		result = http_feed(&l->http, side, (const uint8_t *)text + l->used, n, &l->budget,
				   &l->info, &used);
		assert_true(used <= n);
		if (result == HTTP_MORE)
			assert_int_equal(used, n);
	}
	return result;
}

static void setup(struct lab *l)
{
	memset(l, 0, sizeof(*l));
	l->budget.limit = 1 << 20;
	shared_init(&l->names, sizeof(struct stream_names), 1);
	l->info.kept = &l->names;
}

static void teardown(struct lab *l)
{
	http_clear(&l->http, &l->budget);
	names_clear(&l->info);
	assert_int_equal(l->names.count, 0);
	shared_clear(&l->names);
	assert_int_equal(l->budget.used, 0);
}

static void test_upgrade(void **state)
{
	static const char ask[] = "GET /derp HTTP/1.1\r\nHost: a.example:443\r\nupgrade: derp\r\n"
				  "Connection: Upgrade\r\n\r\n";
	static const char ok[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\n"
				 "Derp-Public-Key: nodekey:" KEY "\r\n\r\n";
	struct lab l;
	size_t piece;

	(void)state;
	for (piece = 1; piece < 200; piece += 7) {
		setup(&l);
		assert_int_equal(feed(&l, 0, ask, piece), HTTP_MORE);
		assert_int_equal(l.info.stage, STREAM_HTTP);
		assert_string_equal(l.info.names->host, "a.example:443");
		assert_int_equal(feed(&l, 1, ok, piece), HTTP_UPGRADED);
		assert_int_equal(l.used, strlen(ok));
		assert_int_equal(l.info.http_status, 101);
		assert_int_equal(l.info.names->http_key.b[15], 0xff);
		assert_int_equal(feed(&l, 0, "\x02", 1), HTTP_UPGRADED);
		assert_int_equal(l.used, 0);
		teardown(&l);
	}
}

static void test_fast_start(void **state)
{
	struct lab l;

	(void)state;
	setup(&l);
	feed(&l, 0, "GET /derp HTTP/1.1\r\nUpgrade: DERP\r\nDerp-Fast-Start: 1\r\n\r\n", 1000);
	assert_true(l.info.fast_start);
	assert_int_equal(feed(&l, 0, "\x02", 1), HTTP_UPGRADED);
	assert_int_equal(feed(&l, 1, "\x01", 1), HTTP_UPGRADED);
	assert_int_equal(l.info.http_status, 0);
	teardown(&l);
	/* A proxy in between answers all the same. */
	setup(&l);
	feed(&l, 0, "GET /derp HTTP/1.1\r\nUpgrade: DERP\r\nDerp-Fast-Start: 1\r\n\r\n", 1000);
	assert_int_equal(feed(&l, 1, "HTTP/1.1 101 X\r\nUpgrade: DERP\r\n\r\n", 5), HTTP_UPGRADED);
	teardown(&l);
	/* The server's key alone tells as much. */
	setup(&l);
	assert_int_equal(feed(&l, 1, "\x01", 1), HTTP_UPGRADED);
	teardown(&l);
}

static void test_websocket(void **state)
{
	struct lab l;

	(void)state;
	setup(&l);
	feed(&l, 0, "GET /derp HTTP/1.1\r\nUpgrade: WebSocket\r\n"
		    "Sec-WebSocket-Protocol: foo, derp\r\n\r\n", 9);
	assert_int_equal(feed(&l, 1, "HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n", 9),
			 HTTP_UPGRADED);
	assert_true(l.info.websocket);
	teardown(&l);
	/* Somebody else's. */
	setup(&l);
	feed(&l, 0, "GET /api HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", 9);
	assert_int_equal(l.info.stage, STREAM_OTHER);
	assert_int_equal(feed(&l, 1, "HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n", 9),
			 HTTP_OTHER);
	teardown(&l);
}

static void test_refused_then_accepted(void **state)
{
	struct lab l;
	size_t piece;

	(void)state;
	for (piece = 1; piece < 100; piece += 3) {
		setup(&l);
		feed(&l, 0, "GET /derp/probe HTTP/1.1\r\nHost: x\r\n\r\n", piece);
		assert_int_equal(l.info.stage, STREAM_OTHER);
		assert_int_equal(feed(&l, 1, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP/",
				      piece), HTTP_MORE);
		feed(&l, 0, "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
			    "4;x=y\r\nGET \r\n1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nT: x\r\n\r\n",
		     piece);
		feed(&l, 1, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", piece);
		feed(&l, 0, "HEAD /debug HTTP/1.0\nHost: y\n\n", piece);
		feed(&l, 1, "HTTP/1.0 200 OK\r\nContent-Length: 99\r\n\r\n", piece);
		feed(&l, 0, "GET https://p.example/derp HTTP/1.1\r\nUpgrade: DERP\r\n\r\n", piece);
		assert_string_equal(l.info.names->path, "/derp");
		feed(&l, 1, "HTTP/1.1 426 Upgrade Required\r\nTransfer-Encoding: chunked\r\n\r\n"
			    "3\r\nabc\r\n0\r\n\r\n", piece);
		assert_int_equal(l.info.http_status, 426);
		assert_true(l.http.refused);
		feed(&l, 0, "GET /derp HTTP/1.1\r\nUpgrade: DERP\r\n\r\n", piece);
		assert_int_equal(feed(&l, 1, "HTTP/1.1 101 X\r\nUpgrade: DERP\r\n\r\n", piece),
				 HTTP_UPGRADED);
		teardown(&l);
	}
}

static void test_something_else(void **state)
{
	static char endless[40000];
	struct lab l;

	(void)state;
	setup(&l);
	assert_int_equal(feed(&l, 0, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 3), HTTP_OTHER);
	teardown(&l);
	setup(&l);
	assert_int_equal(feed(&l, 0, "\x05\x01", 1), HTTP_OTHER);
	teardown(&l);
	setup(&l);
	assert_int_equal(feed(&l, 1, "SSH-2.0-x", 1), HTTP_OTHER);
	teardown(&l);
	setup(&l);
	assert_int_equal(feed(&l, 1, "HTTP/1.1 x\r\n\r\n", 4), HTTP_OTHER);
	teardown(&l);
	memset(endless, 'a', sizeof(endless) - 1);
	memcpy(endless, "GET /", 5);
	setup(&l);
	assert_int_equal(feed(&l, 0, endless, 1000), HTTP_OTHER);
	teardown(&l);
	setup(&l);
	l.budget.limit = 10;
	assert_int_equal(feed(&l, 0, "GET / HTTP/1.1\r\n\r\n", 1), HTTP_OTHER);
	teardown(&l);
	/* Control bytes do not reach a screen. */
	setup(&l);
	feed(&l, 0, "GET /\x1b[2J HTTP/1.1\r\nHost: a\x07\xff\r\n\r\n", 100);
	assert_string_equal(l.info.names->path, "/?[2J");
	assert_string_equal(l.info.names->host, "a??");
	teardown(&l);
}

static void test_until_close(void **state)
{
	struct lab l;

	(void)state;
	setup(&l);
	feed(&l, 0, "GET / HTTP/1.0\r\n\r\n", 100);
	assert_int_equal(feed(&l, 1, "HTTP/1.0 200 OK\r\n\r\n\x01\x02HTTP/1.1 101 x\r\n\r\n", 100),
			 HTTP_MORE);
	assert_int_equal(l.http.sides[1].state, HTTP_BODY);
	teardown(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_upgrade),
		cmocka_unit_test(test_fast_start),
		cmocka_unit_test(test_websocket),
		cmocka_unit_test(test_refused_then_accepted),
		cmocka_unit_test(test_something_else),
		cmocka_unit_test(test_until_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
