# Two commands are enough on a machine with Python >= 3.11, make and git:  make demo  and  make test.
#
#   PYTHON=python3.12      the interpreter to use
#   UV_TORCH_BACKEND=cpu   take PyTorch's CPU wheels (0.2 GB) instead of the default ones (3 GB with CUDA on Linux);
#                          any other variable of uv works too: UV_DEFAULT_INDEX, UV_FIND_LINKS, UV_OFFLINE, ...
#   PYTEST="-k pattern"    further arguments for make test

PYTHON ?= python3
PYTEST ?=
VENV := .venv
BOOTSTRAP := .narrows/bootstrap
STAMP := $(VENV)/.setup-done

# uv does not read pip's variables: hand over what the machine is set up with.
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
export UV_FIND_LINKS ?= $(wildcard $(PIP_FIND_LINKS))
export UV_PYTHON_DOWNLOADS ?= never

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench clean

help: ## Say what there is
	@echo "Narrows watches a stream for what it has never seen. Commands:"
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile
	@echo
	@sed -n 's/^#   /  /p' Makefile

setup: $(STAMP) ## Install everything into .venv (again only when pyproject.toml changed)

demo: setup ## Watch real digits through a real Kafka; one of them was never seen in training
	@$(VENV)/bin/narrows demo

test: setup ## Run all tests, with a real Kafka and a real PostgreSQL that they start themselves
	@echo "==> Running all tests (they start their own Kafka and PostgreSQL)"
	@$(VENV)/bin/python -m pytest $(PYTEST)

lint: setup ## Check style, format and types
	@echo "==> ruff check"
	@$(VENV)/bin/ruff check .
	@echo "==> ruff format --check"
	@$(VENV)/bin/ruff format --check .
	@echo "==> mypy"
	@$(VENV)/bin/mypy

bench: setup ## Measure throughput, latency and detection
	@$(VENV)/bin/python -m tests.benchmarks

clean: ## Remove .venv and the caches (not the data of narrows dev)
	@rm -rf $(VENV) $(BOOTSTRAP) build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Python 3.11 or newer is needed; '$(PYTHON)' is not. Name one: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.12" >&2; \
	    exit 1; }
	@if uv --version >/dev/null 2>&1; then uv=uv; else \
	    uv=$(BOOTSTRAP)/bin/uv; \
	    if ! $$uv --version >/dev/null 2>&1; then \
	        echo "==> Installing uv, which installs the rest, into $(BOOTSTRAP)"; \
	        $(PYTHON) -m venv --clear $(BOOTSTRAP) || { \
	            echo "'$(PYTHON) -m venv' does not work; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }; \
	        $(BOOTSTRAP)/bin/python -m pip install --quiet --disable-pip-version-check uv || exit 1; \
	    fi; \
	fi; \
	echo "==> Making $(VENV) and installing narrows with all it needs (minutes the first time: PyTorch is large)"; \
	$$uv venv --quiet --allow-existing --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV) && \
	$$uv pip install --python $(VENV)/bin/python -e '.[dev]'
	@touch $@
	@echo "==> Installed. The command is $(VENV)/bin/narrows"
