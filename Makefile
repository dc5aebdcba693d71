# "make" alone lists the targets. All of them work from a clean clone, as root or not, with or without a terminal.

GO      ?= go
DURATION ?= 30m
SHELL   := /bin/sh
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X standfast/cli.version=$(VERSION)

# Where goroutines share memory. The race detector costs ten times the time, so the rest is left out by name.
# The web page's tests wait for a browser, not for each other.
RACE := agent beat guard hooks playground/load relay router store/mem test/checker
RACE := ./api ./api/client $(addprefix ./,$(addsuffix /...,$(wildcard $(RACE))))

.DEFAULT_GOAL := help
.PHONY: all build packages guard demo test race bench bench-lab e2e e2e-lab e2e-both lab soak test-17 e2e-17 lint format check-go clean help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

all: build

build: guard ## build bin/standfast
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/standfast ./cmd/standfast

# nfpm and what it needs stand in a module of their own. Versions sort: without a tag the number of commits comes first. The same
# sources give the same packages, for the times in them are the commit's.
PACKAGE_VERSION = $(shell git describe --tags --match 'v[0-9]*' --dirty=+dirty 2>/dev/null | sed 's/^v//; s/-/+/g' | grep . || \
	echo "0.0.$$(git rev-list --count HEAD)+$$(git describe --always --dirty=+dirty)")

