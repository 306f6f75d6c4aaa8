// SPDX-License-Identifier: BSD-2-Clause
/*
 * Any frame is read without a step beyond its end; and what is said to have come without a hole has,
 * whatever comes in which order: held against a map of the bytes.
 */
#include <linux/types.h>

#include "abi.h"
#include "ops.h"
#include "wire.h"

#define BYTES	4096u

static void parse(const uint8_t *data, size_t size)
{
	struct wire_packet p;

	if (wire_parse(data + 1, data + size, (uint32_t)(size - 1), data[0] & 1, &p)) {
		must(p.ip == 4 || p.ip == 6);
		must(p.saddr > data && p.daddr + (p.ip == 4 ? 4 : 16) <= data + size);
		must(p.payload_len < size);
	}
}

static void follow(const uint8_t *data, size_t size)
{
	static uint8_t came[BYTES];
	struct abi_wire_flow f = { 0 };
	uint32_t start = data[0] * 0x01010101u, from, to, i;

	memset(came, 0, sizeof(came));
	for (data++, size--; size >= 3; data += 3, size -= 3) {
		from = (data[0] << 4 | data[1] >> 4) % (BYTES - 16);
		to = from + (data[1] & 15) + data[2] % 16;
		to = to > BYTES ? BYTES : to;
		if (from == to)
			continue;
		memset(came + from, 1, to - from);
		wire_follow(&f, start + from, start + to);
		must(!wire_after(f.base, f.next) && !wire_after(f.next, f.highest));
		must(f.next - start <= BYTES && f.highest - start <= BYTES);
		for (i = f.base - start; i < f.next - start; i++)
			must(came[i]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	if (data[0] & 2)
		follow(data, size);
	else
		parse(data, size);
	return 0;
}
