/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The walk that counts frames: one direction of a plaintext connection, segment by segment. Of the
 * frame that is under way it keeps what user space would (DERP_HEAD_LEN bytes, header first), so that
 * either side can go on where the other stopped. It reads bytes through count_load() alone, and so
 * compiles for kernel, user space and fuzzers alike: who includes it defines that before,
 *
 *	static inline int count_load(void *bytes, unsigned int off, unsigned char *to, unsigned int n,
 *				     unsigned int most);
 *
 * which copies @n bytes, 1 .. @most, a constant, that begin at @off of what @bytes is; 0 where it could.
 */
#ifndef DT_COUNT_H
#define DT_COUNT_H

#include "count_class.h"
#include "digest.h"
#include "walk.h"
#include "web.h"

/* The compiler may not carry over what it knows of @x: a verifier is to see it checked here. */
#define WALK_HIDE(x)	__asm__ volatile("" : "+r"(x))

/* Words of eight bytes may lie anywhere; clang would believe that BPF takes them in order only. */
#ifdef __bpf__
#define COUNT_WORD(p)	__builtin_assume_aligned(p, 8)
#else
#define COUNT_WORD(p)	(p)
#endif

#define COUNT_FAST	(DERP_HEADER_LEN + DERP_KEY_LEN + 16) /* all that is looked at, of most frames */

/*
 * All of it stands in memory, what a call needs for itself too: of registers a verifier would follow
 * every value that they may have, frame by frame.
 */
struct count_walk {
	unsigned int off, end;	/* bytes of the segment that are still to be walked */
	unsigned int left;	/* bytes of the current frame that are still to come, with have >= 5 */
	unsigned int have;	/* so much of its start is in @head; 0: at a boundary */
	unsigned int n;
	unsigned int step;	/* enum count_step: what came of the last one */
	unsigned char gap[3];	/* so that keys and packets in @head are aligned */
	/* The rest of the room is never used; it keeps sums inside that a verifier does not see. */
	unsigned char head[2 * DERP_HEAD_LEN + 7];
} __attribute__((aligned(8)));

/* Where the walk is in a WebSocket; see count_web.h. */
struct count_web {
	unsigned int stop;	/* behind the current frame, or what is there of the next one's header */
	unsigned int mask;	/* of the bytes whose number is 0 modulo 4 the lowest byte, and so on */
	unsigned int end;	/* of the segment, as count_walk.end is of the piece */
	unsigned char on;	/* it is one */
	unsigned char passed;	/* the current frame is passed over: a control frame */
	unsigned char have;	/* so much of the next one's header is in @head */
	unsigned char head[2 * WEB_HEADER_MAX + 3]; /* the rest is room, as above */
};

/* What is walked: a segment's bytes. */
struct count_from {
	void *bytes;
	unsigned int base;	/* with @web: the number of what is at offset 0 */
	const struct count_web *web; /* they are masked as this says; NULL: they are not */
};

enum count_step {
	COUNT_PART,	/* the segment ends inside a frame */
	COUNT_FRAME,	/* a frame has ended: it stands in @head */
	COUNT_BROKEN,	/* no header, or bytes that cannot be read: the boundary is lost */
};

/* Would a relay's connection carry such a frame? Unknown types are left to user space. */
WALK_INLINE int count_plausible(const unsigned char *head)
{
	unsigned char type = head[0];

	if (type < DERP_SERVER_KEY || type > DERP_RESTARTING ||
	    (type > DERP_FORWARD_PACKET && type < DERP_WATCH_CONNS))
		return 0;
	return walk_derp_len(head) <= walk_derp_max(type);
}

/* A packet's keys stand before it. */
WALK_INLINE unsigned int count_keys(unsigned char type)
{
	return type == DERP_FORWARD_PACKET ? 2 * DERP_KEY_LEN : DERP_KEY_LEN;
}

/* Is the frame at @head one that is counted in a direction where @type is? */
WALK_INLINE int count_counts(const unsigned char *head, unsigned char type)
{
	unsigned int len = walk_derp_len(head), keys = count_keys(type);

	return head[0] == type && len >= keys && len <= keys + DERP_MAX_PACKET;
}

/* Of a packet of @len bytes; eight of them are at @p, or as many as it has. */
WALK_INLINE enum count_class count_class(const unsigned char *p, unsigned int len)
{
	if (len >= 62 && p[0] == 'T' && p[1] == 'S' && p[2] == 0xf0 && p[3] == 0x9f &&
	    p[4] == 0x92 && p[5] == 0xac)
		return COUNT_DISCO;
	if (len < 4 || p[1] || p[2] || p[3])
		return COUNT_OTHER;
	if ((p[0] == 1 && len == 148) || (p[0] == 2 && len == 92) || p[0] == 3 || p[0] == 4)
		return (enum count_class)p[0];
	return COUNT_OTHER;
}

/*
 * Takes the mask off @words times eight bytes at @p, which begin at number @at; those behind the last one
 * that is of use become others.
 */
