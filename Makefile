# The commands of the house. Each sets up what it needs and takes seconds when nothing changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE_SOURCES := $(shell find crates -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock pyproject.toml \
	src/tickplant/_native.pyi

.PHONY: bench-peers setup test check demo peers proof test-ktls bench lock clean

setup: $(VENV)/.native  ## virtual environment and native module

$(VENV)/.packages: requirements-dev.txt
	@command -v cargo >/dev/null || { echo "tickplant: cargo is missing: install Rust (https://rustup.rs), then try again"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "tickplant: Python 3.11 or newer is needed; set PYTHON="; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --require-hashes -r requirements-dev.txt
	@touch $@

$(VENV)/.native: $(VENV)/.packages $(NATIVE_SOURCES)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pip install -q --no-deps --no-build-isolation -e .
	@touch $@

test: check  ## every test but the long ones
	cargo test -q -p tickplant-core
	KTLS_MEGABYTES=2 tests/ktls/run.sh --cached || test $$? = 77
	@# Storms need a processor and the other tests mostly wait: two minutes of them beside the others cost next to none.
	@# They are ended with the rest: what runs in the background of a shell does not hear Ctrl-C.
	said=$$(mktemp); nice $(BIN)/pytest -s -m storm > $$said 2>&1 & storms=$$!; trap "kill $$storms" INT TERM; \
	$(BIN)/pytest -m "not proof and not storm"; failed=$$?; \
	wait $$storms || failed=1; cat $$said; rm $$said; exit $$failed

check: setup  ## types, style and the house itself
	cargo fmt --check
	cargo clippy -q --workspace --all-targets -- -D warnings
	$(BIN)/ruff check src tests examples bench
	$(BIN)/ruff format -q --check src tests examples bench
	$(BIN)/mypy
	$(BIN)/pytest tests/house

demo: setup  ## simulated venues, the plant and the live view
	$(BIN)/tickplant demo

peers: setup $(VENV)-peers/.packages  ## foreign clients, in an environment of their own

$(VENV)-peers/.packages: requirements-peers.txt
	test -x $(VENV)-peers/bin/python || $(PYTHON) -m venv $(VENV)-peers
	$(VENV)-peers/bin/pip install -q -r requirements-peers.txt
	@touch $@

test-ktls:  ## kernel TLS in a small guest; skips, saying why, where its parts cannot be had
	tests/ktls/run.sh || test $$? = 77

proof: peers test-ktls  ## the long tests: hundreds of kills, thousands of cuts, foreign clients
	TICKPLANT_PROOF=1 cargo test -q --release -p tickplant-core --test log
	$(BIN)/pytest -m proof --timeout 1800
	TICKPLANT_STORM_SECONDS=3600 $(BIN)/pytest -s -m storm
	$(BIN)/python bench/soak.py --minutes 10

bench: setup  ## what it costs and how fast it is, in JSON lines; NAMES="latency readers" for some of it
	$(BIN)/python bench/run.py $(NAMES)

bench-peers: setup $(VENV)-bench-peers/.packages  ## books against those of peers, alternated in one process
	PYTHONPATH=src $(VENV)-bench-peers/bin/python bench/books.py

$(VENV)-bench-peers/.packages: requirements-bench-peers.txt
	test -x $(VENV)-bench-peers/bin/python || $(PYTHON) -m venv $(VENV)-bench-peers
	$(VENV)-bench-peers/bin/pip install -q -r requirements-bench-peers.txt
	@touch $@

lock:  ## renews the hashed requirements from pyproject.toml
	uv pip compile -q --generate-hashes --no-emit-index-url --no-header --group dev --extra data pyproject.toml -o requirements-dev.txt

clean:
	rm -rf target $(VENV) $(VENV)-peers $(VENV)-bench-peers build src/tickplant/_native*.so
