/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of record share. */
#ifndef DT_RECORD_PRIVATE_H
#define DT_RECORD_PRIVATE_H

#include "record/record.h"

#define COLUMN(field)	(offsetof(struct record_pair, field) / sizeof(uint64_t))

/* Times are told as ages: as the snapshot is young, these are short. */
static inline bool record_column_is_time(size_t column)
{
	const uint64_t times = 1ull << COLUMN(last_ns) | 1ull << COLUMN(last_hop_first_ns) |
			       1ull << COLUMN(last_hop_last_ns) |
			       1ull << COLUMN(wg_initiation_first_ns) |
			       1ull << COLUMN(wg_initiation_last_ns) |
			       1ull << COLUMN(wg_response_last_ns);

	return times >> column & 1;
}

#endif
