# SPDX-License-Identifier: BSD-2-Clause
#
# derptrace: one program, its tests, its lab. Non-recursive; everything made lands in build/.
# `make help` lists what can be asked for. V=1 shows whole commands.

VERSION := 0.1.0
PREFIX  ?= /usr/local
B       := build

CLANG   ?= clang
BPFTOOL ?= $(firstword $(wildcard /usr/sbin/bpftool /usr/local/sbin/bpftool) bpftool)
PROTOC_C ?= protoc-c
PYTHON  ?= /usr/bin/python3

# The name libbpf's headers use for this machine; ARCH=arm64 picks vmlinux/arm64. `make cross` sees to the rest.
ARCH ?= $(patsubst x86_64,x86,$(patsubst aarch64,arm64,$(shell uname -m)))

ifeq ($(V),1)
  Q :=
  say = @:
else
  Q := @
  say = @printf '  %-8s %s\n' '$(1)' '$(patsubst $(B)/%,%,$(2))'
endif

.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

GOALS   := $(or $(MAKECMDGOALS),all)
# Goals that need no library and no source: they must work on a machine where nothing is installed.
LIGHT   := deps help clean lint demo test test-all check cross
COMPILE := $(filter-out $(LIGHT),$(GOALS))

# --- libraries -------------------------------------------------------------------------------
# pkg-config name:Debian package; the first one missing is named, with the way out.
PKGS := libbpf:libbpf-dev libelf:libelf-dev zlib:zlib1g-dev libpcap:libpcap-dev \
	libssl:libssl-dev libcrypto:libssl-dev libprotobuf-c:libprotobuf-c-dev \
	jansson:libjansson-dev libmicrohttpd:libmicrohttpd-dev ncursesw:libncurses-dev \
	rdkafka:librdkafka-dev libmnl:libmnl-dev
LOAD_PKGS := libsodium:libsodium-dev libssl:libssl-dev libcrypto:libssl-dev
TEST_PKGS := cmocka:libcmocka-dev
pc_names = $(foreach p,$(1),$(firstword $(subst :, ,$(p))))

