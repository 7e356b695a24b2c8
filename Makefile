# make run: the node on standard input. make quick: lint, types and the unit tests. make test: those and all other tests.
# Set-up happens by itself, and speaks on stderr.

PYTHON ?= python3
BIN := .venv/bin
# How many tests run at a time, where they may run side by side.
JOBS ?= $(shell nproc)

.PHONY: run quick test lint types trial matrix bench bench-restart bench-shutdown clean
SIDE_BY_SIDE := tests.unit tests.documents tests.packaging tests.processes

run: .venv/bin/twistd
	@exec $(BIN)/twistd -n --pidfile= node

test: lint types trial

quick: lint types
	$(BIN)/python -m twisted.trial --jobs=$(JOBS) $(TRIAL) tests.unit

lint: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo

types: .venv/ready
	$(BIN)/mypy

# The tests of the promise measure time under load, so nothing else runs beside them.
trial: .venv/ready
	rm -f .coverage .coverage.*
	@status=0; \
	$(BIN)/coverage run -m twisted.trial --jobs=$(JOBS) $(TRIAL) $(SIDE_BY_SIDE) || status=1; \
	$(BIN)/coverage run -m twisted.trial $(TRIAL) tests.promise || status=1; \
	exit $$status
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=100

# The unit tests under every Python that can be found, with the lowest and the newest libraries; MATRIX="-p 3.12" for one.
matrix: .venv/ready
	$(BIN)/nox $(MATRIX)

# All of it takes about four minutes, and goes to benchmarks/results.md. make bench PARTS="stdio tcp": these, to be read only.
bench: .venv/bench
	$(BIN)/python -m benchmarks $(PARTS)

# Several minutes; writes docs/shutdown.md and its picture. The machine should have nothing else to do. Only root can
# measure at a distance.
bench-shutdown: .venv/bench
	$(BIN)/python -m benchmarks.shutdown --stops 10 --write

# About 25 minutes; writes docs/restart.md, as far as it is measured, and its picture. Debian would start what it installs:
# it is not to at this runlevel.
bench-restart: .venv/bench
	@export PATH="$$PATH:/usr/sbin:/sbin"; { command -v haproxy && command -v nginx; } >/dev/null || \
	{ apt-get update && RUNLEVEL=1 apt-get install -y haproxy nginx-light; } >&2 || \
	{ echo "haproxy and nginx are needed: as root, apt-get install haproxy nginx-light" >&2; exit 1; }
	$(BIN)/python -m benchmarks.restart --rounds 2 --restarts 5 --write

clean:
	rm -rf .venv build dist .coverage .coverage.* _trial_temp*

PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable

# All that the node needs. Debian ships venv as a package of its own.
.venv/bin/twistd:
	@{ $(PYTHON) -c 'import ensurepip' || { apt-get update && apt-get install -y python3-venv; } \
	&& $(PYTHON) -m venv .venv && $(PIP_INSTALL) .; } >&2

# All that the tests need.
.venv/ready: pyproject.toml | .venv/bin/twistd
	@$(PIP_INSTALL) '.[dev]' >&2 && touch $@

# All that the benchmarks need.
.venv/bench: .venv/ready
	@$(PIP_INSTALL) '.[bench]' >&2 && touch $@
