/* SPDX-License-Identifier: BSD-2-Clause */
/* What this process may do, as far as tracing needs it. */
#ifndef DT_CAPTURE_RIGHTS_H
#define DT_CAPTURE_RIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct right {
	int cap, or_cap;	/* one of both is enough */
	const char *name;
	const char *without;	/* what does not work then */
	bool needed;		/* for anything at all */
};

#define RIGHTS_FIX	"run as root (sudo derptrace ...)"

/* The effective capabilities of this process; 0 where they cannot be read. */
uint64_t rights_effective(void);
/* The next that is not in @caps, behind @last (NULL: the first); NULL: there is none. */
const struct right *rights_missing(uint64_t caps, const struct right *last);
/* Why they are worth nothing here, as a sentence; NULL: they are. */
const char *rights_foreign(void);
/*
 * Did it fail for want of descriptors? @code says so, or @said, what libbpf said of it, which makes
 * another error of it. Then how many are allowed and what to do, valid until the next call of this
 * thread; else NULL.
 */
const char *rights_descriptors(int code, const char *said);

#endif
