/* SPDX-License-Identifier: BSD-2-Clause */
/* The law and the ledger's own order, asserted: for tests. */
#ifndef LEDGER_CHECK_H
#define LEDGER_CHECK_H

#include "ledger/ledger.h"

/* False with what is wrong in @err. Walks everything. */
bool ledger_check(struct ledger *l, char err[static 256]);

#endif
