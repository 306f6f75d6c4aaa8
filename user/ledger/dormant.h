/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Clients' connections on which nothing happens, as most are most of the time: all that was sent is
 * acknowledged, all that came was read, and it has been told. No tick changes anything of them. Of
 * each the bytes are kept that its numbers need; it wakes when something happens on it, or when
 * someone must know where its peer's packets leave.
 */
#ifndef LEDGER_DORMANT_H
#define LEDGER_DORMANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conn;
struct ledger;
struct peer;

/* Lays down those that have been silent for a while. */
void ledger_dormant_sweep(struct ledger *l);
/* NULL: it does not rest, or there is no memory: it rests on then, and is forgotten by its peer. */
struct conn *ledger_dormant_wake(struct ledger *l, uint64_t id);
void ledger_dormant_wake_all(struct ledger *l);
void ledger_dormant_wake_peer(struct ledger *l, struct peer *p);
/* As it is, without waking it; *at is 0 before the first. False: no more. */
bool ledger_dormant_next(const struct ledger *l, size_t *at, struct conn *c);
/* That of such a number. False: it does not rest. */
bool ledger_dormant_look(const struct ledger *l, uint64_t id, struct conn *c);
void ledger_dormant_free(struct ledger *l);

#endif
