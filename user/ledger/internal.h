/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files of ledger share.
 *
 *	ledger.c	a ledger's life, the events of capture, time
 *	frames.c	DERP frames to entries, exits and presence
 *	connections.c	what is known of a connection; progress.c: how far TCP came with it
 *	identity.c	whose a connection is, and what follows when that is learnt late
 *	peers.c		peers, where they are, and the one exit that leads to each
 *	dormant.c	connections on which nothing happens
 *	items.c		packets in flight, and sightings that wait for their entry: lists and indexes
 *	joins.c		entry, exit and drop of one packet find each other
 *	loose.c		drops that do not say whose packet it was
 *	runs.c		the same for packets that were counted: by order and number
 *	ghosts.c	what was booked without its entry, and entries that are told later still
 *	gone.c		what was taken for lost, or given up, and left after all
 *	still.c		when the relay itself stands still
 *	fate.c		what time decides: what was passed, what nothing can hold any more
 *	pairs.c		rows, bounds, the other row; tell.c: how they are told; resting.c: the silent ones
 *	losses.c	lost packets until they are told
 *	links.c		ForwardPacket frames per mesh connection and pair, marks
 *	snapshot.c	records
 *	check.c		the law, asserted
 */
#ifndef LEDGER_INTERNAL_H
#define LEDGER_INTERNAL_H

#include "base/buckets.h"
#include "base/chains.h"
#include "base/shared.h"
#include "base/shelf.h"
#include "ledger/dormant.h"
#include "ledger/ghosts.h"
#include "ledger/ledger.h"
#include "ledger/loose.h"
#include "ledger/numbers.h"
#include "ledger/peers.h"
#include "ledger/resting.h"

#define SECOND_NS	1000000000ull
#define MSEC_NS		1000000ull
#define NEVER		UINT64_MAX
#define SETTLE_NS	SECOND_NS	/* so long may the relay take to do what it does */
#define LATE_NS		(5 * SECOND_NS)	/* so long may a connection's secret take to be found */
#define GHOST_NS	(5 * SECOND_NS)	/* so long is a sighting without entry remembered */
#define KEEP_NS		(5 * SECOND_NS)	/* so long is a closed connection kept */
#define DIAL_NS		(15 * SECOND_NS) /* so long may readers wait for a new mesh connection */
#define IDLE_NS		(60 * SECOND_NS)
#define NAMED_LEN	16u	/* bytes that are not met twice by chance: an index and a counter */
#define SEARCH_MAX	256u	/* packets of one digest that are looked at */
#define LEDGER_HEAD_MARKS 32	/* frames that are marked one by one */
#define LEDGER_BUFFER_BYTES 2048u	/* of a client's writer in the relay */

struct conn;

/* Classes of packets: the relay queues them apart. */
enum { CLASS_DATA, CLASS_DISCO, CLASSES };

struct ring;
struct mesh;

struct conn {
	struct chain chain;	/* by id */
	uint64_t id;
	enum record_conn_kind kind;
	enum capture_role role;
	uint32_t items;		/* packets that refer to it */
	bool shared;		/* stands for all that are over the limit */
	bool from_start, dirty, told_closed;

	/* whose it is */
	bool registered;	/* in peer->conns: packets for the peer may leave here */
	bool claimed;
	bool unsure;		/* dialled: presence may have been missed */
	uint8_t contradictions;	/* joins in a row that show another peer than the claimed one */
	struct peer *peer;	/* accepted: its peer, unknown or not; NULL: not asked for yet */
	struct conn *next_of_peer;
	struct peer *contradicted_by;
	struct key *server;	/* dialled: the server's key over there; NULL: not known */
	uint64_t since_ns;	/* registered */

