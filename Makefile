# Two commands are enough on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# EXTRAS=dev,mmdet also installs mmdet, for which pip must find a wheel of onedl-mmcv (PIP_FIND_LINKS) or compile it.
EXTRAS ?= dev
COMMA := ,
STAMP := $(VENV)/.installed-$(subst $(COMMA),-,$(EXTRAS))
OUT ?= runs/bibert_glue
NATIVE := $(shell find export/runtime/native -type f)

.PHONY: run test lint types install clean

run: $(STAMP)  ## install, then train, evaluate and export a 1-bit BERT on the embedded data
	$(BIN)/bnnapps run recipes/bibert_glue.yaml --out $(OUT)

test: $(STAMP) lint types  ## install, then style, types and the whole test suite
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/python tests/check_types.py

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	# What builds the kernels, and onedl-mmdetection, which comes as source and needs a newer setuptools than Python brings.
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt scikit-build-core cmake ninja setuptools
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation --editable '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf build dist runs .pytest_cache .mypy_cache .ruff_cache
