/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The language on standard input: a command a line, words separated by blanks, '#' begins a
 * comment line.
 *
 *	command.c          the table, and the commands of one step
 *	command_peer.c     peer
 *	command_traffic.c  send, pairs, forward
 */
#ifndef DERPLOAD_COMMAND_H
#define DERPLOAD_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COMMAND_ERR_MAX 300

/* Begins to read; returns 0 or -errno. */
int command_start(int fd);

/* quit was read, or the end of the input. */
bool command_quit(void);

/* One line per command, for --help. */
void command_usage(void);

/* "NAME=ADDR": this name resolves so, without the resolver. False if it is not of that form. */
bool command_resolve(const char *pair);

/*
 * What carries out a command: argv[0] is its first operand. 0, or -errno with a sentence in err
 * (COMMAND_ERR_MAX bytes).
 */
int command_peer(int argc, char **argv, char *err);
int command_send(int argc, char **argv, char *err);
int command_pairs(int argc, char **argv, char *err);
int command_forward(int argc, char **argv, char *err);

#endif