ifneq ($(COMPILE),)
  define need_tool
    ifeq ($$(shell command -v $(1) 2>/dev/null),)
      $$(error $(1) is missing: install Debian's package $(2), or run `make deps`)
    endif
  endef
  $(eval $(call need_tool,pkg-config,pkg-config))
  $(eval $(call need_tool,$(CC),gcc))
  $(eval $(call need_tool,$(CLANG),clang))
  $(eval $(call need_tool,$(BPFTOOL),bpftool))
  $(eval $(call need_tool,$(PROTOC_C),protobuf-c-compiler))
  MISSING := $(shell for p in $(PKGS) $(LOAD_PKGS) $(TEST_PKGS); do pkg-config --exists $${p%%:*} || echo $$p; done)
  MISSING := $(sort $(foreach p,$(MISSING),$(lastword $(subst :, ,$(p)))))
  ifneq ($(strip $(MISSING)),)
    $(error missing: $(MISSING). Install Debian's packages of these names, or run `make deps`)
  endif
  PC_CFLAGS   := $(shell pkg-config --cflags $(call pc_names,$(PKGS)))
  PC_LIBS     := $(shell pkg-config --libs $(call pc_names,$(PKGS)))
  LOAD_CFLAGS := $(shell pkg-config --cflags $(call pc_names,$(LOAD_PKGS)))
  LOAD_LIBS   := $(shell pkg-config --libs $(call pc_names,$(LOAD_PKGS)))
  TEST_CFLAGS := $(shell pkg-config --cflags $(call pc_names,$(TEST_PKGS)))
  TEST_LIBS   := $(shell pkg-config --libs $(call pc_names,$(TEST_PKGS)))
endif

# --- flags -----------------------------------------------------------------------------------
# Warnings are errors only where we look at them: a user's newer compiler must not stop a build.
WERROR  := $(if $(or $(CI),$(filter check,$(GOALS)),$(STRICT)),-Werror)
OPT     ?= -O2 -g
WARN    := -Wall -Wextra $(WERROR)
INC     := -Ibpf -Iuser -I$(B)
# A struct may stand within another without a name.
MS      := -fms-extensions -Wno-microsoft-anon-tag
CFLAGS_ALL := -std=gnu11 $(MS) $(OPT) $(WARN) -D_GNU_SOURCE -DDERPTRACE_VERSION='"$(VERSION)"' $(INC) \
	$(PC_CFLAGS) $(CFLAGS)
DEPFLAGS = -MMD -MP
LDLIBS_ALL := $(PC_LIBS) -lm -lpthread $(LDLIBS)
BPF_CFLAGS := -std=gnu11 -target bpf -O2 -g -mcpu=v2 -Wall -Wextra -Wno-unused-parameter $(WERROR) \
	-D__TARGET_ARCH_$(ARCH) -Ivmlinux/$(ARCH) -Ibpf

# --- sources ---------------------------------------------------------------------------------
USER_SRC  := $(wildcard user/*.c user/*/*.c)
USER_OBJ  := $(USER_SRC:%.c=$(B)/obj/%.o)
MAIN_OBJ  := $(B)/obj/user/main.o
BPF_SRC   := $(wildcard bpf/*.bpf.c)
BPF_OBJ   := $(BPF_SRC:bpf/%.c=$(B)/bpf/%.o)
# Loaded once per network namespace, so it is an object of its own.
WIRE_OBJ  := $(B)/bpf/wire.bpf.o
SKEL      := $(if $(BPF_SRC),$(B)/derptrace.skel.h $(B)/wire.skel.h)
PROTO     := $(wildcard user/record/record.proto)
PB_C      := $(if $(PROTO),$(B)/record/record.pb-c.c)
PB_H      := $(PB_C:.c=.h)
PB_OBJ    := $(PB_C:$(B)/%.c=$(B)/obj/%.o)
GENERATED := $(SKEL) $(PB_H)
# Everything but main(): what a unit test may link, member by member as it needs them.
ROOMS     := $(B)/libderptrace.a
ROOM_OBJ  := $(filter-out $(MAIN_OBJ),$(USER_OBJ)) $(PB_OBJ)

LOAD_SRC  := $(wildcard tools/derpload/*.c)
LOAD_OBJ  := $(LOAD_SRC:%.c=$(B)/obj/%.o)
UNIT_SRC  := $(wildcard tests/unit/test_*.c)
UNIT_BIN  := $(UNIT_SRC:tests/unit/%.c=$(B)/tests/unit/%)
# Shared by several unit tests: whatever is in tests/unit/ and is no test itself.
UNIT_HELP := $(patsubst %.c,$(B)/obj/%.o,$(filter-out $(UNIT_SRC),$(wildcard tests/unit/*.c)))
BENCH_OBJ := $(patsubst %,$(B)/obj/tools/bench/%.o,rooms speed memory feed template)
FUZZ_SRC  := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_BIN  := $(FUZZ_SRC:tests/fuzz/%.c=$(B)/fuzz/%)
FUZZ_HELP := $(patsubst %.c,$(B)/fuzz/obj/%.o,$(filter-out $(FUZZ_SRC),$(wildcard tests/fuzz/*.c)))

PROGRAM   := $(if $(wildcard user/main.c),$(B)/derptrace)
DERPLOAD  := $(if $(LOAD_SRC),$(B)/derpload)

.PHONY: all
all: $(PROGRAM) $(DERPLOAD)			## the program and the load generator

# --- in the kernel ---------------------------------------------------------------------------
$(B)/bpf/%.bpf.o: bpf/%.bpf.c $(B)/flags | $(B)/bpf/
	$(call say,BPF,$@)
	$(Q)$(CLANG) $(BPF_CFLAGS) $(DEPFLAGS) -c $< -o $@

$(B)/derptrace.bpf.o: $(filter-out $(WIRE_OBJ),$(BPF_OBJ))
	$(call say,BPFLINK,$@)
	$(Q)$(BPFTOOL) gen object $@ $^

$(B)/derptrace.skel.h: $(B)/derptrace.bpf.o
	$(call say,SKEL,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name derptrace_bpf > $@

$(B)/wire.skel.h: $(WIRE_OBJ)
	$(call say,SKEL,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name wire_bpf > $@

$(B)/record/record.pb-c.c: user/record/record.proto | $(B)/record/
	$(call say,PROTO,$@)
	$(Q)$(PROTOC_C) --proto_path=user --c_out=$(B) $<

$(B)/record/record.pb-c.h: $(B)/record/record.pb-c.c ;

# --- in user space ---------------------------------------------------------------------------
$(B)/obj/%.o: %.c $(B)/flags | $(GENERATED)
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CFLAGS_ALL) $(EXTRA_CFLAGS) $(DEPFLAGS) -c $< -o $@

$(B)/obj/record/%.o: $(B)/record/%.c $(B)/flags
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CFLAGS_ALL) $(DEPFLAGS) -c $< -o $@

$(B)/obj/tools/derpload/%.o: EXTRA_CFLAGS = -Itools/derpload $(LOAD_CFLAGS)
$(B)/obj/tests/unit/%.o: EXTRA_CFLAGS = -Itests/unit $(TEST_CFLAGS)

$(ROOMS): $(ROOM_OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $(ROOM_OBJ)

$(B)/derptrace: $(USER_OBJ) $(PB_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS) $^ $(LDLIBS_ALL) -o $@

$(B)/derpload: $(LOAD_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS) $^ $(LOAD_LIBS) -lm -lpthread -o $@

# A change of flags rebuilds: the file changes only when they do.
ALL_FLAGS = $(CC) $(CFLAGS_ALL) $(CLANG) $(BPF_CFLAGS)
$(B)/flags: FORCE | $(B)/
	@echo '$(subst ','\'',$(ALL_FLAGS))' | cmp -s - $@ || echo '$(subst ','\'',$(ALL_FLAGS))' > $@
FORCE:

$(B)/ $(B)/bpf/ $(B)/bench/ $(B)/record/ $(B)/fuzz/ $(B)/tests/unit/:
	@mkdir -p $@

# --- unit tests ------------------------------------------------------------------------------
# The figures of the bench that are promises.
$(B)/tests/unit/test_memory: $(patsubst %,$(B)/obj/tools/bench/%.o,memory feed template)
$(B)/tests/unit/%: $(B)/obj/tests/unit/%.o $(UNIT_HELP) $(ROOMS) | $(B)/tests/unit/
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS) $(filter %.o,$^) $(ROOMS) $(TEST_LIBS) $(LDLIBS_ALL) -o $@

.PHONY: unit-bin unit
unit-bin: $(UNIT_BIN)
unit: unit-bin					## unit tests (no root)
	$(Q)tests/run unit

# --- what the rooms cost, without a kernel ----------------------------------------------------
$(B)/obj/tools/bench/%.o: EXTRA_CFLAGS = -Itests/unit $(TEST_CFLAGS)
$(B)/rooms: $(BENCH_OBJ) $(UNIT_HELP) $(ROOMS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS) $(filter %.o,$^) $(ROOMS) $(TEST_LIBS) $(LDLIBS_ALL) -o $@

# What tracers of TLS do today, to compare with.
$(B)/bench/calls.bpf.o: tools/bench/calls.bpf.c $(B)/flags | $(B)/bench/
	$(call say,BPF,$@)
	$(Q)$(CLANG) $(BPF_CFLAGS) $(DEPFLAGS) -c $< -o $@
$(B)/bench/calls.skel.h: $(B)/bench/calls.bpf.o
	$(call say,SKEL,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name calls > $@
$(B)/obj/tools/bench/calls.o: EXTRA_CFLAGS = -I$(B)/bench
$(B)/obj/tools/bench/calls.o: | $(B)/bench/calls.skel.h
$(B)/bench/calls: $(B)/obj/tools/bench/calls.o
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS) $^ $(LDLIBS_ALL) -o $@
$(B)/bench/rates: $(B)/obj/tools/bench/rates.o $(ROOMS) | $(B)/bench/
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS) $(filter %.o,$^) $(ROOMS) $(LDLIBS_ALL) -o $@

# --- fuzzing ---------------------------------------------------------------------------------
FUZZ_SAN    := -fsanitize=address,undefined -fno-sanitize-recover=undefined
FUZZ_CFLAGS := $(filter-out -O2 -Werror,$(CFLAGS_ALL)) -O1 -fno-omit-frame-pointer $(FUZZ_SAN) \
	       -Werror=incompatible-function-pointer-types
FUZZ_OBJ    := $(ROOM_OBJ:$(B)/obj/%=$(B)/fuzz/obj/%)

$(B)/fuzz/obj/%.o: %.c $(B)/flags | $(GENERATED)
	@mkdir -p $(@D)
	$(call say,FUZZCC,$@)
	$(Q)$(CLANG) $(FUZZ_CFLAGS) -fsanitize=fuzzer-no-link $(DEPFLAGS) -c $< -o $@

$(B)/fuzz/obj/record/%.o: $(B)/record/%.c $(B)/flags
	@mkdir -p $(@D)
	$(call say,FUZZCC,$@)
	$(Q)$(CLANG) $(FUZZ_CFLAGS) $(DEPFLAGS) -c $< -o $@

$(B)/fuzz/librooms.a: $(FUZZ_OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $(FUZZ_OBJ)

$(B)/fuzz/fuzz_%: $(B)/fuzz/obj/tests/fuzz/fuzz_%.o $(FUZZ_HELP) $(B)/fuzz/librooms.a
	$(call say,LINK,$@)
	$(Q)$(CLANG) $(FUZZ_CFLAGS) -fsanitize=fuzzer $(LDFLAGS) $(filter %.o,$^) \
		$(B)/fuzz/librooms.a $(LDLIBS_ALL) -o $@

.PHONY: fuzz-bin fuzz fuzz-short
fuzz-bin: $(FUZZ_BIN)
fuzz: fuzz-bin					## fuzz each parser for FUZZ_SECONDS (600)
	$(Q)FUZZ_SEED=$(or $(FUZZ_SEED),0) FUZZ_SECONDS=$(or $(FUZZ_SECONDS),600) tests/run fuzz
fuzz-short: fuzz-bin				## fuzz each parser for 20 s, print its coverage
	$(Q)FUZZ_SECONDS=$(or $(FUZZ_SECONDS),20) tests/run fuzz

# --- the lab's programs ----------------------------------------------------------------------
LAB_GO   := tests/lab/go
LAB_MOD  := $(wildcard $(LAB_GO)/go.mod $(LAB_GO)/go.sum)
LAB_OWN  := $(patsubst $(LAB_GO)/%/main.go,%,$(wildcard $(LAB_GO)/*/main.go))
# A relay of 2024: reasons of drops are numbers, and the server is in package derp.
LAB_OLD  := tests/lab/go-1.68
LAB_BIN  := $(if $(LAB_MOD),$(addprefix $(B)/lab/bin/,derper derper-stripped derper-pie derper-1.68 $(LAB_OWN)))
GO       = $(or $(shell tools/setup/go.sh --path 2>/dev/null),$(error no Go fit for the lab: run `make deps`))
GOBUILD  = cd $(LAB_GO) && $(GO) build -buildvcs=false

.PHONY: lab-bin lab demo
lab-bin: $(LAB_BIN)
$(B)/lab/bin/derper: $(LAB_MOD)
	$(call say,GO,$@)
	$(Q)$(GOBUILD) -o $(CURDIR)/$@ tailscale.com/cmd/derper
$(B)/lab/bin/derper-stripped: $(LAB_MOD)
	$(call say,GO,$@)
	$(Q)$(GOBUILD) -ldflags="-s -w" -o $(CURDIR)/$@ tailscale.com/cmd/derper
$(B)/lab/bin/derper-pie: $(LAB_MOD)
	$(call say,GO,$@)
	$(Q)$(GOBUILD) -buildmode=pie -o $(CURDIR)/$@ tailscale.com/cmd/derper
$(B)/lab/bin/derper-1.68: $(LAB_OLD)/go.mod $(LAB_OLD)/go.sum
	$(call say,GO,$@)
	$(Q)cd $(LAB_OLD) && $(GO) build -buildvcs=false -ldflags="-s -w" -o $(CURDIR)/$@ tailscale.com/cmd/derper
$(addprefix $(B)/lab/bin/,$(LAB_OWN)): $(B)/lab/bin/%: $(LAB_GO)/%/main.go $(LAB_MOD)
	$(call say,GO,$@)
	$(Q)$(GOBUILD) $(GOTAGS) -o $(CURDIR)/$@ ./$*
# The client's WebSocket side is behind a build tag in tailscale's own package.
$(B)/lab/bin/derpclient: GOTAGS = -tags ts_debug_websockets

lab: all lab-bin				## the lab's scenarios: real relays in network namespaces (root)
	$(Q)tests/run lab $(if $(K),-k $(K))

demo:						## a region, a broken mesh, the report, the fix (root)
	$(Q)tools/setup/deps.sh
	$(Q)$(MAKE) --no-print-directory all lab-bin
	$(Q)$(PYTHON) tools/demo.py

BENCH := $(B)/rooms $(B)/bench/rates $(B)/bench/calls
.PHONY: bench bench-bin bench-readme
bench-bin: all lab-bin $(BENCH)
bench: bench-bin				## what tracing costs a relay, 20 pairs of runs (root)
	$(Q)$(PYTHON) tools/bench/run.py
bench-readme: bench-bin				## the same, and into tools/bench/README.md
	$(Q)$(PYTHON) tools/bench/run.py --readme

# --- real kernels in qemu --------------------------------------------------------------------
KERNELS_LOAD := $(if $(wildcard tests/kernels/load.c),$(B)/tests/kernels/load)

$(B)/tests/kernels/load: $(B)/obj/tests/kernels/load.o $(ROOMS)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS) $< $(ROOMS) $(LDLIBS_ALL) -o $@

