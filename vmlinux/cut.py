#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Cuts a kernel's types down to what the programs in bpf/ need.

    bpftool btf dump file /sys/kernel/btf/vmlinux format c | vmlinux/cut.py > vmlinux/kernel.h

WHOLE types are kept as they are: they are the kernel's promise to user space, the same on every architecture. Of PARTIAL
ones only the named members stay; where they really lie is found out when a program is loaded (CO-RE). What a kept
member has by value is kept too, whole; what it points to is only declared.
"""
import re
import sys

WHOLE = ["__sk_buff", "bpf_sock", "bpf_tcp_sock", "bpf_sock_addr", "bpf_sock_ops", "bpf_sock_tuple", "bpf_spin_lock", "bpf_pidns_info", "bpf_map_type",
         "bpf_prog_type", "bpf_attach_type", "xdp_md", "xdp_action", "ethhdr", "vlan_hdr", "iphdr", "ipv6hdr", "tcphdr",
         "udphdr", "upid"]
PARTIAL = {
    "tcp_sock": ["inet_conn", "rcv_nxt", "copied_seq", "rcv_wup", "rcv_wnd", "snd_nxt", "snd_una", "snd_wnd", "write_seq",
                 "bytes_received", "bytes_acked", "packets_out", "retrans_out", "total_retrans", "srtt_us",
                 "mss_cache"],
    "inet_connection_sock": ["icsk_inet"],
    "inet_sock": ["sk"],
    "sock": ["__sk_common"],
    "sk_buff": ["ip_summed", "csum_valid", "csum_start", "transport_header"],
    "sock_common": ["skc_family", "skc_state", "skc_num", "skc_cookie"],
    "task_struct": ["pid", "tgid", "group_leader", "thread_pid", "nsproxy"],
    "pid": ["level", "numbers"],
    "pid_namespace": ["ns"],
    "ns_common": ["inum"],
    "nsproxy": ["net_ns"],
    "net": ["ns"],
}
TYPEDEFS = ["__u8", "__u16", "__u32", "__u64", "__s8", "__s16", "__s32", "__s64", "u8", "u16", "u32", "u64", "s8", "s16",
            "s32", "s64", "__be16", "__be32", "__be64", "__le16", "__le32", "__le64", "__sum16", "__wsum", "bool"]
# Unnamed enums are kept when they have one of these.
CONSTANTS = ["BPF_F_NO_PREALLOC", "BPF_ANY", "BPF_RB_NO_WAKEUP", "BPF_RB_AVAIL_DATA", "BPF_SK_STORAGE_GET_F_CREATE",
             "BPF_F_CURRENT_CPU", "BPF_F_CURRENT_NETNS", "TCP_ESTABLISHED", "IPPROTO_TCP", "SOCK_STREAM", "false"]

KINDS = r"struct|union|enum"
BY_VALUE = re.compile(rf"\b({KINDS}) (\w+)(?! \*)(?=[ ;])")
POINTED = re.compile(r"\b(struct|union) (\w+) \*")


def declarations(text):
    """The top-level declarations, in order."""
    depth, begin = 0, 0
    for m in re.finditer(r"[{};]", text):
        depth += {"{": 1, "}": -1, ";": 0}[m.group()]
        if m.group() == ";" and depth == 0:
            yield text[begin:m.end()].strip()
            begin = m.end()


def members(body):
    """(name, text) of each member at the top level of a struct; unnamed unions are searched through."""
    depth, begin = 0, 0
    for m in re.finditer(r"[{};]", body):
        depth += {"{": 1, "}": -1, ";": 0}[m.group()]
        if m.group() == ";" and depth == 0:
            member = body[begin:m.end()].strip()
            begin = m.end()
            if member.endswith("};") and "{" in member:
                yield from members(member[member.index("{") + 1:member.rindex("}")])
                continue
            name = re.search(r"(\w+)(?:\[\w*\])*(?: ?: \d+)?;$", member)
            if name:
                yield name.group(1), member


class Cut:
    def __init__(self, text):
        self.types, self.typedefs, self.unnamed = {}, {}, []
        for d in declarations(text):
            named = re.match(rf"({KINDS}) (\w+) {{", d)
            if named:
                self.types[named.group(2)] = d
            elif d.startswith("enum {"):
                self.unnamed.append(d)
            elif d.startswith("typedef"):
                name = re.search(r"(\w+)(?:\[\w*\])?;$|\(\*(\w+)\)", d)
                if name:
                    self.typedefs[name.group(1) or name.group(2)] = d
        self.out, self.done, self.declared = [], set(), set()

    def partial(self, name):
        body = self.types[name]
        found = dict(members(body[body.index("{") + 1:body.rindex("}")]))
        missing = [m for m in PARTIAL[name] if m not in found]
        if missing:
            raise SystemExit(f"cut.py: struct {name} of this kernel has no {', '.join(missing)}")
        return f"struct {name} {{\n" + "".join(f"\t{found[m]}\n" for m in PARTIAL[name]) + "};"

    def need_typedefs(self, text):
        for word in re.findall(r"\b\w+\b", text):
            if word in self.typedefs and ("t", word) not in self.done:
                self.done.add(("t", word))
                self.need(self.typedefs[word])
                self.out.append(self.typedefs[word])

    def need(self, text):
        """Everything that this text has by value, before it; what it points to, declared."""
        self.need_typedefs(text)
        for _, name in BY_VALUE.findall(text):
            self.add(name)
        for kind, name in POINTED.findall(text):
            if name not in self.done and name not in self.declared:
                self.declared.add(name)
                self.out.append(f"{kind} {name};")

    def add(self, name):
        if name in self.done or name not in self.types:
            return
        self.done.add(name)
        text = self.partial(name) if name in PARTIAL else self.types[name]
        self.need(text[text.index("{"):])
        self.out.append(text)

    def whole(self):
        self.need_typedefs(" ".join(TYPEDEFS))
        for text in self.unnamed:
            if any(re.search(rf"\b{c}\b", text) for c in CONSTANTS):
                self.out.append(text)
        for name in WHOLE + list(PARTIAL):
            if name not in self.types:
                raise SystemExit(f"cut.py: this kernel has no {name}")
            self.add(name)
        return "\n\n".join(self.out)


HEAD = """/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Made by vmlinux/cut.py from a kernel's types: see README.md, not to be edited. */
#ifndef DT_KERNEL_H
#define DT_KERNEL_H

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
"""
FOOT = """
#pragma clang attribute pop

#endif
"""


def main():
    text = re.sub(r"^#.*$", "", sys.stdin.read(), flags=re.M)
    print(HEAD + "\n" + Cut(text).whole() + "\n" + FOOT, end="")


if __name__ == "__main__":
    main()
