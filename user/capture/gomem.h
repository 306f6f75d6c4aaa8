/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * gomem: what the memory of a running Go relay tells: the secrets, sequence numbers and sockets of
 * the TLS connections that are open, and which DERP peer is on which connection.
 *
 * Read only, through /proc/PID/mem, present pages only; the process is not stopped, so what is
 * read may be torn or stale, and it may be hostile: all of it is a claim. A secret holds once a
 * captured record opens under it, a peer once the wire agrees.
 * One gomem serves one thread.
 */
#ifndef DT_CAPTURE_GOMEM_H
#define DT_CAPTURE_GOMEM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct gobin;
struct gomem;

enum gomem_error {
	GOMEM_OK,
	GOMEM_NO_PROCESS,	/* the process has ended */
	GOMEM_NO_PERMISSION,	/* /proc/PID/mem may not be read (ptrace rights) */
	GOMEM_NO_MODULE,	/* the runtime's moduledata was not found */
	GOMEM_NO_ITABS,		/* neither itablinks nor itabTable was found */
	GOMEM_NO_CONN,		/* the program has no net.Conn: it serves nothing yet */
	GOMEM_READ_FAILED,	/* reading stopped part way, or no memory */
};

/* One sentence for people, never NULL. */
const char *gomem_error_text(enum gomem_error error);

enum {
	GOMEM_SECRETS_MAX = 6,
	GOMEM_SECRET_MAX = 48,
};

/* A byte slice that stands in a tls.Conn and may be a TLS 1.3 traffic secret. */
struct gomem_secret {
	uint8_t bytes[GOMEM_SECRET_MAX];
	uint8_t len;		/* 32 or 48 */
	uint64_t seq;		/* number of the next record, as read in the pass: a hint */
	uint64_t seq_addr;	/* for gomem_tls_seq(); 0 if no place was found */
};

struct gomem_tls {
	uint64_t addr;		/* of the tls.Conn: equal addresses in two passes may be two
				 * connections, compare the secrets */
	int fd;			/* in the process; -1 if unknown. Closed ones are not given */
	bool is_client;		/* dialled by the relay (mesh), not accepted */
	uint16_t version;	/* 0x0304, 0x0303; 0 if unknown */
	uint16_t cipher_suite;	/* IANA number; 0 if unknown */

	/*
	 * TLS 1.3: in the order in which they stand in memory. Where in_index and out_index are not
	 * -1 the pair was recognised by its form: in (what the relay reads), out (what it writes).
	 * The others (a resumption secret) are kept for the day the layout changes.
	 */
	struct gomem_secret secrets[GOMEM_SECRETS_MAX];
	int secret_count;
	int in_index;
	int out_index;

	/*
	 * TLS 1.2: from the exporter's closure. Which random is whose follows their order in
	 * memory: where no record opens, try them exchanged.
	 */
	bool has_master;
	uint8_t master[48];
	uint8_t client_random[32];
	uint8_t server_random[32];
	uint64_t in_seq;	/* TLS 1.2: number of the next record, and where it stands */
	uint64_t in_seq_addr;
	uint64_t out_seq;
	uint64_t out_seq_addr;
};

struct gomem_peer {
	uint8_t key[32];	/* node public key of the DERP peer */
	uint64_t conn_addr;	/* of the tls.Conn (as in gomem_tls.addr), net.TCPConn, or other */
	uint64_t server_addr;	/* the DERP server it belongs to: a process may have several */
	int fd;			/* in the process; -1 if unknown. Closed ones are not given */
	bool tls;		/* conn_addr, or what it wraps, is a tls.Conn */
	uint64_t tls_addr;	/* that tls.Conn, also below a WebSocket; 0 if none */
	char conn_type[48];	/* "*tls.Conn", "*net.TCPConn", "*wsconn.netConn", ... */
};

/*
 * Called during gomem_scan(), each may be NULL; what is passed is valid during the call and wiped
 * after it. All TLS connections come before the first peer. The same peer key may come with
 * several connections. What the relay has closed is left out where that can be read; what it has
 * forgotten, but the garbage collector has not yet taken, may still come.
 */
struct gomem_sink {
	void *context;
	void (*tls)(void *context, const struct gomem_tls *tls);
	void (*peer)(void *context, const struct gomem_peer *peer);
	/*
	 * The DERP server's public key; proved: the private key beside it belongs to it. That key
	 * is wiped at once and never leaves this room.
	 */
	void (*server)(void *context, uint64_t server_addr, const uint8_t key[static 32]);
};

struct gomem_stats {
	uint64_t read_bytes;	/* of heap, present pages */
	uint64_t skipped_bytes;	/* not present, or over the bound */
	uint64_t elapsed_ns;
	uint32_t itabs_conn;	/* net.Conn implementations found */
	uint32_t itabs_derp;	/* derp.Conn implementations found; 0: serves no DERP yet */
	uint32_t tls_count;
	uint32_t peer_count;
	bool truncated;		/* a bound was hit: there may be more connections than were given */
};

/*
 * Open a process for reading; bin is its executable, used during the call only. NULL on error,
 * *error says which.
 */
struct gomem *gomem_open(pid_t pid, const struct gobin *bin, enum gomem_error *error);

/* Accepts NULL. */
void gomem_close(struct gomem *mem);

/*
 * One pass over the heap: about 0.3 s for 140 MiB. stats may be NULL. May be repeated: the tables
 * are read anew each time, as the program adds to them while it runs.
 */
enum gomem_error gomem_scan(struct gomem *mem, const struct gomem_sink *sink,
			    struct gomem_stats *stats);

/*
 * Read a sequence number again, right before it is used. It is written bytewise and runs on: the
 * true one may be some records ahead, and off by 256 if torn. 0, -ESRCH (process gone), or -EIO.
 */
int gomem_tls_seq(struct gomem *mem, uint64_t seq_addr, uint64_t *seq);

/* The inode of the socket behind a descriptor. 0, -ENOTSOCK, or -errno of the look-up. */
int gomem_fd_inode(pid_t pid, int fd, uint64_t *inode);

#endif