	/* the way out: what may have been missed, what may be stuck; see ledger_conn_clean_ns() */
	bool out_gap, out_late;	/* frames pass unseen; or not yet: their secret is looked for */
	bool out_seen, misread;	/* misread: it is no DERP, as far as its bytes were understood */
	uint32_t gaps[2];	/* by direction */
	bool may_count;		/* the kernel asks: it times only some packets, and so do we */
	uint64_t out_told;	/* position behind the last frame that was told */
	uint64_t out_from_ns;	/* behind the last gap, or where frames were first understood */
	uint64_t quiet_ns;	/* since then nothing is stuck in its socket; NEVER: something is */
	uint64_t left_entered_ns[CLASSES]; /* latest entry of those that left here */
	uint64_t tick_sent, tick_acked, tick_read;
	uint64_t drained_ns;	/* the last tick at which all that had come was read; 0: none */

	/* the way in: what the relay has done */
	uint64_t in_told, in_missed; /* position behind the last frame told; bytes in gaps that have ended */
	uint32_t next_no, done_no; /* of its entries; one of a higher number was seen handled */
	uint32_t notsent_budget, buffer_budget; /* at its end: bytes that explain losses */
	bool in_gap;
	bool has_done;

	/* TCP */
	bool has_read, has_acked, has_queues;
	uint32_t unread, notsent, unacked, rtt_us, retransmits, snd_wnd, max_unacked_segment;
	uint64_t in_arrived, in_read, out_sent, out_acked;
	uint64_t acked_ns;	/* when out_acked was last told */
	uint64_t unacked_since_ns, blocked_ns, blocked_from_ns;
	uint64_t last_in_ns, last_out_ns;
	struct ring *ring;	/* NULL: all that was sent is acknowledged */

	struct mesh *mesh;
	struct presence *presences;

	/* for the record */
	struct addr local, remote;
	uint64_t opened_ns, closed_ns, preferred_ns, tag;
	uint64_t left_ns;	/* the relay has closed it; its socket may live on. 0: no */
	const struct stream_names *names; /* NULL: not known */
	uint32_t steps, info_len;
	uint16_t http_status;
	uint8_t how, last_type_in, last_type_out, tls_alert;
	bool ends_here;		/* the node said FIN before the far end did */
	bool fin_in, fin_out, tls, websocket, secret_missing, unsynchronised, decrypted;
	bool tls_alert_out, tls_alert_hidden, tls_alert_hidden_out;
};

/* ForwardPacket frames of one pair on one mesh connection. */
struct link {
	struct chain chain;	/* by (conn, src, dst) */
	struct conn *conn;
	struct peer *src, *dst;
	struct link *next, *next_touched;
	uint64_t frames, bytes;
	uint64_t at_mark;	/* frames at the mark that is being held */
	uint64_t mark_id;	/* at_mark is of this mark */
	bool touched, dirty;
};

struct mark {
	uint64_t no, seen_ns, digest;
	uint32_t len;
	struct peer *src, *dst;
	struct record_mark_pair *pairs;
	size_t pair_count;
};

/* The forwards of a mesh connection: what we sent, or what arrived. */
struct mesh {
	struct link *links, *touched;	/* touched: counted since the last mark that was made */
	bool crowded;		/* a pair found no row: its frames are in the row of no one */
	uint64_t forwards, bytes, acked, derp_off;
	uint32_t max_acked;	/* bytes of a frame */
	uint32_t head_left;	/* so many frames are still marked one by one */
	struct mark *marks;	/* made, to be told */
	size_t mark_count, mark_size;
	bool has_held;
	struct mark held;	/* of the lowest rank since the last snapshot */
	uint64_t held_rank, held_id;
};

/* What not every pair has. */
struct pair_more {
	uint64_t last_hop, last_hop_first_ns, last_hop_last_ns;
	uint64_t wg_initiations, wg_responses;
	uint64_t wg_initiation_first_ns, wg_initiation_last_ns, wg_response_last_ns;
};

struct list { uint32_t head, tail; };

