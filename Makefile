# SPDX-License-Identifier: GPL-2.0-or-later
# A wrapper: it orders the builds of foreign trees (QEMU's and Linux' own
# build systems) and calls scripts/ and tests/.  `make help` lists the targets.

B := build
# Taken from the command line only: shells set a HOST of their own.
SCENARIO := secure-boot
HOST := amd
KERNEL := 6.12
QEMU := 10.0
LIBVIRT := 11.3
SERIES :=

# The tools that configure checked are Debian's, whatever else PATH offers.
export PATH := /usr/sbin:/usr/bin:/sbin:/bin:$(PATH)
MAKEFLAGS += --no-print-directory --no-builtin-rules
.SUFFIXES:
.NOTPARALLEL:
.DELETE_ON_ERROR:

all: qemu linux lab
.DEFAULT_GOAL := all

# Nothing below needs a configured build directory for these.
light := help clean distclean
ifneq ($(if $(MAKECMDGOALS),$(filter-out $(light),$(MAKECMDGOALS)),all),)
# A typing error must not cost half an hour first.
quote = '$(subst ','\'',$1)'
wrong := $(shell scripts/check-variables $(foreach v,SCENARIO HOST KERNEL QEMU \
	LIBVIRT SERIES,$(call quote,$($v))) \
	$(foreach g,$(MAKECMDGOALS),$(call quote,$g)) 2>&1)
$(if $(wrong),$(error $(wrong)))
include $(B)/config.mk
endif

$(B)/config.mk: configure scripts/packages scripts/tree-version
	@./configure $(CONFIGURE_ARGS)

# What is not of the default line says so in its name.  Scripts and tests take
# the lines from the environment.
qemu_tree := qemu$(if $(filter-out 10.0,$(QEMU)),-$(QEMU))
export QEMU_TREE := $(qemu_tree)
export KERNEL
linux_lines := $(patsubst patches/linux-%,%,$(wildcard patches/linux-*))
newer_linux := $(filter-out 6.12,$(linux_lines))
newer := $(patsubst patches/%,%,$(filter-out patches/qemu-10.0, \
	$(wildcard patches/qemu-*))) $(newer_linux:%=linux-%)
trees := qemu linux libvirt $(newer)

# ---- sources ----------------------------------------------------------

fetch = OFFLINE=$(OFFLINE) SECURITY_MIRROR='$(SECURITY_MIRROR)' scripts/fetch
packages := meson guest-kernel ovmf seabios vgabios busybox shim
fetched := $(B)/config.mk scripts/inputs scripts/fetch

# Fetched once for a configured build directory; ./configure fetches anew.
$(B)/stamps/fetch: $(fetched)
	@$(fetch) $(packages) $(if $(SRC_qemu),,qemu) $(if $(SRC_linux),,linux)
	@touch $@

$(B)/stamps/fetch-ipxe: $(fetched)
	@$(fetch) ipxe
	@touch $@

$(B)/stamps/fetch-libvirt: $(fetched)
	@$(fetch) meson $(if $(SRC_libvirt),,libvirt)
	@touch $@

# sid and backports move: only what needs a newer line may fail for it.
$(newer:%=$(B)/stamps/fetch-%): $(B)/stamps/fetch-%: $(fetched)
	@$(if $(SRC_$*),,$(fetch) $*)
	@touch $@

# What the packages for Debian 13 are made of: its own.
$(B)/stamps/fetch-deb13: $(fetched)
	@$(fetch) linux-deb13 qemu libvirt-deb13
	@touch $@

extract-linux-deb13: $(B)/stamps/fetch-deb13
extract-qemu extract-linux: $(B)/stamps/fetch
$(patsubst %,extract-%,libvirt $(newer)): extract-%: $(B)/stamps/fetch-%
$(patsubst %,extract-%,linux-deb13 $(trees)): extract-%:
	@python3 scripts/tree.py extract $* $(SRC_$*)
$(patsubst %,tree-%,linux-deb13 $(trees)): tree-%: extract-%
	@python3 scripts/tree.py apply $*

# ---- builds -----------------------------------------------------------