# For another architecture everything is made in a folder of its own, with libraries unpacked from Debian's packages.
.PHONY: kernels-bin test-kernels cross
cross:						## the program for arm64, cross-built in build/arm64
	$(Q)$(PYTHON) tests/kernels/cross.py arm64

kernels-bin: all lab-bin $(KERNELS_LOAD)
test-kernels: kernels-bin			## Debian's kernels from 5.10 to the newest, booted in qemu
	$(Q)tests/kernels/run

# --- everything, as a newcomer or CI runs it -------------------------------------------------
.PHONY: deps test test-all check lint
deps:						## install what building and testing need
	$(Q)tools/setup/deps.sh

test:						## deps, build, unit, fuzz-short, lab
	$(Q)tests/run all

test-all:					## the same with long fuzzing and the slow scenarios
	$(Q)FUZZ_SECONDS=$(or $(FUZZ_SECONDS),600) tests/run all --all

check: lint					## lint, and a build in which warnings are errors
	$(Q)$(MAKE) --no-print-directory STRICT=1 all unit-bin

lint:						## size, licence, include direction, words
	$(Q)$(PYTHON) tests/lint.py

# --- install, clean, help --------------------------------------------------------------------
MAN := $(wildcard doc/*.[1-9])
.PHONY: install clean help
install: $(B)/derptrace				## DESTDIR and PREFIX are honoured
	$(Q)install -D -m 0755 $(B)/derptrace $(DESTDIR)$(PREFIX)/bin/derptrace
	$(Q)for m in $(MAN); do \
		install -D -m 0644 $$m $(DESTDIR)$(PREFIX)/share/man/man$${m##*.}/$${m##*/} || exit 1; \
	done
	$(Q)for f in tools/wireshark/derp.lua doc/report.schema.json; do \
		install -D -m 0644 $$f $(DESTDIR)$(PREFIX)/share/derptrace/$${f##*/} || exit 1; \
	done

clean:						## remove build/
	$(Q)rm -rf $(B)

help:						## this list
	@awk -F'##' '/^[a-z-]+:.*##/ { split($$1, t, ":"); printf "  %-12s %s\n", t[1], $$2 }' Makefile

-include $(USER_OBJ:.o=.d) $(PB_OBJ:.o=.d) $(BPF_OBJ:.o=.d) $(LOAD_OBJ:.o=.d) \
	$(BENCH_OBJ:.o=.d) $(B)/obj/tools/bench/rates.d $(B)/obj/tools/bench/calls.d \
	$(B)/bench/calls.bpf.d $(KERNELS_LOAD:$(B)/%=$(B)/obj/%.d) \
	$(UNIT_SRC:%.c=$(B)/obj/%.d) $(UNIT_HELP:.o=.d) \
	$(FUZZ_OBJ:.o=.d) $(FUZZ_HELP:.o=.d) \
	$(FUZZ_SRC:%.c=$(B)/fuzz/obj/%.d)

.SECONDARY:
