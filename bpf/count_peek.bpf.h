/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where a walk may begin: a guess, by a segment's first bytes. */
#ifndef DT_COUNT_PEEK_BPF_H
#define DT_COUNT_PEEK_BPF_H

enum count_guess {
	COUNT_NOTHING,
	COUNT_PLAIN,
	COUNT_WEB,
};

static __always_inline bool count_header_fits(const __u8 *head, __u8 type)
{
	return type ? count_counts(head, type) : count_plausible(head);
}

/* May the first bytes at @off be a message in one WebSocket frame, which such a header begins? */
static __always_inline bool count_peek_web(struct __sk_buff *skb, __u32 len, __u32 off, __u32 type)
{
	__u8 head[16] = {}, inner[8] = {};
	struct web_frame f;
	__u32 whole, i;

	if (count_load(skb, off, head, len < WEB_HEADER_MAX ? len : WEB_HEADER_MAX, WEB_HEADER_MAX) ||
	    !web_read(head, &f))
		return false;
	whole = web_header_len(head[1]);
	if (f.len < DERP_HEADER_LEN || len < whole + DERP_HEADER_LEN ||
	    bpf_skb_load_bytes(skb, off + whole, inner, DERP_HEADER_LEN))
		return false;
	for (i = 0; i < DERP_HEADER_LEN; i++)
		inner[i] ^= f.mask >> (i & 3) * 8;
	return count_header_fits(inner, type);
}

/*
 * May the first bytes at @off be a frame's header? One that is counted, if @type says which. enum
 * count_guess. Not static, so that it is verified once, and what it returns taken for any number.
 */
__noinline int count_peek(struct __sk_buff *skb, __u32 len, __u32 off, __u32 type)
{
	__u8 head[8] = {};

	if (len < DERP_HEADER_LEN || bpf_skb_load_bytes(skb, off, head, DERP_HEADER_LEN))
		return COUNT_NOTHING;
	if (head[0] == WEB_MESSAGE)
		return count_peek_web(skb, len, off, type) ? COUNT_WEB : COUNT_NOTHING;
	return count_header_fits(head, type) ? COUNT_PLAIN : COUNT_NOTHING;
}

#endif
