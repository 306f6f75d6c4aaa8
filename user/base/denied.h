/* SPDX-License-Identifier: BSD-2-Clause */
/* Files that may not be read or written: what to do about it. */
#ifndef DT_DENIED_H
#define DT_DENIED_H

#include <errno.h>

/* What to append to a line about a file; empty where @error is another. */
static inline const char *denied_advice(int error)
{
	return error == EACCES || error == EPERM ? "; run it as a user who may" : "";
}

#endif
