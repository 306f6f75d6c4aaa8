/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One look at the whole state: made for a report, freed with it. In this order:
 *
 *	region.c	nodes: which there are, their names and regions
 *	match.c		the two ends of each connection between nodes
 *	edge.c		edges: every dial from one node to another, however far it came
 *	clock.c		offsets between the agents' clocks
 *	partly.c	pairs that have no row of their own everywhere
 *	stream.c	books of an edge: what was sent, what arrived
 *	nic.c		what reached the hosts of its ends, and was dropped there
 *	link.c		links: the state of every ordered pair of nodes
 *	pairs.c		books of pairs over the region
 *	presence.c	who was connected where and when
 *	still.c		nodes that stood still, and when
 *	classify.c	which loss belongs to which class
 *	find_*.c	what is wrong although nothing was lost
 *	verdict.c	findings: what all of these add to
 *	words*.c	and how they are said
 *	report.c	the report
 *
 * All times in here are the reference agent's clock (clock.c). Nodes, edges, links and findings are
 * numbers (places in the arrays below); NONE is none of them.
 */
#ifndef CORRELATE_ANALYSIS_H
#define CORRELATE_ANALYSIS_H

#include "correlate/internal.h"
#include "latency.h"

#define FOREVER		UINT64_MAX
#define NOTICE_NS	(3 * NSEC_PER_SEC)	/* so late may the end of a process be told */

/* Why a link is not up: the schema's words. */
enum link_reason {
	LINK_REASON_NONE,
	LINK_NO_DIAL, LINK_NO_ANSWER, LINK_REFUSED, LINK_TLS, LINK_UPGRADE, LINK_MESH_KEY,
	LINK_NOT_ADMITTED, LINK_SELF, LINK_SAME_KEY, LINK_CLOSED, LINK_HOST_DROP, LINK_BLACKHOLE,
	LINK_MTU, LINK_CONGESTED,
	LINK_REASONS,
};

const char *link_reason_name(enum link_reason reason);	/* NULL for NONE */

struct node {
	const struct life *life;	/* NULL: not traced */
	uint32_t agent;			/* NONE: not traced */
	struct key key;
	char name[160];
	int region;			/* the map's; -1: none */
	const struct derpmap_node *map;	/* its entry; NULL: none */
	struct addr addr;		/* not traced: where it is dialled; port 0: only seen dialling */
	uint64_t from_ns, to_ns;	/* known from .. until; not traced: always */
	bool ended;			/* the process has */
	uint32_t identity;		/* the first life of the same relay */
};

enum reached { REACHED_NOTHING, REACHED_TCP, REACHED_TLS, REACHED_UPGRADE, REACHED_INFO, REACHED_MESH };

/* One pair on one edge: sent = arrived + untraced + in_flight + lost. See stream.c. */
struct edge_row {
	uint32_t pair;
	uint64_t sent, arrived, untraced, in_flight, lost;
	uint64_t told;		/* of sent: what the sender's end told */
	uint64_t first_seen;	/* of sent: the sender's tracer did not see them */
	uint64_t ahead;		/* of sent: newer than the sender's snapshot */
};

struct edge {
	uint32_t from, to;
	const struct conn *out, *in;	/* at from, dialled; at to, accepted. One may be NULL */
	uint64_t opened_ns, closed_ns;	/* FOREVER: open */
	uint64_t there_ns;		/* opened_ns; 0 where it was open before anybody looked */
	enum reached reached;
	enum link_reason reason;	/* why it is no link, or no longer */
	bool ended;			/* at every end that is known */
	bool anchored;			/* both ends' counts can be compared */
	struct edge_row *rows;
	size_t row_count, row_cap;
};

struct link {
	uint32_t from, to;
	uint32_t *edges;		/* by the time they were opened */
	size_t edge_count, edge_cap;
	enum report_link_state state;
	enum link_reason reason;
	uint64_t since_ns;		/* when that state began; 0: not known */
	bool has_arrived;
	uint64_t sent, arrived, untraced, in_flight, lost;
};