struct pair {
	struct chain chain;	/* by both peers; those with an unknown one in a table of their own */
	struct peer *src, *dst;
	struct pair *dirty_next;
	struct pair *moved_to;	/* its peer was learnt; kept while it is referred to */
	uint32_t refs;
	uint32_t no;		/* by which it is told; 0: it was not yet */
	bool dirty, repeats;	/* repeats: equal packets were inside at once */
	bool doubtful;		/* equal packets were dropped: which of them left is not known */
	bool counted;		/* runs were told: not every packet of it has a name */
	struct list queue[CLASSES]; /* of what entered and is neither left nor passed */
	uint32_t in_flight;
	uint32_t walked, count_id; /* in flight, as walked for the snapshot of this number */
	uint64_t entered, left, lost, untraced, first_seen, disco;
	uint64_t frames[HOP_COUNT], bytes[HOP_COUNT];
	uint64_t first_ns, last_ns, told_first_ns;
	struct buckets *latency; /* latency.h; NULL: no sample */
	struct pair_more *more;
};

enum item_kind {
	ITEM_FREE,
	ITEM_ENTRY,	/* in flight */
	ITEM_PASSED,	/* in flight; a later one left: lost or untraced if its sighting is not just late */
	ITEM_EXIT,	/* left; waits for its entry to be told */
	ITEM_DROP,	/* dropped, by the relay's word; waits for its entry to be told */
	ITEM_GHOST,	/* an exit or drop that got no entry and is in the books */
	ITEM_GONE,	/* an entry that is in the books as lost, as was inferred, or untraced */
};

enum { LINK_ALL, LINK_QUEUE, LINK_SAME, LINK_DIGEST, LINKS };

struct item {
	struct pair *pair;	/* NULL: a drop that names no source */
	struct peer *dst;
	struct conn *conn;	/* of the entry, or of the exit; NULL: a drop */
	uint64_t digest;	/* a run's: bytes of its packets */
	uint64_t time_ns;	/* a run's: of its last packet */
	uint64_t pos;		/* entry: TCP position behind it, or when it was handled; passed: when;
				 * a drop that names no source: so many more of the same; gone: where */
	struct {
		uint32_t next, prev;
	} link[LINKS];
	uint32_t bucket_next;	/* of the first of those that are the same */
	uint32_t no;		/* entry: on its connection; drop, gone: its reason; exit: WireGuard's type */
	uint32_t stamp;		/* waiting, passed: tick that came after it; ghost, gone: ms of its end */
	uint32_t len : 19,	/* a run's: how many packets it is */
		 kind : 3, disco : 1, hop : 2, handled : 1,
		 unclean : 1,	/* passed: may have left unseen; gone: lost on the wire, not by inference */
		 first : 1, same : 1,
		 queued : 1,
		 late : 1,	/* entry: what left in its time may be in the books without it */
		 run : 1;	/* packets that were counted, and have no names of their own */
};

_Static_assert(sizeof(struct item) == 96, "packets in flight are what fills memory");

struct loss {
	struct chain chain;
	struct loss *next;
	struct record_loss rec;
};

/* Who could carry a packet whose destination is not known to be anywhere. */
struct anywhere {
	uint64_t clean_ns;
	bool late, busy;
};

enum { ANYWHERE_HERE, ANYWHERE_ALL };	/* on this node's clients; or behind the mesh as well */

#define NIC_DROPS_KEPT	64	/* connections of which it is told one by one, the newest */

struct ledger {
	uint32_t node;
	uint64_t agent;
	struct seed seed;
	struct ledger_limits limits;
	uint64_t now_ns, start_ns;
	uint32_t tick;
	uint64_t tick_ns, tick_before_ns; /* the last one, and the one before */
	uint64_t swept_ns;
	bool down, deaf;	/* deaf: connections may come and go unseen */

