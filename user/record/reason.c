// SPDX-License-Identifier: BSD-2-Clause
#include "record/record.h"

/* The relay's words as derper's own counters have them; ours beside them. */
static const char *const names[REASON_COUNT] = {
	[REASON_UNKNOWN_DEST] = "unknown_dest",
	[REASON_UNKNOWN_DEST_ON_FWD] = "unknown_dest_on_fwd",
	[REASON_GONE_DISCONNECTED] = "gone_disconnected",
	[REASON_QUEUE_HEAD] = "queue_head",
	[REASON_QUEUE_TAIL] = "queue_tail",
	[REASON_WRITE_ERROR] = "write_error",
	[REASON_DUP_CLIENT] = "dup_client",
	[REASON_NO_ROUTE] = "no_route",
	[REASON_QUEUE] = "queue",
	[REASON_UNREAD] = "unread",
	[REASON_UNSENT] = "unsent",
	[REASON_UNFLUSHED] = "unflushed",
	[REASON_OTHER] = "other",
};

const char *record_reason_name(enum record_reason reason)
{
	if (reason >= REASON_COUNT || !names[reason])
		return "unknown";
	return names[reason];
}

const char *record_level_name(enum record_level level)
{
	static const char *const levels[LEVEL_COUNT] = { "full", "sampled", "counts", "off" };

	return level < LEVEL_COUNT ? levels[level] : "unknown";
}
