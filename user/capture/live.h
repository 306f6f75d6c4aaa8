/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files of live capture share: the relays that are traced (nodes), their connections, and
 * the way from a record of the ring to an event.
 *
 * live.c		open, run, tick, close
 * live_load.c		the programs, opened
 * live_node.c		relays come and go; their sockets are claimed
 * live_provisional.c	what may be a relay, until it is one
 * live_claim.c		sockets that were there before us
 * live_probe.c		probes in a relay's code
 * live_conn.c		connections: from the first sign to the close
 * live_record.c	records to events
 * live_told.c		what probes in a relay's code tell
 * live_check.c		checksums of segments
 * live_count.c		what the kernel counts
 * live_heads.c		what is foretold of TLS records
 * live_ring.c		the ring
 * live_cgroup.c	where the programs are attached
 * live_ask.c		asking sockets
 * live_search.c	memory of relays, in a thread
 */
#ifndef DT_CAPTURE_LIVE_H
#define DT_CAPTURE_LIVE_H

#include <linux/types.h>
#include <pthread.h>
#include <stdatomic.h>
#include <uthash.h>

#include "abi.h"
#include "base/chains.h"
#include "capture/capture.h"
#include "capture/live_cost.h"
#include "capture/live_ring.h"
#include "capture/relay.h"
#include "capture/sockdiag.h"

struct derptrace_bpf;
struct bpf_link;
struct live_search;
struct live_heads;
struct nic_space;

/* Sequence numbers wrap: is @a behind (later than) @b? */
static inline bool live_seq_after(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) > 0;
}

/* What is agreed on with the kernel, which walks a direction of a connection: counts, and masks. */
struct live_walk {
	uint32_t generation;		/* of the counts, now or last */
	uint32_t agreed;		/* epoch; 0: none */
	uint32_t window;		/* of masks, from 1; 0: none */
	uint32_t epoch;			/* that it was told for */
	uint8_t type;			/* with agreed: of the frames that are counted */
	bool on;			/* counted, as far as the ring tells */
	bool told;			/* the window, to the programs */
};

struct live_conn {
	struct chain chain;		/* by cookie: the kernel gives them, it is its own hash */
	uint64_t cookie;		/* and capture_event.conn */
	struct live_node *node;
	struct addr local, remote;
	uint32_t ifindex, inode;	/* as last dumped */
	uint64_t first_ns, record_ns;	/* of its first sign, of its last record */
	uint32_t in_isn, out_isn;	/* with fresh and started */
	/*
	 * rcv_nxt is base_in + bytes_received, snd_una is base_out + bytes_acked. Guessed: by a reading
	 * that may be torn. Such a base is too low, so what follows from it says too little, and no more.
	 */
	uint32_t base_in, base_out;
	struct capture_facts facts;	/* newest */

	/* Inbound payload and what TCP says of it: see live_record.c. */
	uint32_t in_end;		/* behind the last byte in the ring so far */
	uint32_t ahead;			/* TCP has accepted all before it */
	uint32_t handed;		/* all before it was handed over */
	uint32_t island, island_end;	/* handed over too, beyond a hole; equal: none */
	uint32_t contested_at;		/* see contested */
	uint32_t ack;			/* the far end's newest, of segments that TCP had yet to take */
	uint64_t pending_ns;		/* since when it is pending */

	uint32_t group;			/* see capture_sink.group; 0: not known */
	bool is_link;
	bool fin[2], rst[2];		/* by enum abi_dir */