	struct record_node info;
	bool node_dirty;
	struct serves {
		struct addr addr;
		uint64_t conns;
	} serves[16];
	bool has_nic, nic_dirty;
	struct record_nic nic;
	struct nic_drop {
		struct record_nic_drop rec;
		bool dirty;
	} nic_drops[NIC_DROPS_KEPT];
	size_t nic_drop_count;

	struct shared names;	/* of connections */
	struct chains conns, peers, pairs, unknown_pairs, presences, links, losses, rows;
	struct conn *overflow;	/* the shared one; NULL: not needed yet */
	struct numbers peer_numbers, pair_numbers;
	struct resting resting;
	struct shelf dormant;	/* connections; see dormant.h */
	struct peer *nobody;	/* unknown, for ever */
	struct pair *other;	/* nobody to nobody: all that has no row */
	struct pair *dirty;
	bool unknown_dirty;
	struct loss *loss_list, *loss_last;
	struct record_books books;
	uint64_t unflushed;
	uint64_t mesh_changed_ns; /* presence may have changed without a word */
	uint32_t unsure;	/* mesh connections, open, of which presence may have been missed */
	uint64_t ambiguous_ns;	/* an exit could not be told from others, or may not be known */
	uint32_t count_id;
	struct anywhere anywhere[2]; /* ANYWHERE_..., as of this tick */
	bool mesh_blocked;
	uint64_t alive_ns;	/* the last tick at which it had read something, or nothing waited */
	uint32_t mesh_conns;	/* to other nodes, open: the most that there were, and when */
	uint64_t mesh_whole_ns;
	uint64_t stood_ns;		/* the last tick at which it seemed to stand still */
	uint32_t still_ticks;	/* since then */
	bool still_told;	/* the node's last stand has ended and was told */

	struct item *items;
	uint32_t item_max, item_used, item_free, item_count;
	uint32_t *same;		/* buckets of items that are the same by pair, length and digest */
	struct list *by_digest;	/* buckets of items by length and digest, oldest first */
	uint32_t bucket_mask;
	struct list entries, waiting, ghosts, gones, passed;
	uint32_t gone_count;
	uint32_t loose;		/* drops without a source that wait */
	uint32_t loose_steps;	/* taken for them since the last tick */
};

#define RUN_MAX		((1u << 19) - 1)	/* packets of one */
#define RUN_LEN		RUN_MAX		/* where a length goes into a name: no packet is so long */

/* A packet as it is seen at a hop; or a run of them. */
struct sight {
	struct conn *conn;
	uint64_t time_ns, digest, pos;
	uint32_t run, len;	/* run: packets; 0: one, and @digest names it */
	uint64_t bytes;		/* of a run */
	enum record_hop hop;
	bool disco;
	uint8_t wg;		/* clear WireGuard type; 0: none */
};

/* --- ledger.c --- */
void ledger_server_key(struct ledger *l, const struct key *key);

/* --- connections.c --- */
/* NULL where it is none that is known. */
struct conn *ledger_conn_known(struct ledger *l, uint64_t id);
uint64_t ledger_conn_hash(const struct ledger *l, uint64_t id);
struct conn *ledger_conn_get(struct ledger *l, uint64_t id, uint64_t time_ns);
void ledger_conn_open(struct ledger *l, const struct capture_event *e);
void ledger_conn_close(struct ledger *l, const struct capture_event *e);
void ledger_conn_role(struct conn *c, enum capture_role role);
void ledger_conn_kind(struct ledger *l, struct conn *c, enum record_conn_kind kind);
/* Since then every frame out was seen; NEVER: not now. */
static inline uint64_t ledger_conn_clean_ns(const struct conn *c)
{
	return c->out_gap || c->out_late ? NEVER : c->out_from_ns;
}

/* The key of the server that was dialled. Without memory it stays as it was. */
void ledger_conn_server(struct conn *c, const struct key *key);
/* A packet for a peer that is not known to be here may leave on it. */
bool ledger_conn_may_exit(const struct conn *c);
void ledger_conns_sweep(struct ledger *l);
void ledger_conn_free(struct ledger *l, struct conn *c);

