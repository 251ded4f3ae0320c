.DEFAULT_GOAL := help
.PHONY: help demo test unit lint figures picture prove fuzz mutants bench hellos peers clean

VENV := .venv
PYTHON := $(VENV)/bin/python
# Each target installs only what it needs: a file named after the extra says that it is there.
EXTRA = $(VENV)/.with-
# Many fast tests wait for real timers, so more of them than cores can run at a time. Those of one
# file stay together, for what they share is made once in each process.
FAST := -m pytest -n 3 --dist worksteal
# Each of them would compile all modules and tests anew, which takes longer than to import them.
unexport PYTHONDONTWRITEBYTECODE

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-7s %s\n", $$1, $$2}' Makefile

$(EXTRA)%: pyproject.toml
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --editable '.[$*]'
	touch $@

demo: $(EXTRA)peers,unit ## a relay and real servers on loopback; carriers are cut and a server killed meanwhile
	$(PYTHON) -m tests.demo

test: $(EXTRA)test lint peers ## everything that CI checks: lint, unit, conformance, interop, end-to-end
	$(PYTHON) $(FAST) tests/unit
	$(PYTHON) $(FAST) tests/conformance
	$(PYTHON) -m pytest --durations=10 --ignore=tests/unit --ignore=tests/conformance

unit: $(EXTRA)unit ## the unit tests only; no root, no test servers, no fuzzer
	$(PYTHON) $(FAST) tests/unit

lint: $(EXTRA)lint,unit ## style, types, import contracts
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	PYTHONPATH=plugins $(VENV)/bin/lint-imports

figures: $(EXTRA)unit ## files and functions, how long they are, and circles of imports
	$(PYTHON) -m tests.architecture

picture: $(EXTRA)unit ## draw the rooms anew in docs/architecture.md
	$(PYTHON) -m tests.architecture --draw

prove: $(EXTRA)test ## the long proofs: memory cgroup, failover, container
	.ci/peers mmdebstrap buildah podman runc openssh-server
	$(PYTHON) -m pytest -m prove -rP

fuzz: $(EXTRA)test ## parsers of what strangers send, a million inputs guided by coverage
	$(PYTHON) -m tests.fuzz

mutants: $(EXTRA)mutants ## do the unit tests find small faults? a sample, about ten minutes
	$(PYTHON) -m tests.mutants

bench: $(EXTRA)test ## our client beside those of sing-box and mihomo, ratios printed
	$(PYTHON) -m tests.bench

hellos: $(EXTRA)test,lint peers ## our ClientHellos beside those of the browsers here; WRITE=1 takes theirs over
	$(PYTHON) -m tests.hellos $(if $(WRITE),--write)

peers: ## install from Debian what the tests talk to; needs root
	.ci/peers

clean: ## remove what the targets above made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