	enum capture_role role : 3;
	bool watched : 1;		/* its local port is one of the network card's program */
	bool announced : 1;		/* CONN_OPEN was said */
	bool told_dial : 1;		/* before it was answered, and not again since */
	bool told_facts : 1;		/* nothing has passed since they were */
	bool closed : 1;		/* nothing more is said of it */
	bool claimed : 1;		/* a claim of ours may still wait for its first packet */
	bool started : 1;		/* a record of it was seen */
	bool dialling : 1;		/* no answer to its SYN so far */
	bool fresh : 1;			/* no payload byte passed either way before we saw it */
	bool has_base : 1;
	bool base_guessed : 1;		/* who has it has guessed it, too */
	bool all_facts : 1;		/* its records tell them all */
	bool has_in : 1, has_handed : 1, has_ahead : 1, has_ack : 1;
	bool pending : 1;		/* in live.pending: inbound payload is not confirmed */
	bool contested : 1;		/* two segments of this batch are of the same bytes, from
					 * contested_at on */
	bool quiet : 1;			/* told: its segments are not handed over */
	bool hush : 1;			/* is about to be told so */
	bool in_quiet : 1;		/* it is in the kernel's map quiet */
	bool ask : 1;			/* its facts may change without a packet */
	bool bound : 1;			/* it was found by its addresses once */
	bool seen : 1;			/* in the running dump */
	bool gone : 1;			/* the kernel has no such socket any more */
	uint64_t gone_ns, asked_ns;

	struct live_walk *walks;	/* by enum abi_dir; NULL: nothing was agreed on so far */
};

static inline struct live_walk live_conn_walk(const struct live_conn *conn, uint8_t dir)
{
	return conn->walks ? conn->walks[dir] : (struct live_walk){ 0 };
}

/* The one that it is at may be freed; none may be added. */
#define LIVE_EACH_CONN(live, conn)							     \
	for (struct chain *at_ = chains_first(&(live)->conns), *next_;			     \
	     at_ && ((conn) = ITEM_OF(at_, struct live_conn, chain),			     \
		    next_ = chains_next(&(live)->conns, at_), true);			     \
	     at_ = next_)

/* An answer that waits until the ring was drained. */
struct live_answer {
	struct live_conn *conn;
	struct capture_facts facts;
};

struct live_probe {
	const struct bpf_program *prog;
	pid_t pid;
	uint64_t file_off;
	bool wanted;			/* the function is there */
	struct bpf_link *link;
	int err;
	bool working;			/* the thread places or removes it */
	atomic_bool done;
	pthread_t thread;
};

struct live_node {
	uint32_t id;
	uint32_t slot;
	struct relay *relay;
	char software[192];
	bool found;			/* just now: none of its sockets is claimed yet */
	bool announced, ended;
	bool dump;			/* all its sockets are to be asked */
	bool listeners_marked;		/* marks on listeners are safe (optmem_max) */
	uint64_t ended_ns;
	size_t connections;
	uint64_t young_ns;		/* until then it may come to listen elsewhere, soon */
	uint64_t listened_ns;		/* when its listeners were last read */
	uint64_t looked_ns;		/* when all its sockets were */

	struct live_probe secrets, drops;
	uint32_t drops_counted;		/* since drops_since_ns */
	uint64_t drops_since_ns;
	uint64_t drops_back_ns;		/* while it is away: until when */
	uint64_t drops_calm_ns;
	unsigned int drops_floods;

	bool provisional;		/* not proved to be a relay: nothing of it is told */
	bool muted;			/* it made more of it than can be held */
	struct live_held *held, **held_end;
	size_t held_bytes;
	uint64_t proof_ns, proof_wait_ns; /* its memory is searched for proof at, and after */

	struct nic_space *nic;		/* its network namespace's cards; NULL: not looked at */
	uint32_t nic_number;		/* its own there */
	bool nic_told;			/* counters of it were told */

	bool searched;			/* the first search has ended */
	struct live_search *search;	/* running, or NULL */
	struct live_node *next;
};

/* Records of what may be a relay, until it proves to be one. */
struct live_held {
	struct live_held *next;
	uint32_t len;
	_Alignas(8) uint8_t record[];
};

/*
 * A listener may outlive its process (socket activation): its mark then names a slot that the next
 * process takes over.
 */
struct live_listener {
	struct live_listener *next;
	uint64_t cookie;
	uint32_t slot;
};

/* Payload that came with a handshake's last ACK, before its connection was there. */
struct live_early {
	struct live_early *next;
	uint32_t slot;
	struct addr local, remote;
	uint64_t time_ns;
	uint32_t seq, ack, len;
	uint8_t data[];
};

#define LIVE_RECENT	256