/* --- progress.c --- */
void ledger_conn_sent(struct conn *c, const struct sight *s, struct pair *pair);
void ledger_conn_acked(struct conn *c);
/* Bytes of the frame of the first packet that is not acknowledged; 0: none, or not known. */
uint32_t ledger_conn_stuck(const struct conn *c);
/* Its end: what was not acknowledged never will be. */
void ledger_conn_unacked(struct ledger *l, struct conn *c);
void ledger_conns_tick(struct ledger *l);
void ledger_segment(struct ledger *l, const struct capture_event *e);
void ledger_conn_facts(struct conn *c, const struct capture_facts *f, uint64_t time_ns);

/* --- identity.c --- */
enum identity { IDENTITY_CLAIM, IDENTITY_JOIN, IDENTITY_FRAME };
void ledger_conn_identify(struct ledger *l, struct conn *c, const struct key *key,
			  enum identity how, uint64_t time_ns);
/* It is let go: what is booked of its unknown peer becomes nobody's. */
void ledger_conn_disown(struct ledger *l, struct conn *c);
/* Its peer; an unknown one is made where there is none. */
struct peer *ledger_conn_peer(struct ledger *l, struct conn *c);

/* --- pairs.c --- */
/* They have a pair now; see ledger_group(). */
void ledger_meet(struct peer *a, struct peer *b);
struct pair *ledger_pair_get(struct ledger *l, struct peer *src, struct peer *dst);
struct pair *ledger_pair_now(struct pair *p);
void ledger_pair_put(struct pair *p);
void ledger_pair_dirty(struct ledger *l, struct pair *p);
struct pair_more *ledger_pair_more(struct pair *p);
/* Moves all booked packets of @from, which has none in flight, to @to; @from is let go. */
void ledger_pair_move(struct ledger *l, struct pair *from, struct pair *to);
/* Moves one lost packet that was first seen when it was dropped. */
void ledger_pair_move_lost(struct ledger *l, struct pair *from, struct pair *to,
			   const struct item *i);
/* Moves one packet in flight that entered, or a run of them. */
void ledger_pair_move_entry(struct ledger *l, struct item *e, struct pair *to);
/* Adds to what is there already; the histogram is left to the caller. */
void ledger_pair_fill(const struct ledger *l, const struct pair *p, struct record_pair *r);
void ledger_pair_free(struct ledger *l, struct pair *p);

void ledger_book_entered(struct ledger *l, struct pair *p, const struct item *i);
void ledger_book_first_seen(struct ledger *l, struct pair *p, const struct item *i);
/* @entered_ns 0: its entry was not seen. */
void ledger_book_left(struct ledger *l, struct pair *p, const struct sight *s, uint64_t entered_ns);
/* Takes back that it entered. */
void ledger_book_unentered(struct ledger *l, struct pair *p, const struct item *i);
/* It was no new one: it had been first seen on its way out. */
void ledger_book_again(struct ledger *l, struct pair *p, const struct item *i);
/* Packets that the kernel timed. */
void ledger_latency(struct ledger *l, const struct capture_event *e);
void ledger_book_untraced(struct ledger *l, struct pair *p, uint32_t packets);
void ledger_book_lost(struct ledger *l, const struct item *i, enum record_reason reason,
		      enum record_basis basis, const struct conn *out);
/* Takes back what was booked of @packets of @gone, of @bytes in all. */
void ledger_book_back(struct ledger *l, const struct item *gone, uint32_t packets, uint64_t bytes);
int ledger_losses_tell(struct ledger *l, struct record *r, const struct record_sink *sink);
void ledger_losses_free(struct ledger *l);

/* --- items.c --- */
/* Times that need no more: milliseconds since the ledger began. */
static inline uint32_t ledger_ms(const struct ledger *l, uint64_t time_ns)
{
	return time_ns > l->start_ns ? (time_ns - l->start_ns) / MSEC_NS : 0;
}

