# The front door. Meson and Ninja do the work; `make help` lists the verbs.
.DEFAULT_GOAL := help
B := build

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

build: ## build everything; the executable is build/yado
	@test -d $(B)/meson-private || meson setup $(B)
	@meson compile -C $(B)

unit: ## unit tests under ASan and UBSan
	@test -d $(B)-asan/meson-private || meson setup $(B)-asan -Db_sanitize=address,undefined -Db_lundef=false
	@meson test -C $(B)-asan --print-errorlogs

fuzz: ## build the fuzzers into build-fuzz (clang, libFuzzer)
	@test -d $(B)-fuzz/meson-private || CC=clang meson setup $(B)-fuzz -Dfuzz=true \
		-Db_sanitize=address,undefined -Db_lundef=false
	@meson compile -C $(B)-fuzz

format: ## lay out every C file with clang-format
	@git ls-files -co --exclude-standard '*.[ch]' | xargs clang-format -i

.PHONY: help build unit fuzz format
