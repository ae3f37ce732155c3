# make demo    build a network, let two peers connect, show what happened
# make test    every test, with everything that the tests need
# make help    the rest
#
# All targets install what they need (Debian or Ubuntu packages, a virtual
# environment in .venv) and may be run again at any time.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-unit test-kernel test-vm check format bench bench-vm fuzz images clean

# The first that runs and is new enough; a version manager's shims may be there and not run.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
LAB := $(SUDO) $(BIN)/lab

# What `lab` itself needs ...
RUN_PACKAGES := iproute2 iptables nftables libnftables1 busybox-static procps
# ... and what the tests need besides: engines, and software that is not ours.
TEST_PACKAGES := docker.io mmdebstrap mount iputils-ping iperf3 coturn tcpdump conntrack curl prometheus \
	qemu-system-x86 kmod miniupnpd-nftables miniupnpc natpmpc tayga unbound dnsmasq-base tinyproxy-bin bind9-dnsutils transmission-cli aria2 avahi-daemon avahi-utils avahi-autoipd dbus

define install_packages
@missing=$$(for p in $(1); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
if [ -n "$$missing" ]; then \
  command -v apt-get >/dev/null || { echo "install these first: $$missing" >&2; exit 3; }; \
  echo "installing:" $$missing; \
  $(SUDO) apt-get update -qq && \
  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
fi
endef

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile
	@echo "make setup   the command in .venv/bin/lab"
	@echo "make check   lint and types        make format  rewrite in the house style"
	@echo "make bench   the numbers of docs/performance.md (bench-vm: those of netem)"
	@echo "make fuzz    a guided search for input that does harm (FUZZ_S=20 seconds a reader)"
	@echo "make images  the container images  make clean   remove labs, images, environment"

setup: .venv/.ready
	$(call install_packages,$(RUN_PACKAGES))

.venv/.ready: pyproject.toml
	@test -n "$(PYTHON)" || { echo "lab needs Python 3.11 or later; set PYTHON=/path/to/it" >&2; exit 3; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { $(SUDO) apt-get update -qq; $(SUDO) apt-get install -y -qq python3-venv >/dev/null; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: setup
	@$(LAB) down double-nat --quiet 2>/dev/null || true
	$(LAB) up double-nat
	$(LAB) status
	$(LAB) connect alice bob
	$(LAB) down double-nat

test-packages: setup
	$(call install_packages,$(TEST_PACKAGES))

check: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# `serial` tests measure or exhaust something and so run with nothing beside them; the
# others mostly wait, so there is one more at a time than there are processors.  A file's
# tests share what they build, so that one worker has them all; the quick ones are last,
# which is how the workers end together.
test: test-packages
	@tests/dockerd.sh start
	@trap 'tests/dockerd.sh stop' EXIT; \
	$(SUDO) $(BIN)/python -m pytest -n $$(($$(nproc) + 1)) --dist loadfile --no-loadscope-reorder \
	  -m 'not serial and not vm' && \
	$(SUDO) $(BIN)/python -m pytest -m 'serial and not vm' tests/kernel && \
	$(SUDO) $(BIN)/python -m pytest -m 'vm and not long' tests/vm

test-unit: setup
	$(BIN)/python -m pytest -n 2 tests/unit

test-kernel: test-packages
	$(SUDO) $(BIN)/python -m pytest -m 'kernel and not docker' tests/kernel

test-vm: test-packages
	$(SUDO) $(BIN)/python -m pytest -m vm tests/vm

bench: test-packages
	@tests/dockerd.sh start
	@trap 'tests/dockerd.sh stop' EXIT; $(SUDO) $(BIN)/python -m tests.bench

bench-vm: test-packages
	$(SUDO) $(BIN)/python -m tests.bench.netem

FUZZ_S ?= 20
fuzz: .venv/.ready
	$(BIN)/python -m tests.fuzz.guided --seconds $(FUZZ_S) --found .fuzz

images: setup
	$(LAB) image build

clean:
	@if test -x $(BIN)/lab; then $(LAB) down --all --quiet; fi
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .fuzz build dist
	@find . -name __pycache__ -prune -exec rm -rf {} +