enum side { SIDE_IN, SIDE_OUT, SIDE_GHOST, SIDE_GONE };

static inline enum side item_side(const struct item *i)
{
	if (i->kind >= ITEM_GHOST)
		return i->kind == ITEM_GHOST ? SIDE_GHOST : SIDE_GONE;
	return i->kind >= ITEM_EXIT ? SIDE_OUT : SIDE_IN;
}

static inline uint32_t item_packets(const struct item *i)
{
	return i->run ? i->len : 1;
}

static inline uint64_t item_bytes(const struct item *i)
{
	return i->run ? i->digest : i->len;
}

static inline uint32_t sight_packets(const struct sight *s)
{
	return s->run ? s->run : 1;
}

static inline uint64_t sight_bytes(const struct sight *s)
{
	return s->run ? s->bytes : s->len;
}

int ledger_items_init(struct ledger *l);
/* Takes it into all lists and indexes of its kind; never fails: it makes room. */
uint32_t ledger_item_add(struct ledger *l, const struct item *from);
void ledger_item_del(struct ledger *l, uint32_t i);
/* @packets of it, of @bytes in all, are dealt with; it is gone with the last one. */
void ledger_item_shrink(struct ledger *l, uint32_t i, uint32_t packets, uint64_t bytes);
/* A waiting exit or drop becomes a ghost. */
void ledger_item_bury(struct ledger *l, uint32_t i);
/* One in flight is in the books, and gone. */
void ledger_item_go(struct ledger *l, uint32_t i);
/* Is there room for one more without another's going? */
bool ledger_item_room(const struct ledger *l);
/* An entry becomes passed at @time_ns. */
void ledger_item_pass(struct ledger *l, uint32_t i, uint64_t time_ns, bool unclean);
/* The other way round: in flight, in no queue. */
void ledger_item_unpass(struct ledger *l, uint32_t i);
/* The pair of one that was moved. */
void ledger_item_repair(struct ledger *l, uint32_t i, struct pair *to);
/* The oldest that is the same; 0: none. */
uint32_t ledger_item_same(const struct ledger *l, const struct pair *p, uint32_t len,
			  uint64_t digest, enum side side);
/* The oldest run. */
uint32_t ledger_item_run(const struct ledger *l, const struct pair *p, bool disco, enum side side);
/* The oldest of this length and digest, whatever its pair; the next ones hang on LINK_DIGEST. */
uint32_t ledger_item_digest(const struct ledger *l, uint32_t len, uint64_t digest);
/* The newest; the ones before it hang on LINK_DIGEST backwards. */
uint32_t ledger_item_digest_last(const struct ledger *l, uint32_t len, uint64_t digest);
/* The same for runs in flight to @dst. */
uint32_t ledger_item_runs_to(const struct ledger *l, const struct peer *dst);
/* The same of what is gone. */
uint32_t ledger_item_gone(const struct ledger *l, uint32_t len, uint64_t digest);
uint32_t ledger_item_gone_to(const struct ledger *l, const struct peer *dst);

/* --- joins.c --- */
void ledger_entry(struct ledger *l, struct peer *src, struct peer *dst, const struct sight *s);
void ledger_exit(struct ledger *l, struct peer *src, struct peer *dst, const struct sight *s);
void ledger_drop(struct ledger *l, const struct capture_event *e);
/* Does a waiting one find its entry now? Then it is gone. */
bool ledger_wait_retry(struct ledger *l, uint32_t i);
/* It gets none: it is in the books from here on, and a ghost. */
void ledger_wait_settle(struct ledger *l, uint32_t i);
/* Those that wait too long get no entry; @all: at once. */
void ledger_waiting_tick(struct ledger *l, bool all);

