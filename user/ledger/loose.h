/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Drops that name no source, as they wait: items by number (@wait), one for all that are the same. See
 * loose.c.
 */
#ifndef LEDGER_LOOSE_H
#define LEDGER_LOOSE_H

#include <stdbool.h>
#include <stdint.h>

struct ledger;

/* Does a new drop speak of one that was passed meanwhile? Then both are gone. */
bool ledger_loose_passed(struct ledger *l, uint32_t wait);
/*
 * Joins what is certain, once all that entered before the drop has been told; @all: nothing more will
 * be. False: it speaks of none that is in flight.
 */
bool ledger_loose_join(struct ledger *l, uint32_t wait, bool all);
/* One packet that it speaks of is dealt with. True: it was the last one, it is gone. */
bool ledger_loose_done(struct ledger *l, uint32_t wait);
/*
 * Does a drop that waits speak of this packet, or run, which is lost? Then it is lost by the relay's word
 * and gone. @unclean: it may have left unseen, and another one be meant.
 */
bool ledger_item_dropped(struct ledger *l, uint32_t i, bool unclean);

#endif
