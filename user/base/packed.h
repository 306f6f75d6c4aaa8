/* SPDX-License-Identifier: BSD-2-Clause */
/* Files that were compressed: what is in them has to be unpacked before it can be read. */
#ifndef DT_PACKED_H
#define DT_PACKED_H

#include <stddef.h>
#include <stdint.h>

/* The command that unpacks a file which begins so: "gunzip"; NULL: it is not compressed. */
const char *packed_command(const uint8_t *p, size_t len);

#endif
