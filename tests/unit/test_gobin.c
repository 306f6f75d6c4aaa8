/* SPDX-License-Identifier: BSD-2-Clause */
/* A Go program's file: versions of the pclntab, PIE, stripped, probe places, hostile files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "capture/gobin.h"
#include "go_fixture.h"

static struct go_fixture fixture;

static struct gobin *open_fixture(void)
{
	enum gobin_error error;
	struct gobin *bin;

	go_fixture_build(&fixture);
	bin = gobin_open_fd(fixture.fd, &error);
	if (!bin)
		fail_msg("%s", gobin_error_text(error));
	go_fixture_close(&fixture);	/* the door keeps its own descriptor */
	return bin;
}

static enum gobin_error open_error(void)
{
	enum gobin_error error;
	struct gobin *bin;

	go_fixture_build(&fixture);
	bin = gobin_open_fd(fixture.fd, &error);
	go_fixture_close(&fixture);
	assert_true((bin == NULL) == (error != GOBIN_OK));
	gobin_close(bin);
	return error;
}

static void check_functions(const struct gobin *bin)
{
	struct gobin_function func;
	uint64_t off;

	assert_int_equal(gobin_function(bin, "derpserver.(*Server).recordDrop", &func), 0);
	assert_string_equal(func.name, "tailscale.com/derp/derpserver.(*Server).recordDrop");
	assert_int_equal(func.addr, go_fixture_addr(&fixture, 3));
	assert_int_equal(func.file_off, GO_FIXTURE_TEXT + 3 * GO_FIXTURE_CODE);
	assert_int_equal(func.size_bytes, GO_FIXTURE_CODE);
	assert_int_equal(gobin_probe_offset(bin, &func, &off), 0);
	assert_int_equal(off, func.file_off + 10);

	assert_int_equal(gobin_function(bin, "crypto/tls.(*Config).writeKeyLog", &func), 0);
	assert_int_equal(func.addr, go_fixture_addr(&fixture, 1));
	assert_int_equal(gobin_function(bin, ".(*Server).Accept", &func), 0);
	/* Only at a boundary, only whole to the end. */
	assert_int_equal(gobin_function(bin, "server.(*Server).Accept", &func), -ENOENT);
	assert_int_equal(gobin_function(bin, "derpserver.(*Server).Acc", &func), -ENOENT);
	assert_int_equal(gobin_function(bin, "", &func), -EINVAL);
}

static void test_versions(void **state)
{
	static const int versions[] = {16, 18, 20, 26};
	unsigned int i, pie;

	(void)state;
	for (i = 0; i < 4; i++) {
		for (pie = 0; pie < 2; pie++) {
			struct gobin *bin;

			go_fixture_init(&fixture);
			fixture.version = versions[i];
			fixture.pie = pie;
			bin = open_fixture();
			check_functions(bin);
			assert_true(gobin_info(bin)->derp_server);
			assert_true(gobin_info(bin)->stripped);
			assert_int_equal(gobin_info(bin)->pie, pie);
			assert_int_equal(gobin_info(bin)->go_minor, versions[i]);
			assert_string_equal(gobin_info(bin)->software,
					    "tailscale.com/cmd/derper v1.102.5");
			gobin_close(bin);
		}
	}
}

static void test_symbols_only(void **state)
{
	struct gobin *bin;

	(void)state;
	go_fixture_init(&fixture);
	fixture.no_pclntab = true;
	fixture.symbols = true;
	bin = open_fixture();
	assert_false(gobin_info(bin)->stripped);
	check_functions(bin);
	gobin_close(bin);
}

