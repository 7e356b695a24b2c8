# make run: the node on standard input. make test: all that CI runs. Set-up happens by itself, and speaks on stderr.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test lint types trial bench-shutdown clean

run: .venv/ready
	@exec $(BIN)/twistd -n --pidfile= node

test: lint types trial

lint: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: .venv/ready
	$(BIN)/mypy

trial: .venv/ready
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m twisted.trial $(TRIAL) tests
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=100

# Several minutes; writes docs/shutdown.md and its picture. The machine should have nothing else to do.
bench-shutdown: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]' >&2
	$(BIN)/python benchmarks/shutdown.py --stops 10 --write

clean:
	rm -rf .venv build dist .coverage .coverage.* _trial_temp*

# Debian ships venv as a package of its own.
.venv/ready: pyproject.toml
	@{ $(PYTHON) -c 'import ensurepip' || { apt-get update && apt-get install -y python3-venv; } \
	&& $(PYTHON) -m venv .venv \
	&& $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' \
	&& touch $@; } >&2
