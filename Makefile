# The commands of a developer; `make help` lists them. Each first makes what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
GUEST := build/guest
HOOK := $(GUEST)/x86_64/mount_hook
IMAGE := build/image
CD_IMAGE := build/image-cd
ARM_IMAGE := build/image-aarch64
SYSTEM := build/system
DEMO := build/demo
BUNDLE := build/bundle
EXAMPLE := guest_side/examples/lennard_jones
BOINC := build/boinc

# Where the tests look for BOINC's own library and its headers: Debian's packages, unpacked and not installed.
export BOINC_DEV ?= $(CURDIR)/$(BOINC)

# Debian keeps mke2fs where an ordinary user's PATH does not reach.
export PATH := $(PATH):/usr/sbin:/sbin

QEMU_COMMANDS := qemu-system-x86_64 qemu-img
QEMU_PACKAGES := qemu-system-x86 qemu-utils

# $(call have,COMMANDS): a shell test.  $(call need,COMMANDS,PACKAGES): root gets the packages, others are told what to type.
have = (for c in $(1); do command -v $$c >/dev/null || exit 1; done)
install = { [ -n "$$(ls /var/lib/apt/lists/*Packages* 2>/dev/null)" ] || apt-get update -qq -o Acquire::Retries=5; } && \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Acquire::Retries=5 --no-install-recommends $(1) >/dev/null
need = @if ! $(call have,$(1)); then \
	if [ "$$(id -u)" != 0 ]; then echo "Missing: one of $(1). Type: sudo apt-get install $(2)" >&2; exit 1; fi; \
	echo "installing $(2)"; $(or $(3),$(call install,$(2))); fi

# $(call without_services,PACKAGES): a shell command that installs them and starts nothing of theirs.
POLICY := /usr/sbin/policy-rc.d
without_services = { [ -e $(POLICY) ] || { \
		trap 'rm -f $(POLICY)' EXIT; printf '\#!/bin/sh\nexit 101\n' >$(POLICY); chmod +x $(POLICY); }; } && \
	$(call install,$(1))

.PHONY: help setup guest image package demo test check style fast integration test-libvirt test-vmware test-aarch64 test-vboxapi test-virtualbox images e2e quits chaos fuzz bench lifecycle reference wheel clean

help:  ## list these commands
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST)

setup: $(VENV)/ready  ## a .venv with everything: .venv/bin/vmbridge

$(VENV)/ready: pyproject.toml setup.py
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		[ "$$(id -u)" = 0 ] || { echo "Missing: Python's venv. Type: sudo apt-get install python3-venv" >&2; exit 1; }; \
		$(call install,python3-venv); }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

guest: setup  ## build/guest/ARCH: the agent, the mount hook and the fake BOINC library
	$(call need,cc ar,gcc libc6-dev)
	@$(BIN)/python -m guest_side.build $(GUEST) --arch x86_64 --arch aarch64

image: $(IMAGE)/image.json  ## build/image: the tiny image

