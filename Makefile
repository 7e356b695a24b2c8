# make run: the node on standard input. make test: all that CI runs. Set-up happens by itself, and speaks on stderr.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test lint types trial bench clean

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

# All of it takes five minutes, and goes to benchmarks/results.md. make bench PARTS="stdio tcp": these, to be read only.
bench: .venv/bench
	$(BIN)/python -m benchmarks $(PARTS)

clean:
	rm -rf .venv build dist .coverage .coverage.* _trial_temp*

# Debian ships venv as a package of its own.
.venv/ready: pyproject.toml
	@{ $(PYTHON) -c 'import ensurepip' || { apt-get update && apt-get install -y python3-venv; } \
	&& $(PYTHON) -m venv .venv \
	&& $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' \
	&& touch $@; } >&2

.venv/bench: .venv/ready
	@{ $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]' && touch $@; } >&2
