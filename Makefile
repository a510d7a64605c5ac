# Targets for people. All but help, down, reset and doctor first set up .venv when it is missing or stale.
.DEFAULT_GOAL := help
.PHONY: help setup up test chaos down reset doctor check docs lock

# Any Python from 3.7 on can run the set-up; the set-up itself then looks for 3.11 to 3.14.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 7))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
PURE_TESTS := tests/architecture tests/docs tests/laws tests/unit
SERVER_TESTS := tests/contract tests/integration
SPREAD := --numprocesses logical --dist loadfile
DATA_DIR := $(or $(INFERWATCH_DATA_DIR),.inferwatch)
# Nothing was ever started from a clone without .venv; a folder of data means that it was removed since.
WITHOUT_VENV = if [ -e '$(DATA_DIR)' ]; then \
	echo '$@: $(DATA_DIR) is there, but no .venv to look after it: run make setup, then make $@ again' >&2; exit 75; \
	else echo '$@: nothing runs here, and there are no data: nothing was installed yet (no .venv)'; fi

help:  ## show this list
	@echo 'usage: make TARGET [ARGS="..."]     for example: make up ARGS="--for 60s"'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{printf "%-10s %s\n", $$1, $$2}'

setup:  ## install what the project needs into .venv (done by the other targets when needed)
	@if [ -z "$(PYTHON)" ]; then echo "setup: no Python found: install Python 3.11 to 3.14 (Debian, Ubuntu: apt install python3 python3-venv)" >&2; exit 78; fi
	@$(PYTHON) infra/bootstrap.py

# Where the environment forbids Python to keep what it compiled, as images often do, each process would compile its imports
# again: half of the time that torch and transformers take to import, and these start many processes.
up test chaos: export PYTHONDONTWRITEBYTECODE :=

up: setup  ## start everything on this machine, with live traffic and a live view of it
	@$(BIN)/inferwatch up $(ARGS)

# First what needs a processor, on several of them; then what starts servers of its own, two at a time (each is given
# ports and memory of its own); then what watches the whole pipeline and its times, alone on the machine. Where each core has
# a process already, torch's own threads would wait for each other in loops, which takes longer than what they compute.
test: setup  ## run the tests; ARGS go to pytest, which then runs once
ifeq ($(strip $(ARGS)),)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SPREAD) --maxprocesses 4 $(PURE_TESTS)
	@$(BIN)/python -m pytest $(SPREAD) --maxprocesses 2 $(SERVER_TESTS)
	@$(BIN)/python -m pytest $(addprefix --ignore=,$(PURE_TESTS) $(SERVER_TESTS))
else
	@$(BIN)/python -m pytest $(ARGS)
endif

# Kills, zombies, outages, poison on a pipeline of its own; the short form takes some ten minutes.
chaos: setup  ## break a pipeline on purpose and check that nothing is lost or doubled; ARGS="--for 1h" for longer
	@$(BIN)/python -m tests.chaos.run $(ARGS)

# These three install nothing: not below a running pipeline, not without a network.
down:  ## stop what `make up` left running
	@if [ -x $(BIN)/inferwatch ]; then $(BIN)/inferwatch down $(ARGS); else $(WITHOUT_VENV); fi

reset:  ## stop what runs here, then delete the local data folder (it asks; ARGS=--yes does not)
	@if [ -x $(BIN)/inferwatch ]; then $(BIN)/inferwatch down && $(BIN)/inferwatch reset $(ARGS); else $(WITHOUT_VENV); fi

doctor:  ## say what works on this machine, what does not, and what to do
	@if [ -x $(BIN)/inferwatch ]; then $(BIN)/inferwatch doctor $(ARGS); else \
	echo 'doctor: nothing is installed here (no .venv), and that comes first: run make setup, then make doctor' >&2; exit 78; fi

check: setup  ## lint, format, types, import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: setup  ## write the generated pages again (schemas, AsyncAPI, topics, tables, metrics, settings)
	@$(BIN)/inferwatch docs $(ARGS)

lock: setup  ## resolve the versions again; ARGS="--upgrade" takes newer ones
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 pyproject.toml --group dev -o requirements.lock $(ARGS)
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 --no-deps --group model -o requirements-model.lock $(ARGS)
	@echo 'lock: requirements.lock and requirements-model.lock are up to date with pyproject.toml'
