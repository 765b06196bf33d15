# Every target sets up .venv by itself. PYTHON names the interpreter to make it with (3.11 to 3.13).
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.installed

.PHONY: install demo test test-slow check lines api bench bench-rl bench-gen docs clean

install: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v < (3, 14) and "corelab needs Python 3.11 to 3.13, and $(PYTHON) is %d.%d: say make PYTHON=python3.11" % v)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh docs/demo.sh

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -q

test-slow: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -q -m slow

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/api.py
	$(BIN)/python tests/breakages.py
	@$(MAKE) --no-print-directory lines

lines: $(READY)
	@$(BIN)/python tests/lines.py

api: $(READY) ## write down the public interface as it is now, after a change that was meant
	$(BIN)/python tests/api.py --write

bench: $(READY)
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/sinks.py
	$(BIN)/python benchmarks/learning.py --only ppo/CartPole-v1

bench-rl: $(READY) ## beside other libraries; benchmarks/peers.txt tells how to install them
	$(BIN)/python benchmarks/rl.py

bench-gen: $(READY) ## likewise for generative models
	$(BIN)/python benchmarks/generative.py

docs: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv .peers site dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
