# The targets below are all there is; `make help` lists them from their own comments.
# PYTHON names the interpreter that makes .venv (3.11 or newer); everything else runs from there.
PYTHON ?= python3
VENV := .venv/bin/python
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help run test test-fast check lint types imports migrations lock lock-check fix bench chaos torch venv venv-dev
# What was compiled of the source once is kept for the many short processes of a run, whatever the caller's shell says.
unexport PYTHONDONTWRITEBYTECODE
# Tests run in more processes than there are cores, since those that start programs wait for them most of the time; 0 runs them one after
# the other.
JOBS ?= 4
JOBS_POSTGRES ?= 2
PYTEST = $(VENV) -m pytest
# The tests of a database are in these folders; the unit tests touch none.
WITH_DATABASE := tests/integration tests/engine
# WHOLE=1 runs on PostgreSQL also what shows workers, which have no database.
WHOLE ?=
ON_POSTGRES := $(if $(WHOLE),database,'database and not of_workers')
# Parts of a check run side by side; what each took is written to BOOK, which .ci/run names to go on in it.
BOOK := .cache/parts
PARTS = $(VENV) tools/parts.py $(BOOK)
BEGIN_BOOK = $(if $(filter file,$(origin BOOK)),@rm -f $(BOOK))
TESTS = "SQLite=TEST_BACKEND=sqlite $(PYTEST) -n $(JOBS) $(ARGS)" \
  $${TEST_DATABASE_URL:+"PostgreSQL=TEST_BACKEND=postgres $(PYTEST) -n $(JOBS_POSTGRES) -o cache_dir=.cache/pytest-postgres -m $(ON_POSTGRES) $(WITH_DATABASE) $(ARGS)"}
# Whatever the tools below read of the settings must not touch a running installation's data.
CHECK_ENV := DATA_DIR=$(CURDIR)/.cache/check SECRET_KEY=only-for-checks

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One plain command without shell words: make starts it directly, so a signal to make reaches it.
run: venv ## everything, from a bare clone: web server, scheduler, worker, Redis; prints "Ready: http://HOST:PORT/ui"
	@$(VENV) manage.py up --with-parent

test: venv-dev ## the whole suite on SQLite; beside it, with TEST_DATABASE_URL, what touches the database on PostgreSQL (ARGS=… for pytest)
	$(BEGIN_BOOK)
	@$(PARTS) $(TESTS)
	@$(PARTS)
	@[ -n "$$TEST_DATABASE_URL" ] || echo "note: TEST_DATABASE_URL is not set, so nothing ran on PostgreSQL"

test-fast: venv-dev ## the unit tests alone but for the long ones, in half a minute
	@$(PYTEST) -n 2 -m "not long" tests/unit $(ARGS)

check: venv-dev ## what CI runs: lint, types, import contracts, migrations and lock, beside them all tests
	$(BEGIN_BOOK)
	@$(PARTS) "checks=$(MAKE) lint types imports migrations lock-check" $(TESTS)
	@$(PARTS)

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

torch: ## torch and OpenVINO, which no lock names, for the tests that run a model
	@$(PYTHON) tools/install.py requirements.txt requirements-dev.txt --beside requirements-instanseg-dev.txt

venv:
	@$(PYTHON) tools/install.py requirements.txt

venv-dev:
	@$(PYTHON) tools/install.py requirements.txt requirements-dev.txt
