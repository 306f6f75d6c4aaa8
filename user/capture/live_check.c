// SPDX-License-Identifier: BSD-2-Clause
/* Is a segment's TCP checksum right? The kernel's part of the answer is in bpf/check.bpf.h. */
#include <string.h>

#include "capture/live.h"

#define SUM_RIGHT	0xffff

/* As the headers were summed up: in words as they lie in memory, an odd last byte with a zero. */
static uint64_t add_payload(uint64_t sum, const uint8_t *data, size_t len)
{
	uint32_t word;

	for (; len >= sizeof(word); data += sizeof(word), len -= sizeof(word)) {
		memcpy(&word, data, sizeof(word));
		sum += word;
	}
	word = 0;
	memcpy(&word, data, len);
	return sum + word;
}

static uint32_t fold(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint32_t)sum;
}

enum capture_sum live_check_sum(const struct abi_segment *s, const uint8_t *data)
{
	if (s->check == ABI_CHECK_HOLDS)
		return CAPTURE_SUM_RIGHT;
	if ((s->check != ABI_CHECK_PENDING && s->check != ABI_CHECK_UNTOLD) ||
	    s->captured != s->len || s->has & ABI_UNREADABLE)
		return CAPTURE_SUM_UNKNOWN;
	return fold(add_payload(s->sum, data, s->len)) == SUM_RIGHT ? CAPTURE_SUM_RIGHT :
								       CAPTURE_SUM_WRONG;
}

bool live_check_refuses(const struct abi_segment *s, enum capture_sum sum)
{
	return s->check == ABI_CHECK_PENDING && sum == CAPTURE_SUM_WRONG;
}
