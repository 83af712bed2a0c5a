# What a person types. `make help` lists it. Each step is a script or one cargo command.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# This file again, after the set-up.
again := $(MAKE) --no-print-directory is_set_up=1

# Every recipe puts the programs of the set-up first on PATH.
env := . scripts/env.sh;

# The tests of the stack wait for its programs as much as they compute.
threads := RUST_TEST_THREADS=$$(($$(nproc) + 1))

# The PostgreSQL release that `make dev` runs. The extension is tested on others, too.
stack_postgres := $(shell . scripts/versions.env; echo $$POSTGRES_MAJOR)

# The API documentation is for people who work on the code: it shows private items and may link to them.
doc_flags := -D warnings -A rustdoc::private_intra_doc_links
doc := cargo doc --locked --quiet --no-deps --document-private-items

# The end-to-end tests that run on the native server, too. Others pass there as well, and take longer: `multipart::`, `slow_bodies::`.
# The rest speaks of what only the worker has: its queue, its own conversation with PostgreSQL, its memory.
native_stories := native:: story:: object_urls:: downloads:: published_keys:: rate_limits:: quota:: secrets_in_logs::

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

.PHONY: setup
setup: ## install what is missing to check, test and benchmark (they do it first)
	@$(if $(is_set_up),true,scripts/setup test)

.PHONY: setup-dev
setup-dev: ## install what is missing to run and change Keepsake (`make dev` does it first)
	@scripts/setup dev

.PHONY: dev
dev: setup-dev ## run Keepsake here: PostgreSQL, the worker, an example application
	@scripts/install-extension $(stack_postgres)
	@scripts/build-worker
	@$(env) cargo build --quiet --package keepsake-tests --bin keepsake-dev
	@$(env) exec "$${CARGO_TARGET_DIR:-target}/debug/keepsake-dev" run

.PHONY: reset
reset: setup-dev ## delete the data that `make dev` keeps between runs
	@$(env) cargo run --quiet --package keepsake-tests --bin keepsake-dev -- reset

.PHONY: check
check: setup ## formatting, lints, documentation, dependencies, versions
	@echo "==> Versions agree"
	@scripts/check-versions
	@echo "==> The HTTP reference is up to date"
	@$(env) scripts/http-reference --check
	@echo "==> The client's types are up to date and compile"
	@scripts/client-types --check
	@scripts/build-client
	@$(env) tsc --project client/tests
	@echo "==> The client can be published"
	@scripts/check-client-package
	@echo "==> The embedding guide shows the tested files"
	@scripts/embedding-guide --check
	@$(env) tsc --project examples/tests
	@echo "==> The tests named in the guarantees exist"
	@scripts/check-guarantees
	@echo "==> The rooms of the extension use each other in one direction"
	@$(env) scripts/check-rooms
	@echo "==> The set-up goes on where Debian lacks an optional PostgreSQL"
	@scripts/check-optional-releases
	@echo "==> compose.yaml agrees with what it refers to"
	@tests/packages/compose.py check
	@echo "==> Links in the documentation resolve"
	@scripts/check-links
	@echo "==> The documentation lists the worker's settings"
	@scripts/check-settings
	@echo "==> The modules of the service and the worker use each other in one direction"
	@scripts/check-imports service/src
	@scripts/check-imports edge/src
	@scripts/check-imports server/src
	@echo "==> The migrations match migrations/schema"
	@$(env) cargo run --locked --quiet --package keepsake-schema -- check
	@echo "==> Formatting"
	@$(env) cargo fmt --all --check
	@$(env) biome ci --error-on-warnings client examples page
	@echo "==> Types of the page"
	@$(env) tsc --project page
	@$(env) tsc --project page/tests
	@echo "==> Dependencies: licences, sources, bans"
	@$(env) cargo fetch --locked --quiet
	@$(env) cargo-deny --offline --locked check --hide-inclusion-graph bans licenses sources
	@echo "==> Dependencies: unused"
	@$(env) cargo-machete
	@echo "==> Lints"
	@$(env) cargo clippy --locked --quiet --all-targets --package keepsake-shared --package keepsake-service --package keepsake-server --package keepsake-schema --package keepsake-cli --package keepsake-tests -- -D warnings
	@$(env) cargo clippy --locked --quiet --all-targets --package keepsake -- -D warnings
	@echo "==> Lints, the newest PostgreSQL release"
	@scripts/check-newest-release
	@echo "==> Lints, wasm32"
	@$(env) cargo clippy --locked --quiet --target wasm32-unknown-unknown --package keepsake-shared --package keepsake-service --package keepsake-edge --package keepsake-rules --package keepsake-bench-presign -- -D warnings
	@echo "==> Documentation"
	@$(env) RUSTDOCFLAGS="$(doc_flags)" $(doc) --package keepsake-shared --package keepsake-service --package keepsake-server --package keepsake-schema --package keepsake-cli --package keepsake --package keepsake-tests
	@$(env) RUSTDOCFLAGS="$(doc_flags)" $(doc) --target wasm32-unknown-unknown --package keepsake-edge --package keepsake-rules --package keepsake-bench-presign

