# What a contributor types. Needs only python3 (3.10 or newer), make and git; on Debian, as root, the
# rest is installed when it is needed. Another Python: make test PYTHON=python3.12 (with a venv of its own).

PYTHON ?= python3
VENV := $(if $(filter python3 python,$(notdir $(PYTHON))),.venv,.venv-$(notdir $(PYTHON)))
HOST := login
# Many tests wait for runs to end, so more at once than there are cores. There is one cluster: no two at it.
PARALLEL := --numprocesses 4

bin := $(VENV)/bin
pip := $(bin)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo test test-fast check bench schema cluster-up cluster-shell cluster-down wheel clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

venv: $(VENV)/.dev-installed ## everything needed for work on hpcrun, in .venv

demo: $(VENV)/.installed ## run the quickstart on this machine and show what came of it
	$(bin)/hpcrun submit examples/quickstart/run.yaml --follow
	$(bin)/hpcrun show @-1

test: $(VENV)/.test-installed check ## every check and test, those on the virtual cluster included (root on Debian)
	@if [ "$$(id -u)" = 0 ] && [ -e /etc/debian_version ]; then \
	    $(bin)/python -m tests.cluster build && $(bin)/python -m tests.cluster build --slurm bookworm && \
	    { $(bin)/python -m tests.cluster build --slurm sid || \
	        echo "sid, which moves, cannot be built today: what needs it is skipped, and says so" >&2; }; fi
	$(bin)/python -m pytest $(PARALLEL) -m "not cluster"
	$(bin)/python -m pytest --numprocesses 2 --dist loadfile -m cluster

test-fast: $(VENV)/.dev-installed ## the tests that take no cluster, without the slow ones
	$(bin)/python -m pytest $(PARALLEL) -m "not cluster and not slow"

check: $(VENV)/.dev-installed ## style, types, architecture
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/mypy
	$(bin)/python -m pytest --quiet tests/unit/test_architecture.py

bench: $(VENV)/.dev-installed ## how fast, beside peers: writes benchmarks/RESULTS.md
	$(bin)/python -m benchmarks

schema: $(VENV)/.installed ## write the JSON Schemas of run.yaml and site files, and their reference in docs/
	$(bin)/python -m hpcrun.config.schema
	$(bin)/python -m hpcrun.config.reference

cluster-up: $(VENV)/.dev-installed ## boot the virtual Slurm cluster (root on Debian)
	$(bin)/python -m tests.cluster up

cluster-shell: $(VENV)/.dev-installed ## a shell on one of its hosts: make cluster-shell HOST=login
	$(bin)/python -m tests.cluster shell $(HOST)

cluster-down: $(VENV)/.dev-installed ## end the virtual cluster
	$(bin)/python -m tests.cluster down

wheel: $(VENV)/.dev-installed ## build the wheel into dist/
	$(bin)/python -m build --wheel --no-isolation

clean: ## remove what was built and cached (.venv stays: rm -r .venv)
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/_artifacts
	find hpcrun tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: each says that pyproject.toml, as it is now, was installed so far. One depends on the other, so
# that no two pips work in one venv at the same time.

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "hpcrun needs Python 3.10 or newer: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	    package="python$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"; \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        echo "installing $$package, which this Python needs to make virtual environments"; \
	        export DEBIAN_FRONTEND=noninteractive; \
	        apt-get install -qq -y --no-install-recommends "$$package" </dev/null >/dev/null 2>&1 || \
	            { apt-get update -qq && \
	              apt-get install -qq -y --no-install-recommends "$$package" </dev/null >/dev/null; }; \
	    else \
	        echo "this Python cannot make virtual environments. First type:" >&2; \
	        echo "    sudo apt-get install $$package" >&2; \
	        exit 1; \
	    fi; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.made pyproject.toml
	$(pip) install -e .
	@touch $@

# --group came with pip 25.1.
$(VENV)/.dev-installed: $(VENV)/.installed
	$(pip) install --upgrade 'pip>=25.1'
	$(pip) install -e . --group dev
	@touch $@

$(VENV)/.test-installed: $(VENV)/.dev-installed
	$(pip) install --group test-torch
	@touch $@
