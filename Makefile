# Everything a person or CI runs. On a fresh machine: Python >= 3.11, git and make; nothing else is assumed.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-unit test-wide test-actions lint format bench bench-handbook bench-serving bench-rollout bench-statistics soak rollout-world docs test-services test-clients fuzz lock clean

PYTHON ?= python3
UV_VERSION := 0.13.9
UV := .tools/bin/uv
ACTIONLINT_VERSION := v1.7.7
ACTIONLINT := .tools/bin/actionlint
BIN := .venv/bin
EXTRAS := --extra serve --extra control --extra train --extra cluster
READY := .venv/.ready
TIMES ?= 20
DATA ?= ../shared/data
SWAPS ?= 1000
ROLLOUTS ?= 1000
# The folders of tests that mirror a room of src.
ROOMS := $(filter-out tests/__pycache__,$(wildcard $(patsubst src/interlock/%/,tests/%,$(wildcard src/interlock/*/))))

# The lock alone decides what is installed: no index, link or interpreter of the caller's own configuration.
export UV_NO_CONFIG := 1
# The machine's own trust store: company networks re-sign what comes from outside.
export UV_SYSTEM_CERTS := 1
unexport PIP_FIND_LINKS
unexport UV_FIND_LINKS
unexport VIRTUAL_ENV

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Install the locked environment into .venv (needs Python >= 3.11)

$(READY): pyproject.toml uv.lock | $(UV)
	$(UV) sync --frozen --python "$$(command -v $(PYTHON))" $(EXTRAS)
	@touch $@

$(UV):
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else "make setup needs Python 3.11, 3.12 or 3.13; name one: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv .tools
	.tools/bin/pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"

demo: $(READY) ## The whole story on this machine: train, approve, release, roll back, prove (<= 3 min)
	$(BIN)/interlock demo

test: test-unit test-actions test-wide ## All tests: each room by itself first, then everything else

test-unit: $(READY) ## The pure tests of the rooms
	$(BIN)/pytest -q -n 2 -m unit $(ROOMS)

test-wide: $(READY) ## Properties, protocols, the house, and the tests that start processes and services
	$(BIN)/pytest -q -n 2 --dist loadfile -m "not unit"

test-actions: $(READY) ## Workflows, ours and those that `release init` writes, by actionlint (built once, needs Go)
	@$(MAKE) --no-print-directory $(ACTIONLINT) || echo "actionlint cannot be built here (no Go, or no module proxy)"
	$(BIN)/pytest -q tests/rollout/test_actions.py

$(ACTIONLINT):
	GOBIN=$(CURDIR)/.tools/bin go install github.com/rhysd/actionlint/cmd/actionlint@$(ACTIONLINT_VERSION)

test-clients: $(READY) ## KServe's own clients against a scorer (installs them into tests/clients/.venv)
	$(UV) sync --frozen --quiet --project tests/clients --python "$$(command -v $(PYTHON))"
	$(BIN)/pytest -q tests/clients/official_kserve.py

fuzz: $(READY) ## Fuzz the scoring API for longer: its OpenAPI page and binary frames (TIMES=20)
	INTERLOCK_FUZZ=$(TIMES) $(BIN)/pytest -q --timeout 3000 tests/fuzz

test-services: $(READY) ## Contract suites of the stores (INTERLOCK_TEST_REDIS: also against that Redis)
	$(BIN)/pytest -q tests/contracts

lint: $(READY) ## Format, lint, types, imports, house rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/test_house_rules.py tests/test_layout.py

format: $(READY) ## Rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

soak: $(READY) ## A thousand model swaps under load: nothing fails, nothing grows (SWAPS=n)
	$(BIN)/python -m bench.soak --swaps $(SWAPS)

rollout-world: $(READY) ## A thousand simulated rollouts under random faults: no promise is broken (ROLLOUTS=n)
	$(BIN)/python -m bench.rollout_world --rollouts $(ROLLOUTS)

bench: bench-handbook bench-serving bench-statistics ## Every benchmark that needs no other machine

bench-handbook: $(READY) ## Parity and the worth of velocity on the Handbook's data (DATA=folder)
	$(BIN)/python -m bench.handbook --data $(DATA)

bench-serving: $(READY) | $(UV) ## Requests/s, latency and CPU beside KServe, Feast, MLServer, FastAPI (QUICK=1: two-second phases)
	$(BIN)/python -m bench.serving --uv $(UV) $(if $(QUICK),--quick)

bench-rollout: $(READY) ## Fifty rollouts in a row under load, a slower model, too many flags, A/A (QUICK=1: a few)
	$(BIN)/python -m bench.rollout $(if $(QUICK),--quick)

bench-statistics: $(READY) ## What the guards achieve by simulation, beside targets and peers (SCALE=0.05: fewer runs)
	$(BIN)/python -m bench.statistics --scale $(or $(SCALE),1)

docs: $(READY) ## Write docs/reference from the code, check every link
	$(BIN)/python docs/generate.py

lock: | $(UV) ## Resolve the environment anew into uv.lock
	$(UV) lock

clean: ## Remove the environments and caches (never .interlock)
	rm -rf .venv tests/clients/.venv bench/peers/.venv .tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
