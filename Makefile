# make run      a virtual environment, the package in it, and a crawl of the bundled bookshop
# make help     all targets

PYTHONS := python3.13 python3.12 python3.11 python3 python
ifndef PYTHON
PYTHON := $(shell for p in $(PYTHONS); do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
            2>/dev/null && { echo $$p; break; }; done)
endif
VENV := .venv
BIN  := $(VENV)/bin
DATA := $(abspath ../shared/data)
# One more than there are cores: many tests wait for a process or a server.
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

ifneq ($(wildcard $(DATA)),)
export SCRAPER_TEST_DATA ?= $(DATA)
endif

.DEFAULT_GOAL := help
.PHONY: help run install develop servers test kill long fuzz hostile lint format bench cost docs clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "make %-9s %s\n", $$1, $$2}'

run: install ## install, then crawl the bundled bookshop, offline
	$(BIN)/scrape demo $(ARGS)

install: $(VENV)/installed
develop: $(VENV)/developing

$(VENV)/made:
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "make: Python 3.11 or newer is needed; tried: $(or $(PYTHON),$(PYTHONS))." \
	  "Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: $(PYTHON) cannot make virtual environments: install its venv package" \
	  "(Debian: apt-get install python3-venv)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed: pyproject.toml | $(VENV)/made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/developing: pyproject.toml | $(VENV)/made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dates,parquet,redis,s3,sftp,shell,sql,xpath,dev]'
	@touch $@ $(VENV)/installed

$(VENV)/benching: pyproject.toml | develop
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@touch $@

servers: # nginx, databases, OpenSSH and the documentation that tests crawl, where apt-get can bring them
	@.ci/servers

test: develop servers ## the tests: make test ARGS="tests/crawl -x"
	$(BIN)/python -m pytest -m "not long" -n $(WORKERS) --dist worksteal $(ARGS)

kill: develop servers ## the long form of the crash tests: seeded kills at random instants
	$(BIN)/python -m pytest -m long tests/crawl $(ARGS)

long: develop servers ## every other long form: all pages beside parsel, memory of large feeds
	$(BIN)/python -m pytest -m long --ignore=tests/crawl $(ARGS)

fuzz: develop ## the long form of the property tests: more examples, new ones each time
	$(BIN)/python -m pytest --hypothesis-profile=long --ignore=tests/crawl $(ARGS)

hostile: develop servers ## the catalogue of the hostile web, every case; writes the documentation's table
	$(BIN)/python -m pytest -m "case and not long" -n $(WORKERS) --dist worksteal --record-cases $(ARGS)
	$(BIN)/python -m tests.docs.generate

lint: develop ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: develop ## let ruff rewrite what it can
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

bench: $(VENV)/benching ## the benchmarks, half an hour: make bench ARGS="--site shop"
	@.ci/servers bench
	$(BIN)/python -m benchmarks $(ARGS)

cost: develop servers ## what a page costs, counted and not timed: make cost ARGS=--record
	$(BIN)/python -m benchmarks.cost $(ARGS)

docs: develop ## write the computed parts of the documentation, and run all that it shows
	$(BIN)/python -m tests.docs.generate
	$(BIN)/python -m pytest tests/docs $(ARGS)

clean: ## remove the environment, caches and builds; crawl state and data stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
