# Two commands matter: `make demo` shows the product, `make test` proves it. Each installs what it lacks and says so.

.DEFAULT_GOAL := help
CARGO ?= cargo
# Where the demo captures: empty plays the sample traffic; LIVE=lo captures that interface (root).
LIVE ?=
SECONDS_LIVE ?= 30

.PHONY: help demo test bench lint fuzz install build

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: ## install the packages that building needs
	@integration/install.sh build

build: install ## build the services and the command
	$(CARGO) build --workspace --bins

demo: build ## three services, an embedded broker, sample traffic (LIVE=lo: live traffic, root)
	@target/debug/wirecall demo $(if $(LIVE),--live $(LIVE) --seconds $(SECONDS_LIVE),)

test: ## all tests, with real Kafka, registry, kube-apiserver and nginx; totals last
	@integration/install.sh build test
	@integration/test.sh

bench: ## speed and memory, with peers in the same run (tshark, suricata)
	@integration/install.sh build bench
	@integration/bench/run.sh

lint: ## formatting, clippy, licences and advisories, the chart
	@integration/install.sh build lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) deny --log-level error check bans licenses sources
	@integration/advisories.sh
	deploy/check.sh

fuzz: ## the fuzz functions of the cores, for FUZZ_SECONDS each (default 60)
	@integration/install.sh build
	@integration/fuzz.sh
