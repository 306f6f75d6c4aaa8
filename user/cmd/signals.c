// SPDX-License-Identifier: BSD-2-Clause
#include "cmd/signals.h"

#include <stddef.h>

sigset_t signals_mask(int how)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(how, &set, NULL);
	return set;
}