/* What became of a pair over the whole region. */
struct pair_sum {
	uint64_t entered, delivered, in_flight, lost, untraced;
	uint64_t untraced_node;		/* of untraced: left for a node that nobody traces */
	uint64_t last_hop;
	uint64_t first_ns, last_ns;
	uint64_t lost_by[VERDICT_CLASSES];
	uint32_t worst;			/* the finding that most of lost is charged to; NONE */
	uint64_t worst_count;
	uint64_t across_sent, across_delivered, across_lost;
	bool same_node, across;
};

/* One pair at one node. */
struct place {
	uint32_t pair, node;
	uint32_t number;	/* the node's, of the pair */
};

/* A client of a node. */
struct stay {
	uint32_t peer, node;
	uint64_t opened_ns, closed_ns;	/* FOREVER: open */
	uint64_t there_ns;		/* opened_ns; 0 where it was open before anybody looked */
	const struct conn *conn;
};

/* A node's word that a peer is at another one. */
struct word {
	uint32_t peer, node;		/* where it is said to be */
	uint32_t to;			/* who is told */
	uint64_t from_ns, to_ns;
	bool gone;			/* it said so; else its connection ended, or has not */
	struct addr addr;
};

struct share {
	uint32_t finding, pair;
	uint64_t count;
};

/* Two connections of one peer, or the like, that a finding is about. */
struct note {
	uint32_t finding, peer;
	const struct conn *conn, *conn2;
	uint64_t span_ns;
};

/* A verdict in the making. */
struct finding {
	enum verdict_class class;
	enum record_basis basis;
	uint32_t node, from, to;
	int hop;			/* -1: none or several */
	uint8_t reason;			/* see finding_reason */
	bool hop_set, src_set, dst_set;
	uint32_t src, dst;		/* peers; 0: none or several */
	uint64_t count, maybe;		/* frames lost, and how many more may be */
	uint64_t by_basis[BASIS_UNKNOWN + 1]; /* of count */
	uint64_t first_ns, last_ns;
	uint32_t pairs;			/* how many share it */
	uint32_t peer;			/* the one it is about; 0 */
	uint64_t number[4];		/* what its words need: see who makes it */
	const struct conn *conn;
};

struct analysis {
	struct correlate *c;
	int64_t *offset_ns;		/* of each agent's clock */
	uint64_t end_ns;
	struct table twice;		/* lives that have a connection in common: region.c */
	uint64_t told_twice;		/* lives that another one speaks for */
	struct node *nodes;
	size_t node_count, node_cap;
	size_t traced_count;		/* they stand first */
	uint32_t *node_of_life;		/* NONE: the same process is told by another agent */
	bool has_map;			/* and a node was found on it */
	struct table mate_of;		/* (life, place of conn) to place in mates */
	struct mate { struct conn *dial, *accept; } *mates;
	size_t mate_count, mate_cap;
	struct edge *edges;
	size_t edge_count, edge_cap;
	struct table edge_of_conn;	/* by address: looked up, never walked */
	struct table dialled;		/* (identity, identity): there is an edge */
	struct link *links;
	size_t link_count, link_cap;
	struct table link_index;
	bool *partly;			/* by pair: its rows count as parts of the other row */
	struct place *places;		/* by pair, then node; none of those */
	size_t place_count;
	struct pair_sum *sums;		/* by pair */
	struct stay *stays;		/* by peer, then node, then time */
	size_t stay_count, stay_cap;
	struct word *words;		/* by peer, then node, then time */
	size_t word_count, word_cap;
	struct finding *findings;
	size_t finding_count, finding_cap;
	struct table finding_index;
	struct share *shares;
	size_t share_count, share_cap;
	struct table share_index;
	struct note *notes;
	size_t note_count, note_cap;
};

