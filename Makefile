# Everything begins here, and needs nothing but Python 3.11 (with venv) or uv:
#
#   make demo       install into .venv, simulate the demo, write its report
#   make test       the checks of every change: style, types, floors, quick tests
#   make test-all   the same with the slow tests
#   make bench      how fast, how much memory
#   make lint       style, types and floors alone;  make format mends the style
#   make lock       write the locks again after pyproject.toml has changed (needs uv; UPGRADE=1 takes newer versions)
#   make clean      remove .venv and what the tools left behind
#
# PYTHON=python3.12 chooses an interpreter, VENV=folder another place, ARGS="--days 2" goes to the demo or to pytest.

VENV ?= .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
ARGS ?=
# One process of tests for each core, four at most. PARALLEL= runs them one after the other.
PARALLEL ?= --numprocesses=auto --maxprocesses=4 --dist=worksteal --benchmark-disable
# Compiles the kernels beside the checks of style and types, once, so that not every process of tests does: whatever comes out.
KERNELS = scratch=$$(mktemp -d) && for words in "run examples/street/scenario.yaml --days 1 --out $$scratch/run" \
	"market clear examples/market/new_england.yaml" "network envelopes ieee33 --rule max_total" "network validate european_lv --samples 100"; \
	do $(BIN)/commonwatt $$words >$$scratch/said 2>&1 || true; done; rm -rf $$scratch

# Many small problems: threads inside a library cost more than they bring, and equal runs must be equal bytes.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export NUMBA_NUM_THREADS ?= 2

.PHONY: demo test test-all ready bench lint format lock clean

demo: $(VENV)/.runtime
	$(BIN)/commonwatt demo $(ARGS)

test: ready
	$(BIN)/pytest -m "not slow" $(PARALLEL) $(ARGS)

test-all: ready
	$(BIN)/pytest $(PARALLEL) $(ARGS)

ready: $(VENV)/.dev
	@{ $(KERNELS); } & $(MAKE) --no-print-directory lint; said=$$?; wait; exit $$said

bench: $(VENV)/.dev
	$(BIN)/pytest $(if $(filter benchmarks/%,$(ARGS)),,benchmarks) -o python_files='bench_*.py' --benchmark-sort=name $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .benchmarks
	find agents market network sim storage tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment. A stamp is newer than what it was made from, so a second call does nothing.

$(VENV)/.made:
ifdef UV
	$(UV) venv --quiet --clear $(if $(PYTHON),--python $(PYTHON)) $(VENV)
else
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	  if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "$$python -m venv $(VENV)"; exec $$python -m venv --clear $(VENV); \
	  fi; \
	done; \
	echo "No Python 3.11 or newer with its venv module was found. Install one (Debian: apt-get install python3-venv), or uv." >&2; exit 1
endif
	@touch $@

$(VENV)/.runtime: requirements.lock pyproject.toml | $(VENV)/.made
	@echo "Installing into $(VENV); the first time takes a minute."
	@$(call install,$<)
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(VENV)/.made
	@echo "Installing the tools of development into $(VENV); the first time takes a minute."
	@$(call install,$<)
	@touch $@ $(VENV)/.runtime

# The lock names every version and its hash; the package itself is built with what the lock brought, without a further download.
ifdef UV
install = $(UV) pip install --quiet --python $(BIN)/python --require-hashes --requirement $(1) && \
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
else
pip = $(BIN)/python -m pip --disable-pip-version-check --quiet
install = { $(pip) --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; } && \
	$(pip) install --require-hashes --requirement $(1) && \
	$(pip) install --no-deps --no-build-isolation --editable .
endif

# Versions and hashes for every system and every Python from 3.11 on, and no address of an index: whoever installs chooses theirs.
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)
lock:
	$(if $(UV),,$(error make lock needs uv on the PATH))
	$(COMPILE) pyproject.toml requirements.in --output-file requirements.lock
	$(COMPILE) pyproject.toml requirements.in requirements-dev.in --constraints requirements.lock --output-file requirements-dev.lock
