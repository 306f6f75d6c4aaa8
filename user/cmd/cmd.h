/* SPDX-License-Identifier: BSD-2-Clause */
/* The verbs. Each takes its own argv (argv[0] is the verb) and returns the exit status. */
#ifndef DT_CMD_H
#define DT_CMD_H

enum exit_status {
	EXIT_NOTHING_FOUND = 0,
	EXIT_FOUND = 1,		/* a verdict, or a loss that is proven */
	EXIT_USAGE = 2,		/* nothing was done */
	EXIT_CANNOT = 3,	/* could not trace, or not all that was asked */
};

int cmd_report(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_record(int argc, char **argv);
int cmd_pcap(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_map(int argc, char **argv);
int cmd_doctor(int argc, char **argv);

#endif
