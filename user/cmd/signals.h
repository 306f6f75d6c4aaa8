/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef DT_SIGNALS_H
#define DT_SIGNALS_H

#include <signal.h>

/*
 * SIGINT and SIGTERM, which the loop reads (SIG_BLOCK), or which end the process at once (SIG_UNBLOCK):
 * where it waits in front of the loop, for a pipe's writer or a long file, and when one was read already.
 */
sigset_t signals_mask(int how);

#endif
