# make          builds the programs as static files, ./sandlock and ./sandlock-proxy
# make install  puts both into $(DESTDIR)$(PREFIX)/bin
# make test     installs what the tests need and runs them all
# make bench    measures, bare and sandboxed side by side
GO ?= go
PREFIX ?= /usr/local

.PHONY: build install test bench clean
build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o sandlock ./cmd/sandlock
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o sandlock-proxy ./cmd/sandlock-proxy

install: build
	install -D -m 0755 sandlock $(DESTDIR)$(PREFIX)/bin/sandlock
	install -D -m 0755 sandlock-proxy $(DESTDIR)$(PREFIX)/bin/sandlock-proxy

test:
	bash scripts/test.sh

bench:
	$(GO) run ./bench

clean:
	rm -f sandlock sandlock-proxy
