/* SPDX-License-Identifier: BSD-2-Clause */
#include "transport.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/sockios.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "text.h"

static SSL_CTX *ctx;
static FILE *keylog;

static void log_key(const SSL *ssl, const char *line)
{
	(void)ssl;
	fprintf(keylog, "%s\n", line);
	fflush(keylog);
}

static const char *tls_error(void)
{
	unsigned long e = ERR_peek_last_error();
	const char *s = e ? ERR_reason_error_string(e) : NULL;

	return s ? s : "failed";
}

static int open_keylog(const char *path, char *err, size_t err_len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	keylog = fd < 0 ? NULL : fdopen(fd, "a");
	if (!keylog) {
		snprintf(err, err_len, "%s: %s", path, strerror(errno));
		return -EINVAL;
	}
	SSL_CTX_set_keylog_callback(ctx, log_key);
	return 0;
}

int transport_init(const struct transport_tls *cfg, char *err, size_t err_len)
{
	ctx = SSL_CTX_new(TLS_client_method());
	if (!ctx) {
		snprintf(err, err_len, "TLS: %s", tls_error());
		return -EINVAL;
	}
	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	if (cfg->tls12)
		SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
	/* Writes move in the queue; partial ones tell what the kernel has. */
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
			      SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_verify(ctx, cfg->insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
	if (cfg->cafile ? !SSL_CTX_load_verify_file(ctx, cfg->cafile)
			: !SSL_CTX_set_default_verify_paths(ctx)) {
		snprintf(err, err_len, "%s: no certificates (%s)", cfg->cafile, tls_error());
		return -EINVAL;
	}
	if (cfg->ciphersuites && !SSL_CTX_set_ciphersuites(ctx, cfg->ciphersuites)) {
		snprintf(err, err_len, "%s: no such TLS 1.3 cipher suite", cfg->ciphersuites);
		return -EINVAL;
	}
	if (cfg->ciphers && !SSL_CTX_set_cipher_list(ctx, cfg->ciphers)) {
		snprintf(err, err_len, "%s: no such TLS 1.2 cipher", cfg->ciphers);
		return -EINVAL;
	}
	return cfg->keylog ? open_keylog(cfg->keylog, err, err_len) : 0;
}

/* --- addresses --- */

static bool parse_ip(const char *host, uint16_t port, struct transport_addr *a)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&a->ss;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a->ss;

	memset(a, 0, sizeof(*a));
	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		a->len = sizeof(*v4);
		return true;
	}
	if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		a->len = sizeof(*v6);
		return true;
	}
	return false;
}

bool transport_addr_parse(const char *s, struct transport_addr *a)
{
	char host[INET6_ADDRSTRLEN + 8];
	const char *end, *port = NULL;
	uint64_t n = 0;

	if (*s == '[') {
		end = strchr(++s, ']');
		if (!end || (end[1] && end[1] != ':'))
			return false;
		port = end[1] ? end + 2 : NULL;
	} else {
		end = strchrnul(s, ':');
		if (*end && strchr(end + 1, ':'))
			end = s + strlen(s);	/* a bare IPv6 address */
		port = *end ? end + 1 : NULL;
	}
	if (port && !text_u64(port, 0, 65535, &n))
		return false;
	if (snprintf(host, sizeof(host), "%.*s", (int)(end - s), s) >= (int)sizeof(host))
		return false;
	return parse_ip(host, n, a);
}

int transport_addr_lookup(const char *host, uint16_t port, struct transport_addr *a)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *res;
	char service[8];

	if (parse_ip(host, port, a))
		return 0;
	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(host, service, &hints, &res))
		return -ENOENT;
	memcpy(&a->ss, res->ai_addr, res->ai_addrlen);
	a->len = res->ai_addrlen;
	freeaddrinfo(res);
	return 0;
}

