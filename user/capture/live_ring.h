/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The reader's end of a BPF ring buffer. Unlike libbpf's it can look at what is there before it
 * takes it: live.c reads each batch twice.
 */
#ifndef DT_CAPTURE_LIVE_RING_H
#define DT_CAPTURE_LIVE_RING_H

#include <stddef.h>
#include <stdint.h>

struct live_ring {
	int fd;
	size_t page_bytes, size;
	unsigned long *consumer;	/* in a page of its own, ours to write */
	const unsigned long *producer;	/* followed by the data, mapped twice in a row */
	const uint8_t *data;
};

/* 0, or -errno. */
int live_ring_open(struct live_ring *ring, int map_fd, size_t size);
void live_ring_close(struct live_ring *ring);

/* Positions of what can be taken: from the first to behind the last record that was there. */
unsigned long live_ring_begin(const struct live_ring *ring);
unsigned long live_ring_end(const struct live_ring *ring);

/*
 * The record at *pos, which moves behind it; NULL at @end, or at a record that is still being
 * written. Discarded ones are skipped.
 */
const void *live_ring_next(const struct live_ring *ring, unsigned long *pos, unsigned long end,
			   uint32_t *len);

/* All before @pos is done with: its space is the kernel's again. */
void live_ring_release(struct live_ring *ring, unsigned long pos);

#endif
