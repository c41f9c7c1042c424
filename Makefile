# Each verb is one script in scripts/; this file only keeps the environment up to date.
#
#   PYTHON=...  interpreter for the environment (default: the first of python3.11 .. that is >= 3.11)
#   VENV=...    where the environment lives (default: .venv)
#   ARGS=...    further arguments, such as: make test ARGS="-k layers"

VENV ?= .venv
export VENV PYTHON

STAMP := $(VENV)/.plmsearch-installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test check docs bench torture torture-full wheel-test clean distclean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1@\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F@ '{ printf "%-21s%s\n", $$1, $$2 }'

setup: $(STAMP)  ## make the environment; quick when nothing changed

$(STAMP): pyproject.toml constraints.txt plmsearch/_version.py scripts/setup
	@scripts/setup
	@touch $@

demo: $(STAMP)  ## index the example antibodies and search them
	@scripts/demo

test: $(STAMP)  ## run the core test suite
	@scripts/test $(ARGS)

check: $(STAMP)  ## formatting, lint, types
	@scripts/check

docs: $(STAMP)  ## write docs/cli.md and the model tables anew
	@scripts/docs

bench: $(STAMP)  ## run the benchmarks in bench/
	@scripts/bench $(ARGS)

torture: $(STAMP)  ## put faults to databases: a sample, about twenty minutes
	@scripts/torture $(ARGS)

torture-full: $(STAMP)  ## put a fault to every system call: an hour or more
	@scripts/torture --full $(ARGS)

wheel-test: $(STAMP)  ## build the wheel, install it into an empty environment, use it there
	@scripts/wheel-test

clean:  ## remove what the other targets leave behind, except the environment
	@scripts/clean

distclean: clean  ## remove the environment too
	rm -rf "$(VENV)"
