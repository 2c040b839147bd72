#!/usr/bin/env bash
# Checks the form of the code and runs all tests, as the user who calls it and,
# for root, once more as an ordinary user. Installs what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2
user=sandlock-test

# What the tests run, as COMMAND:PACKAGE of Debian and Ubuntu. Java is used where
# it is there.
commands=(
	curl:curl wget:wget git:git python3:python3 node:nodejs npm:npm openssl:openssl redis-server:redis-server
	redis-cli:redis-tools ssh:openssh-client /usr/sbin/sshd:openssh-server gcc:gcc javac:openjdk-17-jdk-headless musl-gcc:musl-tools dig:dnsutils host:bind9-host
	nc:netcat-openbsd perl:perl ruby:ruby php:php-cli gnutls-cli:gnutls-bin /usr/bin/cargo:cargo mvn:maven chromium-headless-shell:chromium-headless-shell
	ip:iproute2 ping:iputils-ping traceroute:traceroute logger:bsdutils busybox:busybox strace:strace setpriv:util-linux getent:libc-bin
)
packages=(python3-venv python3-requests python3-httpx python3-aiohttp python3-pycurl python3-psutil python3-ifaddr
	python3-websockets python3-grpcio python3-pip libc6-dev) # they have no command of their own

missing=()
for c in "${commands[@]}"; do
	command -v "${c%%:*}" >/dev/null || missing+=("${c##*:}")
done
if command -v dpkg-query >/dev/null; then
	for p in "${packages[@]}"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
	done
fi
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
if [ ${#missing[@]} -gt 0 ]; then
	if ! command -v apt-get >/dev/null; then
		echo "install what provides these Debian packages: ${missing[*]}" >&2
		exit 1
	fi
	export DEBIAN_FRONTEND=noninteractive
	"${as_root[@]}" apt-get update -qq
	"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

command -v uv >/dev/null || "${as_root[@]}" /usr/bin/python3 -m pip install --quiet --break-system-packages --root-user-action ignore uv

unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
	echo "gofmt is needed for: $unformatted" >&2
	exit 1
fi
go vet ./...
GOARCH=arm64 go vet ./...
if go run "$staticcheck" -version >/dev/null 2>&1; then
	go run "$staticcheck" ./...
else
	echo "staticcheck cannot be fetched here: not run" >&2
fi

# The end-to-end tests run the built program, which -race does not reach.
go list ./... | grep -v /e2e | xargs go test -count=1 -race -timeout 20m
go test -count=1 -timeout 20m ./e2e/...

if [ "$(id -u)" -eq 0 ]; then
	id "$user" >/dev/null 2>&1 || useradd --create-home "$user"
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	chmod 755 "$work"
	CGO_ENABLED=0 go build -o "$work/" ./cmd/... ./examples/...
	echo "once more, as an ordinary user:"
	SANDLOCK_BINARY="$work/sandlock" go test -count=1 -timeout 20m \
		-exec "bash $PWD/scripts/as-ordinary-user.sh $user $work" ./...
fi