/* Did its tracer miss anything: segments that it could not take, or was told not to? */
static inline bool agent_missed(const struct analysis *a, size_t agent)
{
	return a->c->agents[agent].info.segments_lost || a->c->agents[agent].info.steps;
}

/* A node's time in the reference clock; 0 stays 0. */
uint64_t ref_time(const struct analysis *a, uint32_t agent, uint64_t time_ns);

/* --- region.c --- */
int region_nodes(struct analysis *a);
/* Adds an untraced node, or gives the one there is. NONE without memory. */
uint32_t region_untraced(struct analysis *a, const struct key *key, const struct addr *addr,
			 const char *tls_name);
void region_names(struct analysis *a);
void region_times(struct analysis *a);
/* Do they owe each other a link? False for two lives of one relay. */
bool region_same(const struct analysis *a, uint32_t x, uint32_t y);
bool region_overlap(const struct analysis *a, uint32_t x, uint32_t y);
/* The life that followed an ended one; NONE. */
uint32_t region_successor(const struct analysis *a, uint32_t node);

/* --- match.c --- */
int match_conns(struct analysis *a);
struct conn *match_accepted(const struct analysis *a, const struct conn *dial);
struct conn *match_dialled(const struct analysis *a, const struct conn *accept);
/* Calls @each for the marks that both ends know, by the receiver's order. 0 or -ENOMEM. */
typedef void match_mark_fn(void *ctx, const struct mark *sent, const struct mark *arrived);
int match_each_mark(const struct conn *out, const struct conn *in, match_mark_fn *each, void *ctx);
/* The latest mark that both ends know. False: none. */
bool match_marks(const struct conn *out, const struct conn *in, const struct mark **at_out,
		 const struct mark **at_in);

/* --- edge.c --- */
int edge_make(struct analysis *a);
/* NULL: none, or no connection. */
const struct edge *edge_of(const struct analysis *a, const struct conn *conn);
void edge_times(struct analysis *a);

/* --- nic.c --- */
bool nic_is_watched(const struct analysis *a, uint32_t node);
/* What one of its ends' cards said of it, and which end; NULL: nothing. */
const struct record_nic_drop *nic_of_edge(const struct analysis *a, const struct edge *e,
					  uint32_t *node);
/* Was it dropped by one of its hosts? */
bool nic_dropped_edge(const struct analysis *a, const struct edge *e);
bool nic_is_of_a_link(const struct analysis *a, uint32_t node, const struct record_nic_drop *d);
/* Connections, not of the mesh, whose packets the node's host dropped. 0 or -ENOMEM. */
int nic_find_drops(struct analysis *a, uint32_t node);

/* --- clock.c --- */
int clock_offsets(struct analysis *a);
/* Calls @each for all marks of which both ends of @e tell when they saw them. 0 or -ENOMEM. */
int clock_each_mark(const struct edge *e, match_mark_fn *each, void *ctx);

/* --- partly.c --- */
int partly_find(struct analysis *a);
/* Forwards of pairs without a row of their own. */
uint64_t partly_rest(const struct analysis *a, const struct conn *conn);

/* --- stream.c --- */
int stream_books(struct analysis *a);

/* --- link.c --- */
int link_make(struct analysis *a);
struct link *link_find(const struct analysis *a, uint32_t from, uint32_t to);
/* The newest connection that was the link at @at_ns; NULL: there was none. */
const struct edge *link_edge_at(const struct analysis *a, const struct link *link, uint64_t at_ns);
/* Was @from -> @to a link at @at_ns? */
bool link_was_up(const struct analysis *a, const struct link *link, uint64_t at_ns);
/*
 * Had it just come back, after another connection of it had ended? A relay whose forward met the end
 * dials at once, but asks who is there only when its loop comes round: until then it has no routes.
 */
bool link_just_back(const struct analysis *a, const struct link *link, uint64_t first_ns,
		    uint64_t last_ns);
