// SPDX-License-Identifier: BSD-2-Clause
/* The same bytes come out whatever pieces they went in; the first byte is a piece's size. */
#include "ops.h"
#include "stream/websocket.h"

/* What came out up to where it went wrong, if it did. */
static size_t unwrap(const uint8_t *in, size_t len, size_t piece, uint8_t *out)
{
	struct websocket w = { 0 };
	size_t at = 0, n, used, from, more, total = 0;
	uint8_t *copy = malloc(piece);

	must(copy);
	while (at < len) {
		n = len - at < piece ? len - at : piece;
		memcpy(copy, in + at, n);
		if (!websocket_next(&w, copy, n, &used, &from, &more))
			break;
		must(used && used <= n && from + more <= n);
		memcpy(out + total, copy + from, more);
		total += more;
		at += used;
	}
	free(copy);
	return total;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *a, *b;
	size_t n;

	if (size < 2)
		return 0;
	a = malloc(size);
	b = malloc(size);
	must(a && b);
	n = unwrap(data + 1, size - 1, size, a);
	must(n == unwrap(data + 1, size - 1, 1 + data[0], b) && !memcmp(a, b, n));
	free(a);
	free(b);
	return 0;
}
