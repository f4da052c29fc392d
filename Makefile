# make setup     everything into .venv, once
# make demo      from simulated raw tiles to a report, on this machine
# make test      the tests; make test ARGS="-k mosaic" for some of them
# make lint      style, types, workflow, imports
# make schema    config.schema.json and docs/config.md, from the settings' models
# make faults    over fifty faults at random moments, here and on a Slurm of this machine's own
# make bench     side by side with peers
# make clean     remove the demo's results and what tools left behind; make distclean: .venv too

SHELL := /bin/bash
CONFIG ?= config.yaml
ARGS ?=
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help setup demo test lint schema faults bench clean distclean
.NOTPARALLEL:

help:
	@sed -n 's/^# //p;/^$$/q' Makefile

setup:
	@tools/setup

demo: setup
	@snakemake --profile profiles/local --configfile $(CONFIG)
	@echo "report: $(CURDIR)/results/demo/report/index.html"

test: setup
	@python -m pytest $(ARGS)

define LINT
ruff check .
ruff format --check .
mypy
snakefmt --check Snakefile workflow
snakemake --lint --configfile $(CONFIG)
lint-imports --no-logo
endef
export LINT

# Every check runs; what failed is named at the end.
lint: setup
	@failed=; while read -r check; do \
	  echo "== $$check"; $$check < /dev/null || failed+=" '$$check'"; \
	done <<< "$$LINT"; \
	if [ "$$failed" ]; then echo "lint failed:$$failed"; exit 1; fi; echo "lint: all passed"

schema: setup
	@python -m tessera.schema

faults: setup
	@python -m tests.cluster.faults $(ARGS)

bench: setup
	@python -m pip install --quiet --no-deps --requirement requirements-bench.txt
	@python -m benchmarks $(ARGS)

clean:
	rm -rf results/demo .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv .snakemake