# A compiler often keeps one core busy: what checks and what builds run side by side. Both need the client.
.PHONY: test
test: setup ## everything that CI runs
	@scripts/build-client
	@scripts/side-by-side "$(again) check" "$(again) build-stack"
	@$(again) test-shared test-worker test-stack

.PHONY: build-stack
build-stack: setup ## build what the tests run: the extension for each release, the worker, the examples
	@scripts/install-extension
	@scripts/build-worker
	@scripts/build-examples

.PHONY: setup-package
setup-package: ## install what is missing to build packages and test them (they do it first)
	@scripts/setup package

.PHONY: package
package: setup-package ## build the packages of a release, in target/packages
	@scripts/package

.PHONY: test-packages
test-packages: package ## install and run the packages, in a Debian of their own
	@scripts/test-packages

.PHONY: docs
docs: ## build the documentation as a site, in target/docs
	@scripts/setup docs
	@scripts/check-links
	@$(env) mdbook build
	@echo "==> Open target/docs/index.html"

.PHONY: bench
bench: setup ## measure signing, the extension and the worker against alternatives
	@scripts/install-extension $(stack_postgres)
	@scripts/build-worker
	@echo "==> Benchmarks: signing"
	@$(env) cargo bench --locked --quiet --package keepsake-shared --bench presign
	@echo "==> Benchmarks: the extension"
	@$(env) cargo bench --locked --quiet --package keepsake-tests --bench engine
	@$(env) cargo bench --locked --quiet --package keepsake-tests --bench purge
	@$(env) cargo bench --locked --quiet --package keepsake-tests --bench archive
	@echo "==> Benchmarks: the worker and the native server"
	@$(env) scripts/build-presign-bench
	@$(env) KEEPSAKE_WORKER_BUILT=1 wrangler check startup --outfile target/startup.cpuprofile | grep -E "Profile window|Active"
	@$(env) cargo build --locked --quiet --release --package keepsake-cli
	@$(env) cargo bench --locked --quiet --package keepsake-tests --bench service

.PHONY: test-shared
test-shared: setup ## test the shared rules, the migration generator and the command line
	@echo "==> Tests of the shared rules"
	@$(env) cargo test --locked --quiet --package keepsake-shared --package keepsake-schema --package keepsake-cli

.PHONY: test-worker
test-worker: setup ## unit tests of the service, the worker and the native server
	@echo "==> Tests of the service, the worker and the native server"
	@$(env) cargo test --locked --quiet --package keepsake-service --package keepsake-edge --package keepsake-server

.PHONY: test-stack
test-stack: build-stack ## test the extension, the migrations and HTTP against a real stack
	@echo "==> Tests against a real stack"
	@$(env) $(threads) cargo test --locked --quiet --package keepsake-tests --tests
	@echo "==> HTTP, end to end, on the native server"
	@$(env) cargo build --locked --quiet --package keepsake-cli
	@$(env) $(threads) KEEPSAKE_HOST=native cargo test --locked --quiet --package keepsake-tests --test e2e -- $(native_stories)

.PHONY: test-stores
test-stores: setup ## the end-to-end tests on both hosts, with each store that they have
	@scripts/install-extension $(stack_postgres)
	@scripts/build-worker
	@$(env) cargo build --locked --quiet --package keepsake-cli
	@scripts/test-stores

# It has its own target folder. In a shared one, each build would invalidate the other's dependencies.
.PHONY: test-asserts
test-asserts: setup ## test the extension on a PostgreSQL with assertions (built once, ten minutes)
	@scripts/setup-asserts
	@CARGO_TARGET_DIR=$${CARGO_TARGET_DIR:-target}/asserts scripts/with-asserts scripts/install-extension $(stack_postgres)
	@echo "==> Tests on a server with assertions"
	@$(env) scripts/with-asserts cargo test --locked --quiet --package keepsake-tests --test extension --test model --test fuzz
	@echo "==> A golden script on a server that discards its caches whenever it can"
	@$(env) scripts/with-asserts cargo test --locked --quiet --package keepsake-tests --test extension -- --ignored without_caches

.PHONY: test-postgres-suites
test-postgres-suites: setup ## PostgreSQL's own suites on managed tables (POSTGRES_SOURCE=the folder of its source; half an hour)
	@scripts/install-extension $(stack_postgres)
	@$(env) tests/postgres-suites/run "$(POSTGRES_SOURCE)"

.PHONY: test-orms
test-orms: setup ## statements and the suites of two ORMs where every table is managed, beside PostgreSQL as it is
	@scripts/setup-orms
	@scripts/install-extension
	@echo "==> Statements on plain and on managed tables"
	@$(env) cargo test --locked --quiet --package keepsake-tests --test differential -- --nocapture
	@echo "==> The ORMs' own suites"
	@$(env) cargo test --locked --quiet --package keepsake-tests --test orms -- --ignored --nocapture --test-threads=1
