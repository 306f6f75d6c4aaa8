/* SPDX-License-Identifier: BSD-2-Clause */
/* Any bytes as a Go program's file: opened, its functions looked up, their prologues decoded. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "capture/gobin.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = {
	"crypto/tls.(*Config).writeKeyLog",
	".(*Server).recordDrop",
	"a",
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	enum gobin_error error;
	struct gobin *bin;
	size_t i;

	if (fd < 0)
		fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (ftruncate(fd, 0) || pwrite(fd, data, size, 0) != (ssize_t)size)
		return 0;
	bin = gobin_open_fd(fd, &error);
	if (!bin) {
		if (error == GOBIN_OK || !gobin_error_text(error)[0])
			abort();
		return 0;
	}
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct gobin_function func;
		uint64_t off;

		if (gobin_function(bin, names[i], &func))
			continue;
		if (func.file_off >= size)
			abort();
		if (!gobin_probe_offset(bin, &func, &off) &&
		    (off < func.file_off || off >= size))
			abort();
	}
	gobin_close(bin);
	return 0;
}