$(HOOK) $(GUEST)/aarch64/mount_hook: $(wildcard guest_side/hook/* guest_side/machine/*) guest_side/build.py | setup
	@$(MAKE) --no-print-directory guest

$(IMAGE)/image.json: $(HOOK) $(wildcard bridge/image/*.py) | setup
	$(call need,qemu-img mke2fs dpkg-deb apt-get,qemu-utils e2fsprogs)
	@$(BIN)/vmbridge image build $(IMAGE)

$(CD_IMAGE)/image.json: $(HOOK) $(wildcard bridge/image/*.py) | setup
	$(call need,qemu-img mke2fs dpkg-deb apt-get xorriso,qemu-utils e2fsprogs xorriso)
	@$(BIN)/vmbridge image build $(CD_IMAGE) --boot-cd

package: guest image  ## build/bundle: the example as a version of a BOINC application
	@$(BIN)/vmbridge package $(BUNDLE) --image $(IMAGE) --job $(EXAMPLE)/job.xml

demo: guest  ## run an example science program in a virtual machine
	@rm -rf $(DEMO) && mkdir -p $(DEMO)
	@cp $(EXAMPLE)/job.xml $(EXAMPLE)/lj.in $(DEMO)/
	@cc -O2 -std=c11 -static -o $(DEMO)/lj $(EXAMPLE)/lj.c -I$(GUEST)/include -L$(GUEST)/x86_64 -lboinc_api -lpthread -lm
	@if $(call have,$(QEMU_COMMANDS)) || { [ "$$(id -u)" = 0 ] && $(call install,$(QEMU_PACKAGES)); }; then \
		$(MAKE) --no-print-directory image && ln -sfn ../image $(DEMO)/image && $(BIN)/vmbridge run $(DEMO); \
	else \
		echo "No QEMU here, and no right to install it (apt-get install $(QEMU_PACKAGES)): running on this host, without a machine."; \
		$(BIN)/vmbridge run --hypervisor local $(DEMO); \
	fi

test: check integration e2e  ## all tests

check: setup $(BOINC)/ready  ## lint, types, unit and conformance tests
	$(call need,cc ar c++,gcc libc6-dev g++)
	@$(MAKE) --no-print-directory --jobs 2 --output-sync style fast

style:
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy

fast:
	@$(BIN)/pytest --numprocesses 4 --dist loadfile tests/unit tests/conformance

$(BOINC)/ready:
	$(call need,apt-get dpkg-deb,apt dpkg)
	@rm -rf $(BOINC) && mkdir -p $(BOINC) && cd $(BOINC) && \
		{ [ -n "$$(ls /var/lib/apt/lists/*Packages* 2>/dev/null)" ] || apt-get update -qq -o Acquire::Retries=5; } && \
		apt-get download -qq -o Acquire::Retries=5 libboinc-app-dev libboinc-app7 libboinc7 2>/dev/null && \
		for deb in *.deb; do dpkg-deb -x $$deb . || exit 1; done && touch ready

# More workers than processors, here and below: a test waits for most of its time, for a boot, a period, the client.
integration: guest image $(CD_IMAGE)/image.json $(BOINC)/ready  ## tests with real QEMU
	$(call need,c++,g++)
	$(call need,$(QEMU_COMMANDS) ip unshare mformat syslinux,$(QEMU_PACKAGES) iproute2 util-linux mtools syslinux)
	@$(BIN)/pytest --numprocesses 3 --dist loadfile --ignore tests/integration/test_vmware.py --ignore tests/integration/test_vboxapi.py tests/integration

LIBVIRT_PACKAGES := libvirt-daemon-system libvirt-daemon-system-sysv libvirt-clients python3-libvirt

# Its packages would start daemons, now and at each boot of the machine; the tests have one of their own.
test-libvirt: guest image  ## tests with Debian's libvirt, which they start themselves (root)
	$(call need,$(QEMU_COMMANDS) unshare libvirtd virsh,$(QEMU_PACKAGES) util-linux $(LIBVIRT_PACKAGES),$(call without_services,$(QEMU_PACKAGES) $(LIBVIRT_PACKAGES)))
	@LIBVIRT_WANTED=1 $(BIN)/pytest --numprocesses 2 tests/integration/test_libvirt.py

test-vmware: guest image $(CD_IMAGE)/image.json  ## tests with a stand-in for VMware's vmrun, which drives QEMU
	$(call need,$(QEMU_COMMANDS) qemu-nbd mformat syslinux,$(QEMU_PACKAGES) mtools syslinux)
	@$(BIN)/pytest --numprocesses 2 tests/integration/test_vmware.py

test-vboxapi: guest image $(CD_IMAGE)/image.json  ## tests with a stand-in for VirtualBox, which drives QEMU
	$(call need,$(QEMU_COMMANDS) mformat syslinux,$(QEMU_PACKAGES) mtools syslinux)
	@$(BIN)/pytest --numprocesses 2 tests/integration/test_vboxapi.py

# Debian has VirtualBox in sid only, so it gets a folder of its own (1 GB). Without the kernel driver, which is not in
# there, it does all but start a machine.
VIRTUALBOX := build/virtualbox

test-virtualbox: guest image $(VIRTUALBOX)/ready  ## tests with Debian's VirtualBox, in a folder of its own (root; not in `make test`)
	$(call need,qemu-img unshare chroot,qemu-utils util-linux coreutils)
	@VIRTUALBOX_ROOT=$(abspath $(VIRTUALBOX)) $(BIN)/pytest --numprocesses 2 tests/integration/test_virtualbox.py

$(VIRTUALBOX)/ready:
	$(call need,debootstrap,debootstrap)
	@rm -rf $(VIRTUALBOX) && mkdir -p $(VIRTUALBOX)
	debootstrap --variant=minbase --components=main,contrib sid $(VIRTUALBOX) http://deb.debian.org/debian >/dev/null
	chroot $(VIRTUALBOX) apt-get install -y -qq --no-install-recommends virtualbox >/dev/null
	@touch $@

$(ARM_IMAGE)/image.json: $(GUEST)/aarch64/mount_hook $(wildcard bridge/image/*.py) | setup
	$(call need,qemu-img mke2fs dpkg-deb apt-get,qemu-utils e2fsprogs)
	@$(BIN)/vmbridge image build $(ARM_IMAGE) --arch aarch64

ARM_COMMANDS := qemu-system-aarch64 qemu-img ip unshare aarch64-linux-gnu-gcc
ARM_PACKAGES := qemu-system-arm qemu-utils iproute2 util-linux gcc-aarch64-linux-gnu libc6-dev-arm64-cross

test-aarch64: guest $(ARM_IMAGE)/image.json  ## tests with aarch64 guests, emulated: the contract and whole jobs (two minutes)
	$(call need,$(ARM_COMMANDS),$(ARM_PACKAGES))
	@$(BIN)/pytest --numprocesses 2 tests/aarch64

$(SYSTEM)/image.json: $(HOOK) $(wildcard bridge/image/*.py) tests/images/first_boot.sh | setup
	$(call need,$(QEMU_COMMANDS) mke2fs dpkg-deb apt-get mmdebstrap,$(QEMU_PACKAGES) e2fsprogs mmdebstrap)
	@$(BIN)/vmbridge image build $(SYSTEM) --packages python3-minimal \
		--files tests/images/root --first-boot tests/images/first_boot.sh

images: guest image $(SYSTEM)/image.json $(BOINC)/ready  ## build/system: a Debian system with Python as an image, and the tests with it
	$(call need,cc c++ gfortran xorriso,gcc libc6-dev g++ gfortran xorriso)
	@$(BIN)/pytest --numprocesses 2 --dist loadfile tests/images

# The tests want the BOINC client's programs. Its package would start a client, now and at each boot of the machine.
install_client = $(call without_services,boinc-client) && update-rc.d boinc-client disable

e2e: guest image  ## tests with the real BOINC client
	$(call need,$(QEMU_COMMANDS) mformat syslinux,$(QEMU_PACKAGES) mtools syslinux)
	$(call need,boinc boinccmd,boinc-client,$(install_client))
	@$(BIN)/pytest --numprocesses 4 --dist loadfile tests/e2e

quits: guest image  ## ten shutdowns of a real client whose quits get lost, by the true clock (20 minutes)
	$(call need,$(QEMU_COMMANDS),$(QEMU_PACKAGES))
	$(call need,boinc boinccmd,boinc-client,$(install_client))
	@QUITS=10 CLIENT_SPEED=1 $(BIN)/pytest -s tests/e2e/test_lost_quits.py

chaos: guest image  ## kill, quit and cut off the bridge: ROUNDS=n SEED=s HARMS="power cut,clock jump" (default: all)
	$(call need,cc $(QEMU_COMMANDS),gcc libc6-dev $(QEMU_PACKAGES))
	@$(BIN)/python -m tests.chaos --rounds $(or $(ROUNDS),20) --seed $(or $(SEED),1) --harms "$(HARMS)"

fuzz: setup  ## changed messages to all C code of the guest that reads them: SECONDS=60 SEED=1
	$(call need,cc,gcc libc6-dev)
	@FUZZ_SECONDS=$(or $(SECONDS),60) FUZZ_SEED=$(or $(SEED),1) $(BIN)/pytest -s tests/conformance/test_c_fuzz.py

bench: guest image $(CD_IMAGE)/image.json $(BOINC)/ready  ## measure, side by side with a peer (BOINC_WRAPPER=FILE: its wrapper): a table and build/bench.json
	$(call need,$(QEMU_COMMANDS),$(QEMU_PACKAGES))
	@$(if $(wildcard $(VIRTUALBOX)/ready),VIRTUALBOX_ROOT=$(abspath $(VIRTUALBOX))) $(BIN)/python -m tests.bench

lifecycle: setup  ## docs/lifecycle.md: draw the tables
	@$(BIN)/python -m tests.lifecycle

reference: setup  ## docs/jobfile.md, docs/doctor.md: write down all elements of a job file, all reasons of the doctor
	@$(BIN)/python -m tests.reference
	@$(BIN)/python -m tests.reasons

wheel: guest  ## dist/: a wheel that brings the guest's sources and agents along
	@$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## remove all that was built
	rm -rf build dist *.egg-info