WALK_INLINE void count_unmask(const struct count_web *web, unsigned int at, unsigned char *p,
			      unsigned int words)
{
	unsigned long long mask = web_mask_at(web->mask, at), word;
	unsigned int i;

	mask |= mask << 32;
	for (i = 0; i < words; i++) {
		__builtin_memcpy(&word, COUNT_WORD(p + 8 * i), 8);
		word ^= mask;
		__builtin_memcpy(COUNT_WORD(p + 8 * i), &word, 8);
	}
}

/* As count_load(), from the stream that is walked. @to has room for @most bytes, in words of eight. */
WALK_INLINE int count_read(const struct count_from *from, unsigned int off, unsigned char *to,
			   unsigned int n, const unsigned int most)
{
	if (count_load(from->bytes, off, to, n, most))
		return -1;
	if (from->web)
		count_unmask(from->web, from->base + off, to, (most + 7) / 8);
	return 0;
}

/* Takes w->n more bytes of the frame's start. 0, or -1 where they cannot be read. */
WALK_INLINE int count_take(struct count_walk *w, const struct count_from *from)
{
	unsigned long long have = w->have;

	WALK_HIDE(have);
	if (have >= DERP_HEAD_LEN ||
	    count_read(from, w->off, w->head + have, w->n, DERP_HEAD_LEN))
		return -1;
	w->have += w->n;
	w->off += w->n;
	return 0;
}

/* The first header bytes that are missing, as far as the segment goes. */
WALK_INLINE void count_header(struct count_walk *w, const struct count_from *from)
{
	w->n = DERP_HEADER_LEN - w->have;
	if (w->n > w->end - w->off)
		w->n = w->end - w->off;
	if (count_take(w, from))
		return;
	if (w->have >= DERP_HEADER_LEN) {
		w->left = walk_derp_len(w->head);
		if (!count_plausible(w->head))
			return;
	}
	w->step = COUNT_PART;
}

/* The frame's header is there: its body, as far as the segment goes. */
WALK_INLINE void count_body(struct count_walk *w, const struct count_from *from)
{
	w->step = COUNT_BROKEN;
	w->n = DERP_HEADER_LEN + walk_derp_len(w->head);
	if (w->n > DERP_HEAD_LEN)
		w->n = DERP_HEAD_LEN;
	w->n = w->n > w->have ? w->n - w->have : 0;
	if (w->n > w->end - w->off)
		w->n = w->end - w->off;
	if (w->n > w->left)
		return;
	if (w->n) {
		w->left -= w->n;
		if (count_take(w, from))
			return;
	}
	w->n = w->left < w->end - w->off ? w->left : w->end - w->off;
	w->left -= w->n;
	w->off += w->n;
	w->step = COUNT_PART;
	if (!w->left) {
		w->have = 0;
		w->step = COUNT_FRAME;
	}
}

/* Of a forward all that is ever looked at: w->n is what there is of it, header and all. */
WALK_INLINE int count_more(struct count_walk *w, const struct count_from *from)
{
	return count_read(from, w->off, w->head, w->n < DERP_HEAD_LEN ? w->n : DERP_HEAD_LEN,
			  DERP_HEAD_LEN);
}

/* The name of the packet at @p in a walk's head: packet_digest() of little-endian machines. */
WALK_INLINE unsigned long long count_digest(const unsigned char *p, unsigned int len)
{
	unsigned long long words[DERP_DIGEST_LEN / 8];
	unsigned int i;

	for (i = 0; i < DERP_DIGEST_LEN / 8; i++) {
		__builtin_memcpy(&words[i], __builtin_assume_aligned(p + 8 * i, 8), 8);
		if (len <= 8 * i)
			words[i] = 0;
		else if (len < 8 * i + 8)
			words[i] &= ~0ull >> (8 * (8 * i + 8 - len) & 63);
	}
	return digest_words(words, len);
}

/*
 * The bytes of a segment from w->off up to w->end, of which there are some, until a frame ends: off
 * stands behind what was used, and w->step says what came of it. After COUNT_FRAME the frame's start
 * stands in @head: its header, and of its body what was looked at.
 */
WALK_INLINE void count_next(struct count_walk *w, const struct count_from *from)
{
	w->step = COUNT_BROKEN;
	/* Most frames begin and end in one segment. */
	if (!w->have && w->end - w->off >= COUNT_FAST) {
		if (count_read(from, w->off, w->head, COUNT_FAST, COUNT_FAST) ||
		    !count_plausible(w->head))
			return;
		w->n = DERP_HEADER_LEN + walk_derp_len(w->head);
		if (w->n <= w->end - w->off) {
			if (w->head[0] == DERP_FORWARD_PACKET && count_more(w, from))
				return;
			w->off += w->n;
			w->step = COUNT_FRAME;
			return;
		}
	}
	if (w->have < DERP_HEADER_LEN)
		count_header(w, from);
	else
		w->step = COUNT_PART;
	if (w->step == COUNT_PART && w->have >= DERP_HEADER_LEN)
		count_body(w, from);
}

#endif
