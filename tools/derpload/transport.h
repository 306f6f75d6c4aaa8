/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A nonblocking byte stream: TCP, or TLS over it. Every call returns at once; -EAGAIN means "when
 * the socket is ready", and after any other failure `why` holds a sentence.
 */
#ifndef DERPLOAD_TRANSPORT_H
#define DERPLOAD_TRANSPORT_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

struct transport_addr {
	struct sockaddr_storage ss;
	socklen_t len;
};

/* What all connections of the process share. */
struct transport_tls {
	const char *cafile;		/* NULL: the system's */
	const char *ciphersuites;	/* TLS 1.3, OpenSSL's names; NULL: default */
	const char *ciphers;		/* TLS 1.2 */
	const char *keylog;		/* append secrets in SSLKEYLOGFILE format; NULL: none */
	bool insecure;
	bool tls12;			/* no newer version */
};

struct transport {
	int fd;				/* -1: closed */
	SSL *ssl;			/* NULL: plain */
	bool want_write;		/* TLS cannot go on before the socket takes bytes */
	bool secured;			/* TLS handshake done */
	bool half_written;		/* TLS holds part of a record: the write must be repeated */
	char why[200];
};

struct transport_socket {
	struct transport_addr to;
	struct transport_addr from;	/* len 0: any */
	uint64_t rcvbuf, sndbuf;	/* bytes, 0: the kernel's choice */
};

/* 0, or -EINVAL with err filled. Called once. */
int transport_init(const struct transport_tls *cfg, char *err, size_t err_len);

/* "1.2.3.4", "[::1]", with or without ":port"; port 0 if there is none. */
bool transport_addr_parse(const char *s, struct transport_addr *a);
/* A numeric address, or a name through the resolver (which blocks). 0 or -ENOENT. */
int transport_addr_lookup(const char *host, uint16_t port, struct transport_addr *a);
/* "ip:port" / "[ip]:port" */
void transport_addr_text(const struct transport_addr *a, char *s, size_t len);
void transport_local(const struct transport *t, struct transport_addr *a);

/* Begins to connect. 0 (writable when connected or failed) or -errno. */
int transport_open(struct transport *t, const struct transport_socket *cfg);
/* After the socket became writable: 0, or why it failed. */
int transport_connected(struct transport *t);

/* Begins TLS; verify_name is a host name or an address, sni NULL for none. 0 or -errno. */
int transport_tls_begin(struct transport *t, const char *sni, const char *verify_name);
/* 0 = done, -EAGAIN, or failed. */
int transport_tls_handshake(struct transport *t);
/* The relay's key in the certificate chain ("derpkey<64 hex>"), TLS 1.3 only. */
bool transport_tls_meta_key(const struct transport *t, uint8_t key[static 32]);
/*
 * Sends a KeyUpdate and asks for one. Not while half_written. 0, -EAGAIN if the socket takes no
 * more (the next write sends it), -EOPNOTSUPP, -errno.
 */
int transport_tls_key_update(struct transport *t);

/* Bytes > 0, 0 at the end of the stream, -EAGAIN, -errno. */
ssize_t transport_read(struct transport *t, void *buf, size_t len);
/* Bytes handed to the kernel, -EAGAIN, -errno. After -EAGAIN the same bytes must come again. */
ssize_t transport_write(struct transport *t, const void *buf, size_t len);
/* Bytes that are here already although the socket may never be readable again. */
bool transport_has_pending(const struct transport *t);
/* No reading ahead of what is asked for: the socket's buffer fills as a slow reader's does. */
void transport_read_slowly(struct transport *t);

/* close_notify and FIN; reading goes on. */
void transport_finish(struct transport *t);
/* Bytes the kernel took and the other end has not acknowledged; -errno if that is not known. */
int transport_unacked(const struct transport *t);
/* The socket's own error, 0 if none. */
int transport_error(const struct transport *t);
/* Closes; with rst the kernel sends a reset. Harmless on a closed one. */
void transport_close(struct transport *t, bool rst);

#endif