/* Why it was not, then. */
enum link_reason link_reason_at(const struct analysis *a, const struct link *link, uint64_t at_ns);
/* Has @from (any life of it) ever dialled @to? */
bool link_ever_dialled(const struct analysis *a, uint32_t from, uint32_t to);
/* The stall that shows best what holds this edge up; NULL: none. */
const struct stall *link_stall(const struct edge *e);
enum link_reason link_stall_reason(const struct analysis *a, const struct edge *e);

/* --- pairs.c --- */
int pairs_sum(struct analysis *a);
const struct place *pairs_places(const struct analysis *a, uint32_t pair, size_t *count);
/* What was told of it there. */
void pairs_row(const struct analysis *a, const struct place *place, struct pair_row *row);

/* --- presence.c --- */
int presence_make(struct analysis *a);
/* Stays of @peer, by node and time. */
const struct stay *presence_stays(const struct analysis *a, uint32_t peer, size_t *count);
/* Was the peer a client of @node at some time from @from_ns to @to_ns? @what: NULL or the stay. */
bool presence_at(const struct analysis *a, uint32_t peer, uint32_t node, uint64_t from_ns,
		 uint64_t to_ns, const struct stay **what);
/* At that moment? A traced node's own connections say it; of another there is what it told its mesh. */
bool presence_was_on(const struct analysis *a, uint32_t peer, uint32_t node, uint64_t at_ns);
/* Had @node said by then that the peer had left it, and no connection of it has come there since? */
bool presence_told_gone(const struct analysis *a, uint32_t peer, uint32_t node, uint64_t at_ns);
/*
 * When was @by told that the peer is at @node, in words that held at @at_ns or came after it? FOREVER: it
 * was not.
 */
uint64_t presence_told(const struct analysis *a, uint32_t peer, uint32_t by, uint32_t node,
		       uint64_t at_ns);
/*
 * Had the peer just come to @node, or the link there just come up, and @by, whose link it is, had not been
 * told yet in all that time?
 */
bool presence_untold(const struct analysis *a, uint32_t peer, uint32_t by, uint32_t node,
		     uint64_t first_ns, uint64_t last_ns);
/* The node other than @but and in its region where the peer was then, known from either; NONE. */
uint32_t presence_elsewhere(const struct analysis *a, uint32_t peer, uint32_t but,
			    uint64_t from_ns, uint64_t to_ns);
/* The node outside of @node's region where the peer was then; NONE. */
uint32_t presence_abroad(const struct analysis *a, uint32_t peer, uint32_t node,
			 uint64_t from_ns, uint64_t to_ns);

/* --- classify.c --- */
int classify_losses(struct analysis *a);

/* --- still.c --- */
/* When the node stood still, with what it did right after: a time that overlaps; NULL: none. */
const struct still *still_at(const struct analysis *a, uint32_t node, uint64_t from_ns, uint64_t to_ns);
/* The node whose standing still, or going on, may have overrun a queue of @node then; NONE. */
uint32_t still_behind(const struct analysis *a, uint32_t node, uint64_t from_ns, uint64_t to_ns);
uint64_t still_length(const struct analysis *a, uint32_t node, const struct still *s);

/* --- latency.c --- */
struct histogram {
	uint64_t v[LATENCY_BUCKETS], total;
};

void histogram_add(struct histogram *h, const struct buckets *b);
struct report_latency histogram_told(const struct histogram *h);
struct report_latency latency_told(const struct buckets *b);	/* of one pair at one node */
/* How long marks of it were on their way, the newest of each connection. 0 or -ENOMEM. */
int latency_of_link(const struct analysis *a, const struct link *link, struct report_latency *told);

/* --- verdict.c --- */
struct charge {
	enum verdict_class class;
	enum record_basis basis;
	uint32_t node, from, to;
	int hop;
	uint8_t reason;
	uint32_t pair;
	uint64_t count, first_ns, last_ns;
};