packages: build ## build .deb and .rpm into bin/
	rm -rf bin/package bin/standfast_*.deb bin/standfast-*.rpm
	mkdir -p bin/package/completion
	bin/standfast manual bin/package/man
	gzip -9n bin/package/man/*.1
	for shell in bash zsh fish; do bin/standfast completion $$shell >bin/package/completion/standfast.$$shell || exit 1; done
	$(GO) build -C packaging/nfpm -o ../../bin/nfpm github.com/goreleaser/nfpm/v2/cmd/nfpm
	for kind in deb rpm; do \
		ARCH=$$($(GO) env GOARCH) PACKAGE_VERSION='$(PACKAGE_VERSION)' SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) \
			bin/nfpm package -f packaging/nfpm.yaml -p $$kind -t bin || exit 1; \
	done

# The guard is a small program of its own, embedded in the big one, so it is built first. Not stamped with a version: the
# same sources give the same bytes.
guard: check-go
	@if [ -d guard/standfast-guard ]; then \
		CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o guard/bin/standfast-guard ./guard/standfast-guard; \
	fi

check-go:
	@sh scripts/check-go.sh

demo: check-go ## start three real nodes here, kill the primary, show what happened
	@sh scripts/install-deps.sh demo
	@$(MAKE) --no-print-directory build
	bin/standfast playground --demo $(DEMOFLAGS)

test: check-go ## everything that needs no whole machines
	@sh scripts/install-deps.sh test
	@$(MAKE) --no-print-directory guard lint
	$(GO) test -vet=off -p 2 -timeout 8m ./...
	@$(MAKE) --no-print-directory race

race: guard
	$(GO) test -race -vet=off -p 2 -timeout 8m $(RACE)

lint: guard format ## gofmt, go vet
	$(GO) vet -tags e2e ./...

format:
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then \
		echo "not formatted (gofmt -w them):" $$unformatted >&2; exit 1; fi

bench: check-go ## measure failovers, throughput and cost, and draw the plots (half an hour, quiet machine)
	@sh scripts/install-deps.sh test
	@$(MAKE) --no-print-directory build
	$(GO) run ./test/bench $(BENCHFLAGS)

# Results that are there already (docs/bench/peers.jsonl, paths.jsonl) are kept: an interrupted run is resumed, and one that is to be made
# anew needs them removed first.
bench-lab: check-go ## measure faults on whole machines, beside repmgr's and Patroni's stacks (forty minutes, as root, quiet machine)
	@sh scripts/install-deps.sh lab
	@$(MAKE) --no-print-directory build
	$(GO) run ./test/bench -only peers,paths,report -resume $(BENCHFLAGS)

# Scenarios mostly wait, so that some go on beside each other where there are processors for it: LANES clusters at a time. Two at a time on
# two processors take as long as one after the other, and what they see is mostly each other.
LANES ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$(( n > 3 ? n / 2 : 1 )))

# What of the matrix is left to "make lab", for it takes long: every process killed and stopped, faults of a standby and of the store's
# leader, much to write, most of the pairs, servers that are taken over, HAProxy and Keepalived, members that come and go.
LAB_ONLY := ^Test(KilledProcess|StoppedProcess|StruckStandby|StruckLeader|DelayedFrames|RollingPowerCycle|StandbyFarBehind|ReturnAfterManyWrites|AdoptOneServer|ClassicPlane|Members)$$

# The whole machines are Debian 13 with PostgreSQL 17, or, with STANDFAST_NETLAB_SUITE=bookworm, Debian 12 with 15. An image is
# made once (80 s) and kept in STANDFAST_NETLAB_CACHE, or /var/cache/standfast/netlab. Each part prints what it runs on.
e2e: check-go ## scenarios on a real cluster here, then (as root) on whole machines (STANDFAST_NETLAB_SUITE=bookworm: Debian 12)
	@sh scripts/install-deps.sh $$([ "$$(id -u)" -eq 0 ] && echo lab || echo test)
	@$(MAKE) --no-print-directory build
	@echo "e2e: starts real members (PostgreSQL, etcd) on loopback addresses, kills and freezes them, counts lost commits"
	$(GO) test -tags e2e -count 1 -timeout 10m ./vip ./redirect ./deploy/probe ./test/floating
	$(GO) test -tags e2e -count 1 -timeout 40m -parallel $(LANES) -v ./test/system
	@echo "e2e: boots whole Debian machines (systemd-nspawn) and takes power and cables away from them"
	$(GO) test -tags e2e -count 1 -timeout 20m -v -p 1 ./test/netlab ./test/netlab/vm
	@$(MAKE) --no-print-directory e2e-lab

# e2e-lab is the part of e2e that one image of a Debian is for.
e2e-lab: guard
	$(GO) test -tags e2e -count 1 -timeout 40m -v -skip '$(LAB_ONLY)' ./test/netlab/site
	$(GO) test -tags e2e -count 1 -timeout 30m -v -skip '$(LAB_ONLY)' ./test/netlab/deployed
	@echo "e2e: make lab runs the whole matrix of faults on them, make soak random ones"

e2e-both: ## e2e on this machine's PostgreSQL and on 17, whole machines of Debian 12 and 13 (as root)
	STANDFAST_NETLAB_SUITE=bookworm $(MAKE) --no-print-directory e2e
	$(MAKE) --no-print-directory e2e-17
	STANDFAST_NETLAB_SUITE=trixie $(MAKE) --no-print-directory e2e-lab

lab: check-go ## every scenario on whole machines, the long ones too (as root; LABFLAGS='-run REGEXP', '-shuffle on -count 10')
	@sh scripts/install-deps.sh lab
	@$(MAKE) --no-print-directory guard
	STANDFAST_NETLAB_LONG=1 $(GO) test -tags e2e -count 1 -timeout 0 -v -p 1 $(LABFLAGS) ./test/netlab/site ./test/netlab/deployed

# The same SEED draws the same faults. MODE=quiet, loss and overload are runs in which nobody may take over.
soak: check-go ## random faults on whole machines for DURATION=30m, or MODE=quiet|loss|overload (as root; SEED=…)
	@sh scripts/install-deps.sh lab
	@$(MAKE) --no-print-directory guard
	STANDFAST_SOAK=$(DURATION) STANDFAST_SOAK_SEED=$(SEED) STANDFAST_SOAK_MODE=$(MODE) \
		$(GO) test -tags e2e -count 1 -timeout 0 -v -run '^TestSoak$$' ./test/netlab/site

# PostgreSQL 17, in a Debian 13 of its own; the network and everything else is this machine's. Needs root.
test-17: build ## the packages that touch PostgreSQL, on PostgreSQL 17 (as root; debootstraps a Debian 13 once)
	@sh scripts/debian13.sh test

e2e-17: build ## the scenarios on PostgreSQL 17 (as root; likewise)
	@sh scripts/debian13.sh e2e -test.parallel $(LANES)

clean: ## remove what was built
	rm -rf bin guard/bin/standfast-guard docs/model/build

-include docs/model/model.mk
