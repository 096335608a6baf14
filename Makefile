# The commands that people type. `make` alone lists them.

UV := .tools/bin/uv
BIN := .venv/bin
PYTHON := $(BIN)/python
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Where a proxy signs TLS anew, uv has to trust what the system trusts.
export UV_SYSTEM_CERTS := true
# systemd in a container needs the whole hierarchy of control groups (see hosts/host.py).
export SLIPWAY_CGROUPS := $(firstword $(wildcard /sys/fs/cgroup/unified) /sys/fs/cgroup)

# Of `make test`: the seconds after which what still runs is ended, and named.
LIMIT ?= 7200

.DEFAULT_GOAL := help
.PHONY: help tools new-app demo demo-release demo-down dev test quick fmt docs hooks prepare lint unit matrix app acceptance faults standby circumstances security shared fleet upgrade apps external backup molecule bench

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

tools: .venv/.installed ## the virtualenv with ansible-playbook and all else: . .venv/bin/activate

demo: .venv/.installed ## a local host: provisioned, deployed to, and serving
	@$(PYTHON) -m hosts demo

demo-release: .venv/.installed ## tag the work tree as the demo's next version
	@$(PYTHON) -m hosts demo-release

new-app: .venv/.installed ## propose an entry for a repository: make new-app REPO=https://… [NAME=…]
	@$(PYTHON) -m slipway inspect $(if $(NAME),--name $(NAME)) -- $(REPO)

demo-down: .venv/.installed ## remove the demo
	@$(PYTHON) -m hosts demo-down

# Without what tests and deploys want: that is most of the virtualenv, and whoever looks at the app can do without it.
dev: $(UV) ## the app on SQLite at http://127.0.0.1:8000, reloading
	@$(UV) sync --frozen --quiet --no-default-groups --inexact
	@$(BIN)/alembic upgrade head
	@PUBLIC_PAGE=$${PUBLIC_PAGE:-true} $(BIN)/uvicorn app.main:app --reload --reload-dir app --host 127.0.0.1 --port 8000 --no-access-log

test: .venv/.installed ## everything that must pass, side by side where it can; or parts: make test PARTS="lint unit"
	@$(PYTHON) -m tests.runner --limit $(LIMIT) $(PARTS)

quick: .venv/.installed ## engine, contracts, templates: no root, no PostgreSQL, no browser, under 30 s
	@SLIPWAY_QUICK=1 $(BIN)/pytest -q -p no:schemathesis -m "not slow" --numprocesses 3 --dist worksteal \
		tests/engine tests/contracts tests/templates tests/runner

fmt: .venv/.installed ## format the Python code, and put right what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/.installed ## write the pages that are made from the code
	@$(PYTHON) -m docs.cli
	@$(PYTHON) -m docs.settings
	@$(PYTHON) -m docs.phases
	@$(PYTHON) -m docs.troubleshooting

hooks: .venv/.installed ## have git run the quick checks before each commit
	@$(BIN)/pre-commit install

prepare: .venv/.installed ## what the tests want of this machine: packages, a container engine, images of the hosts
	@$(PYTHON) -m hosts products
	@$(PYTHON) -m hosts images

LINTERS := "ruff check --output-format concise ." "ruff format --check --output-format concise ." mypy \
	"yamllint --strict --format parsable ." "ansible-lint --profile production --offline --format pep8"

lint: .venv/.installed ## style, types, playbooks: all of it, also after a finding
	@failed=; for linter in $(LINTERS); do echo "$$linter"; $(BIN)/$$linter || failed=1; done; test -z "$$failed"

# The directories whose tests want a host, and those of the bundled app and of Nginx, which have targets of their own.
NOT_UNIT := app apps acceptance attacks edge faults standby fleet external dbhost upgrade backup circumstances/host

unit: .venv/.installed ## engine, templates, contracts, circumstances; no host
	@$(PYTHON) -m hosts products
	$(BIN)/pytest -p no:schemathesis -m "not matrix" $(NOT_UNIT:%=--ignore tests/%) --numprocesses 2 --dist worksteal

matrix: .venv/.installed ## all versions of servers and layouts of migrations, of which `make unit` has a few; no host
	@$(PYTHON) -m hosts products
	$(BIN)/pytest -p no:schemathesis -m matrix $(NOT_UNIT:%=--ignore tests/%) --numprocesses 2 --dist worksteal

app: .venv/.installed ## the bundled app on PostgreSQL and in a browser; no host
	@$(PYTHON) -m hosts products
	$(BIN)/pytest --numprocesses 3 --dist worksteal --cov --cov-fail-under 95 tests/app

acceptance: .venv/.installed ## a real host over SSH: deploys under load, rollback, reboot, bad input
	@$(PYTHON) -m hosts products chromium
	$(BIN)/pytest --durations=10 tests/acceptance

faults: .venv/.installed ## every fault of docs/faults.md on a real host, under traffic
	$(BIN)/pytest --durations=10 tests/faults

standby: .venv/.installed ## the faults around a release on standby
	$(BIN)/pytest --durations=10 tests/standby

circumstances: .venv/.installed ## machines, repositories and databases as users have them
	$(BIN)/pytest --durations=10 tests/circumstances/host

security: .venv/.installed ## attacks by clients, builds and apps, and the scanners of others
	@$(PYTHON) -m hosts products
	$(BIN)/pytest --durations=10 tests/edge tests/attacks

shared: .venv/.installed ## standby, circumstances and security on one host, without the tests that take minutes
	@$(PYTHON) -m hosts products
	$(BIN)/pytest --durations=25 -m "not long" tests/standby tests/circumstances/host tests/edge tests/attacks

fleet: .venv/.installed ## deploys to two hosts of which one fails, at each phase
	$(BIN)/pytest --durations=10 tests/fleet

external: .venv/.installed ## a database on another host, of others or of the environment, over TLS
	$(BIN)/pytest --durations=10 tests/external tests/dbhost

backup: .venv/.installed ## backups and drills on a host, and what can go wrong with them
	$(BIN)/pytest --durations=10 tests/backup

upgrade: .venv/.installed ## a host of an earlier version of Slipway, and this version; wants the commits before this one
	$(BIN)/pytest --durations=10 tests/upgrade

apps: .venv/.installed ## seven apps of other shapes on a host of Debian 13 and one of Debian 12
	$(BIN)/pytest --durations=10 tests/apps

molecule: .venv/.installed ## the roles and playbooks on Debian 13 and 12
	@$(PYTHON) -m hosts images
	$(BIN)/molecule test

bench: .venv/.installed ## what a deploy costs beside a script that does the same; or parts of it: make bench PARTS="deploy site"
	@$(PYTHON) -m bench $(PARTS)

.venv/.installed: $(UV) pyproject.toml uv.lock
	@echo "==> virtualenv"
	@$(UV) sync --frozen --quiet
	@# Where Python may not write it (containers often forbid it), Ansible would be compiled anew at each start: 0.4 s.
	@$(PYTHON) -m compileall -q -j 0 -x ansible_collections .venv/lib
	@touch $@

# uv comes from its wheel, pinned by hash, into a virtualenv of its own.
$(UV): hosts/uv.txt
	@echo "==> uv"
	@sh hosts/bootstrap-uv
