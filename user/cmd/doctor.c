// SPDX-License-Identifier: BSD-2-Clause
/* derptrace doctor: can this host trace, what is missing, and the fix. */
#include <stdio.h>

#include "cmd/cmd.h"
#include "cmd/options.h"

#define MAX_CHECKS	32

static const struct verb verb = {
	.name = "doctor",
	.usage = "",
	.about = "Looks at this host and says whether relays can be traced here, what is missing,\n"
		 "and what to do about it. Changes nothing.",
	.examples = "  derptrace doctor\n",
	.no_sources = true,
	.no_operands = true,
};

int cmd_doctor(int argc, char **argv)
{
	static const char *const words[] = { "ok", "poor", "FAIL" };
	struct capture_check checks[MAX_CHECKS];
	struct options o;
	int status;
	size_t i, n;

	status = options_parse(argc, argv, &verb, NULL, &o);
	if (status)
		return status == 1 ? EXIT_NOTHING_FOUND : EXIT_USAGE;
	n = capture_live_check(checks, MAX_CHECKS);
	status = EXIT_NOTHING_FOUND;
	for (i = 0; i < n; i++) {
		printf("%-4s  %-26s %s\n", words[checks[i].result], checks[i].what, checks[i].found);
		if (checks[i].result != CAPTURE_CHECK_OK)
			printf("      fix: %s\n", checks[i].fix);
		if (checks[i].result == CAPTURE_CHECK_FAIL)
			status = EXIT_CANNOT;
		else if (checks[i].result == CAPTURE_CHECK_POOR && !status)
			status = EXIT_FOUND;
	}
	return status;
}
