/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The plain fields of every message, by kind, once: pack and unpack are made from these lists. Names
 * are the same in record.h and record.proto.
 */
#ifndef DT_RECORD_FIELDS_H
#define DT_RECORD_FIELDS_H

#define BOOKS_NUMBERS(X) X(entered) X(left) X(in_flight) X(lost) X(untraced)

#define NODE_NUMBERS(X) X(pid) X(since_ns) X(started_ns) X(ended_ns) X(peers) X(unflushed) \
	X(other_frames) X(still_from_ns) X(still_to_ns) X(still_conns)
#define NODE_STRINGS(X) X(name) X(software) X(tls_name)
#define NODE_KEYS(X) X(key)

#define CONN_NUMBERS(X) X(conn) X(kind) X(dialled) X(from_start) X(readable) X(secret_missing) \
	X(unsynchronised) X(websocket) X(tls) X(peer_claimed) X(steps) X(opened_ns) X(closed_ns) \
	X(how) X(fin_in) X(fin_out) X(last_type_in) X(last_type_out) X(info_len) X(http_status) \
	X(tls_alert) X(tls_alert_out) X(tls_alert_hidden) X(tls_alert_hidden_out) X(tag) \
	X(last_in_ns) X(last_out_ns) X(preferred_ns) X(unread) X(notsent) X(unacked) X(rtt_us) \
	X(retransmits) X(snd_wnd) X(unacked_since_ns) X(blocked_ns) X(max_unacked_segment) \
	X(in_bytes) X(out_bytes) X(forwards) X(forward_bytes) X(forwards_acked) X(derp_off) X(gaps) \
	X(in_missed) X(max_acked_forward) X(stuck_forward) X(left_ns)
#define CONN_STRINGS(X) X(sni) X(host) X(cert_name) X(ideal_node)
#define CONN_KEYS(X) X(peer)

#define LINK_NUMBERS(X) X(conn) X(frames) X(bytes)
#define LINK_KEYS(X) X(src) X(dst)

#define MARK_NUMBERS(X) X(conn) X(no) X(digest) X(len) X(seen_ns)
#define MARK_KEYS(X) X(src) X(dst)

#define LOSS_NUMBERS(X) X(reason) X(basis) X(from_mesh) X(in_conn) X(out_conn) X(count) X(bytes) \
	X(first_ns) X(last_ns) X(back)
#define LOSS_KEYS(X) X(src) X(dst)

#define PRESENCE_NUMBERS(X) X(conn) X(present) X(not_here) X(flags) X(said_ns)
#define PRESENCE_KEYS(X) X(peer)

#define NIC_NUMBERS(X) X(packets) X(bytes) X(syn) X(rst) X(fin) X(duplicates) X(stun_in) X(stun_heard) \
	X(stun_out) X(stun_listens) X(drops)
#define NIC_STRINGS(X) X(mode) X(interfaces)

#define NIC_DROP_NUMBERS(X) X(kind) X(conn) X(packets) X(bytes) X(first_ns) X(last_ns)

#define AGENT_NUMBERS(X) X(start_ns) X(ready_ns) X(final) X(segments_lost) X(drops_lost) \
	X(connections) X(without_secret) X(unsynchronised) X(cpu_percent) X(steps) \
	X(counted) X(uncounted)
#define AGENT_STRINGS(X) X(host) X(mode)

#define STEP_NUMBERS(X) X(time_ns) X(from) X(to) X(share) X(cost_ppm) X(budget_ppm)

#endif