static void test_software(void **state)
{
	struct gobin *bin;

	(void)state;
	go_fixture_init(&fixture);
	bin = open_fixture();
	assert_string_equal(gobin_info(bin)->software, "tailscale.com/cmd/derper v1.102.5");
	assert_string_equal(gobin_info(bin)->derp_module, "tailscale.com v1.102.5");
	assert_string_equal(gobin_info(bin)->go_version, "go1.20.8");
	gobin_close(bin);

	/* A fork replaces the module; the program is of another, whose version says nothing. */
	fixture.build_info = "path\tgithub.com/coder/coder/v2/cmd\n"
			     "mod\tgithub.com/coder/coder/v2\t(devel)\n"
			     "dep\ttailscale.com\tv1.46.1\n"
			     "=>\tgithub.com/coder/tailscale\tv1.1.1\th1:=\n"
			     "dep\ttailscale.com/derp\x1b[31m\tv9\n";
	bin = open_fixture();
	assert_string_equal(gobin_info(bin)->software, "github.com/coder/coder/v2/cmd");
	assert_string_equal(gobin_info(bin)->derp_module, "github.com/coder/tailscale v1.1.1");
	gobin_close(bin);

	fixture.build_info = NULL;
	bin = open_fixture();
	assert_string_equal(gobin_info(bin)->software, "");
	assert_int_equal(gobin_info(bin)->go_minor, 0);
	gobin_close(bin);
}

static void test_not_a_relay(void **state)
{
	struct gobin *bin;

	(void)state;
	go_fixture_init(&fixture);
	fixture.funcs[2].name = "example.com/nderp.(*Server).Accept";
	bin = open_fixture();
	assert_false(gobin_info(bin)->derp_server);
	gobin_close(bin);
	/* Before the server had a package of its own, and vendored. */
	fixture.funcs[2].name = "example.com/vendor/tailscale.com/derp.(*Server).Accept";
	bin = open_fixture();
	assert_true(gobin_info(bin)->derp_server);
	gobin_close(bin);
}

static void test_errors(void **state)
{
	enum gobin_error error;

	(void)state;
	go_fixture_init(&fixture);
	fixture.no_sections = true;
	assert_int_equal(open_error(), GOBIN_NO_SECTIONS);
	go_fixture_init(&fixture);
	fixture.no_pclntab = true;
	assert_int_equal(open_error(), GOBIN_NO_PCLNTAB);
	go_fixture_init(&fixture);
	fixture.machine = EM_386;
	assert_int_equal(open_error(), GOBIN_BAD_MACHINE);
	/* This test is no Go program, and a process that cannot be has no executable. */
	assert_null(gobin_open(getpid(), &error));
	assert_int_equal(error, GOBIN_NOT_GO);
	assert_null(gobin_open(0x7ffffff0, &error));
	assert_int_equal(error, GOBIN_NO_PROCESS);
	assert_null(gobin_open_fd(-1, &error));
	for (error = GOBIN_OK; error <= GOBIN_NO_PCLNTAB; error++)
		assert_string_not_equal(gobin_error_text(error), "unknown error");
}

/* Each byte of the file wrong once, and the file cut off anywhere: errors, nothing worse. */
static void test_damaged(void **state)
{
	struct gobin_function func;
	enum gobin_error error;
	size_t i;
	int fd;

	(void)state;
	go_fixture_init(&fixture);
	fixture.pie = true;
	fixture.symbols = true;
	go_fixture_build(&fixture);
	go_fixture_close(&fixture);
	fd = memfd_create("damaged", MFD_CLOEXEC);
	assert_int_equal(write(fd, fixture.bytes, fixture.len), (ssize_t)fixture.len);
	for (i = 0; i < fixture.len; i++) {
		const uint8_t bad = fixture.bytes[i] ^ 0xff;
		struct gobin *bin;
		uint64_t off;

		assert_int_equal(pwrite(fd, &bad, 1, (off_t)i), 1);
		bin = gobin_open_fd(fd, &error);
		if (bin && !gobin_function(bin, ".(*Server).recordDrop", &func))
			gobin_probe_offset(bin, &func, &off);
		gobin_close(bin);
		assert_int_equal(pwrite(fd, fixture.bytes + i, 1, (off_t)i), 1);
	}
	for (i = fixture.len; i > 0; i -= i > 7 ? 7 : i) {
		assert_int_equal(ftruncate(fd, (off_t)i), 0);
		gobin_close(gobin_open_fd(fd, &error));
	}
	close(fd);
}