void transport_addr_text(const struct transport_addr *a, char *s, size_t len)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&a->ss;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&a->ss;
	char ip[INET6_ADDRSTRLEN] = "?";

	if (a->ss.ss_family == AF_INET6) {
		inet_ntop(AF_INET6, &v6->sin6_addr, ip, sizeof(ip));
		snprintf(s, len, "[%s]:%u", ip, ntohs(v6->sin6_port));
		return;
	}
	inet_ntop(AF_INET, &v4->sin_addr, ip, sizeof(ip));
	snprintf(s, len, "%s:%u", ip, ntohs(v4->sin_port));
}

void transport_local(const struct transport *t, struct transport_addr *a)
{
	a->len = sizeof(a->ss);
	memset(&a->ss, 0, sizeof(a->ss));
	getsockname(t->fd, (struct sockaddr *)&a->ss, &a->len);
}

/* --- TCP --- */

static int set_int(int fd, int level, int name, int v)
{
	return setsockopt(fd, level, name, &v, sizeof(v)) ? -errno : 0;
}

static int fail(struct transport *t, const char *what, int err)
{
	snprintf(t->why, sizeof(t->why), "%s: %s", what, strerror(err));
	return -err;
}

int transport_open(struct transport *t, const struct transport_socket *cfg)
{
	*t = (struct transport){ .fd = -1 };
	t->fd = socket(cfg->to.ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (t->fd < 0)
		return fail(t, "socket", errno);
	set_int(t->fd, IPPROTO_TCP, TCP_NODELAY, 1);
	/* Before the handshake: the window scale is chosen by it. */
	if (cfg->rcvbuf && set_int(t->fd, SOL_SOCKET, SO_RCVBUF, cfg->rcvbuf))
		return fail(t, "SO_RCVBUF", errno);
	if (cfg->sndbuf && set_int(t->fd, SOL_SOCKET, SO_SNDBUF, cfg->sndbuf))
		return fail(t, "SO_SNDBUF", errno);
	if (cfg->from.len) {
		set_int(t->fd, SOL_SOCKET, SO_REUSEADDR, 1);
		if (bind(t->fd, (const struct sockaddr *)&cfg->from.ss, cfg->from.len))
			return fail(t, "bind", errno);
	}
	if (connect(t->fd, (const struct sockaddr *)&cfg->to.ss, cfg->to.len) &&
	    errno != EINPROGRESS)
		return fail(t, "connect", errno);
	return 0;
}

int transport_error(const struct transport *t)
{
	int err = 0;
	socklen_t len = sizeof(err);

	getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &err, &len);
	return err;
}

int transport_unacked(const struct transport *t)
{
	int bytes;

	if (t->fd < 0)
		return -EBADF;
	return ioctl(t->fd, SIOCOUTQ, &bytes) ? -errno : bytes;
}

int transport_connected(struct transport *t)
{
	int err = transport_error(t);

	return err ? fail(t, "connect", err) : 0;
}

/* --- TLS --- */

