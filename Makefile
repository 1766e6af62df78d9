# Every step a person or a CI job takes. Needs Python 3.11 to 3.13 and make, nothing else.
#
#   make ship    train, build, gate, promote; leaves the service on http://localhost:3000
#   make test    the whole test suite          make check   linters and types
#   make demo    the story in the terminal     make down    stop the service
#   make bench   Headgate beside other servers; make bench-gate: how often the gate is wrong
#
# HEADGATE_PORT=3100 make ship   takes another port.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# What an app.py in the root needs, where there is one: docs/your-own-app.md.
OWN := $(wildcard requirements/app.txt)

.PHONY: install ship down demo bench bench-gate test check format constraints clean

install: $(READY)

# torch first: any other order lets a dependency pull a build with gigabytes of CUDA.
# For a CPU build from elsewhere, set PIP_EXTRA_INDEX_URL; for a GPU, install your own first.
$(READY): pyproject.toml requirements/constraints.txt $(OWN)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 13) and f"make: Python {v[0]}.{v[1]} found; set PYTHON to 3.11, 3.12 or 3.13")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (a minute or two, once)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c requirements/constraints.txt torch
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c requirements/constraints.txt -e '.[platform,examples,dev]' $(addprefix -r ,$(OWN))
	@touch $(READY)

ship: $(READY)
	@$(BIN)/headgate ship

down: $(READY)
	@$(BIN)/headgate down

demo: $(READY)
	@$(BIN)/python demo/story.py

bench: $(READY)
	@$(BIN)/python benchmarks/serving.py $(ARGS)

bench-gate: $(READY)
	@$(BIN)/python benchmarks/gate_simulated.py
	@$(BIN)/python benchmarks/gate.py $(ARGS)

# Three at a time on two cores: one of them often waits for a server. With bytecode: what hundreds
# of processes import need not be compiled by each.
test: $(READY)
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --cov --cov-report=term $(ARGS)

check: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/hadolint Dockerfile

format: $(READY)
	@$(BIN)/ruff check --fix -q . ; $(BIN)/ruff format -q .

# After changing pyproject.toml: writes down what a fresh resolution of it installs.
constraints: $(READY)
	@$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements/constraints.txt

clean:
	rm -rf .venv .headgate