# Each of our test sources is a target of QEMU's ninja.
qemu_tests := $(patsubst %.c,%,$(wildcard tests/qtest/*.c tests/unit/*.c))

qemu: tree-$(qemu_tree)
	@scripts/build-qemu qemu-system-x86_64 $(qemu_tests)
linux: tree-linux
	@scripts/build-linux 6.12
	@scripts/build-selftests 6.12
linux-debug: tree-linux
	@scripts/build-linux 6.12 debug
$(newer_linux:%=linux-%): linux-%: tree-linux-%
	@scripts/build-linux $*
	@scripts/build-selftests $*
$(newer_linux:%=linux-%-debug): linux-%-debug: tree-linux-%
	@scripts/build-linux $* debug
# Option ROMs of network cards: only upstream's qtests load them.
firmware-ipxe: $(B)/stamps/fetch-ipxe
	@dpkg-deb -x "$$(awk '{ print $$3 }' $(B)/inputs/ipxe)" $(B)/$@
# What the tests of scripts/libvirt-tests need; no boot needs libvirt.
libvirt: tree-libvirt
	@scripts/build-libvirt affected
firmware: tree-qemu
	@scripts/firmware

lab: qemu firmware linux
	@scripts/initramfs 6.12
	@touch $(B)/stamps/built
# What scenario libvirt needs besides.
lab-libvirt: tree-libvirt firmware
	@scripts/build-libvirt lab
	@mkdir -p $(B)/lab
	@tests/lab/mklibvirt --libvirt $(B)/libvirt \
		--source $(B)/src/libvirt --firmware $(B)/firmware \
		--output $(B)/lab/libvirt.cpio
# What scenario upstream-qtests needs besides.
qtests = $(shell sed '/^\#/d' tests/lab/qtests/programs)
lab-upstream-qtests: tree-$(qemu_tree) firmware firmware-ipxe
	@scripts/build-qemu qemu-system-x86_64 $(qtests:%=tests/qtest/%)
	@mkdir -p $(B)/lab
	@tests/lab/mkqtests --qemu $(B)/$(qemu_tree) --firmware $(B)/firmware \
		--roms $(B)/firmware-ipxe/usr/lib/ipxe/qemu \
		--output $(B)/lab/upstream-qtests.cpio $(qtests)
# What a boot of KERNEL needs.
lab-6.12: lab
deb: tree-linux-deb13
	@scripts/deb
# Its modules on Debian's own kernel
lab-deb13: deb lab
# Debian itself, on whose disk apt has installed them
debian-host: deb lab
	@scripts/debian-host

$(newer_linux:%=lab-%): lab-%: qemu firmware linux-%
	@scripts/initramfs $*
lab-6.12-debug: lab linux-debug
$(newer_linux:%=lab-%-debug): lab-%-debug: lab-% linux-%-debug

# ---- what a user wants ------------------------------------------------

run = tests/lab/run boot --scenario $(SCENARIO) --host $(HOST) --kernel $(KERNEL)

boot: lab-$(KERNEL) \
		$(patsubst %,lab-%,$(filter libvirt upstream-qtests,$(SCENARIO)))
	@$(run)

check: lab-$(KERNEL) libvirt
	@scripts/check quick
check-full: lab libvirt lab-libvirt lab-upstream-qtests \
		$(linux_lines:%=lab-%-debug) deb
	@scripts/check full
check-qemu: qemu
	@scripts/check qemu
# What needs a KVM, on this machine's; skipped is what that lacks.
check-kvm: qemu
	@scripts/check kvm
check-libvirt: libvirt
	@scripts/check libvirt
ifeq ($(HOST),native)
$(if $(filter-out bench,$(MAKECMDGOALS)),$(error HOST=native is for make bench alone))
# This machine's own KVM; BENCH takes further options.
bench: qemu firmware
	@mkdir -p $(B)/report
	@scripts/perennial-bench --scenario $(SCENARIO) \
		--output $(B)/report/bench.json $(BENCH)
else
bench: lab-$(KERNEL)
	@$(run) --runs drop,default,keep --output $(B)/report/bench.json
endif

# All of QEMU's own qtests for x86_64, on this machine.
check-qtests: qemu firmware firmware-ipxe
	@scripts/upstream-qtests

# Unmodified QEMU and kernel against ours, each with each.
compare: lab-$(KERNEL)
	@scripts/build-linux $(KERNEL) unpatched
	@scripts/tree-unpatched $(qemu_tree)
	@QEMU_TREE=$(qemu_tree)-unpatched scripts/build-qemu qemu-system-x86_64
	@tests/lab/compare $(SCENARIO) --host $(HOST) --kernel $(KERNEL)

# What each path of KVM costs, in instructions: unmodified kernel and ours.
bench-paths: lab-$(KERNEL)
	@scripts/build-linux $(KERNEL) unpatched
	@tests/lab/paths --kernel $(KERNEL)

# Which root hardware walks, and a root's life: all states of a model.
check-model:
	@tests/models/check

# ---- the series -------------------------------------------------------

# A newer base whose source can't be had is left out, or its form is checked.
extract-all: extract-qemu extract-linux extract-libvirt
	@for tree in $(newer); do $(MAKE) extract-$$tree || :; done
series-check: extract-all
	@python3 scripts/series.py check
# What would a newer version break?
new-base: extract-all
	@python3 scripts/new-base
$(trees:%=edit-%): edit-%: extract-%
	@python3 scripts/series.py edit $*
$(trees:%=refresh-%): refresh-%: extract-%
	@python3 scripts/series.py refresh $*

# Is each patch of the kernel series sound by itself?  SERIES: of one in
# docs/upstream, alone on upstream's tree.
line := $(or $(KERNEL),6.12)
series_tree = $(shell sed -n 's/^Tree: *//p' docs/upstream/$(SERIES).txt)
check-patches: $(if $(SERIES),extract-$(series_tree) \
		$(if $(filter qemu%,$(SERIES)),firmware firmware-ipxe),\
		extract-linux$(if $(filter-out 6.12,$(line)),-$(line)))
	@scripts/check-patches $(or $(SERIES),$(line))
# Is each series as those who would get it want it?
check-upstream: extract-all
	@scripts/upstream check

# Do the selftests find mistakes?
check-mutations: lab-$(line)
	@scripts/check-mutations $(line)

# Upstream's selftests, with and without the series.
selftests: lab
	@scripts/selftests $(line) $(HOST)

# ---- the rest ---------------------------------------------------------

# What was built goes, what was downloaded and unpacked stays.
clean:
	@rm -rf $(B)/src/*-alone $(B)/src/.*-alone $(B)/qemu* $(B)/linux-* $(B)/selftests* $(B)/lab $(B)/report \
		$(B)/firmware* $(B)/optionrom $(B)/logs $(B)/meson $(B)/libvirt \
		$(B)/apt $(addprefix $(B)/deb/,kvm tools qemu libvirt checked lab \
		host host.ext4 host.vmlinuz host.initrd host.made)
# An edit tree holds a person's work.
distclean:
	@for d in $(B)/edit/*; do [ ! -e "$$d" ] || { echo "distclean: error:" \
		"$$d is an edit tree; refresh and remove it first" >&2; exit 1; }; done
	@rm -rf $(B)

help:
	@sed -n 's/^## \{0,1\}//p' $(firstword $(MAKEFILE_LIST))

## make boot           build all, boot a guest twice, write build/report/
##      SCENARIO=NAME  one of tests/lab/scenarios/ (secure-boot)
##      HOST=amd|intel the emulated host's processor (amd)
##      KERNEL=NAME    the host's kernel: 6.12 (the default), 7.2, 7.3, and each
##                     with -debug: lockdep, KASAN, kmemleak and more
##      QEMU=LINE      10.0 (the default), 10.2; most targets take both
## make check          every quick test; the last line counts them
## make check-full     the slow ones, too; as root, since it makes the packages
## make bench          all policies of a scenario, report in build/report/bench.*
##      HOST=native    on this machine's own KVM (docs/benchmark.md), with
##      BENCH=OPTIONS  of scripts/perennial-bench
## make qemu, linux, firmware, lab    build only that
## make linux-7.2, linux-7.3          likewise, from the source of Debian's sid or
##                                    trixie-backports
## make deb            packages for Debian 13 of KVM, QEMU, libvirt and tools, as
##                     an apt repository in build/apt
## make lab-deb13      for KERNEL=deb13: Debian 13's kernel with their modules
## make debian-host    a Debian host with them in the lab, in some 20 min: Secure
##                     Boot, virsh at work, and back to Debian's own
## make libvirt                       those tests of libvirt that its series can
##                                    break
## make linux-debug, linux-LINE-debug the host kernels with debugging
## make check-qemu     QEMU's own tests of our files
## make check-kvm      those that need a KVM, on this machine's
## make compare        SCENARIO on HOST with unmodified QEMU, unmodified kernel,
##                     both and neither
## make bench-paths    instructions of each KVM path on the AMD host, unmodified
##                     kernel, default and keep; fails if default costs more
## make check-model    search a model of roots, and what walks them, exhaustively
## make check-qtests   all of upstream's qtests for x86_64
## make check-libvirt  libvirt's own tests of what its series changes
## make series-check   are the patch series in order?
## make new-base       what would a newer point release, or line, of them break?
## make check-patches  does each kernel patch build, without a new warning?
##      SERIES=NAME    does a series of docs/upstream, alone, and its tests pass?
## make check-upstream are they as those who would get them want?
## make check-mutations    do the series' selftests find mistakes?
## make selftests      upstream's KVM selftests with and without the series;
##                     writes docs/selftests.md, for 7.2 selftests-7.2.md
## make edit-TREE      a git tree in build/edit/, one commit a patch; TREE: qemu,
##                     qemu-10.2, linux, linux-7.2, linux-7.3, libvirt
## make refresh-TREE   write its commits back to patches/
## make clean          remove what was built
## make distclean      remove build/
##
## ./configure --help lists the options of a build.

.PHONY: all help boot check check-full check-qemu check-kvm check-qtests bench \
	compare bench-paths check-model \
	qemu linux firmware firmware-ipxe lab lab-libvirt lab-upstream-qtests \
	lab-6.12 lab-6.12-debug deb lab-deb13 debian-host \
	libvirt check-libvirt linux-debug clean distclean series-check new-base \
	extract-all \
	check-patches check-upstream check-mutations selftests \
	$(foreach l,$(newer_linux),linux-$l linux-$l-debug lab-$l lab-$l-debug) \
	$(foreach t,linux-deb13 $(trees),extract-$t tree-$t edit-$t refresh-$t)
