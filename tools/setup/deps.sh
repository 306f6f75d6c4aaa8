#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Installs what building, testing and the lab need on Debian 12. Says what it installs; does nothing where all is there.
# `deps.sh kernels` and `deps.sh kernels-arm64` install what tests/kernels needs, and that alone; `deps.sh libraries`
# says what is linked with.
set -eu
cd "$(dirname "$0")/../.."

LIBRARIES='libc6-dev libbpf-dev libelf-dev zlib1g-dev libpcap-dev libssl-dev libprotobuf-c-dev libjansson-dev
	libmicrohttpd-dev libncurses-dev librdkafka-dev libmnl-dev uthash-dev libsodium-dev libcmocka-dev'
BUILD='gcc make git clang llvm bpftool pkg-config binutils protobuf-compiler protobuf-c-compiler'
TESTS='libclang-rt-14-dev clang-format mandoc
	python3 python3-venv python3-jsonschema
	iproute2 nftables iptables procps openssl ca-certificates curl jq xxd tcpdump tshark'
KERNELS='qemu-system-x86'
KERNELS_ARM64='qemu-system-arm gcc-aarch64-linux-gnu'

case ${1:-} in
kernels) WANTED=$KERNELS ;;
kernels-arm64) WANTED=$KERNELS_ARM64 ;;
libraries)
	# shellcheck disable=SC2086
	printf '%s\n' $LIBRARIES
	exit 0
	;;
*) WANTED="$BUILD $LIBRARIES $TESTS" ;;
esac

missing() {
	for p in $WANTED; do
		case $(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null) in
		installed) ;;
		*) printf '%s ' "$p" ;;
		esac
	done
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		echo "deps: not root, and no sudo: run as root: $*" >&2
		exit 1
	fi
}

apt_install() {
	as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "$@" >"$log" 2>&1
}

if ! command -v dpkg-query >/dev/null; then
	echo "deps: made for Debian 12; here, install what stands for: $(echo $WANTED)" >&2
	exit 1
fi
want=$(missing)
if [ -n "$want" ]; then
	echo "deps: installing $want" >&2
	log=$(mktemp)
	trap 'rm -f "$log"' EXIT
	# The lists may be old or not there at all: asked for again once, and only then.
	# shellcheck disable=SC2086
	apt_install $want || { as_root apt-get update -qq >&2 && apt_install $want; } || {
		cat "$log" >&2
		echo "deps: apt-get could not install: $want" >&2
		exit 1
	}
fi
[ -z "${1:-}" ] || exit 0

# Without a Go the lab is skipped, and said so; everything else builds and runs.
tools/setup/go.sh || echo 'deps: no Go could be had: the lab will be skipped' >&2
if go=$(tools/setup/go.sh --path); then
	for mod in tests/lab/go tests/lab/go-1.68; do
		(cd "$mod" && "$go" mod download) ||
			echo "deps: the Go modules of $mod could not be had: the lab will be skipped" >&2
	done
fi
