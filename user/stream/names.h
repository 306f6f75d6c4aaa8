/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a connection's handshakes tell of the server is the same for most of its connections, and is
 * kept once for all of them: names are changed by storing others.
 */
#ifndef DT_STREAM_NAMES_H
#define DT_STREAM_NAMES_H

#include "base/shared.h"
#include "stream/stream.h"

static inline struct stream_names names_load(const struct stream_info *info)
{
	return info->names ? *info->names : (struct stream_names){ .sni = "" };
}

/* Without memory the old ones stay. */
static inline void names_store(struct stream_info *info, const struct stream_names *names)
{
	const struct stream_names *kept = info->kept ? shared_keep(info->kept, names) : NULL;

	if (!kept)
		return;
	shared_drop(info->kept, info->names);
	info->names = kept;
}

static inline void names_clear(struct stream_info *info)
{
	if (info->names)
		shared_drop(info->kept, info->names);
	info->names = NULL;
}

#endif
