/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every map and global of the programs. All are weak: each program's object defines them, and they
 * are one once the objects are linked.
 */
#ifndef DT_MAPS_BPF_H
#define DT_MAPS_BPF_H

#include "count_state.bpf.h"

/* One ring for all records, so that their order is kept. The size is set before load. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} ring __weak SEC(".maps");

/* Which sockets are a relay's. Cloned from a listener to the connections it accepts. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct abi_mark);
} marks __weak SEC(".maps");

/*
 * Sockets that were open before we came, by cookie. Taken out when a packet passes the socket and
 * the mark is made, or by user space when the socket is gone.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 17);
	__type(key, __u64);
	__type(value, struct abi_mark);
} claims __weak SEC(".maps");

/* The relays' processes, for what they dial and for probes in their code: tgid to slot. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} relays __weak SEC(".maps");

/* Connections that are not shipped while some are: the choice is user space's, by cookie. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 17);
	__type(key, __u64);
	__type(value, __u8);
} quiet __weak SEC(".maps");

/* enum abi_level */
__u32 level __weak = ABI_LEVEL_FULL;

/* How far the walk of a plaintext connection's frames came; made when the first one is met. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct count_state);
} walks __weak SEC(".maps");

/* To the number of its row. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, ABI_COUNT_ROWS);
	__type(key, struct abi_count_key);
	__type(value, __u32);
} counts __weak SEC(".maps");

/* The counts, by number. User space reads them where they are. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, ABI_COUNT_ROWS);
	__type(key, __u32);
	__type(value, struct abi_count_row);
} rows __weak SEC(".maps");

/* Numbers of rows that are free: user space puts them here, before they are needed. */
struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, ABI_COUNT_ROWS);
	__type(value, __u32);
} free_rows __weak SEC(".maps");

/* Packets that are timed, by name: when they entered; 0: several of one name did. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, ABI_LATENCY_FLIGHTS);
	__type(key, struct abi_latency_flight);
	__type(value, __u64);
} flights __weak SEC(".maps");

/* User space takes out what it reads. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, ABI_LATENCY_ROWS);
	__type(key, struct abi_latency_key);
	__type(value, __u32);
} latencies __weak SEC(".maps");

/* Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 17);
	__type(key, struct abi_agreed_key);
	__type(value, struct abi_agreed);
} agreed __weak SEC(".maps");

/* Moved on with every entry in agreed. */
__u32 agreements __weak = 0;

/* Set while claims holds anything: only then is a stranger's packet looked up in it. */
__u32 claims_pending __weak = 0;
/* The reader was woken and has not come yet. */
__u32 reader_woken __weak = 0;
struct abi_lost lost __weak = {};
/* A bit for each slot: nothing is shipped of what may be a relay, and has proved to be busy. */
__u64 muted_slots[ABI_SLOTS / 64] __weak = {};

/* A quarter of the ring: more than that waiting wakes the reader. */
const volatile __u64 wake_bytes __weak = 1 << 20;
/* Plaintext connections may be counted. */
const volatile __u32 count_frames __weak = 0;
/* The kernel tells its types (BTF): a socket can be read as the kernel does. */
const volatile __u32 kernel_types __weak = 1;
/* Its memory may be read: not where it is locked down for confidentiality. */
const volatile __u32 kernel_reads __weak = 1;
/* Inode of the tracer's pid namespace where it is not the first one; else 0. Its device. */
const volatile __u32 pid_namespace __weak = 0;
const volatile __u32 pid_namespace_dev __weak = 0;

static __always_inline bool slot_is_muted(__u32 slot)
{
	return slot < ABI_SLOTS && muted_slots[slot / 64 % (ABI_SLOTS / 64)] >> (slot % 64) & 1;
}

/* Is nothing of this packet's connection shipped now? */
static __always_inline bool conn_is_quiet(struct __sk_buff *skb)
{
	__u64 cookie;

	if (level != ABI_LEVEL_SAMPLED)
		return level == ABI_LEVEL_OFF;
	cookie = bpf_get_socket_cookie(skb);
	return bpf_map_lookup_elem(&quiet, &cookie);
}

#endif
