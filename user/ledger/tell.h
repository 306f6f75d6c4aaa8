/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LEDGER_TELL_H
#define LEDGER_TELL_H

#include "ledger/internal.h"

/* Pairs that have changed, or all: their peers, ends and counts. 0 or what the sink returned. */
int ledger_pairs_tell(struct ledger *l, const struct record *head, bool all,
		      const struct record_sink *sink);
/* All that is booked of @from, to @to as well. */
void ledger_pair_add(struct pair *to, const struct pair *from);
/* What is remembered of rows with an unknown end. */
void ledger_rows_free(struct ledger *l);

#endif
