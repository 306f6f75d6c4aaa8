// SPDX-License-Identifier: BSD-2-Clause
#include "cmd/session_source.h"

bool session_source_is_live(const struct session_source *source)
{
	return source->tracer && tracer_fd(source->tracer) >= 0;
}

static bool is_file(const struct session_source *source)
{
	return source->tracer ? !session_source_is_live(source) : record_reader_is_file(source->reader);
}

static int on_record(void *ctx, const struct record *r)
{
	struct session_source *source = ctx;

	if (r->type == RECORD_AGENT && (r->agent_info.ready_ns || r->agent_info.final))
		source->told = true;
	return source->sink->put(source->sink->ctx, r);
}

int session_source_run(struct session_source *source)
{
	const struct record_sink sink = { source, on_record };

	return source->tracer ? tracer_run(source->tracer) :
				record_reader_run(source->reader, &sink, false);
}

uint64_t session_source_next_ns(const struct session_source *source)
{
	return source->tracer ? tracer_next_ns(source->tracer) : record_reader_next_ns(source->reader);
}

int session_source_run_until(struct session_source *source, uint64_t until_ns)
{
	const struct record_sink sink = { source, on_record };

	return source->tracer ? tracer_run_until(source->tracer, until_ns) :
				record_reader_run_until(source->reader, &sink, until_ns);
}

struct session_source *session_source_earliest(struct session_source *sources, int count, uint64_t *until_ns)
{
	struct session_source *first = NULL;
	uint64_t first_ns = UINT64_MAX, next_ns;
	int i;

	*until_ns = UINT64_MAX;
	for (i = 0; i < count; i++) {
		struct session_source *source = &sources[i];

		if (source->ended || !is_file(source))
			continue;
		next_ns = session_source_next_ns(source);
		if (first && next_ns >= first_ns) {
			if (next_ns < *until_ns)
				*until_ns = next_ns;
			continue;
		}
		*until_ns = first ? first_ns : UINT64_MAX;
		first = source;
		first_ns = next_ns;
	}
	/* Two of one time: each tells something when it is its turn. */
	if (*until_ns <= first_ns)
		*until_ns = first_ns + 1;
	return first;
}