struct live {
	struct capture capture;
	struct capture_live_options options;
	struct derptrace_bpf *skel;
	struct bpf_link *links[4];
	int cgroup_fd, poll_fd, timer_fd, types_fd;
	struct live_ring ring;
	struct relay_finder *finder;
	struct live_node *nodes;
	struct nic_space *nics;
	bool nic_refused;		/* XDP cannot be had, and it was said */
	uint32_t last_node, last_slot;
	struct chains conns;		/* by cookie */
	struct live_conn *recent[LIVE_RECENT]; /* found last, by cookie; or NULL */
	struct live_rows *rows;		/* the kernel's counts; NULL: nothing is counted */
	struct live_news *news;		/* read of them, and not told yet */
	struct live_heads *heads;
	size_t counting;		/* connections that were ever counted, and are open */
	struct live_early *early;
	size_t early_bytes;
	struct live_conn **pending;	/* inbound payload is not confirmed */
	size_t pending_count, pending_room;
	struct live_answer *answers;
	size_t answer_count, answer_room;
	int search_fd;			/* written when a search has ended */
	const struct capture_sink *sink; /* during a call */
	/*
	 * All that happened before it was read from the ring, and handed over. Events that are not of
	 * a record are of this moment: while much is read, what is known is not of now.
	 */
	uint64_t read_ns;
	bool ready;
	uint64_t unread_drops;		/* reports of drops that could not be understood */
	struct live_listener *listeners; /* all that were ever claimed */
	uint64_t lost_segments, lost_drops, uncounted; /* as told so far */
	uint64_t asked_segments;	/* so many were lost when all sockets were asked for it */
	uint64_t asked_loss_ns;		/* before it they are not asked again for more */
	uint64_t scan_ns;		/* last look for new relays */
	uint64_t ended_ns;		/* a relay ended last */
	enum capture_level level;
	struct live_cost cost;
	struct governor governor;
	bool governed;			/* it is at work */
	uint64_t chosen_ns;		/* connections were chosen last */
	bool keep_warnings;		/* during open */
	char *warnings;
};

/* --- live.c ---------------------------------------------------------------------------------- */

