// SPDX-License-Identifier: BSD-2-Clause
/* The walker finds the same items however its bytes are cut. The first byte chooses kind and cuts. */
#include "ops.h"
#include "walk.h"

#define MAX_ITEMS	4096

struct items {
	struct {
		uint8_t type;
		uint32_t len;
		size_t at;
	} item[MAX_ITEMS];
	size_t count;
	bool bad;
};

static void walk_all(struct items *items, enum walk_kind kind, const uint8_t *data, size_t size,
		     size_t piece)
{
	size_t at = 0, end;
	struct walk w;

	items->count = 0;
	items->bad = false;
	walk_init(&w, kind);
	while (at < size && items->count < MAX_ITEMS) {
		end = at + piece < size ? at + piece : size;
		while (at < end && items->count < MAX_ITEMS) {
			at += walk_body(&w, (unsigned int)(end - at));
			at += walk_head(&w, data + at, w.left ? 0 : (unsigned int)(end - at));
			if (w.have < WALK_HEADER_LEN)
				continue;
			if (!walk_read(&w)) {
				items->bad = true;
				return;
			}
			items->item[items->count].type = w.type;
			items->item[items->count].len = w.len;
			items->item[items->count++].at = at;
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct items whole, cut;
	enum walk_kind kind;
	size_t i;

	if (size < 2)
		return 0;
	kind = data[0] & 1 ? WALK_TLS : WALK_DERP;
	walk_all(&whole, kind, data + 1, size - 1, size);
	walk_all(&cut, kind, data + 1, size - 1, 1 + (data[0] >> 1));
	must(whole.bad == cut.bad && whole.count == cut.count);
	for (i = 0; i < whole.count; i++)
		must(whole.item[i].type == cut.item[i].type &&
		     whole.item[i].len == cut.item[i].len && whole.item[i].at == cut.item[i].at);
	return 0;
}
