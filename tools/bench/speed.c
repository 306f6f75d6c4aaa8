// SPDX-License-Identifier: BSD-2-Clause
/* Stream, over the bytes of real TLS connections: CPU time per frame, the best of some rounds. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "rooms.h"

#define FRAMES		20000
#define ROUNDS		5

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void count_frame(void *ctx, const struct stream_frame *f)
{
	*(uint64_t *)ctx += f->len > DERP_KEY_LEN;
}

static void no_progress(void *ctx, const struct stream_progress *p)
{
	(void)ctx;
	(void)p;
}

static void no_gap(void *ctx, const struct stream_gap *g)
{
	(void)ctx;
	(void)g;
}

struct traffic {
	const char *name, *suite;	/* NULL: plain */
	bool out;
	uint32_t size;
	unsigned int burst;		/* frames in a write */
};

static void write_frames(struct dialog *d, const struct traffic *t)
{
	uint8_t frame[DERP_HEADER_LEN + DERP_KEY_LEN + 2048];
	uint32_t len = DERP_KEY_LEN + t->size, i, n;
	struct bytes b = { 0 };

	for (i = 0; i < FRAMES; i += t->burst) {
		b.len = 0;
		for (n = 0; n < t->burst; n++) {
			memset(frame, (int)(i + n), sizeof(frame));
			frame[0] = t->out ? DERP_RECV_PACKET : DERP_SEND_PACKET;
			frame[1] = frame[2] = 0;
			frame[3] = (uint8_t)(len >> 8);
			frame[4] = (uint8_t)len;
			bytes_add(&b, frame, DERP_HEADER_LEN + len);
		}
		dialog_write(d, t->out, b.p, b.len);
	}
	bytes_free(&b);
}

static uint64_t once(const struct dialog *d, struct stream_stats *stats)
{
	uint64_t frames = 0, ns;
	const struct stream_sink sink = { .ctx = &frames, .frame = count_frame,
					  .progress = no_progress, .gap = no_gap };
	struct feeder f = { .streams = streams_new(&sink, NULL), .dialog = d, .conn = 1,
			    .time_ns = 1 };

	if (!f.streams)
		return 0;
	feed_open(&f);
	ns = cpu_ns();
	feed_all(&f);
	ns = cpu_ns() - ns;
	streams_stats(f.streams, stats);
	streams_free(f.streams);
	return frames < FRAMES ? 0 : ns;
}

int bench_speed(void)
{
	static const struct traffic all[] = {
		{ "plain, in", NULL, false, 1200, 1 },
		{ "AES-128-GCM, in", "TLS_AES_128_GCM_SHA256", false, 1200, 1 },
		{ "AES-128-GCM, out", "TLS_AES_128_GCM_SHA256", true, 1200, 1 },
		{ "AES-128-GCM, in, 8 a write", "TLS_AES_128_GCM_SHA256", false, 1200, 8 },
		{ "AES-128-GCM, in, small", "TLS_AES_128_GCM_SHA256", false, 120, 1 },
		{ "AES-256-GCM, in", "TLS_AES_256_GCM_SHA384", false, 1200, 1 },
		{ "ChaCha20-Poly1305, in", "TLS_CHACHA20_POLY1305_SHA256", false, 1200, 1 },
	};
	size_t i;

	printf("| stream | bytes | ns/frame | records | by tag |\n|---|---|---|---|---|\n");
	for (i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		const struct traffic *t = &all[i];
		struct stream_stats stats;
		struct dialog d;
		uint64_t best = UINT64_MAX, ns;
		int round;

		dialog_begin(&d, &(struct dialog_options){ .tls = t->suite, .suite = t->suite,
							   .version = TLS1_3_VERSION, .seed = 1 });
		write_frames(&d, t);
		for (round = 0; round < ROUNDS; round++) {
			ns = once(&d, &stats);
			if (!ns) {
				fprintf(stderr, "rooms: %s: not every frame was read\n", t->name);
				return 1;
			}
			if (ns < best)
				best = ns;
		}
		printf("| %s | %u | %.0f | %llu | %llu |\n", t->name, t->size,
		       (double)best / FRAMES, (unsigned long long)stats.records,
		       (unsigned long long)(stats.records - stats.records_by_heads));
		dialog_free(&d);
	}
	return 0;
}
