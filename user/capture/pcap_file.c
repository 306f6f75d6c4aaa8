// SPDX-License-Identifier: BSD-2-Clause
/* A capture file of either format: .pcapng by our own parser, .pcap in all its kinds by libpcap. */
#include <errno.h>
#include <fcntl.h>
#include <pcap/pcap.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/denied.h"
#include "base/packed.h"
#include "capture/pcap.h"

struct pcap_file {
	char *path;
	struct pcap_blocks *blocks;	/* .pcapng: not NULL */
	FILE *in;			/* .pcapng; libpcap owns its own */
	pcap_t *pcap;
	struct pcap_interface interface; /* .pcap has one */
	uint64_t offset;		/* .pcap: of the next packet */
	char error[sizeof(((struct capture_error *)0)->text)];
};

static FILE *open_regular(const char *path, struct capture_error *err)
{
	/* A pipe that nobody writes to must not hold us up. */
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	FILE *in = fd < 0 ? NULL : fdopen(fd, "rb");
	struct stat st;

	if (!in || fstat(fd, &st)) {
		snprintf(err->text, sizeof(err->text), "%s: cannot read: %s%s", path, strerror(errno),
			 denied_advice(errno));
	} else if (S_ISDIR(st.st_mode)) {
		snprintf(err->text, sizeof(err->text), "%s: a directory; name the file inside", path);
	} else if (!S_ISREG(st.st_mode)) {
		snprintf(err->text, sizeof(err->text),
			 "%s: not a file; a capture is read twice, so write it to a file first", path);
	} else {
		return in;
	}
	if (in)
		fclose(in);
	else if (fd >= 0)
		close(fd);
	return NULL;
}

/* False: it may be a capture. */
static bool say_what_it_is(const char *path, const uint8_t *magic, size_t n,
			   struct capture_error *err)
{
	const char *command = packed_command(magic, n);

	if (!n)
		snprintf(err->text, sizeof(err->text), "%s: the file is empty; was the capture stopped "
			 "in order?", path);
	else if (command)
		snprintf(err->text, sizeof(err->text), "%s: the capture is compressed; unpack it first "
			 "(%s)", path, command);
	return !n || command;
}

static int open_pcap(struct pcap_file *f, FILE *in)
{
	char text[PCAP_ERRBUF_SIZE] = "";

	f->pcap = pcap_fopen_offline_with_tstamp_precision(in, PCAP_TSTAMP_PRECISION_NANO, text);
	if (!f->pcap) {
		fclose(in);
		snprintf(f->error, sizeof(f->error), "%s: not a .pcap or .pcapng file: %s", f->path,
			 text);
		return -EBADMSG;
	}
	f->interface.linktype = pcap_datalink(f->pcap);
	f->offset = (uint64_t)ftello(pcap_file(f->pcap));
	return 0;
}

struct pcap_file *pcap_file_open(const char *path, const struct pcap_file_sink *sink,
				 struct capture_error *err)
{
	static const uint8_t section[4] = { 0x0a, 0x0d, 0x0d, 0x0a };
	struct pcap_file *f = calloc(1, sizeof(*f));
	FILE *in = open_regular(path, err);
	uint8_t magic[4];
	size_t n;

	if (!in)
		goto fail;
	snprintf(err->text, sizeof(err->text), "out of memory");
	if (f)
		f->path = strdup(path);
	if (!f || !f->path) {
		fclose(in);
		goto fail;
	}
	n = fread(magic, 1, sizeof(magic), in);
	if (say_what_it_is(path, magic, n, err)) {
		fclose(in);
		goto fail;
	}
	rewind(in);
	if (n == sizeof(magic) && !memcmp(magic, section, sizeof(magic))) {
		f->in = in;
		f->blocks = pcap_blocks_new(in, sink);
		if (!f->blocks)
			goto fail;
		return f;
	}
	if (!open_pcap(f, in))
		return f;
	snprintf(err->text, sizeof(err->text), "%s", f->error);
fail:
	pcap_file_close(f);
	return NULL;
}

void pcap_file_close(struct pcap_file *f)
{
	if (!f)
		return;
	if (f->pcap)
		pcap_close(f->pcap);
	pcap_blocks_free(f->blocks);
	if (f->in)
		fclose(f->in);
	free(f->path);
	free(f);
}

static int next_pcap(struct pcap_file *f, struct pcap_packet *p)
{
	struct pcap_pkthdr *header;
	const u_char *data;
	int n;

	if (!f->pcap)
		return -EIO;
	f->offset = (uint64_t)ftello(pcap_file(f->pcap));
	n = pcap_next_ex(f->pcap, &header, &data);
	if (n == PCAP_ERROR_BREAK)
		return 0;
	if (n != 1) {
		snprintf(f->error, sizeof(f->error), "%s: damaged at byte %llu: %s", f->path,
			 (unsigned long long)f->offset, pcap_geterr(f->pcap));
		return -EBADMSG;
	}
	*p = (struct pcap_packet){
		/* With nanoseconds asked for, that is what tv_usec holds. */
		.time_ns = (uint64_t)(uint32_t)header->ts.tv_sec * 1000000000 +
			   (uint32_t)header->ts.tv_usec,
		.len = header->len, .captured = header->caplen, .data = data,
	};
	return 1;
}

static int next_block(struct pcap_file *f, struct pcap_packet *p)
{
	int n = pcap_blocks_next(f->blocks, p);
	uint64_t offset;
	const char *what;

	if (n >= 0)
		return n;
	what = pcap_blocks_error(f->blocks, &offset);
	snprintf(f->error, sizeof(f->error), "%s: damaged at byte %llu: %s", f->path,
		 (unsigned long long)offset, what);
	return n;
}

int pcap_file_next(struct pcap_file *f, struct pcap_packet *p)
{
	/* What is damaged stays so. */
	if (f->error[0])
		return -EBADMSG;
	return f->blocks ? next_block(f, p) : next_pcap(f, p);
}

const char *pcap_file_error(const struct pcap_file *f)
{
	return f->error;
}

int pcap_file_rewind(struct pcap_file *f)
{
	struct capture_error err;
	FILE *in;

	f->error[0] = '\0';
	if (f->blocks)
		return pcap_blocks_rewind(f->blocks);
	in = open_regular(f->path, &err);
	if (!in) {
		snprintf(f->error, sizeof(f->error), "%s", err.text);
		return -EIO;
	}
	pcap_close(f->pcap);
	f->pcap = NULL;
	return open_pcap(f, in);
}

const struct pcap_interface *pcap_file_interface(const struct pcap_file *f, uint32_t index)
{
	if (f->blocks)
		return pcap_blocks_interface(f->blocks, index);
	return index ? NULL : &f->interface;
}

uint32_t pcap_file_interfaces(const struct pcap_file *f)
{
	return f->blocks ? pcap_blocks_interfaces(f->blocks) : 1;
}

bool pcap_file_is_ours(const struct pcap_file *f)
{
	return f->blocks && pcap_blocks_are_ours(f->blocks);
}
