/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of relay share. */
#ifndef DT_CAPTURE_RELAY_PRIVATE_H
#define DT_CAPTURE_RELAY_PRIVATE_H

#include "capture/relay.h"

/* The namespace of a process out of *all, or opened and put there. 0, or -errno. */
int relay_netns_get(struct relay_netns **all, pid_t pid, struct relay_netns **result);
/* Accepts NULL. */
void relay_netns_put(struct relay_netns **all, struct relay_netns *ns);

/* Do the parts of the filter hold that a process tells by itself: pid, comm, unit, cgroup? */
bool relay_filter_process(const struct capture_filter *filter, pid_t pid, const char *comm);
/* Does a cgroup path name @unit ("derper" is "derper.service")? */
bool relay_cgroup_has_unit(const char *path, const char *unit);
/* Is @path below the cgroup @wanted, or it? Slashes at either end of @wanted do not count. */
bool relay_cgroup_is_below(const char *path, const char *wanted);

#endif
