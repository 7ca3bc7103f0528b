# The two commands of a newcomer: `make demo` and `make test`.
# Everything goes into .venv; nothing but Python >= 3.11 has to be there.

PYTHON ?= python3
# Worker processes of the tests.
TEST_WORKERS ?= 2
UV_VERSION := 0.13.8
VENV := .venv

python := $(VENV)/bin/python
uv := $(VENV)/bin/uv
stamp := $(VENV)/mmmedmask-installed
docs_stamp := $(VENV)/mmmedmask-docs-installed
say := @printf '\n==> %s\n'
# What users install; setup.py makes an extra of each but runtime.txt.
extras := $(addprefix requirements/, \
	runtime.txt mminstall.txt detection.txt segmentation.txt slides.txt \
	genes.txt encoders.txt experiments.txt demo.txt logging.txt mim.txt \
	sam.txt export.txt radiology.txt storage.txt plots.txt)

# The wheels are large; a slow line is not a reason to give up.
export UV_HTTP_TIMEOUT ?= 300
# One thread per process: the processes share the cores. Python keeps what it
# compiles, where a variable forbids it as well: each process would do it again.
test_environment := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=

.PHONY: help demo test test-slow bench lint docs lock clean clean-venv

help:
	@echo 'make demo        install into .venv, then run the whole pipeline on small data'
	@echo 'make test        install into .venv, then run the tests (TEST_WORKERS=2)'
	@echo 'make test-slow   the tests that take minutes each or download, after those'
	@echo 'make bench       install into .venv, then measure speed and memory'
	@echo 'make lint        install into .venv, then check the style'
	@echo 'make docs        install into .venv, then build the documentation into site/'
	@echo 'make lock        renew lock.txt and constraints.txt from the other requirements'
	@echo 'make clean       remove what builds, tests and lint leave; runs and data stay'
	@echo 'make clean-venv  remove .venv'
	@echo 'PYTHON=python3.12 make ... picks the Python that .venv is made with.'

demo: $(stamp)
	$(say) 'Running the demo'
	@$(python) tools/demo.py || { \
	  echo 'The demo failed: the last lines above say where. If a package is' \
	    'missing or broken, `make clean-venv` and try again.'; exit 1; }

test: $(stamp)
	$(say) 'Running the tests with $(TEST_WORKERS) processes'
	@$(test_environment) $(python) -m pytest -n $(TEST_WORKERS) || { \
	  echo 'Tests failed: see the summary above. One alone:' \
	    '$(python) -m pytest -x FILE::TEST. If a package is missing or' \
	    'broken, `make clean-venv` and try again.'; exit 1; }

test-slow: $(stamp)
	$(say) 'Running the tests that take minutes each'
	@MMMEDMASK_SLOW_RECIPES=1 $(test_environment) $(python) -m pytest \
	  -n $(TEST_WORKERS) -m slow_recipes

bench: $(stamp)
	$(say) 'Measuring speed and memory, ten minutes on an idle core'
	@$(test_environment) $(python) tools/analysis_tools/run_benchmarks.py || { \
	  echo 'A benchmark failed: its last lines are above. One alone:' \
	    '$(python) tools/analysis_tools/run_benchmarks.py --only NAME'; \
	  exit 1; }

lint: $(stamp)
	$(say) 'Checking the style'
	@$(python) -m ruff check . || { \
	  echo 'Much of it can be mended with: $(python) -m ruff check --fix .'; \
	  exit 1; }

docs: $(docs_stamp)
	$(say) 'Building the documentation'
	@NO_MKDOCS_2_WARNING=1 $(python) -m mkdocs build --strict --quiet || { \
	  echo 'The documentation could not be built: the warnings above name' \
	    'the page and the link.'; exit 1; }
	@echo 'Open site/index.html, or: $(python) -m mkdocs serve'

$(docs_stamp): $(stamp) requirements/docs.txt
	$(say) 'Installing the packages of requirements/docs.txt'
	@$(uv) pip install --quiet --python $(python) \
	  --requirements requirements/docs.txt || { \
	  echo 'Could not install what builds the documentation: check the' \
	    'network, a proxy or a mirror, and try again.'; exit 1; }
	@touch $@

# Made again when a pin or the packaging changes, and only then. Libraries are
# compiled here, once: each process would do it, for a quarter of a minute,
# where PYTHONDONTWRITEBYTECODE is set.
$(stamp): requirements/lock.txt requirements/build.txt setup.py
	$(say) 'Environment $(VENV)'
	@test -x $(python) || { \
	  $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	    echo 'It takes Python 3.11 to 3.13, and $(PYTHON) is not:' \
	      "$$($(PYTHON) --version 2>&1 || true)"; \
	    echo 'Install one of them and name it: make PYTHON=python3.12 $(MAKECMDGOALS)'; \
	    exit 1; }; \
	  $(PYTHON) -m venv $(VENV) || { \
	    rm -rf $(VENV); \
	    echo 'Could not make a virtual environment. On Debian and Ubuntu the' \
	      'package python3-venv is missing: install it, or name another' \
	      'Python with PYTHON=.'; \
	    exit 1; }; }
	$(say) 'Installing uv $(UV_VERSION)'
	@$(python) -m pip install --quiet --disable-pip-version-check \
	  uv==$(UV_VERSION) || { \
	  echo 'Could not install uv: check the network, a proxy or a mirror' \
	    '(pip config list), or `make clean-venv`, and try again.'; exit 1; }
	$(say) 'Installing the packages of requirements/lock.txt (some GB the first time)'
	@$(uv) pip install --quiet --compile-bytecode --python $(python) \
	  --build-constraints requirements/build.txt \
	  --requirements requirements/lock.txt || { \
	  echo 'Could not install all packages: check the network and the free' \
	    'disk space (10 GB), then try again; it goes on where it stopped.'; \
	  exit 1; }
	$(say) 'Installing mmmedmask, editable'
	@$(uv) pip install --quiet --python $(python) --no-deps \
	  --no-build-isolation --editable . || { \
	  echo 'Could not install mmmedmask itself: see setup.py and the lines' \
	    'above.'; exit 1; }
	@touch $@

# Keeps the pins it finds as long as they satisfy the requirements, and one
# version for all Pythons. constraints.txt is for pip: the lock without tests.
compile := pip compile --quiet --universal --python-version 3.11 \
	--fork-strategy fewest --no-annotate --custom-compile-command 'make lock'

lock:
	@test -x $(uv) || { echo 'Run `make test` first, it installs uv.'; exit 1; }
	$(uv) $(compile) --output-file requirements/lock.txt \
	  $(extras) requirements/tests.txt
	rm -f constraints.txt
	$(uv) $(compile) --output-file constraints.txt \
	  --constraints requirements/lock.txt $(extras)

clean:
	rm -rf build dist site *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

clean-venv:
	rm -rf $(VENV)
