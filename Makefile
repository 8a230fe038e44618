# Everything happens inside this checkout: .venv holds the libraries, data the server's data.
PYTHON ?= python3
VENV := .venv/bin/python
SOURCES := licensesvc tests benchmarks docs

.PHONY: help run demo test prove bench lock clean
.SILENT:

help:
	echo "make run    start the server and the sandbox marketplace, send one order through its life, keep serving"
	echo "make demo   the same story once, on temporary data and free ports"
	echo "make test   set up and run every check: lint, types, floors, tests"
	echo "make prove  before a release: a million broken inputs, a storm of 100,000 deliveries, 100,000 steps of supervision, kill -9 before every step"
	echo "make bench  measure activation and heartbeat against an empty handler"
	echo "make lock   write the lock files anew (needs uv)"

run: .venv/runtime
	exec $(VENV) -m licensesvc demo --serve --data-dir data

demo: .venv/runtime
	exec $(VENV) -m licensesvc demo

test: .venv/development
	$(VENV) -m ruff format --check $(SOURCES)
	$(VENV) -m ruff check $(SOURCES)
	$(VENV) -m mypy
	$(VENV) -c "from importlinter.cli import lint_imports_command as main; main()"
	$(VENV) -m pytest -n 2 --dist worksteal -q

prove: .venv/development
	LICENSESVC_FUZZ_INPUTS=1000000 LICENSESVC_STORM_DELIVERIES=100000 LICENSESVC_SUPERVISION_STEPS=100000 LICENSESVC_KILL_EVERY=1 \
	  $(VENV) -m pytest -n 2 -q tests/fuzz tests/e2e/test_storm.py tests/e2e/test_crash_supervision.py \
	  tests/domain/test_domain_supervision_machine.py
	exec $(VENV) -m benchmarks.storm

bench: .venv/development
	exec $(VENV) -m benchmarks.activate

lock:
	uv pip compile -q --generate-hashes --no-header --no-annotate --universal --python-version 3.11 --extra postgres pyproject.toml -o requirements/runtime.lock
	uv pip compile -q --generate-hashes --no-header --no-annotate --universal --python-version 3.11 --extra postgres --group dev pyproject.toml -o requirements/dev.lock

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.venv/runtime: requirements/runtime.lock
	echo "Setting up .venv (once; about a minute)"
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed; this is ' + sys.version.split()[0])"
	$(PYTHON) -m venv .venv
	$(VENV) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.lock
	touch .venv/runtime

.venv/development: .venv/runtime requirements/dev.lock
	echo "Adding the tools for the checks (once; about a minute)"
	$(VENV) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	touch .venv/development
