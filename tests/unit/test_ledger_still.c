// SPDX-License-Identifier: BSD-2-Clause
/* A relay that reads nothing of what has come, and those that only look like it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ledger_help.h"

#define P(n) ((struct lh_packet){ .no = (n), .len = 100 })
#define CLIENTS 5
#define OUT 20	/* our connection to another node */

static struct lh *crowd(void)
{
	struct lh *t = lh_new(NULL);
	int i;

	for (i = 1; i <= CLIENTS; i++)
		lh_client(t, i, i);
	lh_mesh_out(t, OUT);
	lh_present(t, OUT, 30, true);
	lh_wait(t, 500);
	return t;
}

/* From now on the relay reads nothing more on the first @n. */
static void stop_reading(struct lh *t, int n)
{
	int i;

	for (i = 1; i <= n; i++)
		t->conns[i].in_read = t->conns[i].in_pos;
}

static void all_send(struct lh *t, uint32_t no)
{
	int i;

	for (i = 1; i <= CLIENTS; i++)
		lh_send(t, i, 1 + i % CLIENTS, P(no + i));
}

static void read_on(struct lh *t)
{
	int i;

	for (i = 1; i <= CLIENTS; i++)
		t->conns[i].in_read = UINT64_MAX;
}

static void it_stands_still(void **state)
{
	struct lh *t = crowd();
	uint64_t from_ns = t->now;

	(void)state;
	stop_reading(t, CLIENTS);
	all_send(t, 10);
	lh_wait(t, 900);
	lh_snapshot(t, true);
	assert_int_equal(t->node.still_from_ns, 0);
	lh_wait(t, 600);
	lh_snapshot(t, true);
	assert_int_equal(t->node.still_from_ns, from_ns);
	assert_int_equal(t->node.still_to_ns, 0);
	assert_int_equal(t->node.still_conns, CLIENTS);
	lh_wait(t, 1500);
	read_on(t);
	lh_tick(t, 100);
	lh_snapshot(t, false);
	assert_int_equal(t->node.still_from_ns, from_ns);
	/* When it read on is not known to the moment: what it forwarded then must not seem earlier. */
	assert_int_equal(t->node.still_to_ns, t->now - 100000000);
	/* And once more, later: that is another time. */
	lh_wait(t, 3000);
	from_ns = t->now;
	stop_reading(t, 3);
	all_send(t, 20);
	lh_wait(t, 2000);
	lh_snapshot(t, true);
	assert_in_range(t->node.still_from_ns, from_ns, from_ns + 100000000);
	assert_int_equal(t->node.still_conns, 3);
	lh_free(t);
}

static void check_none(struct lh *t)
{
	lh_wait(t, 3000);
	lh_snapshot(t, true);
	assert_int_equal(t->node.still_from_ns, 0);
	lh_free(t);
}

/* Two readers wait for something of their own. */
static void few_are_not_read(void **state)
{
	struct lh *t = crowd();

	(void)state;
	stop_reading(t, 2);
	all_send(t, 10);
	check_none(t);
}

/* It reads on elsewhere, again and again. */
static void others_are_read(void **state)
{
	struct lh *t = crowd();
	uint32_t i;

	(void)state;
	stop_reading(t, 4);
	all_send(t, 10);
	for (i = 0; i < 30; i++) {
		lh_send(t, 5, 1, P(100 + i));
		lh_tick(t, 100);
	}
	check_none(t);
}

/* Its readers wait for a mesh peer to take what they write. */
static void the_mesh_is_stuck(void **state)
{
	struct lh *t = crowd();

	(void)state;
	t->conns[OUT].notsent = 4000;
	stop_reading(t, CLIENTS);
	all_send(t, 10);
	check_none(t);
}

/* Its mesh connection has ended: whoever sends across waits until it is dialled again, or cannot be. */
static void the_mesh_is_dialled(void **state)
{
	struct lh *t = crowd();

	(void)state;
	lh_close(t, OUT);
	lh_wait(t, 6000);
	stop_reading(t, CLIENTS);
	all_send(t, 10);
	check_none(t);
	t = crowd();
	lh_open(t, OUT + 1, CAPTURE_DIALLED, true);
	stop_reading(t, CLIENTS);
	all_send(t, 10);
	check_none(t);
}

/* It lets its clients wait, each for itself, and has for long: they are throttled. */
static void all_are_throttled(void **state)
{
	struct lh *t = crowd();
	uint32_t i, n;

	(void)state;
	stop_reading(t, CLIENTS);
	for (i = 0; i < 20; i++) {
		all_send(t, 10 * i);
		for (n = 1; n <= CLIENTS; n++)
			t->conns[n].in_read += i % CLIENTS + 1 == n ? 137 : 0;
		lh_tick(t, 100);
	}
	check_none(t);
}

/* All slept, the tracer too: nobody looked. */
static void the_host_slept(void **state)
{
	struct lh *t = crowd();

	(void)state;
	stop_reading(t, CLIENTS);
	all_send(t, 10);
	lh_tick(t, 2000);
	lh_tick(t, 100);
	read_on(t);
	check_none(t);
}

/* What it had read when it was stopped is in its hands until it goes on. */
static void it_holds_what_it_read(void **state)
{
	struct lh *t = crowd();

	(void)state;
	lh_send(t, 1, 2, P(1));
	stop_reading(t, CLIENTS);
	lh_tick(t, 100);
	all_send(t, 10);
	lh_wait(t, 3000);
	lh_check_books(t, 1, 2, BOOKS(2, 0, 2, 0, 0));
	read_on(t);
	lh_tick(t, 100);
	lh_recv(t, 2, 1, P(1));
	lh_tick(t, 100);
	lh_check_books(t, 1, 2, BOOKS(2, 1, 1, 0, 0));
	lh_free(t);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(it_stands_still),
	cmocka_unit_test(it_holds_what_it_read),
	cmocka_unit_test(few_are_not_read),
	cmocka_unit_test(others_are_read),
	cmocka_unit_test(the_mesh_is_stuck),
	cmocka_unit_test(the_mesh_is_dialled),
	cmocka_unit_test(all_are_throttled),
	cmocka_unit_test(the_host_slept),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
