# The short way to everything; Meson and Ninja do the work.
#
#   make          build/junto            make bench      ratios to this machine's roofline
#   make demo     the main job           make check-san  tests under the sanitizers
#   make test     all tests              make fuzz       ten minutes for each parser
#   make lint     format, tidy, floors   make install    command, library, man page

BUILD   ?= build
PREFIX  ?= /usr/local
CLANG   ?= clang-14
SECONDS ?= 600
NODES   ?= 60000
C_FILES  = $(shell git ls-files '*.c' '*.h')

.PHONY: all demo mini-model test test-real bench check-san check-neon fuzz lint format deps install golden clean

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) $(if $(VERBOSE),-v,--quiet)

$(BUILD)/build.ninja:
	@tools/deps
	@meson setup $(BUILD) --prefix $(PREFIX) $(MESON_FLAGS) >/dev/null

demo: all
	@tools/demo

# The model that the demo uses, from nothing: downloads texts, trains for less than two
# hours.
mini-model: all
	@tools/mini-model

test: all
	@meson test -C $(BUILD) --no-rebuild --print-errorlogs

# The real model of the demo: sensible answers, perplexity as transformers computes it.
test-real: all
	@tests/real/run $(BUILD)/junto

bench: all
	@bench/run

# Address and undefined-behaviour sanitizers on everything, thread sanitizer on what has
# threads. By clang, whose sanitizers see more than gcc's; the fuzz targets are built with
# the first. Little optimisation: compiling takes as long as testing.
SANITIZE = meson setup --werror -Db_lundef=false -Dbuildtype=custom -Doptimization=1 \
    -Dc_args='-gline-tables-only -fno-sanitize-recover=all'
TEST_SANITIZED = meson test --print-errorlogs --timeout-multiplier 4

$(BUILD)-asan/build.ninja:
	@tools/deps
	@CC=$(CLANG) $(SANITIZE) $(BUILD)-asan -Db_sanitize=address,undefined -Dfuzz=true >/dev/null

$(BUILD)-tsan/build.ninja:
	@tools/deps
	@CC=$(CLANG) $(SANITIZE) $(BUILD)-tsan -Db_sanitize=thread >/dev/null

check-san: $(BUILD)-asan/build.ninja $(BUILD)-tsan/build.ninja
	@ninja -C $(BUILD)-asan --quiet
	@$(TEST_SANITIZED) -C $(BUILD)-asan --no-rebuild
	@$(TEST_SANITIZED) -C $(BUILD)-tsan --suite threads

# The kernels of AArch64, under emulation on other processors.
check-neon:
	@tools/check-neon $(BUILD)-neon

fuzz: $(BUILD)-asan/build.ninja
	@ninja -C $(BUILD)-asan --quiet
	@tests/fuzz/run $(BUILD)-asan $(SECONDS) $(TARGETS)

# How far clang's analyser follows a function: 225000 by itself, which takes four times as
# long. NODES=225000 looks closer.
ANALYSER = $(addprefix --extra-arg=,-Xclang -analyzer-config -Xclang max-nodes=$(NODES))

lint: $(BUILD)/build.ninja
	@clang-format-14 --dry-run --Werror $(C_FILES)
	@tools/check-floors
	@tools/check-headers
	@ninja -C $(BUILD) --quiet && tools/check-symbols $(BUILD)/libjunto.a
	@printf '%s\n' $(filter-out src/kernels/arm/%,$(filter src/%.c,$(C_FILES))) | \
	    xargs -P $$(nproc) -n 10 clang-tidy-14 --quiet -p $(BUILD) $(ANALYSER) 2>/dev/null

format:
	@clang-format-14 -i $(C_FILES)

deps:
	@tools/deps

install: all
	@meson install -C $(BUILD) --no-rebuild

clean:
	rm -rf $(BUILD) $(BUILD)-*
