# One command each; `make help` lists them. Works with GNU make 3.81 (macOS).

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

# Node is only for the Node SDK's tests; without it they are skipped and say so.
NODE := $(if $(wildcard tests/node/package-lock.json),$(shell command -v npm 2>/dev/null))
NODE_INSTALLED := $(if $(NODE),tests/node/node_modules/.installed)

# Other Python clients, which only tests use, in an environment of their own; without it they are skipped and say so.
CLIENTS := var/clients

# Tests run on as many workers as there are processors, at most four, each with servers of its own: WORKERS=0 runs them in
# one process. Files are handed out one by one; SEED=7 shuffles them, and the tests of each.
WORKERS ?= auto
PYTEST := $(BIN)/python -m pytest
AT_ONCE = -n $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(if $(SEED),--shuffle $(SEED))

# Benchmarks take their options from the environment: `make bench ROUNDS=3 SECONDS=2`.
export ROUNDS SECONDS ROWS TENANTS KEYS

# What a production server is told, for the checks that read the settings. Nothing is connected to.
RANDOM_SECRET = $$(od -An -N 32 -t x1 /dev/urandom | tr -d ' \n')
AS_PRODUCTION = env DJANGO_SETTINGS_MODULE=quantized.settings DATABASE_URL='postgres://quantized@/quantized?host=/nowhere' \
	REDIS_URL=redis://localhost PUBLIC_URL=https://quantized.example ALLOWED_HOSTS=quantized.example EMAIL_URL=smtp://localhost \
	SECRET_KEY=$(RANDOM_SECRET) KEY_PEPPER=$(RANDOM_SECRET)

.DEFAULT_GOAL := help
.PHONY: help run smoke test test-pure test-browser test-chaos test-long chaos screenshots check format drawing lock clean
.PHONY: bench bench-streams bench-ledger bench-scale bench-pages profile

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(INSTALLED) ## the whole product on this machine, until Ctrl-C (PORT=8000)
	@$(BIN)/python -m quantized.devstack run

smoke: $(INSTALLED) ## the same from an empty database, ends after one proven completion
	@$(BIN)/python -m quantized.devstack smoke

test: $(INSTALLED) $(NODE_INSTALLED) $(CLIENTS)/installed ## the whole test suite but for browser and chaos (SEED=... shuffles it)
	$(PYTEST) $(AT_ONCE) --ignore tests/browser --ignore tests/chaos

test-pure: $(INSTALLED) ## what needs no server, no settings and no database: seconds
	$(PYTEST) $(AT_ONCE) tests/pure

test-browser: $(INSTALLED) ## what people do and see, in Chromium: flows, axe on every page, the keyboard
	$(PYTEST) tests/browser

test-chaos: $(INSTALLED) ## every kind of blow once, under load: the short form of `make chaos`
	$(PYTEST) tests/chaos

test-long: $(INSTALLED) ## many more random ledger programs, and requests against the OpenAPI document (EXAMPLES=300)
	HYPOTHESIS_PROFILE=long $(PYTEST) --timeout 3600 tests/books/test_ledger_model.py tests/pure/test_money.py
	CONFORMANCE_EXAMPLES=$(or $(EXAMPLES),300) $(PYTEST) --timeout 3600 tests/live/test_openapi_conformance.py

chaos: $(INSTALLED) ## processes, servers, providers and clients die under load; nothing is lost (SECONDS=240 SEED=...)
	$(BIN)/python -m tests.chaos --seconds $(or $(SECONDS),240) $(if $(SEED),--seed $(SEED))

screenshots: $(INSTALLED) ## every page, light, dark and on a phone, into var/screenshots/; look at them
	$(PYTEST) -q -p no:cacheprovider tests/browser/screenshots.py

check: $(INSTALLED) ## format, lint, types, migrations, import directions, production settings
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	@$(AS_PRODUCTION) $(BIN)/python -m mypy
	@$(AS_PRODUCTION) $(BIN)/python -W 'ignore:Got an error checking' manage.py makemigrations --check --dry-run
	@$(AS_PRODUCTION) $(BIN)/python manage.py check --deploy --fail-level WARNING
	$(PYTEST) -q tests/house

format: $(INSTALLED) ## write the code as `make check` wants it
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

drawing: $(INSTALLED) ## the rooms and their doors, from the code into docs/architecture.md
	@$(BIN)/python -m tests.kit.drawing

bench: $(INSTALLED) ## ours beside the peers, about ten minutes (ROUNDS=5 SECONDS=3); docs/benchmarks.md
	@$(BIN)/python -m benchmarks.peers

bench-streams: $(INSTALLED) ## what a relayed chunk costs, 2,000 open streams, clients who leave
	@$(BIN)/python -m benchmarks.streams

bench-ledger: $(INSTALLED) ## holds and settlements a second on durable PostgreSQL
	@$(BIN)/python -m benchmarks.ledger

bench-scale: $(INSTALLED) ## ten million calls in the books, needs 20 GB (ROWS=10000000)
	@$(BIN)/python -m benchmarks.scale

bench-pages: $(INSTALLED) ## every page of a tenant with a million calls (ROWS=1000000)
	@$(BIN)/python -m benchmarks.pages

profile: $(INSTALLED) ## where our server's time goes under load: flame graphs in var/profile/
	@$(BIN)/python -m benchmarks.profile

lock: $(INSTALLED) ## pin requirements*.in with hashes (UPGRADE=--upgrade takes newer versions)
	$(BIN)/uv pip compile $(UPGRADE) --universal --generate-hashes --python-version 3.11 -o requirements.txt requirements.in
	$(BIN)/uv pip compile $(UPGRADE) --universal --generate-hashes --python-version 3.11 -o requirements-dev.txt requirements-dev.in
	$(BIN)/uv pip compile $(UPGRADE) --universal --generate-hashes --python-version 3.11 --override tests/clients/overrides.txt \
		-o tests/clients/requirements.txt tests/clients/requirements.in

clean: ## remove what can be made again; the data of `make run` stays in var/
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis tests/node/node_modules $(CLIENTS) var/smoke var/test
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): requirements.txt requirements-dev.txt
	@$(PYTHON) quantized/devstack/install.py $@

tests/node/node_modules/.installed: tests/node/package-lock.json
	cd tests/node && npm ci --silent --no-audit --no-fund
	@touch $@

$(CLIENTS)/installed: tests/clients/requirements.txt | $(INSTALLED)
	@echo "Installing other clients into $(CLIENTS) ..."
	@rm -f $@ && $(BIN)/python -m venv --clear $(CLIENTS)/.venv \
		&& $(CLIENTS)/.venv/bin/python -m pip install -qq --no-input --require-hashes --no-deps -r $< && touch $@ \
		|| echo "They could not be installed, pip says why above: their tests are skipped"
