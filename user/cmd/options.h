/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The options that every verb shares: sources, which relays, how long, bounds. A verb adds its own in
 * a table of the same kind; help and parsing come from the tables.
 */
#ifndef DT_OPTIONS_H
#define DT_OPTIONS_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "capture/capture.h"

#define OPTIONS_MAX_SOURCES	64
#define OPTIONS_MAX_PIDS	256

struct options {
	const char *sources[OPTIONS_MAX_SOURCES];
	int source_count;		/* 0 where none was named; options_parse makes it "live" */
	int pids[OPTIONS_MAX_PIDS];
	struct capture_live_options live;
	const char *keylog;
	const char *map;
	const char *ready_file;
	uint64_t duration_ns;		/* 0: until a signal, or the sources' end */
	uint64_t interval_ns;		/* 1 s */
	bool has_interval;		/* it was named */
	uint32_t max_connections, max_pairs; /* 0: the rooms' defaults */
};

struct option_row {
	struct option option;		/* of getopt_long; flag NULL, val unique */
	const char *argument;		/* its name in the help; NULL: none */
	const char *help;
	const char *takes;		/* what an argument may be, where not all may */
};

/* Shared options that say nothing to some verbs. */
enum { OPTIONS_INTERVAL = 1, OPTIONS_MAP = 2, OPTIONS_COUNT = 4 };

struct verb {
	const char *name;
	const char *usage;		/* "[OPTION]... [SOURCE]..." */
	const char *about;		/* a paragraph */
	const char *examples;
	const struct option_row *rows;	/* its own options, ended by a zero row; may be NULL */
	/* Takes one of its own options; false: bad argument (said by the caller, with the row's takes). */
	bool (*take)(void *ctx, int val, const char *argument);
	bool no_sources;		/* takes none of the shared options */
	bool no_operands;		/* takes nothing but options */
	bool continuous;		/* runs for days: nothing that costs by default */
	unsigned int without;		/* shared options that are of no use to it */
};

/*
 * What is asked for is done, or it is said on standard error that it is not: of an option that none of
 * the sources can heed, and of one that is given twice, where the last counts.
 * 0: go on; 1: done (help was printed); 2: usage error, said on standard error.
 */
int options_parse(int argc, char **argv, const struct verb *verb, void *ctx, struct options *o);

/* Is that file one of the sources? It would be read while it is written. */
bool options_is_source(const struct options *o, const struct stat *file);

#endif