/* Turns what an SSL call returned into the contract of this file. */
static int tls_result(struct transport *t, int ret, const char *what)
{
	int saved = errno;
	long verify;

	switch (SSL_get_error(t->ssl, ret)) {
	case SSL_ERROR_WANT_READ:
		return -EAGAIN;
	case SSL_ERROR_WANT_WRITE:
		t->want_write = true;
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_SYSCALL:
		ERR_clear_error();
		return fail(t, what, saved ? saved : ECONNRESET);
	}
	verify = SSL_get_verify_result(t->ssl);
	if (ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		snprintf(t->why, sizeof(t->why), "%s: closed without close_notify", what);
	else if (verify != X509_V_OK && !t->secured)
		snprintf(t->why, sizeof(t->why), "%s: certificate: %s", what,
			 X509_verify_cert_error_string(verify));
	else
		snprintf(t->why, sizeof(t->why), "%s: %s", what, tls_error());
	ERR_clear_error();
	return -EPROTO;
}

int transport_tls_begin(struct transport *t, const char *sni, const char *verify_name)
{
	X509_VERIFY_PARAM *param;

	t->ssl = SSL_new(ctx);
	if (!t->ssl || !SSL_set_fd(t->ssl, t->fd))
		goto failed;
	if (sni && !SSL_set_tlsext_host_name(t->ssl, sni))
		goto failed;
	param = SSL_get0_param(t->ssl);
	if (!X509_VERIFY_PARAM_set1_ip_asc(param, verify_name) &&
	    !X509_VERIFY_PARAM_set1_host(param, verify_name, 0))
		goto failed;
	SSL_set_connect_state(t->ssl);
	ERR_clear_error();
	return 0;
failed:
	snprintf(t->why, sizeof(t->why), "TLS: %s", tls_error());
	ERR_clear_error();
	return -EINVAL;
}

int transport_tls_handshake(struct transport *t)
{
	int ret;

	t->want_write = false;
	errno = 0;
	ret = SSL_do_handshake(t->ssl);
	if (ret == 1) {
		t->secured = true;
		return 0;
	}
	ret = tls_result(t, ret, "TLS handshake");
	if (!ret)
		snprintf(t->why, sizeof(t->why), "TLS handshake: closed");
	return ret ? ret : -EPROTO;
}

bool transport_tls_meta_key(const struct transport *t, uint8_t key[static 32])
{
	STACK_OF(X509) *chain = t->ssl ? SSL_get_peer_cert_chain(t->ssl) : NULL;
	char name[128];

	if (!chain || SSL_version(t->ssl) < TLS1_3_VERSION)
		return false;
	for (int i = 0; i < sk_X509_num(chain); i++) {
		X509_NAME *subject = X509_get_subject_name(sk_X509_value(chain, i));
		int n = X509_NAME_get_text_by_NID(subject, NID_commonName, name, sizeof(name));

		if (n > 7 && !strncmp(name, "derpkey", 7) && text_hex(name + 7, key, 32))
			return true;
	}
	return false;
}

int transport_tls_key_update(struct transport *t)
{
	if (!t->ssl || SSL_version(t->ssl) < TLS1_3_VERSION)
		return -EOPNOTSUPP;
	if (!SSL_key_update(t->ssl, SSL_KEY_UPDATE_REQUESTED)) {
		snprintf(t->why, sizeof(t->why), "TLS key update: %s", tls_error());
		ERR_clear_error();
		return -EPROTO;
	}
	return transport_tls_handshake(t);
}

ssize_t transport_read(struct transport *t, void *buf, size_t len)
{
	ssize_t n;

	if (!t->ssl) {
		n = recv(t->fd, buf, len, 0);
		if (n >= 0)
			return n;
		if (errno == EAGAIN || errno == EINTR)
			return -EAGAIN;
		return fail(t, "read", errno);
	}
	t->want_write = false;
	errno = 0;
	n = SSL_read(t->ssl, buf, len);
	return n > 0 ? n : tls_result(t, n, "read");
}

ssize_t transport_write(struct transport *t, const void *buf, size_t len)
{
	ssize_t n;

	if (!t->ssl) {
		n = send(t->fd, buf, len, MSG_NOSIGNAL);
		if (n >= 0)
			return n;
		if (errno == EAGAIN || errno == EINTR)
			return -EAGAIN;
		return fail(t, "write", errno);
	}
	t->want_write = false;
	errno = 0;
	n = SSL_write(t->ssl, buf, len);
	t->half_written = n <= 0;
	if (n > 0)
		return n;
	n = tls_result(t, n, "write");
	if (!n)
		snprintf(t->why, sizeof(t->why), "write: closed");
	return n ? n : -EPIPE;
}

bool transport_has_pending(const struct transport *t)
{
	return t->ssl && SSL_has_pending(t->ssl);
}

void transport_read_slowly(struct transport *t)
{
	if (t->ssl)
		SSL_set_read_ahead(t->ssl, 0);
}

void transport_finish(struct transport *t)
{
	if (t->ssl && t->secured)
		SSL_shutdown(t->ssl);
	ERR_clear_error();
	shutdown(t->fd, SHUT_WR);
}

void transport_close(struct transport *t, bool rst)
{
	struct linger now = { .l_onoff = 1 };

	SSL_free(t->ssl);
	t->ssl = NULL;
	if (t->fd < 0)
		return;
	if (rst)
		setsockopt(t->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(t->fd);
	t->fd = -1;
}
