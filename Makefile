# The front door. Meson and Ninja do the work; `make help` lists the verbs.
.DEFAULT_GOAL := help
B := build

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) \
		| sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

build: need-build ## build everything; the executable is build/yado
	@test -d $(B)/meson-private || meson setup $(B)
	@meson compile -C $(B)

run: ## install what is missing, build, and boot a Debian guest: its console is yours
	@lab/setup build run
	@$(MAKE) --no-print-directory build
	@lab/debian-guest

CPUS ?= 2
run-metal: ## the same on a bare machine that QEMU emulates: core, yado host, two Debian guests
	@lab/setup build run emulate
	@$(MAKE) --no-print-directory build
	@lab/image metal
	@lab/core --cpus $(CPUS) --memory 2048 --initramfs $(B)/metal/initramfs

test: ## install what is missing, build, and run all that must pass
	@lab/setup
	@tests/run.py

unit: need-build ## unit tests under ASan and UBSan
	@test -d $(B)-asan/meson-private || meson setup $(B)-asan \
		-Db_sanitize=address,undefined -Db_lundef=false
	@meson test -C $(B)-asan --print-errorlogs

fuzz: need-build ## build the fuzzers into build-fuzz (clang, libFuzzer)
	@test -d $(B)-fuzz/meson-private || CC=clang meson setup $(B)-fuzz -Dfuzz=true \
		-Db_sanitize=address,undefined -Db_lundef=false
	@meson compile -C $(B)-fuzz

iso: need-build ## the same as an image for CD or disk, BIOS or UEFI: build/metal/yado.iso; APPEND: words for core
	@lab/setup build run emulate iso
	@$(MAKE) --no-print-directory build
	@lab/image metal-gzip
	@lab/core --iso $(B)/metal/yado.iso --initramfs $(B)/metal/initramfs.gz --append "$(APPEND)"

PROVIDER ?= kvm
conformance: need-build ## the conformance suite on PROVIDER (kvm, core, soft, tcg; soft:interpret ...)
	@lab/setup build run emulate test
	@$(MAKE) --no-print-directory build
	@tests/conformance.py $(PROVIDER) $(CASES)

selftests: need-build ## Linux's own tests for KVM on PROVIDER (kvm, core)
	@lab/setup build run emulate test
	@$(MAKE) --no-print-directory build
	@tests/selftests.py $(PROVIDER) $(CASES)

bench: need-build ## measure; rows go to build/bench, tables into docs/promises.md
	@lab/setup build run emulate test
	@$(MAKE) --no-print-directory build
	@bench/run --tables

bench-soft: need-build ## measure soft beside native runs and QEMU's TCG; into docs/promises.md, too
	@lab/setup build run emulate test bench
	@$(MAKE) --no-print-directory build
	@bench/run --tables soft

checks: need-build ## the checks of source and documentation only
	@$(MAKE) --no-print-directory build
	@tests/run.py checks

format: ## lay out every C file with clang-format
	@git ls-files -co --exclude-standard '*.[ch]' | xargs clang-format -i

lab-shell: ## a shell in the lab's Linux host, with build/yado and the test guest
	@lab/setup build run emulate test
	@$(MAKE) --no-print-directory build
	@lab/image guest
	@lab/run linux --tty --time 0 --in $(B)/yado --in $(B)/lab/guest/vmlinuz \
		--in $(B)/lab/guest/initrd.gz -- sh

clean: ## remove what was built; fetched packages stay in build/lab
	@find $(B) -mindepth 1 -maxdepth 1 ! -name lab -exec rm -rf {} + 2>/dev/null || true
	@rm -rf $(B)-asan $(B)-clang $(B)-fuzz $(B)-locks $(B)-tsan

need-build:
	@command -v meson >/dev/null && command -v ninja >/dev/null || \
		{ echo "make: meson or ninja is missing; lab/setup installs what is needed" >&2; exit 1; }

.PHONY: help build run run-metal test unit fuzz iso conformance bench bench-soft selftests checks format lab-shell \
	clean need-build
