# caf-dkd: from a fresh clone to results. `make` alone lists the targets.
# Needs Python 3.11 (or 3.10) with its headers and venv, a C++ compiler, GNU make >= 3.81.

VENV ?= .venv
# PYTHON=... makes .venv with that interpreter; without it, the first one found of these versions,
# under the usual names or pyenv's. CI tests 3.10 and 3.11; 3.12 passed the tests by hand.
PYTHON ?=
PYTHON_VERSIONS ?= 3.11 3.10 3.12
PYENV_ROOT ?= $(HOME)/.pyenv
# Added to the commands: make demo DEMO_ARGS="--help", make test PYTEST_ARGS="-k store -x"
DEMO_ARGS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=

SHELL = /bin/sh
STAMP = $(VENV)/.caf-dkd-installed
# Stands in .venv instead of the stamp while an installation runs: what is left of one that was
# killed can be told from an environment that somebody made by hand, which is never removed.
UNFINISHED = $(VENV)/.caf-dkd-unfinished

.PHONY: help install demo test bench lint format clean distclean find-python check-python

help:
	@echo 'make demo      the whole method on a small made-up corpus, to a table of results (3 to 6 minutes)'
	@echo 'make test      the test suite (about 15 minutes)'
	@echo 'make bench     speed and memory beside what one would run instead (less than 20 minutes)'
	@echo 'make lint      ruff: rules and format; make format repairs what it can'
	@echo 'make install   only set up $(VENV), which the others do by themselves'
	@echo 'make clean     remove the demo and caches; make distclean removes $(VENV) too'
	@echo
	@echo 'The first of them sets up $(VENV): about 4 minutes, 6 GB (PyTorch brings CUDA along on Linux).'
	@echo 'Settings: PYTHON=python3.10 VENV=.venv310 DEMO_ARGS="..." PYTEST_ARGS="-k store -x"'

install: $(STAMP)

demo: $(STAMP)
	@echo '==> Running the demo: examples/quickstart/run.py $(DEMO_ARGS)'
	@$(VENV)/bin/python examples/quickstart/run.py $(DEMO_ARGS)

test: $(STAMP)
	@echo '==> Running the tests: pytest $(PYTEST_ARGS)'
	@$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

bench: $(STAMP)
	@echo '==> Running the benchmarks: benchmarks/run.py $(BENCH_ARGS)'
	@$(VENV)/bin/python benchmarks/run.py $(BENCH_ARGS)

lint: $(STAMP)
	@echo '==> Checking rules and format with ruff'
	@$(VENV)/bin/python -m ruff check .
	@$(VENV)/bin/python -m ruff format --check .

format: $(STAMP)
	@$(VENV)/bin/python -m ruff check --fix .
	@$(VENV)/bin/python -m ruff format .

# Only what this Makefile and its tools made, by name.
clean:
	rm -rf demo build dist caf_dkd.egg-info .pytest_cache .ruff_cache
	@for folder in caf_dkd_plugin preprocess examples benchmarks tests; do \
	    test ! -d $$folder || find $$folder -name __pycache__ -type d -prune -exec rm -rf {} +; \
	done

distclean: clean
	@if test -e '$(VENV)' && ! test -e '$(VENV)/pyvenv.cfg' && ! test -e '$(UNFINISHED)'; then \
	    echo '$(VENV) is not a virtual environment: left alone.' >&2; exit 1; \
	fi
	rm -rf '$(VENV)'

# --- setting up $(VENV) ---------------------------------------------------------------------------

