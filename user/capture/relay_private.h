/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of relay share. */
#ifndef DT_CAPTURE_RELAY_PRIVATE_H
#define DT_CAPTURE_RELAY_PRIVATE_H

#include "capture/relay.h"

/* The namespace of a process out of *all, or opened and put there. 0, or -errno. */
int relay_netns_get(struct relay_netns **all, pid_t pid, struct relay_netns **result);
/* Accepts NULL. */
void relay_netns_put(struct relay_netns **all, struct relay_netns *ns);

#endif