/* Reasons of findings: link reasons as they are, the relay's behind them. */
#define FINDING_RELAY_REASON(r)	((uint8_t)(LINK_REASONS + (r)))
/* NULL where there is none. */
const char *finding_reason(uint8_t reason);

/* The finding of that class, place and reason, made where there is none. NULL without memory. */
struct finding *finding_get(struct analysis *a, enum verdict_class class, uint32_t node,
			    uint32_t from, uint32_t to, uint8_t reason);
/* It is about these peers: each stays named while all agree. */
void finding_about(struct finding *f, uint32_t src, uint32_t dst);
/* So many of what it counts are this pair's. 0 or -ENOMEM. */
int finding_share(struct analysis *a, struct finding *f, uint32_t pair, uint64_t count);
/* Widens its time. */
void finding_seen(struct finding *f, uint64_t first_ns, uint64_t last_ns);
/* Charges lost frames of a pair. 0 or -ENOMEM. */
int finding_charge(struct analysis *a, const struct charge *charge);
/* What may be lost besides, spread over the findings. 0 or -ENOMEM. */
int finding_uncertain(struct analysis *a);

/* --- findings without a loss: find_links.c, find_peers.c, find_nodes.c --- */
int find_links(struct analysis *a);
int find_peers(struct analysis *a);
int find_nodes(struct analysis *a);

/* --- text.c --- */
struct text {
	char *s;
	size_t len, cap;
	bool failed;
};

void text_add(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The caller owns it; NULL: there was no memory. */
char *text_take(struct text *t);
/* Printable ASCII, cut to fit. */
void text_copy(char *to, size_t size, const char *from);
struct span_text { char s[24]; };
struct span_text text_span(uint64_t ns);		/* "1.5 s", "20 ms" */
struct peer_text { char s[16]; };
struct peer_text text_peer(const struct analysis *a, uint32_t peer);	/* "[AbCdE]", "someone" */
struct addr_text { char s[ADDR_TEXT_LEN]; };
struct addr_text text_addr(const struct addr *addr);

/* --- words*.c: what is said of a finding --- */
struct words {
	struct analysis *a;
	const struct finding *f;
	struct report_verdict *out;
	struct text summary, fix;
	bool failed;
};

/* Adds a line of evidence. */
void words_line(struct words *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The pairs that lost most. */
void words_pairs(struct words *w);
/* The same, of something else than packets lost: "initiation". */
void words_pairs_of(struct words *w, const char *noun);
/* By what name, or address, a relay is told to dial that node. */
struct dial_name { char s[160]; };
struct dial_name words_dial(const struct analysis *a, uint32_t node);
/* Its two parts: the host alone; ":8443", or nothing where it is the usual port. */
struct dial_name words_host(const struct analysis *a, uint32_t node);
struct dial_name words_port(const struct analysis *a, uint32_t node);
bool words_is_coder(const struct analysis *a, uint32_t node);
/* "3 packets", "1 packet of 1 pair" */
struct count_text { char s[64]; };
struct count_text words_count(uint64_t count, const char *noun);

void words_mesh_route(struct words *w);		/* words_link.c */
void words_link_down(struct words *w);
void words_link_one_way(struct words *w);
void words_link_stalled(struct words *w);
void words_stale_route(struct words *w);	/* words_peer.c */
void words_peer_absent(struct words *w);
void words_queue_drop(struct words *w);
void words_duplicate_peer(struct words *w);
void words_last_hop(struct words *w);
void words_handshake(struct words *w);
void words_rate_limited(struct words *w);
void words_flapping(struct words *w);
void words_host_drop(struct words *w);		/* words_host.c */
void words_not_admitted(struct words *w);	/* words_node.c */
void words_node_slow(struct words *w);
void words_node_restarted(struct words *w);
void words_stun(struct words *w);
void words_untraced_node(struct words *w);

/* Sentence, evidence and fix of @f into @out. 0 or -ENOMEM. */
int verdict_words(struct analysis *a, const struct finding *f, struct report_verdict *out);

#endif
