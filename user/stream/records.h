/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One side's bytes cut into TLS records. After a gap, or from the middle of a stream, the next
 * record is found by its header and by what follows it; whether it is one, its tag decides later.
 */
#ifndef DT_STREAM_RECORDS_H
#define DT_STREAM_RECORDS_H

#include <stdint.h>

#include "stream/budget.h"
#include "walk.h"

struct records_sink {
	/* A whole record: WALK_HEADER_LEN bytes and the body. @tcp_end: position behind it. */
	void (*record)(void *ctx, int side, uint64_t time_ns, uint64_t tcp_end,
		       const uint8_t *record, size_t len);
	/* One record of @len bytes, header included, was not read whole; the next one follows. */
	void (*lost)(void *ctx, int side, uint64_t time_ns, uint8_t type, size_t len);
	/* Nobody knows how many records were in these @bytes. */
	void (*unknown)(void *ctx, int side, uint64_t time_ns, uint64_t bytes);
};

struct records_part;

struct records {
	struct records_part *part; /* the record under way, or what is scanned; NULL: nothing is */
	bool scanning;		/* no boundary is known */
};

/* Whose they are. */
struct records_host {
	int side;
	struct budget *budget;
	const struct records_sink *sink;
	void *ctx;
};

/* Does a record begin with what is fed next? */
bool records_at_boundary(const struct records *r);
/* Is that the header of a record of @len bytes? */
bool records_fits(const uint8_t *header, size_t len);
/* One does begin there: what is kept and in doubt is given up. */
void records_resume(struct records *r, const struct records_host *host, uint64_t time_ns);
void records_feed(struct records *r, const struct records_host *host, uint64_t pos,
		  uint64_t time_ns, const uint8_t *data, size_t len);
/* So many bytes were not seen. */
void records_gap(struct records *r, const struct records_host *host, uint64_t time_ns,
		 uint64_t bytes);
void records_clear(struct records *r, struct budget *budget);

#endif
