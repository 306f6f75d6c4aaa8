// SPDX-License-Identifier: BSD-2-Clause
/* Requests (calls 0) and answers (1), and how much memory there is (2). */
#include "ops.h"
#include "stream/http.h"
#include "stream/names.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct stream_info info = { 0 };
	struct budget budget = { .limit = 1 << 16 };
	struct http http = { 0 };
	bool done[2] = { false };
	struct shared names;
	struct op op;
	size_t used;

	shared_init(&names, sizeof(struct stream_names), 1);
	info.kept = &names;

	while (op_next(&data, &size, &op)) {
		int side = op.code & 1;

		if (op.code == 2) {
			budget.limit = budget.used + op_number(&op, 2);
		} else if (!done[side] && op.len) {
			enum http_result r = http_feed(&http, side, op.arg, op.len, &budget, &info,
						       &used);

			must(used <= op.len && (r != HTTP_MORE || used == op.len));
			done[side] = r != HTTP_MORE;
		}
		op_free(&op);
	}
	http_clear(&http, &budget);
	names_clear(&info);
	must(!budget.used && !names.count);
	shared_clear(&names);
	return 0;
}
