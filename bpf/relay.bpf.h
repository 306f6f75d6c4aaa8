/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Is the current process a relay? User space names processes as its own pid namespace does;
 * the kernel's helper names them as the first namespace does.
 */
#ifndef DT_RELAY_BPF_H
#define DT_RELAY_BPF_H

#define RELAY_PID_LEVELS	8	/* nested pid namespaces that are searched */

/*
 * Without the kernel's types. What is below the tracer's namespace is not found so; and where a
 * process dials the kernel does not offer it.
 */
static __always_inline __u32 relay_tgid_told(bool dials)
{
	struct bpf_pidns_info info = {};

	if (dials || bpf_get_ns_current_pid_tgid(pid_namespace_dev, pid_namespace, &info,
						 sizeof(info)))
		return 0;
	return info.tgid;
}

/* The process's id as the tracer's pid namespace sees it; 0: it is not in there. */
static __always_inline __u32 relay_tgid(bool dials)
{
	struct task_struct *leader;
	struct pid_namespace *ns;
	unsigned int level, i;
	struct task_struct *task;
	struct pid *pid;
	__u32 nr;

	if (!pid_namespace)
		return bpf_get_current_pid_tgid() >> 32;
	if (!kernel_reads)
		return relay_tgid_told(dials);
	task = (struct task_struct *)bpf_get_current_task();
	leader = BPF_CORE_READ(task, group_leader);
	pid = BPF_CORE_READ(leader, thread_pid);
	level = BPF_CORE_READ(pid, level);
	for (i = 0; i < RELAY_PID_LEVELS; i++) {
		if (i > level)
			break;
		if (bpf_core_read(&ns, sizeof(ns), &pid->numbers[i].ns) ||
		    BPF_CORE_READ(ns, ns.inum) != pid_namespace)
			continue;
		if (bpf_core_read(&nr, sizeof(nr), &pid->numbers[i].nr))
			return 0;
		return nr;
	}
	return 0;
}

/* Slot of the relay that runs, or 0. @dials: this is no probe in its code, but its connect(). */
static __always_inline __u32 relay_slot(bool dials)
{
	__u32 tgid = relay_tgid(dials);
	__u32 *slot = bpf_map_lookup_elem(&relays, &tgid);

	return slot ? *slot : 0;
}

#endif
