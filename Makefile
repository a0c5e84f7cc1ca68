# `make demo` and `make test` work in a fresh clone: each sets up .venv (once) and runs.
# PYTHON=python3.12 picks the interpreter, VENV=folder another place, PYTEST_ARGS="-k neuron" what pytest gets.
PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?= -n 2

SHELL := /bin/bash
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
SETUP := setup.cfg setup.py pyproject.toml
RUN_DONE := $(VENV)/.installed-run
DEV_DONE := $(VENV)/.installed-dev
# two workers with one thread each, not two with all cores each
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help demo test coverage fuzz lint types imports docs build compatibility clean
.NOTPARALLEL:

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /make \1: /p' $(MAKEFILE_LIST)

demo: $(RUN_DONE)  ## train, convert and score a small spiking detector on built-in data
	@echo "== demo"
	$(BIN)/sj-lowlat demo

test: $(DEV_DONE)  ## all tests
	@echo "== tests"
	$(ONE_THREAD) $(BIN)/python -m pytest $(PYTEST_ARGS)

coverage: $(DEV_DONE)  ## all tests, and which lines and branches none of them runs
	@echo "== coverage"
	$(ONE_THREAD) $(BIN)/python -m pytest $(PYTEST_ARGS) --cov=sj_lowlat --cov-branch --cov-report=term-missing:skip-covered

fuzz: $(DEV_DONE)  ## coverage-guided fuzzing of every reader, some minutes
	@echo "== fuzz"
	$(ONE_THREAD) $(BIN)/python tests/fuzz/run.py all --executions 2000

lint: $(DEV_DONE)  ## ruff: rules and format
	@echo "== lint"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV_DONE)  ## mypy
	@echo "== types"
	$(BIN)/mypy

imports: $(DEV_DONE)  ## the import rules of setup.cfg
	@echo "== import rules"
	$(BIN)/lint-imports

docs: $(DEV_DONE)  ## HTML in docs/_build/html; the tutorials are executed
	@echo "== docs"
	$(ONE_THREAD) $(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

build: $(DEV_DONE)  ## the wheel in dist/, and a look at what is inside
	@echo "== wheel"
	rm -rf build dist
	$(BIN)/python -m build --wheel --outdir dist . > dist.log 2>&1 || { cat dist.log; rm -f dist.log; exit 1; }
	@rm -f dist.log
	$(BIN)/python -c "$$CHECK_WHEEL" dist/*.whl

compatibility: $(DEV_DONE)  ## wheel and sdist, tried on each Python with the oldest and newest requirements (some gigabytes)
	@echo "== compatibility"
	$(BIN)/python tools/compatibility.py

clean:  ## remove all that was built, .venv too
	@test ! -e "$(VENV)/pyvenv.cfg" || rm -rf "$(VENV)"
	rm -rf build dist docs/_build docs/gallery docs/sg_execution_times.rst *.egg-info
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache

$(BIN)/python:
	@echo "== setting up $(VENV) (some gigabytes and minutes, once)"
	@command -v "$(PYTHON)" > /dev/null || \
	  { echo "no '$(PYTHON)' on this machine: install Python 3.11 or newer, or name one: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "'$(PYTHON)' is $$("$(PYTHON)" --version 2>&1), 3.11 or newer is needed: name one with make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -m venv "$(VENV)" || \
	  { rm -f "$(BIN)/python"; echo "'$(PYTHON) -m venv' failed: on Debian and Ubuntu, install the package python3-venv" >&2; exit 1; }

# a recipe per set of extras; the larger one serves `make demo` as well
$(RUN_DONE): $(SETUP) | $(BIN)/python
	@echo "== installing sj-lowlat into $(VENV)"
	@$(PIP) --editable .
	@$(BIN)/python -c "$$CHECK_TORCH"
	@touch $@

$(DEV_DONE): $(SETUP) | $(BIN)/python
	@echo "== installing sj-lowlat and its tools into $(VENV)"
	@$(PIP) --editable '.[dev,docs]'
	@$(PIP) --no-deps sinabs nirtorch pbr neurobench snntorch  # for their tests; sinabs asks for an older nir
	@$(BIN)/python -c "$$CHECK_TORCH"
	@touch $(RUN_DONE) $@

# a torch of another source than torchvision's does not load its operators
define CHECK_TORCH
import sys, importlib.metadata as meta
try:
    import torch, torchvision
    torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
except (ImportError, RuntimeError, AttributeError) as error:
    pair = " and ".join(f"{name} {meta.version(name)}" for name in ("torch", "torchvision"))
    sys.exit(f"{pair} do not match ({error}): install both from one index into this environment")
endef
export CHECK_TORCH

define CHECK_WHEEL
import sys, zipfile
names = zipfile.ZipFile(sys.argv[1]).namelist()
tops = {name.split("/")[0] for name in names}
stray = sorted(top for top in tops if top != "sj_lowlat" and not top.endswith(".dist-info"))
ends = ("sj_lowlat/py.typed", "sj_lowlat/__init__.py", "/LICENSE", "/entry_points.txt",
        "sj_lowlat/weights/snn-tiny-yolov3-coco.safetensors",
        "sj_lowlat/weights/snn-yolo-fastest-xl-coco.safetensors",
        "sj_lowlat/report/page.html", "sj_lowlat/report/page.css", "sj_lowlat/report/page.js")
missing = [end for end in ends if not any(name.endswith(end) for name in names)]
if stray or missing:
    sys.exit(f"{sys.argv[1]}: must not be inside: {stray}; missing: {missing}")
print(f"{sys.argv[1]}: {len(names)} files, only sj_lowlat and its metadata")
endef
export CHECK_WHEEL