/* A line for the caller of open. */
void live_warn(struct live *live, const char *format, ...) __attribute__((format(printf, 2, 3)));
void live_emit(struct live *live, struct capture_event *event);
/* A line for people, as an event. */
void live_say(struct live *live, bool refused, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* The kernel may wake us again. */
void live_reader_awake(struct live *live);

/* --- live_cgroup.c --------------------------------------------------------------------------- */

/* A descriptor, or -errno. */
int live_cgroup_open(void);

/* --- live_node.c ----------------------------------------------------------------------------- */

/* Look for relays that are new, claim their sockets. 0 or -errno. */
int live_nodes_find(struct live *live);
/* Wait until all probes are placed. */
void live_nodes_wait(struct live *live);
/* NODE_UP of those that have not been told. */
void live_nodes_announce(struct live *live);
void live_node_announce(struct live *live, struct live_node *node);
/* Has one ended, does one listen elsewhere, is one new? Before sockets are asked. */
void live_nodes_watch(struct live *live, uint64_t now_ns);
/* NODE_DOWN of those that ended and whose connections have. */
void live_nodes_expire(struct live *live, uint64_t now_ns);
struct live_node *live_node_of_slot(struct live *live, uint32_t slot);
void live_nodes_free(struct live *live);

/* --- live_provisional.c ---------------------------------------------------------------------- */

/* A record of a provisional node is kept for later. */
void live_node_hold(struct live *live, struct live_node *node, const void *record, uint32_t len);
/* It serves DERP after all: NODE_UP and what was held. */
void live_node_prove(struct live *live, struct live_node *node);
/* Is it time to look for proof again? */
void live_node_look(struct live *live, struct live_node *node, uint64_t now_ns);
void live_node_held_free(struct live_node *node);

/* --- live_claim.c ---------------------------------------------------------------------------- */

/* The slot of a listener that the process has from one that ended, or a new one. */
uint32_t live_claim_slot(struct live *live, const struct relay *relay);
/* Those of the node's listeners that are new. 0 or -errno. */
int live_claim_listeners(struct live *live, struct live_node *node);
void live_claim_conn(struct live *live, struct live_conn *conn);
void live_claim_drop(struct live *live, struct live_conn *conn);
/* Mark what is claimed of the node now, where its addresses find it. */
void live_claim_poke(struct live *live, struct live_node *node);
/* Once all claims were taken up, strangers' packets are not looked up any more. */
void live_claims_update(struct live *live);
void live_claims_free(struct live *live);

/* --- live_probe.c ---------------------------------------------------------------------------- */

/* Begin to place, and to remove them. */
void live_probes_attach(struct live *live, struct live_node *node);
void live_probes_detach(struct live_node *node);
/* Until they are placed; say which could not be. */
void live_probes_wait(struct live *live, struct live_node *node);
/* Is none being placed, or removed? */
bool live_probes_are_idle(struct live_node *node);
bool live_probes_are_gone(struct live_node *node);
/* Remove them, now. */
void live_probes_free(struct live_node *node);
/* Count one report of a drop; above the limit the probe is detached. */
void live_probes_count_drop(struct live *live, struct live_node *node);
void live_probes_tick(struct live *live, struct live_node *node, uint64_t now_ns);

/* --- live_conn.c ----------------------------------------------------------------------------- */

struct live_conn *live_conn_find(struct live *live, uint64_t cookie);
/* From a record, where its cookie is new. NULL: of no node, or no memory. */
struct live_conn *live_conn_from_record(struct live *live, const struct abi_segment *s);
/* From a dump. NULL without memory. */
struct live_conn *live_conn_from_socket(struct live *live, struct live_node *node,
					const struct sockdiag_socket *s, enum capture_role role);
/* To be changed. NULL without memory. */
struct live_walk *live_conn_walk_get(struct live_conn *conn, uint8_t dir);
bool live_conn_is_fresh(const struct live_conn *conn, const struct sockdiag_socket *s);
/* Its first record: was anything before it? */
void live_conn_start(struct live *live, struct live_conn *conn, const struct abi_segment *s);
/* CONN_OPEN, unless it was said or its node was not announced yet; of a dial again with its answer. */
void live_conn_announce(struct live *live, struct live_conn *conn, uint64_t time_ns);
void live_conn_close(struct live *live, struct live_conn *conn);
/* What the far end acknowledged in a segment that passed; taken into its facts when nothing newer will be. */
void live_conn_note_ack(struct live_conn *conn, const struct abi_segment *s);
bool live_conn_take_ack(struct live_conn *conn);
/* Close what is gone, forget what was closed long ago. */
void live_conns_expire(struct live *live, uint64_t now_ns);
/* Close and free all connections of a node; without a node free all, silently. */
void live_conns_forget(struct live *live, const struct live_node *node);
/* An event about a connection, with its newest facts. */
struct capture_event live_conn_event(const struct live_conn *conn, enum capture_type type,
				     uint64_t time_ns);

/* Payload on a listener is kept until its connection is there. */
void live_early_keep(struct live *live, const struct abi_segment *s, const uint8_t *data);
const struct live_early *live_early_find(const struct live *live, uint32_t slot,
					 const struct addr *local, const struct addr *remote);
/* Taken out, the caller frees it; NULL where there is none. */
struct live_early *live_early_take(struct live *live, uint32_t slot, const struct addr *local,
				   const struct addr *remote);
/* @now_ns 0: all of it. */
void live_early_expire(struct live *live, uint64_t now_ns);

/* --- live_record.c --------------------------------------------------------------------------- */

/* Hand over what is in the ring now. */
void live_drain(struct live *live);
/* Hand over the records that were held of a node. */
void live_record_replay(struct live *live, struct live_node *node);
/* The local and remote address of a record's packet. */
void live_record_addresses(const struct abi_segment *s, struct addr *local, struct addr *remote);
/* Inbound payload before @end was counted, or is in the ring: TCP is asked whether it has taken it. */
void live_record_pending(struct live *live, struct live_conn *conn, uint32_t end);
/* Inbound payload from @seq up to @end was handed over. */
void live_record_handed(struct live_conn *conn, uint32_t seq, uint32_t end);
/* Newer facts into older ones: positions only grow. */
void live_facts_merge(struct capture_facts *facts, const struct capture_facts *newer);

/* --- live_told.c ----------------------------------------------------------------------------- */

void live_told_secret(struct live *live, const struct abi_secret *r);
void live_told_drop(struct live *live, const struct abi_drop *r);

/* --- live_check.c ---------------------------------------------------------------------------- */

/* @data: the captured bytes, as behind a record. */
enum capture_sum live_check_sum(const struct abi_segment *s, const uint8_t *data);
/* Is it certain that TCP throws it away? @sum: as told above. */
bool live_check_refuses(const struct abi_segment *s, enum capture_sum sum);

/* --- live_ask.c ------------------------------------------------------------------------------ */

/* Ask the sockets of connections whose facts may have changed without a packet. */
void live_ask_changing(struct live *live, uint64_t now_ns);
/* Ask the sockets of live.pending: what has TCP accepted by now? */
void live_ask_pending(struct live *live);
/* Dump the sockets of a node: connections that are new to us are made, and claimed. 0 or -errno;
 * *new_count, where not NULL, says how many. */
int live_ask_node(struct live *live, struct live_node *node, size_t *new_count);
/* Tell the answers once the ring was drained: connections that were there before us, FACTS. */
void live_ask_tell(struct live *live);

/* --- live_count.c ---------------------------------------------------------------------------- */

/* Before they are loaded: nothing is counted, and nothing is to be kept for it. 0 or -errno. */
int live_count_none(struct live *live);
/* Once the programs are loaded, where frames are to be counted. 0 or -errno. */
int live_count_open(struct live *live);
/* capture_ops.agree */
void live_count_agree(struct live *live, uint64_t conn, enum capture_dir dir, uint32_t epoch,
		      uint8_t type);
/* A record, in the first and in the second reading. */
void live_count_note(struct live *live, const struct abi_counting *r);
void live_count_tell(struct live *live, const struct abi_counting *r);
void live_count_forward(struct live *live, const struct abi_forward *r);
/* Read the counts of what left; before the ring is read for the tick. */
void live_count_read(struct live *live);
/* Read those of what entered, behind the last record of the ring, and tell all. */
void live_count_flush(struct live *live);
/* A connection has been closed: its counts, which were read, go. */
void live_count_forget(struct live *live, struct live_conn *conn);
void live_count_free(struct live *live);
/* Whose row of the counts that is, below ABI_COUNT_ROWS; NULL: nothing is counted. */
const struct abi_count_key *live_count_row(const struct live *live, uint32_t no);

/* --- live_latency.c --- */
/* Nothing will be timed: before the programs are loaded. */
int live_latency_none(struct live *live);
/* Tells what was timed in the kernel: before rows of the counts are let go. */
void live_latency_read(struct live *live);
/* The same of a frame that leaves for the mesh. */
void live_latency_forward(struct live *live, struct live_conn *conn, const struct abi_forward *r);

/* --- live_heads.c ---------------------------------------------------------------------------- */

/* 0, or -errno. */
int live_heads_open(struct live *live);
void live_heads_close(struct live *live);
/* capture_ops.foretell */
bool live_heads_foretell(struct live *live, uint64_t conn, const struct capture_masks *m);
/* A connection ends. */
void live_heads_forget(struct live *live, struct live_conn *conn);

/* --- live_search.c --------------------------------------------------------------------------- */

/* Say so where its memory cannot be read. */
void live_search_check(struct live *live, struct live_node *node);
/* The node's memory is searched in the background, unless it is being searched already. */
void live_search_start(struct live *live, struct live_node *node);
/* Tell what searches that have ended found. */
void live_search_finish(struct live *live);
/* Search now, and wait: is any provisional node proved by what its memory holds? */
bool live_search_proves(struct live *live);
/* Wait for the node's search, if one runs, and throw away what it found. */
void live_search_cancel(struct live_node *node);

/* --- live_govern.c --------------------------------------------------------------------------- */

/* To be called often: measure, and about once a second decide. */
void live_govern(struct live *live);
/* New connections are chosen, or not; COST. */
void live_govern_tick(struct live *live, uint64_t now_ns);
/* CONN_OPEN was just said: QUIET where nothing is heard of it. */
void live_govern_opened(struct live *live, struct live_conn *conn, uint64_t time_ns);
void live_govern_closed(struct live *live, struct live_conn *conn);

#endif