# Sets $$python, or ends with what is missing. `python3.10 -V` decides, not its being on PATH: pyenv
# leaves shims there that fail.
define FIND_PYTHON
python=; \
is_version() { test "$$("$$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$$2"; }; \
if test -n '$(PYTHON)'; then \
    for version in 3.10 3.11 3.12; do \
        if is_version '$(PYTHON)' $$version; then python='$(PYTHON)'; break; fi; \
    done; \
    if test -z "$$python"; then \
        echo 'PYTHON=$(PYTHON) does not run or is not Python 3.10, 3.11 or 3.12.' >&2; exit 1; \
    fi; \
else \
    for version in $(PYTHON_VERSIONS); do \
        for candidate in python$$version python3 python '$(PYENV_ROOT)'/versions/$$version.*/bin/python; do \
            if is_version "$$candidate" $$version; then python=$$candidate; break 2; fi; \
        done; \
    done; \
    if test -z "$$python"; then \
        echo 'No Python of these versions was found: $(PYTHON_VERSIONS).' >&2; \
        echo 'Install one (Debian, Ubuntu: apt-get install python3.11-venv python3.11-dev), or name one: make PYTHON=/path/to/python3.11 ...' >&2; \
        exit 1; \
    fi; \
fi
endef

# Prints the interpreter that would be used.
find-python:
	@$(FIND_PYTHON); echo "$$python"

# With PYTHON given, an existing environment of another version is an error, not a surprise.
check-python:
	@if test -n '$(PYTHON)' && test -e '$(STAMP)'; then \
	    $(FIND_PYTHON); \
	    is_version '$(VENV)/bin/python' $$version || { \
	        echo "$(VENV) was made with another Python than PYTHON=$(PYTHON) ($$version): add VENV=.venv$$version, or make distclean first." >&2; \
	        exit 1; }; \
	fi

$(STAMP): setup.py constraints/py310.txt constraints/py311.txt | check-python
	@set -e; \
	if test -e '$(UNFINISHED)'; then \
	    echo '==> An installation into $(VENV) was cut short: starting it again'; \
	    rm -rf '$(VENV)'; \
	fi; \
	if test -e '$(VENV)' && ! test -x '$(VENV)/bin/python'; then \
	    echo '$(VENV) exists and is not a virtual environment: move it away, or give another name with VENV=...' >&2; exit 1; \
	fi; \
	if test -e '$(VENV)'; then python='$(VENV)/bin/python'; else $(FIND_PYTHON); fi; \
	"$$python" -c 'import venv, ensurepip' 2>/dev/null || { \
	    echo "$$python has no venv module (Debian, Ubuntu: apt-get install python3-venv, or python3.11-venv)." >&2; exit 1; }; \
	header=$$("$$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h; \
	test -e "$$header" || { \
	    echo "$$header is missing; fairseq is built from source (Debian, Ubuntu: apt-get install python3-dev, or python3.11-dev)." >&2; exit 1; }; \
	command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || { \
	    echo 'No C++ compiler (c++, g++, clang++); fairseq is built from source (Debian, Ubuntu: apt-get install g++).' >&2; exit 1; }; \
	version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	case $$version in 3.10) tested=constraints/py310.txt;; *) tested=constraints/py311.txt;; esac; \
	case $$version in 3.10|3.11) ;; *) echo "==> Note: CI does not test Python $$version; 3.10 and 3.11 it does";; esac; \
	quiet=; test -t 1 || quiet=--quiet; \
	if test -e '$(STAMP)'; then \
	    echo '==> setup.py or constraints/ changed: bringing $(VENV) up to date'; \
	    mv '$(STAMP)' '$(UNFINISHED)'; \
	elif test -e '$(VENV)'; then \
	    echo '==> Installing into the existing $(VENV): about 4 minutes where nothing is there yet'; \
	else \
	    echo "==> Setting up $(VENV) with Python $$version, PyTorch and fairseq (built from source)"; \
	    echo '    This time only: about 4 minutes, 6 GB on disk; longer on a slow line'; \
	    mkdir -p '$(VENV)'; : > '$(UNFINISHED)'; \
	    "$$python" -m venv '$(VENV)'; \
	fi; \
	PIP_CONSTRAINT=$$tested; PIP_BUILD_CONSTRAINT=$$tested; PIP_DISABLE_PIP_VERSION_CHECK=1; \
	export PIP_CONSTRAINT PIP_BUILD_CONSTRAINT PIP_DISABLE_PIP_VERSION_CHECK; \
	'$(VENV)/bin/python' -m pip install --quiet --upgrade pip; \
	PYTHONWARNINGS=ignore::UserWarning '$(VENV)/bin/python' -m pip install $$quiet --editable '.[dev]'; \
	rm -f '$(UNFINISHED)'; \
	echo "$$tested" > '$(STAMP)'; \
	echo '==> $(VENV) is ready'
