# The targets below are all there is; `make help` lists them from their own comments.
# PYTHON names the interpreter that makes .venv (3.11 or newer); everything else runs from there.
PYTHON ?= python3
VENV := .venv/bin/python
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help run test test-fast check lint types imports migrations lock lock-check fix bench chaos venv venv-dev
# Tests run in two processes, what starts programs in one of them; JOBS=0 runs them one after the other.
JOBS ?= 2
PYTEST = $(VENV) -m pytest -n $(JOBS) --dist loadgroup
# Whatever the tools below read of the settings must not touch a running installation's data.
CHECK_ENV := DATA_DIR=$(CURDIR)/.cache/check SECRET_KEY=only-for-checks

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One plain command without shell words: make starts it directly, so a signal to make reaches it.
run: venv ## everything, from a bare clone: web server, scheduler, worker, Redis; prints "Ready: http://HOST:PORT/ui"
	@$(VENV) manage.py up --with-parent

test: venv-dev ## the whole suite on SQLite; with TEST_DATABASE_URL first what touches the database on PostgreSQL (ARGS=… for pytest)
	@if [ -n "$$TEST_DATABASE_URL" ]; then echo "--- PostgreSQL ---"; TEST_BACKEND=postgres $(PYTEST) -m database $(ARGS); \
	else echo "note: TEST_DATABASE_URL is not set, so nothing runs on PostgreSQL"; fi
	@echo "--- SQLite ---"
	@TEST_BACKEND=sqlite $(PYTEST) $(ARGS)

test-fast: venv-dev ## the unit tests alone, in seconds
	@$(VENV) -m pytest tests/unit $(ARGS)

check: lint types imports migrations lock-check test ## what CI runs: lint, types, import contracts, migrations, lock, tests

lint: venv-dev ## ruff: format and rules
	@$(VENV) -m ruff format --check .
	@$(VENV) -m ruff check .

types: venv-dev ## mypy --strict over the three packages
	@$(CHECK_ENV) $(VENV) -m mypy

imports: venv-dev ## the import contracts: arrows point down only
	@.venv/bin/lint-imports

migrations: venv-dev ## no model change without its migration; system checks
	@$(CHECK_ENV) $(VENV) manage.py makemigrations --check --dry-run
	@$(CHECK_ENV) $(VENV) manage.py check

lock-check: venv-dev ## the locks belong to the .in files, name no registry, and install on every Python and platform (asks the package index)
	@$(VENV) tools/lock.py --check

lock: venv-dev ## compile requirements*.txt again from the .in files (UPGRADE=1 takes newer versions)
	@$(VENV) tools/lock.py $(if $(UPGRADE),--upgrade)

fix: venv-dev ## format, and mend what ruff can
	@$(VENV) -m ruff format .
	@$(VENV) -m ruff check --fix .

bench: venv-dev ## the benchmarks; BENCH=<name> runs one; figures go to var/bench/<name>.json
	@$(VENV) -m tests.bench $(BENCH)

chaos: venv-dev ## the fault suite: processes are killed under load, nothing may be lost (CHAOS_SEED, CHAOS_SECONDS, CHAOS_DATABASE=sqlite|postgres)
	@$(VENV) -m tests.chaos

venv:
	@$(PYTHON) tools/install.py requirements.txt

venv-dev:
	@$(PYTHON) tools/install.py requirements.txt requirements-dev.txt
