# The project's commands. Each builds what it needs; `make` alone lists them.
PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help run test check format bench conformance rules clean venv

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 14

venv:
	@PYTHON='$(PYTHON)' .ci/venv '$(VENV)'

run: venv ## make a title, serve it through an edge, play it twice, stay up (ONCE=1: end there)
	@$(PY) -m loadtest.demo $(if $(ONCE),--once)

test: venv ## the whole test suite (ARGS="-k name" narrows it)
	@$(PY) -m pytest $(ARGS)

check: venv ## format, lint, types and import rules
	@$(PY) -m ruff format --check --quiet . || { echo "run: make format"; exit 1; }
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports --verbose >/dev/null || $(VENV)/bin/lint-imports

format: venv ## rewrite the sources as `make check` wants them
	@$(PY) -m ruff format --quiet .
	@$(PY) -m ruff check --fix --quiet . || true

bench: venv ## what a hit costs, beside a C floor and beside nginx where it is installed
	@$(PY) -m loadtest.hits $(ARGS)

conformance: venv ## the public tests for HTTP caches (ARGS="--peer nginx" runs them against another)
	@$(PY) -m loadtest.conformance $(ARGS)

rules: venv ## count the tests for each rule of HTTP, into the README's table
	@$(PY) -m pytest -q --collect-only --rules --rules-readme | sed '1,/= rules of HTTP/d'

clean: ## remove what the commands above made
	rm -rf $(VENV) .scratch .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
