/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is remembered of packets that are in the books already: ghosts.c, of those that left and whose
 * entry was not told; gone.c, of those that entered and were not seen leaving.
 */
#ifndef LEDGER_GHOSTS_H
#define LEDGER_GHOSTS_H

#include <stdbool.h>
#include <stdint.h>

#include "record/record.h"

struct conn;
struct item;
struct ledger;
struct peer;

/*
 * Was @e, which is told late, booked when it left or was dropped? Then it is no new packet. Who sent
 * it may be learnt by that: its pair is then another one.
 */
bool ledger_ghost_entry(struct ledger *l, struct item *e);
/* The same for one that is in flight and whose sender was learnt: true: it is gone. */
bool ledger_ghost_item(struct ledger *l, uint32_t i);
/* A peer's name was learnt: what is remembered of @from is of @to. */
void ledger_ghosts_move(struct ledger *l, const struct peer *from, struct peer *to);
void ledger_ghosts_tick(struct ledger *l);

/*
 * The item @i, in flight, was booked as lost at @out, or (reason 0) as untraced: it is not in flight any
 * more from here on. @packets of a run, where it is more.
 */
void ledger_gone_add(struct ledger *l, uint32_t i, uint32_t packets, uint64_t bytes,
		     enum record_reason reason, enum record_basis basis, const struct conn *out);
/*
 * An exit or a drop waits as @wait and got no entry: was it booked as something else before? Then that is
 * taken back. True: it is dealt with, and gone.
 */
bool ledger_gone_settle(struct ledger *l, uint32_t wait);
void ledger_gones_tick(struct ledger *l);

#endif
