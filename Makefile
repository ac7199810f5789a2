# The commands of this repository. `make help` lists them.
SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME    ?= 30s
# Flags of the demo, as in: make demo DEMO="--duration 60s --rate 200 --db mysql --broker apache"
DEMO        ?=
# Flags of each demo of the matrix, and of its go test.
MATRIX      ?= --duration 20s --rate 100
MATRIX_TEST ?=

# What a demo with these flags has to have installed: little, so that the first one starts soon.
DEMO_NEEDS := mariadb $(if $(findstring mysql,$(DEMO)),mysql) $(if $(findstring apache,$(DEMO)),kafka)

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do printf '  %-14s %s\n' "$$name" "$$text"; done

.PHONY: deps
deps: ## install what the tests need: MariaDB, MySQL 9.x, Redis, a C compiler
	@testbench/install.sh mariadb mysql redis gcc

.PHONY: build
build: ## build every program into bin/
	@mkdir -p bin
	go build -o bin/ ./capture/cmd/... ./functions/cmd/... ./testbench/cmd/...

.PHONY: demo
demo: ## two datacenters on this machine, traffic on both sides, a verdict; flags: DEMO="--duration 60s"
	@testbench/install.sh $(DEMO_NEEDS)
	@$(MAKE) --no-print-directory build
	bin/demo $(DEMO)

.PHONY: test
test: deps build ## every test, on real MySQL and MariaDB, under the race detector
	go test -race -cover -timeout 30m ./...

.PHONY: test-matrix
test-matrix: build ## demo and end-to-end tests on {MySQL, MariaDB} x {embedded Kafka, Apache Kafka}
	@testbench/install.sh mariadb mysql redis kafka
	@for db in mysql mariadb; do for broker in embedded apache; do \
		echo "== demo: $$db, $$broker broker"; \
		bin/demo --db $$db --broker $$broker $(MATRIX); \
	done; done
	TANDEM_TEST_KAFKA=embedded,apache go test -count=1 -timeout 60m $(MATRIX_TEST) ./testbench/...

.PHONY: acceptance
acceptance: deps build ## the long proofs: 300 kills, 60 s at 500 tx/s on both sides, lag without a WAN
	TANDEM_TEST_KILL_ROUNDS=300 go test -count=1 -timeout 60m -v -run 'TestKillPrograms' ./testbench/e2e
	TANDEM_TEST_STEADY_SECONDS=60 TANDEM_TEST_STEADY_RATE=500 go test -count=1 -timeout 30m -v -run 'TestSteady' ./testbench/e2e
	TANDEM_TEST_LAG=1 go test -count=1 -timeout 30m -v -run 'TestLag' ./testbench/e2e

.PHONY: bench
bench: ## the hot paths' Go benchmarks, then commit-to-visible lag without a WAN
	@testbench/install.sh mariadb
	@$(MAKE) --no-print-directory build
	go test -run '^$$' -bench . -benchmem ./shared/event ./shared/kafkace ./shared/writeset ./functions/apply
	bin/demo --latency 0s --jitter 0s --rate 100 --duration 20s

.PHONY: images
images: ## container images as tar files in out/images, without an engine or a registry
	go run ./testbench/cmd/images

.PHONY: lint
lint: ## formatting, vet, staticcheck, import directions, go.mod, generated files
	@bad=$$(gofmt -l .); [ -z "$$bad" ] || { echo "gofmt -w these: $$bad"; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...
	.ci/imports
	go mod tidy -diff
	.ci/generated

.PHONY: generate
generate: ## rewrite the files that are made from code
	go generate ./...

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (30s)
	@grep -rlE '^func Fuzz' --include='*_test.go' . | while read -r file; do \
		sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' "$$file" | while read -r target; do \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")"; \
		done; \
	done

.PHONY: cover
cover: deps build ## test coverage over all packages, into coverage.out
	go test -timeout 30m -coverpkg=./... -coverprofile=coverage.out ./...
	go tool cover -func=coverage.out | tail -n 1

.PHONY: clean
clean: ## remove what was built; what was downloaded stays in the cache
	rm -rf bin out coverage.out
