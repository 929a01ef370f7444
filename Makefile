# The two commands: `make study` and `make test`. Each installs what it needs, once.
# `make study DATA_DIR=folder` has Fashion-MNIST from that folder.
VENV ?= .venv
PYTHON ?= python3
TESTS ?= 3
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed

.PHONY: study test lint data clean

study: $(INSTALLED) $(if $(DATA_DIR),,data)
	$(BIN)/python study/tune_smoothap.py $(if $(DATA_DIR),--data-dir '$(DATA_DIR)')

test: $(INSTALLED) data
	$(BIN)/python -m pytest --numprocesses $(TESTS) --dist worksteal $(OPTIONS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Installs again only if the requirements change.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --constraint constraints.txt --editable '.[dev]'
	touch $@

# A folder of the system's, else torchvision's download, else (as root) Debian's data package.
data: $(INSTALLED)
	@$(BIN)/python -m trainables.data || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	    apt-get update && apt-get install --yes dataset-fashion-mnist && \
	    $(BIN)/python -m trainables.data; }

clean:
	rm -rf $(VENV) *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
