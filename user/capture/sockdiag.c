// SPDX-License-Identifier: BSD-2-Clause
#include "capture/sockdiag.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECEIVE_BYTES	(64 << 10)
#define QUEUE_BYTES	(4 << 20)	/* answers of a batch, as the kernel counts them */
#define BATCH		64
#define PORTS_MAX	64		/* more are not filtered in the kernel */
#define TIMER_TIME_WAIT	3		/* inet_diag_msg.idiag_timer */
#define STATE_TIME_WAIT	6
#define UDP_UNCONNECTED	(1u << 7)	/* they are in TCP_CLOSE */

struct sockdiag {
	int fd;
	uint32_t seq;
	uint8_t buffer[RECEIVE_BYTES];
};

struct sockdiag *sockdiag_open(void)
{
	struct sockaddr_nl local = { .nl_family = AF_NETLINK };
	struct sockdiag *sd = calloc(1, sizeof(*sd));
	int size = QUEUE_BYTES;

	if (!sd)
		return NULL;
	sd->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (sd->fd < 0 || bind(sd->fd, (struct sockaddr *)&local, sizeof(local))) {
		sockdiag_close(sd);
		return NULL;
	}
	/* Without the privilege the default size has to do: a batch fits it. */
	if (setsockopt(sd->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)))
		setsockopt(sd->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	return sd;
}

void sockdiag_close(struct sockdiag *sd)
{
	int saved = errno;

	if (!sd)
		return;
	if (sd->fd >= 0)
		close(sd->fd);
	free(sd);
	errno = saved;
}

/* --- what comes back ------------------------------------------------------------------------- */

static void read_info(struct sockdiag_socket *s, const void *data, size_t len)
{
	struct tcp_info info;

	/* Older kernels tell less. */
	memset(&info, 0, sizeof(info));
	memcpy(&info, data, len < sizeof(info) ? len : sizeof(info));
	if (len < offsetof(struct tcp_info, tcpi_notsent_bytes) + sizeof(info.tcpi_notsent_bytes))
		return;
	s->has_info = true;
	s->bytes_received = info.tcpi_bytes_received;
	s->bytes_acked = info.tcpi_bytes_acked;
	s->notsent = info.tcpi_notsent_bytes;
	s->rtt_us = info.tcpi_rtt;
	s->retransmits = info.tcpi_total_retrans;
	s->snd_wnd = UINT32_MAX;
	if (len >= offsetof(struct tcp_info, tcpi_snd_wnd) + sizeof(info.tcpi_snd_wnd))
		s->snd_wnd = info.tcpi_snd_wnd;
}

static bool read_socket(const struct nlmsghdr *h, struct sockdiag_socket *s)
{
	const struct inet_diag_msg *m = NLMSG_DATA(h);
	const struct rtattr *a = (const struct rtattr *)(m + 1);
	int family, len = h->nlmsg_len - NLMSG_LENGTH(sizeof(*m));

	if (len < 0 || (m->idiag_family != AF_INET && m->idiag_family != AF_INET6))
		return false;
	memset(s, 0, sizeof(*s));
	family = m->idiag_family == AF_INET ? 4 : 6;
	addr_set(&s->local, family, m->id.idiag_src, ntohs(m->id.idiag_sport));
	addr_set(&s->remote, family, m->id.idiag_dst, ntohs(m->id.idiag_dport));
	s->cookie = m->id.idiag_cookie[0] | (uint64_t)m->id.idiag_cookie[1] << 32;
	s->inode = m->idiag_inode;
	s->ifindex = m->id.idiag_if;
	/* What is left of a socket may still call itself FIN_WAIT2. */
	s->state = m->idiag_timer == TIMER_TIME_WAIT ? STATE_TIME_WAIT : m->idiag_state;
	s->retries = m->idiag_retrans;
	s->rqueue = m->idiag_rqueue;
	s->wqueue = m->idiag_wqueue;
	for (; RTA_OK(a, len); a = RTA_NEXT(a, len)) {
		if (a->rta_type == INET_DIAG_INFO)
			read_info(s, RTA_DATA(a), RTA_PAYLOAD(a));
	}
	return true;
}

