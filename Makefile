# What a person types. `make help` lists it. Each step is a script or one cargo command.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# Every recipe runs with the set-up's programs first on PATH.
env := . scripts/env.sh;

# The release that the stack runs; the extension is tested on others, too.
stack_postgres := $(shell . scripts/versions.env; echo $$POSTGRES_MAJOR)

# The documentation is for who works on the code, so it shows private items, and may link to them.
doc_flags := -D warnings -A rustdoc::private_intra_doc_links
doc := cargo doc --locked --quiet --no-deps --document-private-items

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

.PHONY: setup
setup: ## install what is missing (dev, check and test do it first)
	@scripts/setup

.PHONY: dev
dev: setup ## run Keepsake here: PostgreSQL, the worker, an example application
	@scripts/install-extension $(stack_postgres)
	@scripts/build-worker
	@$(env) cargo build --quiet --package keepsake-tests --bin keepsake-dev
	@$(env) exec "$${CARGO_TARGET_DIR:-target}/debug/keepsake-dev" run

.PHONY: reset
reset: setup ## throw away what `make dev` keeps between runs
	@$(env) cargo run --quiet --package keepsake-tests --bin keepsake-dev -- reset

.PHONY: check
check: setup ## formatting, lints, documentation, dependencies, versions
	@echo "==> Versions in step"
	@scripts/check-versions
	@echo "==> HTTP reference up to date"
	@$(env) scripts/http-reference --check
	@echo "==> The client: types up to date and right"
	@scripts/client-types --check
	@scripts/build-client
	@$(env) tsc --project client/tests
	@echo "==> The guide to embedding shows the files that are tested"
	@scripts/embedding-guide --check
	@$(env) tsc --project examples/tests
	@echo "==> The tests that the guarantees name are there"
	@scripts/check-guarantees
	@echo "==> The worker's settings are those of the documentation"
	@scripts/check-settings
	@echo "==> Imports go one way"
	@scripts/check-imports edge/src
	@echo "==> The migrations give what migrations/schema has"
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
	@$(env) cargo clippy --locked --quiet --all-targets --package keepsake-shared --package keepsake-schema --package keepsake-cli --package keepsake-tests -- -D warnings
	@$(env) cargo clippy --locked --quiet --all-targets --package keepsake -- -D warnings
	@echo "==> The extension for the PostgreSQL releases that it is not tested on"
	@scripts/check-other-releases
	@echo "==> Lints, wasm32"
	@$(env) cargo clippy --locked --quiet --target wasm32-unknown-unknown --package keepsake-shared --package keepsake-edge --package keepsake-rules --package keepsake-bench-presign -- -D warnings
	@echo "==> Documentation"
	@$(env) RUSTDOCFLAGS="$(doc_flags)" $(doc) --package keepsake-shared --package keepsake-schema --package keepsake-cli --package keepsake --package keepsake-tests
	@$(env) RUSTDOCFLAGS="$(doc_flags)" $(doc) --target wasm32-unknown-unknown --package keepsake-edge --package keepsake-rules --package keepsake-bench-presign

.PHONY: test
test: check test-shared test-worker test-stack ## everything that CI runs

.PHONY: bench
bench: setup ## what signing, the extension and the worker cost, as ratios side by side
	@scripts/install-extension $(stack_postgres)
	@scripts/build-worker
	@echo "==> Benchmarks: signing"
	@$(env) cargo bench --locked --quiet --package keepsake-shared --bench presign
	@echo "==> Benchmarks: the extension"
	@$(env) cargo bench --locked --quiet --package keepsake-tests --bench engine
	@$(env) cargo bench --locked --quiet --package keepsake-tests --bench purge
	@echo "==> Benchmarks: the worker"
	@$(env) scripts/build-presign-bench
	@$(env) KEEPSAKE_WORKER_BUILT=1 wrangler check startup --outfile target/startup.cpuprofile | grep -E "Profile window|Active"
	@$(env) cargo bench --locked --quiet --package keepsake-tests --bench edge

.PHONY: test-shared
test-shared: setup ## the rules: units, published vectors, properties; what makes the migrations
	@echo "==> Tests of the shared rules"
	@$(env) cargo test --locked --quiet --package keepsake-shared --package keepsake-schema --package keepsake-cli

.PHONY: test-worker
test-worker: setup ## the worker's own units
	@echo "==> Tests of the worker"
	@$(env) cargo test --locked --quiet --package keepsake-edge

.PHONY: test-stack
test-stack: setup ## extension, migrations, the whole path over HTTP: on real parts
	@scripts/install-extension
	@scripts/build-worker
	@scripts/build-examples
	@echo "==> Tests on real parts"
	@$(env) cargo test --locked --quiet --package keepsake-tests --tests

# The build for it lies apart, or each would build the other's dependencies anew.
.PHONY: test-asserts
test-asserts: setup ## the extension on a PostgreSQL that checks its own assumptions (built once, ten minutes)
	@scripts/setup-asserts
	@CARGO_TARGET_DIR=$${CARGO_TARGET_DIR:-target}/asserts scripts/with-asserts scripts/install-extension $(stack_postgres)
	@echo "==> Tests on a server with assertions"
	@$(env) scripts/with-asserts cargo test --locked --quiet --package keepsake-tests --test extension --test model --test fuzz
	@echo "==> A golden script on a server that forgets its caches at every turn"
	@$(env) scripts/with-asserts cargo test --locked --quiet --package keepsake-tests --test extension -- --ignored without_caches
