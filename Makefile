# Laurel. `make help` lists what there is. Needs Python 3.11 or newer and make; nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
ARGS ?=
PYTEST_ARGS ?=
TARGET ?= guard
TIMES ?= 20
RUNS ?= 1000000
BUS ?= both
N ?= 50000

# What pip says goes to stderr: stdout belongs to the command that is run.
.DEFAULT_GOAL := help
.PHONY: help install demo test bench soak fuzz mutants faults crash-points check docs lock kafka kafka-stop clean
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## Build .venv from the lock; the command is .venv/bin/laurel

demo: $(VENV)/.installed ## Take a course from results to verifiable badges (ARGS="--exit --json")
	@$(BIN)/laurel demo $(ARGS)

test: $(VENV)/.installed-dev ## Run the tests (PYTEST_ARGS="tests/unit -k name")
	@deploy/local/run-tests $(PYTEST_ARGS)

bench: $(VENV)/.installed-dev ## Measure signing, verifying and the whole path (N=1000000 ARGS=--quick); writes build/bench/
	@$(BIN)/python -m tests.benchmarks --n $(N) $(ARGS)

soak: $(VENV)/.installed-dev ## Load an installation for hours; does a process grow? (MINUTES=120 BUS=kafka); writes build/soak/
	@$(BIN)/python -m tests.benchmarks.soak --minutes $(or $(MINUTES),120) --bus $(if $(filter both,$(BUS)),kafka,$(BUS)) $(ARGS)

fuzz: $(VENV)/.installed-dev ## Fuzz what reads strangers' bytes (TARGET=guard RUNS=1000000; Linux on x86-64)
	@$(BIN)/python -m tests.fuzz $(TARGET) --runs $(RUNS)

mutants: $(VENV)/.installed-dev ## Put forged credentials before the verifier (ARGS="--count 100000 --seed 4")
	@$(BIN)/python -m tests.mutants $(ARGS)

faults: $(VENV)/.installed-dev ## Break a loaded installation and count what became of it (SEED=7 MINUTES=40 BUS=kafka)
	@$(BIN)/python -m tests.faults $(if $(SEED),--seed $(SEED)) --minutes $(or $(MINUTES),0) --bus $(BUS) $(ARGS)

crash-points: $(VENV)/.installed-dev ## Let processes die between any two steps (TIMES=20 ARGS="--bus kafka --only mail")
	@$(BIN)/python -m tests.faults.crash_points --times $(TIMES) $(ARGS)

check: $(VENV)/.installed-dev ## Lint, formatting, types, architecture, generated docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py tests/test_docs.py

docs: $(VENV)/.installed-dev ## Write the generated pages of docs/
	$(BIN)/python docs/generate.py

lock: ## Resolve pyproject.toml into requirements.lock and requirements-dev.lock (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate pyproject.toml -o requirements.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --group dev pyproject.toml -c requirements.lock -o requirements-dev.lock

kafka: ## Start Apache Kafka 4.3 on 127.0.0.1 (needs Java 17+ and Maven)
	@deploy/kafka/kafka.sh start

kafka-stop: ## Stop it
	@deploy/kafka/kafka.sh stop

clean: ## Remove .venv and what the tools left behind (never .laurel, never .kafka)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "laurel: $(PYTHON) not found: install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "laurel: needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "laurel: this Python cannot make virtual environments: install its venv package (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "laurel: building $(VENV) from requirements.lock (once)" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) >&2
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >&2
	@$(PIP) install --require-hashes -r requirements.lock >&2
	@$(PIP) install --no-deps --no-build-isolation -e . >&2
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock
	@echo "laurel: adding the tools of requirements-dev.lock (once)" >&2
	@$(PIP) install --require-hashes -r requirements-dev.lock >&2
	@touch $@