static int error_of(const struct nlmsghdr *h)
{
	const struct nlmsgerr *e = NLMSG_DATA(h);

	return h->nlmsg_len < NLMSG_LENGTH(sizeof(*e)) ? -EPROTO : e->error;
}

static ssize_t receive(struct sockdiag *sd, int flags)
{
	ssize_t n;

	do {
		n = recv(sd->fd, sd->buffer, sizeof(sd->buffer), flags);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* --- dumps ----------------------------------------------------------------------------------- */

/* For each port: from it, up to it, accept; else the next port. The last one's "else" refuses. */
struct port_filter {
	struct inet_diag_bc_op from[2], to[2], accept;
};

static size_t build_filter(struct port_filter *filter, const uint16_t *ports, size_t count)
{
	const unsigned int one = sizeof(*filter);
	size_t i;

	for (i = 0; i < count; i++) {
		bool last = i + 1 == count;
		struct port_filter *f = &filter[i];

		memset(f, 0, one);
		f->from[0].code = INET_DIAG_BC_S_GE;
		f->from[0].yes = sizeof(f->from);
		f->from[0].no = one + (last ? 4 : 0);
		f->from[1].no = ports[i];
		f->to[0].code = INET_DIAG_BC_S_LE;
		f->to[0].yes = sizeof(f->to);
		f->to[0].no = one - sizeof(f->from) + (last ? 4 : 0);
		f->to[1].no = ports[i];
		f->accept.code = INET_DIAG_BC_JMP;
		f->accept.yes = sizeof(f->accept);
		f->accept.no = sizeof(f->accept) + (count - 1 - i) * one;
	}
	return count * one;
}

static int send_dump(struct sockdiag *sd, int family, int protocol, uint32_t states,
		     const uint16_t *ports, size_t port_count)
{
	struct {
		struct nlmsghdr h;
		struct inet_diag_req_v2 r;
		struct rtattr a;
		struct port_filter filter[PORTS_MAX];
	} m;
	size_t len;

	memset(&m, 0, offsetof(typeof(m), filter));
	m.h.nlmsg_type = SOCK_DIAG_BY_FAMILY;
	m.h.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	m.h.nlmsg_seq = ++sd->seq;
	m.h.nlmsg_len = offsetof(typeof(m), a);
	m.r.sdiag_family = family;
	m.r.sdiag_protocol = protocol;
	m.r.idiag_states = states;
	m.r.idiag_ext = 1 << (INET_DIAG_INFO - 1);
	m.r.id.idiag_cookie[0] = m.r.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
	if (port_count && port_count <= PORTS_MAX) {
		len = build_filter(m.filter, ports, port_count);
		m.a.rta_type = INET_DIAG_REQ_BYTECODE;
		m.a.rta_len = RTA_LENGTH(len);
		m.h.nlmsg_len += m.a.rta_len;
	}
	return send(sd->fd, &m, m.h.nlmsg_len, 0) < 0 ? -errno : 0;
}

static bool has_port(const uint16_t *ports, size_t count, uint16_t port)
{
	size_t i;

	for (i = 0; i < count; i++) {
		if (ports[i] == port)
			return true;
	}
	return !count;
}

static int dump_family(struct sockdiag *sd, int family, int protocol, uint32_t states,
		       const uint16_t *ports, size_t port_count,
		       void (*found)(void *ctx, const struct sockdiag_socket *s), void *ctx)
{
	struct sockdiag_socket s;
	const struct nlmsghdr *h;
	ssize_t n;
	int err = send_dump(sd, family, protocol, states, ports, port_count);

	while (!err) {
		n = receive(sd, 0);
		if (n <= 0)
			return n ? (int)n : -EPROTO;
		for (h = (void *)sd->buffer; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
			if (h->nlmsg_seq != sd->seq)
				continue;
			if (h->nlmsg_type == NLMSG_DONE)
				return 0;
			if (h->nlmsg_type == NLMSG_ERROR)
				return error_of(h);
			if (read_socket(h, &s) && s.state != STATE_TIME_WAIT &&
			    has_port(ports, port_count, s.local.port))
				found(ctx, &s);
		}
	}
	return err;
}

static int dump_both(struct sockdiag *sd, int protocol, uint32_t states, const uint16_t *ports,
		     size_t port_count, void (*found)(void *ctx, const struct sockdiag_socket *s),
		     void *ctx)
{
	int err = dump_family(sd, AF_INET, protocol, states, ports, port_count, found, ctx);

	if (err)
		return err;
	err = dump_family(sd, AF_INET6, protocol, states, ports, port_count, found, ctx);
	/* A kernel without IPv6 has no such sockets. */
	return err == -ENOENT ? 0 : err;
}

int sockdiag_dump(struct sockdiag *sd, uint32_t states, const uint16_t *ports, size_t port_count,
		  void (*found)(void *ctx, const struct sockdiag_socket *s), void *ctx)
{
	return dump_both(sd, IPPROTO_TCP, states, ports, port_count, found, ctx);
}

int sockdiag_dump_udp(struct sockdiag *sd,
		      void (*found)(void *ctx, const struct sockdiag_socket *s), void *ctx)
{
	return dump_both(sd, IPPROTO_UDP, UDP_UNCONNECTED, NULL, 0, found, ctx);
}

/* --- single sockets -------------------------------------------------------------------------- */

struct question {
	struct nlmsghdr h;
	struct inet_diag_req_v2 r;
};

static void build_question(struct question *m, const struct sockdiag_query *q, uint32_t seq)
{
	size_t len = q->local.family == 4 ? 4 : 16;

	memset(m, 0, sizeof(*m));
	m->h.nlmsg_len = sizeof(*m);
	m->h.nlmsg_type = SOCK_DIAG_BY_FAMILY;
	m->h.nlmsg_flags = NLM_F_REQUEST;
	m->h.nlmsg_seq = seq;
	m->r.sdiag_family = q->local.family == 4 ? AF_INET : AF_INET6;
	m->r.sdiag_protocol = IPPROTO_TCP;
	m->r.idiag_states = ~0u;
	m->r.idiag_ext = 1 << (INET_DIAG_INFO - 1);
	m->r.id.idiag_sport = htons(q->local.port);
	m->r.id.idiag_dport = htons(q->remote.port);
	memcpy(m->r.id.idiag_src, q->local.ip, len);
	memcpy(m->r.id.idiag_dst, q->remote.ip, len);
	m->r.id.idiag_if = q->ifindex;
	m->r.id.idiag_cookie[0] = (uint32_t)q->cookie;
	m->r.id.idiag_cookie[1] = (uint32_t)(q->cookie >> 32);
}

static void hand_over(const struct nlmsghdr *h, const struct sockdiag_query *q,
		      sockdiag_answer answer, void *ctx)
{
	struct sockdiag_socket s;
	int err;

	if (h->nlmsg_type == NLMSG_ERROR) {
		err = error_of(h);
		/* ESTALE: another socket has its addresses now. */
		if (err == -ENOENT || err == -ESTALE)
			answer(ctx, q, NULL);
	} else if (read_socket(h, &s)) {
		bool gone = s.state == STATE_TIME_WAIT || s.cookie != q->cookie;

		answer(ctx, q, gone ? NULL : &s);
	}
}

static int ask_batch(struct sockdiag *sd, const struct sockdiag_query *queries, size_t count,
		     sockdiag_answer answer, void *ctx)
{
	struct question m[BATCH];
	const struct nlmsghdr *h;
	uint32_t first = sd->seq + 1;
	ssize_t n;
	size_t i;

	for (i = 0; i < count; i++)
		build_question(&m[i], &queries[i], ++sd->seq);
	if (send(sd->fd, m, count * sizeof(m[0]), 0) < 0)
		return -errno;
	/* The kernel has answered by now: all there is is in the queue. */
	while ((n = receive(sd, MSG_DONTWAIT)) > 0) {
		for (h = (void *)sd->buffer; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
			if (h->nlmsg_seq - first < count)
				hand_over(h, &queries[h->nlmsg_seq - first], answer, ctx);
		}
	}
	return n == -EAGAIN ? 0 : (int)n;
}

int sockdiag_ask(struct sockdiag *sd, const struct sockdiag_query *queries, size_t count,
		 sockdiag_answer answer, void *ctx)
{
	size_t i, n;
	int err = 0;

	for (i = 0; i < count && !err; i += n) {
		n = count - i < BATCH ? count - i : BATCH;
		err = ask_batch(sd, queries + i, n, answer, ctx);
	}
	return err;
}
