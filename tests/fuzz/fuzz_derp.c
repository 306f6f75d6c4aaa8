// SPDX-License-Identifier: BSD-2-Clause
/*
 * Chunks of a DERP stream (calls 0, 1), gaps (2 exact, 3 not) and memory (4). The first byte says
 * who talks, whether the start is known, whether frames are wanted whole, and whether the chunks are
 * of records.
 */
#include "ops.h"
#include "stream/frames.h"

struct seen {
	uint64_t off, tcp_end;
	bool from_start;
};

static void on_frame(void *ctx, enum capture_dir dir, struct stream_frame *f, const uint8_t *whole,
		     size_t whole_len)
{
	struct seen *seen = ctx;
	uint32_t least = f->len < 128 ? f->len : 128;

	(void)dir;
	must(f->head_len >= least && f->head_len <= f->len);
	must(whole_len == WALK_HEADER_LEN + f->head_len && f->head == whole + WALK_HEADER_LEN);
	must(whole[0] == f->type && walk_derp_len(whole) == f->len);
	must(!seen->from_start || !f->derp_from_start || f->derp_off >= seen->off);
	op_read(f->head, f->head_len);
	seen->from_start = f->derp_from_start;
	seen->off = f->derp_off + WALK_HEADER_LEN + f->len;
}

static void on_skipped(void *ctx, enum capture_dir dir, uint64_t time_ns, uint64_t bytes)
{
	(void)ctx;
	(void)dir;
	(void)time_ns;
	(void)bytes;
}

static void on_resumed(void *ctx, enum capture_dir dir, uint64_t time_ns)
{
	(void)ctx;
	(void)dir;
	(void)time_ns;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct derp_sink sink = { on_frame, on_skipped, on_resumed };
	struct budget budget = { .limit = 1 << 18 };
	struct seen seen = { 0 };
	struct derp_host host = { .dir = CAPTURE_IN, .budget = &budget, .sink = &sink,
				  .ctx = &seen };
	uint64_t pos = 0, n;
	struct derp d;
	struct op op;
	bool record;

	if (!size)
		return 0;
	record = data[0] & 16;
	host.talker = 1 + (data[0] & 3) % 3;
	host.want_whole = data[0] & 8;
	derp_init(&d, data[0] & 4);
	data++;
	size--;
	while (op_next(&data, &size, &op)) {
		struct derp_chunk c = { .time_ns = 1, .tcp_pos = pos, .tcp_end = pos + op.len,
					.record = record, .data = op.arg, .len = op.len };

		n = op_number(&op, 3);
		switch (op.code & 7) {
		case 2:
		case 3:
			derp_gap(&d, &host, 1, pos, n, !record && !(op.code & 1));
			pos += n;
			break;
		case 4:
			budget.limit = budget.used + n;
			break;
		default:
			derp_feed(&d, &host, &c);
			pos += op.len;
		}
		must(budget.used <= budget.limit);
		op_free(&op);
	}
	derp_clear(&d, &budget);
	must(!budget.used);
	return 0;
}