struct prologue {
	uint16_t machine;
	const char *code;
	size_t len;
	int at;			/* of the probe, -1: none */
};

#define X86(at, code) {EM_X86_64, code, sizeof(code) - 1, at}
#define ARM(at, code) {EM_AARCH64, code, sizeof(code) - 1, at}
#define FRAME "\x55\x48\x89\xe5\x48\x83\xec\x40"
#define LDR "\x90\x0b\x40\xf9"		/* ldr x16, [x28, #16] */
#define CMP "\xff\x63\x30\xeb"		/* cmp sp, x16 */
#define CMP17 "\x3f\x02\x10\xeb"	/* cmp x17, x16 */
#define BLS "\x49\x10\x00\x54"		/* b.ls */
#define STR "\xfe\x0f\x15\xf8"		/* str x30, [sp, #-176]! */

static const struct prologue prologues[] = {
	X86(6, "\x49\x3b\x66\x10\x76\x40" FRAME),
	X86(10, "\x49\x3b\x66\x10\x0f\x86\x20\x01\x00\x00" FRAME),
	X86(15, "\x4c\x8d\x64\x24\xe8\x4d\x3b\x66\x10\x0f\x86\x20\x01\x00\x00" FRAME),
	X86(18, "\x4c\x8d\xa4\x24\x00\xff\xff\xff\x4d\x3b\x66\x10\x0f\x86\x20\x01\x00\x00" FRAME),
	X86(26, "\x49\x89\xe4\x49\x81\xec\x00\x00\x01\x00\x0f\x82\x30\x01\x00\x00"
		"\x4d\x3b\x66\x10\x0f\x86\x20\x01\x00\x00" FRAME),
	/* Up to Go 1.20. */
	X86(6, "\x49\x3b\x66\x10\x76\x40\x48\x83\xec\x40\x48\x89\x6c\x24\x38"),
	/* Without a check. */
	X86(0, FRAME),
	X86(-1, "\x48\x83\xec\x40\xc3"),
	X86(-1, "\x49\x3b\x66\x10\x76\x40\xc3\x90\x90\x90"),
	X86(-1, "\x49\x3b\x66\x10\x90\x90" FRAME),
	X86(-1, "\x4c\x8d\x64\x24\xe8" FRAME),
	X86(-1, "\x49\x3b\x66\x10\x76\x40\x55"),
	X86(-1, ""),
	ARM(12, LDR CMP BLS STR),
	ARM(16, LDR "\xf1\x43\x01\xd1" CMP17 BLS STR),
	ARM(16, LDR "\xf1\x43\x01\xd1" CMP17 BLS "\xf4\x83\x0d\xd1"),
	ARM(0, STR),
	ARM(-1, LDR CMP STR STR),
	ARM(-1, LDR BLS STR STR),
	ARM(-1, LDR CMP BLS),
	ARM(-1, "\xc0\x03\x5f\xd6"),
};

static void test_prologues(void **state)
{
	struct gobin_function func;
	unsigned int i;

	(void)state;
	for (i = 0; i < sizeof(prologues) / sizeof(prologues[0]); i++) {
		const struct prologue *p = &prologues[i];
		struct gobin *bin;
		uint64_t off;
		int err;

		go_fixture_init(&fixture);
		fixture.machine = p->machine;
		fixture.funcs[3].code = p->code;
		fixture.funcs[3].len = p->len;
		bin = open_fixture();
		assert_int_equal(gobin_function(bin, ".(*Server).recordDrop", &func), 0);
		func.size_bytes = p->len;
		err = gobin_probe_offset(bin, &func, &off);
		if (err != (p->at < 0 ? -ENOENT : 0) ||
		    (!err && off != func.file_off + (uint64_t)p->at))
			fail_msg("prologue %u: error %d, offset %llu", i, err,
				 (unsigned long long)(off - func.file_off));
		gobin_close(bin);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_symbols_only),
		cmocka_unit_test(test_software),
		cmocka_unit_test(test_not_a_relay),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_prologues),
	};

	return cmocka_run_group_tests_name("gobin", tests, NULL, NULL);
}
