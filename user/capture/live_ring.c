// SPDX-License-Identifier: BSD-2-Clause
#include "capture/live_ring.h"

#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RECORD_ALIGN	8ul
#define LENGTH_MASK	(~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT))

int live_ring_open(struct live_ring *ring, int map_fd, size_t size)
{
	void *p;

	memset(ring, 0, sizeof(*ring));
	ring->fd = map_fd;
	ring->size = size;
	ring->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	p = mmap(NULL, ring->page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	ring->consumer = p;
	p = mmap(NULL, ring->page_bytes + 2 * size, PROT_READ, MAP_SHARED, map_fd,
		 (off_t)ring->page_bytes);
	if (p == MAP_FAILED) {
		int err = -errno;

		live_ring_close(ring);
		return err;
	}
	ring->producer = p;
	ring->data = (const uint8_t *)p + ring->page_bytes;
	return 0;
}

void live_ring_close(struct live_ring *ring)
{
	if (ring->consumer)
		munmap(ring->consumer, ring->page_bytes);
	if (ring->producer)
		munmap((void *)ring->producer, ring->page_bytes + 2 * ring->size);
	ring->consumer = NULL;
	ring->producer = NULL;
}

unsigned long live_ring_begin(const struct live_ring *ring)
{
	return *ring->consumer;
}

unsigned long live_ring_end(const struct live_ring *ring)
{
	return __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE);
}

const void *live_ring_next(const struct live_ring *ring, unsigned long *pos, unsigned long end,
			   uint32_t *len)
{
	const uint8_t *record;
	uint32_t head;

	while (*pos < end) {
		record = ring->data + (*pos & (ring->size - 1));
		head = __atomic_load_n((const uint32_t *)record, __ATOMIC_ACQUIRE);
		if (head & BPF_RINGBUF_BUSY_BIT)
			return NULL;
		*len = head & LENGTH_MASK;
		*pos += (*len + BPF_RINGBUF_HDR_SZ + RECORD_ALIGN - 1) & ~(RECORD_ALIGN - 1);
		if (!(head & BPF_RINGBUF_DISCARD_BIT))
			return record + BPF_RINGBUF_HDR_SZ;
	}
	return NULL;
}

void live_ring_release(struct live_ring *ring, unsigned long pos)
{
	__atomic_store_n(ring->consumer, pos, __ATOMIC_RELEASE);
}
