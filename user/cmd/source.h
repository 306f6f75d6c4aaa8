/* SPDX-License-Identifier: BSD-2-Clause */
/* What a source on the command line is, by its name and, where it is a file, by how it begins. */
#ifndef DT_SOURCE_H
#define DT_SOURCE_H

enum source_kind {
	SOURCE_LIVE,
	SOURCE_CAPTURE,		/* .pcap, .pcapng */
	SOURCE_RECORDS,		/* .dtr, or -; and what is neither */
};

/* Nothing is read of pipes and devices: for them, and what cannot be read, the name decides. */
enum source_kind source_kind(const char *name);

#endif
