# Everyday commands. They use the active environment's Python: PYTHON=... chooses another.
PYTHON ?= python
# Tests of one package: make test TESTS=tests/serve
TESTS ?=
# Model of `make bench`.
MODEL ?= nano
# Generated inputs per fuzz test, times its factor: 120,000 headers, 200 configurations per file.
EXAMPLES ?= 2000
# Package index of `make release`, `pypi` or `testpypi`; empty: nothing is uploaded.
UPLOAD_TO ?=

.DEFAULT_GOAL := help
.PHONY: help setup test lint types types-linux types-win32 types-darwin format docs pictures bench \
	fuzz device-tests gpu-check release clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install the development environment and the commit hooks
	$(PYTHON) -m pip install -c constraints.txt -e '.[dev]'
	$(PYTHON) -m pre_commit install

test: ## Run the tests; TESTS=tests/serve for some of them
	$(PYTHON) -m pytest $(TESTS)

lint: ## Check style, formatting and import boundaries
	ruff check .
	ruff format --check .
	lint-imports

types: types-linux types-win32 types-darwin ## Check types for Linux, Windows and macOS

types-linux types-win32 types-darwin: types-%:
	mypy --platform $* --cache-dir .mypy_cache/$*

format: ## Format the code and sort the imports
	ruff check --fix .
	ruff format .

docs: ## Build the documentation site in site/, with links checked
	zensical build --strict --clean

pictures: ## Redraw the pictures of the chat in docs/images
	$(PYTHON) -m localmtp.bench.lab.chat.picture

bench: ## Measure decoding speed; MODEL=gemma4-e4b for another model
	$(PYTHON) -m localmtp bench run $(MODEL)

fuzz: ## Fuzz with more inputs than the tests do; EXAMPLES=2000
	LOCALMTP_FUZZ_EXAMPLES=$(EXAMPLES) $(PYTHON) -m pytest tests/fuzz tests/convert/test_fuzz.py \
		tests/serve/test_fuzz.py

device-tests: ## Run the tests that need a GPU, on any that libllama finds
	@$(PYTHON) -c "from localmtp.engine.llama.ggml import devices; \
	print('devices:', ', '.join(d.description for d in devices()) or 'none, so the tests are skipped')"
	$(PYTHON) -m pytest -n 0 -m device -rs || [ $$? -eq 5 ]

gpu-check: ## Test and measure a GPU; OUT=gpu-results, SECONDS=570, FLAGS="--only doctor,tests"
	$(PYTHON) -m localmtp.bench.lab.gpu_check $(or $(OUT),gpu-results) \
		--seconds $(or $(SECONDS),570) $(FLAGS)

release: ## Build and check the distributions; UPLOAD_TO=testpypi uploads them
	rm -rf dist
	$(PYTHON) -m pip install --quiet -c constraints.txt build twine
	$(PYTHON) -m build
	$(PYTHON) -m twine check --strict dist/*
ifneq ($(UPLOAD_TO),)
	$(PYTHON) -m twine upload --repository $(UPLOAD_TO) dist/*
endif

clean: ## Remove what builds and checks leave behind
	rm -rf build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache snapshot_report.html
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
