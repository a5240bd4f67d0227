# The targets that people and CI use. `make demo` is all a newcomer needs.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
FOLDERS := pipeline stages kernels configs lab

.DEFAULT_GOAL := demo
.PHONY: setup demo test check drift chaos soak bench wheel-test schema clean

setup: $(VENV)/.stamp build/types/.stamp  ## make .venv with the pinned packages, once

# torch and setuptools first: hdrhistogram and livesd itself build without an
# isolated environment, so that the pinned setuptools is the one that is used.
$(VENV)/.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c constraints.txt torch==2.13.0 setuptools
	$(PIP) install --quiet -c constraints.txt --no-build-isolation -e '.[dev]'
	touch $@

# mypy, pyright and editors look for `lsd.pipeline` in a folder lsd/: links do.
build/types/.stamp: Makefile
	mkdir -p build/types/lsd
	for folder in $(FOLDERS); do ln -sfn ../../../$$folder build/types/lsd/$$folder; done
	touch $@

demo: setup  ## restyle the bundled clip: out/demo.mp4, out/demo_side_by_side.png
	$(BIN)/livesd run configs/demo.yaml
	$(BIN)/python -m lsd.lab.contact_sheet --config configs/demo.yaml -o out/demo_side_by_side.png

test: setup  ## run every test
	$(BIN)/pytest -n 2 --dist loadfile

check: setup  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

drift: setup  ## hold a stream of thousands of frames to the gates; both controls must fail
	$(BIN)/livesd drift -o out/drift

chaos: setup  ## for a minute, kill, hang and starve the real workers, their source and their outputs
	$(BIN)/python -m lsd.lab.chaos --minutes 1 --seed 7 -o out/chaos

soak: setup  ## for an hour, run the real workers; memory and latency must stay flat, nothing may be lost
	$(BIN)/python -m lsd.lab.soak --minutes 60

bench: setup  ## time every stage, the network, the pipeline's own overhead, hops between processes, and workers
	$(BIN)/python -m lsd.lab.bench
	$(BIN)/python -m lsd.lab.hops
	$(BIN)/python -m lsd.lab.bench_workers

schema: setup  ## write configs/schema.json anew
	$(BIN)/livesd schema -o configs/schema.json

wheel-test: setup  ## build the wheel and run it in a second environment
	bash .ci/wheel-test

clean:  ## remove what was built; .venv and downloaded data stay
	rm -rf build dist out .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
