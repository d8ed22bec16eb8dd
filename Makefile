# The README's two commands are `make run` and `make test`; the rest is for people who change HYBR.
PORT ?= 8080
HYBR := .venv/bin/hybr
PY := .venv/bin/python
# Tests are dealt out by files to so many processes; `make test PROCESSES=0` runs them one by one.
PROCESSES ?= 2
TEST := $(PY) -m pytest -q -n $(PROCESSES) --dist loadfile --rerun-show-tracebacks

.PHONY: run test test-long bench bench-gateway lint format lock screenshots setup clean

run: setup
	@exec $(HYBR) serve --port $(PORT)

# Browser tests run in processes of their own: Playwright's event loop and pytest-asyncio's do not share one. One of them, or of the
# contract's, that fails is run once more, and that is printed (R).
test: setup lint
	@$(TEST) -m "not long and not e2e"
	@$(TEST) -m "not long and e2e"

# New examples each time, where `make test` has the same ones.
test-long: setup lint
	@$(PY) -m pytest --hypothesis-profile=wide -m "not e2e"
	@$(PY) -m pytest --hypothesis-profile=wide -m e2e

bench: setup
	@$(PY) tests/bench/run.py $(ONLY)

# Ours, LiteLLM, Portkey and nginx in turn, one core each; installs the peers by itself. ONLY=hybr,nginx takes some of them.
bench-gateway: setup
	@$(PY) tests/bench/gateway/run.py $(ONLY)

screenshots: setup
	@HYBR_SCREENSHOTS=1 $(PY) -m pytest -q tests/e2e -k screenshots

setup:
	@python3 server/bootstrap.py

lint: setup
	@$(PY) -m ruff check . && $(PY) -m ruff format --check -q .
	@$(PY) -m mypy -p hybr.server -p hybr.webapp -p hybr.mlc_build
	@static/node_modules/.bin/tsc -p static

format: setup
	@$(PY) -m ruff check --fix . ; $(PY) -m ruff format .

# After a change of dependencies in pyproject.toml: resolve again for every supported Python and platform.
lock: setup
	@.venv/bin/uv pip compile pyproject.toml --universal --all-extras --generate-hashes --no-emit-index-url --no-header -q -o requirements.lock

clean:
	@rm -rf .venv static/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