/* The exit that waits, as it was seen. */
struct sight ledger_sight(const struct item *x);
/* What it entered on has been read up to it. */
void ledger_conn_done(const struct item *e);
/* The relay dropped it, or one packet of a run. */
void ledger_join_drop(struct ledger *l, uint32_t i, enum record_reason reason);
/* The queue or socket that a drop was at. */
const struct conn *ledger_drop_place(struct ledger *l, struct peer *dst,
				    enum record_reason reason);

/* --- runs.c --- */
void ledger_entry_run(struct ledger *l, struct peer *src, struct peer *dst, const struct sight *s);
void ledger_exit_run(struct ledger *l, struct peer *src, struct peer *dst, const struct sight *s);
/* Those of @e that are told so late that their exits are booked already: they are taken off. True: all. */
bool ledger_run_ghosts(struct ledger *l, struct item *e);
/* One that is named leaves: was it counted when it entered? */
bool ledger_run_exit_one(struct ledger *l, struct pair *p, const struct sight *s);
/* Does what waits find its entries in what was counted, or in @any that is there? True: it is gone. */
bool ledger_run_retry(struct ledger *l, uint32_t wait, bool any);
/* A drop that names no source speaks of one in flight that others, counted, are about to pass. */
void ledger_run_named(struct ledger *l, uint32_t wait);
/* A drop that names no source: is it to wait on, or gone? @all: it waits no longer. */
bool ledger_run_loose(struct ledger *l, uint32_t wait, bool all);
/* Takes the drops off it that may speak of it. True: it is gone. */
bool ledger_run_dropped(struct ledger *l, uint32_t i);

/* What an item in flight came to; it is gone then. Of a run one packet, where it says so. */
void ledger_item_lose(struct ledger *l, uint32_t i, enum record_reason reason,
		      enum record_basis basis, const struct conn *out);
void ledger_item_lose_one(struct ledger *l, uint32_t i, enum record_reason reason,
			  enum record_basis basis, const struct conn *out);
void ledger_item_untrace(struct ledger *l, uint32_t i);

/* --- still.c --- */
void ledger_still_tick(struct ledger *l);

/* --- fate.c --- */
/* A packet of @conn left for @dst on @out: those before it, from @from backwards, did not. */
void ledger_pass(struct ledger *l, uint32_t from, const struct conn *conn, struct peer *dst,
		 struct conn *out, uint64_t time_ns);
/* @all: the process has ended, nothing holds anything any more. */
void ledger_fate_tick(struct ledger *l, bool all);
void ledger_passed_tick(struct ledger *l, bool all);
/* May it have left unseen? */
bool ledger_item_unclean(struct ledger *l, const struct item *e);

/* --- links.c --- */
void ledger_forward(struct ledger *l, struct conn *c, struct peer *src, struct peer *dst,
		    const struct sight *s, uint64_t derp_off);
void ledger_mesh_gap(struct conn *c, enum capture_dir dir);
void ledger_mesh_free(struct ledger *l, struct conn *c);
int ledger_links_tell(struct ledger *l, struct record *r, bool all, const struct record_sink *sink);
int ledger_marks_tell(struct ledger *l, struct record *r, const struct record_sink *sink);

/* --- nic.c --- */
void ledger_nic(struct ledger *l, const struct capture_nic *nic);
void ledger_nic_drop(struct ledger *l, const struct capture_event *e);
int ledger_nic_tell(struct ledger *l, struct record *r, bool all, const struct record_sink *sink);

/* --- snapshot.c --- */
/* Walks all that is in flight; each pair's share is in its walked. */
uint64_t ledger_count_in_flight(struct ledger *l);

#define EACH_CONN(l, c)                                                                         \
	for (struct chain *c##_ = chains_first(&(l)->conns);                               \
	     c##_ && ((c) = ITEM_OF(c##_, struct conn, chain), true);                            \
	     c##_ = chains_next(&(l)->conns, c##_))

#endif
