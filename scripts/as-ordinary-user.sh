#!/usr/bin/env bash
# as-ordinary-user.sh USER DIR TESTBINARY ARGS...: runs a test binary for
# `go test -exec` as USER. The user may read neither go's working directory nor,
# perhaps, the source: so the binary and the package's testdata are copied into
# DIR, which must be readable.
set -euo pipefail
user=$1 dir=$(mktemp -d -p "$2") binary=$3
shift 3
trap 'rm -rf "$dir"' EXIT
install -m 0755 "$binary" "$dir/test.bin"
[ ! -d testdata ] || cp -r testdata "$dir/"
chown -R "$user:" "$dir"
cd "$dir"
home=$(getent passwd "$user" | cut -d: -f6)
# No exec: the trap has to run.
setpriv --reuid "$user" --regid "$user" --init-groups env HOME="$home" USER="$user" LOGNAME="$user" TMPDIR=/tmp ./test.bin "$@"
